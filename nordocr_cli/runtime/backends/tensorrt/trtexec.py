"""The trtexec command line that builds the same engine on a GPU host."""

import shlex
from pathlib import Path
from typing import Literal

from nordocr_cli.deploy.onnx_file import INPUT_NAME, WeightsPrecision, fp16_sibling
from nordocr_cli.settings import Engine

TrtVersion = Literal["10", "11"]


def trtexec_command(
    onnx: Path,
    engine: Path,
    ranges: Engine,
    height: int,
    version: TrtVersion = "10",
    weights: WeightsPrecision = "fp32",
) -> str:
    """Return the command, one flag per line, for classic TensorRT 10 or 11. `weights` is the
    precision of the weights in `onnx`. An ONNX of another precision than fp32 is built as it is;
    TensorRT 10 needs `--stronglyTyped` for that. For an fp32 file and an fp16 engine TensorRT 10
    gets `--fp16`. TensorRT 11 has no such flag, so the half-precision ONNX next to it is named
    instead.
    """
    halved = weights == "fp32" and ranges.precision == "fp16"
    model = fp16_sibling(onnx) if halved and version == "11" else onnx
    flags = [f"--onnx={model}", f"--saveEngine={engine}"]
    if version == "10" and (halved or weights != "fp32"):
        flags.append("--fp16" if halved else "--stronglyTyped")
    for number, band in enumerate(ranges.ranges):
        flags += [f"--profile={number}"] if len(ranges.ranges) > 1 else []
        flags += [
            f"--{end}Shapes={INPUT_NAME}:{batch}x3x{height}x{width}"
            for end, (batch, width) in band.ends().items()
        ]
    return " \\\n    ".join(["trtexec", *map(shlex.quote, flags)])
