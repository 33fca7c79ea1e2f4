"""The plan of an adaptation. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.artifact.shipped import DEFAULT_MODEL, find_weights
from nordocr_cli.atomic import require_utf8
from nordocr_cli.core.adapt.engines import OWN, VLM, installed_engines
from nordocr_cli.errors import UsageError

if TYPE_CHECKING:
    from nordocr_cli.compare.endpoint import Endpoint


@dataclass(frozen=True)
class AdaptRequest:
    """What the user requested. `scans` are pages, folders of line images, or label files whose
    texts are not used; `labelled` is a small sample with labels to judge by; `answers` holds the
    lines that a person has read; `vlm` is the server of one more engine.
    """

    scans: tuple[Path, ...]
    run_dir: Path
    model: str = DEFAULT_MODEL
    engines: tuple[str, ...] = ()
    languages: str | None = None
    labelled: tuple[str, ...] = ()
    answers: Path | None = None
    ask: int = 50
    rounds: int = 1
    rendered_share: float = 0.5
    minutes: float | None = None
    max_steps: int | None = None
    seed: int = 1
    device: str = "auto"
    threads: int | None = None
    vlm: "Endpoint | None" = None


@dataclass(frozen=True)
class AdaptPlan:
    """A checked adaptation; `engines` are all whose readings are compared, our own first."""

    request: AdaptRequest
    weights: Path
    engines: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        request = self.request
        return {
            "scans": [str(path) for path in request.scans],
            "start": str(self.weights),
            "engines": list(self.engines),
            "languages": request.languages or "the default ones of Tesseract",
            "lines_are_sent_to": request.vlm.url if request.vlm else None,
            "labelled": list(request.labelled),
            "rounds": request.rounds,
            "rendered_share": request.rendered_share,
            "stages": ["lines", "readings", "labels", *(["finetune"] * request.rounds)],
            "run_dir": str(request.run_dir),
            "files": ["lines/", "readings/", "labels.jsonl", "ask.tsv", "round-N/"],
        }


def plan_adapt(request: AdaptRequest) -> AdaptPlan:
    """Check scans, weights and engines.

    Raises UsageError for what is not there, and MissingBackendError without a second engine.
    """
    for path in request.scans:
        require_utf8(path)
        if not path.exists():
            raise UsageError(f"no scan or folder {path}")
    if request.answers and not request.answers.is_file():
        raise UsageError(f"--answers {request.answers}: no such file")
    weights = find_weights(Path(request.model))
    if weights.suffix != ".safetensors":
        raise UsageError(f"--model {request.model}: adaptation starts from weights")
    engines = [OWN, *installed_engines(request.engines, at_least_one=request.vlm is None)]
    if request.vlm:
        engines.append(VLM)
    return AdaptPlan(request, weights, tuple(engines))
