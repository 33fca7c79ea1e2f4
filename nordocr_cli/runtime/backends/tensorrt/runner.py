"""Running engines of classic TensorRT and of TensorRT-RTX, which have the same run-time interface.
Tested against recorded API behaviour only: no GPU of ours has run it yet. `nordocr build-engine
--verify` on the GPU's host compares an engine's output with ONNX Runtime; do that before you trust
an engine.
"""

import atexit
import importlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact.contract import Contract, contract_from_json
from nordocr_cli.atomic import write_bytes
from nordocr_cli.data.resize import network_input
from nordocr_cli.errors import ArtifactError, MissingBackendError, UsageError
from nordocr_cli.runtime.backends.tensorrt.cuda_driver import Cuda, GpuBuffer
from nordocr_cli.runtime.backends.tensorrt.engine_file import (
    ENGINE_CODE_ALLOWED,
    INSTALL,
    MODULES,
    Backend,
    read_engine,
    sidecar_path,
)
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import GpuArch, arch_of, find_arch
from nordocr_cli.runtime.backends.tensorrt.log import recorder
from nordocr_cli.runtime.batch_checks import require_batch
from nordocr_cli.runtime.device import parse_device
from nordocr_cli.runtime.protocols import Runner

_AMPERE = (8, 0)
# Numpy's names and TensorRT's.
_DTYPES = {"float32": "FLOAT", "float16": "HALF", "uint8": "UINT8"}


@dataclass(frozen=True)
class VerifiedEngine:
    """An engine whose bytes match its sidecar. `arch` is the name of the GPU architecture, e.g.
    `sm120`, or several as `sm86+sm120`. `hardware` and `version_compatible` name the further GPUs
    and releases that it was built for (classic TensorRT).
    """

    path: Path
    content: bytes = field(repr=False)
    contract: Contract
    backend: Backend
    version: str
    arch: str
    hardware: str = "none"
    version_compatible: bool = False

    def runs_on(self, gpu: GpuArch) -> bool:
        """Whether it was built for that GPU."""
        arches = self.arch.split("+")
        if self.hardware == "ampere+":
            return gpu.capability >= _AMPERE
        if self.hardware == "same-cc":
            return gpu.capability in [find_arch(arch).capability for arch in arches]
        return gpu.name in arches


def verify_engine(path: Path) -> VerifiedEngine:
    """Check that an engine has a sidecar and a contract, and that its bytes match the sidecar. An
    engine is a program: nothing of it is used before its hash was checked. Raises UsageError when
    the file does not exist and ArtifactError naming the check that failed.
    """
    if not path.is_file():
        raise UsageError(f"no engine {path}")
    (content, value), what = read_engine(path), str(sidecar_path(path))
    contract = contract_from_json(value.get("contract"), what)
    backend: Backend
    match value.get("backend"):
        case "tensorrt-rtx" | "tensorrt" as backend:
            pass
        case unknown:
            raise ArtifactError(
                f"{what}: unknown backend {unknown!r}; build the engine again"
            )
    settings = value.get("settings") or {}
    hardware = str(settings.get("hardware", "none"))
    version_compatible = bool(settings.get("version_compatible"))
    try:
        arch = "+".join(value.get("arches") or [value["arch"]])
        version = str(value["version"])
        return VerifiedEngine(
            path, content, contract, backend, version, arch, hardware, version_compatible
        )
    except KeyError as error:
        raise ArtifactError(f"{what} has no {error}; build the engine again") from None


