"""How sure a figure is: bootstrap intervals, and exact tests for two readings of the same lines.

Lines of one document fail together, so whole documents are drawn where they are known. A bootstrap by line is too sure of
itself; its interval says so in `unit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000
LEVEL = 0.95
SEED = 1
FEW_CLUSTERS = 20  # an interval from fewer documents is a rough one

_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A bootstrap percentile interval. `unit` is what was drawn (`source` or `line`), `units` how many there are."""

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


def resampled_sums(
    columns: Sequence[Sequence[float]], clusters: Sequence[str] | None = None, *, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[NDArray[np.float64], int]:
    """Draw lines (or clusters of lines) with replacement; return the column sums (resamples, K) and the number of units.

    `columns` is (N, K): K counts of each of N lines. Raises ValueError when `clusters` is not N long.
    """
    counts = np.asarray(columns, dtype=np.float64)  # (N, K)
    if clusters is not None:
        if len(clusters) != len(counts):
            raise ValueError(f"{len(clusters)} clusters for {len(counts)} lines")
        names, member = np.unique(np.asarray(clusters), return_inverse=True)
        summed = np.zeros((len(names), counts.shape[1]))
        np.add.at(summed, member, counts)
        counts = summed  # (units, K)
    units = len(counts)
    rng = np.random.default_rng(seed)
    sums = np.empty((resamples, counts.shape[1]))
    step = max(1, _DRAWS_AT_ONCE // max(1, units))
    for start in range(0, resamples, step):
        drawn = rng.integers(units, size=(min(step, resamples - start), units))
        for k in range(counts.shape[1]):
            sums[start : start + len(drawn), k] = counts[drawn, k].sum(axis=1)
    return sums, units


def ratio_intervals(
    columns: Sequence[Sequence[float]], ratios: Sequence[tuple[int, int]], clusters: Sequence[str] | None = None
) -> list[Interval | None]:
    """Return an interval for each ratio (numerator column, denominator column) of sums; None where there is nothing to divide."""
    if not columns:
        return [None for _ in ratios]
    sums, units = resampled_sums(columns, clusters)
    unit = "line" if clusters is None else "source"
    found: list[Interval | None] = []
    for numerator, denominator in ratios:
        kept = sums[:, denominator] > 0
        if not kept.any():
            found.append(None)
            continue
        low, high = np.quantile(sums[kept, numerator] / sums[kept, denominator], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found.append(Interval(float(low), float(high), unit, units))
    return found


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Return the two-sided exact p of McNemar's test: `only_a` lines are right in a alone, `only_b` in b alone."""
    discordant = only_a + only_b
    tail = sum(comb(discordant, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**discordant)


@dataclass(frozen=True)
class Comparison:
    """Two readings, a and b, of the same lines. Differences are b - a: a negative CER difference means that b is better."""

    lines: int
    both_exact: int
    only_a_exact: int
    only_b_exact: int
    neither_exact: int
    mcnemar_p: float
    cer_a: float | None
    cer_b: float | None
    cer_difference: Interval | None
    b_better_share: float | None  # share of the resamples in which b has the lower CER; ties count half

    @property
    def exact_verdict(self) -> str:
        """`better`, `worse` or `no difference shown` for b's exact matches, by McNemar at 5 %."""
        if self.mcnemar_p >= 1 - LEVEL or self.only_a_exact == self.only_b_exact:
            return "no difference shown"
        return "better" if self.only_b_exact > self.only_a_exact else "worse"

    @property
    def cer_verdict(self) -> str:
        """`better`, `worse` or `no difference shown` for b's CER, by the interval of the difference."""
        if self.cer_difference is None or self.cer_difference.low <= 0 <= self.cer_difference.high:
            return "no difference shown"
        return "better" if self.cer_difference.high < 0 else "worse"

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        difference = self.cer_difference.to_json() if self.cer_difference else None
        verdicts = {"exact_verdict": self.exact_verdict, "cer_verdict": self.cer_verdict}
        return dict(vars(self)) | {"cer_difference": difference} | verdicts


def compare_pairs(
    edits_a: Sequence[int],
    edits_b: Sequence[int],
    lengths: Sequence[int],
    exact_a: Sequence[bool],
    exact_b: Sequence[bool],
    clusters: Sequence[str] | None = None,
) -> Comparison:
    """Compare two readings line by line. All sequences are N long; `lengths` are reference lengths (0 = not in the CER)."""
    pairs = list(zip(exact_a, exact_b, strict=True))
    only_a, only_b = pairs.count((True, False)), pairs.count((False, True))
    kept = [(a, b, n) if n else (0, 0, 0) for a, b, n in zip(edits_a, edits_b, lengths, strict=True)]
    total_a, total_b, characters = (sum(column) for column in zip(*kept, strict=True)) if kept else (0, 0, 0)
    difference, better = None, None
    if characters:
        sums, units = resampled_sums(kept, clusters)
        sums = sums[sums[:, 2] > 0]
        gaps = (sums[:, 1] - sums[:, 0]) / sums[:, 2]
        low, high = np.quantile(gaps, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        difference = Interval(float(low), float(high), "line" if clusters is None else "source", units)
        better = float((gaps < 0).mean() + (gaps == 0).mean() / 2)
    return Comparison(
        lines=len(pairs),
        both_exact=pairs.count((True, True)),
        only_a_exact=only_a,
        only_b_exact=only_b,
        neither_exact=pairs.count((False, False)),
        mcnemar_p=mcnemar_exact(only_a, only_b),
        cer_a=total_a / characters if characters else None,
        cer_b=total_b / characters if characters else None,
        cer_difference=difference,
        b_better_share=better,
    )
