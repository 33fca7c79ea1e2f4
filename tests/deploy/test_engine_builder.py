"""Real engines, built by TensorRT-RTX without a GPU."""

import os
import signal

import onnx
import pytest

from nordocr_cli.deploy.onnx_file import fp16_sibling
from nordocr_cli.errors import ArtifactError, Interrupted, MissingBackendError, UsageError
from nordocr_cli.progress import Silent
from nordocr_cli.runtime.backends.tensorrt import builder as engine_builder
from nordocr_cli.runtime.backends.tensorrt.builder import (
    build,
    choose_backend,
    require_backend,
)
from nordocr_cli.runtime.backends.tensorrt.engine_file import parse_header
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import find_arch
from nordocr_cli.settings import Engine

trt = pytest.importorskip("tensorrt_rtx")


@pytest.mark.parametrize("arch", ["sm86", "sm120"])
def test_a_real_engine(tiny_onnx, arch):
    built = build(trt, fp16_sibling(tiny_onnx), Engine(), [find_arch(arch)])
    header = parse_header(built.plan[:64], "engine")
    assert header.arches == (arch,)
    assert header.size_bytes == len(built.plan)
    assert header.version == trt.__version__
    assert [(t.name, t.dtype, t.shape) for t in built.inputs] == [
        ("input", "FLOAT", ("batch", 3, 32, "width"))
    ]
    assert built.outputs[0].shape[-1] == 126
    assert built.activation_bytes is not None
    assert built.activation_bytes > 0


def test_memory_follows_the_greatest_shape(tiny_onnx):
    small, large = (
        build(
            trt,
            fp16_sibling(tiny_onnx),
            Engine(opt_batch=n, max_batch=n),
            [find_arch("sm86")],
        ).activation_bytes
        for n in (8, 64)
    )
    assert large > 4 * small


def test_ctrl_c_cancels_the_build(tiny_onnx):
    class Impatient(Silent):
        def advance(self, units=1, **fields):
            if not self.done:
                self.done = True
                os.kill(os.getpid(), signal.SIGINT)

        done = False

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="nothing was written"):
        build(trt, fp16_sibling(tiny_onnx), Engine(), [find_arch("sm86")], Impatient())
    assert signal.getsignal(signal.SIGINT) is before


def test_the_reason_is_tensorrts_own_without_the_noise(tmp_path, tiny_onnx):
    model = onnx.load(tiny_onnx)
    model.graph.node[5].op_type = "Frobnicate"
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="Frobnicate") as caught:
        build(trt, path, Engine(), [find_arch("sm86")])
    assert "CUDA" not in str(caught.value)


def test_an_empty_file_is_not_built(tmp_path):
    """TensorRT parses it without complaint."""
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ArtifactError, match="0 inputs and 0 outputs"):
        build(trt, tmp_path / "model.onnx", Engine(), [find_arch("sm86")])


def test_backends(monkeypatch):
    installed = {"tensorrt-rtx", "tensorrt"}
    monkeypatch.setattr(engine_builder, "_installed", lambda backend: backend in installed)
    monkeypatch.setattr(engine_builder, "local_arch", lambda: find_arch("sm86"))
    assert choose_backend("auto", find_arch("sm86")) == "tensorrt"
    assert choose_backend("auto", find_arch("sm120")) == "tensorrt-rtx"
    assert choose_backend("rtx", find_arch("sm86")) == "tensorrt-rtx"
    with pytest.raises(MissingBackendError, match="this machine's is sm86"):
        require_backend("tensorrt", find_arch("sm120"))
    installed.clear()
    assert choose_backend("auto", find_arch("sm86")) == "tensorrt-rtx"
    with pytest.raises(MissingBackendError, match=r"pip install -e '\.\[rtx\]'"):
        require_backend("tensorrt-rtx", find_arch("sm86"))
    with pytest.raises(MissingBackendError, match=r"pip install -e '\.\[tensorrt\]'"):
        require_backend("tensorrt", find_arch("sm86"))


def test_hopper_is_no_rtx_target():
    with pytest.raises(
        UsageError, match=r"cannot build for H100.*--backend tensorrt --arch sm90"
    ):
        choose_backend("rtx", find_arch("h100"))
    assert choose_backend("tensorrt", find_arch("h100")) == "tensorrt"
    with pytest.raises(UsageError, match="did you mean 'tensorrt'"):
        choose_backend("tensort", find_arch("sm86"))
