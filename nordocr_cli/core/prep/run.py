"""prep: labelled line images → line store. Every row read is kept, or counted under the reason for
which it is not.
"""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nordocr_cli import __version__, atomic
from nordocr_cli.core.prep.lines import (
    Engine,
    EngineName,
    Outcome,
    PreparedLine,
    Ray,
    Recipe,
    Row,
    Selection,
    Threads,
    in_order,
)
from nordocr_cli.core.prep.stats import LeftOut, OovPolicy, Policy, Tally, WidthStats
from nordocr_cli.data.entry import Entry
from nordocr_cli.data.formats import Source, SourceSpec, open_source, parse_source
from nordocr_cli.data.lmdb_file import refuse_to_replace
from nordocr_cli.data.oov import read_mapping
from nordocr_cli.data.split import Placement, Split, document_of
from nordocr_cli.errors import DataError, Interrupted, UsageError, nearest
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import Profile
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from nordocr_cli.data.store import LineStoreWriter
    from nordocr_cli.data.unfinished import Journal, Unfinished

# `over_width = "auto"` squashes while 95 % of the over-wide crops keep at least half of their
# letters' width. Cropping costs more than it seems: the text still says what is no longer in the
# picture.
_AUTO_SQUASH_UP_TO = 2.0
_ROWS_A_COMMIT = 200


