"""What becomes of a row: the line that is kept, or the reason for which it is not; on threads here,
or on a Ray cluster.

`prepare_shard` is all the work on images, and the same function wherever it runs. What it returns
is written in the order of the rows, so that a store's content does not depend on the engine.
"""

import logging
import os
import pickle
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from nordocr_cli.charset import Charset, describe_character
from nordocr_cli.core.prep.stats import LeftOut
from nordocr_cli.data.entry import Entry
from nordocr_cli.data.formats import Source, SourceSpec, open_source
from nordocr_cli.data.notes import note_mapped, note_over_wide
from nordocr_cli.data.oov import replace_characters
from nordocr_cli.errors import DataError, MissingBackendError, UsageError
from nordocr_cli.geometry import Geometry, frames_needed
from nordocr_cli.progress import Progress
from nordocr_cli.records import LineRow

if TYPE_CHECKING:
    from nordocr_cli.data.line_record import EncodedLine

EngineName = Literal["local", "ray"]

# Rows that the threads may be ahead of what is written.
_AHEAD = 256
# Rows that a thread takes at once: handing over one at a time costs a fifth of what is done with
# it.
_TOGETHER = 16
# Rows of a shard on Ray: some megabytes of lines come back, and starting a task is little beside a
# second of work.
_RAY_SHARD = 256
# Rows of a data set: it begins when all of its rows are known, so that many are in memory here, and
# it takes a second to start.
_RAY_ROWS_A_DATASET = 200_000

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class PreparedLine:
    """A line that can be kept."""

    row: LineRow
    encoded: "EncodedLine"


Row = tuple[int, Entry]  # number of the source, its entry
# the entry with its text as it is kept, and what became of it
Outcome = tuple[Entry, LeftOut | PreparedLine]


@dataclass(frozen=True)
class Selection:
    """Which rows are wanted: those of these languages and subsets; all where none are named.

    `empty`: rows whose text is empty too. A network learns from them to read nothing where nothing
    is written.
    """

    languages: tuple[str, ...] = ()
    subsets: tuple[str, ...] = ()
    empty: bool = False

    def left_out(self, row: LineRow) -> LeftOut | None:
        """Return why a row is not wanted, None when it is."""
        if self.languages and row.language not in self.languages:
            return LeftOut("other-language", f"language {row.language!r}")
        if self.subsets and row.subset not in self.subsets:
            return LeftOut("other-subset", f"subset {row.subset!r}")
        return None


@dataclass(frozen=True)
class Recipe:
    """All that decides what becomes of a row: which are wanted, the charset of the texts with the
    replacements for characters that it does not have, and the geometry of the lines. Labels must
    fit the CTC frames of their lines or, for a network that writes tokens, have `max_label_length`
    characters at most.
    """

    select: Selection
    charset: Charset
    mapping: Mapping[str, str]
    geometry: Geometry
    max_label_length: int | None = None

    def check(self, entry: Entry) -> Entry | LeftOut:
        """Return the entry, its characters mapped, or why it is not wanted or its text cannot be
        used. Reads no image.
        """
        if entry.row is None:
            return LeftOut("illegible" if entry.illegible else "bad-row", entry.problem)
        row = entry.row
        if unwanted := self.select.left_out(row):
            return unwanted
        if self.mapping and (mapped := Counter(c for c in row.text if c in self.mapping)):
            row = note_mapped(row, replace_characters(row.text, self.mapping), mapped)
        if not row.text.strip() and not (self.select.empty and not row.text):
            return LeftOut("empty-text", "the text is empty; --keep-empty keeps such rows")
        if missing := self.charset.missing(row.text):
            names = ", ".join(map(describe_character, missing))
            count = Counter(c for c in row.text if c in missing)
            return LeftOut(
                "oov", f"charset {self.charset.name!r} has no {names} (text: {row.text!r})", count
            )
        if self.max_label_length is not None and len(row.text) > self.max_label_length:
            return LeftOut(
                "too-long",
                f"{len(row.text)} characters; model.max_label_length is {self.max_label_length}",
            )
        return entry if row is entry.row else replace(entry, row=row)

    def line(self, source: Source, entry: Entry) -> LeftOut | PreparedLine:
        """Read, scale and encode the image of a checked entry."""
        from nordocr_cli.data.line_record import encode_line
        from nordocr_cli.data.resize import resize_line

        row, geometry = entry.row, self.geometry
        assert row is not None
        try:
            crop = source.crop(entry)
        except FileNotFoundError as error:
            return LeftOut("missing-image", f"no image {error}")
        except DataError as error:
            return LeftOut("unreadable-image", str(error))
        height, width = crop.shape[:2]
        frames, needed = (
            geometry.out_length(geometry.line_width(height, width)),
            frames_needed(row.text),
        )
        if self.max_label_length is None and frames < needed:
            return LeftOut(
                "ctc-infeasible",
                f"{len(row.text)} characters need {needed} CTC frames; {height} x {width} px give"
                f" {frames}",
            )
        ratio = geometry.squash_ratio(height, width)
        if ratio > 1:
            row = note_over_wide(row, ratio, geometry)
        return PreparedLine(row, encode_line(resize_line(crop, geometry)))


