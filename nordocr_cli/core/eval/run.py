"""eval: what a recognizer, or a recording of one, makes of the lines of a store."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from nordocr_cli import __version__, atomic
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.core.eval.against import Ablation, Against, compare_decoders, compare_with
from nordocr_cli.core.eval.files import output_files, recorded_files, write_page, write_result
from nordocr_cli.core.eval.fit import require_fit
from nordocr_cli.core.eval.lines import (
    BatchCheck,
    check_batch_invariance,
    choose_subset_key,
    expected_line,
    identity,
    known_charset,
    match_recorded,
    open_lines,
    read_lines,
    recorded_alone,
    require_key,
    store_identity,
)
from nordocr_cli.errors import DataError, UsageError, nearest
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.runtime.specs import parse_spec, require_options

if TYPE_CHECKING:
    from nordocr_cli.geometry import Resampler
    from nordocr_cli.metrics.calibration import Calibration
    from nordocr_cli.metrics.characters import CharacterReport
    from nordocr_cli.metrics.gates import Gate
    from nordocr_cli.metrics.report import Report
    from nordocr_cli.metrics.score import LineScore
    from nordocr_cli.runtime.protocols import Recognizer

SCHEMA = "nordocr.eval/1"
BATCH_SIZE = 256
CROPS = 500  # lines of the HTML page that get their picture


@dataclass(frozen=True)
class EvalResult:
    """An evaluation: the report, the scored lines in store order, and what was evaluated on
    what.
    """

    report: "Report"
    scores: tuple["LineScore", ...]
    model: dict[str, Any]
    store: dict[str, Any] | None
    subset_key: str
    characters: "CharacterReport"
    # of a recording: matched, missing, extra, references_differ
    matching: dict[str, int] | None = None
    against: Against | None = None
    ablations: tuple[Ablation, ...] = ()
    readings: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # of the ablations: what each decoder read, line by line
    batches: BatchCheck | None = None
    calibration: "Calibration | None" = None  # None where no line has a confidence
    command: tuple[str, ...] = ()
    files: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return everything but the lines as plain JSON values."""
        return {
            "schema": SCHEMA,
            "nordocr": __version__,
            "command": list(self.command),
            "model": self.model,
            "store": self.store,
            "subset_key": self.subset_key,
            "matching": self.matching,
            "report": self.report.to_json(),
            "characters": self.characters.to_json(),
            "calibration": self.calibration.to_json() if self.calibration else None,
            "against": self.against.to_json() if self.against else None,
            "ablations": [ablation.to_json() for ablation in self.ablations],
            "batch_check": self.batches.to_json() if self.batches else None,
        }

    def other_readings(self) -> Iterator[dict[str, Any]]:
        """Yield for each line what the other decoders read, as JSON values; nothing where there was
        one decoder.
        """
        for number in range(len(self.scores)):
            yield (
                {"readings": {name: texts[number] for name, texts in self.readings.items()}}
                if self.readings
                else {}
            )


def plan_eval(
    model: str,
    store: Path | None,
    output: Path | None = None,
    against: Path | None = None,
    page: Path | None = None,
) -> dict[str, Any]:
    """Return what `evaluate` would do; nothing is opened.

    Raises UsageError for what is not there, and for an output that is an input.
    """
    kind = _kind_of(model)
    if store is None and kind != "recorded":
        raise UsageError(f"{model} needs a line store to read: nordocr eval {model} LINES.lmdb")
    if store is not None and not store.exists():
        raise UsageError(f"no line store {store}")
    files = (*(output_files(output) if output else ()), *([page] if page else ()))
    recorded = [path for path in (Path(model) if kind == "recorded" else None, against) if path]
    for file in files:
        atomic.refuse_inputs(
            file, [Path(model), *([store] if store else ()), *chain(*map(recorded_files, recorded))]
        )
    if against is not None:
        from nordocr_cli.metrics.recorded import find_recorded

        find_recorded(against)
    return {
        "model": model,
        "kind": kind,
        "store": str(store) if store else None,
        "against": str(against) if against else None,
        "writes": [str(file) for file in files],
    }


