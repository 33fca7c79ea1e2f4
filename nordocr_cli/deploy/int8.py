"""int8 for ONNX Runtime: matrices in 8 bits, calibrated with lines.

Only products with constant matrices are quantized, their outputs and everything between stay float32: of svtrv2-nano on one
core that is 1.4 times as fast as fp32, with int8 convolutions too it is no faster, and with quantized outputs, ONNX Runtime's
default, it is slower than fp32 (0.8 to 0.9).
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact import Contract
from nordocr_cli.data.resize import network_input
from nordocr_cli.data.store import LineStore
from nordocr_cli.deploy.onnx_file import INPUT_NAME
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    import onnx

CALIBRATION_LINES = 128
_SEED = 8
_OPERATORS = ["MatMul", "Gemm"]


def calibration_lines(store: LineStore, count: int = CALIBRATION_LINES) -> list[int]:
    """Return the numbers of up to `count` lines drawn from all of `store`. Raises UsageError for an empty one."""
    if not len(store):
        raise UsageError(f"{store.path} is empty; int8 needs lines to calibrate with")
    return sorted(np.random.default_rng(_SEED).permutation(len(store))[:count].tolist())


def quantize(
    source: Path, contract: Contract, store: LineStore, lines: list[int], progress: Progress = SILENT
) -> "onnx.ModelProto":
    """Return the int8 form of the fp32 file `source`, QDQ: weights symmetric and per channel, the ranges of the activations from
    `lines` of `store`, each alone and unpadded.

    Raises ArtifactError when ONNX Runtime cannot quantize it.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    def inputs() -> Iterator[NDArray[Any]]:
        for line in lines:
            images = np.ascontiguousarray(store.image(line).transpose(2, 0, 1)[None])  # (1, 3, height, w)
            yield network_input(images, contract.geometry, contract.input_type)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._inputs = inputs()

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            image = next(self._inputs, None)
            if image is None:
                return None
            progress.advance()
            return {INPUT_NAME: image}

    progress.start("calibrate int8", total=len(lines), unit="lines")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        target = Path(folder) / "int8.onnx"
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)  # it advises a preparation that changes nothing here
        try:
            quantize_static(
                source,
                target,
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_OPERATORS,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True, "OpTypesToExcludeOutputQuantization": _OPERATORS},
            )
        except (ValueError, RuntimeError, TypeError) as error:
            raise ArtifactError(
                f"ONNX Runtime cannot make an int8 form of {source.name}: {str(error).splitlines()[0]}"
            ) from error
        finally:
            logging.disable(logging.NOTSET)
        progress.finish()
        return onnx.load(target)
