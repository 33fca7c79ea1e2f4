"""Counts over groups of lines, and the rates that follow from them: scored lines as columns of
numbers, summed by group.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.metrics.score import HEADLINE, LineScore, documents_of
from nordocr_cli.metrics.significance import Draws, Interval, interval_from_json, ratio_interval
from nordocr_cli.metrics.taxonomy import FLAGS, SPACE_KINDS, ErrorClass
from nordocr_cli.metrics.text import DIGIT, VIEWS, rate

_EDITS = ("substitutions", "insertions", "deletions", "reference_length", "hypothesis_length")
_WORDS = ("word_edits", "reference_words")
_MARKS = ("case_insensitive_exact", "lines_with_digits", "digits_exact", "readable")

Column = NDArray[np.float64]  # (lines,)


@dataclass(frozen=True)
class ViewScore:
    """Counts of one view over a group's lines. Lines whose reference is empty in that view are in
    `exact` alone.
    """

    lines: int
    exact: int
    substitutions: int
    insertions: int
    deletions: int
    reference_characters: int
    cer_sum: float  # sum of the lines' own character error rates
    ned_sum: float  # sum of the lines' normalized edit distances

    @property
    def edits(self) -> int:
        """Character edits in all."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def cer_micro(self) -> float | None:
        """Edits over reference characters, of all lines together."""
        return rate(self.edits, self.reference_characters)

    @property
    def cer_macro(self) -> float | None:
        """Mean of the lines' own character error rates."""
        return rate(self.cer_sum, self.lines)


@dataclass(frozen=True)
class Group:
    """Counts over a group of lines, and the rates that follow from them (None where there is
    nothing to divide by).

    The intervals are of CER micro and of the exact share in the canonical view; None where none was
    drawn.
    """

    lines: int
    empty_references: int
    # characters read where the reference has none; in no error rate
    empty_reference_insertions: int
    views: Mapping[str, ViewScore]
    word_edits: int
    reference_words: int
    case_insensitive_exact: int
    lines_with_digits: int
    # of the lines with digits in the reference, those whose digits in order are right
    digits_exact: int
    classes: Mapping[str, int]
    space_kinds: Mapping[str, int]
    flags: Mapping[str, int]
    # neither oov_ref nor ctc_infeasible; None in reports of an earlier version
    readable: int | None = None
    cer_interval: Interval | None = None
    exact_interval: Interval | None = None

    @property
    def exact(self) -> int:
        """Lines equal in the canonical view."""
        return self.views["canonical"].exact

    @property
    def space_insensitive(self) -> int:
        """Lines equal once all spaces are taken out."""
        return self.views["squeezed"].exact

    @property
    def failures(self) -> int:
        """Lines not exact."""
        return self.lines - self.exact

    def rates(self) -> dict[str, float | None]:
        """Return every rate by name; these are the names that a quality gate may use."""
        headline = self.views[HEADLINE]
        return {
            "exact": rate(self.exact, self.lines),
            "space_insensitive": rate(self.space_insensitive, self.lines),
            "case_insensitive": rate(self.case_insensitive_exact, self.lines),
            "digits_exact": rate(self.digits_exact, self.lines_with_digits),
            "cer": headline.cer_micro,
            "cer_macro": headline.cer_macro,
            "cer_raw": self.views["raw"].cer_micro,
            "cer_squeezed": self.views["squeezed"].cer_micro,
            "wer": rate(self.word_edits, self.reference_words),
            "ned": rate(headline.ned_sum, self.lines),
            "over_wide": rate(self.flags["over_wide"], self.lines),
            # What a recognizer of this charset and stride could reach at best.
            "exact_ceiling": None if self.readable is None else rate(self.readable, self.lines),
        }

    def to_json(self) -> dict[str, Any]:
        """Return counts, rates and intervals as plain JSON values."""
        counts = {
            key: value
            for key, value in vars(self).items()
            if key not in ("cer_interval", "exact_interval")
        }
        return counts | {
            "failures": self.failures,
            "views": {name: dict(vars(view)) for name, view in self.views.items()},
            "classes": dict(self.classes),
            "space_kinds": dict(self.space_kinds),
            "flags": dict(self.flags),
            "rates": self.rates(),
            "intervals": {
                "cer": self.cer_interval.to_json() if self.cer_interval else None,
                "exact": self.exact_interval.to_json() if self.exact_interval else None,
            },
        }


