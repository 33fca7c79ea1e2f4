"""prep: labelled line images → line store. Every row read is kept, or counted under the reason for which it is not."""

import hashlib
import json
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nordocr_cli import atomic
from nordocr_cli.charset import CHARSETS, Charset, describe_character
from nordocr_cli.data.formats import Source, open_source
from nordocr_cli.data.lmdb_file import refuse_to_replace
from nordocr_cli.data.manifest import Entry
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.geometry import Geometry, frames_needed
from nordocr_cli.profile import Profile
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import LineRow

if TYPE_CHECKING:
    from nordocr_cli.data.store import EncodedLine

Policy = Literal["error", "skip"]

# Why a row is not in the store. A row has one reason, the first that was found.
Reason = Literal["bad-row", "empty-text", "oov", "missing-image", "unreadable-image", "ctc-infeasible"]

_NAMED_ROWS = 3
# `over_width = "auto"` squashes while 95 % of the over-wide crops keep at least half of their letters' width. Cropping costs
# more than it seems: the text still says what is no longer in the picture.
_AUTO_SQUASH_UP_TO = 2.0


@dataclass(frozen=True)
class WidthStats:
    """Widths of the kept lines, in pixels at the geometry's height."""

    min: int
    median: int
    p95: int
    max: int


@dataclass(frozen=True)
class PrepResult:
    """What prep did. `read` = `kept` + the sum of `left_out`, always.

    `kept_val` of the kept lines went into `val_output`; `renormalized` texts were not in NFC; `over_wide` lines were squashed
    or cropped (`over_width` says which), the worst of them `worst_squash_ratio` times too wide; `oov` counts each character
    outside the charset; `quarantine` lists the rows left out. `problem` is what the caller should fail with: rows that a
    policy "error" does not let pass. The stores are complete without them.
    """

    output: str
    read: int
    kept: int
    left_out: Mapping[str, int]
    widths: WidthStats
    over_width: str
    over_wide: int
    worst_squash_ratio: float
    renormalized: int
    content_sha256: str
    seconds: float
    val_output: str | None = None
    kept_val: int = 0
    oov: Mapping[str, int] = field(default_factory=dict)
    quarantine: str | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _LeftOut:
    reason: Reason
    problem: str


@dataclass(frozen=True)
class _Line:
    row: LineRow
    encoded: "EncodedLine"
    squash_ratio: float


class _Tally:
    """Counts what became of the rows, and remembers those left out."""

    def __init__(self) -> None:
        self.widths: list[int] = []
        self.left_out: Counter[str] = Counter()
        self.oov: Counter[str] = Counter()
        self.quarantine: list[str] = []
        self.first: dict[str, list[str]] = {}
        self.renormalized = self.over_wide = 0
        self.worst_ratio = 1.0

    @property
    def read(self) -> int:
        return len(self.widths) + self.left_out.total()

    def keep(self, line: _Line, entry: Entry) -> None:
        self.widths.append(line.encoded.width)
        self.renormalized += entry.renormalized
        self.over_wide += line.squash_ratio > 1
        self.worst_ratio = max(self.worst_ratio, line.squash_ratio)

    def leave_out(self, left_out: _LeftOut, entry: Entry, charset: Charset) -> None:
        reason, problem = left_out.reason, left_out.problem
        self.left_out[reason] += 1
        if reason == "oov" and entry.row:
            self.oov.update(c for c in entry.row.text if c not in charset.class_of)
        named = self.first.setdefault(reason, [])
        if len(named) < _NAMED_ROWS:
            named.append(f"{entry.where}: {problem}")
        row = entry.row.to_json() if entry.row else {}
        record = {"reason": reason, "problem": problem, "where": entry.where, "row": row}
        self.quarantine.append(json.dumps(record, ensure_ascii=False) + "\n")


def plan_prep(sources: Sequence[Path], output: Path, profile: Profile, *, val_split: float = 0.0) -> dict[str, Any]:
    """Return what `prep` would do: each source with its kind and number of rows, the outputs, charset and geometry.

    Reads no image and writes nothing; raises what `prep` would raise about sources and outputs.
    """
    with ExitStack() as stack:
        opened = _open_all(sources, output, val_split, stack)
        return {
            "sources": {str(source.path): f"{source.kind}, {sum(1 for _ in source.entries())} rows" for source in opened},
            "output": str(output),
            "val_output": str(val_sibling(output)) if val_split else None,
            "quarantine": str(quarantine_path(output)),
            "charset": profile.charset,
            "geometry": profile.geometry.to_json(),
        }


