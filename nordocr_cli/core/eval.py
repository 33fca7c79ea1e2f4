"""eval: what a recognizer, or a recording of one, makes of the lines of a store."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from nordocr_cli import __version__, atomic
from nordocr_cli.artifact import Contract, find_weights, read_contract
from nordocr_cli.charset import CHARSETS, Charset
from nordocr_cli.core.fit import require_fit
from nordocr_cli.data.notes import squash_ratio
from nordocr_cli.errors import DataError, UsageError, nearest
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import LineResult, LineRow
from nordocr_cli.runtime.specs import parse_spec

if TYPE_CHECKING:
    from nordocr_cli.data.manifest_lines import ManifestLines
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.geometry import Geometry, Resampler
    from nordocr_cli.metrics.calibration import Calibration
    from nordocr_cli.metrics.characters import CharacterReport
    from nordocr_cli.metrics.recorded import RecordedLine
    from nordocr_cli.metrics.report import LineScore, Report
    from nordocr_cli.metrics.significance import Comparison
    from nordocr_cli.runtime.protocols import Recognizer

SCHEMA = "nordocr.eval/1"
BATCH_SIZE = 256
CHECKED_LINES = 100  # by check_batches
CROPS = 500  # lines of the HTML page that get their picture


@dataclass(frozen=True)
class Against:
    """The comparison with another result: `only_here` and `only_there` lines have no partner, `references_differ` were left out
    because the two results disagree on what stands there; `gained` and `lost` are ids of lines that became (in)exact."""

    other: str
    comparison: "Comparison"
    only_here: int
    only_there: int
    references_differ: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return dict(vars(self)) | {
            "comparison": self.comparison.to_json(),
            "gained": list(self.gained),
            "lost": list(self.lost),
        }


@dataclass(frozen=True)
class BatchCheck:
    """Whether a line's text depends on its batch: of `lines` lines, the ids of those that read differently than alone, by what
    they were batched with."""

    lines: int
    differing: dict[str, tuple[str, ...]]

    @property
    def problem(self) -> str:
        """What differs, in words; empty when nothing does."""
        found = [f"{len(ids)} {batched}, e.g. {ids[0]!r}" for batched, ids in self.differing.items() if ids]
        return f"of {self.lines} lines, these read differently than alone: {'; '.join(found)}" if found else ""

    def to_json(self) -> dict[str, Any]:
        """Return the check as plain JSON values."""
        return {"lines": self.lines, "differing": {batched: list(ids) for batched, ids in self.differing.items()}}


@dataclass(frozen=True)
class EvalResult:
    """An evaluation: the report, the scored lines in store order, and what was evaluated on what."""

    report: "Report"
    scores: tuple["LineScore", ...]
    model: dict[str, Any]
    store: dict[str, Any] | None
    subset_key: str
    characters: "CharacterReport"
    matching: dict[str, int] | None = None  # of a recording: matched, missing, extra, references_differ
    against: Against | None = None
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
            "batch_check": self.batches.to_json() if self.batches else None,
        }


def plan_eval(
    model: str, store: Path | None, output: Path | None = None, against: Path | None = None, page: Path | None = None
) -> dict[str, Any]:
    """Return what `evaluate` would do; nothing is opened.

    Raises UsageError for what is not there, and for an output that is an input.
    """
    kind = _kind_of(model)
    if store is None and kind != "recorded":
        raise UsageError(f"{model} needs a line store to read: nordocr eval {model} LINES.lmdb")
    if store is not None and not store.exists():
        raise UsageError(f"no line store {store}")
    files = (*(_output_files(output) if output else ()), *([page] if page else ()))
    recorded = [path for path in (Path(model) if kind == "recorded" else None, against) if path]
    for file in files:
        atomic.refuse_inputs(file, [Path(model), *([store] if store else ()), *chain(*map(_recorded_files, recorded))])
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
    command: Sequence[str] = (),
    recognizer: "Recognizer | None" = None,
    progress: Progress = SILENT,
) -> EvalResult:
    """Read the lines of a store with `model` and compare what it reads with what stands there.

    `model` is weights, a run folder, an .onnx, an .engine, `tesseract[:languages]`, or a recorded result (.jsonl, or what
    `output` wrote), which may go without a store when it holds the references. Instead of a store a manifest can be given: its
    crops are prepared here, as the network's contract says or with `resampler` (to see what the consumer's costs); Tesseract
    gets them as they are. `recognizer` is used instead of opening `model`; `decoder` is `greedy` or `beam`. Lines are handed over
    sorted by width, at most `batch_size` at once; with `check_batches`, CHECKED_LINES of them again, alone and in other batches.
    `subset_key` names the row's key to report by; left empty it is `subset`, or `degradation` where no row has a subset.
    `output` (a folder, or FILE.json) gets the report and beside it the lines; `page` (a file) the HTML page with pictures of the
    `crops` worst lines. Raises UsageError for options that do not go together, ArtifactError
    when the network does not fit the store, DataError for damaged input.
    """
    from nordocr_cli.metrics.calibration import calibrate
    from nordocr_cli.metrics.characters import score_characters
    from nordocr_cli.metrics.report import report_of, score_line

    kind = "model" if recognizer else plan_eval(model, store_path, output, against, page)["kind"]
    matching: dict[str, int] | None = None
    batches: BatchCheck | None = None
    store: dict[str, Any] | None = None
    if kind == "recorded" and (resampler or check_batches or decoder != "greedy"):
        raise UsageError(f"{model} is read already: --resampler, --decoder and --check-batches need a recognizer")
    if store_path is None:
        results, identity, subset_key = _recorded_alone(model, subset_key)
        charset = None
    else:
        contract = None
        if kind == "model" and recognizer is None:
            model = str(find_weights(Path(model)))
            contract = read_contract(Path(model))
        with _open_lines(store_path, contract, resampler) as lines:
            rows = [lines.row(i) for i in range(len(lines))]
            if not rows:
                raise DataError(f"{store_path} holds no lines")
            if subset_key:
                _require_key(subset_key, (row.to_json() for row in rows), store_path)
            subset_key = subset_key or _choose_subset_key(rows)
            store = _store_identity(lines)
            expected = [_expected(row, lines, i, subset_key) for i, row in enumerate(rows)]
            charset = _known_charset(lines)
            if kind == "recorded":
                results, identity, matching = _match(model, rows, expected, progress)
            else:
                if contract is not None:
                    require_fit(lines, contract, model, progress)
                    charset = contract.charset
                if recognizer is None:
                    from nordocr_cli.runtime.recognizers import open_recognizer

                    recognizer = open_recognizer(model, device=device, threads=threads, decoder=decoder)
                results = _read(recognizer, lines, expected, contract, batch_size, progress)
                identity = _identity(model, kind, recognizer, contract) | {"decoder": decoder}
                if check_batches:
                    batches = _check_batches(recognizer, lines, expected, progress)
    scores = tuple(score_line(result, charset) for result in results)
    result = EvalResult(
        report=report_of(scores),
        scores=scores,
        model=identity,
        store=store,
        subset_key=subset_key,
        characters=score_characters((score.result.reference, score.result.hypothesis) for score in scores),
        matching=matching,
        against=_compare(against, scores, progress) if against else None,
        batches=batches,
        calibration=calibrate((score.result.confidence, score.exact) for score in scores),
        command=tuple(command),
    )
    if output:
        result = _write(result, output)
    return _write_page(result, store_path, page, crops) if page else result


def _kind_of(model: str) -> str:
    """`tesseract`, `recorded` or `model`."""
    path = Path(model)
    if path.suffix in (".jsonl", ".json") or ((path / "eval.json").is_file() and not (path / "best.safetensors").is_file()):
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


def _open_lines(path: Path, contract: Contract | None, resampler: "Resampler | None") -> "LineStore | ManifestLines":
    """Open a line store, or a manifest whose crops are prepared as `contract` says."""
    if path.is_dir():
        if resampler:
            raise UsageError(
                f"the lines of {path} are resized already; give the manifest with the original crops for --resampler"
            )
        from nordocr_cli.data.store import LineStore

        return LineStore(path)
    from nordocr_cli.data.manifest_lines import ManifestLines

    if resampler and contract is None:
        raise UsageError("--resampler is for networks; this recognizer gets the crops as they are")
    geometry = contract.geometry if contract else None
    return ManifestLines(path, replace(geometry, resampler=resampler) if geometry and resampler else geometry)


def _store_identity(lines: "LineStore | ManifestLines") -> dict[str, Any]:
    from nordocr_cli.data.manifest_lines import ManifestLines

    if isinstance(lines, ManifestLines):
        return lines.identity()
    header = lines.header.to_json()
    return {"path": str(lines.path)} | {key: value for key, value in header.items() if key not in ("counts", "made")}


def _choose_subset_key(rows: Sequence[LineRow]) -> str:
    if not any(row.subset for row in rows) and any("degradation" in row.extra for row in rows):
        return "degradation"
    return "subset"


def _require_key(key: str, rows: Iterable[Mapping[str, Any]], where: Path) -> None:
    """Raise UsageError, with the nearest key, when not one row has a value for `key`."""
    known: set[str] = set()
    for row in rows:
        if row.get(key):
            return
        known |= {name for name, value in row.items() if value}
    raise UsageError(f"--by {key!r}: no line of {where} has it; {nearest(key, known - {key})}")


def _expected(row: LineRow, lines: "LineStore | ManifestLines", index: int, subset_key: str) -> LineResult:
    """The line as the store knows it, nothing read yet."""
    return LineResult(
        id=row.id,
        reference=row.text,
        hypothesis="",
        language=row.language,
        subset=str(row.to_json().get(subset_key, "")),
        source=row.source,
        width=int(lines.widths[index]),
        squash_ratio=squash_ratio(row),
    )


def _known_charset(lines: "LineStore | ManifestLines") -> Charset | None:
    from nordocr_cli.data.manifest_lines import ManifestLines

    if isinstance(lines, ManifestLines):
        return None
    known = CHARSETS.get(lines.header.charset_name)
    return known if known and known.sha256 == lines.header.charset_sha256 else None


def _read(
    recognizer: "Recognizer",
    lines: "LineStore | ManifestLines",
    expected: Sequence[LineResult],
    contract: Contract | None,
    batch_size: int,
    progress: Progress,
) -> list[LineResult]:
    """Recognize all lines, narrow ones first so that a batch holds like widths; results are in store order."""
    results = list(expected)
    order = sorted(range(len(expected)), key=lambda i: (int(lines.widths[i]), i))
    progress.start(f"eval {recognizer.name}", len(order))
    try:
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            readings = recognizer.recognize([lines.image(i) for i in chunk], [expected[i].language for i in chunk])
            for index, reading in zip(chunk, readings, strict=True):
                read = replace(expected[index], hypothesis=reading.text, confidence=reading.confidence)
                results[index] = read if contract is None else _as_seen(read, contract.geometry)
            progress.advance(len(chunk))
    finally:
        progress.finish()
    return results


def _check_batches(
    recognizer: "Recognizer", lines: "LineStore | ManifestLines", expected: Sequence[LineResult], progress: Progress
) -> BatchCheck:
    """Read a sample of the lines, from the narrowest to the widest, alone and in other batches."""
    from nordocr_cli.runtime.recognizers import batch_invariance

    order = sorted(range(len(expected)), key=lambda i: (int(lines.widths[i]), i))
    count = min(CHECKED_LINES, len(order))
    sample = [order[k * (len(order) - 1) // max(1, count - 1)] for k in range(count)]
    progress.note(f"reading {count} lines again, alone and in other batches")
    found = batch_invariance(recognizer, [lines.image(i) for i in sample], [expected[i].language for i in sample])
    return BatchCheck(count, {name: tuple(expected[sample[k]].id for k in numbers) for name, numbers in found.items()})


def _as_seen(result: LineResult, geometry: "Geometry") -> LineResult:
    """Set width, squash ratio and frames to what the network saw of a line, which it may have squashed once more."""
    stored = result.width or 0
    seen = min(stored, geometry.max_width)
    return replace(result, width=seen, squash_ratio=result.squash_ratio * stored / seen, frames=geometry.out_length(seen))


def _recorded_alone(model: str, subset_key: str) -> tuple[list[LineResult], dict[str, Any], str]:
    from nordocr_cli.metrics.recorded import find_recorded, read_recorded

    path = find_recorded(Path(model))
    recorded = read_recorded(path, subset_key or "subset")
    if subset_key and not any(line.result.subset for line in recorded):
        written = path.read_text(encoding="utf-8-sig").split("\n")
        _require_key(subset_key, (json.loads(line) for line in written if line.strip()), path)
    subset_key = subset_key or "subset"
    if without := [line.where for line in recorded if not line.has_reference]:
        raise DataError(f"{without[0]} (and {len(without) - 1} more) has no reference; name the line store that has it")
    return [line.result for line in recorded], _recorded_identity(path), subset_key


def _match(
    model: str, rows: Sequence[LineRow], expected: Sequence[LineResult], progress: Progress
) -> tuple[list[LineResult], dict[str, Any], dict[str, int]]:
    """Put recorded readings beside the store's lines, by id or image. A line without a reading counts as read empty."""
    from nordocr_cli.metrics.recorded import find_recorded, read_recorded
    from nordocr_cli.metrics.text import canonical

    path = find_recorded(Path(model))
    recorded = read_recorded(path)
    by_id = {line.result.id: line for line in recorded}
    by_image = {line.image: line for line in recorded if line.image}
    results: list[LineResult] = []
    used: dict[str, str] = {}
    missing: list[str] = []
    differ: list[str] = []
    for row, line in zip(rows, expected, strict=True):
        found: RecordedLine | None = by_id.get(row.id) or by_image.get(row.image) or by_id.get(row.image)
        if found is None:
            missing.append(row.id)
            results.append(line)
            continue
        if other := used.get(found.where):
            raise DataError(f"{found.where} is the reading of both {other!r} and {row.id!r} of the store; its ids must be unique")
        used[found.where] = row.id
        if found.has_reference and canonical(found.result.reference) != canonical(row.text):
            differ.append(row.id)
        results.append(
            replace(line, hypothesis=found.result.hypothesis, confidence=found.result.confidence, frames=found.result.frames)
        )
    if not used:
        raise DataError(f"no line of {path} is in the store: its first is {recorded[0].result.id!r}, the store's {rows[0].id!r}")
    extra = [line.result.id for line in recorded if line.where not in used]
    for ids, what in (
        (missing, "lines of the store have no reading and count as read empty"),
        (extra, "readings belong to no line of the store and are left out"),
        (differ, "lines have another reference in the recording; the store's is used"),
    ):
        if ids:
            progress.warn(f"{path}: {len(ids)} {what}, e.g. {', '.join(map(repr, ids[:3]))}")
    counts = {"matched": len(used), "missing": len(missing), "extra": len(extra), "references_differ": len(differ)}
    return results, _recorded_identity(path), counts


