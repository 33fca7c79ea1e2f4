"""The table of two engines against one reference, line by line, and the counts that follow from it.

Counts come first and every rate is derived from them. Lines without a reference (no answer, a
time-out, a region that ground truth does not have) are counted and left out; a line that an engine
did not see is a failure of that engine.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from nordocr_cli.compare.agreement import Agreement, agreement, pattern
from nordocr_cli.data.layouts.result_json import box_to_json
from nordocr_cli.metrics.significance import Comparison, compare_pairs
from nordocr_cli.metrics.taxonomy import FAILURES, MEANING, ErrorClass, classify, thresholds
from nordocr_cli.metrics.text import Edits, canonical, count_edits, rate
from nordocr_cli.records import Box

SCHEMA = "nordocr.compare3way/2"
OUTCOMES = ("both right", "only first", "only second", "both wrong")


@dataclass(frozen=True)
class ComparedLine:
    """One line: what the reference says and what each reader read: two engines, and a VLM where one
    was asked.

    `reference` is None where there is none (`excluded` says why); a reading is None where the
    reader saw no line or gave no answer (`vlm` says why: status, reason and the rules that took
    something off its answer). `shape` is how many regions each side had there. `before` is the
    reference that a person's decision took the place of; `decided` says that one did.
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
    def classes(self) -> tuple[ErrorClass, ...]:
        """Error class of each reading. Only for lines with a reference."""
        return tuple(classify(self.reference or "", reading or "") for reading in self.readings)

    @cached_property
    def edits(self) -> tuple[Edits, ...]:
        """Edits of each reading in the canonical view. Only for lines with a reference."""
        reference = canonical(self.reference or "")
        return tuple(count_edits(reference, canonical(reading or "")) for reading in self.readings)

    @property
    def outcome(self) -> str:
        """One of OUTCOMES. Only for lines with a reference."""
        right = [c is ErrorClass.EXACT for c in self.classes]
        return (
            OUTCOMES[0]
            if right[0] and right[1]
            else OUTCOMES[1]
            if right[0]
            else OUTCOMES[2]
            if right[1]
            else OUTCOMES[3]
        )

    @property
    def settled(self) -> bool:
        """Whether all readers and the reference, if there is one, say the same: nothing is left to
        look at.
        """
        said = [*self.readings, *([] if self.reference is None else [self.reference])]
        return None not in said and len({canonical(text or "") for text in said}) == 1


@dataclass(frozen=True)
class Score:
    """Counts of one engine over the lines that have a reference. As in eval's report, `edits` are
    those of lines whose reference has characters: what is read on an empty line is a failure, and
    no share of any text. `digits_right` of the `digit_lines`, those whose reference has digits,
    have the same digits in the same order.
    """

    engine: str
    lines: int
    exact: int
    space_insensitive: int
    edits: int
    reference_characters: int
    line_cer_sum: float
    lines_with_characters: int
    unseen: int
    digit_lines: int
    digits_right: int
    errors: dict[str, int]

    @property
    def cer_micro(self) -> float | None:
        """All edits of lines with characters over all characters of the reference."""
        return rate(self.edits, self.reference_characters)

    @property
    def cer_macro(self) -> float | None:
        """Mean over the lines of each line's own rate: what the pipeline's reports call CER."""
        return rate(self.line_cer_sum, self.lines_with_characters)

    def to_json(self) -> dict[str, Any]:
        """Return counts and rates as plain JSON; a rate with nothing to divide by is null."""
        failures = self.lines - self.exact
        return {
            "engine": self.engine,
            "lines": self.lines,
            "exact": {"count": self.exact, "rate": rate(self.exact, self.lines)},
            "space_insensitive": {
                "count": self.space_insensitive,
                "rate": rate(self.space_insensitive, self.lines),
            },
            "cer_macro": self.cer_macro,
            "cer_micro": self.cer_micro,
            "edits": self.edits,
            "reference_characters": self.reference_characters,
            "unseen_lines": self.unseen,
            "digits_right": {
                "count": self.digits_right,
                "of": self.digit_lines,
                "rate": rate(self.digits_right, self.digit_lines),
            },
            "failures": failures,
            "errors": {
                c.value: {
                    "count": self.errors[c.value],
                    "rate_of_failures": rate(self.errors[c.value], failures),
                    "actionable": MEANING[c].actionable,
                }
                for c in FAILURES
            },
        }


