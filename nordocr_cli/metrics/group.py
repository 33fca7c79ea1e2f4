"""A group of lines: counts, and every metric of the registry with what it is a ratio of."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, computed_field
from pydantic.config import JsonDict

from nordocr_cli.metrics.columns import EDITS, Column, LineColumns
from nordocr_cli.metrics.registry import BY_NAME, METRICS
from nordocr_cli.metrics.result_model import ResultModel
from nordocr_cli.metrics.score import LineScore, documents_of
from nordocr_cli.metrics.significance import Draws, Interval, ratio_interval
from nordocr_cli.metrics.taxonomy import FLAGS, SPACE_KINDS, ErrorClass
from nordocr_cli.metrics.text import VIEWS, rate

_SPARSE = 0.3  # share of rows that are not 0 below which only they are summed


class MetricSums(ResultModel):
    """A metric of a group: two sums over its lines. With the reduction `mean of lines` the
    numerator is the sum of the lines' own ratios, and the denominator the number of lines.
    """

    numerator: float
    denominator: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def value(self) -> float | None:
        """The metric; None when there is nothing to divide by."""
        return rate(self.numerator, self.denominator)


def _rates_schema() -> JsonDict:
    """The part of the JSON Schema that names every metric of the registry."""
    properties: JsonDict = {}
    for metric in METRICS:
        known: JsonDict = {"type": "number", "minimum": 0}
        if metric.direction == "higher is better":
            known["maximum"] = 1
        properties[metric.name] = {
            "description": f"{metric.title}, of {metric.unit}, {metric.reduction};"
            f" {metric.direction}",
            "anyOf": [known, {"type": "null"}],
        }
    return {"properties": properties}


class ViewCounts(ResultModel):
    """Counts of one view over a group's lines. Lines whose reference is empty in that view are in
    `exact` alone.
    """

    lines: int
    exact: int
    substitutions: int
    insertions: int
    deletions: int
    reference_characters: int


class Group(ResultModel):
    """Counts over a group of lines and its metrics by name. `intervals` holds the bootstrap
    intervals of the metrics that have one (None where none could be drawn).
    """

    lines: int
    empty_references: int
    # characters read where the reference has none; only the `…_jiwer` metrics count them
    empty_reference_insertions: int
    metrics: dict[str, MetricSums]
    views: dict[str, ViewCounts]
    classes: dict[str, int]
    space_kinds: dict[str, int]
    flags: dict[str, int]
    intervals: dict[str, Interval | None] = Field(default_factory=dict)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exact(self) -> int:
        """Lines equal in the canonical view."""
        return self.classes[ErrorClass.EXACT.value]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def failures(self) -> int:
        """Lines that are not exact."""
        return self.lines - self.exact

    @computed_field(json_schema_extra=_rates_schema())  # type: ignore[prop-decorator]
    @property
    def rates(self) -> dict[str, float | None]:
        """The value of every metric by name."""
        return {name: sums.value for name, sums in self.metrics.items()}

    def value(self, name: str) -> float | None:
        """Return the value of the metric `name`; None when there is nothing to divide by, or when
        the group was written by a version without that metric.
        """
        sums = self.metrics.get(name)
        if sums:
            return sums.value
        return None


class _Addends:
    """A column that is summed by group again and again. Of one that is mostly 0, as errors are, the
    other rows are kept.
    """

    def __init__(self, column: Column) -> None:
        rows = np.flatnonzero(column)
        self._rows: NDArray[np.int64] | None = None
        self._values = column
        if len(rows) < _SPARSE * len(column):
            self._rows = rows
            self._values = column[rows]

    def by_group(self, member: NDArray[np.int64], size: int) -> Column:
        """Return the sum over the lines of each of `size` groups, (size,)."""
        if self._rows is not None:
            member = member[self._rows]
        return np.bincount(member, self._values, size).astype(np.float64)


class GroupedLines:
    """Scored lines that can be summed by any grouping. The bootstrap samples are drawn once, so
    that the intervals of all groups rest on the same samples.
    """

    def __init__(self, scores: Sequence[LineScore]) -> None:
        self.columns = LineColumns(scores)
        self._documents = documents_of(scores)
        self._draws: Draws | None = None
        self._addends = {metric.name: metric.per_line(self.columns) for metric in METRICS}
        self._counts = {name: _Addends(self.columns[name]) for name in self.columns}
        self._sums = {
            name: (_Addends(numerator), _Addends(denominator))
            for name, (numerator, denominator) in self._addends.items()
        }

    def __len__(self) -> int:
        return len(self.columns)

    def total(self, *, intervals: bool) -> Group:
        """Return all lines as one group."""
        if len(self):
            return self.groups([""] * len(self), intervals=intervals)[""]

        nothing = dict.fromkeys(self.columns, 0.0)
        return _group(nothing, {metric.name: (0.0, 0.0) for metric in METRICS}, {})

    def groups(self, names: Sequence[str], *, intervals: bool) -> dict[str, Group]:
        """Return the group of each name, in order of appearance; `names` has one for each line."""
        if not len(self):
            return {}

        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        member = np.fromiter((numbers[name] for name in names), np.int64, len(self))
        size = len(numbers)

        counts = {
            name: column.by_group(member, size) for name, column in self._counts.items()
        }
        sums = {
            name: (numerator.by_group(member, size), denominator.by_group(member, size))
            for name, (numerator, denominator) in self._sums.items()
        }
        if intervals:
            drawn = self._intervals(member, size)
        else:
            drawn = [{} for _ in numbers]

        groups = {}
        for name, number in numbers.items():
            own_counts = {key: float(column[number]) for key, column in counts.items()}
            own_sums = {
                key: (float(numerator[number]), float(denominator[number]))
                for key, (numerator, denominator) in sums.items()
            }
            groups[name] = _group(own_counts, own_sums, drawn[number])
        return groups

    def _intervals(
        self, member: NDArray[np.int64], size: int
    ) -> list[dict[str, Interval | None]]:
        """The intervals of each group, by the name of the metric."""
        if self._draws is None:
            self._draws = Draws(len(self), self._documents)

        draws = self._draws
        units = [int(count) for count in draws.units_in(member, size)]
        names = [metric.name for metric in METRICS if metric.interval]
        numerators = [self._addends[name][0] for name in names]
        denominators = [self._addends[name][1] for name in names]
        sums = draws.sums_of(
            numerators + denominators, member, size
        )  # (resamples, size) each

        tops = sums[: len(names)]
        bottoms = sums[len(names) :]

        found: list[dict[str, Interval | None]] = [{} for _ in range(size)]
        for k in range(size):
            for name, top, bottom in zip(names, tops, bottoms, strict=True):
                found[k][name] = ratio_interval(top[:, k], bottom[:, k], draws, units[k])
        return found


def _group(
    counts: Mapping[str, float],
    sums: Mapping[str, tuple[float, float]],
    intervals: dict[str, Interval | None],
) -> Group:
    number = {name: round(value) for name, value in counts.items()}
    lines = number["lines"]
    return Group(
        lines=lines,
        empty_references=lines - number["canonical.has_reference"],
        empty_reference_insertions=number["canonical.all_edits"]
        - number["canonical.edits"],
        metrics={
            name: MetricSums(numerator=top, denominator=bottom)
            for name, (top, bottom) in sums.items()
        },
        views={view: _view(view, number) for view in VIEWS},
        classes={c.value: number[f"class.{c.value}"] for c in ErrorClass},
        space_kinds={kind: number[f"space.{kind}"] for kind in SPACE_KINDS},
        flags={flag: number[f"flag.{flag}"] for flag in FLAGS},
        intervals=intervals,
    )


def _view(view: str, number: Mapping[str, int]) -> ViewCounts:
    return ViewCounts(
        lines=number[f"{view}.has_reference"],
        exact=number[f"{view}.exact"],
        reference_characters=number[f"{view}.reference_length"],
        **{kind: number[f"{view}.{kind}"] for kind in EDITS},
    )


def figures_of(group: Group) -> dict[str, float | None]:
    """Return every figure that a gate may name: counts, classes, flags, and the metrics."""
    counts = {
        "lines": group.lines,
        "failures": group.failures,
        "empty_references": group.empty_references,
    }
    metrics = {name: group.value(name) for name in BY_NAME}
    return {**counts, **group.flags, **group.classes, **metrics}
