import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.sealing import write_sealed_json
from nordocr_cli.atomic import sha256_of
from nordocr_cli.charset import NORDIC, NORDIC_EXT
from nordocr_cli.core.contract import attach_contract, compare_contracts, read_side
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.models.weights import load_weights, save_weights

RUST = "pub static CTC_CHARSET: &[char] = &[{}];"


@pytest.fixture
def engine(tiny_onnx, tmp_path):
    """An engine's bytes with the sidecar that build-engine writes beside them."""
    path = tmp_path / "m_sm120.rtx.engine"
    path.write_bytes(b"vtrt" + bytes(100))
    contract = replace(read_contract(tiny_onnx), parent_sha256=sha256_of(tiny_onnx))
    sidecar = {
        "schema": 2,
        "engine": {"name": path.name, "sha256": sha256_of(path)},
        "contract": contract.to_json(),
    }
    write_sealed_json(tmp_path / "m_sm120.rtx.engine.json", sidecar)
    return path


def test_the_contract_travels_from_weights_to_engine(tiny_checkpoint, tiny_onnx, engine):
    half = tiny_onnx.with_name("model.fp16.onnx")
    for a, b, said in (
        (tiny_checkpoint.parent, tiny_onnx, "model.onnx was made from best.safetensors"),
        (tiny_onnx, tiny_checkpoint, "model.onnx was made from best.safetensors"),
        (tiny_onnx, engine, "m_sm120.rtx.engine was made from model.onnx"),
        (tiny_onnx, half, "both were made from the same parent"),
        (tiny_onnx, tiny_onnx.with_name("model.contract.json"), "describe the same bytes"),
        (engine, engine.with_name(engine.name + ".json"), "describe the same bytes"),
        (tiny_checkpoint, engine, "was made from best.safetensors, over 2 steps"),
    ):
        found = compare_contracts(a, b)
        assert found.differences == ()
        assert said in found.lineage
        assert found.to_json()["same"] is True
    assert compare_contracts(tiny_onnx, half).own == ("precision: fp32 / fp16",)


def test_another_temperature_is_shown_and_no_difference(tiny_checkpoint, tmp_path):
    """It changes confidences and no text: calibrated weights still fit what was exported before."""
    state, contract = load_weights(tiny_checkpoint)
    parent = sha256_of(tiny_checkpoint)
    calibrated = replace(contract, temperature=1.5, parent_sha256=parent)
    save_weights(tmp_path / "calibrated.safetensors", state, calibrated)
    found = compare_contracts(tiny_checkpoint, tmp_path / "calibrated.safetensors")
    assert (found.differences, found.own) == ((), ("temperature: 1.0 / 1.5",))


def test_each_difference_is_named(tiny_checkpoint, tiny_onnx, tmp_path):
    state, contract = load_weights(tiny_checkpoint)
    other = replace(
        contract,
        charset=NORDIC_EXT,
        geometry=replace(contract.geometry, pad_value=0, resampler="area"),
        output_activation="softmax",
        trained_widths=(32, 512),
    )
    save_weights(tmp_path / "other.safetensors", state, other)
    found = compare_contracts(tiny_onnx, tmp_path / "other.safetensors")
    assert found.differences[0].startswith(
        "charset: class 126: nordic has nothing, nordic-ext has 'Á' (U+00C1"
    )
    assert found.differences[-4:] == (
        "geometry.pad_value: 255 / 0",
        "geometry.resampler: linear / area",
        "output_activation: logits / softmax",
        (
            "parent_sha256: model.onnx was not made from other.safetensors, but from another"
            " .safetensors file"
        ),
    )
    assert len(found.differences) == len(NORDIC_EXT.characters) - len(NORDIC.characters) + 4
    assert found.own == ("trained_widths: [8, 1792] / [32, 512]",)


def test_a_charset_file_is_compared_class_by_class(tiny_onnx, tmp_path):
    (tmp_path / "nordic_dict.txt").write_text(NORDIC.to_dict_text(), encoding="utf-8")
    assert compare_contracts(tmp_path / "nordic_dict.txt", tiny_onnx).differences == ()
    flattened = NORDIC.characters.replace("\u00b1", "\u00df")
    (tmp_path / "charset.rs").write_text(
        RUST.format(", ".join(f"'\\u{{{ord(c):x}}}'" for c in flattened)), encoding="utf-8"
    )
    (difference,) = compare_contracts(tiny_onnx, tmp_path / "charset.rs").differences
    assert "nordic has '±' (U+00B1" in difference
    assert "rust:CTC_CHARSET has 'ß' (U+00DF" in difference


