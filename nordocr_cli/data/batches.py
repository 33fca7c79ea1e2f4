"""From line stores to batches: lines of similar width under a pixel budget, filled ahead by
threads, uint8 until they are on the device.

Labels are encoded in targets.py, the batches of an epoch planned in epoch_plan.py, and pixels
gathered in gather.py.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nordocr_cli.charset import Charset
from nordocr_cli.data.batch_options import BatchOptions
from nordocr_cli.data.epoch_plan import BatchPlan, EpochPlanner, ranges
from nordocr_cli.data.gather import PixelGatherer
from nordocr_cli.data.store import LineStore
from nordocr_cli.data.targets import encode_labels
from nordocr_cli.errors import DataError
from nordocr_cli.geometry import NORMALIZATIONS, Geometry
from nordocr_cli.records import LineRow

_BATCHES_AHEAD = 2  # more batches than threads are requested ahead


@dataclass(frozen=True)
class Batch:
    """A batch on the host, N samples padded on the right to W pixels. A sample is a line, or
    several that `augment` joined.

    `masked` says whether the network gets the widths and masks the padding, or sees the padding as
    pixels.
    """

    # uint8 (N, 3, height, W), or (N, 1, height, W) when all lines are gray; channels last in memory
    images: Tensor
    widths: Tensor  # int64 (N,), pixels
    # int64 (sum of target_lengths,), classes 1…C-1 of all samples, one after the other
    targets: Tensor
    target_lengths: Tensor  # int64 (N,)
    counts: Tensor  # int64 (N,), lines that each sample was joined from
    read_rows: Callable[[], tuple[LineRow, ...]]  # reads the lines' rows from their stores
    masked: bool = True
    # Lines and characters of the batches that all processes train on at the same time. A process
    # that has none left gets a batch that is not counted, so that every process makes as many
    # steps.
    shared_lines: int = 0
    shared_characters: int = 0
    counted: bool = True

    def __len__(self) -> int:
        return len(self.widths)

    @property
    def lines(self) -> int:
        """Number of lines, of which a sample may join several."""
        return int(self.counts.sum())

    @cached_property
    def rows(self) -> tuple[LineRow, ...]:
        """The lines' rows, read at the first access: a training step needs none."""
        return self.read_rows()

    @property
    def row_ids(self) -> tuple[str, ...]:
        """The lines' row ids."""
        return tuple(row.id for row in self.rows)

    def ids_of(self, sample: int) -> tuple[str, ...]:
        """Return the row ids of the lines that sample number `sample` was joined from."""
        first = int(self.counts[:sample].sum())
        return self.row_ids[first : first + int(self.counts[sample])]

    @property
    def texts(self) -> tuple[str, ...]:
        """The lines' texts."""
        return tuple(row.text for row in self.rows)


def normalize_tensor(images: Tensor, geometry: Geometry) -> Tensor:
    """Return uint8 images (N, 3, H, W), or gray ones (N, 1, H, W), as normalized float32 (N, 3, H,
    W) on the same device, channels last; white padding becomes exactly 1.0.
    """
    mean, scale = (
        _constants(values, images.device)
        for values in NORMALIZATIONS[geometry.normalization]
    )
    normalized = (images.float() - mean) / scale  # (N, 3, H, W)
    return normalized.contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=8)