def open_engine(path: Path, device: str = "auto") -> "EngineRunner":
    """Open an engine on the GPU that `device` names.

    Raises what verify_engine raises, UsageError for the CPU and for an engine with host code that
    the user has not allowed (see ENGINE_CODE_ALLOWED), and MissingBackendError when the
    library or a GPU is missing, when this GPU needs another engine, and when the library is of
    another release than the engine.
    """
    engine = verify_engine(path)
    requested = parse_device(device)
    if importlib.util.find_spec(MODULES[engine.backend]) is None:
        raise MissingBackendError(
            f"{path} needs {engine.backend} {engine.version}: {INSTALL[engine.backend]}"
        )
    if engine.version_compatible and not ENGINE_CODE_ALLOWED.get():
        raise UsageError(
            f"{path} is version-compatible: it carries host code of its TensorRT release, which"
            " would run here. If you trust whoever built it: nordocr --allow-engine-code COMMAND …"
        )
    if requested.kind == "cpu":
        raise UsageError(
            f"{path} is an engine and runs on its GPU ({engine.arch}); on a CPU use the .onnx"
        )
    try:
        cuda = Cuda(requested.index)
    except MissingBackendError as error:
        raise MissingBackendError(
            f"{path}, built for {engine.arch}, is intact but cannot run: {error}"
        ) from None
    # That of the requested GPU: a machine may have several kinds.
    here = arch_of(cuda.capability)
    if here is None:
        found = "this GPU's compute capability is {}.{}".format(*cuda.capability)
        raise MissingBackendError(
            f"{path} is built for {engine.arch}; {found}: use the .onnx"
        )
    if not engine.runs_on(here):
        raise MissingBackendError(
            f"{path} is built for {engine.arch}, this GPU is {here.name}: build it with --arch"
            f" {here.name}"
        )
    library = importlib.import_module(MODULES[engine.backend])
    if library.__version__ != engine.version and not engine.version_compatible:
        raise MissingBackendError(
            f"{path} runs under {engine.backend} {engine.version}; this machine has"
            f" {library.__version__}: build it again here, or pip install"
            f" {MODULES[engine.backend]}=={engine.version}"
        )
    return EngineRunner(engine, library, cuda)


