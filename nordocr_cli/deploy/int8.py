"""int8 for ONNX Runtime: products with constant matrices, and convolutions, in 8 bits; everything
between in float32. The input range of a matrix product is measured while it runs, over the complete
input tensor. A file therefore gives a line the same text only when it runs line by line, as in
RunnerRecognizer. The ranges of convolutions come from calibration lines; without such lines
convolutions stay in float32. nordocr-default, one Zen 5 core, 112 lines of dev, each alone, in
turns with its fp32 file (the texts are of all 448; 390 exact in fp32):

| form | times as fast | other texts | exact |
|---|---|---|---|
| matrices | 1.35 | 1 | 391 |
| and convolutions, with their groups as they are | 1.5 | 10 | 392 |
| and convolutions, their groups written out | 1.6 | 8 | 394 |
| and attention and GELU as ONNX Runtime's own operators | 1.8 | 7 | 393 |

Calibrated ranges of matrix products changed 10 of 152 texts of an earlier network, measured ranges
4, and calibrated ones were no faster.

Weights have 7 bits: with 8, the sums of pairs overflow 16 bits on processors without VNNI.
"""

import logging
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.data.resize import network_input, pad_batch, resize_line
from nordocr_cli.data.text_band import tightened
from nordocr_cli.deploy.golden import golden_crops
from nordocr_cli.deploy.int8_convolutions import quantize_convolutions
from nordocr_cli.errors import ArtifactError

if TYPE_CHECKING:
    import onnx

_CALIBRATION_LINES = 64


def calibration_inputs(source: Path, contract: Contract) -> list[NDArray[Any]]:
    """Read lines of a store (spread over its widths) or of a folder of images (spread over its
    names) as inputs of the network, (1, 3, H, W) each. Raises what golden_crops raises.
    """
    geometry = contract.geometry
    crops = golden_crops(_CALIBRATION_LINES, source, option="--calibration")
    tight = (tightened(crop, geometry) for _, crop in crops)
    images = (pad_batch([resize_line(crop, geometry)], geometry)[0] for crop in tight)
    return [network_input(image, geometry, contract.input_type) for image in images]


def quantize(
    model: "onnx.ModelProto", lines: Sequence[NDArray[Any]], what: str
) -> "onnx.ModelProto":
    """Return the int8 form of the fp32 graph `model`, weights symmetric and per output channel.
    `lines`, inputs of the network (1, 3, H, W), determine the ranges of the convolutions, which
    stay fp32 without them. `what` names the file in messages.

    Raises ArtifactError when ONNX Runtime cannot quantize it.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if lines:
        quantize_convolutions(model, lines)
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        _random_file_names(),
    ):
        source = Path(folder) / "fp32.onnx"
        target = Path(folder) / "int8.onnx"
        onnx.save(model, source)
        warnings.simplefilter("ignore")
        # It recommends a preparation that changes nothing here.
        logging.disable(logging.WARNING)
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
                f"ONNX Runtime cannot make {what}: {str(error).splitlines()[0]}"
            ) from error
        finally:
            logging.disable(logging.NOTSET)
        return onnx.load(target)


@contextmanager
def _random_file_names() -> Iterator[None]:
    """In this block onnx names its temporary files at random. Its own names hold the address of the
    network card, which libuuid asks for through an internet socket.
    """
    from onnx import external_data_helper

    names = vars(external_data_helper)
    own = names["uuid"]
    names["uuid"] = SimpleNamespace(uuid1=uuid.uuid4)
    try:
        yield
    finally:
        names["uuid"] = own
