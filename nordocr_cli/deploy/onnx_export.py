"""Network → ONNX, through torch's TorchScript exporter.

torch's newer exporter (dynamo) writes opset 18 for `opset_version=17`, names the output axis by an
expression, moves the weights to a second file and prints to stdout. The older one writes the
requested opset, in one file. The typical fault of a trace, a size frozen to that of the example, is
detected afterwards by `deploy.onnx_file` and `deploy.parity`.
"""

import copy
import io
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.deploy.onnx_file import (
    BF16_OPSET,
    INPUT_AXES,
    INPUT_NAME,
    OUTPUT_AXES,
    OUTPUT_NAME,
    TOKEN_AXES,
)
from nordocr_cli.deploy.parity import RunNetwork
from nordocr_cli.errors import ArtifactError
from nordocr_cli.geometry import NORMALIZATIONS
from nordocr_cli.models.kernels.ort_operators import (
    DOMAIN,
    OPERATOR_VERSION,
    use_ort_operators,
)
from nordocr_cli.models.lora import merge_lora

if TYPE_CHECKING:
    import onnx

# Batch and width of the traced example. An axis of size 1 would be treated as one to broadcast.
_EXAMPLE_BATCH = 2
_EXAMPLE_WIDTH_PX = 256


_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Deployed(nn.Module):
    """A recognizer as it is deployed: images in, one tensor out. It gets no widths, so padding is
    seen as pixels.

    Weights and arithmetic have the contract's precision between an input and an output of the
    contract's types: TensorRT-RTX and TensorRT 11 take precision from the ONNX alone. Pixels are
    normalized, and probabilities computed, in float32. Parts that a network itself keeps in float32
    (the sums in its norms, Mamba's scan) stay in float32. Parts that are separate only in training
    are fused: LoRA here, BatchNorm into the convolution before it by the exporter.
    """

    def __init__(
        self, network: nn.Module, contract: Contract, for_ort: bool = False
    ) -> None:
        super().__init__()
        self.dtype = _DTYPES[contract.precision]
        self.network = merge_lora(copy.deepcopy(network).eval()).to(self.dtype)
        if for_ort:
            use_ort_operators(self.network)
        self.contract = contract
        mean, scale = NORMALIZATIONS[contract.geometry.normalization]
        self.mean = torch.tensor(mean).reshape(1, 3, 1, 1)
        self.scale = torch.tensor(scale).reshape(1, 3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:  # (N, 3, height, W)
        """Return logits or probabilities (N, T, C), or class and confidence (N, T, 2), of the
        contract's output type.
        """
        if self.contract.input_type == "uint8":
            images = (images.float() - self.mean) / self.scale
        logits = self.network(images.to(self.dtype), None).float()  # (N, T, C)
        match self.contract.output_activation:
            case "logits":
                output = logits
            case "softmax":
                output = self._probabilities(logits)
            case "argmax+confidence":
                confidence = self._probabilities(logits).max(dim=-1).values  # (N, T)
                # (N, T, 2)
                output = torch.stack([logits.argmax(dim=-1).float(), confidence], dim=-1)
        if self.contract.output_type == "float16":
            return output.half()
        return output

    def _probabilities(self, logits: Tensor) -> Tensor:
        temperature = self.contract.temperature
        return (logits if temperature == 1 else logits / temperature).softmax(dim=-1)


def to_onnx(
    network: nn.Module, contract: Contract, opset: int, for_ort: bool = False
) -> "onnx.ModelProto":
    """Export `network` as `contract` defines (precision, types, activation, height); with `for_ort`
    it uses operators that only ONNX Runtime has. A bf16 file always has BF16_OPSET, not `opset`.
    Raises ArtifactError when the network cannot be exported.
    """
    import onnx

    example = torch.zeros(
        (_EXAMPLE_BATCH, 3, contract.geometry.height, _EXAMPLE_WIDTH_PX),
        dtype=getattr(torch, contract.input_type),
    )
    if contract.decoding == "autoregressive":
        output_axes = TOKEN_AXES
    else:
        output_axes = OUTPUT_AXES
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The deprecation of this exporter is known, and the parity check looks for everything that
        # a trace may freeze.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", TracerWarning)
        warnings.filterwarnings("ignore", "Exporting aten::|Constant folding", UserWarning)
        try:
            torch.onnx.export(
                Deployed(network, contract, for_ort),
                (example,),
                buffer,  # type: ignore[arg-type] # this exporter writes into a buffer too
                dynamo=False,
                opset_version=opset,
                custom_opsets={DOMAIN: OPERATOR_VERSION} if for_ort else None,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_axes={INPUT_NAME: INPUT_AXES, OUTPUT_NAME: output_axes},
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ArtifactError(
                f"cannot export {contract.model.get('name')} to opset {opset}: {reason}"
            ) from error
    model = onnx.load_model_from_string(buffer.getvalue())
    if contract.decoding == "autoregressive":  # the exporter does not always infer it
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = contract.out_length(
            0
        )
    if contract.precision == "bf16":
        model = onnx.version_converter.convert_version(model, BF16_OPSET)
    return model


def in_torch(network: nn.Module, contract: Contract) -> RunNetwork:
    """Return a function that computes in torch the output of a file with this contract: images
    uint8 (N, 3, height, W) → (N, T, C).
    """
    deployed = Deployed(
        network, replace(contract, input_type="uint8", output_type="float32")
    )

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            output: NDArray[np.float32] = deployed(torch.from_numpy(images)).numpy()
        return output

    return run


def reference(network: nn.Module, contract: Contract) -> RunNetwork:
    """Return the function with which every exported file must agree: the network's logits
    in fp32.
    """
    return in_torch(
        network, replace(contract, precision="fp32", output_activation="logits")
    )
