"""Hostile networks in ONNX Runtime: a limit for memory, and for the time of a call."""

import resource
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from nordocr_cli.artifact.probing import onnx_metadata, read_contract
from nordocr_cli.deploy.onnx_bounds import CallWatch, memory_limit
from nordocr_cli.deploy.onnx_file import file_bytes
from nordocr_cli.errors import ArtifactError
from nordocr_cli.runtime.backends.onnxruntime import runner as runners
from nordocr_cli.runtime.runners import open_runner

LINES = np.full((1, 3, 32, 64), 255, np.uint8), np.array([64])


def constant(name, value, kind=np.int64):
    return numpy_helper.from_array(np.array(value, kind), name)


def zeros_of(shape, name):
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    return helper.make_node("ConstantOfShape", [shape], [name], value=zero)


@pytest.fixture
def hostile(tiny_onnx, unsealed, tmp_path):
    """A function that adds operators to a model, whose scalar `extra` is added to the output, and
    writes it with a contract and a right digest.
    """

    def write(nodes, initializers):
        model = unsealed(tiny_onnx)
        for node in model.graph.node:
            node.output[:] = ["own" if name == "output" else name for name in node.output]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(initializers)
        model.graph.node.append(helper.make_node("Add", ["own", "extra"], ["output"]))
        path = tmp_path / "hostile.onnx"
        path.write_bytes(file_bytes(model, read_contract(tiny_onnx), path.name))
        return path

    return write


@pytest.mark.parametrize("is_constant", [True, False])
def test_a_network_that_requests_all_memory_is_refused(hostile, is_constant):
    count = 2 * memory_limit() // 4
    nodes = [
        helper.make_node("Shape", ["input"], ["batch"], start=0, end=1),
        helper.make_node("Mul", ["batch", "count"], ["number"]),
        zeros_of("count" if is_constant else "number", "zeros"),
        helper.make_node("ReduceSum", ["zeros"], ["extra"], keepdims=0),
    ]
    runner = open_runner(hostile(nodes, [constant("count", [count])]), threads=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtifactError, match=r"need more than .* GB; give smaller batches"):
        runner.run(*LINES)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10


def test_a_network_that_computes_for_years_is_ended(hostile, monkeypatch):
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["goes_on_again"]),
            helper.make_node("Add", ["value", "value"], ["sum"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("goes_on_again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
        ],
    )
    nodes = [helper.make_node("Loop", ["trips", "", "start"], ["extra"], body=body)]
    initializers = [constant("trips", 2**60), constant("start", 0, np.float32)]
    monkeypatch.setattr(runners, "WATCH", CallWatch(limit_s=0.5, looks_every_s=0.1))
    runner = open_runner(hostile(nodes, initializers), threads=1)
    with pytest.raises(ArtifactError, match="1x3x32x64 .it takes longer than 0.5 s"):
        runner.run(*LINES)


def test_nothing_is_computed_when_a_network_is_opened(hostile):
    nodes = [zeros_of("side", "product_0")]
    nodes += [
        helper.make_node("MatMul", [f"product_{n}", "product_0"], [f"product_{n + 1}"])
        for n in range(100)
    ]
    nodes.append(helper.make_node("ReduceSum", ["product_100"], ["extra"], keepdims=0))
    path = hostile(nodes, [constant("side", [6000, 6000])])
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_CPU, (60, 60))\n"
        "from nordocr_cli.runtime.runners import open_runner; from pathlib import Path\n"
        "open_runner(Path(sys.argv[1]), threads=1)"
    )
    # The products would take many minutes.
    subprocess.run([sys.executable, "-c", code, path], check=True)


def test_a_network_without_a_contract_is_not_opened(tiny_onnx, tmp_path, monkeypatch):
    model = onnx.load(tiny_onnx)
    del model.metadata_props[:]
    foreign = tmp_path / "foreign.onnx"
    onnx.save(model, foreign)

    def refuse(*_, **__):
        raise AssertionError("opened")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(ArtifactError, match="contract"):
        open_runner(foreign)


def test_metadata_is_read_without_the_graph(tiny_onnx):
    content = tiny_onnx.read_bytes()
    model = onnx.load(tiny_onnx)
    expected = {entry.key: entry.value for entry in model.metadata_props}
    assert onnx_metadata(content, "x") == expected
    for damaged in (content[:-1], b"\xff" * 20, b"\x0b", b"\x08\x01" * 20_000):
        with pytest.raises(ArtifactError, match="not a readable ONNX model"):
            onnx_metadata(damaged, "x")
