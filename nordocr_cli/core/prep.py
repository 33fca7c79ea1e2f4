"""prep: labelled line images → line store. Every row read is kept, or counted under the reason for which it is not."""

import hashlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from nordocr_cli import atomic
from nordocr_cli.charset import Charset, describe_character
from nordocr_cli.core.tally import LeftOut, OovPolicy, Policy, Tally, WidthStats
from nordocr_cli.data.formats import Source, SourceSpec, open_source, parse_source
from nordocr_cli.data.lmdb_file import refuse_to_replace
from nordocr_cli.data.manifest import Entry
from nordocr_cli.data.notes import note_mapped, note_over_wide
from nordocr_cli.data.oov import read_mapping, replace_characters
from nordocr_cli.data.split import Placement, choose_documents, choose_folds, document_of
from nordocr_cli.errors import DataError, UsageError, nearest
from nordocr_cli.geometry import Geometry, frames_needed
from nordocr_cli.profile import Profile
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import LineRow

if TYPE_CHECKING:
    from nordocr_cli.data.store import EncodedLine, LineStoreWriter

# `over_width = "auto"` squashes while 95 % of the over-wide crops keep at least half of their letters' width. Cropping costs
# more than it seems: the text still says what is no longer in the picture.
_AUTO_SQUASH_UP_TO = 2.0
# Rows that the threads may be ahead of what is written.
_AHEAD = 256
# Rows that a thread takes at once: handing over one at a time costs a fifth of what is done with it.
_TOGETHER = 16

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class PrepResult:
    """What prep did. `read` = `kept` + the sum of `left_out`, always.

    `stores` gives the lines of each store written, the one for training first. `renormalized` texts were not in NFC;
    `duplicates` of the kept lines have picture and text of an earlier one, `contradicting` its picture and another text.
    `over_wide` lines were squashed or cropped (`over_width` says which), the worst of them `worst_squash_ratio` times too wide:
    here, or in the store that they come from;
    `oov` counts each character outside the charset in rows left out, `mapped` in rows kept; `quarantine` lists the rows left
    out. `problem` is what the caller should fail with: rows that a policy "error" does not let pass. The stores are complete
    without them.
    """

    stores: Mapping[str, int]
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
    duplicates: int = 0
    contradicting: int = 0
    oov: Mapping[str, int] = field(default_factory=dict)
    mapped: Mapping[str, int] = field(default_factory=dict)
    quarantine: str | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Line:
    row: LineRow
    encoded: "EncodedLine"


@dataclass(frozen=True)
class Selection:
    """Which rows are wanted: those of these languages and subsets; all where none are named."""

    languages: tuple[str, ...] = ()
    subsets: tuple[str, ...] = ()

    def left_out(self, row: LineRow) -> LeftOut | None:
        """Return why a row is not wanted, None when it is."""
        if self.languages and row.language not in self.languages:
            return LeftOut("other-language", f"language {row.language!r}")
        if self.subsets and row.subset not in self.subsets:
            return LeftOut("other-subset", f"subset {row.subset!r}")
        return None


@dataclass(frozen=True)
class Split:
    """How the lines are parted into stores: a share for validation, or k folds, or neither (both are 0)."""

    val_share: float = 0.0
    folds: int = 0
    seed: int = 1

    def stores(self, output: Path) -> list[Path]:
        """Paths of the stores to be written: `lines.lmdb`, with `lines_val.lmdb`; or `lines_fold1.lmdb` and so on."""
        if not 0 <= self.val_share < 1:
            raise UsageError(f"--val-split {self.val_share} is not a share from 0 to below 1")
        if self.folds == 1 or (self.folds and self.val_share):
            raise UsageError("--folds takes a number from 2 on, and --val-split or --folds can be had, not both")
        if self.folds:
            return [output.with_name(f"{output.stem}_fold{k}{output.suffix}") for k in range(1, self.folds + 1)]
        return [output, output.with_name(f"{output.stem}_val{output.suffix}")] if self.val_share else [output]

    def parts(self, lines_of: Mapping[str, int]) -> dict[str, int]:
        """Return the part of each document that is not in the first."""
        if self.folds:
            return choose_folds(lines_of, self.folds, self.seed)
        return dict.fromkeys(choose_documents(lines_of, self.val_share, self.seed), 1) if self.val_share else {}

    def to_json(self) -> dict[str, Any]:
        """Return what a store records about it."""
        kind = {"folds": self.folds} if self.folds else {"val_split": self.val_share} if self.val_share else {}
        return kind | {"seed": self.seed} if kind else {}


