"""What one batch is to hold, before a pixel is read. No torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.data.augment import Samples


@dataclass(frozen=True)
class Plan:
    """One batch to be: numbers of samples among those of the epoch, pixels of extra padding, masked
    or not.
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
        return ranges(self.samples.first[self.numbers], self.samples.first[self.numbers + 1])


def ranges(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """start…end - 1 of each pair, one range after the other."""
    lengths = ends - starts
    if (lengths == 1).all():
        return starts
    return np.arange(int(lengths.sum())) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
