"""Opening a network on the backend that its file needs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.errors import UsageError, nearest
from nordocr_cli.runtime.device import parse_device
from nordocr_cli.runtime.protocols import Runner
from nordocr_cli.runtime.specs import AUTO, parse_decoder, parse_spec, require_options


@dataclass(frozen=True)
class RunnerOptions:
    """How a network is run; see `open_runner`."""

    device: str
    threads: int | None
    precision: Literal["fp32", "bf16"]
    decoder: str
    compiled: bool


def _open_torch(path: Path, options: RunnerOptions) -> Runner:
    from nordocr_cli.runtime.backends.torch.runner import TorchRunner

    return TorchRunner(
        path,
        options.device,
        options.threads,
        options.precision,
        parse_decoder(options.decoder),
        options.compiled,
    )


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
    path = spec.path
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}: {nearest(backend, BACKENDS)}")
    if backend not in ("auto", spec.backend):
        raise UsageError(f"{path} runs on {spec.backend}, not on {backend}")
    # Misspelt options are reported before minutes of loading, and for every backend.
    parse_device(device)
    require_options(spec, precision, decoder, compiled)
    if spec.backend == "torch" and read_contract(path).decoding == "seq2seq":
        raise UsageError(
            f"{path} is a TrOCR, which generates its text: it has no logits of fixed shape for a"
            " runner to give"
        )
    options = RunnerOptions(device, threads, precision, decoder, compiled)
    return OPENERS[spec.backend](path, options)
