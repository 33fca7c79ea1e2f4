"""int8 files: ONNX Runtime's own operators compute what the network does, and 8 bits come near
it.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from nordocr_cli.deploy.int8 import quantize
from nordocr_cli.deploy.int8_convolutions import _affine, quantize_convolutions
from nordocr_cli.deploy.onnx_export import to_onnx
from nordocr_cli.errors import ArtifactError
from nordocr_cli.models.weights import load_model

rng = np.random.default_rng(3)


def run(model, value):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: value})[0]


def operators(model):
    return [node.op_type for node in model.graph.node]


@pytest.fixture(scope="module")
def graph(tiny_checkpoint):
    network, contract = load_model(tiny_checkpoint)
    return to_onnx(network, contract, 17, for_ort=True)


@pytest.fixture(scope="module")
def lines():
    return [rng.uniform(-1, 1, (1, 3, 32, width)).astype(np.float32) for width in (64, 132)]


def test_ort_operators_compute_what_the_network_does(tiny_checkpoint, graph):
    network, contract = load_model(tiny_checkpoint)
    plain = to_onnx(network, contract, 17)
    assert {"MultiHeadAttention", "Gelu"} & set(operators(plain)) == set()
    assert {"MultiHeadAttention", "Gelu"} <= set(operators(graph))
    for batch, width in ((1, 32), (2, 132)):
        value = rng.uniform(-1, 1, (batch, 3, 32, width)).astype(np.float32)
        assert np.allclose(run(plain, value), run(graph, value), atol=1e-5)
    # the network itself is left alone
    assert type(network.stage3[0].attn).__name__ == "SelfAttention"


def test_a_network_in_int8_is_near_the_network(graph, lines):
    expected = [run(graph, line) for line in lines]
    for calibration in ([], lines):
        model = onnx.ModelProto()
        model.CopyFrom(graph)
        quantized = quantize(model, calibration, "m.int8.onnx")
        got = [run(quantized, line) for line in lines]
        error = max(
            np.abs(a - b).max() / np.abs(b).max()
            for a, b in zip(got, expected, strict=True)
        )
        assert 0 < error < 0.1


def convolution(channels, groups, name="c"):
    """A graph of one 3 x 3 convolution with bias, stride 2 over the height."""
    weight = rng.normal(0, 1, (channels, channels // groups, 3, 3)).astype(np.float32)
    bias = rng.normal(0, 1, channels).astype(np.float32)
    node = helper.make_node(
        "Conv",
        ["x", "w", "b"],
        ["y"],
        name,
        group=groups,
        pads=[1, 1, 1, 1],
        strides=[2, 1],
    )
    x, y = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, channels, None, None])
        for n in "xy"
    )
    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph([node], "g", [x], [y], constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


@pytest.mark.parametrize(
    ("channels", "groups", "convolutions"), [(8, 1, 1), (24, 3, 3), (128, 16, 1)]
)
def test_a_convolution_in_int8_is_near_the_convolution(channels, groups, convolutions):
    model = convolution(channels, groups)
    value = rng.normal(1, 2, (1, channels, 8, 12)).astype(np.float32)
    expected = run(model, value)
    assert quantize_convolutions(model, [value]) == 1
    assert (
        operators(model).count("QLinearConv") == convolutions
    )  # many groups stay together
    assert {tensor.name for tensor in model.graph.initializer} <= {
        name for node in model.graph.node for name in node.input
    }
    onnx.checker.check_model(model, full_check=True)
    got = run(model, value)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 0.03 * np.abs(expected).max()


def test_few_channels_stay_fp32():
    model = convolution(16, 4)
    assert quantize_convolutions(model, [np.zeros((1, 16, 8, 8), np.float32)]) == 0
    assert operators(model) == ["Conv"]


def test_nothing_but_zeros_makes_a_file_that_runs():
    model = convolution(8, 1)
    quantize_convolutions(model, [np.zeros((1, 8, 8, 8), np.float32)])
    assert np.isfinite(run(model, np.ones((1, 8, 8, 8), np.float32))).all()


def test_lines_that_do_not_fit_are_named():
    with pytest.raises(ArtifactError, match="ONNX Runtime cannot run the network in fp32"):
        quantize_convolutions(convolution(8, 1), [np.zeros((1, 5, 8, 8), np.float32)])


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e4, 0), st.floats(0, 1e4))
def test_a_range_holds_zero_and_its_ends(minimum, maximum):
    scale, zero = _affine((minimum, maximum))
    levels = np.array([minimum, maximum]) / scale + zero
    half_a_level = 0.5 + 1e-6  # the zero point is rounded; 1e-6 is for the division
    assert levels.min() >= -half_a_level
    assert levels.max() <= 255 + half_a_level
