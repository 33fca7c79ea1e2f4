from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxsim
import pytest
import torch

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.atomic import sha256_of
from nordocr_cli.core.export.plan import ExportOptions, plan_export
from nordocr_cli.core.export.run import export
from nordocr_cli.data.resize import resize_line
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.deploy import parity
from nordocr_cli.deploy.golden import golden_crops
from nordocr_cli.deploy.store_check import StoreCheck
from nordocr_cli.errors import ArtifactError, DataError, GateMissed, UsageError
from nordocr_cli.models.registry import build_model
from nordocr_cli.models.weights import load_weights, save_weights
from nordocr_cli.profile import load_profile, profile_to_json
from nordocr_cli.records import LineRow

SMALL = ((1, 32), (2, 128))


def test_both_forms_are_written(tiny_checkpoint, tiny_onnx):
    """Names, dynamic axes and a true opset 17, in one file each; next to the fp32 model its
    fp16 form for engines.
    """
    models = [
        "model.contract.json",
        "model.fp16.contract.json",
        "model.fp16.onnx",
        "model.onnx",
    ]
    assert sorted(p.name for p in tiny_onnx.parent.glob("model*")) == models
    for name, precision in (("model.onnx", "fp32"), ("model.fp16.onnx", "fp16")):
        model = onnx.load(tiny_onnx.with_name(name))
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
        shapes = {
            t.name: [d.dim_param or d.dim_value for d in t.type.tensor_type.shape.dim]
            for t in (*model.graph.input, *model.graph.output)
        }
        assert shapes == {
            "input": ["batch", 3, 32, "width"],
            "output": ["batch", "seq_len", 126],
        }
        contract = read_contract(tiny_onnx.with_name(name))
        assert (contract.precision, contract.output_activation) == (precision, "logits")
        assert contract.parent_sha256 == sha256_of(tiny_checkpoint)
        assert contract.trained_widths == (8, 1792)


def test_the_base_model(tmp_path):
    """The size of the network that the consumer runs, opset 17 on the file, and parity below
    1e-4.
    """
    profile = load_profile("svtrv2-1024").profile
    charset, table = profile.load_charset(), profile_to_json(profile)
    torch.manual_seed(0)
    network = build_model(profile.model, charset.num_classes)
    save_weights(
        tmp_path / "best.safetensors",
        network.state_dict(),
        Contract(charset, profile.geometry, table["model"], table),
    )
    plan = plan_export(tmp_path, tmp_path / "model.onnx", ExportOptions(precision="fp32"))
    assert (1, 1792) in plan.shapes  # as wide as the engines serve, though trained to 1024
    result = export(replace(plan, shapes=((1, 32), (5, 128), (2, 320), (1, 768))))
    (exported,) = result.files
    assert result.parameters == 19_767_486
    assert exported.file.opset == 17
    assert exported.parity.worst.max_diff < 1e-4
    assert 79e6 < exported.file.size_bytes < 80e6
    assert exported.file.nodes < exported.nodes_before


def test_softmax_is_said_and_done(tiny_checkpoint, tmp_path):
    plan = plan_export(
        tiny_checkpoint,
        tmp_path / "m.onnx",
        ExportOptions(precision="fp16", output_activation="softmax", max_width=128),
    )
    export(plan)
    assert read_contract(tmp_path / "m.onnx").output_activation == "softmax"
    assert read_contract(tmp_path / "m.onnx").geometry.max_width == 128
    session = onnxruntime.InferenceSession(
        tmp_path / "m.onnx", providers=["CPUExecutionProvider"]
    )
    (out,) = session.run(None, {"input": np.zeros((1, 3, 32, 64), np.float32)})
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.sum(-1), 1, atol=1e-3)


def test_a_failed_parity_leaves_nothing(tiny_checkpoint, tmp_path, monkeypatch):
    (tmp_path / "old.onnx").write_bytes(b"as it was")
    monkeypatch.setattr(parity, "FP32_TOLERANCE", 1e-12)
    for name in ("new.onnx", "old.onnx"):
        plan = plan_export(
            tiny_checkpoint,
            tmp_path / name,
            ExportOptions(precision="fp32", simplify=False),
        )
        with pytest.raises(
            ArtifactError,
            match=rf"{name}: does not compute .* at \d+x\d+ px .*nothing was written",
        ):
            export(replace(plan, shapes=SMALL))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "old.onnx": b"as it was"
    }


def test_a_simplified_graph_that_computes_something_else_is_dropped(
    tiny_checkpoint, tmp_path, heard, monkeypatch
):
    original = onnxsim.simplify

    def spoils(model):
        simplified, ok = original(model)
        last = next(t for t in simplified.graph.initializer if t.dims and t.dims[-1] == 126)
        last.CopyFrom(
            onnx.numpy_helper.from_array(
                onnx.numpy_helper.to_array(last) * np.float32(2), last.name
            )
        )
        return simplified, ok

    monkeypatch.setattr(onnxsim, "simplify", spoils)
    plan = plan_export(
        tiny_checkpoint, tmp_path / "m.onnx", ExportOptions(precision="fp32")
    )
    (exported,) = export(replace(plan, shapes=SMALL), heard).files
    assert exported.file.nodes == exported.nodes_before
    assert exported.parity.worst.max_diff < 1e-4
    assert any("was dropped" in warning for warning in heard.warnings)


