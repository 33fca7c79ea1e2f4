"""What an evaluation will do: the request, checked before anything is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from nordocr_cli import atomic
from nordocr_cli.core.eval.files import output_files, recorded_files
from nordocr_cli.core.eval.outputs import SUFFIXES
from nordocr_cli.data.formats import parse_source
from nordocr_cli.errors import UsageError, nearest
from nordocr_cli.runtime.specs import AUTO, parse_spec, require_options

if TYPE_CHECKING:
    from nordocr_cli.geometry import Resampler
    from nordocr_cli.metrics.gates import Gate
    from nordocr_cli.runtime.protocols import Recognizer

BATCH_SIZE = 256
WORST_CROPS = 500  # lines of the HTML page that get their picture

ReaderKind = Literal["model", "recorded", "tesseract", "rapidocr"]


@dataclass(frozen=True)
class EvalRequest:
    """What to evaluate, and how.

    `model` is weights, a run folder, an .onnx, an .engine, another recognizer's name
    (`tesseract[:languages]`, `rapidocr`), or a recorded result (.jsonl, or what `output` wrote),
    which needs no store when it holds the references. `store` may be a manifest: its crops are
    prepared as the network's contract says, or with `resampler`. `recognizer` is used instead of
    opening `model`. `decoder` is one of open_recognizer's, or several, comma-separated: the first
    one's hypotheses are the result, the others' are compared with them. Lines are handed over
    sorted by width, at most `batch_size` at once; with `check_batches`, a sample of them again,
    alone and in other batches. `subset_key` names the row's key to report by; empty, it is
    `subset`, or `degradation` where no row has a subset. `output` (a folder, or FILE.json) gets the
    report and the lines; `page` (a file) the HTML page with pictures of the `crops` worst lines;
    `overlay` (a folder) a picture of each page that has a wrong line, where lines stand on pages.
    `allow_leakage` evaluates on lines that were trained on without a warning. `metric_tokenizer`, a
    tokenizer.json or the folder of one, adds token metrics.
    """

    model: str
    store: Path | None = None
    device: str = "auto"
    threads: int | None = None
    batch_size: int = BATCH_SIZE
    subset_key: str = ""
    against: Path | None = None
    output: Path | None = None
    page: Path | None = None
    overlay: Path | None = None
    crops: int = WORST_CROPS
    resampler: "Resampler | None" = None
    decoder: str = AUTO
    check_batches: bool = False
    gates: "Sequence[Gate]" = ()
    allow_leakage: bool = False
    metric_tokenizer: Path | None = None
    command: Sequence[str] = ()
    recognizer: "Recognizer | None" = field(default=None, repr=False)

    @property
    def decoders(self) -> list[str]:
        """The decoders, the first of them the result's."""
        return self.decoder.split(",")


@dataclass(frozen=True)
class EvalPlan:
    """A request that was checked: what kind of thing reads the lines, and the files to write."""

    request: EvalRequest
    kind: ReaderKind
    writes: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        request = self.request
        return {
            "model": request.model,
            "kind": self.kind,
            "store": str(request.store) if request.store else None,
            "against": str(request.against) if request.against else None,
            "metric_tokenizer": (
                str(request.metric_tokenizer) if request.metric_tokenizer else None
            ),
            "writes": [str(file) for file in self.writes],
        }


def plan(request: EvalRequest) -> EvalPlan:
    """Check a request; nothing is opened.

    Raises UsageError for what is not there, for options that do not go together, and for an output
    that is an input.
    """
    kind = "model" if request.recognizer else _kind_of(request.model)
    store = request.store
    if store is None and kind != "recorded":
        raise UsageError(
            f"{request.model} needs a line store to read: nordocr eval {request.model} LINES.lmdb"
        )
    if store is not None:
        _require_lines(store)
    _require_options_fit(request, kind)
    if request.overlay:
        from nordocr_cli.core.eval.overlay import require_pages

        require_pages(store)
    if request.metric_tokenizer:
        from nordocr_cli.metrics.tokens import find_tokenizer

        find_tokenizer(request.metric_tokenizer)

    writes: list[Path] = []
    if request.output:
        writes += output_files(request.output)
    if request.page:
        writes.append(request.page)
    inputs = [Path(request.model)]
    if store:
        inputs.append(store)
    recorded = [Path(request.model)] if kind == "recorded" else []
    if request.against:
        recorded.append(request.against)
    for file in writes:
        atomic.refuse_inputs(file, [*inputs, *chain(*map(recorded_files, recorded))])
    if request.against:
        from nordocr_cli.metrics.recorded import find_recorded

        find_recorded(request.against)
    return EvalPlan(request, kind, tuple(writes))


def _require_lines(store: Path) -> None:
    """Raise UsageError unless there is a line store or another source, as `PATH` or
    `LABELS:FOLDER`.
    """
    try:
        parse_source(str(store))
    except UsageError as error:
        raise UsageError(f"no line store {store}: {error}") from None


def _require_options_fit(request: EvalRequest, kind: ReaderKind) -> None:
    if kind != "recorded":
        if request.recognizer is None:
            for decoder in request.decoders:
                require_options(parse_spec(request.model), "fp32", decoder, False)
        return
    if (
        request.resampler
        or request.check_batches
        or request.decoder not in (AUTO, "greedy")
    ):
        raise UsageError(
            f"{request.model} is a recorded result: --resampler, --decoder and --check-batches need"
            " a recognizer"
        )


def _kind_of(model: str) -> ReaderKind:
    path = Path(model)
    is_result_folder = (path / "eval.json").is_file() and not (
        path / "best.safetensors"
    ).is_file()
    if path.suffix in (".jsonl", ".json", *SUFFIXES) or is_result_folder:
        if not path.exists():
            raise UsageError(f"no recorded result {path}")
        return "recorded"
    spec = parse_spec(model)
    if spec.path:
        return "model"
    return cast(ReaderKind, spec.backend)


def parse_resampler(name: str) -> "Resampler":
    """Return `name` as a resampler. Raises UsageError."""
    from nordocr_cli.geometry import Resampler

    if name not in get_args(Resampler):
        raise UsageError(
            f"unknown resampler {name!r}: {nearest(name, get_args(Resampler))}"
        )
    return cast("Resampler", name)
