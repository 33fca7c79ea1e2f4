"""ONNX → TensorRT engine: one function body for TensorRT-RTX and for classic TensorRT 10 and 11.
The library is passed as an argument. Networks are strongly typed everywhere, so the ONNX alone
determines the precision. The only branch: RTX is given the GPU to build for, while classic TensorRT
builds for the GPU it runs on.
"""

import importlib
import importlib.util
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from nordocr_cli.atomic import write_bytes
from nordocr_cli.errors import (
    ArtifactError,
    Interrupted,
    MissingBackendError,
    UsageError,
    nearest,
)
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.runtime.backends.tensorrt.engine_file import INSTALL, MODULES, Backend
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import ARCHES, GpuArch, local_arch
from nordocr_cli.runtime.backends.tensorrt.log import recorder
from nordocr_cli.settings import Engine, ShapeRange


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a network: name, data type, and shape with the names of the dynamic
    axes.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Built:
    """A serialized engine and what the builder reported. `activation_bytes` is the memory that an
    execution context reserves on the GPU.
    """

    plan: bytes
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    activation_bytes: int | None
    weights_bytes: int | None
    warnings: tuple[str, ...]
    seconds: float


def choose_backend(requested: str, arch: GpuArch) -> Backend:
    """Return the backend for `arch`: classic TensorRT on a machine with exactly that GPU and this
    library, else TensorRT-RTX. `requested` is auto, rtx or tensorrt. Raises UsageError when the
    backend cannot build for `arch`, and MissingBackendError with the install line when it is not
    installed; nothing is imported.
    """
    backends: dict[str, Backend] = {
        "rtx": "tensorrt-rtx",
        "tensorrt-rtx": "tensorrt-rtx",
        "tensorrt": "tensorrt",
        "trt": "tensorrt",
    }
    if requested == "auto":
        backend: Backend = (
            "tensorrt"
            if _installed("tensorrt") and local_arch() == arch
            else "tensorrt-rtx"
        )
    elif requested in backends:
        backend = backends[requested]
    else:
        raise UsageError(
            f"unknown --backend {requested!r}: {nearest(requested, ['auto', *backends])}"
        )
    if backend == "tensorrt-rtx" and arch.rtx_bit is None:
        targets = " ".join(a.name for a in ARCHES if a.rtx_bit is not None)
        raise UsageError(
            f"--arch {arch.name}: TensorRT-RTX cannot build for {arch.gpus[0]} (it can for"
            f" {targets}); on a host with that GPU: nordocr build-engine --backend tensorrt --arch"
            f" {arch.name}"
        )
    return backend


def _require_local_arch(arch: GpuArch) -> None:
    """Raise MissingBackendError unless this machine's GPU is of `arch`."""
    here = local_arch()
    if here == arch:
        return
    if here:
        found = f"this machine's is {here}"
    else:
        found = "this machine has no working NVIDIA driver"
    raise MissingBackendError(
        f"classic TensorRT tunes an engine on the GPU it will run on, {arch}; {found}. "
        "Run this on that host, or use --backend rtx where the run time is TensorRT-RTX"
    )


def require_backend(backend: Backend, arch: GpuArch) -> ModuleType:
    """Import the backend's library. Raises MissingBackendError when it, its GPU, or a recent enough
    release is missing.
    """
    if not _installed(backend):
        raise MissingBackendError(
            f"{MODULES[backend]} is not installed: {INSTALL[backend]}"
        )
    if backend == "tensorrt":
        _require_local_arch(arch)
    try:
        library = importlib.import_module(MODULES[backend])
    except (ImportError, OSError) as error:
        raise MissingBackendError(
            f"{MODULES[backend]} cannot be loaded ({error}): {INSTALL[backend]}"
        ) from error
    require_release(library, backend, arch)
    return library


def require_release(library: ModuleType, backend: Backend, arch: GpuArch) -> None:
    """Raise MissingBackendError when classic TensorRT is too old for `arch`."""
    release = tuple(int(part) for part in library.__version__.split(".")[:2])
    if backend == "tensorrt" and release < arch.min_tensorrt:
        needed = ".".join(map(str, arch.min_tensorrt))
        raise MissingBackendError(
            f"TensorRT {library.__version__} does not support {arch.name} ({arch.gpus[0]}); that"
            f" needs {needed} or newer: "
            f'pip install -U "tensorrt>={needed}"'
        )