@dataclass(frozen=True)
class _Text:
    """What is done to texts: the charset they must be in, and the replacements for characters that it does not have."""

    charset: Charset
    mapping: Mapping[str, str]

    def check(self, entry: Entry) -> Entry | LeftOut:
        """Return the entry, its characters mapped, or why its text cannot be used."""
        if entry.row is None:
            return LeftOut("illegible" if entry.illegible else "bad-row", entry.problem)
        row = entry.row
        if mapped := Counter(c for c in row.text if c in self.mapping):
            row = note_mapped(row, replace_characters(row.text, self.mapping), mapped)
        if not row.text.strip():
            return LeftOut("empty-text", "the text is empty")
        if missing := self.charset.missing(row.text):
            names = ", ".join(map(describe_character, missing))
            count = Counter(c for c in row.text if c in missing)
            return LeftOut("oov", f"charset {self.charset.name!r} has no {names} (text: {row.text!r})", count)
        return replace(entry, row=row)


def plan_prep(
    sources: Sequence[str | Path], output: Path, profile: Profile, *, split: Split = Split(), progress: Progress = SILENT
) -> dict[str, Any]:
    """Return what `prep` would do: each source with its kind and number of rows, the outputs, charset and geometry.

    Reads no image and writes nothing; raises what `prep` would raise about sources and outputs.
    """
    with ExitStack() as stack:
        opened = _open_all(sources, split.stores(output), stack, progress)
        return {
            "sources": {str(s.path): f"{s.kind}, {sum(1 for _ in s.entries())} rows" for _, s in opened},
            "stores": [str(store) for store in split.stores(output)],
            "quarantine": str(quarantine_path(output)),
            "charset": profile.charset,
            "geometry": profile.geometry.to_json(),
        }


