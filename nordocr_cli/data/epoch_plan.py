"""What each batch of an epoch holds, before a pixel is read. No torch.

The plan is a pure function of (seed, epoch): a run that is resumed sees the same batches that it
would have seen.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.data.augment import Samples, draw_samples, single_samples
from nordocr_cli.data.batch_options import BatchOptions
from nordocr_cli.data.targets import Labels
from nordocr_cli.geometry import Geometry

# Lines are sorted by their width times a random factor this near to 1, and cut into batches:
# neighbours change from epoch to epoch, a twentieth of the pixels is padding, and a small store
# wastes no more than a large one.
_WIDTH_JITTER = 0.05


@dataclass(frozen=True)
class BatchPlan:
    """One planned batch: numbers of samples among those of the epoch, pixels of extra padding,
    masked or not.
    """

    samples: Samples
    numbers: NDArray[np.int64]
    extra_px: int
    masked: bool

    @property
    def lines(self) -> NDArray[np.int64]:
        """Global indices of the lines, sample by sample."""
        return self.samples.lines[self._places]

    @property
    def gaps(self) -> NDArray[np.int64]:
        """Pixels between each line and the next one of its sample."""
        return self.samples.gaps[self._places]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Lines of each sample."""
        return self.samples.first[self.numbers + 1] - self.samples.first[self.numbers]

    @property
    def widths(self) -> NDArray[np.int64]:
        """Pixels of each sample."""
        return self.samples.widths[self.numbers]

    @property
    def _places(self) -> NDArray[np.int64]:
        return ranges(
            self.samples.first[self.numbers], self.samples.first[self.numbers + 1]
        )


class EpochPlanner:
    """Plans the batches of each epoch.

    `widths` int64 (lines,) are the pixels of all lines, `members` the indices of those that are
    used, and `first` int64 (stores + 1,) the index of each store's first line.
    """

    def __init__(
        self,
        widths: NDArray[np.int64],
        members: NDArray[np.int64],
        first: NDArray[np.int64],
        labels: Labels,
        geometry: Geometry,
        options: BatchOptions,
    ) -> None:
        self.widths = widths
        self.members = members
        self.first = first
        self.labels = labels
        self.geometry = geometry
        self.options = options
        self._planned: tuple[int, list[list[BatchPlan]]] | None = None

    def steps(self, epoch: int) -> list[list[BatchPlan]]:
        """Return the batches of an epoch; those that the processes take at the same time are in one
        list, which may be shorter at the end.
        """
        if self._planned is None or self._planned[0] != epoch:
            rng = np.random.default_rng((self.options.seed, epoch))
            self._planned = (epoch, self._draw_steps(epoch, rng))
        return self._planned[1]

    def batch_width(self, plan: BatchPlan) -> int:
        """Return the width in pixels that a batch is padded to."""
        return int(self._padded(plan.widths.max(), plan.extra_px))

    def _draw_steps(self, epoch: int, rng: np.random.Generator) -> list[list[BatchPlan]]:
        shuffle = self.options.shuffle
        samples = self._draw_samples(self._lines_of(epoch), rng)
        jitter = _WIDTH_JITTER if shuffle else 0.0
        keys = samples.widths * rng.uniform(1 - jitter, 1 + jitter, len(samples))
        # Keys with jitter have no ties whose order matters, and numpy's other sort is several times
        # as fast.
        order = np.argsort(keys, kind=None if shuffle else "stable")
        plans = self._cut_into_batches(samples, order, jitter, rng)
        processes = self.options.share[1]
        steps = [plans[at : at + processes] for at in range(0, len(plans), processes)]
        if not shuffle:
            return steps
        return [steps[number] for number in rng.permutation(len(steps))]

    def _cut_into_batches(
        self,
        samples: Samples,
        order: NDArray[np.int64],
        jitter: float,
        rng: np.random.Generator,
    ) -> list[BatchPlan]:
        options = self.options
        geometry = self.geometry
        widths = samples.widths[order]
        plans: list[BatchPlan] = []
        start = 0
        while start < len(order):
            masked = not options.shuffle or rng.random() < options.mask_share
            # A mask makes padding invisible, so extra padding only helps in a batch without one.
            extra_px = 0 if masked else self._draw_extra_padding(rng)
            # The following samples are no narrower than this, so that more than `ahead` of them
            # cannot fit.
            narrowest = int(widths[start] * (1 - jitter) / (1 + jitter))
            narrowest = max(geometry.width_multiple, narrowest)
            fitting = options.budget_px // (options.line_px or narrowest) + 1
            ahead = widths[start : start + fitting]
            if options.line_px is None:
                each = self._padded(np.maximum.accumulate(ahead), extra_px)
            else:
                each = np.full(len(ahead), options.line_px)
            filled = each * np.arange(1, len(ahead) + 1)  # pixels of 1, 2, … samples
            count = max(1, int(np.searchsorted(filled, options.budget_px, side="right")))
            plans.append(BatchPlan(samples, order[start : start + count], extra_px, masked))
            start += count
        return plans

    def _lines_of(self, epoch: int) -> NDArray[np.int64]:
        """Return the lines of an epoch. With ratios, each store is passed through again and again,
        every time in another order.
        """
        ratios = self.options.ratios
        members = self.members
        if ratios is None:
            return members
        stores = [
            members[(members >= begin) & (members < end)]
            for begin, end in pairwise(self.first)
        ]
        weights = np.array(
            [ratio * (len(own) > 0) for ratio, own in zip(ratios, stores, strict=True)]
        )
        bounds = np.rint(np.cumsum(weights / weights.sum()) * len(members)).astype(np.int64)
        parts = []
        for number, own in enumerate(stores):
            begin = bounds[number - 1] if number else 0
            # The passes over a store form one endless sequence; this epoch takes its piece of it.
            count = int(bounds[number] - begin)
            places = np.arange(epoch * count, (epoch + 1) * count)
            passes = places // max(1, len(own))
            for done in np.unique(passes).tolist():
                order = np.random.default_rng((self.options.seed, number, done))
                shuffled = own[order.permutation(len(own))]
                parts.append(shuffled[places[passes == done] % len(own)])
        return np.concatenate(parts)

    def _draw_samples(self, lines: NDArray[np.int64], rng: np.random.Generator) -> Samples:
        augment = self.options.augment
        if augment is None:
            return single_samples(lines, self.widths[lines])
        return draw_samples(
            lines,
            self.widths[lines],
            self.labels.frames_needed[lines],
            self.labels.joinable(lines),
            self.geometry,
            augment,
            rng,
        )

    def _draw_extra_padding(self, rng: np.random.Generator) -> int:
        augment = self.options.augment
        step = self.geometry.width_multiple
        if augment is None or rng.random() >= augment.pad_right:
            return 0
        if augment.max_pad_right_px < step:
            return 0
        return int(rng.integers(1, augment.max_pad_right_px // step, endpoint=True)) * step

    def _padded(self, width: NDArray[np.int64], extra_px: int) -> NDArray[np.int64]:
        return np.minimum(width + extra_px, self.geometry.max_width)


def ranges(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return start…end - 1 of each pair, one range after the other."""
    lengths = ends - starts
    if (lengths == 1).all():
        return starts
    return np.arange(int(lengths.sum())) + np.repeat(
        starts - np.cumsum(lengths) + lengths, lengths
    )
