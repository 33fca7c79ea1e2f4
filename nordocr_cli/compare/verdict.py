"""The table of two engines against one reference, line by line, and the counts that follow from it.

Counts come first and every rate is derived from them, by the metrics of the registry. Lines without
a reference (no answer, a time-out, a region that ground truth does not have) are counted and left
out; a line that an engine did not see is a failure of that engine.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from nordocr_cli.compare.agreement import Agreement, agreement, pattern
from nordocr_cli.data.layouts.result_json import box_to_json
from nordocr_cli.metrics.group import Group, GroupedLines
from nordocr_cli.metrics.registry import METRICS
from nordocr_cli.metrics.result_model import ResultModel
from nordocr_cli.metrics.score import (
    HEADLINE,
    WIDTH_NAMES,
    LineScore,
    score_line,
    width_band,
)
from nordocr_cli.metrics.significance import Comparison, compare_pairs
from nordocr_cli.metrics.taxonomy import FAILURES, MEANING, ErrorClass, thresholds
from nordocr_cli.metrics.text import canonical
from nordocr_cli.records import Box, LineResult

COMPARE3WAY_SCHEMA = "nordocr.compare3way/3"
OUTCOMES = ("both right", "only first", "only second", "both wrong")
_HEIGHT = 32  # px to which widths are scaled for the bands of width

MetricRow = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class ComparedLine:
    """One line: the reference and what each reader read: two engines, and a third reader (a VLM or
    an engine) where there is one.

    `reference` is None where there is none (`excluded` gives the reason); a reading is None where
    the reader saw no line or gave no answer (`vlm` gives status, reason and the rules that removed
    something from the answer). `shape` is how many regions each side had there. `before` is the
    reference that a person's decision replaced; `decided` tells that one did.
    """

    page_index: int
    box: Box
    reference: str | None
    readings: tuple[str | None, ...]
    shape: str = "1:1"
    excluded: str = ""
    vlm: tuple[str, str, tuple[str, ...]] | None = None
    decided: bool = False
    before: str | None = None

    @cached_property
    def scores(self) -> tuple[LineScore, ...]:
        """Each reading scored against the reference. Only for lines with a reference."""
        return tuple(score_line(self._result(reading or "")) for reading in self.readings)

    def _result(self, reading: str) -> LineResult:
        if self.box.height:
            width_px = round(_HEIGHT * self.box.width / self.box.height)
        else:
            width_px = None
        return LineResult("", self.reference or "", reading, width=width_px)

    @property
    def classes(self) -> tuple[ErrorClass, ...]:
        """Error class of each reading. Only for lines with a reference."""
        return tuple(score.error_class for score in self.scores)

    @property
    def distances(self) -> tuple[int, ...]:
        """Edits of each reading in the canonical view. Only for lines with a reference."""
        return tuple(score.edits[HEADLINE].distance for score in self.scores)

    @property
    def outcome(self) -> str:
        """One of OUTCOMES. Only for lines with a reference."""
        first, second = (score.exact for score in self.scores[:2])
        if first and second:
            return OUTCOMES[0]
        if first:
            return OUTCOMES[1]
        if second:
            return OUTCOMES[2]
        return OUTCOMES[3]

    @property
    def settled(self) -> bool:
        """Whether all readers and the reference, if there is one, agree: nothing is left to look
        at.
        """
        texts = list(self.readings)
        if self.reference is not None:
            texts.append(self.reference)
        return None not in texts and len({canonical(text or "") for text in texts}) == 1


class EngineScore(Group):
    """A reader over the lines that have a reference: counts and metrics as in eval's report.
    `unseen_lines` are those where it saw no line.
    """

    engine: str
    unseen_lines: int


def score_reader(engine: str, lines: Iterable[ComparedLine], side: int) -> EngineScore:
    """Score reader `side` over the lines that have a reference."""
    scored = [line for line in lines if line.reference is not None]
    total = GroupedLines([line.scores[side] for line in scored]).total(intervals=False)
    unseen = sum(line.readings[side] is None for line in scored)
    return EngineScore(engine=engine, unseen_lines=unseen, **dict(total))


class PageCounts(ResultModel):
    """One page: its lines that have a reference, by who was right, and those that have none."""

    page_index: int
    lines: int
    outcomes: dict[str, int]
    excluded: int


class LineRecord(ResultModel):
    """A compared line in the result file. `classes` and `outcome` are null without a reference."""

    page_index: int
    bbox: dict[str, float]
    shape: str
    reference: str | None
    readings: tuple[str | None, ...]
    agreement: str
    classes: tuple[str, ...] | None
    outcome: str | None
    excluded: str | None
    decided: dict[str, str | None] | None
    vlm: dict[str, Any] | None


class VlmAnswers(ResultModel):
    """How often the VLM's answers had which status, and which rules were applied to them."""

    status: dict[str, int]
    rules: dict[str, int]


