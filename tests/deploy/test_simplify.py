import onnx
import onnxsim
import pytest

from nordocr_cli.deploy.simplify import simplify


@pytest.fixture
def model(tiny_onnx):
    return onnx.load(tiny_onnx)


def test_a_failure_keeps_the_graph(model, monkeypatch):
    def fails(_):
        raise RuntimeError("cannot fold\nmore")

    monkeypatch.setattr(onnxsim, "simplify", fails)
    result = simplify(model)
    assert (result.kept, result.reason) == (False, "onnxsim failed: cannot fold")
    assert result.model is model


def test_a_frozen_axis_keeps_the_graph(model, monkeypatch):
    def freezes(given):
        frozen = onnx.ModelProto.FromString(given.SerializeToString())
        frozen.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 1024
        del frozen.graph.node[-1]
        return frozen, True

    monkeypatch.setattr(onnxsim, "simplify", freezes)
    result = simplify(model)
    assert not result.kept
    assert "changed the axes" in result.reason


def test_more_nodes_keeps_the_graph(model, monkeypatch):
    def grows(given):
        grown = onnx.ModelProto.FromString(given.SerializeToString())
        grown.graph.node.append(onnx.helper.make_node("Identity", ["output"], ["again"]))
        return grown, True

    monkeypatch.setattr(onnxsim, "simplify", grows)
    result = simplify(model)
    assert not result.kept
    assert result.nodes_after == result.nodes_before + 1
