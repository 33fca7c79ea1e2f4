"""How sure a figure is: bootstrap intervals, and whether two sets of hypotheses for the same lines
differ.

Lines of one document share its paper, its scan and its fonts, so they fail together. Complete
documents are therefore the unit of every interval and of every test. Where the documents are not
known, lines stand in for them, and the result says so in `unit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import computed_field

from nordocr_cli.metrics.result_model import ResultModel
from nordocr_cli.metrics.text import rate

RESAMPLES = 4000
CONFIDENCE_LEVEL = 0.95  # of intervals
# A difference counts below this p. At the usual 0.05, one comparison in twenty of a recognizer with
# itself would be an alarm.
ALPHA = 0.01
POWER = 0.8  # how often a gap of the smallest detectable size is shown
SEED = 1
FEW_DOCUMENTS = 20  # an interval from fewer documents is a rough one
# With n documents no sign-flip test gives a p below 2 / 2^n: 7 documents never reach ALPHA.
MIN_DOCUMENTS = 8

MAX_UNITS = 1000
EXACT_UNITS = 14  # up to here all 2^n sign flips are tried
SIGN_FLIPS = 20_000
_CHUNK = 250  # resamples drawn at once
_Z_LEVEL = NormalDist().inv_cdf((1 + CONFIDENCE_LEVEL) / 2)
_Z_POWER = NormalDist().inv_cdf(POWER)

ComparisonVerdict = Literal[
    "better", "worse", "mixed", "no difference", "no difference shown", "too few documents"
]


class Interval(ResultModel):
    """A bootstrap percentile interval. `unit` is what was drawn (`source` or `line`), `units` how
    many there are.
    """

    low: float
    high: float
    unit: str
    units: int
    level: float = CONFIDENCE_LEVEL
    resamples: int = RESAMPLES


class Draws:
    """RESAMPLES bootstrap samples of lines, or of clusters of lines if these are given (one name a
    line).

    Every column is summed over the same samples. With more than MAX_UNITS units, these are first
    bundled at random into so many: sums over bundles vary as sums over units do (their spread is
    right to 2 %), at a fraction of the work.
    """

    def __init__(
        self,
        lines: int,
        clusters: Sequence[str] | None = None,
        resamples: int = RESAMPLES,
        seed: int = SEED,
    ) -> None:
        self.unit = "line" if clusters is None else "source"
        self.resamples = resamples
        self._unit, self.units = _number_units(lines, clusters)
        rng = np.random.default_rng(seed)
        self._member, self._bundles = _bundle(self._unit, self.units, rng)

        # How often each bundle is in each sample: (resamples, bundles).
        self._weights = np.empty((resamples, self._bundles))
        starts = range(0, resamples if self._bundles else 0, _CHUNK)
        for start in starts:
            size = min(_CHUNK, resamples - start)
            self._weights[start : start + size] = _draw_counts(rng, size, self._bundles)

    def sums(
        self,
        column: NDArray[np.float64],
        member: NDArray[np.int64] | None = None,
        size: int = 1,
    ) -> NDArray[np.float64]:
        """Return the sum of `column` (N,) over each sample, for each of `size` groups: (resamples,
        size).

        `member` (N,) is the group of each line; without it there is one group.
        """
        return self.sums_of([column], member, size)[0]

    def sums_of(
        self,
        columns: Sequence[NDArray[np.float64]],
        member: NDArray[np.int64] | None = None,
        size: int = 1,
    ) -> list[NDArray[np.float64]]:
        """Return what `sums` returns for each of the columns, from one product of matrices."""
        cell = self._member * size + (0 if member is None else member)
        cells = self._bundles * size
        by_bundle = [
            np.bincount(cell, column, cells).reshape(self._bundles, size)
            for column in columns
        ]
        sums = self._weights @ np.hstack(by_bundle)  # (resamples, columns · size)
        return np.split(sums, len(columns), axis=1)

    def units_in(self, member: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Return how many units each of `size` groups has lines of, (size,)."""
        return np.bincount(np.unique(self._unit * size + member) % size, minlength=size)


def _number_units(
    lines: int, clusters: Sequence[str] | None
) -> tuple[NDArray[np.int64], int]:
    """The number of each line's unit, (lines,), and how many units there are."""
    if clusters is None:
        return np.arange(lines), lines
    if len(clusters) != lines:
        raise ValueError(f"{len(clusters)} clusters for {lines} lines")

    number = {name: index for index, name in enumerate(sorted(set(clusters)))}
    return np.fromiter((number[name] for name in clusters), np.int64, lines), len(number)


