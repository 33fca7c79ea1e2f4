"""Convolutions in 8 bits, for ONNX Runtime: constant weights, ranges measured on lines beforehand.

ONNX Runtime runs a dense QLinearConv directly on the image, a grouped one through a copy of every
window. On one Zen 5 core, 48 channels in two groups, 5 x 5, take 300 us grouped and 166 us as two
dense convolutions. Groups are therefore written as separate dense convolutions.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.errors import ArtifactError

if TYPE_CHECKING:
    import onnx

_WEIGHT_STEPS = (
    64  # 7 bits: with 8, sums of pairs overflow 16 bits on processors without VNNI
)
_LEVELS = 255  # of an activation, uint8
_MIN_CHANNELS = 8  # in a window of a convolution
_MIN_RANGE = 1e-6  # a tensor with a smaller range holds zeros
# Groups up to this number are separated. ONNX Runtime has a special kernel for depthwise
# convolutions.
_MAX_GROUPS = 8

Range = tuple[float, float]


def quantize_convolutions(model: "onnx.ModelProto", lines: Iterable[NDArray[Any]]) -> int:
    """Convert the convolutions of `model` to int8, except those with few input channels, which are
    as fast in fp32. `lines` are inputs of the network, (1, 3, H, W) each. They determine the ranges
    of the inputs and outputs of convolutions. Return the number of changed convolutions. Raises
    ArtifactError when the graph cannot be run.
    """
    from onnx import numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    # the exporter keeps one of several equal constants and lets the others refer to it
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    chosen = [
        node
        for node in graph.node
        if node.op_type == "Conv"
        and all(name in constants for name in node.input[1:])
        and constants[node.input[1]].dims[1] >= _MIN_CHANNELS
    ]
    if not chosen:
        return 0
    ranges = _measure(
        model, {name for node in chosen for name in (node.input[0], node.output[0])}, lines
    )
    for node in chosen:
        weight, *bias = (numpy_helper.to_array(constants[name]) for name in node.input[1:])
        added = list(
            _quantized(
                node,
                weight,
                bias[0] if bias else np.zeros(len(weight), np.float32),
                ranges,
                graph.initializer,
            )
        )
        at = list(graph.node).index(node)
        graph.node.remove(node)
        for offset, new in enumerate(added):
            graph.node.insert(at + offset, new)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    return len(chosen)


def _measure(
    model: "onnx.ModelProto", names: set[str], lines: Iterable[NDArray[Any]]
) -> dict[str, Range]:
    """Return the minimum and maximum value of each named tensor over the lines. The range always
    includes 0, with which a convolution pads.
    """
    import onnx
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in sorted(names)
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    minimum = dict.fromkeys(names, 0.0)
    maximum = dict.fromkeys(names, 0.0)
    try:
        session = onnxruntime.InferenceSession(
            watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for line in lines:
            for name, value in zip(
                sorted(names),
                session.run(sorted(names), {model.graph.input[0].name: line}),
                strict=True,
            ):
                minimum[name], maximum[name] = (
                    min(minimum[name], float(value.min())),
                    max(maximum[name], float(value.max())),
                )
    except (
        state.Fail,
        state.RuntimeException,
        state.InvalidArgument,
        state.InvalidGraph,
        state.NotImplemented,
    ) as error:
        raise ArtifactError(
            f"int8: ONNX Runtime cannot run the network in fp32: {str(error).splitlines()[0]}"
        ) from error
    return {name: (minimum[name], maximum[name]) for name in names}


def _quantized(
    node: "onnx.NodeProto",
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    ranges: dict[str, Range],
    constants: Any,
) -> "Iterator[onnx.NodeProto]":
    """Yield the nodes that replace a convolution (O, I / groups, kh, kw). Their constants are added
    to `constants`.
    """
    from onnx import helper, numpy_helper

    def constant(name: str, value: NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(value, f"{node.name}/{name}"))
        return constants[-1].name

    options = {
        attribute.name: helper.get_attribute_value(attribute)
        for attribute in node.attribute
    }
    groups = options.get("group", 1)
    parts = groups if groups <= _MAX_GROUPS else 1
    in_scale, in_zero = _affine(ranges[node.input[0]])
    out_scale, out_zero = _affine(ranges[node.output[0]])
    before = constant("in_scale", in_scale), constant("in_zero", in_zero)
    after = constant("out_scale", out_scale), constant("out_zero", out_zero)
    scale, small, rounded_bias = _rounded(weight, bias, in_scale)

    yield helper.make_node("QuantizeLinear", [node.input[0], *before], [f"{node.name}/in"])
    pieces = [f"{node.name}/in"]
    if parts > 1:
        pieces = [f"{node.name}/in{part}" for part in range(parts)]
        yield helper.make_node("Split", [f"{node.name}/in"], pieces, axis=1)
    options["group"] = groups // parts
    made = []
    split = [np.split(values, parts) for values in (small, scale, rounded_bias)]
    for part, (piece, w, s, b) in enumerate(zip(pieces, *split, strict=True)):
        values = (
            ("weight", w),
            ("scale", s.astype(np.float32)),
            ("zero", np.zeros(len(s), np.int8)),
            ("bias", b),
        )
        names = {name: constant(f"{name}{part}", value) for name, value in values}
        made.append(f"{node.name}/out{part}")
        product = [names["weight"], names["scale"], names["zero"], *after, names["bias"]]
        yield helper.make_node(
            "QLinearConv",
            [piece, *before, *product],
            [made[-1]],
            f"{node.name}/{part}",
            **options,
        )
    if parts > 1:
        yield helper.make_node("Concat", made, [f"{node.name}/out"], axis=1)
    yield helper.make_node(
        "DequantizeLinear",
        [f"{node.name}/out" if parts > 1 else made[0], *after],
        [node.output[0]],
    )


def _rounded(
    weight: NDArray[np.float32], bias: NDArray[np.float32], in_scale: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.int32]]:
    """Return a scale for each output channel (O,), and weight and bias in steps of it."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    scale = np.maximum(largest, 1e-12) / _WEIGHT_STEPS
    steps = np.rint(weight / scale[:, None, None, None]).astype(np.int8)
    bias_steps = np.rint(bias / (in_scale * scale))
    # In float32 the upper bound becomes 2**31 - 128, the largest that int32 holds.
    rounded_bias = np.clip(bias_steps, -(2**31) + 1, 2**31 - 129).astype(np.int32)
    return scale, steps, rounded_bias


def _affine(of: Range) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return scale and zero point of uint8 for a range that includes 0."""
    if of[1] - of[0] > _MIN_RANGE:
        scale = (of[1] - of[0]) / _LEVELS
    else:
        scale = 1.0
    return np.array(scale, np.float32), np.array(round(-of[0] / scale), np.uint8)
