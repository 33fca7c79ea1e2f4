"""Running engines against recorded API behaviour: no GPU here. The fake run time has only names
that TensorRT-RTX has, gives what NVIDIA's reference says they give, and computes with ONNX Runtime
on the bytes that it is given addresses of.
"""

import ctypes
import json
import shutil
from contextvars import copy_context
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.sealing import write_sealed_json
from nordocr_cli.atomic import sha256_of
from nordocr_cli.core.engine import run as core
from nordocr_cli.core.engine.plan import EngineRequest, plan_engines
from nordocr_cli.deploy.onnx_file import inspect_onnx
from nordocr_cli.errors import ArtifactError, MissingBackendError, UsageError
from nordocr_cli.runtime.backends.tensorrt import runner as trt_runner
from nordocr_cli.runtime.backends.tensorrt.cuda_driver import Cuda, GpuBuffer
from nordocr_cli.runtime.backends.tensorrt.engine_file import (
    ENGINE_CODE_ALLOWED,
    SIDECAR_SCHEMA,
)
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import find_arch
from nordocr_cli.runtime.runners import open_runner

RANGES = [((1, 3, 32, 32), (4, 3, 32, 256)), ((2, 3, 32, 260), (2, 3, 32, 1792))]
OUT_OF_MEMORY = 2


class Driver:
    """libcuda's calls on the host's own memory; they return 0, or an error's number."""

    def __init__(self, room=1 << 30, capability=(12, 0)):
        self.room, self.held, self.capability = room, {}, capability

    def cuInit(self, flags):
        return 0

    cuCtxSetCurrent = cuStreamSynchronize = cuInit

    def cuDeviceGet(self, device, index):
        return 0 if index == 0 else 101

    def cuDeviceGetAttribute(self, value, number, device):
        value._obj.value = self.capability[number - 75]  # 75 and 76 in cuda.h
        return 0

    def cuDevicePrimaryCtxRetain(self, context, device):
        context._obj.value = 1
        return 0

    def cuStreamCreate(self, stream, flags):
        stream._obj.value = 7
        return 0

    def cuMemAlloc_v2(self, address, size):
        if size.value > self.room:
            return OUT_OF_MEMORY
        memory = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(memory)
        self.held[address._obj.value] = memory
        return 0

    def cuMemFree_v2(self, address):
        del self.held[address.value]
        return 0

    def cuMemcpyHtoDAsync_v2(self, to, source, size, stream):
        assert stream.value == 7
        ctypes.memmove(to.value, source.value, size.value)
        return 0

    cuMemcpyDtoHAsync_v2 = cuMemcpyHtoDAsync_v2

    def cuGetErrorString(self, code, text):
        text._obj.value = {OUT_OF_MEMORY: b"out of memory", 101: b"invalid device ordinal"}[
            code
        ]


class FakeContext:
    def __init__(self, engine):
        self.fake, self.chosen, self.shape, self.addresses = engine, None, None, {}

    def set_optimization_profile_async(self, profile_index, stream_handle):
        self.chosen = RANGES[profile_index]
        return True

    def set_input_shape(self, name, shape):
        minimum, maximum = self.chosen
        self.shape = tuple(shape)
        return all(a <= b <= c for a, b, c in zip(minimum, shape, maximum, strict=True))

    def get_tensor_shape(self, name):
        return (self.shape[0], -(-self.shape[3] // 4), 126)

    def set_tensor_address(self, name, memory):
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle):
        pixels = np.empty(self.shape, np.float32)
        ctypes.memmove(pixels.ctypes.data, self.addresses["input"], pixels.nbytes)
        (output,) = self.fake.session.run(None, {"input": pixels})
        ctypes.memmove(self.addresses["output"], output.ctypes.data, output.nbytes)
        self.fake.batches.append(self.shape)
        return True


class FakeEngine:
    def __init__(self, content):
        self.session, self.batches, self.cache, self.given = (
            onnxruntime.InferenceSession(content),
            [],
            None,
            None,
        )
        self.num_io_tensors, self.num_optimization_profiles = 2, len(RANGES)

    def get_tensor_name(self, index):
        return ("input", "output")[index]

    def get_tensor_mode(self, name):
        return name.upper()

    def get_tensor_dtype(self, name):
        return "DataType.FLOAT"

    def get_tensor_shape(self, name):
        return (-1, 3, 32, -1)

    def get_tensor_profile_shape(self, name, profile_index):
        minimum, maximum = RANGES[profile_index]
        return [minimum, maximum, maximum]

    def create_runtime_config(self):
        self.given = FakeConfig(self)
        return self.given

    def create_execution_context(self, config=None):
        return FakeContext(self)


class FakeConfig:
    def __init__(self, engine):
        self.engine, self.cuda_graph_strategy = engine, None

    def create_runtime_cache(self):
        return FakeCache()

    def set_runtime_cache(self, cache):
        self.engine.cache = cache


class FakeCache:
    content = b""

    def deserialize(self, blob):
        self.content = blob
        return True

    def serialize(self):
        return self.content + b"kernel"


def fake_library(version="1.7.1.116", takes=True):
    opened = []

    class Logger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0, WARNING=2)

    class Runtime:
        engine_host_code_allowed = False

        def __init__(self, logger):
            self.said = logger

        def deserialize_cuda_engine(self, content):
            if not takes:
                self.said.log(1, "IRuntime::deserializeCudaEngine: wrong device")
                return None
            opened.append(FakeEngine(content))
            opened[-1].host_code = self.engine_host_code_allowed
            return opened[-1]

    library = SimpleNamespace(
        __version__=version,
        ILogger=Logger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="INPUT"),
        CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE="graphs"),
    )
    return library, opened