def _recorded_identity(path: Path) -> dict[str, Any]:
    return {"kind": "recorded", "name": path.name, "path": str(path), "sha256": atomic.sha256_of(path)}


def _identity(model: str, kind: str, recognizer: "Recognizer", contract: Contract | None) -> dict[str, Any]:
    identity: dict[str, Any] = {"kind": kind, "name": recognizer.name}
    if kind == "tesseract":
        from nordocr_cli.runtime.tesseract import tesseract_version

        return identity | {"version": tesseract_version()}
    if contract is not None:
        identity |= {"path": model, "sha256": atomic.sha256_of(Path(model)), "contract": contract.to_json()}
    return identity


def _compare(other: Path, scores: Sequence["LineScore"], progress: Progress) -> Against:
    """Compare line by line with a recorded result, by id; both must agree on what stands there."""
    from nordocr_cli.metrics.recorded import find_recorded, read_recorded
    from nordocr_cli.metrics.report import HEADLINE, clusters_of, score_line
    from nordocr_cli.metrics.significance import compare_pairs
    from nordocr_cli.metrics.text import canonical

    path = find_recorded(other)
    recorded = read_recorded(path)
    there = {line.result.id: line for line in recorded}
    here = {score.result.id for score in scores}
    pairs: list[tuple[LineScore, LineScore]] = []
    differ = 0
    for score in scores:
        line = there.get(score.result.id)
        if line is None:
            continue
        if line.has_reference and canonical(line.result.reference) != canonical(score.result.reference):
            differ += 1
            continue
        pairs.append((score_line(replace(line.result, reference=score.result.reference)), score))
    if not pairs:
        raise DataError(f"{path} and this result have no line in common (by id and reference)")
    only_here = sum(score.result.id not in there for score in scores)
    only_there = sum(identity not in here for identity in there)
    if only_here or only_there or differ:
        progress.warn(
            f"{path}: {len(pairs)} lines compared; left out {only_here} only here, {only_there} only there, "
            f"{differ} with another reference"
        )
    comparison = compare_pairs(
        [a.edits[HEADLINE].distance for a, _ in pairs],
        [b.edits[HEADLINE].distance for _, b in pairs],
        [b.edits[HEADLINE].reference_length for _, b in pairs],
        [a.exact for a, _ in pairs],
        [b.exact for _, b in pairs],
        clusters_of([b for _, b in pairs]),
    )
    return Against(
        other=str(path),
        comparison=comparison,
        only_here=only_here,
        only_there=only_there,
        references_differ=differ,
        gained=tuple(b.result.id for a, b in pairs if b.exact and not a.exact),
        lost=tuple(b.result.id for a, b in pairs if a.exact and not b.exact),
    )