class EngineRunner:
    """An engine on its GPU; see Runner. It takes no widths: padding is seen as white pixels. A
    batch runs in the narrowest shape range of the engine that accepts its width, split by the
    maximum batch of that range. Images narrower than the range are padded with white, and the
    frames of this padding are removed from the output.

    TensorRT-RTX compiles kernels when a shape is first seen. They are kept in `ENGINE.cache` next
    to the engine (if that folder is writable), and each shape's launches are captured as a CUDA
    graph. Raises ArtifactError when TensorRT rejects the engine, or when the inputs and outputs
    differ from its contract.
    """

    uses_widths = False
    replicas: Sequence[Runner] = ()

    def __init__(self, engine: VerifiedEngine, library: ModuleType, cuda: Cuda) -> None:
        self.name = engine.path.name
        self.contract = engine.contract
        self.backend: str = engine.backend
        self.device = "cuda"
        self.precision = engine.contract.precision
        self._cuda = cuda
        self._log = recorder(library)
        self._input_memory = GpuBuffer(cuda)
        self._output_memory = GpuBuffer(cuda)
        self._runtime = library.Runtime(self._log)
        if engine.version_compatible:
            self._runtime.engine_host_code_allowed = (
                True  # open_engine has checked the permission
            )
        self._engine = self._runtime.deserialize_cuda_engine(engine.content)
        if self._engine is None:
            raise ArtifactError(
                f"{engine.path}: {engine.backend} rejects it{self._log.reason(': ')}; build it"
                f" again here"
            )
        self._input, self._output = self._tensors(library)
        self._ranges = self._shape_ranges()
        self._chosen = -1
        if engine.backend == "tensorrt-rtx":
            self._context = self._engine.create_execution_context(
                self._rtx_config(library, Path(f"{engine.path}.cache"))
            )
        else:
            self._context = self._engine.create_execution_context()
        if self._context is None:
            raise ArtifactError(
                f"{engine.path}: no execution context{self._log.reason(': ')}; is the GPU's memory"
                " full?"
            )

    def run(
        self, images: NDArray[np.uint8], widths: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the output float32 (N, T, C); see Runner. Raises ArtifactError for lines wider
        than every range, and when the engine fails.
        """
        require_batch(images, widths, self.contract.geometry, self.name)
        width = images.shape[3]
        frames = self.contract.out_length(images.shape[3])
        chosen = next(
            (k for k, (_, maximum) in enumerate(self._ranges) if width <= maximum[3]), None
        )
        if chosen is None:
            widest = self._ranges[-1][1][3]
            raise ArtifactError(
                f"{self.name} accepts lines up to {widest} px, requested: {width}; build it with"
                f" a greater --max"
            )
        self._cuda.enter()
        if chosen != self._chosen:
            self._require(
                self._context.set_optimization_profile_async(chosen, self._cuda.stream),
                f"range {chosen}",
            )
            self._chosen = chosen
        minimum, maximum = self._ranges[chosen]
        outputs = []
        for start in range(0, len(images), maximum[0]):
            part = images[start : start + maximum[0]]
            size = (max(len(part), minimum[0]), 3, part.shape[2], max(width, minimum[3]))
            padded = np.full(size, self.contract.geometry.pad_value, np.uint8)
            padded[: len(part), :, :, :width] = part
            outputs.append(self._execute(padded)[: len(part), :frames])
        return np.concatenate(outputs).astype(np.float32, copy=False)

    def _execute(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Run one batch whose shape is within the chosen range."""
        # (N, 3, H, W)
        pixels = np.ascontiguousarray(
            network_input(images, self.contract.geometry, self.contract.input_type)
        )
        where = f"an input of {'x'.join(map(str, pixels.shape))}"
        self._require(self._context.set_input_shape(self._input, pixels.shape), where)
        shape = tuple(self._context.get_tensor_shape(self._output))
        expected = (
            len(images),
            self.contract.out_length(images.shape[3]),
            self.contract.output_channels,
        )
        if shape != expected:
            raise ArtifactError(
                f"{self.name} gives {shape} for {where}; its contract has {expected}"
            )
        output = np.empty(shape, dtype=self.contract.output_type)
        source = self._input_memory.reserve(pixels.nbytes)
        target = self._output_memory.reserve(output.nbytes)
        self._require(self._context.set_tensor_address(self._input, source), where)
        self._require(self._context.set_tensor_address(self._output, target), where)
        self._cuda.to_device(source, pixels)
        self._require(self._context.execute_async_v3(self._cuda.stream), where)
        self._cuda.to_host(target, output)
        return output

    def _require(self, accepted: bool, where: str) -> None:
        if not accepted:
            raise ArtifactError(f"{self.name} fails on {where}{self._log.reason(': ')}")

    def _tensors(self, library: ModuleType) -> tuple[str, str]:
        """Return the names of input and output after comparing their types and the input's height
        with the contract.
        """
        engine = self._engine
        contract = self.contract
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        inputs = [
            name
            for name in names
            if engine.get_tensor_mode(name) == library.TensorIOMode.INPUT
        ]
        outputs = [name for name in names if name not in inputs]
        found = [
            f"{name} {str(engine.get_tensor_dtype(name)).rpartition('.')[2]}"
            for name in (*inputs, *outputs)
        ]
        expected = [
            f"{name} {_DTYPES[kind]}"
            for name, kind in zip((*inputs, *outputs), self._types(), strict=False)
        ]
        if inputs:
            height = tuple(engine.get_tensor_shape(inputs[0]))[2:3]
        else:
            height = ()
        if (
            len(inputs) != 1
            or len(outputs) != 1
            or found != expected
            or height != (contract.geometry.height,)
        ):
            raise ArtifactError(
                f"{self.name} has {', '.join(found) or 'no tensors'}; its contract has"
                f" {', '.join(expected)}"
            )
        return inputs[0], outputs[0]

    def _types(self) -> tuple[str, str]:
        return self.contract.input_type, self.contract.output_type

    def _shape_ranges(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Return the minimum and the maximum input (N, 3, H, W) of each range, narrow ones first as
        they were built.
        """
        ranges = []
        for k in range(self._engine.num_optimization_profiles):
            minimum, _, maximum = (
                tuple(shape)
                for shape in self._engine.get_tensor_profile_shape(self._input, k)
            )
            ranges.append((minimum, maximum))
        return ranges

    def _rtx_config(self, library: ModuleType, cache_file: Path) -> Any:
        """Return TensorRT-RTX's settings: CUDA graphs, and the kernels compiled earlier."""
        config = self._engine.create_runtime_config()
        config.cuda_graph_strategy = library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        cache = config.create_runtime_cache()
        if cache_file.is_file():
            # kernels of another GPU or release: the cache stays empty and is rewritten
            cache.deserialize(cache_file.read_bytes())
        if os.access(cache_file.parent, os.W_OK):
            atexit.register(_keep_cache, cache, cache_file)
        config.set_runtime_cache(cache)
        return config


def _keep_cache(cache: Any, path: Path) -> None:
    """Write the compiled kernels of an engine at the end of the program if there are new ones."""
    content = bytes(memoryview(cache.serialize()))
    if content and not (path.is_file() and path.read_bytes() == content):
        write_bytes(path, content)
