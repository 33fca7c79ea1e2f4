"""What a recognizer's confidences are worth: are nine of ten lines read with confidence 0.9 right,
and which lines may skip a check?

A line counts as right when it is exact in the canonical view.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, computed_field, field_serializer

from nordocr_cli.metrics.result_model import ResultModel
from nordocr_cli.metrics.text import rate

BINS = 10
RISKS = (0.005, 0.01, 0.02, 0.05)
_CURVE_POINTS = 100


class Bin(ResultModel):
    """The lines whose confidence lies in [low, high); the last bin holds 1.0 too."""

    low: float
    high: float
    lines: int
    exact: int
    confidence_sum: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def confidence(self) -> float | None:
        """Mean confidence: the predicted share of right lines."""
        return rate(self.confidence_sum, self.lines)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exact_rate(self) -> float | None:
        """The actual share of right lines."""
        return rate(self.exact, self.lines)


class CoveragePoint(ResultModel):
    """Accepting only lines with at least `threshold` accepts `lines` of them, `wrong` among
    these.
    """

    threshold: float
    lines: int
    wrong: int

    @property
    def risk(self) -> float:
        """Share of wrong lines among those accepted."""
        return self.wrong / self.lines


class Calibration(ResultModel):
    """Reliability bins and the coverage-risk curve of `lines` lines; `without` more have no
    confidence between 0 and 1.

    `curve` falls from the most confident lines to all of them; `coverage_at` gives for each of
    RISKS the largest share of lines that can be accepted with at most that share wrong; `aurc` is
    the risk averaged over all coverages (lower is better).
    """

    lines: int
    without: int = Field(alias="without_confidence")
    bins: tuple[Bin, ...]
    curve: tuple[CoveragePoint, ...]
    coverage_at: dict[float, float] = Field(alias="coverage_at_risk")
    aurc: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ece(self) -> float:
        """Expected calibration error: the difference between the predicted and the actual share of
        right lines, averaged over the lines.
        """
        return sum(abs(b.confidence_sum - b.exact) for b in self.bins) / self.lines

    @field_serializer("coverage_at")
    def _shares_by_risk(self, coverage_at: dict[float, float]) -> dict[str, float]:
        return {f"{risk:g}": share for risk, share in coverage_at.items()}

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return self.model_dump(mode="json", by_alias=True)


def calibrate(readings: Iterable[tuple[float | None, bool]]) -> Calibration | None:
    """Sum up (confidence, right) of lines; None when no line has a confidence between 0 and 1."""
    pairs = [
        (-1.0 if confidence is None else confidence, right)
        for confidence, right in readings
    ]
    confidences = np.array([confidence for confidence, _ in pairs], np.float64)
    # Tesseract gives -1 for no word; NaN fails too.
    known = (confidences >= 0.0) & (confidences <= 1.0)
    confidence = confidences[known]
    right = np.array([right for _, right in pairs], bool)[known]
    if not len(confidence):
        return None

    threshold, taken, wrong = _accepted_by_threshold(confidence, right)
    risk = wrong / taken
    # At most _CURVE_POINTS of them are kept, evenly over the coverage, the last always among them.
    step = (taken * _CURVE_POINTS - 1) // taken[-1]
    kept = np.flatnonzero(np.diff(step, append=-1))
    shares = {r: float(taken[risk <= r].max(initial=0)) / len(confidence) for r in RISKS}
    return Calibration(
        lines=len(confidence),
        without=len(pairs) - len(confidence),
        bins=_bins(confidence, right),
        curve=tuple(
            CoveragePoint(
                threshold=float(threshold[i]), lines=int(taken[i]), wrong=int(wrong[i])
            )
            for i in kept
        ),
        coverage_at=shares,
        aurc=float((np.diff(taken, prepend=0) * risk).sum()) / len(confidence),
    )


def _bins(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    member = np.minimum(BINS - 1, (confidence * BINS).astype(np.int64))
    lines = np.bincount(member, minlength=BINS)
    exact = np.bincount(member, right, BINS)
    confidence_sum = np.bincount(member, confidence, BINS)
    return tuple(
        Bin(
            low=i / BINS,
            high=(i + 1) / BINS,
            lines=int(lines[i]),
            exact=int(exact[i]),
            confidence_sum=float(confidence_sum[i]),
        )
        for i in range(BINS)
    )


def _accepted_by_threshold(
    confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct confidences from the highest, how many lines have at least that much, and how many
    of these are wrong. Lines of one confidence are accepted together or not at all.
    """
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.diff(confidence[order], append=-1.0))
    wrong = np.cumsum(~right[order], dtype=np.int64)[last]
    return confidence[order[last]], (last + 1).astype(np.int64), wrong
