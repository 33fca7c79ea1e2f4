"""Where rows are prepared: on threads of this process, or on a Ray cluster.

Outcomes come back in the order of the rows, so that a store's content does not depend on the
engine.
"""

import logging
import os
import pickle
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, Protocol, TypeVar

from nordocr_cli.core.prep.lines import EntryOutcome, IndexedEntry, PrepRules, prepare_shard
from nordocr_cli.data.formats import Source, SourceSpec, open_source
from nordocr_cli.errors import UsageError
from nordocr_cli.extras import missing
from nordocr_cli.progress import Progress

EngineName = Literal["local", "ray"]

# Rows that the threads may be ahead of what is written.
_AHEAD = 256
# Rows that a thread takes at once: handing over one at a time costs a fifth of the work itself.
_TOGETHER = 16
# Rows of a shard on Ray: some megabytes of lines come back, and starting a task costs little
# compared with a second of work.
_RAY_SHARD = 256
# Rows of a data set: it begins when all of its rows are known, so that many are in memory here, and
# it takes a second to start.
_RAY_ROWS_A_DATASET = 200_000

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


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


class PrepEngine(Protocol):
    """Runs `prepare_shard` over many rows."""

    def outcomes(
        self, rules: PrepRules, rows: Iterable[IndexedEntry]
    ) -> Iterator[EntryOutcome]:
        """Yield what became of each row, in order, not many rows ahead of the caller."""


class Threads:
    """This process's threads: OpenCV and the hashes run outside Python's lock."""

    def __init__(self, sources: Sequence[Source], pool: ThreadPoolExecutor) -> None:
        self._sources = sources
        self._pool = pool

    def outcomes(
        self, rules: PrepRules, rows: Iterable[IndexedEntry]
    ) -> Iterator[EntryOutcome]:
        """See PrepEngine."""

        def submit(some: Sequence[IndexedEntry]) -> Future[list[EntryOutcome]]:
            return self._pool.submit(prepare_shard, self._sources, rules, some)

        return _shards_in_order(submit, Future.result, rows, _TOGETHER, _AHEAD)


class Ray:
    """Ray Data on a cluster: the one that RAY_ADDRESS or `ray start` names, else one of this
    machine.

    Every node must see the sources under the same paths and have nordocr installed. Raises
    MissingBackendError without Ray Data, and after Ray's own waiting UsageError when there is no
    cluster at RAY_ADDRESS.
    """

    def __init__(
        self, specs: Sequence[SourceSpec], stack: ExitStack, progress: Progress
    ) -> None:
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise missing("ray", "--engine ray") from error
        self._ray = ray
        self._specs = tuple(specs)
        self._progress = progress
        if not ray.is_initialized():
            # a cluster that we start reports to nobody
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            try:
                ray.init(
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    include_dashboard=False,
                )
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

    def outcomes(
        self, rules: PrepRules, rows: Iterable[IndexedEntry]
    ) -> Iterator[EntryOutcome]:
        """See PrepEngine. Rows reach Ray as pickled shards and outcomes come back pickled: to Ray
        both are bytes.
        """
        # travels once to each node, not with every shard
        shared = self._ray.put((os.getcwd(), self._specs, rules))
        shards_of = Counter[str]()
        remaining = iter(rows)
        elsewhere: Any = _shard_elsewhere  # Ray's types know nothing of `fn_args`
        while some := list(islice(remaining, _RAY_ROWS_A_DATASET)):
            shards = [
                {"shard": pickle.dumps(some[i : i + _RAY_SHARD])}
                for i in range(0, len(some), _RAY_SHARD)
            ]
            data = self._ray.data.from_items(shards, override_num_blocks=len(shards))
            for found in data.map(elsewhere, fn_args=(shared,)).iter_rows():
                shards_of[found["node"]] += 1
                # What our own function has pickled.
                yield from pickle.loads(found["outcomes"])
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        self._progress.note(
            f"Ray Data: {shards_of.total()} shards on {len(shards_of)} nodes with {cores} cores"
        )


def _shard_elsewhere(item: Mapping[str, bytes], shared: Any) -> dict[str, Any]:
    """`prepare_shard` of one item of the data set, with the sources opened there, and the node's
    name.
    """
    import ray

    folder, specs, rules = ray.get(shared)
    os.chdir(folder)  # so that relative paths, and what messages make of them, are the same
    outcomes = prepare_shard(_opened_here(specs), rules, pickle.loads(item["shard"]))
    return {
        "node": ray.get_runtime_context().get_node_id(),
        "outcomes": pickle.dumps(outcomes),
    }


@lru_cache(maxsize=1)
def _opened_here(specs: tuple[SourceSpec, ...]) -> list[Source]:
    return [open_source(spec) for spec in specs]