def prep(
    sources: Sequence[Path],
    output: Path,
    profile: Profile,
    *,
    oov: Policy = "error",
    on_bad: Policy = "error",
    val_split: float = 0.0,
    seed: int = 1,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> PrepResult:
    """Read labelled line images and write the line store `output`.

    Each image is decoded and scaled to the profile's geometry once; texts keep their spaces, in NFC. Rows that cannot be used
    go to `OUTPUT.quarantine.jsonl` with the reason. With `val_split` about that share of the lines, as whole documents, goes
    to a second store, `NAME_val.lmdb`. With several sources the ids get the source's number in front.

    `oov` and `on_bad` ("error" or "skip") only decide whether rows outside the charset, and rows that are bad in themselves,
    end up in `PrepResult.problem`: neither keeps such a row. Raises UsageError for wrong sources or an output that would be
    overwritten, DataError when a source cannot be read or no line is left.
    """
    from nordocr_cli.data.store import LineStoreWriter

    began = time.monotonic()
    charset = profile.load_charset()
    tally = _Tally()
    with ExitStack() as stack:
        opened = _open_all(sources, output, val_split, stack)
        documents = _count_by_document(opened)
        pool = ThreadPoolExecutor(threads or os.cpu_count() or 1)
        stack.callback(pool.shutdown, cancel_futures=True)
        geometry, why = _decide_over_width(opened, profile.geometry, pool)
        made: dict[str, Any] = {"profile": profile.name, "sources": [_provenance(s) for s in opened], "over_width": why}
        writers = [stack.enter_context(LineStoreWriter(output, geometry, charset, made=made))]
        val_documents: set[str] = set()
        if val_split:
            val_documents = choose_documents(documents, val_split, seed)
            made |= {"val_split": val_split, "seed": seed}
            writers.append(stack.enter_context(LineStoreWriter(val_sibling(output), geometry, charset, made=made)))
        progress.start("prep", documents.total())
        stack.callback(progress.finish)
        for entry, outcome in _outcomes(opened, charset, geometry, pool):
            if isinstance(outcome, _LeftOut):
                tally.leave_out(outcome, entry, charset)
            else:
                writers[_document(outcome.row) in val_documents].add_encoded(outcome.encoded, outcome.row)
                tally.keep(outcome, entry)
            progress.advance()
        quarantine = _write_quarantine(output, tally)
        if any(len(writer) == 0 for writer in writers):
            problem = _problem(tally, "error", "error", charset, quarantine) or "every row was left out"
            raise DataError(
                f"no line for {output if len(writers[0]) == 0 else val_sibling(output)}, nothing was written: {problem}"
            )
        for writer in writers:
            writer.counts = {"read": tally.read, "kept": len(tally.widths), "over_wide": tally.over_wide, **tally.left_out}
    _say_what_stands_out(tally, geometry, progress)
    assert writers[0].header is not None
    return PrepResult(
        output=str(output),
        read=tally.read,
        kept=len(tally.widths),
        left_out=dict(tally.left_out),
        widths=_width_stats(tally.widths),
        over_width=geometry.over_width,
        over_wide=tally.over_wide,
        worst_squash_ratio=round(tally.worst_ratio, 4),
        renormalized=tally.renormalized,
        content_sha256=writers[0].header.content_sha256,
        seconds=round(time.monotonic() - began, 3),
        val_output=str(val_sibling(output)) if val_split else None,
        kept_val=len(writers[1]) if val_split else 0,
        oov=dict(tally.oov.most_common()),
        quarantine=str(quarantine) if quarantine else None,
        problem=_problem(tally, oov, on_bad, charset, quarantine),
    )


def val_sibling(output: Path) -> Path:
    """Return the validation store's path: `lines.lmdb` → `lines_val.lmdb`."""
    return output.with_name(f"{output.stem}_val{output.suffix}")


def quarantine_path(output: Path) -> Path:
    """Return the path of the list of rows left out."""
    return output.with_name(output.name + ".quarantine.jsonl")


def choose_documents(lines_of: Mapping[str, int], share: float, seed: int) -> set[str]:
    """Choose documents that hold about `share` of all lines, at least one and never all; the same for the same seed.

    `lines_of` counts the lines of each document. Raises DataError when there is only one document.
    """
    if len(lines_of) < 2:
        raise DataError("all lines come from one document, so none can be set aside for validation; leave --val-split out")
    order = sorted(lines_of, key=lambda document: hashlib.sha256(f"{seed}:{document}".encode()).digest())
    missing = share * sum(lines_of.values())
    chosen: set[str] = set()
    for document in order[:-1]:
        if lines_of[document] < 2 * missing:  # brings the total nearer to the share
            chosen.add(document)
            missing -= lines_of[document]
    return chosen or {min(order, key=lambda document: lines_of[document])}


def _open_all(sources: Sequence[Path], output: Path, val_split: float, stack: ExitStack) -> list[Source]:
    if not sources:
        raise UsageError("no sources: give a manifest, a folder with one, or an LMDB")
    if not 0 <= val_split < 1:
        raise UsageError(f"--val-split {val_split} is not a share from 0 to below 1")
    for target in [output, val_sibling(output)] if val_split else [output]:
        for source in sources:
            if target.resolve() == source.resolve() or target.resolve() in source.resolve().parents:
                raise UsageError(f"{target} would replace the source {source}; give another --output")
        refuse_to_replace(target)
    opened: list[Source] = []
    for path in sources:
        opened.append(open_source(path))
        stack.callback(opened[-1].close)
    return opened


def _document(row: LineRow) -> str:
    """Document that a line was cut from: `source` up to a colon (`d000:p1:r4`), the line itself where it is not known."""
    return row.source.split(":")[0] or row.id


def _count_by_document(sources: Sequence[Source]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for source in sources:
        for entry in source.entries():
            counts[_document(entry.row) if entry.row else entry.where] += 1
    if not counts:
        raise DataError(f"no rows in {', '.join(str(source.path) for source in sources)}")
    return counts


def _outcomes(
    sources: Sequence[Source], charset: Charset, geometry: Geometry, pool: ThreadPoolExecutor
) -> Iterator[tuple[Entry, _LeftOut | _Line]]:
    """Yield what became of each row, in order; images are read, scaled and encoded by the pool's threads."""
    pending: deque[tuple[Entry, _LeftOut | Future[_LeftOut | _Line]]] = deque()

    def next_outcome() -> tuple[Entry, _LeftOut | _Line]:
        entry, outcome = pending.popleft()
        return entry, outcome.result() if isinstance(outcome, Future) else outcome

    for number, source in enumerate(sources, start=1):
        for entry in source.entries():
            left_out = _check_text(entry, charset)
            if left_out is None and entry.row and len(sources) > 1:
                entry = replace(entry, row=replace(entry.row, id=f"{number}:{entry.row.id}"))
            pending.append((entry, left_out or pool.submit(_make_line, source, entry, geometry)))
            if len(pending) > 256:
                yield next_outcome()
    while pending:
        yield next_outcome()


def _check_text(entry: Entry, charset: Charset) -> _LeftOut | None:
    if entry.row is None:
        return _LeftOut("bad-row", entry.problem)
    if not entry.row.text.strip():
        return _LeftOut("empty-text", "the text is empty")
    if missing := charset.missing(entry.row.text):
        names = ", ".join(map(describe_character, missing))
        return _LeftOut("oov", f"charset {charset.name!r} has no {names} (text: {entry.row.text!r})")
    return None


def _make_line(source: Source, entry: Entry, geometry: Geometry) -> _LeftOut | _Line:
    from nordocr_cli.data.resize import decode_image, resize_line
    from nordocr_cli.data.store import encode_line

    row = entry.row
    assert row is not None
    try:
        crop = decode_image(source.image_bytes(entry), entry.key)
    except FileNotFoundError as error:
        return _LeftOut("missing-image", f"no image {error}")
    except DataError as error:
        return _LeftOut("unreadable-image", str(error))
    height, width = crop.shape[:2]
    frames, needed = geometry.out_length(geometry.line_width(height, width)), frames_needed(row.text)
    if frames < needed:
        return _LeftOut(
            "ctc-infeasible", f"{len(row.text)} characters need {needed} CTC frames; {height} x {width} px give {frames}"
        )
    ratio = geometry.squash_ratio(height, width)
    if ratio > 1:
        # A line that comes from another store may have been squashed there already.
        total = round(ratio * float(row.extra.get("squash_ratio", 1.0)), 4)
        row = replace(row, extra={**row.extra, "squash_ratio": total, "over_width": geometry.over_width})
    return _Line(row, encode_line(resize_line(crop, geometry)), ratio)


def _decide_over_width(sources: Sequence[Source], geometry: Geometry, pool: ThreadPoolExecutor) -> tuple[Geometry, str]:
    """Replace `over_width = "auto"` by what the crops' sizes speak for. Returns the geometry and the reason in words."""
    if geometry.over_width != "auto":
        return geometry, f"{geometry.over_width}, as the profile says"
    from nordocr_cli.data.resize import image_size

    def ratio(source: Source, entry: Entry) -> float:
        try:
            return geometry.squash_ratio(*image_size(source.image_bytes(entry), entry.key))
        except (DataError, FileNotFoundError):
            return 1.0  # named when its turn comes to be read

    ratios: list[float] = []
    for source in sources:
        ratios += pool.map(lambda entry, source=source: ratio(source, entry), (e for e in source.entries() if e.row))
    over_wide = sorted(r for r in ratios if r > 1)
    if not over_wide:
        return replace(geometry, over_width="squash"), "squash: auto, no crop is too wide"
    p95 = over_wide[int(0.95 * (len(over_wide) - 1))]
    decision: Literal["squash", "center-crop"] = "squash" if p95 <= _AUTO_SQUASH_UP_TO else "center-crop"
    why = f"{decision}: auto, {len(over_wide)} of {len(ratios)} crops are too wide, 95 % of them up to {p95:.2f} times"
    return replace(geometry, over_width=decision), why


def _provenance(source: Source) -> dict[str, Any]:
    data = source.path / "data.mdb" if source.kind == "lmdb" else source.path
    return {"path": str(source.path), "kind": source.kind, "bytes": data.stat().st_size, "sha256": atomic.sha256_of(data)}


def _write_quarantine(output: Path, tally: _Tally) -> Path | None:
    path = quarantine_path(output)
    if not tally.quarantine:
        path.unlink(missing_ok=True)  # an earlier run's list says nothing about this one
        return None
    atomic.write_text(path, "".join(tally.quarantine))
    return path


def _problem(tally: _Tally, oov: Policy, on_bad: Policy, charset: Charset, quarantine: Path | None) -> str | None:
    """Say which rows the policies do not let pass, where the first stand, and how to go on; None when all is well."""
    passed = {"ctc-infeasible"}
    passed |= {"oov"} if oov == "skip" else set()
    passed |= {"bad-row", "empty-text", "missing-image", "unreadable-image"} if on_bad == "skip" else set()
    blocking = {reason: count for reason, count in tally.left_out.items() if reason not in passed}
    if not blocking:
        return None
    counts = ", ".join(f"{count} {reason}" for reason, count in blocking.items())
    lines = [f"{sum(blocking.values())} of {tally.read} rows were left out ({counts}):"]
    for reason in blocking:
        lines += tally.first[reason]
    ways = []
    if "oov" in blocking:
        shown = ", ".join(f"{describe_character(c)} {count} times" for c, count in tally.oov.most_common())
        lines.append(f"not in charset {charset.name!r}: {shown}")
        wider = [name for name, other in CHARSETS.items() if all(c in other.class_of for c in tally.oov)]
        ways.append(" or ".join(["--oov skip"] + [f"--set charset={name}" for name in wider]))
    if set(blocking) - {"oov"}:
        ways.append("--on-bad skip")
    lines.append(f"all of them are in {quarantine}; mend them, or go on with {' and '.join(ways)}")
    return "\n".join(lines)


def _say_what_stands_out(tally: _Tally, geometry: Geometry, progress: Progress) -> None:
    if count := tally.left_out["ctc-infeasible"]:
        progress.warn(f"{count} rows have more text than their width can hold (CTC): {'; '.join(tally.first['ctc-infeasible'])}")
    if tally.over_wide and geometry.over_width == "center-crop":
        progress.warn(f"{tally.over_wide} lines were cropped: their texts say more than is left in the picture")
    if tally.renormalized:
        progress.note(f"{tally.renormalized} texts were not in NFC and are stored in NFC")


def _width_stats(widths: Sequence[int]) -> WidthStats:
    ordered = sorted(widths)
    return WidthStats(ordered[0], ordered[len(ordered) // 2], ordered[int(0.95 * (len(ordered) - 1))], ordered[-1])