def test_changed_bytes_are_noticed(tiny_onnx, engine, tmp_path):
    engine.write_bytes(b"vtrt" + bytes(99) + b"x")
    with pytest.raises(ArtifactError, match="another sha256"):
        read_side(engine)
    with pytest.raises(
        ArtifactError, match=r"is not the file that .*engine\.json describes"
    ):
        read_side(engine.with_name(engine.name + ".json"))
    value = json.loads(
        tiny_onnx.with_name("model.contract.json").read_text(encoding="utf-8")
    )
    value["model"]["sha256"] = "0" * 64
    # Elsewhere: nothing lies beside it.
    write_sealed_json(tmp_path / "model.contract.json", value)
    assert (
        compare_contracts(tmp_path / "model.contract.json", tiny_onnx).lineage
        == "both were made from the same parent"
    )


def test_what_cannot_be_compared(tiny_onnx, tmp_path):
    with pytest.raises(UsageError, match="the same file"):
        compare_contracts(tiny_onnx, tiny_onnx)
    with pytest.raises(UsageError, match="no file or run folder"):
        read_side(tmp_path / "none.onnx")
    for text, problem in (
        ("{", "not a readable description of a model"),
        ("[]", "describes no model"),
        ('{"model": {}}', "describes no model"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ArtifactError, match=problem):
            read_side(tmp_path / "bad.json")


def test_a_contract_is_given_to_a_model_that_has_none(
    tiny_checkpoint, tiny_onnx, unsealed, tmp_path
):
    bare = unsealed(tiny_onnx)
    del bare.metadata_props[:]
    (tmp_path / "bare.onnx").write_bytes(bare.SerializeToString())
    with pytest.raises(
        ArtifactError, match=r"nordocr contract attach .*bare\.onnx --contract RUN"
    ):
        read_contract(tmp_path / "bare.onnx")
    file = attach_contract(tmp_path / "bare.onnx", tiny_checkpoint, tmp_path / "new.onnx")
    assert file.contract == replace(read_contract(tiny_checkpoint), parent_sha256=None)
    assert read_contract(tmp_path / "new.onnx") == file.contract
    assert (tmp_path / "new.contract.json").is_file()
    with pytest.raises(
        ArtifactError, match="in its contract is fp16, its weights are fp32"
    ):
        attach_contract(
            tmp_path / "bare.onnx",
            tiny_onnx.with_name("model.fp16.onnx"),
            tmp_path / "other.onnx",
        )
    half = attach_contract(
        tiny_onnx.with_name("model.fp16.onnx"), tiny_checkpoint, tmp_path / "half.onnx"
    )
    assert (half.contract.precision, read_contract(tiny_checkpoint).precision) == (
        "fp16",
        "fp32",
    )
    with pytest.raises(UsageError, match="would overwrite the input"):
        attach_contract(tmp_path / "bare.onnx", tiny_checkpoint, tmp_path / "bare.onnx")
    assert not (tmp_path / "other.onnx").exists()


def softmax_by_hand(logits, result):
    """A softmax of five operators that its graph does not name."""
    return [
        onnx.helper.make_node("Exp", [logits], ["exponentials"]),
        onnx.helper.make_node("ReduceSum", ["exponentials", "classes"], ["sums"]),
        onnx.helper.make_node("Div", ["exponentials", "sums"], [result]),
    ]


def softmax_node(logits, result):
    return [onnx.helper.make_node("Softmax", [logits], [result], axis=-1)]


def clipped(values, result):
    """Clip between two softmaxes, so that they are not next to each other."""
    return [onnx.helper.make_node("Clip", [values, "zero", "one"], [result])]


@pytest.mark.parametrize(
    ("operators", "activation", "message"),
    [
        ([softmax_by_hand], "logits", "and its output is softmax: each frame sums to 1"),
        ([softmax_by_hand], "softmax", None),
        (
            [softmax_by_hand, softmax_node],
            "softmax",
            "its output is a softmax of a softmax",
        ),
        ([softmax_node, clipped, softmax_node], "softmax", "a softmax of a softmax"),
        ([softmax_node, clipped], "logits", "and its output is softmax"),
        ([clipped], "softmax", "output_activation is softmax in its contract, but"),
        ([], "logits", None),
    ],
)
def test_the_output_itself_must_be_what_the_contract_says(
    operators, activation, message, tiny_checkpoint, tiny_onnx, unsealed, tmp_path
):
    model = unsealed(tiny_onnx)
    del model.metadata_props[:]
    graph = model.graph
    graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(np.array([2], np.int64), "classes"),
            onnx.numpy_helper.from_array(np.array(0, np.float32), "zero"),
            onnx.numpy_helper.from_array(np.array(1, np.float32), "one"),
        ]
    )
    if operators:
        graph.node[-1].output[0] = "step0"
    for index, operator in enumerate(operators):
        last = index == len(operators) - 1
        result = graph.output[0].name if last else f"step{index + 1}"
        graph.node.extend(operator(f"step{index}", result))
    (tmp_path / "bare.onnx").write_bytes(model.SerializeToString())
    attach = (tmp_path / "bare.onnx", tiny_checkpoint, tmp_path / "new.onnx", activation)
    if message is None:
        assert attach_contract(*attach).contract.output_activation == activation
        return
    with pytest.raises(ArtifactError, match=message):
        attach_contract(*attach)
    assert not (tmp_path / "new.onnx").exists()


