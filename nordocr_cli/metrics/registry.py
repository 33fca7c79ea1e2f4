"""The metrics. Each is declared here once and is then in eval, the validation of a training, gates,
leaderboard, compare3way, the JSON Schemas and the reports.

A metric is a ratio of two sums over lines: what is counted (`numerator`) over what it is a share of
(`denominator`, named by `unit`). With the reduction `mean of lines` the ratio is taken line by line
first. To add one, add an entry to METRICS; see docs/architecture.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.metrics.columns import Column, LineColumns
from nordocr_cli.metrics.fields import FIELD_KINDS, count_fields

LineValue = Callable[[LineColumns], Column]


@dataclass(frozen=True)
class Metric:
    """A figure of a group of lines. `numerator` and `denominator` give a value for each line,
    (lines,); `digits` is how many decimals a percentage shows; `interval` asks for a bootstrap
    interval. A `detail` is left out of short tables.
    """

    name: str
    title: str
    numerator: LineValue
    denominator: LineValue
    unit: str
    direction: Literal["lower is better", "higher is better"]
    reduction: Literal["ratio of sums", "mean of lines"] = "ratio of sums"
    digits: int = 2
    interval: bool = False
    detail: bool = False

    def per_line(self, lines: LineColumns) -> tuple[Column, Column]:
        """Return the addends of both sums, (lines,) each."""
        numerator = self.numerator(lines)
        denominator = self.denominator(lines)
        if self.reduction == "ratio of sums":
            return numerator, denominator

        counted = (denominator > 0).astype(np.float64)
        return counted * numerator / np.maximum(denominator, 1), counted


def _column(name: str) -> LineValue:
    return lambda lines: lines[name]


def _hits(lines: LineColumns) -> Column:
    """Characters of the references that were read: neither replaced nor missing."""
    missed = lines["canonical.substitutions"] + lines["canonical.deletions"]
    return lines["canonical.reference_length"] - missed


def _field_metric(name: str, title: str, kind: str) -> Metric:
    """The share of a kind of field that is read exactly."""
    place = FIELD_KINDS.index(kind)
    size = len(FIELD_KINDS)

    def counts(lines: LineColumns) -> NDArray[np.float64]:
        return lines.of_texts("fields", count_fields)

    return Metric(
        name=name,
        title=title,
        numerator=lambda lines: counts(lines)[:, place],
        denominator=lambda lines: counts(lines)[:, size + place],
        unit=title.removesuffix(" exact"),
        direction="higher is better",
        digits=1,
    )


_LINES = _column("lines")
_CHARACTERS = _column("canonical.reference_length")

METRICS: tuple[Metric, ...] = (
    Metric(
        name="exact",
        title="exact",
        numerator=_column("class.exact"),
        denominator=_LINES,
        unit="lines",
        direction="higher is better",
        digits=1,
        interval=True,
    ),
    Metric(
        name="space_insensitive",
        title="exact without spaces",
        numerator=_column("squeezed.exact"),
        denominator=_LINES,
        unit="lines",
        direction="higher is better",
        digits=1,
    ),
    Metric(
        name="case_insensitive",
        title="exact in lower case",
        numerator=_column("case_insensitive_exact"),
        denominator=_LINES,
        unit="lines",
        direction="higher is better",
        digits=1,
        detail=True,
    ),
    Metric(
        name="digits_exact",
        title="digits exact",
        numerator=_column("digits_exact"),
        denominator=_column("has_digits"),
        unit="lines with digits",
        direction="higher is better",
        digits=1,
    ),
    _field_metric("amounts_exact", "amounts exact", "amount"),
    _field_metric("dates_exact", "dates exact", "date"),
    _field_metric(
        "organisation_numbers_exact", "organisation numbers exact", "organisation"
    ),
    _field_metric("ibans_exact", "IBANs exact", "iban"),
    Metric(
        name="cer",
        title="CER micro",
        numerator=_column("canonical.edits"),
        denominator=_CHARACTERS,
        unit="characters",
        direction="lower is better",
        interval=True,
    ),
    Metric(
        name="cer_macro",
        title="CER macro",
        numerator=_column("canonical.edits"),
        denominator=_CHARACTERS,
        unit="lines with characters",
        direction="lower is better",
        reduction="mean of lines",
    ),
    Metric(
        name="cer_raw",
        title="CER micro, code points as given",
        numerator=_column("raw.edits"),
        denominator=_column("raw.reference_length"),
        unit="characters",
        direction="lower is better",
        detail=True,
    ),
    Metric(
        name="cer_squeezed",
        title="CER micro without spaces",
        numerator=_column("squeezed.edits"),
        denominator=_column("squeezed.reference_length"),
        unit="characters",
        direction="lower is better",
        detail=True,
    ),
    Metric(
        name="cer_jiwer",
        title="CER as jiwer counts empty references",
        numerator=_column("canonical.all_edits"),
        denominator=_CHARACTERS,
        unit="characters",
        direction="lower is better",
        detail=True,
    ),
    Metric(
        name="character_accuracy",
        title="character accuracy",
        numerator=_hits,
        denominator=_CHARACTERS,
        unit="characters of the references",
        direction="higher is better",
        detail=True,
    ),
    Metric(
        name="character_precision",
        title="character precision",
        numerator=_hits,
        denominator=_column("canonical.hypothesis_length"),
        unit="characters of the hypotheses",
        direction="higher is better",
        detail=True,
    ),
    Metric(
        name="ned",
        title="NED",
        numerator=_column("canonical.ned"),
        denominator=_LINES,
        unit="lines",
        direction="lower is better",
        detail=True,
    ),
    Metric(
        name="wer",
        title="WER micro",
        numerator=_column("word_edits"),
        denominator=_column("reference_words"),
        unit="words",
        direction="lower is better",
    ),
    Metric(
        name="wer_jiwer",
        title="WER as jiwer counts empty references",
        numerator=_column("all_word_edits"),
        denominator=_column("reference_words"),
        unit="words",
        direction="lower is better",
        detail=True,
    ),
    Metric(
        name="edge_spaces",
        title="with spaces at an end (trimmed)",
        numerator=_column("edge_spaces"),
        denominator=_LINES,
        unit="lines",
        direction="lower is better",
        digits=1,
        detail=True,
    ),
    Metric(
        name="over_wide",
        title="too wide (squashed or cropped)",
        numerator=_column("flag.over_wide"),
        denominator=_LINES,
        unit="lines",
        direction="lower is better",
        digits=1,
        detail=True,
    ),
    Metric(
        name="exact_ceiling",
        title="exact at most (charset, frames)",
        numerator=_column("readable"),
        denominator=_LINES,
        unit="lines",
        direction="higher is better",
        digits=1,
        detail=True,
    ),
)

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS}