@dataclass(frozen=True)
class PrepResult:
    """What prep did. `read` = `kept` + the sum of `left_out`, always.

    `stores` gives the lines of each store written, the one for training first. `renormalized` texts
    were not in NFC; `duplicates` of the kept lines have picture and text of an earlier one,
    `contradicting` its picture and another text. `over_wide` lines were squashed or cropped
    (`over_width` says which), the worst of them `worst_squash_ratio` times too wide: here, or in
    the store that they come from; `oov` counts each character outside the charset in rows left out,
    `mapped` in rows kept; `quarantine` lists the rows left out; `resumed` rows were taken over from
    a stopped run. `problem` is what the caller should fail with: rows that a policy "error" does
    not let pass. The stores are complete without them.
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
    resumed: int = 0
    quarantine: str | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return asdict(self)


def plan_prep(
    sources: Sequence[str | Path],
    output: Path,
    profile: Profile,
    *,
    split: Split = Split(),
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Return what `prep` would do: each source with its kind and number of rows, the outputs,
    charset and geometry.

    Reads no image and writes nothing; raises what `prep` would raise about sources and outputs.
    """
    with ExitStack() as stack:
        opened = _open_all(sources, split.stores(output), stack, progress)
        return {
            "sources": {
                str(s.path): f"{s.kind}, {sum(1 for _ in s.entries())} rows" for _, s in opened
            },
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
    engine: EngineName = "local",
    resume: bool = False,
    progress: Progress = SILENT,
) -> PrepResult:
    """Read labelled line images and write the line store `output`.

    Each image is decoded and scaled to the profile's geometry once; texts keep their spaces, in
    NFC. Rows that cannot be used go to `OUTPUT.quarantine.jsonl` with the reason. `split` parts the
    lines into several stores: by document, and a picture that is in one of them is left out of the
    others. With several sources the ids get the source's name or number in front; rows without a
    subset get the source's name as that.

    `oov` and `on_bad` ("error" or "skip") only decide whether rows outside the charset, and rows
    that are bad in themselves, end up in `PrepResult.problem`: neither keeps such a row. With `oov
    = "map"` the characters in the file `oov_map` are replaced first; the row keeps its text as it
    was read. With `engine = "ray"` the images are read on a Ray cluster, and the content is the
    same. `resume` goes on from a run that was stopped, if its sources and settings were the same:
    what that one had read is not read again, even where an image has changed since.

    Raises UsageError for wrong sources or an output that would be overwritten, DataError when a
    source cannot be read or no line is left, MissingBackendError when Ray is missing, and
    Interrupted on Ctrl-C.
    """
    from nordocr_cli.data.store import LineStoreWriter
    from nordocr_cli.data.unfinished import Journal, find_unfinished

    began = time.monotonic()
    if (oov == "map") != (oov_map is not None):
        raise UsageError(
            "--oov map and --oov-map FILE belong together: the file says what each character"
            " becomes"
        )
    if engine == "ray" and threads is not None:
        raise UsageError("--threads belongs to --engine local; Ray has its own cores")
    charset = profile.load_charset()
    mapping = read_mapping(oov_map, charset) if oov_map else {}
    if quarantine_path(output).is_dir():
        raise UsageError(
            f"{quarantine_path(output)} is a folder; the list of rows left out belongs there: give"
            " another --output"
        )
    tally, paths, resumed, total = Tally(), split.stores(output), 0, 0
    try:
        with ExitStack() as stack:
            opened = _open_all(sources, paths, stack, progress)
            total, lines_of = _survey(opened, select)
            pool = ThreadPoolExecutor(threads or os.cpu_count() or 1)
            stack.callback(pool.shutdown, cancel_futures=True)
            geometry, why = _decide_over_width(opened, select, profile.geometry, pool)
            recipe = Recipe(select, charset, mapping, geometry, profile.model.label_limit)
            runner: Engine = (
                Ray([spec for spec, _ in opened], stack, progress)
                if engine == "ray"
                else Threads([s for _, s in opened], pool)
            )
            made: dict[str, Any] = {
                "profile": profile.name,
                "sources": [_provenance(*s) for s in opened],
                "over_width": why,
            }
            made |= split.to_json() | ({"oov_map": dict(mapping)} if mapping else {})
            made_from = _made_from(made, recipe, drop_duplicates)
            if stopped := _stopped_run(paths[0], made_from, resume, progress):
                stack.enter_context(stopped)
            folders = stack.enter_context(atomic.replacing_all(paths, keep_interrupted=True))
            writers = [
                stack.enter_context(
                    LineStoreWriter(path, geometry, charset, made=made, folder=folder)
                )
                for path, folder in zip(paths, folders, strict=True)
            ]
            journal = stack.enter_context(Journal(folders, made_from))
            stores = _Stores(
                writers, Placement(split.parts(lines_of)), tally, journal, drop_duplicates
            )
            rows = _rows(opened)
            progress.start("prep", total)
            stack.callback(progress.finish)
            if stopped is not None:
                for entry, outcome in _outcomes_before(stopped, recipe, rows):
                    stores.take(entry, outcome)
                    progress.advance()
                resumed = tally.read
                progress.note(f"{resumed} of {total} rows were done by the run that was stopped")
            for entry, outcome in runner.outcomes(recipe, rows):
                stores.take(entry, outcome)
                progress.advance()
            if empty := [
                path for path, writer in zip(paths, writers, strict=True) if len(writer) == 0
            ]:
                raise DataError(tally.nothing_kept(empty, charset, oov))
            for writer in writers:
                writer.counts = {
                    "read": tally.read,
                    "kept": len(tally.widths),
                    "over_wide": tally.over_wide,
                    **tally.left_out,
                }
                writer.counts |= {
                    "duplicates": tally.duplicates,
                    "contradicting": tally.contradicting,
                }
    except KeyboardInterrupt:
        if not tally.read:
            raise
        raise Interrupted(
            f"stopped after {tally.read} of {total} rows; the same command with --resume goes on"
            " from there"
        ) from None
    for run in find_unfinished(paths[0]):
        run.remove()
    # Only now have the stores their names: a run that fails leaves the old ones, and the list that
    # belongs to them.
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
        resumed=resumed,
        quarantine=str(quarantine) if quarantine else None,
        problem=tally.problem(oov, on_bad, charset, quarantine),
    )


