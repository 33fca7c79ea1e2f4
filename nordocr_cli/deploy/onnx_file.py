"""Checks of an ONNX file that neither ONNX's checker nor TensorRT makes. TensorRT treats an empty
file as a network without inputs, builds NaN weights silently and accepts any opset. `inspect_onnx`
therefore runs after every export and before every engine.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import SIDECAR_SCHEMA, read_onnx
from nordocr_cli.artifact.sealing import ONNX_DIGEST, sealed_json, sealed_onnx
from nordocr_cli.atomic import sha256_of
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.profile import Profile

if TYPE_CHECKING:
    import onnx

INPUT_NAME = "input"
OUTPUT_NAME = "output"
GOLDEN_INDEX = "golden.json"
INPUT_AXES = {0: "batch", 3: "width"}
OUTPUT_AXES = {0: "batch", 1: "seq_len"}
# axes of the output of an autoregressive network, whose number of positions does not depend on the
# width
TOKEN_AXES = {0: "batch"}
# The opsets that the parsers of TensorRT 10, 11 and RTX document. They accept files of other opsets
# unchecked.
_OPSETS = range(17, 24)
# ONNX's convolutions support bf16 from this opset on. The exporter's highest opset is lower, so its
# file is converted.
BF16_OPSET = 22
WeightsPrecision = Literal["fp32", "fp16", "bf16", "int8"]
_DATA_DEPENDENT = frozenset({"Loop", "If", "Scan"})


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX model that passed every check of `inspect_onnx`. `precision` is the format of its
    weights.
    """

    path: Path
    sha256: str
    size_bytes: int
    opset: int
    nodes: int
    precision: WeightsPrecision
    contract: Contract

    def sidecar(self) -> dict[str, Any]:
        """Return the content of the JSON next to the model, for a host that does not parse ONNX
        metadata.
        """
        contract = self.contract
        tokens = self.contract.decoding == "autoregressive"
        if contract.input_type == "uint8":
            pixels = "pixels 0…255"
        else:
            pixels = "normalized pixels"
        value = {
            "schema": SIDECAR_SCHEMA,
            "model": {
                "name": self.path.name,
                "sha256": self.sha256,
                "size_bytes": self.size_bytes,
                "opset": self.opset,
            },
            "input": {
                "name": INPUT_NAME,
                "shape": ["batch", 3, contract.geometry.height, "width"],
                "dtype": contract.input_type,
                "holds": pixels,
            },
            "output": {
                "name": OUTPUT_NAME,
                "shape": [
                    "batch",
                    contract.out_length(0) if tokens else "seq_len",
                    contract.output_channels,
                ],
                "dtype": contract.output_type,
                "holds": contract.output_activation,
            },
            "contract": self.contract.to_json(),
        }
        return sealed_json(value)


def default_onnx_path(profile: Profile) -> Path:
    """Return the default path of `export` and `build-engine`, e.g.
    models/svtrv2-1024/recognize_svtrv2.onnx.
    """
    return (
        Path("models")
        / profile.name
        / f"recognize_{profile.model.name.replace('-', '_')}.onnx"
    )


def golden_path(onnx: Path) -> Path:
    """Return the folder next to an ONNX model that holds its golden lines: model.golden."""
    return onnx.with_suffix(".golden")


def require_golden_name(folder: Path) -> None:
    """Raise UsageError when something other than golden lines has this name."""
    if folder.exists() and not (folder / GOLDEN_INDEX).is_file():
        raise UsageError(
            f"{folder} exists and is not a folder of golden lines; move it away"
        )


def contract_path(onnx: Path) -> Path:
    """Return the JSON next to an ONNX model that repeats its contract: model.contract.json."""
    return onnx.with_suffix(".contract.json")


def fp16_sibling(path: Path) -> Path:
    """Return the path of the half-precision form of an ONNX file: model.fp16.onnx next to
    model.onnx.
    """
    if path.name.endswith(".fp16.onnx"):
        return path
    return path.with_name(f"{path.stem}.fp16.onnx")


def int8_sibling(path: Path) -> Path:
    """Return the path of the int8 form of an ONNX file: model.int8.onnx next to model.onnx."""
    return path.with_name(f"{path.stem}.int8.onnx")


