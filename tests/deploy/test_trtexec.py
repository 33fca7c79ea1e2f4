from pathlib import Path

import pytest

from nordocr_cli.profile import load_profile
from nordocr_cli.runtime.backends.tensorrt.trtexec import trtexec_command
from nordocr_cli.settings import Engine

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("arch", ["sm86", "sm120"])
def test_the_guides_two_commands(arch):
    """The profile's numbers give the users' own commands, character by
    character.
    """
    ranges = load_profile("svtrv2-1024").profile.engine[arch]
    engine = Path(f"recognize_svtrv2_1024_{arch}.engine")
    command = trtexec_command(Path("recognize_svtrv2_1024.onnx"), engine, ranges, 32)
    assert command + "\n" == (GOLDEN / f"trtexec_{arch}.txt").read_text(encoding="utf-8")


def test_tensorrt_11_takes_precision_from_the_onnx():
    command = trtexec_command(Path("m.onnx"), Path("m.engine"), Engine(), 32, "11")
    assert "--onnx=m.fp16.onnx" in command
    assert "--fp16" not in command
    assert "--fp16" not in trtexec_command(
        Path("m.onnx"), Path("m.engine"), Engine(precision="fp32"), 32, "10"
    )


def test_a_half_precision_file_stays_as_it_is_on_tensorrt_10():
    """Whatever it is called."""
    command = trtexec_command(
        Path("half.onnx"), Path("m.engine"), Engine(), 32, "10", "fp16"
    )
    assert "--stronglyTyped" in command
    assert "--fp16 " not in command
    assert "--onnx=half.onnx" in trtexec_command(
        Path("half.onnx"), Path("m.engine"), Engine(), 32, "11", "fp16"
    )


def test_paths_are_quoted():
    assert "'--onnx=my model.onnx'" in trtexec_command(
        Path("my model.onnx"), Path("m.engine"), Engine(), 32
    )
