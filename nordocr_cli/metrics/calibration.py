"""What a recognizer's confidences are worth: do lines read with confidence 0.9 hold in nine of ten, and who may skip a check?

A line counts as right when it is exact in the canonical view.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

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
    """Reliability bins and the coverage-risk curve of `lines` lines; `without` more have no confidence between 0 and 1.

    `curve` falls from the most confident lines to all of them; `coverage_at` gives for each of RISKS the largest share of lines
    that can be taken with at most that share wrong; `aurc` is the risk averaged over all coverages (lower is better).
    """

    lines: int
    without: int
    bins: tuple[Bin, ...]
    curve: tuple[CoveragePoint, ...]
    coverage_at: dict[float, float]
    aurc: float

    @property
    def ece(self) -> float:
        """Expected calibration error: how far promise and delivery are apart, averaged over the lines."""
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
            "curve": [{"threshold": p.threshold, "lines": p.lines, "wrong": p.wrong} for p in self.curve],
        }


def calibrate(readings: Iterable[tuple[float | None, bool]]) -> Calibration | None:
    """Sum up (confidence, right) of lines; None when no line has a confidence between 0 and 1."""
    known: list[tuple[float, bool]] = []
    without = 0
    for confidence, right in readings:
        if confidence is not None and 0.0 <= confidence <= 1.0:  # Tesseract says -1 for no word; NaN fails too
            known.append((confidence, right))
        else:
            without += 1
    if not known:
        return None
    members: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for confidence, right in known:
        members[min(BINS - 1, int(confidence * BINS))].append((confidence, right))
    curve = _curve(known)
    steps = zip([0, *(p.lines for p in curve)], curve, strict=False)
    return Calibration(
        lines=len(known),
        without=without,
        bins=tuple(
            Bin(i / BINS, (i + 1) / BINS, len(lines), sum(right for _, right in lines), sum(c for c, _ in lines))
            for i, lines in enumerate(members)
        ),
        curve=_thinned(curve),
        coverage_at={r: max((p.lines for p in curve if p.risk <= r), default=0) / len(known) for r in RISKS},
        aurc=sum((point.lines - before) * point.risk for before, point in steps) / len(known),
    )


def _curve(known: list[tuple[float, bool]]) -> list[CoveragePoint]:
    """One point for each distinct confidence: lines of one confidence are taken together or not at all."""
    points, lines, wrong = [], 0, 0
    for confidence, equal in groupby(sorted(known, key=lambda reading: -reading[0]), key=lambda reading: reading[0]):
        for _, right in equal:
            lines += 1
            wrong += not right
        points.append(CoveragePoint(confidence, lines, wrong))
    return points


def _thinned(curve: list[CoveragePoint]) -> tuple[CoveragePoint, ...]:
    """At most _CURVE_POINTS points, evenly over the coverage, the last always among them."""
    total = curve[-1].lines
    by_step = {(point.lines * _CURVE_POINTS - 1) // total: point for point in curve}
    return tuple(by_step.values())
