"""The three-way table: two engines against one reference, line by line, and the counts that follow from it.

Counts come first and every rate is derived from them. Lines without a reference (no answer, a time-out, a region that ground
truth does not have) are counted and left out; a line that an engine did not see is a failure of that engine.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nordocr_cli.data.result_json import box_to_json
from nordocr_cli.metrics.taxonomy import FAILURES, MEANING, ErrorClass, classify, thresholds
from nordocr_cli.metrics.text import canonical, count_edits, rate
from nordocr_cli.records import Box

SCHEMA = "nordocr.compare3way/1"
OUTCOMES = ("both right", "only first", "only second", "both wrong")


@dataclass(frozen=True)
class ComparedLine:
    """One line: what the reference says and what each of the two engines read.

    `reference` is None where there is none (`excluded` says why); a reading is None where the engine saw no line. `shape` is
    how many regions each side had there.
    """

    page_index: int
    box: Box
    reference: str | None
    readings: tuple[str | None, str | None]
    shape: str = "1:1"
    excluded: str = ""

    @cached_property
    def classes(self) -> tuple[ErrorClass, ErrorClass]:
        """Error class of each engine's reading. Only for lines with a reference."""
        first, second = (classify(self.reference or "", reading or "") for reading in self.readings)
        return first, second

    @property
    def outcome(self) -> str:
        """One of OUTCOMES. Only for lines with a reference."""
        right = [c is ErrorClass.EXACT for c in self.classes]
        return OUTCOMES[0] if all(right) else OUTCOMES[1] if right[0] else OUTCOMES[2] if right[1] else OUTCOMES[3]


@dataclass(frozen=True)
class Score:
    """Counts of one engine over the lines that have a reference. As in eval's report, `edits` are those of lines whose reference
    has characters: what is read on an empty line is a failure, and no share of any text."""

    engine: str
    lines: int
    exact: int
    space_insensitive: int
    edits: int
    reference_characters: int
    line_cer_sum: float
    lines_with_characters: int
    unseen: int
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
            "space_insensitive": {"count": self.space_insensitive, "rate": rate(self.space_insensitive, self.lines)},
            "cer_macro": self.cer_macro,
            "cer_micro": self.cer_micro,
            "edits": self.edits,
            "reference_characters": self.reference_characters,
            "unseen_lines": self.unseen,
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
    """Count engine `side` (0 or 1) over the lines that have a reference, in the canonical view (spaces collapsed)."""
    scored = [line for line in lines if line.reference is not None]
    classes = Counter(line.classes[side] for line in scored)
    edits = [count_edits(canonical(line.reference or ""), canonical(line.readings[side] or "")) for line in scored]
    with_characters = [e for e in edits if e.reference_length]
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
        errors={c.value: classes[c] for c in FAILURES},
    )


@dataclass(frozen=True)
class Verdict:
    """What compare3way found. `reference` says what the readings were held against, and is part of every table."""

    engines: tuple[str, str]
    reference: str
    lines: tuple[ComparedLine, ...]

    @cached_property
    def scores(self) -> tuple[Score, Score]:
        """Counts of both engines."""
        return score(self.engines[0], self.lines, 0), score(self.engines[1], self.lines, 1)

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
        return dict(Counter(line.shape for line in self.scored if set(line.shape.split(":")) != {"1"}))

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """Return the rows (figure, first engine, second engine, gap, actionable) of the report's table."""
        a, b = self.scores
        rows = [
            ("lines", str(a.lines), str(b.lines), "", ""),
            _counted("exact match", a.exact, b.exact, a.lines),
            _counted("space-insensitive match", a.space_insensitive, b.space_insensitive, a.lines),
            _rated("CER macro (mean of lines)", a.cer_macro, b.cer_macro),
            _rated("CER micro (edits / characters)", a.cer_micro, b.cer_micro),
            ("failures", str(a.lines - a.exact), str(b.lines - b.exact), f"{b.exact - a.exact:+d}", ""),
        ]
        for c in FAILURES:
            ours, theirs = a.errors[c.value], b.errors[c.value]
            shown = (_share(ours, a.lines - a.exact), _share(theirs, b.lines - b.exact))
            rows.append((f"  {c.value.replace('_', ' ')}", *shown, f"{ours - theirs:+d}", MEANING[c].actionable))
        return rows

    def page_table(self) -> list[tuple[str, str, str, str, str]]:
        """Return a row (page, lines, exact of the first, exact of the second, gap) for each page, counted from 1."""
        rows = []
        for index in sorted({line.page_index for line in self.lines}):
            a, b = (score("", [line for line in self.lines if line.page_index == index], side) for side in (0, 1))
            shown = (_share(a.exact, a.lines), _share(b.exact, b.lines))
            rows.append((str(index + 1), str(a.lines), *shown, f"{a.exact - b.exact:+d}"))
        return rows

    def examples(self, limit: int = 15) -> list[ComparedLine]:
        """Return the first lines that not both engines read right, those where the second alone was right first."""
        order = {OUTCOMES[2]: 0, OUTCOMES[3]: 1, OUTCOMES[1]: 2}
        wrong = [line for line in self.scored if line.outcome in order]
        return sorted(wrong, key=lambda line: order[line.outcome])[:limit]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return {
            "schema": SCHEMA,
            "reference": self.reference,
            "taxonomy": thresholds(),
            "engines": [s.to_json() for s in self.scores],
            "outcomes": self.outcomes,
            "excluded": self.excluded,
            "shapes": dict(Counter(line.shape for line in self.lines)),
            "lines": [_line_to_json(line) for line in self.lines],
        }


def _line_to_json(line: ComparedLine) -> dict[str, Any]:
    scored = line.reference is not None
    return {
        "page_index": line.page_index,
        "bbox": box_to_json(line.box),
        "shape": line.shape,
        "reference": line.reference,
        "readings": list(line.readings),
        "classes": [c.value for c in line.classes] if scored else None,
        "outcome": line.outcome if scored else None,
        "excluded": line.excluded or None,
    }


def _share(count: int, of: int) -> str:
    return f"{count} ({100 * count / of:.1f} %)" if of else str(count)


def _counted(name: str, ours: int, theirs: int, of: int) -> tuple[str, str, str, str, str]:
    return name, _share(ours, of), _share(theirs, of), f"{ours - theirs:+d}", ""


def _rated(name: str, ours: float | None, theirs: float | None) -> tuple[str, str, str, str, str]:
    if ours is None or theirs is None:
        return name, "–", "–", "", ""
    return name, f"{100 * ours:.2f} %", f"{100 * theirs:.2f} %", f"{100 * (ours - theirs):+.2f} pp", ""