def _bundle(
    unit: NDArray[np.int64], units: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], int]:
    """The bundle of each line, (lines,), and how many bundles there are: at most MAX_UNITS."""
    if units <= MAX_UNITS:
        return unit, units
    bundle_of_unit = rng.permutation(units) % MAX_UNITS
    return bundle_of_unit[unit], MAX_UNITS


def _draw_counts(rng: np.random.Generator, size: int, bundles: int) -> NDArray[np.int64]:
    """Draw `bundles` of the bundles with replacement, `size` times; return how often each was
    drawn, (size, bundles).
    """
    drawn = rng.integers(bundles, size=(size, bundles), dtype=np.int32)
    row_starts = np.arange(size)[:, None] * bundles
    cells = (drawn + row_starts).ravel()
    return np.bincount(cells, minlength=drawn.size).reshape(drawn.shape)


def ratio_interval(
    numerator: NDArray[np.float64],
    denominator: NDArray[np.float64],
    draws: Draws,
    units: int | None = None,
) -> Interval | None:
    """Return the interval of a ratio of sums, both (resamples,), that are over `units` units (None:
    all).

    None if the denominator is always 0, and if there is one unit: nothing varies, and nothing is
    known.
    """
    units = draws.units if units is None else units
    kept = denominator > 0
    if units < 2 or not kept.any():
        return None

    tail = (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.quantile(numerator[kept] / denominator[kept], [tail, 1 - tail])
    return Interval(
        low=float(low),
        high=float(high),
        unit=draws.unit,
        units=units,
        resamples=draws.resamples,
    )


@dataclass(frozen=True)
class SignFlips:
    """The outcome of a paired permutation test for several differences at once: the adjusted
    two-sided p of each, and whether all sign flips were tried (`exact`) or a sample of them.
    """

    p: tuple[float, ...]
    exact: bool


def sign_flip_test(differences: NDArray[np.float64], seed: int = SEED) -> SignFlips:
    """Test whether differences between two recognizers, (units, figures), are more than chance.

    If both recognizers read alike, the two hypotheses of a document could be exchanged: the sign of
    its difference is a coin toss. Each figure's statistic is |sum| over the square root of the sum
    of squares, and its p is the share of sign flips in which the largest statistic of any figure
    reaches it (the maximum statistic of Westfall and Young 1993, which keeps the level for all
    figures together).
    """
    scale = np.sqrt((differences**2).sum(axis=0))
    varying = scale > 0
    p = np.ones(differences.shape[1])
    if not varying.any():
        return SignFlips(tuple(p), exact=True)

    changed = differences[np.any(differences != 0, axis=1)][:, varying] / scale[varying]
    observed = np.abs(changed.sum(axis=0))
    units = len(changed)
    exact = units <= EXACT_UNITS
    largest = _flip_signs(changed, exact, seed)
    # Sums of the same numbers in another order differ in the last digits.
    reached = (largest[:, None] >= observed - 1e-9).sum(axis=0)
    if exact:
        p[varying] = reached / len(largest)
    else:
        p[varying] = (reached + 1) / (len(largest) + 1)
    return SignFlips(tuple(map(float, p)), exact)


def _flip_signs(
    changed: NDArray[np.float64], exact: bool, seed: int
) -> NDArray[np.float64]:
    """The largest statistic of each sign flip, (flips,)."""
    units = len(changed)
    if exact:
        bits = np.arange(2**units)[:, None] >> np.arange(units) & 1  # (2^units, units)
        return np.abs((1.0 - 2.0 * bits) @ changed).max(axis=1)

    rng = np.random.default_rng(seed)
    found = []
    for start in range(0, SIGN_FLIPS, _CHUNK * 4):
        size = min(_CHUNK * 4, SIGN_FLIPS - start)
        signs = rng.integers(0, 2, size=(size, units), dtype=np.int8) * 2.0 - 1.0
        found.append(np.abs(signs @ changed).max(axis=1))
    return np.concatenate(found)


class Comparison(ResultModel):
    """Two sets of hypotheses, a and b, for the same lines. Differences are b - a: a negative CER
    difference means that b is better.

    `p_exact` and `p_cer` are the p values of one sign-flip test over `units` documents (or lines,
    see `unit`), adjusted for being two. `documents_better` and `documents_worse` count those with
    fewer or more edits in b.
    """

    lines: int
    both_exact: int
    only_a_exact: int
    only_b_exact: int
    neither_exact: int
    cer_a: float | None
    cer_b: float | None
    unit: Literal["source", "line"]
    units: int
    documents_better: int
    documents_worse: int
    p_exact: float
    p_cer: float
    test: Literal["exact sign flips", "sampled sign flips"]
    alpha: float = ALPHA
    exact_difference: Interval | None
    cer_difference: Interval | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> ComparisonVerdict:
        """Whether b is better than a: the one verdict of a comparison, from exact lines and CER
        together.
        """
        identical = self.only_a_exact == self.only_b_exact == 0 and self.cer_a == self.cer_b
        if identical and self.documents_better == self.documents_worse == 0:
            return "no difference"
        if self.units < MIN_DOCUMENTS:
            return "too few documents"

        signs = set()
        if self.p_exact < self.alpha:
            signs.add(self.only_b_exact > self.only_a_exact)
        if self.p_cer < self.alpha and self.cer_a is not None and self.cer_b is not None:
            signs.add(self.cer_b < self.cer_a)
        if not signs:
            return "no difference shown"
        if len(signs) == 2:
            return "mixed"
        if True in signs:
            return "better"
        return "worse"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def smallest_detectable(self) -> dict[str, float | None]:
        """The smallest gaps of exact lines and of CER that these lines would show with the power
        POWER, from the spread of the resamples; None where that is not known.
        """
        return {
            "power": POWER,
            "exact": _smallest_gap(self.exact_difference),
            "cer": _smallest_gap(self.cer_difference),
        }


def _smallest_gap(difference: Interval | None) -> float | None:
    if difference is None:
        return None
    standard_error = (difference.high - difference.low) / (2 * _Z_LEVEL)
    z_alpha = NormalDist().inv_cdf(1 - ALPHA / 2)
    return (z_alpha + _Z_POWER) * standard_error


def compare_pairs(
    edits_a: Sequence[int],
    edits_b: Sequence[int],
    lengths: Sequence[int],
    exact_a: Sequence[bool],
    exact_b: Sequence[bool],
    clusters: Sequence[str] | None = None,
) -> Comparison:
    """Compare two sets of hypotheses line by line. All sequences are N long; `lengths` are
    reference lengths (0 = not in the CER), `clusters` the documents of the lines.
    """
    lines = len(lengths)
    length = np.asarray(lengths, np.float64)
    counted = length > 0
    a = np.where(counted, edits_a, 0).astype(np.float64)
    b = np.where(counted, edits_b, 0).astype(np.float64)
    right_a = np.asarray(exact_a, bool)
    right_b = np.asarray(exact_b, bool)
    gained = right_b.astype(np.float64) - right_a

    unit, units = _number_units(lines, clusters)
    by_unit = _sums_by_unit(unit, units, gained, b - a)  # (units, 2)
    bundle, bundles = _bundle(unit, units, np.random.default_rng(SEED))
    tested = sign_flip_test(_sums_by_unit(bundle, bundles, gained, b - a))
    p_exact, p_cer = tested.p

    draws = Draws(lines, clusters)
    exact_difference = ratio_interval(
        draws.sums(gained)[:, 0], draws.sums(np.ones(lines))[:, 0], draws
    )
    cer_difference = ratio_interval(
        draws.sums(b - a)[:, 0], draws.sums(length)[:, 0], draws
    )
    characters = float(length.sum())
    return Comparison(
        lines=lines,
        both_exact=int((right_a & right_b).sum()),
        only_a_exact=int((right_a & ~right_b).sum()),
        only_b_exact=int((right_b & ~right_a).sum()),
        neither_exact=int((~right_a & ~right_b).sum()),
        cer_a=rate(float(a.sum()), characters),
        cer_b=rate(float(b.sum()), characters),
        unit="line" if clusters is None else "source",
        units=units,
        documents_better=int((by_unit[:, 1] < 0).sum()),
        documents_worse=int((by_unit[:, 1] > 0).sum()),
        p_exact=p_exact,
        p_cer=p_cer,
        test="exact sign flips" if tested.exact else "sampled sign flips",
        exact_difference=exact_difference,
        cer_difference=cer_difference,
    )


def _sums_by_unit(
    unit: NDArray[np.int64], units: int, *columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The sum of each column over the lines of each unit, (units, columns)."""
    return np.stack([np.bincount(unit, column, units) for column in columns], axis=1)
