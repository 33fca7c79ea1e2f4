"""One command from another program's checkpoint to the guide's ONNX files."""

import pickle

import onnx
import pytest
import torch
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.atomic import sha256_of
from nordocr_cli.charset import NORDIC
from nordocr_cli.core.export.plan import ExportOptions, plan_export
from nordocr_cli.core.import_ import import_checkpoint, plan_import
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.models.registry import build_model
from nordocr_cli.profile import profile_from_json
from nordocr_cli.runtime.backends.tensorrt.memory import MemoryModel
from nordocr_cli.settings import SvtrV2Model

TINY = ("model.size=tiny",)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """OpenOCR's best_model.pth of the smallest SVTRv2, as training leaves it."""
    torch.manual_seed(3)
    network = build_model(SvtrV2Model(name="svtrv2", size="tiny"), NORDIC.num_classes)
    path = tmp_path_factory.mktemp("foreign") / "best_model.pth"
    torch.save(
        {"state_dict": network.state_dict(), "epoch": 20, "metrics": {"acc": 0.9}}, path
    )
    return path


def write_rust(path):
    literals = ", ".join(f"'\\u{{{ord(character):x}}}'" for character in NORDIC.characters)
    path.write_text(f"pub const CTC_CHARSET: [char; 125] = [{literals}];", encoding="utf-8")
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_guides_export_command_writes_the_guides_files(
    checkpoint, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best_model.pth").write_bytes(checkpoint.read_bytes())
    guide = "export --checkpoint best_model.pth --output recognize_svtrv2_1024.onnx --max-width 1024"
    result = run(*guide.split())
    assert result.exit_code == 0, result.output
    names = [
        "recognize_svtrv2_1024",
        "recognize_svtrv2_1024_sim",
        "recognize_svtrv2_1024.fp16",
    ]
    for name in names:
        assert (tmp_path / f"{name}.onnx").is_file()
        assert (tmp_path / f"{name}.contract.json").is_file()
    weights = tmp_path / "recognize_svtrv2_1024.safetensors"
    for name in names:
        model = onnx.load(f"{name}.onnx")
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
        assert read_contract(tmp_path / f"{name}.onnx").parent_sha256 == sha256_of(weights)
    assert read_contract(weights).parent_sha256 == sha256_of(tmp_path / "best_model.pth")
    # Global attention of the second stage: 8 rows of 1792 / 4 columns. Base has twice the heads,
    # so 12.25 GiB for one matrix at the guide's largest shape.
    tokens, heads = 8 * 1792 // 4, 4
    predicted = MemoryModel(tmp_path / "recognize_svtrv2_1024.fp16.onnx").at(64, 1792)
    assert predicted.scores_bytes == 64 * heads * tokens**2 * 2
    assert predicted.unfused_bytes > 2 * predicted.scores_bytes
    assert "assuming svtrv2-1024 with charset nordic" in result.output
    assert (
        "model.size is tiny, the profile's base; the checkpoint's is used" in result.output
    )


def test_the_guides_engine_commands_follow_from_the_export(
    checkpoint, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    charset = write_rust(tmp_path / "charset.rs")
    arguments = ("-p", "svtrv2-1024", "--set", *TINY, "--charset", charset)
    result = run("export", checkpoint, *arguments, "-o", "recognize_svtrv2_1024.onnx")
    assert result.exit_code == 0, result.output
    contract = read_contract(tmp_path / "recognize_svtrv2_1024.onnx")
    assert contract.trained_widths == (4, 1024)
    assert contract.charset.sha256 == NORDIC.sha256
    profile = profile_from_json(contract.profile, "the file")
    assert (profile.engine["sm86"].max_batch, profile.engine["sm120"].max_batch) == (
        64,
        128,
    )
    for arch, batches in (
        ("sm86", "32x3x32x768 64x3x32x1792"),
        ("sm120", "64x3x32x768 128x3x32x1792"),
    ):
        printed = run(
            "build-engine", "--arch", arch, "recognize_svtrv2_1024.onnx", "--print-trtexec"
        )
        assert printed.exit_code == 0, printed.output
        assert f"--saveEngine=recognize_svtrv2_1024_{arch}.engine" in printed.output
        assert all(
            f":{shape}" in printed.output for shape in ("1x3x32x32", *batches.split())
        )
    assert run("consumer", "config", "recognize_svtrv2_1024.onnx").exit_code == 0
    assert run("consumer", "check", charset, "recognize_svtrv2_1024.onnx").exit_code == 0


def test_import_with_a_profile_keeps_its_engines(checkpoint, tmp_path, valid_output):
    plan = plan_import(
        checkpoint, None, tmp_path / "w.safetensors", profile="svtrv2-768", sets=TINY
    )
    imported = import_checkpoint(plan)
    valid_output("import", imported.to_json())
    contract = imported.contract
    profile = profile_from_json(contract.profile, "the file")
    assert profile.engine["sm120"].max_batch == 128
    assert contract.geometry.max_width == 768
    assert read_contract(tmp_path / "w.safetensors") == contract


def test_another_network_than_the_profiles_is_refused(checkpoint, tmp_path):
    plan = plan_import(checkpoint, None, tmp_path / "w.safetensors", profile="svtrv2-1024")
    with pytest.raises(
        ArtifactError,
        match="model.size is tiny, the profile's base; use --set model.size=tiny",
    ):
        import_checkpoint(plan)
    plan = plan_import(checkpoint, None, tmp_path / "w.safetensors", profile="svtr-32x128")
    with pytest.raises(ArtifactError, match="model.name is svtrv2, the profile's svtr"):
        import_checkpoint(plan)
    assert not (tmp_path / "w.safetensors").exists()


def test_other_classes_than_the_charsets_are_refused(checkpoint, tmp_path):
    result = run(
        "export", checkpoint, "--charset", "alphanumeric", "-o", tmp_path / "m.onnx"
    )
    assert isinstance(result.exception, ArtifactError)
    assert "has 126 classes, charset 'alphanumeric' 63" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_with_code_is_refused(tmp_path):
    class Code:
        def __reduce__(self):
            return print, ("ran",)

    (tmp_path / "best.pth").write_bytes(pickle.dumps({"state_dict": Code()}))
    plan = plan_export(tmp_path / "best.pth", tmp_path / "m.onnx")
    with pytest.raises(ArtifactError, match="is refused|not a readable weights file"):
        import_checkpoint(plan.imports)


def test_what_describes_a_foreign_checkpoint_is_refused_for_our_own(
    tiny_checkpoint, tmp_path
):
    for options, flag in (
        (ExportOptions(profile="svtrv2-1024"), "--profile"),
        (ExportOptions(charset="nordic"), "--charset"),
    ):
        with pytest.raises(
            UsageError, match=f"{flag} describes another program's checkpoint"
        ):
            plan_export(tiny_checkpoint, tmp_path / "m.onnx", options)
    with pytest.raises(UsageError, match="leave --no-simplify"):
        plan_export(
            tiny_checkpoint,
            tmp_path / "m.onnx",
            ExportOptions(simplified_copy=True, simplify=False),
        )


def test_one_checkpoint_is_named(tiny_checkpoint):
    for arguments in ((), (tiny_checkpoint, "--checkpoint", tiny_checkpoint)):
        result = run("export", *arguments)
        assert isinstance(result.exception, UsageError)
        assert "give one checkpoint" in str(result.exception)