def score(engine: str, lines: Sequence[ComparedLine], side: int) -> Score:
    """Count reader `side` over the lines that have a reference, in the canonical view (spaces
    collapsed).
    """
    scored = [line for line in lines if line.reference is not None]
    classes = Counter(line.classes[side] for line in scored)
    edits = [line.edits[side] for line in scored]
    with_characters = [e for e in edits if e.reference_length]
    digits = [
        (wanted, _digits(line.readings[side]))
        for line in scored
        if (wanted := _digits(line.reference))
    ]
    return Score(
        engine=engine,
        lines=len(scored),
        exact=classes[ErrorClass.EXACT],
        space_insensitive=classes[ErrorClass.EXACT] + classes[ErrorClass.SPACE_ONLY],
        edits=sum(e.distance for e in with_characters),
        reference_characters=sum(e.reference_length for e in with_characters),
        line_cer_sum=sum(e.distance / e.reference_length for e in with_characters),
        lines_with_characters=len(with_characters),
        unseen=sum(line.readings[side] is None for line in scored),
        digit_lines=len(digits),
        digits_right=sum(wanted == found for wanted, found in digits),
        errors={c.value: classes[c] for c in FAILURES},
    )


def _digits(text: str | None) -> str:
    return "".join(c for c in text or "" if c.isdigit())


