"""The trtexec command line that builds the same engine on a GPU host."""

import shlex
from pathlib import Path
from typing import Literal

from nordocr_cli.deploy.onnx_file import INPUT_NAME, fp16_sibling
from nordocr_cli.profile import Engine

TrtVersion = Literal["10", "11"]


def trtexec_command(onnx: Path, engine: Path, ranges: Engine, height: int, version: TrtVersion = "10") -> str:
    """Return the command, one flag a line, for classic TensorRT 10 or 11.

    TensorRT 11 has no `--fp16`: the half-precision ONNX beside `onnx` is named instead, and TensorRT 10 reads such a file as
    it is with `--stronglyTyped`.
    """
    half = ranges.precision == "fp16"
    model = fp16_sibling(onnx) if half and version == "11" else onnx
    flags = [f"--onnx={model}", f"--saveEngine={engine}"]
    if half and version == "10":
        flags.append("--stronglyTyped" if onnx == fp16_sibling(onnx) else "--fp16")
    for number, band in enumerate(ranges.ranges):
        flags += [f"--profile={number}"] if len(ranges.ranges) > 1 else []
        flags += [f"--{end}Shapes={INPUT_NAME}:{batch}x3x{height}x{width}" for end, (batch, width) in band.ends().items()]
    return " \\\n    ".join(["trtexec", *map(shlex.quote, flags)])