class VerdictFile(ResultModel):
    """The part of a result file that a verdict makes."""

    schema_: Literal["nordocr.compare3way/3"] = Field(
        "nordocr.compare3way/3", alias="schema"
    )
    reference: str = Field(description="what the readings were compared with")
    taxonomy: dict[str, float]
    engines: tuple[EngineScore, EngineScore]
    third: EngineScore | None
    truncation_by_width: tuple[dict[str, Any], ...] = Field(
        description="right truncations of both engines by width in px at height 32"
    )
    paired: Comparison | None = Field(
        description="second engine compared with the first, by page"
    )
    outcomes: dict[str, int]
    excluded: dict[str, int]
    agreement: Agreement
    vlm_answers: VlmAnswers | None
    shapes: dict[str, int] = Field(
        description="lines by how many regions each side had there"
    )
    pages: tuple[PageCounts, ...]
    lines: tuple[LineRecord, ...]


@dataclass(frozen=True)
class Verdict:
    """What compare3way found. `reference` names what the readings were compared with, and is part
    of every table; `third` names the third reader, a VLM or an engine, where there is one.
    """

    engines: tuple[str, str]
    reference: str
    lines: tuple[ComparedLine, ...]
    third: str | None = None

    @cached_property
    def scores(self) -> tuple[EngineScore, EngineScore]:
        """Counts of both engines."""
        first, second = self.engines
        return score_reader(first, self.lines, 0), score_reader(second, self.lines, 1)

    @cached_property
    def third_score(self) -> EngineScore | None:
        """Counts of the third reader over the lines that it read."""
        if self.third is None or not self.scored:
            return None
        read = [line for line in self.lines if line.readings[2] is not None]
        return score_reader(self.third, read, 2)

    @property
    def readers(self) -> tuple[str, ...]:
        """The names of all readers."""
        return (*self.engines, *([self.third] if self.third else []))

    @cached_property
    def agreement(self) -> Agreement:
        """How often the readers agree with each other, over all lines."""
        return agreement(self.readers, [line.readings for line in self.lines])

    @cached_property
    def comparison(self) -> Comparison | None:
        """The second engine compared with the first, line by line; None without a reference. Lines
        of one page share its paper and its scan, so pages are the unit.
        """
        if not self.scored:
            return None
        return compare_pairs(
            edits_a=[line.distances[0] for line in self.scored],
            edits_b=[line.distances[1] for line in self.scored],
            lengths=[
                line.scores[0].edits[HEADLINE].reference_length for line in self.scored
            ],
            exact_a=[line.scores[0].exact for line in self.scored],
            exact_b=[line.scores[1].exact for line in self.scored],
            clusters=[f"page {line.page_index}" for line in self.scored],
        )

    @cached_property
    def scored(self) -> tuple[ComparedLine, ...]:
        """The lines that have a reference."""
        return tuple(line for line in self.lines if line.reference is not None)

    @property
    def excluded(self) -> dict[str, int]:
        """How many lines were left out, by reason."""
        return dict(Counter(line.excluded for line in self.lines if line.reference is None))

    @property
    def outcomes(self) -> dict[str, int]:
        """Lines by who was right; the four add up to the lines that have a reference."""
        counts = Counter(line.outcome for line in self.scored)
        return {outcome: counts[outcome] for outcome in OUTCOMES}

    @property
    def uneven(self) -> dict[str, int]:
        """Scored lines by shape, without those of one region a side."""
        shapes = (line.shape for line in self.scored if set(line.shape.split(":")) != {"1"})
        return dict(Counter(shapes))

    def table(self) -> list[MetricRow]:
        """Return the rows (figure, first engine, second engine, gap, actionable) of the report's
        table: lines, every metric that is no detail, failures and their classes.
        """
        a, b = self.scores
        rows = [("lines", str(a.lines), str(b.lines), "", "")]
        rows += [
            _metric_row(metric.name, metric.title, metric.digits, a, b)
            for metric in METRICS
            if not metric.detail and a.metrics[metric.name].denominator
        ]
        gap = f"{a.failures - b.failures:+d}"
        rows.append(("failures", str(a.failures), str(b.failures), gap, ""))
        for error_class in FAILURES:
            ours = a.classes[error_class.value]
            theirs = b.classes[error_class.value]
            rows.append(
                (
                    f"  {error_class.value.replace('_', ' ')}",
                    _count_and_share(ours, a.failures),
                    _count_and_share(theirs, b.failures),
                    f"{ours - theirs:+d}",
                    MEANING[error_class].actionable,
                )
            )
        return rows

    def truncation_table(self) -> list[tuple[str, str, str, str]]:
        """Return (width in px at height 32, lines, right truncations of the first engine, of the
        second) for each band of width that has lines.
        """
        return [
            (
                row["width"],
                str(row["lines"]),
                _count_and_share(row["first"], row["lines"]),
                _count_and_share(row["second"], row["lines"]),
            )
            for row in self.truncation_by_width
        ]

    @cached_property
    def truncation_by_width(self) -> tuple[dict[str, Any], ...]:
        """Right truncations of both engines in each band of width that has lines."""
        found = []
        for name in WIDTH_NAMES:
            here = [
                line for line in self.scored if width_band(line.scores[0].result) == name
            ]
            if not here:
                continue
            truncated = [
                sum(line.classes[side] is ErrorClass.RIGHT_TRUNCATION for line in here)
                for side in (0, 1)
            ]
            first, second = truncated
            found.append(
                {"width": name, "lines": len(here), "first": first, "second": second}
            )
        return tuple(found)

    @cached_property
    def pages(self) -> tuple[PageCounts, ...]:
        """The counts of each page."""
        found = []
        for index in sorted({line.page_index for line in self.lines}):
            here = [line for line in self.lines if line.page_index == index]
            scored = [line for line in here if line.reference is not None]
            counts = Counter(line.outcome for line in scored)
            found.append(
                PageCounts(
                    page_index=index,
                    lines=len(scored),
                    outcomes={outcome: counts[outcome] for outcome in OUTCOMES},
                    excluded=len(here) - len(scored),
                )
            )
        return tuple(found)

    def page_table(self) -> list[tuple[str, ...]]:
        """Return a row (page, lines, the four outcomes, gap, left out) for each page, counted from
        1.
        """
        rows = []
        for page in self.pages:
            counts = [str(count) for count in page.outcomes.values()]
            gap = page.outcomes[OUTCOMES[1]] - page.outcomes[OUTCOMES[2]]
            number = str(page.page_index + 1)
            lines = str(page.lines)
            rows.append((number, lines, *counts, f"{gap:+d}", str(page.excluded)))
        return rows

    def pattern_of(self, line: ComparedLine) -> str:
        """Which readers agree on this line, one letter a reader."""
        return pattern(line.readings)

    def agreement_table(self) -> list[tuple[str, ...]]:
        """Return a row (pattern, who agrees, lines, lines when spaces do not count) for each
        pattern.
        """
        found = self.agreement
        return [
            (
                kind,
                self._who_agrees(kind),
                str(count),
                str(found.patterns["squeezed"][kind]),
            )
            for kind, count in found.patterns["canonical"].items()
        ]

    def _who_agrees(self, kind: str) -> str:
        if not kind.isupper():
            return "one has no reading"
        named = zip(self.readers, kind, strict=True)
        together = [name for name, letter in named if kind.count(letter) > 1]
        if not together:
            return "nobody"
        if len(together) == len(kind):
            return "all"
        return " and ".join(together)

    def reader_table(self) -> list[tuple[str, str, str]]:
        """Return a row (reader, agrees with the other two where these agree, estimate of its
        accuracy) for each of three.
        """
        found = self.agreement
        rows = []
        for row in found.with_the_others or ():
            if found.triangulated:
                estimate = found.triangulated.accuracy[row.reader]
            else:
                estimate = None
            if estimate is None:
                accuracy = "–"
            else:
                accuracy = f"{100 * estimate:.1f} %"
            shared = f"{_count_and_share(row.same, row.others_agree)} of {row.others_agree}"
            rows.append((row.reader, shared, accuracy))
        return rows

    def examples(self, limit: int = 15) -> list[ComparedLine]:
        """Return the first lines that one of the engines has wrong, those where the second alone
        was right first; without any reference those on which the readers differ.
        """
        if not self.scored:
            return [line for line in self.lines if not line.settled][:limit]
        order = {OUTCOMES[2]: 0, OUTCOMES[3]: 1, OUTCOMES[1]: 2}
        wrong = [line for line in self.scored if line.outcome in order]
        return sorted(wrong, key=lambda line: order[line.outcome])[:limit]

    def to_file(self) -> VerdictFile:
        """Return what is written of the verdict."""
        return VerdictFile(
            reference=self.reference,
            taxonomy=thresholds(),
            engines=self.scores,
            third=self.third_score,
            truncation_by_width=self.truncation_by_width,
            paired=self.comparison,
            outcomes=self.outcomes,
            excluded=self.excluded,
            agreement=self.agreement,
            vlm_answers=self._vlm_answers(),
            shapes=dict(Counter(line.shape for line in self.lines)),
            pages=self.pages,
            lines=tuple(map(_line_record, self.lines)),
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return self.to_file().model_dump(mode="json", by_alias=True)

    def _vlm_answers(self) -> VlmAnswers | None:
        answers = [line.vlm for line in self.lines if line.vlm is not None]
        if not answers:
            return None
        return VlmAnswers(
            status=dict(Counter(status for status, _, _ in answers)),
            rules=dict(Counter(rule for _, _, rules in answers for rule in rules)),
        )


def _line_record(line: ComparedLine) -> LineRecord:
    scored = line.reference is not None
    vlm = None
    if line.vlm:
        vlm = dict(zip(("status", "reason", "rules"), line.vlm, strict=True))
    return LineRecord(
        page_index=line.page_index,
        bbox=box_to_json(line.box),
        shape=line.shape,
        reference=line.reference,
        readings=line.readings,
        agreement=pattern(line.readings),
        classes=tuple(c.value for c in line.classes) if scored else None,
        outcome=line.outcome if scored else None,
        excluded=line.excluded or None,
        decided={"before": line.before} if line.decided else None,
        vlm=vlm,
    )


def _count_and_share(count: int, of: int) -> str:
    if of:
        return f"{count} ({100 * count / of:.1f} %)"
    return str(count)


def _metric_row(name: str, title: str, digits: int, a: Group, b: Group) -> MetricRow:
    """Shares of lines with their counts, other metrics as percentages."""
    ours = a.value(name)
    theirs = b.value(name)
    if ours is None or theirs is None:
        return title, "–", "–", "", ""
    if digits == 1:  # a share of lines or of fields: its count says more
        top_a = round(a.metrics[name].numerator)
        top_b = round(b.metrics[name].numerator)
        of = round(a.metrics[name].denominator)
        shown = _count_and_share(top_a, of), _count_and_share(top_b, of)
        return title, *shown, f"{top_a - top_b:+d}", ""
    gap = f"{100 * (ours - theirs):+.{digits}f} pp"
    return title, f"{100 * ours:.{digits}f} %", f"{100 * theirs:.{digits}f} %", gap, ""
