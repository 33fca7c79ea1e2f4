"""How sure a figure is: bootstrap intervals, and exact tests for two readings of the same lines.

Lines of one document fail together, so whole documents are drawn where they are known. A bootstrap
by line is too sure of itself; its interval says so in `unit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000
LEVEL = 0.95
POWER = 0.8  # how often a gap of the smallest detectable size is shown
SEED = 1
FEW_CLUSTERS = 20  # an interval from fewer documents is a rough one

MOST_UNITS = 1000
_DRAWN_AT_ONCE = 250  # samples
_Z_LEVEL, _Z_POWER = NormalDist().inv_cdf((1 + LEVEL) / 2), NormalDist().inv_cdf(POWER)


@dataclass(frozen=True)
class Interval:
    """A bootstrap percentile interval. `unit` is what was drawn (`source` or `line`), `units` how
    many there are.
    """

    low: float
    high: float
    unit: str
    units: int
    level: float = LEVEL
    resamples: int = RESAMPLES

    def to_json(self) -> dict[str, Any]:
        """Return the interval as plain JSON values."""
        return dict(vars(self))


def interval_from_json(value: dict[str, Any] | None) -> Interval | None:
    """Rebuild an interval; None stays None. Raises TypeError on missing or unknown keys."""
    return None if value is None else Interval(**value)


class Draws:
    """RESAMPLES bootstrap samples of lines, or of clusters of lines where these are given (one name
    a line).

    Every column that is asked for is summed over the same samples. With more than MOST_UNITS units,
    these are first bundled at random into so many: sums over bundles vary as sums over units do
    (their spread is right to 2 %), at a fraction of the work.
    """

    def __init__(
        self,
        lines: int,
        clusters: Sequence[str] | None = None,
        resamples: int = RESAMPLES,
        seed: int = SEED,
    ) -> None:
        if clusters is not None and len(clusters) != lines:
            raise ValueError(f"{len(clusters)} clusters for {lines} lines")
        self.unit = "line" if clusters is None else "source"
        self.resamples = resamples
        if clusters is None:
            self._member, self.units = np.arange(lines), lines
        else:
            number = {name: index for index, name in enumerate(sorted(set(clusters)))}
            self._member, self.units = (
                np.fromiter((number[name] for name in clusters), np.int64, lines),
                len(number),
            )
        self._unit = self._member
        rng = np.random.default_rng(seed)
        self._bundles = min(self.units, MOST_UNITS)
        if self.units > MOST_UNITS:
            self._member = (rng.permutation(self.units) % MOST_UNITS)[self._member]
        # How often each bundle is in each sample.
        self._weights = np.empty((resamples, self._bundles))
        rows = np.arange(_DRAWN_AT_ONCE)[:, None] * self._bundles
        for start in range(0, resamples if self._bundles else 0, _DRAWN_AT_ONCE):
            drawn = rng.integers(
                self._bundles,
                size=(min(_DRAWN_AT_ONCE, resamples - start), self._bundles),
                dtype=np.int32,
            )
            cells = (drawn + rows[: len(drawn)]).ravel()
            self._weights[start : start + len(drawn)] = np.bincount(
                cells, minlength=drawn.size
            ).reshape(drawn.shape)

    def sums(
        self, column: NDArray[np.float64], member: NDArray[np.int64] | None = None, size: int = 1
    ) -> NDArray[np.float64]:
        """Return the sum of `column` (N,) over each sample, for each of `size` groups: (resamples,
        size).

        `member` (N,) is the group of each line; without it there is one group.
        """
        cell = self._member * size + (0 if member is None else member)
        by_unit = np.bincount(cell, column, self._bundles * size).reshape(self._bundles, size)
        return self._weights @ by_unit

    def units_in(self, member: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Return how many units each of `size` groups has lines of, (size,)."""
        return np.bincount(np.unique(self._unit * size + member) % size, minlength=size)


