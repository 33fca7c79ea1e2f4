"""From line stores to batches: lines of like width under a pixel budget, filled ahead by threads,
uint8 until the device.

The order is a pure function of (seed, epoch): a run that is resumed sees the very batches that it
would have seen.
"""

import threading
import warnings
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nordocr_cli.charset import Charset
from nordocr_cli.data.augment import Samples, compose, draw_samples, single_samples
from nordocr_cli.data.batch_plan import Plan, ranges
from nordocr_cli.data.buffers import Buffers
from nordocr_cli.data.store import LineStore
from nordocr_cli.errors import DataError
from nordocr_cli.geometry import NORMALIZATIONS, Geometry, frames_needed
from nordocr_cli.records import LineRow
from nordocr_cli.settings import Augment

# Lines are sorted by width times a random factor this near to 1, and cut into batches: neighbours
# change from epoch to epoch, a twentieth of the pixels is padding, and a small store wastes no more
# than a large one.
_WIDTH_JITTER = 0.05
_NAMED_ROWS = 3  # as many row ids as an error names


@dataclass(frozen=True)
class Batch:
    """A batch on the host, N samples padded on the right to W pixels. A sample is a line, or
    several that `augment` joined.

    `masked` says whether the network shall be told the widths (padding masked) or shall meet the
    padding as pixels.
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
    # Of the batches of all processes that are trained on at the same time: their lines and their
    # characters. A process that has none left gets one that does not count, so that every process
    # makes as many steps.
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
        """The lines' rows; read when first asked for, as a training step needs none."""
        return self.read_rows()

    @property
    def row_ids(self) -> tuple[str, ...]:
        """The lines' row ids."""
        return tuple(row.id for row in self.rows)

    def ids_of(self, sample: int) -> tuple[str, ...]:
        """The row ids of the lines that sample number `sample` was joined from."""
        first = int(self.counts[:sample].sum())
        return self.row_ids[first : first + int(self.counts[sample])]

    @property
    def texts(self) -> tuple[str, ...]:
        """The lines' texts."""
        return tuple(row.text for row in self.rows)


def normalize(images: Tensor, geometry: Geometry) -> Tensor:
    """Return uint8 images (N, 3, H, W), or gray ones (N, 1, H, W), as normalized float32 (N, 3, H,
    W) on the same device, channels last; white padding becomes exactly 1.0.
    """
    mean, scale = (
        _constants(values, images.device) for values in NORMALIZATIONS[geometry.normalization]
    )
    # (N, 3, H, W)
    return ((images.float() - mean) / scale).contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=8)
