import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.atomic import sha256_of
from nordocr_cli.core.engine.plan import EngineRequest, plan_engines
from nordocr_cli.core.engine.run import build_engine
from nordocr_cli.core.export.plan import ExportOptions, plan_export
from nordocr_cli.core.export.run import export
from nordocr_cli.errors import ArtifactError, MissingBackendError, UsageError
from nordocr_cli.models.weights import load_weights, save_weights
from nordocr_cli.progress import SILENT
from nordocr_cli.runtime.backends.tensorrt import builder as engine_builder
from nordocr_cli.runtime.backends.tensorrt.builder import Settings
from nordocr_cli.runtime.backends.tensorrt.engine_file import read_sidecar

pytest.importorskip("tensorrt_rtx")
GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def model(tiny_onnx, tmp_path):
    """The tiny model's two ONNX files in a folder of their own."""
    for name in ("model.onnx", "model.fp16.onnx"):
        shutil.copy(tiny_onnx.with_name(name), tmp_path)
    return tmp_path / "model.onnx"


def plans_of(arches, model, *, progress=SILENT, **options):
    return plan_engines(EngineRequest(arches, model, **options), progress)


def test_one_engine_per_arch_with_its_sidecar(model, heard, valid_output):
    plans = plans_of(["sm_86,12.0"], model)
    results = [build_engine(plan, heard) for plan in plans]
    valid_output("build-engine", [result.to_json() for result in results])
    assert [r.plan.engine.name for r in results] == [
        "model_sm86.rtx.engine",
        "model_sm120.rtx.engine",
    ]
    for result, batch in zip(results, (64, 128), strict=True):
        side = read_sidecar(result.plan.engine)
        assert side["executed"] is False
        assert (side["precision"], side["arch"], side["backend"]) == (
            "fp16",
            result.plan.arch.name,
            "tensorrt-rtx",
        )
        assert side["ranges"]["max"] == {"batch": batch, "height": 32, "width": 1792}
        assert side["onnx"] == {
            "name": "model.fp16.onnx",
            "sha256": sha256_of(model.with_name("model.fp16.onnx")),
            "opset": 17,
        }
        assert side["engine"]["sha256"] == sha256_of(result.plan.engine)
        assert side["requires"]["version"] == side["version"]
        contract = read_contract(result.plan.engine)
        assert contract.charset == read_contract(model).charset
        assert contract.parent_sha256 == side["onnx"]["sha256"]
    assert (
        heard.notes[::2]
        == [f"fp16: building from {model.with_name('model.fp16.onnx')}"] * 2
    )
    assert all(
        re.match(
            r"memory at the maximum shape, \d+x1792 px in fp16: about 0\.\d\d GB .* has \d+ GB",
            n,
        )
        for n in heard.notes[1::2]
    )
    assert heard.warnings == []
    engines = {"model_sm86.rtx.engine", "model_sm120.rtx.engine"}
    written = {p.name for p in model.parent.iterdir()}
    assert written == {"model.onnx", "model.fp16.onnx"} | engines | {
        f"{name}.json" for name in engines
    }


def test_an_engine_cut_short_never_gets_its_name(model, monkeypatch):
    original = engine_builder.build

    def cut(*args):
        built = original(*args)
        object.__setattr__(built, "plan", built.plan[:-1])
        return built

    monkeypatch.setattr("nordocr_cli.core.engine.run.build", cut)
    (plan,) = plans_of(["sm86"], model)
    with pytest.raises(ArtifactError, match="cut or padded"):
        build_engine(plan)
    assert not list(model.parent.glob("*engine*"))


def test_fp32_without_its_fp16_form_says_the_command(model, heard):
    model.with_name("model.fp16.onnx").unlink()
    (plan,) = plans_of(["sm86"], model)
    with pytest.raises(
        ArtifactError, match=r"nordocr export RUN --precision fp16 -o .*model\.fp16\.onnx"
    ):
        build_engine(plan)
    (plan,) = plans_of(["sm86"], model, precision="fp32")
    assert build_engine(plan, heard).sidecar()["precision"] == "fp32"
    assert any("not fused" in warning for warning in heard.warnings)


