"""Running onnxsim over a graph, and keeping its result only when it is an improvement."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Simplified:
    """A graph after onnxsim. `kept` is False when the original graph is the better one, and
    `reason` says why.
    """

    model: "onnx.ModelProto"
    nodes_before: int
    nodes_after: int
    kept: bool
    reason: str = ""


def simplify(model: "onnx.ModelProto") -> Simplified:
    """Simplify `model`, or return the original when onnxsim fails, freezes an axis, or does not
    reduce the number of nodes. The result's output is not checked here: the caller runs the same
    checks and parity over it as over any export.
    """
    import onnxsim

    before = len(model.graph.node)
    try:
        simplified, _ = onnxsim.simplify(model)
    except Exception as error:  # noqa: BLE001 - onnxsim raises whatever its C++ side throws; the caller shows the reason
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Simplified(model, before, before, False, f"onnxsim failed: {reason}")
    # onnxsim writes wrong shapes between some nodes; code that needs them infers them
    del simplified.graph.value_info[:]
    after = len(simplified.graph.node)
    if _axes(simplified) != _axes(model):
        return Simplified(
            model,
            before,
            after,
            False,
            f"onnxsim changed the axes {_axes(model)} to {_axes(simplified)}",
        )
    if after >= before:
        return Simplified(
            model, before, after, False, f"onnxsim leaves {after} nodes of {before}"
        )
    return Simplified(simplified, before, after, True)


def _axes(model: "onnx.ModelProto") -> list[list[str | int]]:
    tensors = [*model.graph.input, *model.graph.output]
    return [
        [d.dim_param or d.dim_value for d in tensor.type.tensor_type.shape.dim]
        for tensor in tensors
    ]
