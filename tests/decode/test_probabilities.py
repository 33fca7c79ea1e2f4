import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nordocr_cli.decode.probabilities import (
    are_probabilities,
    is_second_softmax,
    second_softmax_ceiling,
    second_softmax_note,
)
from nordocr_cli.deploy.onnx_file import softmaxes_before_output


def softmax(values):
    exponentials = np.exp(values)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_probabilities_are_told_from_logits():
    logits = np.random.default_rng(1).normal(0, 5, (30, 126))
    assert not are_probabilities(logits)
    assert are_probabilities(softmax(logits))
    assert are_probabilities(softmax(logits).astype(np.float16))
    assert not are_probabilities(np.log(softmax(logits)))
    assert not are_probabilities(np.eye(30, 126))  # examples of logits
    assert not are_probabilities(np.zeros((0, 126)))


def test_a_second_softmax_is_seen_in_the_output():
    logits = np.random.default_rng(1).normal(0, 5, (30, 126))
    second = softmax(softmax(logits))
    assert is_second_softmax(second)
    assert is_second_softmax(second.astype(np.float16))
    assert is_second_softmax(softmax(second))  # a third one
    assert not is_second_softmax(softmax(logits))
    assert not is_second_softmax(softmax(logits / 50))  # a network that is hardly trained
    assert not is_second_softmax(np.full((30, 126), 1 / 126))
    assert not is_second_softmax(logits)


def test_the_ceiling_is_that_of_two_softmaxes():
    logits = np.zeros((1, 126))
    logits[0, 3] = 50
    assert softmax(softmax(logits)).max() == pytest.approx(second_softmax_ceiling(126))
    assert second_softmax_ceiling(126) == pytest.approx(0.0213, abs=1e-4)


def test_confidences_that_cannot_exceed_the_ceiling_are_said_to_be_one():
    assert "no confidence exceeds 0.0213" in second_softmax_note([0.0213] * 30)
    assert "no confidence exceeds 0.0280" in second_softmax_note([0.028, 0.02, 0.01])
    assert second_softmax_note([0.02] * 2) == ""
    assert second_softmax_note([0.01] * 9 + [0.04]) == ""
    assert second_softmax_note([0.02] * 30 + [0.5]) == ""
    assert second_softmax_note([None] * 30) == ""


@pytest.mark.parametrize(
    ("operators", "count"),
    [
        (["MatMul"], 0),
        (["MatMul", "Softmax"], 1),
        (["MatMul", "Softmax", "Identity"], 1),
        (["Softmax", "Relu", "Softmax"], 1),
        (["MatMul", "Softmax", "Transpose", "Softmax", "Cast"], 2),
    ],
)
def test_softmaxes_of_a_graph_are_counted(operators, count):
    nodes, name = [], "input"
    for index, operator in enumerate(operators):
        inputs = [name, "weight"] if operator == "MatMul" else [name]
        output = "output" if index == len(operators) - 1 else f"t{index}"
        attributes = {"to": TensorProto.FLOAT} if operator == "Cast" else {}
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        name = output
    value = [
        helper.make_tensor_value_info(each, TensorProto.FLOAT, None)
        for each in ("input", "output")
    ]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:])
    assert softmaxes_before_output(onnx.helper.make_model(graph)) == count