class _Stores:
    """Takes what became of the rows, one after the other: each goes to the store where it belongs,
    or is counted as left out.
    """

    def __init__(
        self,
        writers: "Sequence[LineStoreWriter]",
        placement: Placement,
        tally: Tally,
        journal: "Journal",
        drop_duplicates: bool,
    ) -> None:
        self._writers, self._placement, self._tally, self._journal = (
            writers,
            placement,
            tally,
            journal,
        )
        self._drop_duplicates = drop_duplicates

    def take(self, entry: Entry, outcome: LeftOut | PreparedLine) -> None:
        """Keep a line, or count the reason for which it is not kept."""
        kept_out = self._keep(outcome, entry) if isinstance(outcome, PreparedLine) else outcome
        if kept_out is not None:
            self._tally.leave_out(kept_out, entry)
            self._journal.left_out(
                {"reason": kept_out.reason, "problem": kept_out.problem, "oov": dict(kept_out.oov)}
            )
        if self._tally.read % _ROWS_A_COMMIT == 0:
            # All of them, that of few lines too: a run that goes on can do so from the first line
            # that is not there.
            for writer in self._writers:
                writer.commit()

    def _keep(self, line: PreparedLine, entry: Entry) -> LeftOut | None:
        pixels, tally = line.encoded.pixels_sha256, self._tally
        first_text = self._placement.first_text(pixels)
        if self._drop_duplicates and first_text == line.row.text:
            return LeftOut("duplicate", "picture and text are those of an earlier row")
        part = self._placement.place(line.row, pixels)
        if part is None:
            return LeftOut(
                "in-other-store",
                "the same picture stands in another document, whose lines go to another store",
            )
        if first_text is not None:
            tally.duplicates += first_text == line.row.text
            if first_text != line.row.text:
                tally.contradict(
                    entry,
                    f"{line.row.text!r}, but an earlier row with this picture says {first_text!r}",
                )
        self._writers[part].add_encoded(line.encoded, line.row)
        self._journal.kept(part, line.encoded)
        tally.keep(line.row, line.encoded.width, entry)
        return None


def _made_from(made: Mapping[str, Any], recipe: Recipe, drop_duplicates: bool) -> dict[str, Any]:
    """All that a run's content depends on but the images, as JSON values."""
    chosen = {
        "select": asdict(recipe.select),
        "drop_duplicates": drop_duplicates,
        "version": __version__,
    }
    chosen |= {"charset": recipe.charset.sha256, "geometry": recipe.geometry.to_json()}
    chosen |= (
        {} if recipe.max_label_length is None else {"max_label_length": recipe.max_label_length}
    )
    found: dict[str, Any] = json.loads(json.dumps({**made, **chosen}))
    return found


def _stopped_run(
    target: Path, made_from: Mapping[str, Any], resume: bool, progress: Progress
) -> "Unfinished | None":
    """Return the run to go on from, and say what is not used."""
    from nordocr_cli.data.unfinished import find_unfinished

    runs = find_unfinished(target)
    alike = [run for run in runs if run.made_from == made_from]
    if not resume and alike:
        progress.note(
            f"begun anew, though a run for {target} was stopped on its way; --resume would go on"
            " from there"
        )
    if resume and not alike:
        other = (
            "the one that was stopped had other sources or settings"
            if runs
            else "there is no stopped run"
        )
        progress.warn(f"nothing to go on from for {target}: {other}; begun anew")
    return alike[0] if resume and alike else None


def _outcomes_before(
    stopped: "Unfinished", recipe: Recipe, rows: Iterator[Row]
) -> Iterator[Outcome]:
    """Yield what a stopped run had made of the first of `rows`, and leave the others to be taken
    from there.
    """
    for noted, (_, entry) in zip(stopped.outcomes(), rows, strict=False):
        checked = recipe.check(entry)
        if isinstance(checked, LeftOut):
            yield entry, checked
        else:
            yield checked, LeftOut(**noted) if isinstance(noted, Mapping) else PreparedLine(*noted)


def quarantine_path(output: Path) -> Path:
    """Return the path of the list of rows left out."""
    return output.with_name(output.name + ".quarantine.jsonl")