def test_an_fp16_form_of_other_weights_is_refused(model, tiny_checkpoint, tmp_path):
    state, contract = load_weights(tiny_checkpoint)
    save_weights(
        tmp_path / "w.safetensors",
        {key: tensor * 1.01 for key, tensor in state.items()},
        contract,
    )
    export(
        plan_export(
            tmp_path / "w.safetensors",
            model.with_name("model.fp16.onnx"),
            ExportOptions(precision="fp16", max_width=128),
        )
    )
    (plan,) = plans_of(["sm86"], model)
    with pytest.raises(
        ArtifactError,
        match=r"is not the fp16 form of model\.onnx \(they differ in geometry, weights\)",
    ):
        build_engine(plan)


def test_an_fp16_form_of_the_same_weights_with_another_output_is_refused(
    model, tiny_checkpoint
):
    other = model.with_name("model.fp16.onnx")
    export(
        plan_export(
            tiny_checkpoint,
            other,
            ExportOptions(precision="fp16", max_width=128, output_activation="softmax"),
        )
    )
    (plan,) = plans_of(["sm86"], model)
    with pytest.raises(
        ArtifactError,
        match=r"they differ in geometry, output activation\); export both again",
    ):
        build_engine(plan)


def test_a_damaged_or_missing_model(tmp_path, heard):
    for name, content in (
        ("empty.onnx", b""),
        ("picture.onnx", b"\x89PNG\r\n\x1a\n" + bytes(99)),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ArtifactError, match=rf"{name} is not a"):
            plans_of(["sm86"], tmp_path / name)
    (plan,) = plans_of(["sm86"], tmp_path / "missing.onnx", progress=heard)
    assert "svtrv2-1024 is assumed" in heard.warnings[0]
    with pytest.raises(UsageError, match=r"nordocr export RUN -o .*missing\.onnx"):
        build_engine(plan)
    with pytest.raises(UsageError, match="built from an ONNX model"):
        plans_of(["sm86"], tmp_path / "best.safetensors")


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"min": "64x32"}, "min_batch 64 ≤ opt_batch 32"),
        ({"max": "16x1792"}, "opt_batch 32 ≤ max_batch 16"),
        ({"opt": "32x770"}, "opt_width 770 is not a multiple of 4"),
        ({"min": "0x32"}, "min_batch"),
        ({"min": "1x4"}, "min width 4 px is below 32"),
        ({"max": "64x1024"}, "max width 1024 px is below 1792"),
        ({"max": "1792"}, "expected BATCHxWIDTH"),
    ],
)
def test_impossible_ranges(model, shapes, said):
    with pytest.raises(UsageError, match=said):
        plans_of(["sm86"], model, shapes=shapes)


def test_where_engines_go(model, tmp_path):
    (plan,) = plans_of(["sm86"], model, output=tmp_path / "out")
    assert plan.engine == tmp_path / "out" / "model_sm86.rtx.engine"
    with pytest.raises(UsageError, match=r"named ….rtx\.engine"):
        plans_of(["sm86"], model, output=tmp_path / "m.engine")
    with pytest.raises(UsageError, match="need a folder"):
        plans_of(["sm86", "sm120"], model, output=tmp_path / "m.rtx.engine")


def test_a_card_that_the_profile_does_not_name(model, heard):
    (plan,) = plans_of(["l40s"], model, progress=heard)
    assert "no [engine.sm89]" in heard.warnings[0]
    assert plan.ranges.max_batch == 64


def test_the_commands_of_the_guide_are_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "build-engine",
        "--arch",
        "sm86,sm120",
        "-p",
        "svtrv2-1024",
        "recognize_svtrv2_1024.onnx",
        "--print-trtexec",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert done.stdout == "\n".join(
        (GOLDEN / f"trtexec_{arch}.txt").read_text("utf-8") for arch in ("sm86", "sm120")
    )
    assert not list(tmp_path.iterdir())