@dataclass(frozen=True)
class Verdict:
    """What compare3way found. `reference` says what the readings were held against, and is part of
    every table; `third` names the third reader, the VLM, where there is one.
    """

    engines: tuple[str, str]
    reference: str
    lines: tuple[ComparedLine, ...]
    third: str | None = None

    @cached_property
    def scores(self) -> tuple[Score, Score]:
        """Counts of both engines."""
        return score(self.engines[0], self.lines, 0), score(self.engines[1], self.lines, 1)

    @cached_property
    def third_score(self) -> Score | None:
        """Counts of the VLM over the lines that it read, where the reference is another's."""
        if self.third is None or not self.scored:
            return None
        return score(self.third, [line for line in self.lines if line.readings[2] is not None], 2)

    @property
    def readers(self) -> tuple[str, ...]:
        """The names of all who read."""
        return (*self.engines, *([self.third] if self.third else []))

    @cached_property
    def agreement(self) -> Agreement:
        """How often the readers agree with each other, over all lines."""
        return agreement(self.readers, [line.readings for line in self.lines])

    @cached_property
    def comparison(self) -> Comparison | None:
        """The second engine compared with the first, line by line; None without a reference."""
        if not self.scored:
            return None
        first, second = ([line.edits[side].distance for line in self.scored] for side in (0, 1))
        exact_first, exact_second = (
            [line.classes[side] is ErrorClass.EXACT for line in self.scored] for side in (0, 1)
        )
        lengths = [line.edits[0].reference_length for line in self.scored]
        # lines of one page share its paper and its scan
        pages = [f"page {line.page_index}" for line in self.scored]
        return compare_pairs(
            first,
            second,
            lengths,
            exact_first,
            exact_second,
            pages if len(set(pages)) > 1 else None,
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
        """Scored lines by shape, those with one region a side left out."""
        return dict(
            Counter(line.shape for line in self.scored if set(line.shape.split(":")) != {"1"})
        )

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """Return the rows (figure, first engine, second engine, gap, actionable) of the report's
        table.
        """
        a, b = self.scores
        rows = [
            ("lines", str(a.lines), str(b.lines), "", ""),
            _counted("exact match", a.exact, b.exact, a.lines),
            _counted("space-insensitive match", a.space_insensitive, b.space_insensitive, a.lines),
            _counted(
                "digits right, of lines with any", a.digits_right, b.digits_right, a.digit_lines
            ),
            _rated("CER macro (mean of lines)", a.cer_macro, b.cer_macro),
            _rated("CER micro (edits / characters)", a.cer_micro, b.cer_micro),
            (
                "failures",
                str(a.lines - a.exact),
                str(b.lines - b.exact),
                f"{b.exact - a.exact:+d}",
                "",
            ),
        ]
        for c in FAILURES:
            ours, theirs = a.errors[c.value], b.errors[c.value]
            shown = (_share(ours, a.lines - a.exact), _share(theirs, b.lines - b.exact))
            rows.append(
                (
                    f"  {c.value.replace('_', ' ')}",
                    *shown,
                    f"{ours - theirs:+d}",
                    MEANING[c].actionable,
                )
            )
        return rows

    @cached_property
    def pages(self) -> tuple["PageCounts", ...]:
        """The counts of each page."""
        found = []
        for index in sorted({line.page_index for line in self.lines}):
            here = [line for line in self.lines if line.page_index == index]
            counts = Counter(line.outcome for line in here if line.reference is not None)
            outcomes = {outcome: counts[outcome] for outcome in OUTCOMES}
            found.append(PageCounts(index, counts.total(), outcomes, len(here) - counts.total()))
        return tuple(found)

    def page_table(self) -> list[tuple[str, ...]]:
        """Return a row (page, lines, the four outcomes, gap, left out) for each page, counted from
        1.
        """
        return [
            (
                str(page.page_index + 1),
                str(page.lines),
                *(str(count) for count in page.outcomes.values()),
                f"{page.outcomes[OUTCOMES[1]] - page.outcomes[OUTCOMES[2]]:+d}",
                str(page.excluded),
            )
            for page in self.pages
        ]

    def pattern_of(self, line: ComparedLine) -> str:
        """Who agrees on this line, one letter a reader."""
        return pattern(line.readings)

    def agreement_table(self) -> list[tuple[str, ...]]:
        """Return a row (pattern, who agrees, lines, lines when spaces do not count) for each
        pattern.
        """
        found = self.agreement
        return [
            (kind, self._who(kind), str(count), str(found.patterns["squeezed"][kind]))
            for kind, count in found.patterns["canonical"].items()
        ]

    def _who(self, kind: str) -> str:
        if kind.isupper():
            together = [
                name
                for name, letter in zip(self.readers, kind, strict=True)
                if kind.count(letter) > 1
            ]
            return (
                "nobody"
                if not together
                else "all"
                if len(together) == len(kind)
                else " and ".join(together)
            )
        return "one has no reading"

    def reader_table(self) -> list[tuple[str, str, str]]:
        """Return a row (reader, agrees with the other two where these agree, estimate of its
        accuracy) for each of three.
        """
        found = self.agreement
        return [
            (
                name,
                f"{_share(same, lines)} of {lines}",
                "–" if guess is None else f"{100 * guess:.1f} %",
            )
            for name, (lines, same), guess in zip(
                found.readers, found.others, found.triangulated, strict=False
            )
        ]

    def examples(self, limit: int = 15) -> list[ComparedLine]:
        """Return the first lines that not both engines read right, those where the second alone was
        right first; without any reference those on which the readers differ.
        """
        order = {OUTCOMES[2]: 0, OUTCOMES[3]: 1, OUTCOMES[1]: 2}
        wrong = [line for line in self.scored if line.outcome in order]
        if not self.scored:
            return [line for line in self.lines if not line.settled][:limit]
        return sorted(wrong, key=lambda line: order[line.outcome])[:limit]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        vlm = [line.vlm for line in self.lines if line.vlm is not None]
        return {
            "schema": SCHEMA,
            "reference": self.reference,
            "taxonomy": thresholds(),
            "engines": [s.to_json() for s in self.scores],
            "third": self.third_score.to_json() if self.third_score else None,
            "paired": self.comparison.to_json() if self.comparison else None,
            "outcomes": self.outcomes,
            "excluded": self.excluded,
            "agreement": self.agreement.to_json(),
            "vlm_answers": (
                {
                    "status": dict(Counter(status for status, _, _ in vlm)),
                    "rules": dict(Counter(rule for _, _, rules in vlm for rule in rules)),
                }
                if vlm
                else None
            ),
            "pages": [page.to_json() for page in self.pages],
            "shapes": dict(Counter(line.shape for line in self.lines)),
            "lines": [_line_to_json(line) for line in self.lines],
        }


@dataclass(frozen=True)
class PageCounts:
    """One page: its lines that have a reference, by who was right, and those that have none."""

    page_index: int
    lines: int
    outcomes: dict[str, int]
    excluded: int

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain JSON."""
        return asdict(self)


def _line_to_json(line: ComparedLine) -> dict[str, Any]:
    scored = line.reference is not None
    return {
        "page_index": line.page_index,
        "bbox": box_to_json(line.box),
        "shape": line.shape,
        "reference": line.reference,
        "readings": list(line.readings),
        "agreement": pattern(line.readings),
        "classes": [c.value for c in line.classes] if scored else None,
        "outcome": line.outcome if scored else None,
        "excluded": line.excluded or None,
        "decided": {"before": line.before} if line.decided else None,
        "vlm": (
            dict(zip(("status", "reason", "rules"), line.vlm, strict=True)) if line.vlm else None
        ),
    }


def _share(count: int, of: int) -> str:
    return f"{count} ({100 * count / of:.1f} %)" if of else str(count)


def _counted(name: str, ours: int, theirs: int, of: int) -> tuple[str, str, str, str, str]:
    return name, _share(ours, of), _share(theirs, of), f"{ours - theirs:+d}", ""


def _rated(name: str, ours: float | None, theirs: float | None) -> tuple[str, str, str, str, str]:
    if ours is None or theirs is None:
        return name, "–", "–", "", ""
    return (
        name,
        f"{100 * ours:.2f} %",
        f"{100 * theirs:.2f} %",
        f"{100 * (ours - theirs):+.2f} pp",
        "",
    )