def _open_all(
    sources: Sequence[str | Path], targets: Sequence[Path], stack: ExitStack, progress: Progress
) -> list[tuple[SourceSpec, Source]]:
    if not sources:
        raise UsageError(
            "no sources: give a manifest, a folder with one, pages with layouts, or an LMDB"
        )
    specs = [parse_source(str(source)) for source in sources]
    for target in targets:
        for spec in specs:
            if (
                target.resolve() == spec.path.resolve()
                or target.resolve() in spec.path.resolve().parents
            ):
                raise UsageError(
                    f"{target} would replace the source {spec.path}; give another --output"
                )
        refuse_to_replace(target)
    opened: list[tuple[SourceSpec, Source]] = []
    for spec in specs:
        opened.append((spec, open_source(spec, progress)))
        stack.callback(opened[-1][1].close)
    return opened


def _rows(sources: Sequence[tuple[SourceSpec, Source]]) -> Iterator[Row]:
    """Yield every row of every source, with the id and subset that it has in the store."""
    names = [spec.name for spec, _ in sources]
    for index, (spec, source) in enumerate(sources):
        number = index + 1
        while str(number) in names:  # a source may be named `2`
            number += len(sources)
        prefix = spec.name if names.count(spec.name) == 1 and spec.name else str(number)
        for entry in source.entries():
            if entry.row is not None and (len(sources) > 1 or spec.name):
                row_id = f"{prefix}:{entry.row.id}" if len(sources) > 1 else entry.row.id
                entry = replace(
                    entry, row=replace(entry.row, id=row_id, subset=entry.row.subset or spec.name)
                )
            yield index, entry


def _survey(
    sources: Sequence[tuple[SourceSpec, Source]], select: Selection
) -> tuple[int, Counter[str]]:
    """Return the number of rows, and the wanted lines of each document. Raises UsageError when a
    filter fits no row.
    """
    total, lines_of = 0, Counter[str]()
    languages, subsets = Counter[str](), Counter[str]()
    for _, entry in _rows(sources):
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
            raise UsageError(
                f"{flag} {unknown[0]!r} fits no row;"
                f" {nearest(unknown[0], [name for name in there if name])}"
            )
    return total, lines_of


def _decide_over_width(
    sources: Sequence[tuple[SourceSpec, Source]],
    select: Selection,
    geometry: Geometry,
    pool: ThreadPoolExecutor,
) -> tuple[Geometry, str]:
    """Replace `over_width = "auto"` by what the crops' sizes speak for. Returns the geometry and
    the reason in words.
    """
    if geometry.over_width != "auto":
        return geometry, f"{geometry.over_width}, as the profile says"

    def ratio(row: Row) -> float:
        number, entry = row
        try:
            return geometry.squash_ratio(*sources[number][1].crop_size(entry))
        except (DataError, FileNotFoundError):
            return 1.0  # named when its turn comes to be read

    wanted = (row for row in _rows(sources) if row[1].row and not select.left_out(row[1].row))
    crops, over_wide = 0, list[float]()
    for found in in_order(pool, ratio, wanted):
        crops += 1
        if found > 1:
            over_wide.append(found)
    over_wide.sort()
    if not over_wide:
        return replace(geometry, over_width="squash"), "squash: auto, no crop is too wide"
    p95 = over_wide[int(0.95 * (len(over_wide) - 1))]
    decision: Literal["squash", "center-crop"] = (
        "squash" if p95 <= _AUTO_SQUASH_UP_TO else "center-crop"
    )
    why = (
        f"{decision}: auto, {len(over_wide)} of {crops} crops are too wide, 95 % of them up to"
        f" {p95:.2f} times"
    )
    return replace(geometry, over_width=decision), why


def _provenance(spec: SourceSpec, source: Source) -> dict[str, Any]:
    hashes = [atomic.sha256_of(path) for path in source.files]
    return {
        "path": str(source.path),
        "kind": source.kind,
        **({"name": spec.name} if spec.name else {}),
        "bytes": sum(path.stat().st_size for path in source.files),
        "sha256": (
            hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
        ),
    }
