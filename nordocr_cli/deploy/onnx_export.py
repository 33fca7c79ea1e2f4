"""Network → ONNX, through torch's TorchScript exporter.

torch's newer exporter (dynamo) answers `opset_version=17` with opset 18, names the output axis by an expression, moves the
weights to a second file and prints to stdout; the older one gives what is asked, in one file. Whatever a trace can get wrong -
a size frozen to the example's - is caught afterwards by `deploy.onnx_file` and `deploy.parity`.
"""

import copy
import io
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from nordocr_cli.artifact import Contract
from nordocr_cli.deploy.onnx_file import INPUT_AXES, INPUT_NAME, OUTPUT_AXES, OUTPUT_NAME
from nordocr_cli.errors import ArtifactError
from nordocr_cli.models.lora import merge_lora

if TYPE_CHECKING:
    import onnx

# Batch and width of the traced example: an axis of size 1 would be taken for one to broadcast.
_EXAMPLE_BATCH, _EXAMPLE_WIDTH_PX = 2, 256


class Deployed(nn.Module):
    """A recognizer as it is deployed: images in, one tensor out, no widths, so padding is seen as pixels.

    With `half`, weights and arithmetic are fp16 between a float32 input and a float32 output: TensorRT-RTX and TensorRT 11
    take precision from the ONNX alone. Softmax, where asked for, is taken in float32.
    """

    def __init__(self, network: nn.Module, *, half: bool, softmax: bool) -> None:
        super().__init__()
        network = merge_lora(copy.deepcopy(network).eval())
        self.network = network.half() if half else network.float()
        self.half_precision, self.softmax = half, softmax

    def forward(self, images: Tensor) -> Tensor:  # (N, 3, height, W)
        """Return logits or probabilities, float32 (N, T, C)."""
        logits = self.network(images.half() if self.half_precision else images, None).float()  # (N, T, C)
        return logits.softmax(dim=-1) if self.softmax else logits


def to_onnx(network: nn.Module, contract: Contract, opset: int) -> "onnx.ModelProto":
    """Export `network` as `contract` says (precision, activation, height), with the contract in the file's metadata.

    Raises ArtifactError when the network cannot be exported.
    """
    import onnx

    deployed = Deployed(network, half=contract.precision == "fp16", softmax=contract.output_activation == "softmax")
    example = torch.zeros(_EXAMPLE_BATCH, 3, contract.geometry.height, _EXAMPLE_WIDTH_PX)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # That this exporter is deprecated is known; what a trace may freeze is what the parity check looks for.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", TracerWarning)
        warnings.filterwarnings("ignore", "Exporting aten::|Constant folding", UserWarning)
        try:
            torch.onnx.export(
                deployed,
                (example,),
                buffer,  # type: ignore[arg-type] # this exporter writes into a buffer too
                dynamo=False,
                opset_version=opset,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_axes={INPUT_NAME: INPUT_AXES, OUTPUT_NAME: OUTPUT_AXES},
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ArtifactError(f"cannot export {contract.model.get('name')} to opset {opset}: {reason}") from error
    model = onnx.load_model_from_string(buffer.getvalue())
    return with_contract(model, contract)


def with_contract(model: "onnx.ModelProto", contract: Contract) -> "onnx.ModelProto":
    """Put the contract into the file's metadata, in place of any that it has."""
    import onnx

    onnx.helper.set_model_props(model, {**{p.key: p.value for p in model.metadata_props}, **contract.metadata_props()})
    return model


def reference(network: nn.Module, contract: Contract) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return what the exported file must agree with: the network in fp32, (N, 3, height, W) → (N, T, C)."""
    deployed = Deployed(network, half=False, softmax=contract.output_activation == "softmax")

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            output: NDArray[np.float32] = deployed(torch.from_numpy(images)).numpy()
        return output

    return run