def test_the_command_goes_by_what_the_model_holds_not_by_its_name(model):
    half = model.with_name("model.fp16.onnx").rename(model.with_name("half.onnx"))
    (plan,) = plans_of(["sm86"], half, backend="tensorrt")
    assert "--stronglyTyped" in plan.trtexec()
    assert f"--onnx={half}" in plan.trtexec("11")
    full = model.rename(model.with_name("full.fp16.onnx"))
    (plan,) = plans_of(["sm86"], full, backend="tensorrt")
    assert "--fp16" in plan.trtexec().split()
    (plan,) = plans_of(["sm86"], half, backend="tensorrt", precision="fp32")
    with pytest.raises(
        UsageError, match=r"half\.onnx is fp16, but --precision fp32 was requested"
    ):
        plan.trtexec()


def test_a_dry_run_needs_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app, ["build-engine", "--arch", "sm120", "--dry-run", "--json"]
    )
    plan = json.loads(done.stdout)["sm120"]
    assert plan["onnx"] == "models/svtrv2-1024/recognize_svtrv2.onnx"
    assert plan["engine"] == "models/recognize_svtrv2_1024_sm120.rtx.engine"
    assert (plan["max_batch"], plan["max_width"], plan["precision"]) == (128, 1792, "fp16")
    assert not list(tmp_path.iterdir())


def test_the_last_lines_name_the_command_for_classic_tensorrt(model):
    done = CliRunner().invoke(app, ["build-engine", "--arch", "sm120", str(model)])
    assert done.exit_code == 0
    assert "not executed" in done.stderr
    command = f"nordocr build-engine --backend tensorrt --arch sm120 {model}"
    assert done.stderr.splitlines()[-1] == f"next: {command}"
    (result,) = json.loads(
        CliRunner()
        .invoke(app, ["build-engine", "--arch", "sm120", str(model), "--json"])
        .stdout
    )
    assert result["classic_tensorrt"]["command"] == command
    assert "builds its own engine on its GPU" in result["classic_tensorrt"]["note"]


BANDS = ("16x64:32x128", "4x1792")


def test_bands_in_one_engine_for_two_cards_and_the_cache(
    model, tmp_path, heard, monkeypatch
):
    ask = {"bands": BANDS, "one_engine": True, "cache": tmp_path / "cache"}
    (plan,) = plans_of(["sm86", "sm120"], model, **ask)
    result = build_engine(plan, heard)
    side = read_sidecar(plan.engine)
    assert plan.engine.name == "model_sm86+sm120.rtx.engine"
    assert side["arches"] == ["sm86", "sm120"]
    assert [
        (b["min"]["width"], b["opt"]["batch"], b["max"]["batch"], b["max"]["width"])
        for b in side["bands"]
    ] == [
        (32, 16, 32, 128),
        (132, 4, 4, 1792),
    ]
    assert (side["ranges"]["min"]["width"], side["ranges"]["max"]["batch"]) == (32, 4)
    assert result.found is None

    def never(*_):
        raise AssertionError("built again")

    monkeypatch.setattr("nordocr_cli.core.engine.run.build", never)
    again = build_engine(plan, heard)
    assert again.found == plan.engine
    assert "nothing is built" in heard.notes[-1]
    (elsewhere,) = plans_of(
        ["sm86", "sm120"], model, output=tmp_path / "o.rtx.engine", **ask
    )
    assert build_engine(elsewhere).found.parent == tmp_path / "cache"
    assert read_sidecar(elsewhere.engine)["engine"]["name"] == "o.rtx.engine"
    for different in (
        {"reuse": False},
        {"bands": ("8x1792",)},
        {"settings": Settings(memory_limit_gb=2)},
    ):
        (plan,) = plans_of(["sm86", "sm120"], model, **(ask | different))
        with pytest.raises(AssertionError, match="built again"):
            build_engine(plan)
    plan.engine.write_bytes(plan.engine.read_bytes()[:-1])  # neither is a damaged one taken
    (plan,) = plans_of(["sm86", "sm120"], model, **(ask | {"cache": None}))
    with pytest.raises(AssertionError, match="built again"):
        build_engine(plan, heard)
    assert "another sha256" in heard.warnings[-1]