def simplified_sibling(path: Path) -> Path:
    """Return the guide's name for the simplified form of an ONNX file: model_sim.onnx."""
    return path.with_name(f"{path.stem}_sim.onnx")


def file_bytes(model: "onnx.ModelProto", contract: Contract, what: str) -> bytes:
    """Return an ONNX model as one file that holds its contract and the hash of its own bytes.
    Raises ArtifactError when it is larger than 2 GB, the limit of one protobuf file.
    """
    import onnx
    from google.protobuf.message import EncodeError

    properties = {p.key: p.value for p in model.metadata_props} | contract.metadata_props()
    onnx.helper.set_model_props(model, properties | {ONNX_DIGEST: "0" * 64})
    try:
        return sealed_onnx(model.SerializeToString())
    except (EncodeError, ValueError) as error:
        size = model.ByteSize()
        raise ArtifactError(
            f"{what}: {size / 1e9:.1f} GB are too large for one ONNX file; the limit is 2 GB"
            f" ({error})"
        ) from error


def inspect_onnx(path: Path, *, name: str | None = None) -> OnnxFile:
    """Check an exported model and return what it holds. Messages show `name` for `path`. Checked:
    readable and complete, ONNX's own full check, opset, one input [batch, 3, height, width] and one
    output [batch, seq_len, channels] of the contract's types with those axes still symbolic (for
    tokens seq_len is a number), no data-dependent control flow, external data present, finite
    weights, and a contract that agrees. Raises ArtifactError naming the first check that fails.
    """
    what = name or str(path)
    model, contract = _load(path, what)
    opset = next(
        (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        0,
    )
    if opset not in _OPSETS:
        raise ArtifactError(
            f"{what}: opset {opset}; engines are built from opset {_OPSETS[0]} to {_OPSETS[-1]}."
            f" {_AGAIN}"
        )
    _check_tensor(
        model.graph.input[0],
        (None, 3, contract.geometry.height, None),
        INPUT_AXES,
        contract.input_type,
        what,
    )
    by_tokens = contract.decoding == "autoregressive"
    shape = (None, contract.out_length(0) if by_tokens else None, contract.output_channels)
    axes = TOKEN_AXES if by_tokens else OUTPUT_AXES
    _check_tensor(model.graph.output[0], shape, axes, contract.output_type, what)
    found = sorted(_DATA_DEPENDENT & {node.op_type for node in model.graph.node})
    if found:
        raise ArtifactError(
            f"{what}: has {', '.join(found)} nodes, whose trip count was fixed by the example"
            f" image. {_AGAIN}"
        )
    _full_check(model, what)
    _check_activation(model, contract, what)
    precision = weights_precision(model, what)
    if contract.precision != precision:
        raise ArtifactError(
            f"{what}: the precision in its contract is {contract.precision}, its weights are"
            f" {precision}. {_AGAIN}"
        )
    return OnnxFile(
        path,
        sha256_of(path),
        path.stat().st_size,
        opset,
        len(model.graph.node),
        precision,
        contract,
    )


_AGAIN = "Export it again with `nordocr export`"


def _load(path: Path, what: str) -> "tuple[onnx.ModelProto, Contract]":
    """Read the file with its external data."""
    model, contract = read_onnx(path, what)
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [
        tensor.name for tensor in model.graph.input if tensor.name not in initializers
    ]
    outputs = [tensor.name for tensor in model.graph.output]
    if inputs != [INPUT_NAME] or outputs != [OUTPUT_NAME]:
        raise ArtifactError(
            f"{what}: inputs {inputs} and outputs {outputs}; they must be [{INPUT_NAME!r}] and"
            f" [{OUTPUT_NAME!r}]. {_AGAIN}"
        )
    load_external_data(model, path, what)
    return model, contract


def load_external_data(model: "onnx.ModelProto", path: Path, what: str) -> None:
    """Put the weights that an ONNX model keeps in files next to `path` into the model. Raises
    ArtifactError when they are missing, cut, or outside of its folder.
    """
    import onnx

    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ArtifactError(
            f"{what}: its external data is missing or cut ({error}); put it back next to the file."
            f" {_AGAIN}"
        ) from error


# Operators that change the shape or type of a tensor, but none of its values.
_SHAPING = frozenset(
    {
        "Transpose",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Identity",
        "Cast",
        "Flatten",
        "Dropout",
    }
)


def softmaxes_before_output(model: "onnx.ModelProto") -> int:
    """Return the number of consecutive softmaxes before the output, with only changes of shape
    between them.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    name = model.graph.output[0].name
    count = 0
    while (node := producers.get(name)) is not None:
        if node.op_type == "Softmax":
            count += 1
        elif node.op_type not in _SHAPING:
            break
        name = node.input[0]
    return count


def _check_activation(model: "onnx.ModelProto", contract: Contract, what: str) -> None:
    """Reject a second softmax, and one that the contract does not mention."""
    count = softmaxes_before_output(model)
    if count > 1:
        raise ArtifactError(
            f"{what}: its output goes through {count} softmaxes in a row, so no confidence can"
            " exceed e / (e + classes - 1); remove all but one, or export the network without any"
        )
    if count and contract.output_activation == "logits":
        raise ArtifactError(
            f"{what}: output_activation is logits in its contract, but its graph ends in a"
            f" Softmax; a host would apply a second one. Export logits, or attach the contract"
            f" again with"
            " --output-activation softmax"
        )


def _full_check(model: "onnx.ModelProto", what: str) -> None:
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,
    ) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ArtifactError(f"{what} fails ONNX's check: {first_line}. {_AGAIN}") from error


def weights_precision(model: "onnx.ModelProto", what: str) -> WeightsPrecision:
    """Return the format of most weights. It is int8 as soon as some weights are, since convolutions
    may stay fp32 in such a file.

    Raises ArtifactError naming a tensor that holds NaN or infinity.
    """
    import numpy as np
    import onnx

    kinds: dict[int, WeightsPrecision] = {
        onnx.TensorProto.FLOAT: "fp32",
        onnx.TensorProto.FLOAT16: "fp16",
        onnx.TensorProto.BFLOAT16: "bf16",
        onnx.TensorProto.INT8: "int8",
    }
    counts = dict.fromkeys(kinds, 0)
    constants = [
        a.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for a in node.attribute
        if a.name == "value"
    ]
    for tensor in [*model.graph.initializer, *constants]:
        if tensor.data_type in counts:
            values = onnx.numpy_helper.to_array(tensor)
            if not np.isfinite(values).all():
                if tensor.data_type == onnx.TensorProto.FLOAT16:
                    half = " or too large for fp16"
                else:
                    half = ""
                raise ArtifactError(
                    f"{what}: weight {tensor.name!r} is NaN, infinite{half}; did training diverge?"
                )
            counts[tensor.data_type] += values.size
    if counts[onnx.TensorProto.INT8]:
        return "int8"
    return kinds[max(counts, key=lambda kind: counts[kind])]


def _check_tensor(
    tensor: "onnx.ValueInfoProto",
    shape: tuple[int | None, ...],
    axes: dict[int, str],
    dtype: str,
    what: str,
) -> None:
    """Compare the type, sizes and axis names of a graph input or output. None in `shape` is an axis
    named in `axes`.
    """
    import onnx

    dimensions = tensor.type.tensor_type.shape.dim
    found = tuple(
        d.dim_param or (d.dim_value if d.HasField("dim_value") else "?") for d in dimensions
    )
    expected = tuple(axes.get(index, size) for index, size in enumerate(shape))
    if found != expected:
        shown = [" x ".join(map(str, side)) for side in (found, expected)]
        raise ArtifactError(
            f"{what}: {tensor.name} is [{shown[0]}]; it must be [{shown[1]}]. {_AGAIN}"
        )
    kind = onnx.TensorProto.DataType.Name(tensor.type.tensor_type.elem_type)
    if kind != {"float32": "FLOAT", "float16": "FLOAT16", "uint8": "UINT8"}[dtype]:
        raise ArtifactError(
            f"{what}: {tensor.name} is {kind}, in its contract {dtype}. {_AGAIN}"
        )