def group_from_json(value: Mapping[str, Any]) -> Group:
    """Rebuild a group. Raises KeyError, TypeError or ValueError when it is damaged."""
    counts = Group.__dataclass_fields__.keys() - {
        "views",
        "readable",
        "cer_interval",
        "exact_interval",
    }
    fields = {key: value[key] for key in counts}
    if missing := FLAGS.keys() - fields["flags"].keys():  # written by an earlier version
        raise ValueError(f"no flag {min(missing)!r}")
    intervals = value.get("intervals") or {}
    return Group(
        views={name: ViewScore(**view) for name, view in value["views"].items()},
        readable=value.get("readable"),
        cer_interval=interval_from_json(intervals.get("cer")),
        exact_interval=interval_from_json(intervals.get("exact")),
        **fields,
    )


class Columns:
    """Scored lines as numbers: a column for each count, a row for each line, so that any grouping
    is a few sums.
    """

    def __init__(self, scores: Sequence[LineScore]) -> None:
        self.lines = len(scores)
        self._documents = documents_of(scores)
        self._draws: Draws | None = None
        self.columns: dict[str, Column] = {name: np.zeros(self.lines) for name in _names()}
        found = self.columns
        wanted = [score.wanted for score in scores]
        length = np.array(list(map(len, wanted)), np.float64)
        spaces = np.array([text.count(" ") for text in wanted], np.float64)
        lengths = {
            "raw": np.array([len(score.result.reference) for score in scores], np.float64),
            "canonical": length,
            "squeezed": length - spaces,
        }
        for view in VIEWS:
            found[f"{view}.reference_length"] = lengths[view]
            found[f"{view}.hypothesis_length"] = lengths[view].copy()
        found["reference_words"] = (spaces + 1) * (length > 0)
        found["lines_with_digits"] = np.array(
            [DIGIT.search(text) is not None for text in wanted], np.float64
        )
        found["digits_exact"] = found["lines_with_digits"].copy()
        for name in ("case_insensitive_exact", "class.exact", "readable"):
            found[name] += 1.0
        # Most lines are exact and carry no flag: only the others have more to say.
        self._fill(
            [
                (number, score)
                for number, score in enumerate(scores)
                if not score.exact or score.flags
            ]
        )
        self._fill_raw(
            [
                (i, s)
                for i, s in enumerate(scores)
                if s.exact and s.edits["raw"] is not s.edits["canonical"]
            ]
        )
        self._derive()

    def _fill(self, chosen: Sequence[tuple[int, LineScore]]) -> None:
        number = np.array([index for index, _ in chosen], np.int64)
        for view in VIEWS:
            edits = [score.edits[view] for _, score in chosen]
            for name in _EDITS:
                self.columns[f"{view}.{name}"][number] = list(map(attrgetter(name), edits))
        self.columns["word_edits"][number] = [score.words.distance for _, score in chosen]
        equal = [score.exact or score.wanted.lower() == score.read.lower() for _, score in chosen]
        self.columns["case_insensitive_exact"][number] = equal
        self.columns["class.exact"][number] = [score.exact for _, score in chosen]
        for index, score in chosen:
            self.columns[f"class.{score.error_class.value}"][index] = 1.0
            if score.space_kind:
                self.columns[f"space.{score.space_kind}"][index] = 1.0
            for flag in score.flags:
                self.columns[f"flag.{flag}"][index] = 1.0
        self.columns["digits_exact"] *= 1.0 - self.columns["flag.digit_error"]
        self.columns["readable"] *= (1.0 - self.columns["flag.oov_ref"]) * (
            1.0 - self.columns["flag.ctc_infeasible"]
        )

    def _fill_raw(self, chosen: Sequence[tuple[int, LineScore]]) -> None:
        """Exact lines that were not written alike."""
        number = np.array([index for index, _ in chosen], np.int64)
        for name in _EDITS:
            self.columns[f"raw.{name}"][number] = [
                getattr(score.edits["raw"], name) for _, score in chosen
            ]

    def _derive(self) -> None:
        """Add each line's rates; lines without a reference are in no sum but those of exact lines
        and of NED.
        """
        found = self.columns
        for view in VIEWS:
            length, read = found[f"{view}.reference_length"], found[f"{view}.hypothesis_length"]
            distance = sum(
                (found[f"{view}.{kind}"] for kind in _EDITS[:3]), start=np.zeros(self.lines)
            )
            counted = (length > 0).astype(np.float64)
            found[f"{view}.lines"] = counted
            found[f"{view}.exact"] = (distance == 0).astype(np.float64)
            found[f"{view}.cer"] = counted * distance / np.maximum(length, 1)
            found[f"{view}.ned"] = distance / np.maximum(np.maximum(length, read), 1)
            if view == HEADLINE:
                found["empty"] = 1 - counted
                found["empty_insertions"] = (1 - counted) * found[f"{view}.insertions"]
                found["word_edits"] = counted * found["word_edits"]
                found["counted_edits"] = counted * distance
            for kind in _EDITS[:3]:
                found[f"{view}.{kind}"] = counted * found[f"{view}.{kind}"]

    def total(self, *, intervals: bool) -> Group:
        """Return all lines as one group."""
        return (
            self.groups([""] * self.lines, intervals=intervals)[""]
            if self.lines
            else _group(0, dict.fromkeys(self.columns, 0))
        )

    def groups(self, names: Sequence[str], *, intervals: bool) -> dict[str, Group]:
        """Return the group of each name, in order of appearance; `names` has one for each line."""
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        member = np.fromiter((numbers[name] for name in names), np.int64, self.lines)
        size = len(numbers)
        sums = {name: np.bincount(member, column, size) for name, column in self.columns.items()}
        counts = np.bincount(member, minlength=size)
        found = {
            name: _group(int(counts[k]), {key: float(value[k]) for key, value in sums.items()})
            for name, k in numbers.items()
        }
        if not intervals or not self.lines:
            return found
        drawn = zip(found.items(), *self._intervals(member, size), strict=True)
        return {
            name: replace(group, cer_interval=cer, exact_interval=exact)
            for (name, group), cer, exact in drawn
        }

    def _intervals(
        self, member: NDArray[np.int64], size: int
    ) -> tuple[list[Interval | None], list[Interval | None]]:
        """The intervals of CER and of the exact share of each group; all are drawn together, from
        the same resamples.
        """
        if self._draws is None:
            self._draws = Draws(self.lines, self._documents)
        wanted = ("counted_edits", f"{HEADLINE}.reference_length", "class.exact", "one")
        one = {"one": np.ones(self.lines)}
        edits, length, exact, lines = (
            self._draws.sums((self.columns | one)[name], member, size) for name in wanted
        )
        units = [int(count) for count in self._draws.units_in(member, size)]
        return (
            [ratio_interval(edits[:, k], length[:, k], self._draws, units[k]) for k in range(size)],
            [ratio_interval(exact[:, k], lines[:, k], self._draws, units[k]) for k in range(size)],
        )


