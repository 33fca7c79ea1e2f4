"""int8 for ONNX Runtime: products with constant matrices in 8 bits, everything between in float32.

The range of what goes into a product is measured while it runs, over the whole input tensor: no lines calibrate, and a file
gives a line the same text only when it is fed line by line, as RunnerRecognizer does. Tried on svtrv2-nano, one core, each line
alone, 303 lines of documents and 300 rendered ones, beside the fp32 file:

| form | times as fast | other texts of 303 | of 300 |
|---|---|---|---|
| matrices, ranges measured as it runs, weights of 8 bits | 1.33 | 2 | 6 |
| the same, weights of 7 bits | 1.33 | 4 | 5 |
| matrices, ranges calibrated beforehand (half the lines) | 1.28 to 1.32 | 10 of 152 | 9 of 120 |

Convolutions stay in float32: ONNX Runtime's int8 ones made the same line three times as slow (27 ms against 8.8).

Weights have 7 bits: with 8, the sums of pairs overflow 16 bits on processors without VNNI.
"""

import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from nordocr_cli.errors import ArtifactError

if TYPE_CHECKING:
    import onnx


def quantize(source: Path) -> "onnx.ModelProto":
    """Return the int8 form of the fp32 file `source`: weights symmetric and per output channel.

    Raises ArtifactError when ONNX Runtime cannot quantize it.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        target = Path(folder) / "int8.onnx"
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)  # it advises a preparation that changes nothing here
        try:
            quantize_dynamic(
                source,
                target,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
        except (ValueError, RuntimeError, TypeError) as error:
            raise ArtifactError(
                f"ONNX Runtime cannot make an int8 form of {source.name}: {str(error).splitlines()[0]}"
            ) from error
        finally:
            logging.disable(logging.NOTSET)
        return onnx.load(target)