def _constants(values: tuple[float, float, float], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(1, 3, 1, 1)


def _one_core_each(workers: int) -> ThreadPoolExecutor:
    """Threads whose torch computes on the thread itself: with threads of its own beside theirs they
    would wait for each other.
    """
    computing, started = torch.get_num_threads(), threading.Barrier(workers + 1)

    def start() -> None:
        torch.get_num_threads()  # a thread that has not asked yet takes the process's number later
        # for this thread, and for those that begin before the process's is set again
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    for _ in range(workers):
        pool.submit(start)
    started.wait()
    torch.set_num_threads(computing)
    return pool


class LineBatches:
    """The lines of one or several stores, batch by batch.

    `ratios`, one a store, mix the stores: an epoch still has as many lines as they have together,
    drawn by these weights, and over the epochs each line of a store comes equally often. Without
    them every line stands once in every epoch. `share` is (number of this process, processes): at
    the same time each takes another batch of like width.

    `budget_px` is lines times width in pixels of a full batch; a line wider than the budget is a
    batch of its own. With `shuffle` the lines are drawn anew each epoch, `augment` changes them,
    and the share 1 - `mask_share` of the batches is marked unmasked; without, the order is fixed
    and every batch masked. `only` restricts to these global indices. `max_label_length` is that of
    a network which writes tokens; without it, labels are written in CTC frames. `line_px` is what
    each line takes of the budget where the network makes all lines equally wide; without it, its
    padded width.

    Raises DataError when a store does not fit charset or geometry, and, naming the rows, when a
    label has a character outside the charset, or is longer than the network can write it: training
    would silently learn nothing there.
    """

    def __init__(
        self,
        stores: Sequence[LineStore],
        charset: Charset,
        geometry: Geometry,
        *,
        budget_px: int,
        seed: int = 0,
        shuffle: bool = False,
        augment: Augment | None = None,
        mask_share: float = 1.0,
        workers: int = 2,
        pin: bool = False,
        only: Sequence[int] | None = None,
        ratios: Sequence[float] | None = None,
        share: tuple[int, int] = (0, 1),
        max_label_length: int | None = None,
        line_px: int | None = None,
    ) -> None:
        self.stores, self.geometry = tuple(stores), geometry
        self.budget_px, self.seed, self.shuffle, self.augment = budget_px, seed, shuffle, augment
        self.mask_share, self.workers, self.pin = mask_share, workers, pin
        self.ratios, self.share, self.max_label_length, self.line_px = (
            ratios,
            share,
            max_label_length,
            line_px,
        )
        self._buffers = Buffers()
        self._tensors: dict[Path, Tensor] = {}
        for store in self.stores:
            store.header.require_charset(charset, str(store.path))
            store.header.require_geometry(geometry, str(store.path))
        # global index of each store's line 0
        self._first = np.cumsum([0, *(len(store) for store in self.stores)])
        self.widths = np.concatenate(
            [np.asarray(s.widths, dtype=np.int64) for s in self.stores] or [np.empty(0, np.int64)]
        )
        self.members = (
            np.arange(len(self.widths)) if only is None else np.asarray(only, dtype=np.int64)
        )
        if len(self.members) == 0:
            raise DataError(
                "the line stores hold no lines; look at the counts that `nordocr prep` printed"
            )
        self._space = None if charset.missing(" ") else charset.encode(" ")[0]
        self._targets, self._target_start, self._frames = self._encode(charset)
        self._planned: tuple[int, list[list[Plan]]] | None = None

    def __len__(self) -> int:
        """Number of lines of an epoch."""
        return len(self.members)

    def rows(self) -> Iterator[LineRow]:
        """Yield the rows of the lines, store by store."""
        return (self._row(int(index)) for index in self.members)

    def batch_count(self, epoch: int) -> int:
        """Number of batches of an epoch for each process. It differs a little between epochs, as
        much is drawn anew.
        """
        return len(self._steps(epoch))

    @property
    def width_range(self) -> tuple[int, int]:
        """Widths in pixels of the narrowest and the widest sample of the first epoch."""
        widths = self.plan(0)[0].samples.widths
        return int(widths.min()), int(widths.max())

    def padding_share(self, epoch: int = 0) -> float:
        """Share of an epoch's pixels that are padding, the extra padding of `augment` counted
        too.
        """
        used = filled = 0
        for plan in self.plan(epoch):
            used += int(plan.widths.sum())
            filled += len(plan.numbers) * self._batch_width(plan)
        return 1.0 - used / filled

    def plan(self, epoch: int) -> list[Plan]:
        """The batches of an epoch, of all processes, in order: a pure function of (seed, epoch)."""
        return [plan for together in self._steps(epoch) for plan in together]

    def _steps(self, epoch: int) -> list[list[Plan]]:
        """The batches of an epoch, those that the processes take at the same time together; the
        last ones may be fewer.
        """
        if self._planned is None or self._planned[0] != epoch:
            self._planned = (
                epoch,
                self._draw_steps(epoch, np.random.default_rng((self.seed, epoch))),
            )
        return self._planned[1]

    def _draw_steps(self, epoch: int, rng: np.random.Generator) -> list[list[Plan]]:
        samples = self._draw_samples(self._lines_of(epoch), rng)
        jitter = _WIDTH_JITTER if self.shuffle else 0.0
        keys = samples.widths * rng.uniform(1 - jitter, 1 + jitter, len(samples))
        # Keys with jitter have no ties to keep in order, and numpy's other sort is several times as
        # fast.
        order = np.argsort(keys, kind=None if self.shuffle else "stable")
        widths, start = samples.widths[order], 0
        plans: list[Plan] = []
        while start < len(order):
            masked = not self.shuffle or rng.random() < self.mask_share
            # A mask makes padding invisible, so extra padding teaches only in a batch without one.
            extra = 0 if masked else self._draw_extra_padding(rng)
            # Those that follow are no narrower than this, so more of them than `ahead` cannot fit.
            least = max(
                self.geometry.width_multiple, int(widths[start] * (1 - jitter) / (1 + jitter))
            )
            ahead = widths[start : start + self.budget_px // (self.line_px or least) + 1]
            each = (
                self._padded(np.maximum.accumulate(ahead), extra)
                if self.line_px is None
                else self.line_px
            )
            filled = each * np.arange(1, len(ahead) + 1)  # pixels of 1, 2, … samples
            count = max(1, int(np.searchsorted(filled, self.budget_px, side="right")))
            plans.append(Plan(samples, order[start : start + count], extra, masked))
            start += count
        steps = [plans[i : i + self.share[1]] for i in range(0, len(plans), self.share[1])]
        return [steps[i] for i in rng.permutation(len(steps))] if self.shuffle else steps

    def _lines_of(self, epoch: int) -> NDArray[np.int64]:
        """The lines of an epoch. With ratios, each store is gone through again and again, every
        time in another order.
        """
        if self.ratios is None:
            return self.members
        stores = [
            self.members[(self.members >= a) & (self.members < b)] for a, b in pairwise(self._first)
        ]
        weights = np.array(
            [ratio * (len(own) > 0) for ratio, own in zip(self.ratios, stores, strict=True)]
        )
        bounds = np.rint(np.cumsum(weights / weights.sum()) * len(self.members)).astype(np.int64)
        parts = []
        for number, (own, begin, end) in enumerate(
            zip(stores, [0, *bounds[:-1]], bounds, strict=True)
        ):
            # Of the endless row of passes over this store, the piece that is this epoch's.
            places = np.arange(epoch * (end - begin), (epoch + 1) * (end - begin))
            for done in np.unique(places // max(1, len(own))).tolist():
                order = np.random.default_rng((self.seed, number, done)).permutation(len(own))
                parts.append(own[order[places[places // len(own) == done] % len(own)]])
        return np.concatenate(parts)

    def _draw_samples(self, lines: NDArray[np.int64], rng: np.random.Generator) -> Samples:
        if self.augment is None:
            return single_samples(lines, self.widths[lines])
        starts, ends = self._target_start[lines], self._target_start[lines + 1]
        joinable = np.zeros(len(lines), dtype=bool)
        if self._space is not None:
            filled = ends > starts
            outer = self._targets[starts[filled]], self._targets[ends[filled] - 1]
            joinable[filled] = (outer[0] != self._space) & (outer[1] != self._space)
        return draw_samples(
            lines,
            self.widths[lines],
            self._frames[lines],
            joinable,
            self.geometry,
            self.augment,
            rng,
        )

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """Yield this process's batches of an epoch from number `start` on, decoded ahead by
        `workers` threads (0: in this thread).
        """
        plans = self._steps(epoch)[start:]
        if self.workers == 0:
            for plan in plans:
                yield self._load(plan, epoch)
            return
        pool = _one_core_each(self.workers)
        ahead: deque[Future[Batch]] = deque()
        try:
            for plan in plans:
                ahead.append(pool.submit(self._load, plan, epoch))
                if len(ahead) > self.workers + 2:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _encode(
        self, charset: Charset
    ) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64]]:
        """Classes of all member lines in one flat array, where each line's begin, and the CTC
        frames that each line needs; every label checked.
        """
        # a list would take four times as much, and a store may have millions of lines
        flat = array("h")
        starts, problems = np.zeros(len(self.widths) + 1, dtype=np.int64), []
        all_needed = np.zeros(len(self.widths), dtype=np.int64)
        wanted = np.zeros(len(self.widths), dtype=bool)
        wanted[self.members] = True
        for index in range(len(self.widths)):
            if wanted[index]:
                row = self._row(index)
                if missing := charset.missing(row.text):
                    problems.append(
                        f"row {row.id!r} has {', '.join(map(repr, missing))} outside charset"
                        f" {charset.name!r}"
                    )
                else:
                    classes = charset.encode(row.text)
                    needed, frames = (
                        frames_needed(classes),
                        self.geometry.out_length(int(self.widths[index])),
                    )
                    longest = self.max_label_length
                    if longest is None and needed > frames:
                        problems.append(
                            f"row {row.id!r} needs {needed} CTC frames and has {frames}"
                        )
                    elif longest is not None and len(classes) > longest:
                        problems.append(
                            f"row {row.id!r} has {len(classes)} characters, the network writes"
                            f" {longest}"
                        )
                    flat.extend(classes)
                    all_needed[index] = needed
            starts[index + 1] = len(flat)
        if problems:
            more = (
                f" and {len(problems) - _NAMED_ROWS:,} more" if len(problems) > _NAMED_ROWS else ""
            )
            raise DataError(
                "; ".join(problems[:_NAMED_ROWS])
                + more
                + ". `nordocr prep` skips and counts such lines: prepare again with this profile"
            )
        return np.array(flat, dtype=np.int16), starts, all_needed

    def _draw_extra_padding(self, rng: np.random.Generator) -> int:
        step = self.geometry.width_multiple
        if (
            self.augment is None
            or rng.random() >= self.augment.pad_right
            or self.augment.max_pad_right_px < step
        ):
            return 0
        return int(rng.integers(1, self.augment.max_pad_right_px // step, endpoint=True)) * step

    def _padded(self, width: NDArray[np.int64], extra_px: int) -> NDArray[np.int64]:
        return np.minimum(width + extra_px, self.geometry.max_width)

    def _batch_width(self, plan: Plan) -> int:
        return int(self._padded(plan.widths.max(), plan.extra_px))

    def _load(self, together: list[Plan], epoch: int) -> Batch:
        counted = self.share[0] < len(together)
        plan = together[self.share[0] if counted else 0]
        lines, counts, widths, width = plan.lines, plan.counts, plan.widths, self._batch_width(plan)
        # (N, H, W, C)
        images = (
            self._gather(lines, width)
            if self.augment is None
            else self._composed(plan, epoch, width)
        )
        starts, ends = self._target_start[lines], self._target_start[lines + 1]
        # 1 where a space stands between a line and the next one
        followed = np.ones(len(lines), dtype=np.int64)
        followed[np.cumsum(counts) - 1] = 0
        written = ends - starts + followed  # classes of each line, the space counted
        targets = self._targets[ranges(starts, ends)].astype(np.int64)
        if followed.any():
            targets = np.insert(targets, np.cumsum(ends - starts)[followed == 1], self._space or 0)
        others = [one for one in together if one is not plan]
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)  # (N, C, H, W), channels last
        return Batch(
            images=pixels.pin_memory() if self.pin else pixels,
            widths=torch.from_numpy(widths),
            targets=torch.from_numpy(targets),
            target_lengths=torch.from_numpy(np.add.reduceat(written, np.cumsum(counts) - counts)),
            counts=torch.from_numpy(counts),
            read_rows=lambda: tuple(self._row(int(index)) for index in lines),
            masked=plan.masked,
            shared_lines=len(lines) + sum(len(one.lines) for one in others),
            shared_characters=len(targets) + sum(self._characters(one) for one in others),
            counted=counted,
        )

    def _characters(self, plan: Plan) -> int:
        """Characters of a batch's labels, the spaces between joined lines counted."""
        lines = plan.lines
        return (
            int((self._target_start[lines + 1] - self._target_start[lines]).sum())
            + len(lines)
            - len(plan.numbers)
        )

    def _composed(self, plan: Plan, epoch: int, width: int) -> NDArray[np.uint8]:
        """The augmented pixels of a batch (N, H, width, C)."""
        assert self.augment is not None
        lines, gaps, samples = plan.lines, plan.gaps.tolist(), plan.samples
        sources = self._gather(lines, int(self.widths[lines].max()))  # (lines, H, W, C)
        flat = sources[..., 0] if sources.shape[3] == 1 else sources
        parts = [
            source[:, :own] for source, own in zip(flat, self.widths[lines].tolist(), strict=True)
        ]
        images = self._buffers.take(
            (len(plan.numbers), self.geometry.height, width, sources.shape[3])
        )
        # By (seed, epoch, batch): neither the threads nor a resumed run change what a sample looks
        # like.
        at, rng = 0, np.random.default_rng((self.seed, epoch, int(plan.numbers.min()) + 1))
        for slot, (number, count) in enumerate(
            zip(plan.numbers.tolist(), plan.counts.tolist(), strict=True)
        ):
            own, left_right = int(samples.widths[number]), tuple(samples.margins[number].tolist())
            neighbour = parts[rng.integers(len(parts))]
            line = compose(
                parts[at : at + count],
                gaps[at : at + count],
                left_right,
                own,
                neighbour,
                self.augment,
                rng,
            )
            images[slot, :, :own] = line[..., None] if line.ndim == 2 else line
            images[slot, :, own:] = self.geometry.pad_value
            at += count
        return images

    def _gather(self, lines: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
        """The lines' pixels (N, H, width, C), C = 1 when all of them are gray."""
        if len(self.stores) == 1:
            parts = [(self.stores[0], np.arange(len(lines)), lines)]
        else:
            which = np.searchsorted(self._first, lines, side="right") - 1
            slots_of = [(k, np.flatnonzero(which == k)) for k in np.unique(which)]
            parts = [
                (self.stores[k], slots, lines[slots] - self._first[k]) for k, slots in slots_of
            ]
        channels = 1 if all(store.are_gray(local).all() for store, _, local in parts) else 3
        for store, _, local in parts:
            store.require_undamaged(local)
        images = self._buffers.take((len(lines), self.geometry.height, width, channels))
        if len(parts) == 1 and self._select(*parts[0][::2], images):
            return images
        for store, slots, local in parts:
            store.fill(images, slots, local, self.geometry.pad_value)
        return images

    def _select(
        self, store: LineStore, local: NDArray[np.int64], images: NDArray[np.uint8]
    ) -> bool:
        """Gather the lines of one store without a loop over them, outside Python's lock; False when
        that cannot be.
        """
        _, height, width, channels = images.shape
        if store.header.schema == 1 or (channels == 3 and store.are_gray(local).any()):
            return False
        widths, (mapped, starts, _) = store.widths[local].astype(np.int64), store.located()
        # Lines of one width are pieces of the file. Of others each pixel row is one, and takes up
        # what follows it, for now.
        alike = int(widths.min()) == width
        size = height * width * channels if alike else width * channels
        pieces = (
            starts[local]
            if alike
            else (starts[local, None] + np.arange(height) * (widths * channels)[:, None]).reshape(
                -1
            )
        )
        if int(pieces.max()) + size > mapped.size:
            return False  # nothing follows the last line
        file = self._tensor(store, mapped)
        # Row i of this view is the `size` bytes from byte i of the file on; nothing is copied until
        # it is selected.
        windows = file.as_strided((mapped.size - size + 1, size), (1, 1))
        torch.index_select(
            windows,
            0,
            torch.from_numpy(pieces),
            out=torch.from_numpy(images).view(len(pieces), size),
        )
        if not alike:
            by_width = np.argsort(widths, kind="stable")
            distinct, begins = np.unique(widths[by_width], return_index=True)
            for narrower, slots in zip(
                distinct.tolist(), np.split(by_width, begins[1:]), strict=True
            ):
                images[slots, :, narrower:] = self.geometry.pad_value
        return True

    def _tensor(self, store: LineStore, mapped: NDArray[np.uint8]) -> Tensor:
        """The store's mapped file as a tensor; made once, as turning warnings off and on again
        costs as much as a small batch.
        """
        if store.path not in self._tensors:
            with warnings.catch_warnings():
                # nor is it written to
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")
                self._tensors[store.path] = torch.from_numpy(mapped)
        return self._tensors[store.path]

    def _locate(self, index: int) -> tuple[LineStore, int]:
        which = int(np.searchsorted(self._first, index, side="right")) - 1
        return self.stores[which], index - int(self._first[which])

    def _row(self, index: int) -> LineRow:
        store, local = self._locate(index)
        return store.row(local)
