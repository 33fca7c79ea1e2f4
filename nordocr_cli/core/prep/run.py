"""prep: labelled line images → line store. Every row read is kept, or counted under the reason for
which it is rejected.
"""

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
from nordocr_cli.core.prep.engines import EngineName, PrepEngine, Ray, Threads, in_order
from nordocr_cli.core.prep.lines import (
    EntryOutcome,
    IndexedEntry,
    PreparedLine,
    PrepRules,
    Selection,
)
from nordocr_cli.core.prep.stats import (
    BAD,
    NOT_IN_STORE,
    LeftOut,
    OovPolicy,
    Policy,
    PrepStats,
    WidthStats,
)
from nordocr_cli.cores import usable_cores
from nordocr_cli.data.entry import Entry
from nordocr_cli.data.formats import Source, SourceSpec, open_source, parse_source
from nordocr_cli.data.labels.label_file import NO_COLUMNS, Columns
from nordocr_cli.data.lmdb_file import refuse_to_replace
from nordocr_cli.data.manifest_lines import hash_of_files
from nordocr_cli.data.manifest_source import ManifestSource
from nordocr_cli.data.oov import default_mapping, read_mapping
from nordocr_cli.data.pages import LAYOUT_FOLDERS, LayoutSource
from nordocr_cli.data.split import (
    Placement,
    Split,
    document_of_row,
    group_of,
    groups_missing,
)
from nordocr_cli.errors import DataError, Interrupted, UsageError, nearest
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import Profile
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from nordocr_cli.data.store import LineStoreWriter
    from nordocr_cli.data.unfinished import PrepJournal, Unfinished

# `over_width = "auto"` squashes while 95 % of the too wide crops keep at least half of their
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
    the store that they come from; `trimmed` texts had spaces at
    their ends; `oov` counts each character outside the charset in rows left out,
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
    trimmed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return asdict(self)


