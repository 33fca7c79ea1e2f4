"""The names of recognizers on the command line, parsed and located without opening them, so that
imports stay light.
"""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.shipped import DEFAULT_MODEL, SHIPPED, find_weights
from nordocr_cli.errors import UsageError, nearest

# Recognizers by name that are not networks of this project.
PROGRAMS = ("tesseract", "tesseract-best", "rapidocr")
AS_SERVED = "as-served"  # greedy, over batches as the Rust pipeline builds them
AUTO = "auto"  # with the language model that the contract names, else greedy
LANGUAGE = "language"  # greedy, corrected by a language model where the network is in doubt
DECODERS = (AUTO, "greedy", LANGUAGE, "beam", "ar", "nar", AS_SERVED)
# The backend that runs a network, by the suffix of its file.
_BACKEND_OF = {
    ".safetensors": "torch",
    ".onnx": "onnxruntime",
    ".engine": "tensorrt",
}


def default_model(device: str = "auto", precision: str = "fp32") -> str:
    """Return the name of the shipped recognizer in the form that is fastest on `device`. On a CPU
    ONNX Runtime reads more lines per second than torch, and the int8 form more than the fp32 form;
    docs/accuracy.md shows how often their texts differ.
    """
    if device.startswith("tensorrt"):
        return f"{DEFAULT_MODEL}.onnx"
    if device.startswith("cuda") or precision != "fp32":
        forms: tuple[str, ...] = ()
    else:
        forms = (f"{DEFAULT_MODEL}.int8.onnx", f"{DEFAULT_MODEL}.onnx")
    return next((name for name in forms if (SHIPPED / name).is_file()), DEFAULT_MODEL)


@dataclass(frozen=True)
class Spec:
    """A recognizer by name: the file of a network, RapidOCR, or Tesseract with its `languages`
    (None: each line's own) and its models (`best`: those of tessdata_best).
    """

    backend: str
    path: Path | None = None
    languages: str | None = None
    best: bool = False


def parse_spec(text: str | Path) -> Spec:
    """Parse `tesseract`, `tesseract-best:swe+nor`, `rapidocr`, a run folder or a model file. Raises
    UsageError when the file does not exist or is of another kind.
    """
    name, colon, languages = str(text).partition(":")
    if name in PROGRAMS and not Path(text).exists():
        return _program_spec(name, languages if colon else None)
    path = _readable_form(find_weights(Path(text)))
    if path.suffix not in _BACKEND_OF:
        raise UsageError(
            f"{path}: expected a run folder or a file in {', '.join(_BACKEND_OF)}"
        )
    return Spec(_BACKEND_OF[path.suffix], path)


def _readable_form(path: Path) -> Path:
    """Return the ONNX form of shipped weights when torch is not installed, else `path`.

    Both forms are the same fp32 network; export proved their outputs equal.
    """
    ships_as_weights = path.parent == SHIPPED and path.suffix == ".safetensors"
    if not ships_as_weights or importlib.util.find_spec("torch") is not None:
        return path
    exported = path.with_suffix(".onnx")
    if exported.is_file():
        return exported
    return path


def _program_spec(name: str, languages: str | None) -> Spec:
    if name == "rapidocr":
        if languages is not None:
            raise UsageError(
                "rapidocr has one model for all languages; write rapidocr alone"
            )
        return Spec("rapidocr")
    if languages == "":
        raise UsageError(
            f"{name}: no language given; write {name}:swe+nor, or {name} for each line's own"
        )
    return Spec("tesseract", languages=languages, best=name == "tesseract-best")


@dataclass(frozen=True)
class DecodingMode:
    """PARSeq's decoding mode: autoregressive (`ar`) or parallel (`nar`), and the number of
    refinement passes.
    """

    order: Literal["ar", "nar"]
    refine: int = 0


def parse_decoder(text: str) -> DecodingMode | None:
    """Parse `ar`, `nar`, `ar+1` or `nar+2`; return None for the decoders of CTC networks.
    Raises UsageError for anything else.
    """
    found = re.fullmatch(r"(ar|nar)(?:\+([1-9]))?", text)
    if found:
        return DecodingMode(cast(Literal["ar", "nar"], found[1]), int(found[2] or 0))
    if text not in DECODERS:
        raise UsageError(f"unknown decoder {text!r}: {nearest(text, DECODERS)}")
    return None


def resolved_decoder(decoder: str, contract: Contract | None) -> str:
    """Return the decoder that `auto` stands for: `language` where the contract names a language
    model, else `greedy`; any other decoder as it is. `contract` is None for a program.
    """
    if decoder != AUTO:
        return decoder
    if contract is None or contract.language_model is None:
        return "greedy"
    if contract.decoding != "ctc" or contract.output_activation == "argmax+confidence":
        return "greedy"  # a language model needs all classes of each frame
    return LANGUAGE


def require_options(
    spec: Spec, precision: str = "fp32", decoder: str = AUTO, compiled: bool = False
) -> None:
    """Raise UsageError for an unknown decoder, and for an option that `spec` does not have. Only
    torch computes in bf16 and can change PARSeq's decoding mode, and Tesseract has its own
    decoding.
    """
    decoding_mode = parse_decoder(decoder)
    if precision != "fp32" and spec.backend != "torch":
        raise UsageError(
            f"{spec.path or spec.backend}: {precision} arithmetic is an option of torch;"
            f" for {spec.backend} the file determines the precision"
        )
    if compiled and spec.backend != "torch":
        raise UsageError(
            f"{spec.path or spec.backend}: --compile is an option of torch, for weights and runs"
        )
    if decoder not in (AUTO, "greedy") and spec.path is None:
        raise UsageError(
            f"{spec.backend} has its own decoding; --decoder {decoder} is for the project's own"
            " networks"
        )
    if decoding_mode and spec.backend != "torch":
        raise UsageError(
            f"the decoding mode of {spec.path} was fixed at export; --decoder {decoder} is for a"
            " run or its .safetensors"
        )