def _installed(backend: Backend) -> bool:
    return importlib.util.find_spec(MODULES[backend]) is not None


@dataclass(frozen=True)
class Settings:
    """Further settings of the builder. `timing_cache` (a file that is read and written), `hardware`
    (a name of HARDWARE) and `version_compatible` exist in classic TensorRT only. `memory_limit_gb`
    limits the workspace of a layer.
    """

    timing_cache: Path | None = None
    hardware: str = "none"
    version_compatible: bool = False
    memory_limit_gb: float | None = None

    def require_classic(self, backend: Backend) -> None:
        """Raise UsageError for an unknown `hardware`, and for a setting that TensorRT-RTX does not
        have.
        """
        if self.hardware not in HARDWARE:
            raise UsageError(
                f"--hardware-compat {self.hardware!r}: {nearest(self.hardware, HARDWARE)}"
            )
        settings = {
            "--timing-cache": self.timing_cache,
            "--hardware-compat": self.hardware != "none",
            "--version-compatible": self.version_compatible,
        }
        flags = [flag for flag, given in settings.items() if given]
        if flags and backend == "tensorrt-rtx":
            raise UsageError(
                f"{flags[0]} is a setting of classic TensorRT; TensorRT-RTX compiles on the GPU"
                " that runs the engine, and an engine runs under the release that built it"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the settings that the engine depends on as plain JSON values. The timing cache is
        not among them: it only saves time.
        """
        return {
            "hardware": self.hardware,
            "version_compatible": self.version_compatible,
            "memory_limit_gb": self.memory_limit_gb,
        }


# The values of --hardware-compat and TensorRT's names for them.
HARDWARE = {"none": "NONE", "ampere+": "AMPERE_PLUS", "same-cc": "SAME_COMPUTE_CAPABILITY"}


def build(
    trt: ModuleType,
    onnx: Path,
    engine: Engine,
    arches: Sequence[GpuArch],
    progress: Progress = SILENT,
    settings: Settings | None = None,
) -> Built:
    """Build an engine of a checked ONNX file (`deploy.onnx_file`) for the ranges of batch and width
    of `engine`; for several `arches` at once with TensorRT-RTX.

    Ctrl-C cancels the build; a second one ends the process. Raises ArtifactError with TensorRT's
    own reason when it fails, MissingBackendError without a usable GPU (classic only), and
    Interrupted.
    """
    log = recorder(trt)
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # the bindings raise this for a null builder
        raise MissingBackendError(
            f"TensorRT {trt.__version__} finds no usable NVIDIA GPU{log.reason(': ')}"
        ) from error
    # The network refers to memory of its parser, which is therefore kept.
    network, _parser = _parsed(trt, builder, onnx, log)
    config = builder.create_builder_config()
    for each in engine.ranges:
        _set_shapes(builder, config, network.get_input(0), each, onnx, log)
    if hasattr(config, "set_compute_capability"):  # TensorRT-RTX
        config.num_compute_capabilities = len(arches)
        for index, arch in enumerate(arches):
            config.set_compute_capability(
                getattr(trt.ComputeCapability, arch.name.upper()), index
            )
    _apply(trt, config, settings or Settings(), progress)
    names = "+".join(arch.name for arch in arches)
    cancel = threading.Event()
    config.progress_monitor = _monitor(trt, progress, cancel)
    began = time.monotonic()
    progress.start(f"build {names}", unit="steps")
    with _ctrl_c_sets(cancel):
        plan = builder.build_serialized_network(network, config)
    progress.finish()
    if cancel.is_set():
        raise Interrupted(f"the build for {names} was cancelled; nothing was written")
    if plan is None:
        raise ArtifactError(
            f"TensorRT {trt.__version__} cannot build {onnx} for {names}{log.reason(': ')}"
        )
    if settings and settings.timing_cache:
        timings = config.get_timing_cache().serialize()
        write_bytes(settings.timing_cache, bytes(memoryview(timings)))
    return Built(
        plan=bytes(memoryview(plan)),
        inputs=(_describe(network.get_input(0)),),
        outputs=(_describe(network.get_output(0)),),
        activation_bytes=log.memory.get("Activation"),
        weights_bytes=log.memory.get("Weights"),
        warnings=tuple(log.warnings),
        seconds=time.monotonic() - began,
    )


def _parsed(trt: ModuleType, builder: Any, onnx: Path, log: Any) -> tuple[Any, Any]:
    """Return the network of an ONNX file, and its parser. Raises ArtifactError with TensorRT's own
    reason.
    """
    network = builder.create_network(
        1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    )
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        log.errors += [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise ArtifactError(
            f"TensorRT {trt.__version__} cannot read {onnx}{log.reason(': ')}"
        )
    if network.num_inputs != 1 or network.num_outputs != 1:
        raise ArtifactError(
            f"{onnx}: parsed into {network.num_inputs} inputs and {network.num_outputs} outputs;"
            " expected one each"
        )
    return network, parser


def _apply(trt: ModuleType, config: Any, settings: Settings, progress: Progress) -> None:
    """Apply the settings to the builder. Raises MissingBackendError for a setting that this release
    does not have.
    """
    if settings.memory_limit_gb is not None:
        config.set_memory_pool_limit(
            trt.MemoryPoolType.WORKSPACE, int(settings.memory_limit_gb * 2**30)
        )
    if settings.hardware != "none":
        level = getattr(trt.HardwareCompatibilityLevel, HARDWARE[settings.hardware], None)
        if level is None:
            raise MissingBackendError(
                f"TensorRT {trt.__version__} has no --hardware-compat {settings.hardware};"
                " update it"
            )
        config.hardware_compatibility_level = level
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.timing_cache is not None:
        path = settings.timing_cache
        known = path.read_bytes() if path.is_file() else b""
        if not config.set_timing_cache(config.create_timing_cache(known), False):
            progress.warn(
                f"{path} is a timing cache of another GPU or release; it is replaced"
            )
            config.set_timing_cache(config.create_timing_cache(b""), False)


def _set_shapes(
    builder: Any, config: Any, tensor: Any, ranges: ShapeRange, onnx: Path, log: Any
) -> None:
    """Set the range of the input's dynamic axes, each by its own name, so that batch sizes never
    reach the width axis.
    """
    ends = []
    for batch, width in ranges.ends().values():
        sizes = {"batch": batch, "width": width}
        ends.append(
            tuple(
                sizes[tensor.get_dimension_name(axis)] if size < 0 else size
                for axis, size in enumerate(tuple(tensor.shape))
            )
        )
    shape_range = builder.create_optimization_profile()
    shape_range.set_shape(tensor.name, *ends)
    if config.add_optimization_profile(shape_range) < 0:
        raise ArtifactError(f"{onnx}: TensorRT rejects the shapes {ends}{log.reason(': ')}")


def _describe(tensor: Any) -> TensorInfo:
    shape = tuple(
        tensor.get_dimension_name(i) or size if size < 0 else size
        for i, size in enumerate(tuple(tensor.shape))
    )
    return TensorInfo(tensor.name, str(tensor.dtype).rpartition(".")[2], shape)


def _monitor(trt: ModuleType, progress: Progress, cancel: threading.Event) -> Any:
    """Return a progress monitor. Returning False in `step_complete` is the only way to stop a
    build.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(
            self, phase_name: str, parent_phase: str | None, num_steps: int
        ) -> None:
            """Begin a phase; counted by its steps."""

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.advance(phase=phase_name)
            return not cancel.is_set()

        def phase_finish(self, phase_name: str) -> None:
            """End a phase; counted by its steps."""

    return Monitor()


@contextmanager
def _ctrl_c_sets(cancel: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C set `cancel` and the second end the process, since TensorRT discards a
    KeyboardInterrupt raised during a build.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: object) -> None:
        cancel.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
