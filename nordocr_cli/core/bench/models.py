"""The recognizers of a bench: opening them, giving them distinct names, and finding out which of
them are forms of the same weights.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nordocr_cli.atomic import sha256_of
from nordocr_cli.errors import MissingBackendError
from nordocr_cli.progress import Progress
from nordocr_cli.runtime.specs import parse_spec

if TYPE_CHECKING:
    from nordocr_cli.runtime.protocols import Recognizer


@dataclass(frozen=True)
class Opened:
    """A recognizer: how it was requested (`spec`), its name in the results, and the seconds that
    opening it took. `weights` is the hash of the weights that it was made from, as far as its
    contract and the other models show; "" for Tesseract.
    """

    spec: str
    recognizer: "Recognizer"
    name: str
    load_s: float
    weights: str
    sha256: str = ""  # of the model's own file


def open_models(
    models: Sequence[str],
    device: str,
    threads: int | None,
    precision: Literal["fp32", "bf16"],
    progress: Progress,
) -> tuple[list[Opened], dict[str, str]]:
    """Open the models. Also return why others were skipped, by the name under which they were
    requested.

    Raises MissingBackendError when none can run here, and what opening them raises.
    """
    from nordocr_cli.runtime.recognizers import open_recognizer

    specs = []
    opened = []
    loads = []
    skipped = {}
    for spec in models:
        began = time.perf_counter()
        try:
            if parse_spec(spec).backend == "torch":
                fits = precision
            else:
                fits = "fp32"
            opened.append(
                open_recognizer(spec, device=device, threads=threads, precision=fits)
            )
            loads.append(time.perf_counter() - began)
            specs.append(spec)
        except MissingBackendError as error:
            if len(models) == 1:
                raise
            progress.warn(f"{spec} is skipped: {error}")
            skipped[spec] = str(error)
    if not opened:
        raise MissingBackendError(
            "none of the models can run here: " + "; ".join(skipped.values())
        )
    names = _names(specs, [recognizer.name for recognizer in opened])
    weights = _weights(specs, opened)
    hashes = _hashes(specs)
    found = zip(specs, opened, names, loads, weights, hashes, strict=True)
    return [Opened(*each) for each in found], skipped


def _names(specs: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the names. A name that occurs twice (best.safetensors of two runs) gets its folder, or
    a number where the folders are equal too.
    """
    found: list[str] = []
    for spec, name in zip(specs, names, strict=True):
        path = parse_spec(spec).path if names.count(name) > 1 else None
        found.append(f"{path.absolute().parent.name}/{name}" if path else name)
    seen: Counter[str] = Counter()
    for place, name in enumerate(found):
        seen[name] += 1
        if seen[name] > 1:
            found[place] = f"{name} #{seen[name]}"
    return found


def _hashes(specs: Sequence[str]) -> list[str]:
    """Return the hash of each model's file; "" for a program."""
    paths = [parse_spec(spec).path for spec in specs]
    return [sha256_of(path) if path else "" for path in paths]


def _weights(specs: Sequence[str], opened: "Sequence[Recognizer]") -> list[str]:
    """Follow an engine to its ONNX model and on to its weights. Return the hash at the start of
    this chain, or "".
    """
    from nordocr_cli.runtime.recognizers import RunnerRecognizer

    files = _hashes(specs)
    made_from = {}
    for sha256, recognizer in zip(files, opened, strict=True):
        if (
            isinstance(recognizer, RunnerRecognizer)
            and recognizer.runner.backend != "torch"
        ):
            made_from[sha256] = recognizer.runner.contract.parent_sha256
    for place, sha256 in enumerate(files):
        while parent := made_from.get(sha256):
            sha256 = parent
        files[place] = sha256
    return files