def _output_files(output: Path) -> tuple[Path, Path]:
    """The report's file and the lines' file: inside a folder, or FILE.json and FILE.lines.jsonl."""
    if output.suffix == ".json":
        return output, output.with_suffix(".lines.jsonl")
    if output.suffix == ".jsonl":
        raise UsageError(f"{output}: give a folder or FILE.json; the lines are written beside the report")
    return output / "eval.json", output / "lines.jsonl"


def _recorded_files(path: Path) -> tuple[Path, ...]:
    """The files that a recorded result may be: what was named, and the pair that eval writes."""
    return (path,) if path.suffix == ".jsonl" else (path, *_output_files(path))


def _write(result: EvalResult, output: Path) -> EvalResult:
    """Write lines, then the report with their hash: a reader sees a pair that belongs together, or an error."""
    report_file, lines_file = _output_files(output)
    rows = (json.dumps(score.to_json(), ensure_ascii=False, allow_nan=False) + "\n" for score in result.scores)
    atomic.write_text(lines_file, "".join(rows))
    named = {"file": lines_file.name, "sha256": atomic.sha256_of(lines_file)}
    atomic.write_json(report_file, result.to_json() | {"lines": named})
    return replace(result, files=(str(report_file), str(lines_file)))


def _write_page(result: EvalResult, store_path: Path | None, page: Path, crops: int) -> EvalResult:
    """Write the HTML page; its pictures and manifest rows are those of the store, where there is one."""
    from nordocr_cli.metrics.html_report import evaluation_page, gallery_rows, render_page

    reader, lost = result.model["name"], result.against.lost if result.against else ()
    if store_path is None:
        rows = gallery_rows(result.scores, reader=reader, lost=lost)
    else:
        from nordocr_cli.data.line_record import encode_line

        with _open_lines(store_path, None, None) as lines:
            rows = gallery_rows(
                result.scores,
                reader=reader,
                crop_png=lambda i: encode_line(lines.image(i)).png,
                manifest=lambda i: lines.row(i).to_json(),
                crops=crops,
                lost=lost,
            )
    languages = ", ".join(f"{name} {group.lines:,}" for name, group in result.report.by_language.items())
    where = (
        f"{result.report.total.lines:,} lines of {store_path}" if store_path else f"{result.report.total.lines:,} recorded lines"
    )
    content = evaluation_page(
        result.report,
        rows,
        title=f"{reader} on {store_path.name}" if store_path else reader,
        subtitle=f"{where} ({languages})" if languages else where,
        subset_key=result.subset_key,
        characters=result.characters,
        calibration=result.calibration,
        against=(result.against.other, result.against.comparison) if result.against else None,
        footer=f"Made by: {' '.join(map(shlex.quote, result.command))}" if result.command else "",
    )
    atomic.write_text(page, render_page(content))
    return replace(result, files=(*result.files, str(page)))