def _constants(values: tuple[float, float, float], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(1, 3, 1, 1)


class LineBatches:
    """The lines of one or several stores, batch by batch:

        options = BatchOptions(budget_px=64 * 320, shuffle=True)
        batches = LineBatches([store], NORDIC, geometry, options)
        for batch in batches.epoch(0):
            ...

    Raises DataError when a store does not fit charset or geometry, and, naming the rows, when a
    label has a character outside the charset or is longer than the network can write it.
    """

    planner: ClassVar[type[EpochPlanner]] = EpochPlanner

    def __init__(
        self,
        stores: Sequence[LineStore],
        charset: Charset,
        geometry: Geometry,
        options: BatchOptions,
    ) -> None:
        self.stores = tuple(stores)
        self.geometry = geometry
        self.options = options
        for store in self.stores:
            store.header.require_charset(charset, str(store.path))
            store.header.require_geometry(geometry, str(store.path))
        first = np.cumsum([0, *(len(store) for store in self.stores)])
        widths = [np.asarray(store.widths, dtype=np.int64) for store in self.stores]
        self.widths = np.concatenate(widths or [np.empty(0, np.int64)])
        if options.only is None:
            self.members = np.arange(len(self.widths))
        else:
            self.members = np.asarray(options.only, dtype=np.int64)
        if len(self.members) == 0:
            raise DataError(
                "the line stores hold no lines; look at the counts that `nordocr prep` printed"
            )
        self._gatherer = PixelGatherer(self.stores, first, geometry)
        self._labels = encode_labels(
            self._row, self.widths, self.members, charset, geometry, options.label_limit
        )
        self._planner = self.planner(
            self.widths, self.members, first, self._labels, geometry, options
        )

    def __len__(self) -> int:
        """Number of lines of an epoch."""
        return len(self.members)

    def rows(self) -> Iterator[LineRow]:
        """Yield the rows of the lines, store by store."""
        return (self._row(int(index)) for index in self.members)

    @property
    def width_range(self) -> tuple[int, int]:
        """Widths in pixels of the narrowest and the widest sample of the first epoch."""
        widths = self.plan(0)[0].samples.widths
        return int(widths.min()), int(widths.max())

    def padding_share(self, epoch: int = 0) -> float:
        """Return the share of an epoch's pixels that are padding, including the extra padding of
        `augment`.
        """
        used = filled = 0
        for plan in self.plan(epoch):
            used += int(plan.widths.sum())
            filled += len(plan.numbers) * self._planner.batch_width(plan)
        return 1.0 - used / filled

    def plan(self, epoch: int) -> list[BatchPlan]:
        """Return the batches of an epoch, of all processes, in order: a pure function of (seed,
        epoch).
        """
        return [plan for together in self._planner.steps(epoch) for plan in together]

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """Yield this process's batches of an epoch from number `start` on; threads fill them
        ahead.
        """
        plans = self._planner.steps(epoch)[start:]
        workers = self.options.workers
        if workers == 0:
            for plan in plans:
                yield self._load(plan, epoch)
            return
        pool = _single_threaded_pool(workers)
        ahead: deque[Future[Batch]] = deque()
        try:
            for plan in plans:
                ahead.append(pool.submit(self._load, plan, epoch))
                if len(ahead) > workers + _BATCHES_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, together: list[BatchPlan], epoch: int) -> Batch:
        """Fill this process's batch of those that are trained on at the same time."""
        rank = self.options.share[0]
        counted = rank < len(together)
        plan = together[rank if counted else 0]
        lines = plan.lines
        counts = plan.counts
        widths = plan.widths
        targets, target_lengths = self._targets(lines, counts)
        images = torch.from_numpy(self._pixels(plan, lines, epoch))
        images = images.permute(0, 3, 1, 2)  # (N, C, H, W), channels last
        others = [other for other in together if other is not plan]
        return Batch(
            images=images.pin_memory() if self.options.pin else images,
            widths=torch.from_numpy(widths),
            targets=torch.from_numpy(targets),
            target_lengths=torch.from_numpy(target_lengths),
            counts=torch.from_numpy(counts),
            read_rows=lambda: tuple(self._row(int(index)) for index in lines),
            masked=plan.masked,
            shared_lines=len(lines) + sum(len(other.lines) for other in others),
            shared_characters=len(targets)
            + sum(self._characters(other) for other in others),
            counted=counted,
        )

    def _pixels(
        self, plan: BatchPlan, lines: NDArray[np.int64], epoch: int
    ) -> NDArray[np.uint8]:
        """Return the pixels of a batch (N, H, W, C); `lines` are those of the plan."""
        width = self._planner.batch_width(plan)
        augment = self.options.augment
        if augment is None:
            return self._gatherer.gather(lines, width)
        # Drawn by (seed, epoch, batch): neither the threads nor a resumed run change what a sample
        # looks like.
        batch = int(plan.numbers.min()) + 1
        rng = np.random.default_rng((self.options.seed, epoch, batch))
        return self._gatherer.compose(plan, self.widths[lines], width, augment, rng)

    def _targets(
        self, lines: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the classes of a batch's samples, and how many each sample has; joined lines have
        a space between them. `counts` are the lines of each sample.
        """
        labels = self._labels
        starts = labels.starts[lines]
        ends = labels.starts[lines + 1]
        # 1 where a space follows: between a line and the next one of its sample.
        followed = np.ones(len(lines), dtype=np.int64)
        followed[np.cumsum(counts) - 1] = 0
        targets = labels.classes[ranges(starts, ends)].astype(np.int64)
        if followed.any():
            places = np.cumsum(ends - starts)[followed == 1]
            targets = np.insert(targets, places, labels.space or 0)
        written = ends - starts + followed
        return targets, np.add.reduceat(written, np.cumsum(counts) - counts)

    def _characters(self, plan: BatchPlan) -> int:
        """Return the characters of a batch's labels, including the spaces between joined lines."""
        lines = plan.lines
        spaces = len(lines) - len(plan.numbers)
        return int(self._labels.lengths(lines).sum()) + spaces

    def _row(self, index: int) -> LineRow:
        store, local = self._gatherer.locate(index)
        return store.row(local)


def _single_threaded_pool(workers: int) -> ThreadPoolExecutor:
    """Return threads whose torch operations each run on one thread: with more they would wait for
    each other.
    """
    computing = torch.get_num_threads()
    started = threading.Barrier(workers + 1)

    def start() -> None:
        torch.get_num_threads()  # without this call a thread takes the process's number later
        # For this thread, and for those that begin before the process's number is set again.
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    for _ in range(workers):
        pool.submit(start)
    started.wait()
    torch.set_num_threads(computing)
    return pool