def test_weights_beyond_fp16_are_refused(tiny_checkpoint, tmp_path):
    state, contract = load_weights(tiny_checkpoint)
    key = next(key for key, tensor in state.items() if tensor.ndim == 2)
    state[key][0, 0] = 1e6
    save_weights(tmp_path / "w.safetensors", state, contract)
    plan = plan_export(
        tmp_path / "w.safetensors",
        tmp_path / "m.onnx",
        ExportOptions(precision="fp16", simplify=False),
    )
    with pytest.raises(ArtifactError, match="too large for fp16"):
        export(replace(plan, shapes=SMALL))
    assert not (tmp_path / "m.onnx").exists()


def test_wider_than_trained_is_warned_of(tiny_checkpoint, tmp_path, heard):
    plan = plan_export(
        tiny_checkpoint,
        tmp_path / "m.onnx",
        ExportOptions(precision="fp32", max_width=2048, simplify=False),
    )
    export(replace(plan, shapes=SMALL), heard)
    assert heard.warnings == [
        "trained on lines up to 1792 px, exported for lines up to 2048 px: evaluate by width band"
    ]


def test_what_cannot_be_planned(tiny_checkpoint, tiny_onnx, tmp_path):
    for flags, said in (
        ({"precision": "fp8"}, "fp32, fp16, bf16"),
        ({"precision": "int8"}, "--int8 writes that form next to fp32"),
        ({"precision": "bf16", "opset": 17}, "bf16 files need opset 22"),
        (
            {"input_type": "uint16"},
            "--input 'uint16': float or uint8; did you mean 'uint8'",
        ),
        ({"io": "int8"}, "--io 'int8': fp32 or fp16"),
        ({"int8": True, "precision": "bf16"}, "--int8 is made from the fp32 file"),
        (
            {"calibration": Path("lines")},
            "--calibration gives lines for the convolutions of an int8 file; --int8 requests one",
        ),
        ({"opset": 23}, "opset 23"),
        ({"output_activation": "sigmoid"}, "logits or softmax or argmax"),
        ({"max_width": 1023}, "max_width 1023"),
    ):
        with pytest.raises(UsageError, match=said):
            plan_export(tiny_checkpoint, options=ExportOptions(**flags))
    with pytest.raises(UsageError, match=r"ends in \.onnx"):
        plan_export(tiny_checkpoint, tmp_path / "m.engine")
    with pytest.raises(UsageError, match="is not a checkpoint"):
        plan_export(tiny_onnx)
    with pytest.raises(UsageError, match="no file or run folder"):
        plan_export(tmp_path / "nothing")


def test_default_names(tiny_checkpoint):
    plan = plan_export(tiny_checkpoint)
    assert {p: str(path) for p, path in plan.outputs.items()} == {
        "fp32": "models/svtrv2-nano/recognize_svtrv2_nano.onnx",
        "fp16": "models/svtrv2-nano/recognize_svtrv2_nano.fp16.onnx",
    }
    half = plan_export(tiny_checkpoint, options=ExportOptions(precision="fp16")).outputs
    assert half["fp16"].name == "recognize_svtrv2_nano.fp16.onnx"
    assert plan_export(tiny_checkpoint, half["fp16"]).outputs == half
    with pytest.raises(UsageError, match="name of an fp16 file"):
        plan_export(tiny_checkpoint, half["fp16"], ExportOptions(precision="fp32"))


def test_the_output_is_not_the_checkpoint(tiny_checkpoint, tmp_path):
    (tmp_path / "m.onnx").symlink_to(tiny_checkpoint)
    with pytest.raises(UsageError, match="would overwrite the input"):
        plan_export(tiny_checkpoint, tmp_path / "m.onnx")


@pytest.fixture
def store(tiny_checkpoint, tmp_path):
    """Twelve drawn lines of many widths."""
    contract = read_contract(tiny_checkpoint)
    with LineStoreWriter(
        tmp_path / "lines.lmdb", contract.geometry, contract.charset
    ) as writer:
        for name, crop in golden_crops(13):
            if name != "drawn-001":  # as wide as the network takes
                writer.add(resize_line(crop, contract.geometry), LineRow(name, "", "7 811"))
    return tmp_path / "lines.lmdb"