def plan_prep(
    sources: Sequence[str | Path],
    output: Path,
    profile: Profile,
    *,
    split: Split = Split(),
    columns: Columns = NO_COLUMNS,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Return what `prep` would do: each source with its kind and number of rows, the outputs,
    charset and geometry.

    Reads no image and writes nothing; raises what `prep` would raise about sources and outputs.
    """
    stores = split.stores(output)
    with ExitStack() as stack:
        opened = _open_all(sources, columns, stores, stack, progress)
        return {
            "sources": {
                str(source.path): f"{source.kind}, {sum(1 for _ in source.entries())} rows"
                for _, source in opened
            },
            "stores": [str(store) for store in stores],
            "quarantine": str(quarantine_path(output)),
            "charset": profile.charset,
            "geometry": profile.geometry.to_json(),
        }


@dataclass(frozen=True)
class PrepOptions:
    """How to prepare lines.

    `select` filters rows by language and subset; `split` divides the lines into several stores: by
    document, and a picture that is in one of them is left out of the others.

    `oov` and `on_bad` ("error" or "skip") only decide whether rows outside the charset, and rows
    that are bad in themselves, end up in `PrepResult.problem`: neither keeps such a row. Characters
    that look like a space or like nothing are replaced (`default_map`, see data/oov.py), and with
    `oov = "map"` those in the file `oov_map`; the row keeps its text as it was read.

    With `engine = "ray"` the images are read on a Ray cluster, and the content is the same.
    `resume` continues an interrupted run, if its sources and settings were the same: what that one
    had read is not read again, even where an image has changed since. `columns` names the columns
    of image and text.
    """

    select: Selection = field(default_factory=Selection)
    split: Split = field(default_factory=Split)
    oov: OovPolicy = "error"
    oov_map: Path | None = None
    default_map: bool = True
    on_bad: Policy = "error"
    drop_duplicates: bool = False
    threads: int | None = None
    engine: EngineName = "local"
    resume: bool = False
    columns: Columns = NO_COLUMNS


def prep(
    sources: Sequence[str | Path],
    output: Path,
    profile: Profile,
    *,
    progress: Progress = SILENT,
    **options: Any,
) -> PrepResult:
    """Read labelled line images and write the line store `output`; `options` are the fields of
    PrepOptions.

    Each image is decoded and scaled to the profile's geometry once; texts are in NFC, without
    spaces at their ends. Rows that cannot be used go to `OUTPUT.quarantine.jsonl` with the reason.
    With several sources the ids get the source's name or number in front; rows without a subset get
    the source's name as that.

    Raises UsageError for wrong sources or an output that would be overwritten, DataError when a
    source cannot be read or no line is left, MissingBackendError when Ray is missing, and
    Interrupted on Ctrl-C.
    """
    began = time.monotonic()
    chosen = PrepOptions(**options)
    _require_options(chosen, output)
    charset = profile.load_charset()
    mapping = default_mapping(charset) if chosen.default_map else {}
    if chosen.oov_map:
        own_mapping = read_mapping(chosen.oov_map, charset)
    else:
        own_mapping = {}
    run = _Run(profile, output, chosen, progress)
    try:
        with ExitStack() as stack:
            run.open(sources, stack)
            pool = ThreadPoolExecutor(chosen.threads or usable_cores())
            stack.callback(pool.shutdown, cancel_futures=True)
            geometry, why = _decide_over_width(
                run.opened, chosen.select, profile.geometry, pool
            )
            label_limit = profile.model.label_limit
            rules = PrepRules(
                chosen.select, charset, mapping | own_mapping, geometry, label_limit
            )
            runner: PrepEngine = Threads([source for _, source in run.opened], pool)
            if chosen.engine == "ray":
                runner = Ray([spec for spec, _ in run.opened], stack, progress)
            run.write(rules, runner, why, own_mapping, stack)
            empty = run.empty_stores()
            if empty:
                raise DataError(
                    run.stats.nothing_kept(empty, charset, chosen.oov, run.hints())
                )
            run.count()
    except KeyboardInterrupt:
        if not run.stats.read:
            raise
        raise Interrupted(
            f"stopped after {run.stats.read} of {run.total} rows; the same command with --resume"
            " continues from there"
        ) from None
    return run.finish(geometry.over_width, time.monotonic() - began)


def _require_options(options: PrepOptions, output: Path) -> None:
    """Raise UsageError for options that do not go together and an output that cannot be."""
    if (options.oov == "map") != (options.oov_map is not None):
        raise UsageError(
            "--oov map and --oov-map FILE belong together: the file says what each character"
            " becomes"
        )
    if options.engine == "ray" and options.threads is not None:
        raise UsageError("--threads belongs to --engine local; Ray has its own cores")
    if quarantine_path(output).is_dir():
        raise UsageError(
            f"{quarantine_path(output)} is a folder; the list of rows left out belongs there: give"
            " another --output"
        )


class _Run:
    """The state of one run: its sources, stores and counts."""

    def __init__(
        self,
        profile: Profile,
        output: Path,
        options: PrepOptions,
        progress: Progress,
    ) -> None:
        self.stats = PrepStats()
        self.total = self.resumed = 0
        self.opened: list[tuple[SourceSpec, Source]] = []
        self._profile = profile
        self._output = output
        self._options = options
        self._progress = progress
        self._paths = options.split.stores(output)
        self._writers: list[LineStoreWriter] = []
        self._parts: dict[str, int] = {}

    def open(self, sources: Sequence[str | Path], stack: ExitStack) -> None:
        """Open the sources and assign their documents to the stores."""
        split = self._options.split
        self.opened = _open_all(
            sources, self._options.columns, self._paths, stack, self._progress
        )
        survey = _survey(self.opened, self._options.select)
        self.total = survey.total
        self._parts = split.parts(survey.lines_of, survey.group_of)
        if split.val_share:
            _warn_of_missing_groups(survey.group_of, self._parts, self._progress)

    def write(
        self,
        rules: PrepRules,
        runner: PrepEngine,
        why: str,
        own_mapping: Mapping[str, str],
        stack: ExitStack,
    ) -> None:
        """Prepare every row, those of a stopped run first, and write the lines to the stores."""
        from nordocr_cli.data.store import LineStoreWriter
        from nordocr_cli.data.unfinished import PrepJournal

        made: dict[str, Any] = {
            "profile": self._profile.name,
            "sources": [_provenance(*opened) for opened in self.opened],
            "over_width": why,
        }
        made |= self._options.split.to_json()
        made |= {"oov_map": dict(own_mapping)} if own_mapping else {}
        drop_duplicates = self._options.drop_duplicates
        made_from = _made_from(made, rules, drop_duplicates)
        resume = self._options.resume
        stopped = _stopped_run(self._paths[0], made_from, resume, self._progress)
        if stopped:
            stack.enter_context(stopped)
        folders = stack.enter_context(
            atomic.replacing_all(self._paths, keep_interrupted=True)
        )
        for path, folder in zip(self._paths, folders, strict=True):
            writer = LineStoreWriter(
                path, rules.geometry, rules.charset, made=made, folder=folder
            )
            self._writers.append(stack.enter_context(writer))
        journal = stack.enter_context(PrepJournal(folders, made_from))
        stores = _Stores(
            self._writers, Placement(self._parts), self.stats, journal, drop_duplicates
        )
        rows = _rows(self.opened)
        self._progress.start("prep", self.total)
        stack.callback(self._progress.finish)
        if stopped is not None:
            self._take_over(stopped, rules, rows, stores)
        for entry, outcome in runner.outcomes(rules, rows):
            stores.take(entry, outcome)
            self._progress.advance()

    def _take_over(
        self,
        stopped: "Unfinished",
        rules: PrepRules,
        rows: Iterator[IndexedEntry],
        stores: "_Stores",
    ) -> None:
        for entry, outcome in _outcomes_before(stopped, rules, rows):
            stores.take(entry, outcome)
            self._progress.advance()
        self.resumed = self.stats.read
        self._progress.note(
            f"{self.resumed} of {self.total} rows were done by the run that was stopped"
        )

    def empty_stores(self) -> list[Path]:
        """Stores without a line."""
        pairs = zip(self._paths, self._writers, strict=True)
        return [path for path, writer in pairs if len(writer) == 0]

    def count(self) -> None:
        """Give the stores their counts."""
        stats = self.stats
        for writer in self._writers:
            writer.counts = {
                "read": stats.read,
                "kept": len(stats.widths),
                "over_wide": stats.over_wide,
                **stats.left_out,
                "duplicates": stats.duplicates,
                "contradicting": stats.contradicting,
            }

    def finish(self, over_width: str, seconds: float) -> PrepResult:
        """Write the list of rejected rows, warn, and return the result. Only now have the stores
        their names: a run that fails leaves the old ones, and the list that belongs to them.
        """
        from nordocr_cli.data.unfinished import find_unfinished

        for run in find_unfinished(self._paths[0]):
            run.remove()
        stats = self.stats
        oov = self._options.oov
        on_bad = self._options.on_bad
        quarantine = stats.write_list(quarantine_path(self._output))
        charset = self._profile.load_charset()
        hints = self.hints()
        problem = stats.problem(oov, on_bad, charset, quarantine, hints)
        stats.report(self._progress, _accepted(oov, on_bad))
        if on_bad == "skip":
            for hint in hints:
                self._progress.warn(hint)
        first = self._writers[0].header
        assert first is not None
        pairs = zip(self._paths, self._writers, strict=True)
        return PrepResult(
            stores={str(path): len(writer) for path, writer in pairs},
            read=stats.read,
            kept=len(stats.widths),
            left_out=dict(stats.left_out),
            widths=stats.width_stats(),
            over_width=over_width,
            over_wide=stats.over_wide,
            worst_squash_ratio=round(stats.worst_ratio, 4),
            renormalized=stats.renormalized,
            trimmed=stats.trimmed,
            content_sha256=first.content_sha256,
            seconds=round(seconds, 3),
            duplicates=stats.duplicates,
            contradicting=stats.contradicting,
            oov=dict(stats.oov.most_common()),
            mapped=dict(stats.mapped.most_common()),
            resumed=self.resumed,
            quarantine=str(quarantine) if quarantine else None,
            problem=problem,
        )

    def hints(self) -> list[str]:
        """Where images lie that were not found, and how to say so."""
        found: list[str] = []
        if not self.stats.missing_images:
            return found
        for spec, source in self.opened:
            names_no_page = isinstance(source, LayoutSource) and spec.root is None
            if names_no_page and spec.path.is_file():
                found.append(
                    f"where a layout does not name its page, give the image: {spec.path}:IMAGE"
                )
            if isinstance(source, ManifestSource):
                folder, count = source.images_elsewhere(self.stats.missing_images)
                if count:
                    if spec.name:
                        given = f"{spec.name}={spec.path}"
                    else:
                        given = str(spec.path)
                    where = f"{given}:{folder}"
                    found.append(
                        f"{count} of the missing images lie in {folder}: give {where}"
                    )
        return found


def _accepted(oov: OovPolicy, on_bad: Policy) -> list[str]:
    """Reasons that are warned of, as they are no error here."""
    accepted = ["illegible"]
    if oov == "skip":
        accepted.append("oov")
    if on_bad == "skip":
        accepted += BAD
    return accepted


def _warn_of_missing_groups(
    groups: Mapping[str, str], parts: Mapping[str, int], progress: Progress
) -> None:
    missing = [group for group in groups_missing(groups, parts) if group]
    if missing:
        progress.warn(
            f"no document of {', '.join(missing)} is in the validation store: there"
            " is only one of each, or they are too large for the share"
        )


class _Stores:
    """Takes what became of the rows, one after the other: each goes to the store where it belongs,
    or is counted as left out.
    """

    def __init__(
        self,
        writers: "Sequence[LineStoreWriter]",
        placement: Placement,
        stats: PrepStats,
        journal: "PrepJournal",
        drop_duplicates: bool,
    ) -> None:
        self._writers = writers
        self._placement = placement
        self._stats = stats
        self._journal = journal
        self._drop_duplicates = drop_duplicates

    def take(self, entry: Entry, outcome: LeftOut | PreparedLine) -> None:
        """Keep a line, or count the reason for which it is not kept."""
        if isinstance(outcome, PreparedLine):
            kept_out = self._keep(outcome, entry)
        else:
            kept_out = outcome
        if kept_out is not None:
            self._stats.leave_out(kept_out, entry)
            if kept_out.reason in NOT_IN_STORE and entry.row is not None:
                self._writers[self._placement.part_of(entry.row)].leave_out(entry.row)
            self._journal.left_out(
                {
                    "reason": kept_out.reason,
                    "problem": kept_out.problem,
                    "oov": dict(kept_out.oov),
                }
            )
        if self._stats.read % _ROWS_A_COMMIT == 0:
            # All of them, even a store of few lines: a resumed run continues from the first line
            # that is missing.
            for writer in self._writers:
                writer.commit()

    def _keep(self, line: PreparedLine, entry: Entry) -> LeftOut | None:
        pixels = line.encoded.pixels_sha256
        stats = self._stats
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
            stats.duplicates += first_text == line.row.text
            if first_text != line.row.text:
                stats.contradict(
                    entry,
                    f"{line.row.text!r}, but an earlier row with this picture says {first_text!r}",
                )
        self._writers[part].add_encoded(line.encoded, line.row)
        self._journal.kept(part, line.encoded)
        stats.keep(line.row, line.encoded.width, entry)
        return None


def _made_from(
    made: Mapping[str, Any], rules: PrepRules, drop_duplicates: bool
) -> dict[str, Any]:
    """Everything but the images that a run's content depends on, as JSON values."""
    chosen: dict[str, Any] = {
        "select": asdict(rules.select),
        "drop_duplicates": drop_duplicates,
        "version": __version__,
    }
    chosen |= {"charset": rules.charset.sha256, "geometry": rules.geometry.to_json()}
    if rules.max_label_length is not None:
        chosen["max_label_length"] = rules.max_label_length
    found: dict[str, Any] = json.loads(json.dumps({**made, **chosen}))
    return found


def _stopped_run(
    target: Path, made_from: Mapping[str, Any], resume: bool, progress: Progress
) -> "Unfinished | None":
    """Return the run to continue, and say what is not used."""
    from nordocr_cli.data.unfinished import find_unfinished

    runs = find_unfinished(target)
    alike = [run for run in runs if run.made_from == made_from]
    if not resume and alike:
        progress.note(
            f"starting over; an interrupted run for {target} exists, use --resume to continue it"
        )
    if resume and not alike:
        reason = "there is no interrupted run"
        if runs:
            reason = "the interrupted run had other sources or settings"
        progress.warn(f"nothing to resume for {target}: {reason}; starting over")
    if resume and alike:
        return alike[0]
    return None


def _outcomes_before(
    stopped: "Unfinished", rules: PrepRules, rows: Iterator[IndexedEntry]
) -> Iterator[EntryOutcome]:
    """Yield what a stopped run had made of the first of `rows`, and leave the others to be taken
    from there.
    """
    for noted, (_, entry) in zip(stopped.outcomes(), rows, strict=False):
        checked = rules.check(entry)
        if isinstance(checked, LeftOut):
            yield entry, checked
        else:
            yield (
                checked,
                LeftOut(**noted) if isinstance(noted, Mapping) else PreparedLine(*noted),
            )


def quarantine_path(output: Path) -> Path:
    """Return the path of the list of rows left out."""
    return output.with_name(output.name + ".quarantine.jsonl")


def _open_all(
    sources: Sequence[str | Path],
    columns: Columns,
    targets: Sequence[Path],
    stack: ExitStack,
    progress: Progress,
) -> list[tuple[SourceSpec, Source]]:
    if not sources:
        raise UsageError(
            "no sources: give a manifest, a folder with one, pages with layouts, or an LMDB"
        )
    specs = [parse_source(str(source), columns) for source in sources]
    for target in targets:
        for spec in specs:
            written, read = (Path(os.path.realpath(path)) for path in (target, spec.path))
            if written == read or written in read.parents:
                raise UsageError(
                    f"{target} would replace the source {spec.path}; give another --output"
                )
        refuse_to_replace(target)
    opened: list[tuple[SourceSpec, Source]] = []
    for spec in specs:
        opened.append((spec, open_source(spec, progress)))
        stack.callback(opened[-1][1].close)
    return opened


def _rows(sources: Sequence[tuple[SourceSpec, Source]]) -> Iterator[IndexedEntry]:
    """Yield every row of every source, with the id, subset and document that it has in the
    store.
    """
    specs = [spec for spec, _ in sources]
    names = [spec.name for spec in specs]
    documents = _document_prefixes(specs)
    for index, (spec, source) in enumerate(sources):
        number = index + 1
        while str(number) in names:  # a source may be named `2`
            number += len(sources)
        if names.count(spec.name) == 1 and spec.name:
            prefix = spec.name
        else:
            prefix = str(number)
        prefix = prefix if len(sources) > 1 else ""
        for entry in source.entries():
            if entry.row is not None:
                entry = _in_source(entry, spec, prefix, documents[index])
            yield index, entry


def _in_source(entry: Entry, spec: SourceSpec, prefix: str, document: str) -> Entry:
    """The entry with the id, subset and document that it has among the rows of all sources."""
    row = entry.row
    assert row is not None
    is_named_by_file = entry.is_named_by_file and row.source
    if not prefix and not spec.name and not is_named_by_file:
        return entry
    return replace(
        entry,
        row=replace(
            row,
            id=f"{prefix}:{row.id}" if prefix else row.id,
            subset=row.subset or spec.name,
            extra={"corpus": spec.name, **row.extra} if spec.name else row.extra,
            source=f"{document}/{row.source}" if is_named_by_file else row.source,
        ),
    )


def _document_prefixes(specs: Sequence[SourceSpec]) -> list[str]:
    """What stands before the file names that documents are named by: the source's name, else its
    folder, with as many folders above it as tell the sources apart.
    """
    folders = []
    for spec in specs:
        path = Path(os.path.realpath(spec.path))
        folder = path if path.is_dir() else path.parent
        folders.append(
            [part for part in folder.parts[1:] if part not in LAYOUT_FOLDERS] or ["."]
        )
    depth = 1
    longest = max(map(len, folders), default=1)
    while depth < longest and _are_ambiguous(folders, depth):
        depth += 1
    return [
        spec.name or "/".join(folder[-depth:])
        for spec, folder in zip(specs, folders, strict=True)
    ]


def _are_ambiguous(folders: Sequence[Sequence[str]], depth: int) -> bool:
    """Whether different folders have the same last `depth` names."""
    different = {tuple(folder) for folder in folders}
    return len({folder[-depth:] for folder in different}) < len(different)


@dataclass
class _Survey:
    """What the rows are, before an image is read: their number, the lines of each document and its
    group (see data/split.py).
    """

    total: int = 0
    lines_of: Counter[str] = field(default_factory=Counter)
    group_of: dict[str, str] = field(default_factory=dict)


def _survey(sources: Sequence[tuple[SourceSpec, Source]], select: Selection) -> _Survey:
    """Count the rows and the lines of each document. Raises UsageError when a filter accepts no
    row.
    """
    found = _Survey()
    languages = Counter[str]()
    subsets = Counter[str]()
    for _, entry in _rows(sources):
        found.total += 1
        if entry.row is None:
            continue
        languages[entry.row.language] += 1
        subsets[entry.row.subset] += 1
        if select.left_out(entry.row) is None:
            document = document_of_row(entry.row)
            found.lines_of[document] += 1
            found.group_of.setdefault(document, group_of(entry.row))
    if not found.total:
        raise DataError(
            f"no rows in {', '.join(str(source.path) for _, source in sources)}"
        )
    _require_known("--include-language", select.languages, languages)
    _require_known("--include-subset", select.subsets, subsets)
    return found


def _require_known(flag: str, requested: Sequence[str], known: Mapping[str, int]) -> None:
    unknown = [name for name in requested if name not in known]
    if unknown:
        names = [name for name in known if name]
        raise UsageError(f"{flag} {unknown[0]!r} fits no row; {nearest(unknown[0], names)}")


def _decide_over_width(
    sources: Sequence[tuple[SourceSpec, Source]],
    select: Selection,
    geometry: Geometry,
    pool: ThreadPoolExecutor,
) -> tuple[Geometry, str]:
    """Replace `over_width = "auto"` by the choice that suits the crops' sizes. Returns the geometry
    and the reason in words.
    """
    if geometry.over_width != "auto":
        return geometry, f"{geometry.over_width}, as the profile says"

    def ratio(row: IndexedEntry) -> float:
        number, entry = row
        try:
            return geometry.squash_ratio(*sources[number][1].crop_size(entry))
        except (DataError, FileNotFoundError):
            return 1.0  # named when its turn comes to be read

    selected = (
        row for row in _rows(sources) if row[1].row and not select.left_out(row[1].row)
    )
    crops = 0
    over_wide = list[float]()
    for found in in_order(pool, ratio, selected):
        crops += 1
        if found > 1:
            over_wide.append(found)
    over_wide.sort()
    if not over_wide:
        return replace(geometry, over_width="squash"), "squash: auto, no crop is too wide"
    p95 = over_wide[int(0.95 * (len(over_wide) - 1))]
    decision: Literal["squash", "center-crop"] = "squash"
    if p95 > _AUTO_SQUASH_UP_TO:
        decision = "center-crop"
    why = (
        f"{decision}: auto, {len(over_wide)} of {crops} crops are too wide, 95 % of them up to"
        f" {p95:.2f} times"
    )
    return replace(geometry, over_width=decision), why


def _provenance(spec: SourceSpec, source: Source) -> dict[str, Any]:
    return {
        "path": str(source.path),
        "kind": source.kind,
        **({"name": spec.name} if spec.name else {}),
        "bytes": sum(path.stat().st_size for path in source.files),
        "sha256": hash_of_files(tuple(source.files)),
    }