def prepare_shard(sources: Sequence[Source], recipe: Recipe, rows: Sequence[Row]) -> list[Outcome]:
    """Return what became of some rows, in their order."""
    outcomes: list[Outcome] = []
    for number, entry in rows:
        checked = recipe.check(entry)
        outcomes.append(
            (entry, checked)
            if isinstance(checked, LeftOut)
            else (checked, recipe.line(sources[number], checked))
        )
    return outcomes


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[_Result]:
    """Yield `function(item)` of each item, in order; the pool's threads are only a few items ahead,
    however many there are.
    """

    def work(some: Sequence[_Item]) -> list[_Result]:
        return [function(item) for item in some]

    return _shards_in_order(
        lambda some: pool.submit(work, some), Future.result, items, _TOGETHER, _AHEAD
    )


def _shards_in_order(
    submit: Callable[[Sequence[_Item]], Any],
    result: Callable[[Any], Sequence[_Result]],
    items: Iterable[_Item],
    together: int,
    ahead: int,
) -> Iterator[_Result]:
    pending: deque[Any] = deque()
    remaining = iter(items)
    while some := tuple(islice(remaining, together)):
        pending.append(submit(some))
        if len(pending) * together > ahead:
            yield from result(pending.popleft())
    while pending:
        yield from result(pending.popleft())


# Engines
# ----------------------------------------


class Engine(Protocol):
    """Runs `prepare_shard` over many rows."""

    def outcomes(self, recipe: Recipe, rows: Iterable[Row]) -> Iterator[Outcome]:
        """Yield what became of each row, in order, not many rows ahead of who asks."""


class Threads:
    """This process's threads: OpenCV and the hashes run outside Python's lock."""

    def __init__(self, sources: Sequence[Source], pool: ThreadPoolExecutor) -> None:
        self._sources, self._pool = sources, pool

    def outcomes(self, recipe: Recipe, rows: Iterable[Row]) -> Iterator[Outcome]:
        """See Engine."""

        def submit(some: Sequence[Row]) -> Future[list[Outcome]]:
            return self._pool.submit(prepare_shard, self._sources, recipe, some)

        return _shards_in_order(submit, Future.result, rows, _TOGETHER, _AHEAD)


class Ray:
    """Ray Data on a cluster: the one that RAY_ADDRESS or `ray start` names, else one of this
    machine.

    Every node must see the sources under the same paths and have nordocr installed. Raises
    MissingBackendError without Ray Data, and after Ray's own waiting UsageError when there is no
    cluster at RAY_ADDRESS.
    """

    def __init__(self, specs: Sequence[SourceSpec], stack: ExitStack, progress: Progress) -> None:
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise MissingBackendError(
                f"--engine ray needs Ray Data ({error}); pip install 'nordocr-cli[ray]'"
            ) from error
        self._ray, self._specs, self._progress = ray, tuple(specs), progress
        if not ray.is_initialized():
            # a cluster that we start reports to nobody
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            try:
                ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
            except ConnectionError as error:
                raise UsageError(
                    f"no Ray cluster answers at RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}:"
                    f" {error}"
                ) from error
            stack.callback(ray.shutdown)
        # Its bars and plans would stand between our own lines.
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True

    def outcomes(self, recipe: Recipe, rows: Iterable[Row]) -> Iterator[Outcome]:
        """See Engine. Rows travel to a data set pickled, shard by shard, and outcomes come back so:
        to Ray they are bytes.
        """
        # travels once to each node, not with every shard
        shared = self._ray.put((os.getcwd(), self._specs, recipe))
        shards_of, remaining = Counter[str](), iter(rows)
        elsewhere: Any = _shard_elsewhere  # Ray's types know nothing of `fn_args`
        while some := list(islice(remaining, _RAY_ROWS_A_DATASET)):
            shards = [
                {"shard": pickle.dumps(some[i : i + _RAY_SHARD])}
                for i in range(0, len(some), _RAY_SHARD)
            ]
            data = self._ray.data.from_items(shards, override_num_blocks=len(shards))
            for found in data.map(elsewhere, fn_args=(shared,)).iter_rows():
                shards_of[found["node"]] += 1
                yield from pickle.loads(found["outcomes"])  # what our own function has pickled
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        self._progress.note(
            f"Ray Data: {shards_of.total()} shards on {len(shards_of)} nodes with {cores} cores"
        )


def _shard_elsewhere(item: Mapping[str, bytes], shared: Any) -> dict[str, Any]:
    """`prepare_shard` of one item of the data set, with the sources opened there, and the node's
    name.
    """
    import ray

    folder, specs, recipe = ray.get(shared)
    os.chdir(folder)  # so that relative paths, and what messages make of them, are the same
    outcomes = prepare_shard(_opened_here(specs), recipe, pickle.loads(item["shard"]))
    return {"node": ray.get_runtime_context().get_node_id(), "outcomes": pickle.dumps(outcomes)}


@lru_cache(maxsize=1)
def _opened_here(specs: tuple[SourceSpec, ...]) -> list[Source]:
    return [open_source(spec) for spec in specs]