def test_int8_is_measured_on_lines(tiny_checkpoint, store, tmp_path):
    options = {
        "precision": "fp32",
        "int8": True,
        "calibration": store,
        "check_store": store,
        "max_cer_loss": 100,
    }
    plan = plan_export(tiny_checkpoint, tmp_path / "m.onnx", ExportOptions(**options))
    assert list(plan.outputs) == ["fp32", "int8"]
    full, quantized = export(replace(plan, shapes=SMALL)).files
    assert quantized.file.path == tmp_path / "m.int8.onnx"
    assert read_contract(tmp_path / "m.int8.onnx") == replace(
        read_contract(tmp_path / "m.onnx"), precision="int8"
    )
    assert quantized.file.size_bytes < full.file.size_bytes
    kinds = [node.op_type for node in onnx.load(quantized.file.path).graph.node]
    # the picture's own; stem, 1 and 2 groups, two downwards
    assert (kinds.count("Conv"), kinds.count("QLinearConv")) == (1, 6)
    check = quantized.on_store
    assert check.lines == 12
    assert check.speed_up > 0
    assert 0 < check.flips < check.frames / 2  # untrained weights: near ties everywhere
    with pytest.raises(
        GateMissed,
        match=r"m\.int8\.onnx: CER .* becomes .*--max-cer-loss.*nothing was written",
    ):
        replace(check, edits=(0, 40)).require(0.005, "m.int8.onnx")
    replace(check, edits=(40, 40)).require(0.0, "m.int8.onnx")


def test_int8_convolutions_need_lines(tiny_checkpoint, tmp_path, heard):
    plan = plan_export(
        tiny_checkpoint, tmp_path / "m.onnx", ExportOptions(precision="fp32", int8=True)
    )
    quantized = export(replace(plan, shapes=SMALL), heard).files[1]
    assert "QLinearConv" not in {
        node.op_type for node in onnx.load(quantized.file.path).graph.node
    }
    assert any("its convolutions stay fp32; --calibration" in note for note in heard.notes)
    with pytest.raises(
        UsageError, match="--calibration .*none: no line store and no folder of images"
    ):
        export(replace(plan, calibration=tmp_path / "none"))


def test_a_file_that_reads_worse_than_allowed_gets_no_name(
    tiny_checkpoint, store, tmp_path, monkeypatch
):
    plan = plan_export(
        tiny_checkpoint,
        tmp_path / "m.onnx",
        ExportOptions(precision="fp32", check_store=store, check_lines=6, simplify=False),
    )
    monkeypatch.setattr(StoreCheck, "cer_loss", 0.02)
    with pytest.raises(GateMissed, match="0.5 points more are allowed"):
        export(replace(plan, shapes=SMALL))
    assert not list(tmp_path.glob("m*"))
    monkeypatch.setattr(StoreCheck, "cer_loss", 0.0)
    (exported,) = export(replace(plan, shapes=SMALL)).files
    check = exported.on_store
    assert (check.lines, check.flips, check.texts) == (6, 0, 0)
    assert check.edits[0] == check.edits[1] > 0


def test_bf16_is_opset_22(tiny_checkpoint, tmp_path):
    plan = plan_export(
        tiny_checkpoint,
        tmp_path / "m.onnx",
        ExportOptions(precision="bf16", input_type="uint8"),
    )
    (exported,) = export(replace(plan, shapes=SMALL)).files
    assert (exported.file.opset, exported.file.precision) == (22, "bf16")
    assert exported.arithmetic.worst.max_diff > exported.parity.worst.max_diff > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.contract.json", "m.onnx"]


def test_what_would_fail_after_the_export_fails_before_it(
    tiny_checkpoint, tmp_path, monkeypatch
):
    """Minutes of work must not be lost to a folder, a missing file or a format that the pipeline
    does not take.
    """
    onnx = tmp_path / "out" / "m.onnx"
    (tmp_path / "out" / "m.golden").mkdir(parents=True)
    for flags, match in (
        ({"golden": 2}, "is not a folder of golden lines"),
        ({"consumer_config": onnx}, "give a separate file"),
        ({"consumer_config": tmp_path}, "give a separate file"),
        ({"consumer_config": tiny_checkpoint}, "would overwrite the input"),
        (
            {"consumer_config": tmp_path / "c.json", "input_type": "uint8"},
            "the pipeline normalizes pixels",
        ),
        ({"check_consumer": tmp_path / "none.json"}, "no file"),
        ({"check_consumer": tiny_checkpoint}, "expected the pipeline's config"),
    ):
        with pytest.raises((UsageError, DataError), match=match):
            plan_export(tiny_checkpoint, onnx, ExportOptions(**flags))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="sets none of"):
        plan_export(
            tiny_checkpoint, onnx, ExportOptions(check_consumer=tmp_path / "config.json")
        )
    monkeypatch.setattr(
        "nordocr_cli.models.weights.load_model", lambda _: pytest.fail("the work began")
    )
    (tmp_path / "file").touch()
    config = ExportOptions(consumer_config=tmp_path / "file" / "c.json")
    for output, options in ((tmp_path / "file" / "m.onnx", None), (onnx, config)):
        with pytest.raises(DataError, match="takes no new file"):
            export(plan_export(tiny_checkpoint, output, options))
    onnx.mkdir()
    with pytest.raises(DataError, match=r"m\.onnx: it is a folder"):
        export(plan_export(tiny_checkpoint, onnx))
