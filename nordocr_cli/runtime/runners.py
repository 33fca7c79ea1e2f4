"""Opening a network on the backend that its file needs."""

from pathlib import Path
from typing import Literal

from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.errors import UsageError, nearest
from nordocr_cli.runtime.device import parse_device
from nordocr_cli.runtime.protocols import Runner
from nordocr_cli.runtime.specs import AUTO, parse_decoder, parse_spec, require_options

BACKENDS = ("auto", "torch", "onnxruntime", "tensorrt")


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
    parse_device(
        device
    )  # a misspelt decoder is reported before minutes of loading, and for every backend
    require_options(spec, precision, decoder, compiled)
    if spec.backend == "torch" and read_contract(path).decoding == "seq2seq":
        raise UsageError(
            f"{path} is a TrOCR, which generates its text: it has no logits of fixed shape for a"
            " runner to give"
        )
    match spec.backend:
        case "torch":
            from nordocr_cli.runtime.backends.torch.runner import TorchRunner

            return TorchRunner(
                path, device, threads, precision, parse_decoder(decoder), compiled
            )
        case "onnxruntime":
            from nordocr_cli.runtime.backends.onnxruntime.runner import OnnxRuntimeRunner

            return OnnxRuntimeRunner(path, device, threads)
        case _:
            from nordocr_cli.runtime.backends.tensorrt.runner import open_engine

            return open_engine(path, device)
