"""From line results to a report: counts first, every rate derived from them, in total and by
language, subset, width and squash.

LineResult ─score_lines─▶ LineScore ─report_of─▶ Report ─to_json─▶ eval.json
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nordocr_cli.charset import Charset
from nordocr_cli.errors import DataError
from nordocr_cli.metrics import taxonomy
from nordocr_cli.metrics.group import Columns, Group, group_from_json
from nordocr_cli.metrics.nordic import nordic_confusions
from nordocr_cli.metrics.score import (
    HEADLINE,
    SQUASH_NAMES,
    WIDTH_NAMES,
    LineScore,
    score_lines,
    squash_band,
    width_band,
)
from nordocr_cli.metrics.significance import Interval
from nordocr_cli.metrics.taxonomy import FAILURES, FLAGS, MEANING
from nordocr_cli.metrics.text import confusions, count_characters, describe, list_edits, rate
from nordocr_cli.records import LineResult

SCHEMA = "nordocr.report/1"
TOP_CONFUSIONS = 30
UNNAMED = "(none)"  # the group of lines without language or subset, where others have one

# What lines are grouped by, and the order of the groups where it is not that of their names.
GROUPINGS: dict[str, tuple[Callable[[LineScore], str], Sequence[str]]] = {
    "language": (lambda score: score.result.language, ()),
    "subset": (lambda score: score.result.subset, ()),
    "width": (lambda score: width_band(score.result), WIDTH_NAMES),
    "squash": (lambda score: squash_band(score.result), SQUASH_NAMES),
}


@dataclass(frozen=True)
class Confusion:
    """`wanted` was read as `found` `count` times; "" is nothing. `of` is how often `wanted` stands
    in the references.
    """

    wanted: str
    found: str
    count: int
    of: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the pair with code points."""
        return {
            "wanted": describe(self.wanted),
            "found": describe(self.found),
            "count": self.count,
            "of": self.of,
        }


@dataclass(frozen=True)
class Report:
    """What an evaluation found, in total and by group."""

    total: Group
    by_language: Mapping[str, Group] = field(default_factory=dict)
    by_subset: Mapping[str, Group] = field(default_factory=dict)
    by_width: Mapping[str, Group] = field(default_factory=dict)
    by_squash: Mapping[str, Group] = field(default_factory=dict)
    confusions: tuple[Confusion, ...] = ()
    nordic_pairs: tuple[Confusion, ...] = ()

    @property
    def cer(self) -> float | None:
        """The headline: CER micro in the canonical view; None when no line has a reference."""
        return self.total.views[HEADLINE].cer_micro

    @property
    def exact_rate(self) -> float | None:
        """Share of lines read exactly (canonical view); None when there are no lines."""
        return rate(self.total.exact, self.total.lines)

    @property
    def cer_interval(self) -> Interval | None:
        """The interval of the headline."""
        return self.total.cer_interval

    @property
    def exact_interval(self) -> Interval | None:
        """The interval of the exact share."""
        return self.total.exact_interval

    def groups(self, kind: str) -> Mapping[str, Group]:
        """Return the groups of one of GROUPINGS by name."""
        found: Mapping[str, Group] = getattr(self, f"by_{kind}")
        return found

    def group(self, kind: str, name: str) -> Group | None:
        """Return the group `name` of one of GROUPINGS, None when it is not there."""
        return self.groups(kind).get(name)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values, without NaN or infinity."""
        return {
            "schema": SCHEMA,
            "headline_view": HEADLINE,
            "thresholds": taxonomy.thresholds(),
            "classes": {
                c.value: {
                    "definition": MEANING[c].definition,
                    "actionable": MEANING[c].actionable,
                    "advice": MEANING[c].advice,
                }
                for c in FAILURES
            },
            "flags": dict(FLAGS),
            "total": self.total.to_json(),
            **{
                f"by_{kind}": {name: group.to_json() for name, group in self.groups(kind).items()}
                for kind in GROUPINGS
            },
            "confusions": [confusion.to_json() for confusion in self.confusions],
            "nordic_pairs": [confusion.to_json() for confusion in self.nordic_pairs],
        }


def build_report(
    results: Sequence[LineResult], charset: Charset | None = None, *, intervals: bool = True
) -> Report:
    """Score `results` and sum them up; `intervals=False` leaves out the bootstrap (during
    training).
    """
    return report_of(score_lines(results, charset), intervals=intervals)


def report_of(scores: Sequence[LineScore], *, intervals: bool = True) -> Report:
    """Sum up lines that are already scored."""
    pairs, nordic = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for score in scores:
        if not score.exact:
            edits = list_edits(score.wanted, score.read)
            pairs.update(confusions(score.wanted, score.read, edits))
            nordic.update(nordic_confusions(score.wanted, score.read, edits))
    wanted = [score.wanted for score in scores]
    occurrences = count_characters(wanted)
    # Of two letters, e.g. th that was read as þ: only for the few that were.
    occurrences |= {
        two: sum(text.count(two) for text in wanted) for two, _ in nordic if len(two) == 2
    }
    columns = Columns(scores)
    return Report(
        total=columns.total(intervals=intervals),
        **{
            f"by_{kind}": _groups(columns, [key(score) for score in scores], order, intervals)
            for kind, (key, order) in GROUPINGS.items()
        },
        confusions=_ranked(pairs, occurrences)[:TOP_CONFUSIONS],
        nordic_pairs=_ranked(nordic, occurrences),
    )


def _ranked(
    pairs: Mapping[tuple[str, str], int], occurrences: Mapping[str, int]
) -> tuple[Confusion, ...]:
    """The most frequent first."""
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        Confusion(wanted, found, n, occurrences[wanted] if wanted else None)
        for (wanted, found), n in ranked
    )


def _groups(
    columns: Columns, names: Sequence[str], order: Sequence[str], intervals: bool
) -> dict[str, Group]:
    """Group lines by their names, in `order`, then by name; empty when no line has a name."""
    present = set(names)
    if present <= {""}:
        return {}
    found = columns.groups(names, intervals=intervals)
    ordered = [name for name in order if name in present] + sorted(present - set(order))
    return {name or UNNAMED: found[name] for name in ordered}


def report_from_json(value: Any, what: str = "report") -> Report:
    """Rebuild a report from `Report.to_json()`. Raises DataError naming `what` when it is damaged
    or too new.
    """
    try:
        if value["schema"] != SCHEMA:
            raise DataError(f"{what}: schema {value['schema']!r}; this nordocr reads {SCHEMA!r}")
        total = value["total"]
        # written by an earlier version, which drew them for the total alone
        if "intervals" in value:
            total = total | {"intervals": value["intervals"]}
        return Report(
            total=group_from_json(total),
            **{
                f"by_{kind}": {
                    name: group_from_json(group)
                    for name, group in value.get(f"by_{kind}", {}).items()
                }
                for kind in GROUPINGS
            },
            confusions=tuple(_confusion_from_json(row) for row in value["confusions"]),
            nordic_pairs=tuple(_confusion_from_json(row) for row in value["nordic_pairs"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{what} is not a report ({type(error).__name__}: {error}); run `nordocr eval` again"
        ) from error


def _confusion_from_json(row: Mapping[str, Any]) -> Confusion:
    wanted, found = (
        "" if side["code"] is None else str(side["char"]) for side in (row["wanted"], row["found"])
    )
    return Confusion(wanted, found, int(row["count"]), row["of"])