def ratio_interval(
    numerator: NDArray[np.float64],
    denominator: NDArray[np.float64],
    draws: Draws,
    units: int | None = None,
) -> Interval | None:
    """Return the interval of a ratio of sums, both (resamples,), that are over `units` units (None:
    all).

    None where there is never anything to divide by, and where there is one unit: nothing varies,
    and nothing is known.
    """
    units = draws.units if units is None else units
    kept = denominator > 0
    if units < 2 or not kept.any():
        return None
    low, high = np.quantile(numerator[kept] / denominator[kept], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), draws.unit, units, resamples=draws.resamples)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Return the two-sided exact p of McNemar's test: `only_a` lines are right in a alone, `only_b`
    in b alone.
    """
    discordant = only_a + only_b
    ways = tail = 1  # to choose k of the discordant lines, each from the one before; and their sum
    for k in range(min(only_a, only_b)):
        ways = ways * (discordant - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**discordant)


def smallest_exact_gap(lines: int, discordant: float) -> float:
    """Return the smallest gap between two exact shares (0…1) that `lines` lines show with the power
    POWER at LEVEL.

    `discordant` is the share of lines that one of the two alone reads; it cannot be less than the
    gap. From the sample size of McNemar's test, n = (z_level·√d + z_power·√(d - gap²))² / gap²
    (Connor, Biometrics 43, 1987), solved for the gap. 1.0 when there are too few lines for any gap.
    """

    def enough(gap: float) -> bool:
        d = max(discordant, gap)
        return lines * gap**2 >= (_Z_LEVEL * d**0.5 + _Z_POWER * (d - gap**2) ** 0.5) ** 2

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class Comparison:
    """Two readings, a and b, of the same lines. Differences are b - a: a negative CER difference
    means that b is better.
    """

    lines: int
    both_exact: int
    only_a_exact: int
    only_b_exact: int
    neither_exact: int
    mcnemar_p: float
    cer_a: float | None
    cer_b: float | None
    cer_difference: Interval | None
    # share of the resamples in which b has the lower CER; ties count half
    b_better_share: float | None

    @property
    def smallest_exact_gap(self) -> float:
        """The smallest gap of the exact shares that so many lines would show; see
        smallest_exact_gap.
        """
        return smallest_exact_gap(
            self.lines, (self.only_a_exact + self.only_b_exact) / max(1, self.lines)
        )

    @property
    def smallest_cer_gap(self) -> float | None:
        """The smallest CER difference that these lines would show with the power POWER: from the
        spread of the resamples.
        """
        if self.cer_difference is None:
            return None
        standard_error = (self.cer_difference.high - self.cer_difference.low) / (2 * _Z_LEVEL)
        return (_Z_LEVEL + _Z_POWER) * standard_error

    @property
    def exact_verdict(self) -> str:
        """`better`, `worse` or `no difference shown` for b's exact matches, by McNemar at 5 %."""
        if self.mcnemar_p >= 1 - LEVEL or self.only_a_exact == self.only_b_exact:
            return "no difference shown"
        return "better" if self.only_b_exact > self.only_a_exact else "worse"

    @property
    def cer_verdict(self) -> str:
        """`better`, `worse` or `no difference shown` for b's CER, by the interval of the
        difference.
        """
        if self.cer_difference is None or self.cer_difference.low <= 0 <= self.cer_difference.high:
            return "no difference shown"
        return "better" if self.cer_difference.high < 0 else "worse"

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        difference = self.cer_difference.to_json() if self.cer_difference else None
        verdicts = {"exact_verdict": self.exact_verdict, "cer_verdict": self.cer_verdict}
        smallest = {"power": POWER, "exact": self.smallest_exact_gap, "cer": self.smallest_cer_gap}
        return (
            dict(vars(self))
            | {"cer_difference": difference, "smallest_detectable": smallest}
            | verdicts
        )


def compare_pairs(
    edits_a: Sequence[int],
    edits_b: Sequence[int],
    lengths: Sequence[int],
    exact_a: Sequence[bool],
    exact_b: Sequence[bool],
    clusters: Sequence[str] | None = None,
) -> Comparison:
    """Compare two readings line by line. All sequences are N long; `lengths` are reference lengths
    (0 = not in the CER).
    """
    pairs = list(zip(exact_a, exact_b, strict=True))
    only_a, only_b = pairs.count((True, False)), pairs.count((False, True))
    length = np.asarray(lengths, np.float64)
    counted = length > 0
    a, b = (
        np.where(counted, edits_a, 0).astype(np.float64),
        np.where(counted, edits_b, 0).astype(np.float64),
    )
    characters = int(length.sum())
    difference, better = None, None
    if characters:
        draws = Draws(len(pairs), clusters)
        gap, drawn = draws.sums(b - a)[:, 0], draws.sums(length)[:, 0]
        difference = ratio_interval(gap, drawn, draws)
        gap = gap[drawn > 0]
        better = float((gap < 0).mean() + (gap == 0).mean() / 2)
    return Comparison(
        lines=len(pairs),
        both_exact=pairs.count((True, True)),
        only_a_exact=only_a,
        only_b_exact=only_b,
        neither_exact=pairs.count((False, False)),
        mcnemar_p=mcnemar_exact(only_a, only_b),
        cer_a=float(a.sum()) / characters if characters else None,
        cer_b=float(b.sum()) / characters if characters else None,
        cer_difference=difference,
        b_better_share=better,
    )