def test_two_unrelated_runs_do_not_agree(tiny_checkpoint, tmp_path):
    state, contract = load_weights(tiny_checkpoint)
    for name, widths in (("a", (8, 900)), ("b", (8, 1000))):
        folder = tmp_path / name
        folder.mkdir()
        alone = replace(contract, trained_widths=widths, parent_sha256=None)
        save_weights(folder / "best.safetensors", state, alone)
    found = compare_contracts(tmp_path / "a", tmp_path / "b")
    assert "nordocr lineage" in found.differences[0]
    assert found.to_json()["same"] is False


def test_two_trainings_from_the_same_weights_do_not_agree(
    tiny_checkpoint, tiny_onnx, tmp_path
):
    """Fine-tuning twice from one recognizer gives two networks, whatever they were made from."""
    state, contract = load_weights(tiny_checkpoint)
    start = sha256_of(tiny_checkpoint)
    paths = [tmp_path / name / "best.safetensors" for name in ("a", "b", "calibrated")]
    for path, change in zip(paths, (0.01, 0.02, 0.0), strict=True):
        path.parent.mkdir()
        trained = {
            name: tensor + change if tensor.is_floating_point() else tensor
            for name, tensor in state.items()
        }
        save_weights(path, trained, replace(contract, parent_sha256=start))
    a, b, calibrated = paths

    (difference,) = compare_contracts(a, b).differences
    assert f"{a} and {b} were made from one file, but trained apart" in difference
    (difference,) = compare_contracts(a, tiny_onnx).differences
    assert "trained apart" in difference
    assert compare_contracts(tiny_checkpoint, a).differences == ()
    assert compare_contracts(calibrated, tiny_onnx).differences == ()
    assert compare_contracts(calibrated, b).differences != ()


def test_an_export_and_a_copy_without_their_origin_are_no_difference(
    tiny_checkpoint, tiny_onnx, tmp_path
):
    """The weights that would show whether the networks are the same are not there."""
    state, contract = load_weights(tiny_checkpoint)
    start = sha256_of(tiny_checkpoint)
    calibrated, trained = tmp_path / "calibrated.safetensors", tmp_path / "t.safetensors"
    save_weights(calibrated, state, replace(contract, temperature=1.5, parent_sha256=start))
    model = tmp_path / "model.onnx"
    shutil.copy(tiny_onnx, model)
    for pair in ((model, calibrated), (calibrated, model)):
        found = compare_contracts(*pair)
        assert found.differences == ()
        assert "is not known whether" in found.lineage
        assert f"the origin {start} is not here" in found.lineage

    shutil.copy(tiny_checkpoint, tmp_path / "origin.safetensors")
    assert "from the same parent" in compare_contracts(model, calibrated).lineage
    changed = {
        name: tensor + 0.01 if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    save_weights(trained, changed, replace(contract, parent_sha256=start))
    (difference,) = compare_contracts(model, trained).differences
    assert "trained apart: their weights differ" in difference


def test_an_option_without_effect_in_both_networks_is_no_difference(
    tiny_checkpoint, tmp_path
):
    state, contract = load_weights(tiny_checkpoint)
    for name, model in (
        ("a", {"use_lora": False, "lora_rank": 4}),
        ("b", {"use_lora": False, "lora_rank": 8}),
        ("c", {"use_lora": True, "lora_rank": 8}),
    ):
        table = {"name": "mamba", **model}
        save_weights(
            tmp_path / f"{name}.safetensors", state, replace(contract, model=table)
        )
    a, b, c = (tmp_path / f"{name}.safetensors" for name in "abc")
    unused = "model.lora_rank: 4 / 8"

    plain = compare_contracts(a, b)
    assert unused in plain.own
    assert unused not in plain.differences

    adapted = compare_contracts(a, c)
    assert unused in adapted.differences


def test_what_matters_in_training_only_is_no_difference(tiny_checkpoint, tmp_path):
    state, contract = load_weights(tiny_checkpoint)
    model = {**contract.model, "drop_path": 0.25}
    parent = sha256_of(tiny_checkpoint)
    for name, table in (("a", contract.model), ("b", model)):
        path = tmp_path / f"{name}.safetensors"
        save_weights(path, state, replace(contract, model=table, parent_sha256=parent))
    found = compare_contracts(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert found.differences == ()
    assert "model.drop_path: 0.0 / 0.25" in found.own