def _names() -> Iterator[str]:
    yield from (f"{view}.{name}" for view in VIEWS for name in _EDITS)
    yield from (*_WORDS, *_MARKS)
    yield from (f"class.{c.value}" for c in ErrorClass)
    yield from (f"space.{kind}" for kind in SPACE_KINDS)
    yield from (f"flag.{flag}" for flag in FLAGS)


def _group(lines: int, sums: Mapping[str, float]) -> Group:
    count = {name: round(value) for name, value in sums.items()}
    return Group(
        lines=lines,
        empty_references=count["empty"],
        empty_reference_insertions=count["empty_insertions"],
        views={
            view: ViewScore(
                lines=count[f"{view}.lines"],
                exact=count[f"{view}.exact"],
                substitutions=count[f"{view}.substitutions"],
                insertions=count[f"{view}.insertions"],
                deletions=count[f"{view}.deletions"],
                reference_characters=count[f"{view}.reference_length"],
                cer_sum=sums[f"{view}.cer"],
                ned_sum=sums[f"{view}.ned"],
            )
            for view in VIEWS
        },
        word_edits=count["word_edits"],
        reference_words=count["reference_words"],
        case_insensitive_exact=count["case_insensitive_exact"],
        lines_with_digits=count["lines_with_digits"],
        digits_exact=count["digits_exact"],
        classes={c.value: count[f"class.{c.value}"] for c in ErrorClass},
        space_kinds={kind: count[f"space.{kind}"] for kind in SPACE_KINDS},
        flags={flag: count[f"flag.{flag}"] for flag in FLAGS},
        readable=count["readable"],
    )