def prep(
    sources: Sequence[str | Path],
    output: Path,
    profile: Profile,
    *,
    select: Selection = Selection(),
    split: Split = Split(),
    oov: OovPolicy = "error",
    oov_map: Path | None = None,
    on_bad: Policy = "error",
    drop_duplicates: bool = False,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> PrepResult:
    """Read labelled line images and write the line store `output`.

    Each image is decoded and scaled to the profile's geometry once; texts keep their spaces, in NFC. Rows that cannot be used
    go to `OUTPUT.quarantine.jsonl` with the reason. `split` parts the lines into several stores: by document, and a picture
    that is in one of them is left out of the others. With several sources the ids get the source's name or number in front;
    rows without a subset get the source's name as that.

    `oov` and `on_bad` ("error" or "skip") only decide whether rows outside the charset, and rows that are bad in themselves,
    end up in `PrepResult.problem`: neither keeps such a row. With `oov = "map"` the characters in the file `oov_map` are
    replaced first; the row keeps its text as it was read. Raises UsageError for wrong sources or an output that would be
    overwritten, DataError when a source cannot be read or no line is left.
    """
    from nordocr_cli.data.store import LineStoreWriter

    began = time.monotonic()
    if (oov == "map") != (oov_map is not None):
        raise UsageError("--oov map and --oov-map FILE belong together: the file says what each character becomes")
    charset = profile.load_charset()
    text = _Text(charset, read_mapping(oov_map, charset) if oov_map else {})
    tally, paths = Tally(), split.stores(output)
    with ExitStack() as stack:
        opened = _open_all(sources, paths, stack, progress)
        total, lines_of = _survey(opened, select)
        placement = Placement(split.parts(lines_of))
        pool = ThreadPoolExecutor(threads or os.cpu_count() or 1)
        stack.callback(pool.shutdown, cancel_futures=True)
        geometry, why = _decide_over_width(opened, select, profile.geometry, pool)
        made: dict[str, Any] = {"profile": profile.name, "sources": [_provenance(*s) for s in opened], "over_width": why}
        made |= split.to_json() | ({"oov_map": dict(text.mapping)} if text.mapping else {})
        folders = stack.enter_context(atomic.replacing_all(paths))
        writers = [
            stack.enter_context(LineStoreWriter(path, geometry, charset, made=made, folder=folder))
            for path, folder in zip(paths, folders, strict=True)
        ]
        progress.start("prep", total)
        stack.callback(progress.finish)
        for entry, outcome in _outcomes(opened, select, text, geometry, pool):
            kept_out = outcome if isinstance(outcome, LeftOut) else None
            if isinstance(outcome, _Line):
                kept_out = _keep(outcome, entry, placement, writers, tally, drop_duplicates)
            if kept_out is not None:
                tally.leave_out(kept_out, entry)
            progress.advance()
        if empty := [path for path, writer in zip(paths, writers, strict=True) if len(writer) == 0]:
            raise DataError(tally.nothing_kept(empty, charset, oov))
        for writer in writers:
            writer.counts = {"read": tally.read, "kept": len(tally.widths), "over_wide": tally.over_wide, **tally.left_out}
            writer.counts |= {"duplicates": tally.duplicates, "contradicting": tally.contradicting}
    # Only now have the stores their names: a run that fails leaves the old ones, and the list that belongs to them.
    quarantine = tally.write_list(quarantine_path(output))
    tally.say_what_stands_out(progress)
    assert writers[0].header is not None
    return PrepResult(
        stores={str(path): len(writer) for path, writer in zip(paths, writers, strict=True)},
        read=tally.read,
        kept=len(tally.widths),
        left_out=dict(tally.left_out),
        widths=tally.width_stats(),
        over_width=geometry.over_width,
        over_wide=tally.over_wide,
        worst_squash_ratio=round(tally.worst_ratio, 4),
        renormalized=tally.renormalized,
        content_sha256=writers[0].header.content_sha256,
        seconds=round(time.monotonic() - began, 3),
        duplicates=tally.duplicates,
        contradicting=tally.contradicting,
        oov=dict(tally.oov.most_common()),
        mapped=dict(tally.mapped.most_common()),
        quarantine=str(quarantine) if quarantine else None,
        problem=tally.problem(oov, on_bad, charset, quarantine),
    )


def _keep(
    line: _Line,
    entry: Entry,
    placement: Placement,
    writers: "Sequence[LineStoreWriter]",
    tally: Tally,
    drop_duplicates: bool,
) -> LeftOut | None:
    """Write a line to the store where it belongs, or return why it belongs in none."""
    first_text = placement.first_text(line.encoded.pixels_sha256)
    if drop_duplicates and first_text == line.row.text:
        return LeftOut("duplicate", "picture and text are those of an earlier row")
    part = placement.place(line.row, line.encoded.pixels_sha256)
    if part is None:
        return LeftOut("in-other-store", "the same picture stands in another document, whose lines go to another store")
    if first_text is not None:
        tally.duplicates += first_text == line.row.text
        if first_text != line.row.text:
            tally.contradict(entry, f"{line.row.text!r}, but an earlier row with this picture says {first_text!r}")
    writers[part].add_encoded(line.encoded, line.row)
    tally.keep(line.row, line.encoded.width, entry)
    return None


def quarantine_path(output: Path) -> Path:
    """Return the path of the list of rows left out."""
    return output.with_name(output.name + ".quarantine.jsonl")


def _open_all(
    sources: Sequence[str | Path], targets: Sequence[Path], stack: ExitStack, progress: Progress
) -> list[tuple[SourceSpec, Source]]:
    if not sources:
        raise UsageError("no sources: give a manifest, a folder with one, pages with layouts, or an LMDB")
    specs = [parse_source(str(source)) for source in sources]
    for target in targets:
        for spec in specs:
            if target.resolve() == spec.path.resolve() or target.resolve() in spec.path.resolve().parents:
                raise UsageError(f"{target} would replace the source {spec.path}; give another --output")
        refuse_to_replace(target)
    opened: list[tuple[SourceSpec, Source]] = []
    for spec in specs:
        opened.append((spec, open_source(spec, progress)))
        stack.callback(opened[-1][1].close)
    return opened


def _entries(sources: Sequence[tuple[SourceSpec, Source]]) -> Iterator[tuple[Source, Entry]]:
    """Yield every row of every source, with the id and subset that it has in the store."""
    names = [spec.name for spec, _ in sources]
    for number, (spec, source) in enumerate(sources, start=1):
        while str(number) in names:  # a source may be named `2`
            number += len(sources)
        prefix = spec.name if names.count(spec.name) == 1 and spec.name else str(number)
        for entry in source.entries():
            if entry.row is not None and (len(sources) > 1 or spec.name):
                row_id = f"{prefix}:{entry.row.id}" if len(sources) > 1 else entry.row.id
                entry = replace(entry, row=replace(entry.row, id=row_id, subset=entry.row.subset or spec.name))
            yield source, entry


def _survey(sources: Sequence[tuple[SourceSpec, Source]], select: Selection) -> tuple[int, Counter[str]]:
    """Return the number of rows, and the wanted lines of each document. Raises UsageError when a filter fits no row."""
    total, lines_of = 0, Counter[str]()
    languages, subsets = Counter[str](), Counter[str]()
    for _, entry in _entries(sources):
        total += 1
        if entry.row is None:
            continue
        languages[entry.row.language] += 1
        subsets[entry.row.subset] += 1
        if select.left_out(entry.row) is None:
            lines_of[document_of(entry.row)] += 1
    if not total:
        raise DataError(f"no rows in {', '.join(str(source.path) for _, source in sources)}")
    for flag, wanted, there in (
        ("--include-language", select.languages, languages),
        ("--include-subset", select.subsets, subsets),
    ):
        if unknown := [name for name in wanted if name not in there]:
            raise UsageError(f"{flag} {unknown[0]!r} fits no row; {nearest(unknown[0], [name for name in there if name])}")
    return total, lines_of


def _outcomes(
    sources: Sequence[tuple[SourceSpec, Source]], select: Selection, text: _Text, geometry: Geometry, pool: ThreadPoolExecutor
) -> Iterator[tuple[Entry, LeftOut | _Line]]:
    """Yield what became of each row, in order; images are read, scaled and encoded by the pool's threads."""

    def outcome(item: tuple[Source, Entry]) -> tuple[Entry, LeftOut | _Line]:
        source, entry = item
        checked = (select.left_out(entry.row) if entry.row else None) or text.check(entry)
        return (entry, checked) if isinstance(checked, LeftOut) else (checked, _make_line(source, checked, geometry))

    return _in_order(pool, outcome, _entries(sources))


def _in_order(pool: ThreadPoolExecutor, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yield `function(item)` of each item, in order; the pool's threads are only a few items ahead, however many there are."""
    pending: deque[Future[list[_Result]]] = deque()
    remaining = iter(items)

    def work(some: Sequence[_Item]) -> list[_Result]:
        return [function(item) for item in some]

    while some := tuple(islice(remaining, _TOGETHER)):
        pending.append(pool.submit(work, some))
        if len(pending) * _TOGETHER > _AHEAD:
            yield from pending.popleft().result()
    while pending:
        yield from pending.popleft().result()


def _make_line(source: Source, entry: Entry, geometry: Geometry) -> LeftOut | _Line:
    from nordocr_cli.data.resize import resize_line
    from nordocr_cli.data.store import encode_line

    row = entry.row
    assert row is not None
    try:
        crop = source.crop(entry)
    except FileNotFoundError as error:
        return LeftOut("missing-image", f"no image {error}")
    except DataError as error:
        return LeftOut("unreadable-image", str(error))
    height, width = crop.shape[:2]
    frames, needed = geometry.out_length(geometry.line_width(height, width)), frames_needed(row.text)
    if frames < needed:
        return LeftOut(
            "ctc-infeasible", f"{len(row.text)} characters need {needed} CTC frames; {height} x {width} px give {frames}"
        )
    ratio = geometry.squash_ratio(height, width)
    if ratio > 1:
        row = note_over_wide(row, ratio, geometry)
    return _Line(row, encode_line(resize_line(crop, geometry)))


def _decide_over_width(
    sources: Sequence[tuple[SourceSpec, Source]], select: Selection, geometry: Geometry, pool: ThreadPoolExecutor
) -> tuple[Geometry, str]:
    """Replace `over_width = "auto"` by what the crops' sizes speak for. Returns the geometry and the reason in words."""
    if geometry.over_width != "auto":
        return geometry, f"{geometry.over_width}, as the profile says"

    def ratio(item: tuple[Source, Entry]) -> float:
        source, entry = item
        try:
            return geometry.squash_ratio(*source.crop_size(entry))
        except (DataError, FileNotFoundError):
            return 1.0  # named when its turn comes to be read

    wanted = ((source, entry) for source, entry in _entries(sources) if entry.row and not select.left_out(entry.row))
    crops, over_wide = 0, list[float]()
    for found in _in_order(pool, ratio, wanted):
        crops += 1
        if found > 1:
            over_wide.append(found)
    over_wide.sort()
    if not over_wide:
        return replace(geometry, over_width="squash"), "squash: auto, no crop is too wide"
    p95 = over_wide[int(0.95 * (len(over_wide) - 1))]
    decision: Literal["squash", "center-crop"] = "squash" if p95 <= _AUTO_SQUASH_UP_TO else "center-crop"
    why = f"{decision}: auto, {len(over_wide)} of {crops} crops are too wide, 95 % of them up to {p95:.2f} times"
    return replace(geometry, over_width=decision), why


def _provenance(spec: SourceSpec, source: Source) -> dict[str, Any]:
    hashes = [atomic.sha256_of(path) for path in source.files]
    return {
        "path": str(source.path),
        "kind": source.kind,
        **({"name": spec.name} if spec.name else {}),
        "bytes": sum(path.stat().st_size for path in source.files),
        "sha256": hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest(),
    }
