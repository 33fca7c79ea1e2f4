"""Opening a network on the backend that its file needs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nordocr_cli.errors import UsageError, nearest
from nordocr_cli.runtime.device import parse_device
from nordocr_cli.runtime.protocols import Runner
from nordocr_cli.runtime.specs import AUTO, Spec, parse_decoder, parse_spec, require_options

if TYPE_CHECKING:
    from nordocr_cli.runtime.backends.torch.runner import LoadedNetwork


@dataclass(frozen=True)
class RunnerOptions:
    """How a network is run; see `open_runner`."""

    device: str
    threads: int | None
    precision: Literal["fp32", "bf16"]
    decoder: str
    compiled: bool


def _open_torch(path: Path, options: RunnerOptions) -> Runner:
    from nordocr_cli.runtime.backends.torch.runner import load_network

    loaded = load_network(path, options.device, options.threads)
    return runner_of_network(loaded, options)


def runner_of_network(loaded: "LoadedNetwork", options: RunnerOptions) -> Runner:
    """Return the runner of a network that was loaded with torch. Raises UsageError for a TrOCR and
    for a decoding mode that the network does not have.
    """
    from nordocr_cli.runtime.backends.torch.runner import TorchRunner

    mode = parse_decoder(options.decoder)
    return TorchRunner(loaded, options.precision, mode, options.compiled)


def _open_onnxruntime(path: Path, options: RunnerOptions) -> Runner:
    from nordocr_cli.runtime.backends.onnxruntime.runner import OnnxRuntimeRunner

    return OnnxRuntimeRunner(path, options.device, options.threads)


def _open_tensorrt(path: Path, options: RunnerOptions) -> Runner:
    from nordocr_cli.runtime.backends.tensorrt.runner import open_engine

    return open_engine(path, options.device)


OPENERS: dict[str, Callable[[Path, RunnerOptions], Runner]] = {
    "torch": _open_torch,
    "onnxruntime": _open_onnxruntime,
    "tensorrt": _open_tensorrt,
}
BACKENDS = ("auto", *OPENERS)


def open_runner(
    path: Path,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    decoder: str = AUTO,
    compiled: bool = False,
) -> Runner:
    """Open a weights file or run folder (torch), an ONNX file (ONNX Runtime) or an engine
    (TensorRT).

    `device` is `auto`, `cpu`, `cuda` or `cuda:N`; `threads` are CPU threads (None: all cores);
    `precision` is that of torch's arithmetic; `decoder` is PARSeq's decoding mode (see
    parse_decoder); `compiled` lets torch compile the network. Raises UsageError for a file of
    another kind, ArtifactError for a damaged file, MissingBackendError when the backend or the
    device is missing.
    """
    spec = parse_spec(path)
    if spec.path is None:
        raise UsageError(
            "tesseract is a separate program, not a network that a backend runs"
        )
    options = RunnerOptions(device, threads, precision, decoder, compiled)
    require_runnable(spec, backend, options)
    return OPENERS[spec.backend](spec.path, options)


def require_runnable(spec: Spec, backend: str, options: RunnerOptions) -> None:
    """Raise UsageError unless `backend` runs this file with these options: what is misspelt is
    reported before minutes of loading, and for every backend.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}: {nearest(backend, BACKENDS)}")
    if backend not in ("auto", spec.backend):
        raise UsageError(f"{spec.path} runs on {spec.backend}, not on {backend}")
    parse_device(options.device)
    require_options(spec, options.precision, options.decoder, options.compiled)
