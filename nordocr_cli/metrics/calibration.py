"""What a recognizer's confidences are worth: do lines read with confidence 0.9 hold in nine of ten,
and who may skip a check?

A line counts as right when it is exact in the canonical view.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nordocr_cli.metrics.text import rate

BINS = 10
RISKS = (0.005, 0.01, 0.02, 0.05)
_CURVE_POINTS = 100


@dataclass(frozen=True, slots=True)
class Bin:
    """The lines whose confidence lies in [low, high); the last bin holds 1.0 too."""

    low: float
    high: float
    lines: int
    exact: int
    confidence_sum: float

    @property
    def confidence(self) -> float | None:
        """Mean confidence: the share of right lines that the recognizer promises."""
        return rate(self.confidence_sum, self.lines)

    @property
    def exact_rate(self) -> float | None:
        """The share of right lines that it delivers."""
        return rate(self.exact, self.lines)


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """Taking only lines with at least `threshold` takes `lines` of them, `wrong` among these."""

    threshold: float
    lines: int
    wrong: int

    @property
    def risk(self) -> float:
        """Share of wrong lines among those taken."""
        return self.wrong / self.lines


@dataclass(frozen=True)
class Calibration:
    """Reliability bins and the coverage-risk curve of `lines` lines; `without` more have no
    confidence between 0 and 1.

    `curve` falls from the most confident lines to all of them; `coverage_at` gives for each of
    RISKS the largest share of lines that can be taken with at most that share wrong; `aurc` is the
    risk averaged over all coverages (lower is better).
    """

    lines: int
    without: int
    bins: tuple[Bin, ...]
    curve: tuple[CoveragePoint, ...]
    coverage_at: dict[float, float]
    aurc: float

    @property
    def ece(self) -> float:
        """Expected calibration error: how far promise and delivery are apart, averaged over the
        lines.
        """
        return sum(abs(b.confidence_sum - b.exact) for b in self.bins) / self.lines

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        names = ("low", "high", "lines", "exact", "confidence_sum", "confidence", "exact_rate")
        return {
            "lines": self.lines,
            "without_confidence": self.without,
            "ece": self.ece,
            "aurc": self.aurc,
            "coverage_at_risk": {f"{risk:g}": share for risk, share in self.coverage_at.items()},
            "bins": [{name: getattr(b, name) for name in names} for b in self.bins],
            "curve": [
                {"threshold": p.threshold, "lines": p.lines, "wrong": p.wrong} for p in self.curve
            ],
        }


def calibrate(readings: Iterable[tuple[float | None, bool]]) -> Calibration | None:
    """Sum up (confidence, right) of lines; None when no line has a confidence between 0 and 1."""
    pairs = [(-1.0 if confidence is None else confidence, right) for confidence, right in readings]
    confidences = np.array([confidence for confidence, _ in pairs], np.float64)
    # Tesseract says -1 for no word; NaN fails too
    known = (confidences >= 0.0) & (confidences <= 1.0)
    confidence, right = confidences[known], np.array([right for _, right in pairs], bool)[known]
    if not len(confidence):
        return None
    member = np.minimum(BINS - 1, (confidence * BINS).astype(np.int64))
    lines, exact, summed = (
        np.bincount(member, weights, BINS) for weights in (None, right, confidence)
    )
    # Lines of one confidence are taken together or not at all: a point for each distinct one, from
    # the highest.
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.diff(confidence[order], append=-1.0))
    taken, wrong = last + 1, np.cumsum(~right[order])[last]
    risk = wrong / taken
    # At most _CURVE_POINTS of them are kept, evenly over the coverage, the last always among them.
    step = (taken * _CURVE_POINTS - 1) // taken[-1]
    kept = np.flatnonzero(np.diff(step, append=-1))
    return Calibration(
        lines=len(confidence),
        without=len(pairs) - len(confidence),
        bins=tuple(
            Bin(i / BINS, (i + 1) / BINS, int(lines[i]), int(exact[i]), float(summed[i]))
            for i in range(BINS)
        ),
        curve=tuple(
            CoveragePoint(float(confidence[order[last[i]]]), int(taken[i]), int(wrong[i]))
            for i in kept
        ),
        coverage_at={r: float(taken[risk <= r].max(initial=0)) / len(confidence) for r in RISKS},
        aurc=float((np.diff(taken, prepend=0) * risk).sum()) / len(confidence),
    )
