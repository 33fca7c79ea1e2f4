"""From line results to a report: counts first, every metric derived from them, in total and by
language, subset, width and squash ratio.

LineResult ─score_lines─▶ LineScore ─report_of─▶ Report ─to_json─▶ eval.json
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import (
    Field,
    computed_field,
    field_serializer,
    field_validator,
)

from nordocr_cli.charset import Charset
from nordocr_cli.metrics import taxonomy
from nordocr_cli.metrics.group import Group, GroupedLines
from nordocr_cli.metrics.nordic import nordic_confusions
from nordocr_cli.metrics.result_model import ResultModel
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
from nordocr_cli.metrics.text import (
    character_codes,
    confusions,
    count_characters,
    list_edits,
)
from nordocr_cli.records import LineResult

REPORT_SCHEMA = "nordocr.report/2"
TOP_CONFUSIONS = 30
UNNAMED = "(none)"  # the group of lines without language or subset, where others have one

# What lines are grouped by, and the order of the groups where it is not that of their names.
GROUPINGS: dict[str, tuple[Callable[[LineScore], str], Sequence[str]]] = {
    "language": (lambda score: score.result.language, ()),
    "subset": (lambda score: score.result.subset, ()),
    "width": (lambda score: width_band(score.result), WIDTH_NAMES),
    "squash": (lambda score: squash_band(score.result), SQUASH_NAMES),
}


class Confusion(ResultModel):
    """`reference` was read as `hypothesis` `count` times; "" is nothing. `of` is how often
    `reference` stands in the references.
    """

    reference: str
    hypothesis: str
    count: int
    of: int | None = None

    @field_serializer("reference", "hypothesis")
    def _describe(self, characters: str) -> dict[str, str | None]:
        return character_codes(characters)

    @field_validator("reference", "hypothesis", mode="before")
    @classmethod
    def _from_description(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if value["code"] is None:
            return ""
        return value["char"]


class Report(ResultModel):
    """What an evaluation found, in total and by group."""

    schema_: Literal["nordocr.report/2"] = Field("nordocr.report/2", alias="schema")
    total: Group
    by_language: dict[str, Group] = Field(default_factory=dict)
    by_subset: dict[str, Group] = Field(default_factory=dict)
    by_width: dict[str, Group] = Field(default_factory=dict)
    by_squash: dict[str, Group] = Field(default_factory=dict)
    confusions: tuple[Confusion, ...] = ()
    nordic_pairs: tuple[Confusion, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def headline_view(self) -> str:
        """The view of every figure that names none."""
        return HEADLINE

    @computed_field  # type: ignore[prop-decorator]
    @property
    def thresholds(self) -> dict[str, float]:
        """The thresholds of the error classes."""
        return taxonomy.thresholds()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def classes(self) -> dict[str, dict[str, str]]:
        """What each error class means."""
        return {
            c.value: {
                "definition": MEANING[c].definition,
                "actionable": MEANING[c].actionable,
                "advice": MEANING[c].advice,
            }
            for c in FAILURES
        }

    @computed_field  # type: ignore[prop-decorator]
    @property
    def flags(self) -> dict[str, str]:
        """What each flag means."""
        return dict(FLAGS)

    @property
    def cer(self) -> float | None:
        """The headline: CER micro in the canonical view; None when no line has a reference."""
        return self.total.value("cer")

    @property
    def exact_rate(self) -> float | None:
        """Share of lines read exactly (canonical view); None when there are no lines."""
        return self.total.value("exact")

    @property
    def cer_interval(self) -> Interval | None:
        """The interval of the headline."""
        return self.total.intervals.get("cer")

    @property
    def exact_interval(self) -> Interval | None:
        """The interval of the exact share."""
        return self.total.intervals.get("exact")

    def groups(self, kind: str) -> Mapping[str, Group]:
        """Return the groups of one of GROUPINGS by name."""
        found: Mapping[str, Group] = getattr(self, f"by_{kind}")
        return found

    def group(self, kind: str, name: str) -> Group | None:
        """Return the group `name` of one of GROUPINGS, None when it is not there."""
        return self.groups(kind).get(name)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values, without NaN or infinity."""
        return self.model_dump(mode="json", by_alias=True)


def build_report(
    results: Sequence[LineResult], charset: Charset | None = None, *, intervals: bool = True
) -> Report:
    """Score `results` and sum them up; `intervals=False` leaves out the bootstrap (during
    training).
    """
    return report_of(score_lines(results, charset), intervals=intervals)


def report_of(scores: Sequence[LineScore], *, intervals: bool = True) -> Report:
    """Sum up lines that are already scored."""
    pairs, nordic = _count_confusions(scores)
    references = [score.reference for score in scores]
    occurrences = count_characters(references)
    # Of two letters, e.g. th that was read as þ: only for the few that were.
    two_letters = [reference for reference, _ in nordic if len(reference) == 2]
    occurrences |= {two: sum(text.count(two) for text in references) for two in two_letters}

    lines = GroupedLines(scores)
    by_kind = {
        f"by_{kind}": _groups(lines, [key(score) for score in scores], order, intervals)
        for kind, (key, order) in GROUPINGS.items()
    }
    return Report(
        total=lines.total(intervals=intervals),
        **by_kind,
        confusions=_ranked(pairs, occurrences)[:TOP_CONFUSIONS],
        nordic_pairs=_ranked(nordic, occurrences),
    )


Pairs = Counter[tuple[str, str]]


def _count_confusions(scores: Sequence[LineScore]) -> tuple[Pairs, Pairs]:
    """How often which characters were confused: all pairs, and those of Nordic letters."""
    pairs = Pairs()
    nordic = Pairs()
    for score in scores:
        if score.exact:
            continue
        edits = list_edits(score.reference, score.hypothesis)
        pairs.update(confusions(score.reference, score.hypothesis, edits))
        nordic.update(nordic_confusions(score.reference, score.hypothesis, edits))
    return pairs, nordic


def _ranked(
    pairs: Mapping[tuple[str, str], int], occurrences: Mapping[str, int]
) -> tuple[Confusion, ...]:
    """The most frequent first."""
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        Confusion(
            reference=reference,
            hypothesis=hypothesis,
            count=count,
            of=occurrences[reference] if reference else None,
        )
        for (reference, hypothesis), count in ranked
    )


def _groups(
    lines: GroupedLines, names: Sequence[str], order: Sequence[str], intervals: bool
) -> dict[str, Group]:
    """Group lines by their names, in `order`, then by name; empty when no line has a name."""
    present = set(names)
    if present <= {""}:
        return {}

    found = lines.groups(names, intervals=intervals)
    known = [name for name in order if name in present]
    ordered = known + sorted(present - set(order))
    return {name or UNNAMED: found[name] for name in ordered}