def evaluate(
    model: str,
    store_path: Path | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = BATCH_SIZE,
    subset_key: str = "",
    against: Path | None = None,
    output: Path | None = None,
    page: Path | None = None,
    crops: int = CROPS,
    resampler: "Resampler | None" = None,
    decoder: str = "greedy",
    check_batches: bool = False,
    gates: "Sequence[Gate]" = (),
    command: Sequence[str] = (),
    recognizer: "Recognizer | None" = None,
    progress: Progress = SILENT,
) -> EvalResult:
    """Read the lines of a store with `model` and compare what it reads with what stands there.

    `model` is weights, a run folder, an .onnx, an .engine, `tesseract[:languages]`, or a recorded
    result (.jsonl, or what `output` wrote), which may go without a store when it holds the
    references. Instead of a store a manifest can be given: its crops are prepared here, as the
    network's contract says or with `resampler` (to see what the consumer's costs); Tesseract gets
    them as they are. `recognizer` is used instead of opening `model`. `decoder` is one of
    open_recognizer's, or several, comma-separated: the first one's readings are the result, the
    others' are compared with them. Lines are handed over sorted by width, at most `batch_size` at
    once; with `check_batches`, CHECKED_LINES of them again, alone and in other batches.
    `subset_key` names the row's key to report by; left empty it is `subset`, or `degradation` where
    no row has a subset. `output` (a folder, or FILE.json) gets the report and beside it the lines;
    `page` (a file) the HTML page with pictures of the `crops` worst lines. `gates` are not judged
    here; one that names what these lines do not have is refused before they are read. Raises
    UsageError for that and for options that do not go together, ArtifactError when the network does
    not fit the store, DataError for damaged input.
    """
    from nordocr_cli.metrics.calibration import calibrate
    from nordocr_cli.metrics.characters import score_characters
    from nordocr_cli.metrics.gates import require_countable
    from nordocr_cli.metrics.report import report_of
    from nordocr_cli.metrics.score import score_lines

    kind = "model" if recognizer else plan_eval(model, store_path, output, against, page)["kind"]
    decoders = decoder.split(",")
    matching: dict[str, int] | None = None
    batches: BatchCheck | None = None
    store: dict[str, Any] | None = None
    if kind == "recorded" and (resampler or check_batches or decoder != "greedy"):
        raise UsageError(
            f"{model} is read already: --resampler, --decoder and --check-batches need a recognizer"
        )
    if store_path is None:
        read, who, subset_key = recorded_alone(model, subset_key)
        charset = None
        require_countable(gates, read[""], compared=against is not None)
    else:
        contract = None
        if kind == "model" and recognizer is None:
            model = str(find_weights(Path(model)))
            contract = read_contract(Path(model))
        for name in decoders if kind != "recorded" and recognizer is None else ():
            # not only when the first one has read
            require_options(parse_spec(model), "fp32", name, False)
        with open_lines(store_path, contract, resampler) as lines:
            rows = [lines.row(i) for i in range(len(lines))]
            if not rows:
                raise DataError(f"{store_path} holds no lines")
            if subset_key:
                require_key(subset_key, (row.to_json() for row in rows), store_path)
            subset_key = subset_key or choose_subset_key(rows)
            store = store_identity(lines)
            expected = [expected_line(row, lines, i, subset_key) for i, row in enumerate(rows)]
            charset = known_charset(lines)
            require_countable(gates, expected, compared=against is not None)
            if kind == "recorded":
                read, who, matching = match_recorded(model, rows, expected, progress)
            else:
                if contract is not None:
                    require_fit(lines, contract, model, progress)
                    charset = contract.charset
                read = {}
                for name in decoders:
                    reader = recognizer or _open(model, name, device, threads)
                    read[name if read else ""] = read_lines(
                        reader, lines, expected, contract, batch_size, progress
                    )
                    if name == decoders[0]:
                        who = identity(model, kind, reader, contract) | {"decoder": name}
                        batches = (
                            check_batch_invariance(reader, lines, expected, progress)
                            if check_batches
                            else None
                        )
    scored = {name: tuple(score_lines(results, charset)) for name, results in read.items()}
    scores = scored.pop("")
    result = EvalResult(
        report=report_of(scores),
        scores=scores,
        model=who,
        store=store,
        subset_key=subset_key,
        characters=score_characters([(score.wanted, score.read) for score in scores]),
        matching=matching,
        against=compare_with(against, scores, progress) if against else None,
        ablations=tuple(compare_decoders(name, scores, others) for name, others in scored.items()),
        readings={
            name: tuple(score.result.hypothesis for score in others)
            for name, others in scored.items()
        },
        batches=batches,
        calibration=calibrate((score.result.confidence, score.exact) for score in scores),
        command=tuple(command),
    )
    if output:
        result = write_result(result, output)
    return write_page(result, store_path, page, crops) if page else result


def _open(model: str, decoder: str, device: str, threads: int | None) -> "Recognizer":
    from nordocr_cli.runtime.recognizers import open_recognizer

    return open_recognizer(model, device=device, threads=threads, decoder=decoder)


def _kind_of(model: str) -> str:
    """`tesseract`, `recorded` or `model`."""
    path = Path(model)
    if path.suffix in (".jsonl", ".json") or (
        (path / "eval.json").is_file() and not (path / "best.safetensors").is_file()
    ):
        if not path.exists():
            raise UsageError(f"no recorded result {path}")
        return "recorded"
    return "tesseract" if parse_spec(model).path is None else "model"


def parse_resampler(name: str) -> "Resampler":
    """Return `name` as a resampler. Raises UsageError."""
    from nordocr_cli.geometry import Resampler

    if name not in get_args(Resampler):
        raise UsageError(f"unknown resampler {name!r}: {nearest(name, get_args(Resampler))}")
    return cast("Resampler", name)