def test_a_shape_beyond_the_card_is_refused_before_the_build(model, monkeypatch):
    monkeypatch.setattr("nordocr_cli.core.engine.run.build", None)
    (plan,) = plans_of(["rtx3090"], model, precision="fp32", shapes={"max": "20000x1792"})
    assert (plan.card, plan.memory_gb) == ("RTX 3090", 24)
    with pytest.raises(
        UsageError,
        match=r"does not fit RTX 3090 with 24 GB: .* is the largest batch that fits",
    ):
        build_engine(plan)
    (plan,) = plans_of(["sm120"], model, vram_gb=0.5)
    with pytest.raises(UsageError, match=r"does not fit a card with 0\.5 GB"):
        build_engine(plan)


def test_a_width_that_no_training_vouches_for(tiny_checkpoint, model, heard, tmp_path):
    state, contract = load_weights(tiny_checkpoint)
    save_weights(tmp_path / "w.safetensors", state, replace(contract, trained_widths=None))
    narrow = tmp_path / "narrow.onnx"
    plan = plan_export(
        tmp_path / "w.safetensors",
        narrow,
        ExportOptions(precision="fp16", max_width=128, simplify=False),
    )
    export(replace(plan, shapes=((1, 32),)))
    with pytest.raises(
        UsageError,
        match=r"max width 1792 px: narrow\.onnx reads lines up to 128 px .*--max 64x128, or",
    ):
        plans_of(["sm86"], narrow, precision="fp16")
    (plan,) = plans_of(["sm86"], narrow, precision="fp16", allow_wider=True, progress=heard)
    assert any("trained width unknown" in warning for warning in heard.warnings)
    with pytest.raises(UsageError, match=r"narrow\.onnx reads lines up to 128 px"):
        build_engine(replace(plan, allow_wider=False))
    build_engine(plan)


def test_a_width_beyond_what_was_compared_is_refused(model):
    with pytest.raises(
        UsageError,
        match=r"reads lines up to 1792 px and was compared with its network up to there",
    ):
        plans_of(["sm86"], model, shapes={"max": "64x4000"})


def test_verify_needs_the_gpu(model, monkeypatch):
    done = CliRunner().invoke(
        app, ["build-engine", "--arch", "sm86", str(model), "--verify"]
    )
    assert isinstance(done.exception, MissingBackendError)
    assert "this machine has no working NVIDIA GPU. Leave --verify out" in str(
        done.exception
    )
    assert not list(model.parent.glob("*.engine"))


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        ({"bands": ("64x768", "32x512", "4x1792")}, "min_width 772"),
        ({"bands": ("64x768",)}, "max width 768 px is below 1792"),
        ({"bands": ("64",)}, r"--band '64': expected BATCHxWIDTH"),
        (
            {"bands": BANDS, "shapes": {"max": "64x1792"}},
            "--band defines the ranges",
        ),
        (
            {"one_engine": True, "backend": "tensorrt"},
            "builds for the one GPU that it runs on",
        ),
        (
            {"settings": Settings(version_compatible=True)},
            "--version-compatible is a setting of classic TensorRT",
        ),
        (
            {"settings": Settings(hardware="ampere")},
            r"--hardware-compat 'ampere': did you mean 'ampere\+'",
        ),
    ],
)
def test_what_cannot_be_built(model, ask, said):
    with pytest.raises(UsageError, match=said):
        plans_of(["sm86", "sm120"], model, **ask)