def test_the_fake_has_only_names_that_tensorrt_has():
    trt = pytest.importorskip("tensorrt_rtx")
    fakes = {
        FakeContext: trt.IExecutionContext,
        FakeConfig: trt.IRuntimeConfig,
        FakeCache: trt.IRuntimeCache,
    }
    fakes |= {FakeEngine: trt.ICudaEngine}
    for fake, real in fakes.items():
        assert {name for name in vars(fake) if not name.startswith("_")} - {
            "content"
        } <= set(dir(real))
    assert {"num_io_tensors", "num_optimization_profiles"} <= set(dir(trt.ICudaEngine))
    assert "cuda_graph_strategy" in dir(trt.IRuntimeConfig)
    assert hasattr(trt.CudaGraphStrategy, "WHOLE_GRAPH_CAPTURE")
    assert hasattr(trt.TensorIOMode, "INPUT")
    assert {"deserialize_cuda_engine", "engine_host_code_allowed"} <= set(dir(trt.Runtime))


@pytest.fixture
def gpu(monkeypatch):
    """A machine with an sm120 GPU and TensorRT-RTX, as far as the code can tell; returns the
    engines that were opened.
    """
    library, opened = fake_library()
    monkeypatch.setattr(trt_runner.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(trt_runner.importlib, "import_module", lambda name: library)
    monkeypatch.setattr(trt_runner, "Cuda", lambda index: Cuda(index, Driver()))
    return opened


@pytest.fixture
def engine(tiny_onnx, tmp_path):
    """An engine's file and sidecar; its bytes are the ONNX, which the fake run time runs."""
    path = tmp_path / "m_sm120.rtx.engine"
    shutil.copy(tiny_onnx, path)
    sidecar = {
        "schema": SIDECAR_SCHEMA,
        "engine": {"sha256": sha256_of(path)},
        "backend": "tensorrt-rtx",
        "version": "1.7.1.116",
    }
    sidecar |= {"arch": "sm120", "contract": read_contract(tiny_onnx).to_json()}
    write_sealed_json(path.with_name(path.name + ".json"), sidecar)
    return path


@pytest.mark.parametrize(
    ("batch", "width", "ran"),
    [
        (3, 128, [(3, 3, 32, 128)]),
        # in as many pieces as the range's greatest batch asks for
        (6, 256, [(4, 3, 32, 256), (2, 3, 32, 256)]),
        (
            1,
            12,
            [(1, 3, 32, 32)],
        ),  # narrower than any range: padded, its frames cut off again
        (1, 320, [(2, 3, 32, 320)]),  # the wide range takes no single line
    ],
)
def test_an_engine_says_what_onnx_runtime_says(engine, tiny_onnx, gpu, batch, width, ran):
    images = np.random.default_rng(0).integers(
        0, 256, (batch, 3, 32, width), dtype=np.uint8
    )
    runner = open_runner(engine)
    found = runner.run(images, np.full(batch, width))
    assert found.shape == (batch, width // 4, 126)
    assert gpu[0].batches == ran
    if width >= 32:
        expected = open_runner(tiny_onnx, device="cpu").run(images, np.full(batch, width))
        assert found == pytest.approx(expected, abs=1e-4)
    assert runner.backend == "tensorrt-rtx"


def test_a_line_too_wide_is_refused(engine, gpu):
    runner = open_runner(engine)
    with pytest.raises(
        ArtifactError,
        match="accepts lines up to 1792 px, requested: 2000; build it with a greater --max",
    ):
        runner.run(np.zeros((1, 3, 32, 2000), np.uint8), np.array([2000]))


def test_compiled_kernels_and_graphs_of_rtx(engine, gpu, monkeypatch):
    kept = []
    monkeypatch.setattr(
        trt_runner.atexit,
        "register",
        lambda function, *arguments: kept.append((function, arguments)),
    )
    open_runner(engine)
    assert gpu[0].given.cuda_graph_strategy == "graphs"
    ((function, arguments),) = kept
    function(*arguments)
    assert engine.with_name(engine.name + ".cache").read_bytes() == b"kernel"
    open_runner(engine)
    assert gpu[1].cache.content == b"kernel"


def test_what_keeps_an_engine_from_running(engine, gpu, monkeypatch):
    with pytest.raises(
        UsageError, match=r"runs on its GPU \(sm120\); on a CPU use the \.onnx"
    ):
        open_runner(engine, device="cpu")
    with pytest.raises(
        MissingBackendError, match=r"cuDeviceGet: invalid device ordinal \(101\)"
    ):
        open_runner(engine, device="cuda:3")
    for library, error, said in (
        (
            fake_library("1.8.0.1")[0],
            MissingBackendError,
            r"under tensorrt-rtx 1\.7\.1\.116; this machine has 1\.8\.0\.1: build it",
        ),
        (
            fake_library(takes=False)[0],
            ArtifactError,
            "rejects it: IRuntime::deserializeCudaEngine: wrong device",
        ),
    ):
        monkeypatch.setattr(
            trt_runner.importlib, "import_module", lambda name, library=library: library
        )
        with pytest.raises(error, match=said):
            open_runner(engine)
    for capability, said in (
        ((8, 6), "built for sm120, this GPU is sm86: build it with --arch sm86"),
        ((13, 4), r"built for sm120; this GPU's compute capability is 13\.4"),
    ):
        monkeypatch.setattr(
            trt_runner,
            "Cuda",
            lambda index, which=capability: Cuda(index, Driver(capability=which)),
        )
        with pytest.raises(MissingBackendError, match=said):
            open_runner(engine)


def test_without_a_driver_the_engine_is_said_to_be_intact(engine, gpu, monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(trt_runner, "Cuda", Cuda)
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(
        MissingBackendError,
        match=r"for sm120, is intact but cannot run: no NVIDIA driver .*use the \.onnx",
    ):
        open_runner(engine)


@pytest.mark.parametrize("compatible", [False, True])
def test_code_in_an_engine_is_run_only_when_the_user_allows_it(engine, gpu, compatible):
    """A version-compatible engine holds its release's run time; TensorRT refuses it unless host
    code is allowed.
    """
    sidecar = engine.with_name(engine.name + ".json")
    settings = {
        "hardware": "none",
        "version_compatible": compatible,
        "memory_limit_gb": None,
    }
    write_sealed_json(sidecar, json.loads(sidecar.read_text()) | {"settings": settings})
    if compatible:
        with pytest.raises(UsageError, match="--allow-engine-code"):
            open_runner(engine)
    allowed = copy_context()
    allowed.run(ENGINE_CODE_ALLOWED.set, True)
    allowed.run(open_runner, engine)
    assert gpu[0].host_code is compatible


def test_what_was_checked_is_what_is_loaded(engine, gpu, monkeypatch):
    """Another process may replace the file between the check and the load."""
    original = engine.read_bytes()
    verified = trt_runner.verify_engine(engine)
    engine.write_bytes(b"other code")
    assert verified.content == original


def test_an_engine_of_other_tensors_is_refused(engine, gpu, monkeypatch):
    monkeypatch.setattr(FakeEngine, "get_tensor_dtype", lambda self, name: "DataType.HALF")
    with pytest.raises(
        ArtifactError,
        match="has input HALF, output HALF; its contract has input FLOAT, output FLOAT",
    ):
        open_runner(engine)


@pytest.mark.parametrize(
    ("hardware", "gpu", "runs"),
    [
        ("none", "sm89", False),
        ("ampere+", "sm89", True),
        ("ampere+", "sm75", False),
        ("same-cc", "sm86", True),
    ],
)
def test_hardware_compatibility(engine, hardware, gpu, runs):
    found = replace(trt_runner.verify_engine(engine), arch="sm86", hardware=hardware)
    assert found.runs_on(find_arch(gpu)) is runs


def test_memory_grows_and_is_given_back():
    driver = Driver(room=100)
    memory = GpuBuffer(Cuda(0, driver))
    first = memory.reserve(10)
    assert memory.reserve(5) == first
    assert memory.reserve(60) in driver.held
    assert len(driver.held) == 1
    with pytest.raises(
        MissingBackendError,
        match=r"out of memory \(2\); read fewer lines at once, or build the engine",
    ):
        memory.reserve(1000)
    assert memory.reserve(20) in driver.held  # not what was given back for the greater one


def test_verify_runs_the_engine_beside_onnx_runtime(engine, tiny_onnx, gpu, monkeypatch):
    monkeypatch.setattr(core, "local_arch", lambda: find_arch("sm120"))
    request = EngineRequest(
        ["sm120"],
        tiny_onnx,
        precision="fp32",
        shapes={"max": "4x1792", "opt": "2x256"},
        verify=True,
    )
    (plan,) = plan_engines(request)
    sidecar = json.loads(engine.with_name(engine.name + ".json").read_text())
    result = core.EngineResult(replace(plan, engine=engine), sidecar)
    done = core._verified(result, inspect_onnx(tiny_onnx), core.SILENT)
    assert done.side["executed"] is True
    assert done.side["verification"]["worst"]["max_diff"] < 1e-3
    assert (
        json.loads(engine.with_name(engine.name + ".json").read_text())["executed"] is True
    )
    monkeypatch.setattr(FakeContext, "get_tensor_shape", lambda self, name: (1, 1, 126))
    with pytest.raises(ArtifactError, match=r"gives \(1, 1, 126\) for an input of"):
        core._verified(result, inspect_onnx(tiny_onnx), core.SILENT)
