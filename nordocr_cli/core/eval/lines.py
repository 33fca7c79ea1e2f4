"""The lines of an evaluation and their hypotheses: from a recognizer now, or recorded earlier."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from nordocr_cli import atomic
from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import CHARSETS, Charset
from nordocr_cli.core.eval.outputs import is_output, read_output
from nordocr_cli.core.eval.result import BatchCheck
from nordocr_cli.data.notes import squash_ratio
from nordocr_cli.errors import DataError, UsageError, nearest
from nordocr_cli.limits import parse_json, read_text
from nordocr_cli.progress import Progress
from nordocr_cli.records import LineResult, LineRow, finite

if TYPE_CHECKING:
    from nordocr_cli.data.manifest_lines import ManifestLines
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.geometry import Resampler
    from nordocr_cli.metrics.recorded import RecordedLine
    from nordocr_cli.pixels import Pixels
    from nordocr_cli.runtime.protocols import Recognizer

CHECKED_LINES = 100  # by check_batches


def open_lines(
    path: Path, contract: Contract | None, resampler: "Resampler | None"
) -> "LineStore | ManifestLines":
    """Open a line store, or any other source, whose crops are prepared as `contract` says."""
    from nordocr_cli.data.lmdb_source import is_line_store

    if is_line_store(path):
        if resampler:
            raise UsageError(
                f"the lines of {path} are resized already; give the manifest with the original"
                " crops for --resampler"
            )
        from nordocr_cli.data.store import LineStore

        return LineStore(path)
    from nordocr_cli.data.manifest_lines import ManifestLines

    if resampler and contract is None:
        raise UsageError(
            "--resampler is for networks; this recognizer gets the crops as they are"
        )
    geometry = contract.geometry if contract else None
    return ManifestLines(
        path, replace(geometry, resampler=resampler) if geometry and resampler else geometry
    )


def store_identity(lines: "LineStore | ManifestLines") -> dict[str, Any]:
    """Return what lines were read: the header of a store, or what stands for it in a manifest."""
    from nordocr_cli.data.manifest_lines import ManifestLines

    if isinstance(lines, ManifestLines):
        return lines.identity()
    header = lines.header.to_json()
    return {"path": str(lines.path)} | {
        key: value for key, value in header.items() if key not in ("counts", "made")
    }


def choose_subset_key(rows: Sequence[LineRow]) -> str:
    """Return `subset`, or `degradation` where no row has a subset."""
    if not any(row.subset for row in rows) and any(
        "degradation" in row.extra for row in rows
    ):
        return "degradation"
    return "subset"


def require_key(key: str, rows: Iterable[Mapping[str, Any]], where: Path) -> None:
    """Raise UsageError, with the nearest key, when not one row has a value for `key`."""
    known: set[str] = set()
    for row in rows:
        if row.get(key):
            return
        known |= {name for name, value in row.items() if value}
    raise UsageError(
        f"--by {key!r}: no line of {where} has it; {nearest(key, known - {key})}"
    )


def expected_line(
    row: LineRow, lines: "LineStore | ManifestLines", index: int, subset_key: str
) -> LineResult:
    """The line as the store has it, without a hypothesis."""
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


def left_out_rows(lines: "LineStore | ManifestLines") -> tuple[LineRow, ...]:
    """Return the rows of the lines that a store could not hold; none of a manifest."""
    from nordocr_cli.data.manifest_lines import ManifestLines

    if isinstance(lines, ManifestLines):
        return ()
    return lines.left_out


def left_out_lines(lines: "LineStore | ManifestLines", subset_key: str) -> list[LineResult]:
    """Return the lines that a store could not hold, with an empty hypothesis."""
    return [
        LineResult(
            id=row.id,
            reference=row.text,
            hypothesis="",
            language=row.language,
            subset=str(row.to_json().get(subset_key, "")),
            source=row.source,
            not_in_store=True,
        )
        for row in left_out_rows(lines)
    ]


def known_charset(lines: "LineStore | ManifestLines") -> Charset | None:
    """Return the charset that a store was made for, None where there is no such."""
    from nordocr_cli.data.manifest_lines import ManifestLines

    if isinstance(lines, ManifestLines):
        return None
    known = CHARSETS.get(lines.header.charset_name)
    if known and known.sha256 == lines.header.charset_sha256:
        return known
    return None


def recognize_store(
    recognizer: "Recognizer",
    lines: "LineStore | ManifestLines",
    expected: Sequence[LineResult],
    contract: Contract | None,
    batch_size: int,
    progress: Progress,
) -> list[LineResult]:
    """Recognize all lines, narrow ones first so that a batch holds like widths; results are in
    store order.
    """
    results = list(expected)
    order = sorted(range(len(expected)), key=lambda i: (int(lines.widths[i]), i))
    progress.start(f"eval {recognizer.name}", len(order))
    try:
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            readings = recognizer.recognize(
                [line_image(lines, i, contract) for i in chunk],
                [expected[i].language for i in chunk],
            )
            for index, reading in zip(chunk, readings, strict=True):
                read = replace(
                    expected[index],
                    hypothesis=reading.text,
                    confidence=finite(reading.confidence),
                )
                results[index] = read if contract is None else _as_seen(read, contract)
            progress.advance(len(chunk))
    finally:
        progress.finish()
    return results


def line_image(
    lines: "LineStore | ManifestLines", index: int, contract: Contract | None
) -> "Pixels":
    """Return a line as the network of `contract` reads it, uint8 (height, width, 3): a line that a
    store holds as it was is tightened for a network that was trained on tight ones.
    """
    from nordocr_cli.data.resize import resize_line
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.data.text_band import tighten

    image = lines.image(index)
    if contract is None or not contract.geometry.tighten:
        return image
    if not isinstance(lines, LineStore) or lines.header.geometry.tighten:
        return image
    return resize_line(tighten(image), contract.geometry)


def check_batch_invariance(
    recognizer: "Recognizer",
    lines: "LineStore | ManifestLines",
    expected: Sequence[LineResult],
    progress: Progress,
) -> BatchCheck:
    """Read a sample of the lines, from the narrowest to the widest, alone and in other batches."""
    from nordocr_cli.runtime.recognizers import batch_invariance

    order = sorted(range(len(expected)), key=lambda i: (int(lines.widths[i]), i))
    count = min(CHECKED_LINES, len(order))
    sample = [order[k * (len(order) - 1) // max(1, count - 1)] for k in range(count)]
    progress.note(f"reading {count} lines again, alone and in other batches")
    found = batch_invariance(
        recognizer, [lines.image(i) for i in sample], [expected[i].language for i in sample]
    )
    differing = {
        name: tuple(expected[sample[k]].id for k in numbers)
        for name, numbers in found.items()
    }
    return BatchCheck(lines=count, differing=differing)


def _as_seen(result: LineResult, contract: Contract) -> LineResult:
    """Set width, squash ratio and CTC frames to what the network saw of a line, which it may have
    squashed once more.
    """
    stored = result.width or 0
    seen = min(stored, contract.geometry.max_width)
    if contract.decoding == "ctc":
        frames = contract.out_length(seen)
    else:
        frames = None
    return replace(
        result, width=seen, squash_ratio=result.squash_ratio * stored / seen, frames=frames
    )


def recorded_alone(
    model: str, subset_key: str
) -> tuple[dict[str, list[LineResult]], dict[str, Any], str]:
    """Read a recording that holds the references; returns the results of each decoder ("" the
    first), what was read, and the key of the subsets.
    """
    from nordocr_cli.metrics.recorded import find_recorded, read_recorded

    path = find_recorded(Path(model))
    recorded = read_recorded(path, subset_key or "subset")
    if subset_key and not any(line.result.subset for line in recorded):
        written = read_text(path, "recording").split("\n")
        require_key(
            subset_key, (parse_json(line) for line in written if line.strip()), path
        )
    without = [line.where for line in recorded if not line.has_reference]
    if without:
        raise DataError(
            f"{without[0]} (and {len(without) - 1} more) has no reference; name the line store that"
            " has it"
        )
    results = _by_decoder(recorded, [line.result for line in recorded])
    return results, _recorded_identity(path), subset_key or "subset"


def match_recorded(
    model: str, rows: Sequence[LineRow], expected: Sequence[LineResult], progress: Progress
) -> tuple[dict[str, list[LineResult]], dict[str, Any], dict[str, int]]:
    """Match recorded hypotheses with the store's lines, by id or image. A line without one counts
    as read empty.

    Returns the results of each decoder ("" the first), what was read, and how many lines matched.
    Raises DataError when a recorded line belongs to two lines of the store, or none to any.
    """
    from nordocr_cli.metrics.recorded import find_recorded, read_recorded

    path = Path(model)
    if not is_output(path):
        path = find_recorded(path)
    recorded = read_output(path) if is_output(path) else read_recorded(path)
    partners = _partners(recorded, rows)
    if is_output(path) and not any(partners):
        recorded = _named_as_in_the_store(recorded, rows, path)
        partners = _partners(recorded, rows)
    results = [
        _with_hypothesis(line, partner)
        for line, partner in zip(expected, partners, strict=True)
    ]
    used = {partner.where for partner in partners if partner}
    if not used:
        raise DataError(
            f"no line of {path} is in the store: its first is {recorded[0].result.id!r}, the"
            f" store's {rows[0].id!r}"
        )

    pairs = list(zip(rows, partners, strict=True))
    missing = [row.id for row, partner in pairs if partner is None]
    extra = [line.result.id for line in recorded if line.where not in used]
    differ = [row.id for row, partner in pairs if partner and _has_other_text(partner, row)]
    for ids, what in (
        (missing, "lines of the store have no hypothesis and count as read empty"),
        (extra, "hypotheses belong to no line of the store and are left out"),
        (differ, "lines have another reference in the recording; the store's is used"),
    ):
        if ids:
            progress.warn(
                f"{path}: {len(ids)} {what}, e.g. {', '.join(map(repr, ids[:3]))}"
            )
    counts = {
        "matched": len(used),
        "missing": len(missing),
        "extra": len(extra),
        "references_differ": len(differ),
    }
    return _by_decoder(partners, results), _recorded_identity(path), counts


def _partners(
    recorded: "Sequence[RecordedLine]", rows: Sequence[LineRow]
) -> "list[RecordedLine | None]":
    """The recorded line of each row of the store, None where there is none."""
    by_id = {line.result.id: line for line in recorded}
    by_image = {line.image: line for line in recorded if line.image}
    by_name = _by_file_name(recorded)
    used: dict[str, str] = {}
    partners: list[RecordedLine | None] = []
    for row in rows:
        found = by_id.get(row.id) or by_image.get(row.image) or by_id.get(row.image)
        found = found or by_name.get(PurePath(row.image).name)
        partners.append(found)
        if found is None:
            continue
        other = used.get(found.where)
        if other:
            raise DataError(
                f"{found.where} is the hypothesis of both {other!r} and {row.id!r} of the store;"
                " its ids must be unique"
            )
        used[found.where] = row.id
    return partners


def _named_as_in_the_store(
    recorded: "Sequence[RecordedLine]", rows: Sequence[LineRow], path: Path
) -> "list[RecordedLine]":
    """The hypotheses of a result that does not name its image, with the name of the store's only
    document. Without an image's name, a line has that of the result's file: `read:p1:r1`.
    """
    documents = {row.id.rpartition(":p")[0] for row in rows}
    if len(documents) != 1:
        return list(recorded)

    own = f"{path.stem}:p"
    document = f"{documents.pop()}:p"
    renamed = []
    for line in recorded:
        name = line.result.id
        if name.startswith(own):
            name = document + name.removeprefix(own)
        renamed.append(replace(line, result=replace(line.result, id=name)))
    return renamed


def _by_file_name(recorded: "Sequence[RecordedLine]") -> "dict[str, RecordedLine]":
    """Lines by the names of their images without folders, where no other line has that name:
    `predict` writes the paths that it was given.
    """
    names = Counter(PurePath(line.image).name for line in recorded if line.image)
    unique: dict[str, RecordedLine] = {}
    for line in recorded:
        name = PurePath(line.image).name
        if line.image and names[name] == 1:
            unique[name] = line
    return unique


def _with_hypothesis(line: LineResult, partner: "RecordedLine | None") -> LineResult:
    if partner is None:
        return line
    return replace(
        line,
        hypothesis=partner.result.hypothesis,
        confidence=partner.result.confidence,
        frames=partner.result.frames,
    )


def _has_other_text(partner: "RecordedLine", row: LineRow) -> bool:
    from nordocr_cli.metrics.text import canonical

    return partner.has_reference and canonical(partner.result.reference) != canonical(
        row.text
    )


def _recorded_identity(path: Path) -> dict[str, Any]:
    return {
        "kind": "recorded",
        "name": path.name,
        "path": str(path),
        "sha256": atomic.sha256_of(path),
    }


def _by_decoder(
    recorded: "Sequence[RecordedLine | None]", results: list[LineResult]
) -> dict[str, list[LineResult]]:
    """The results, and those with the hypotheses of every other decoder that was recorded."""
    decoders = dict.fromkeys(name for line in recorded if line for name in line.readings)
    others: dict[str, list[LineResult]] = {}
    for name in decoders:
        others[name] = []
        for line, result in zip(recorded, results, strict=True):
            if line:
                hypothesis = line.readings.get(name, result.hypothesis)
            else:
                hypothesis = result.hypothesis
            others[name].append(replace(result, hypothesis=hypothesis))
    return {"": results} | others


def identity(
    model: str, kind: str, recognizer: "Recognizer", contract: Contract | None
) -> dict[str, Any]:
    """Return what read the lines."""
    identity: dict[str, Any] = {"kind": kind, "name": recognizer.name}
    about = getattr(recognizer, "about", None)
    if about is not None:
        identity |= about()
    if contract is not None:
        identity |= {
            "path": model,
            "sha256": atomic.sha256_of(Path(model)),
            "contract": contract.to_json(),
        }
    return identity
