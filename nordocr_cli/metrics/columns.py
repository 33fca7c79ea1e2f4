"""Scored lines as columns of numbers, a row for each line, so that a metric of any group is two
sums.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.metrics.score import LineScore
from nordocr_cli.metrics.taxonomy import FLAGS, SPACE_KINDS, ErrorClass
from nordocr_cli.metrics.text import DIGIT, VIEWS

Column = NDArray[np.float64]  # (lines,)

EDITS = ("substitutions", "insertions", "deletions")
_LENGTHS = ("reference_length", "hypothesis_length")


class LineColumns:
    """Columns by name, (lines,) float64 each. For a view of VIEWS:

        VIEW.reference_length, VIEW.hypothesis_length   in characters
        VIEW.substitutions, .insertions, .deletions     0 for lines without a reference
        VIEW.edits          their sum
        VIEW.all_edits      the same, with the characters read on lines without a reference
        VIEW.exact          1 for equal texts
        VIEW.has_reference  1 for lines whose reference is not empty in that view
        VIEW.ned            normalized edit distance

    and of the canonical view: lines (1), word_edits, all_word_edits, reference_words,
    case_insensitive_exact, has_digits, digits_exact, readable (neither outside the charset nor too
    few frames), edge_spaces, class.CLASS, space.KIND, flag.FLAG.
    """

    def __init__(self, scores: Sequence[LineScore]) -> None:
        self.scores = scores
        self._columns: dict[str, Column] = {
            name: np.zeros(len(scores)) for name in _names()
        }
        self._of_texts: dict[str, NDArray[np.float64]] = {}

        self._set_references()
        self._set_exact()
        # Most lines are exact and carry no flag: only the others have more to say.
        failures = {i for i, score in enumerate(scores) if not score.exact}
        self._set_others([(i, s) for i, s in enumerate(scores) if i in failures or s.flags])
        self._set_raw(
            [
                (i, s)
                for i, s in enumerate(scores)
                if i not in failures and not s.same_in_raw
            ]
        )
        self._derive()

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def of_texts(
        self, name: str, score: Callable[[list[str], list[str]], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Return what `score` gives for the references and hypotheses of the lines that have a
        digit in their reference, and zeros for the others: (lines, values). It is computed once
        for a `name`.
        """
        if name not in self._of_texts:
            with_digits = np.flatnonzero(self["has_digits"])
            lines = [self.scores[index] for index in with_digits.tolist()]
            references = [line.reference for line in lines]
            hypotheses = [line.hypothesis for line in lines]

            values = score(references, hypotheses)
            found = np.zeros((len(self), values.shape[1]))
            found[with_digits] = values
            self._of_texts[name] = found
        return self._of_texts[name]

    def _set_references(self) -> None:
        references = [score.reference for score in self.scores]
        length = _float_array(map(len, references))
        spaces = _float_array(text.count(" ") for text in references)
        raw_length = _float_array(len(score.result.reference) for score in self.scores)

        lengths = {"raw": raw_length, "canonical": length, "squeezed": length - spaces}
        for view in VIEWS:
            self._columns[f"{view}.reference_length"] = lengths[view]
            self._columns[f"{view}.hypothesis_length"] = lengths[view].copy()

        self._columns["lines"] = np.ones(len(references))
        self._columns["reference_words"] = (spaces + 1) * (length > 0)
        has_digits = _float_array(DIGIT.search(text) is not None for text in references)
        self._columns["has_digits"] = has_digits

    def _set_exact(self) -> None:
        """Fill in all lines as if each were exact."""
        for name in ("case_insensitive_exact", "class.exact", "readable"):
            self._columns[name] = np.ones(len(self))
        self._columns["digits_exact"] = self["has_digits"].copy()
        # A canonical hypothesis has no spaces at its ends.
        self._columns["edge_spaces"] = _float_array(
            score.result.hypothesis != score.hypothesis and score.edge_spaces
            for score in self.scores
        )

    def _set_others(self, chosen: Sequence[tuple[int, LineScore]]) -> None:
        rows = np.array([index for index, _ in chosen], np.int64)
        for view in VIEWS:
            edits = [score.edits[view] for _, score in chosen]
            for name in (*EDITS, *_LENGTHS):
                self._columns[f"{view}.{name}"][rows] = list(map(attrgetter(name), edits))

        self._columns["all_word_edits"][rows] = [
            score.words.distance for _, score in chosen
        ]
        self._columns["class.exact"][rows] = [score.exact for _, score in chosen]
        self._columns["case_insensitive_exact"][rows] = [
            score.exact or score.reference.lower() == score.hypothesis.lower()
            for _, score in chosen
        ]
        for index, score in chosen:
            self._columns[f"class.{score.error_class.value}"][index] = 1.0
            if score.space_kind:
                self._columns[f"space.{score.space_kind}"][index] = 1.0
            for flag in score.flags:
                self._columns[f"flag.{flag}"][index] = 1.0

        self._columns["digits_exact"] *= 1.0 - self["flag.digit_error"]
        self._columns["readable"] *= 1.0 - self["flag.oov_ref"]
        self._columns["readable"] *= 1.0 - self["flag.ctc_infeasible"]
        self._columns["readable"] *= 1.0 - self["flag.not_in_store"]

    def _set_raw(self, chosen: Sequence[tuple[int, LineScore]]) -> None:
        """Fill in exact lines whose texts as given differ."""
        rows = np.array([index for index, _ in chosen], np.int64)
        for name in (*EDITS, *_LENGTHS):
            values = [getattr(score.edits["raw"], name) for _, score in chosen]
            self._columns[f"raw.{name}"][rows] = values

    def _derive(self) -> None:
        for view in VIEWS:
            reference_length = self[f"{view}.reference_length"]
            longer = np.maximum(reference_length, self[f"{view}.hypothesis_length"])
            distance = np.sum([self[f"{view}.{kind}"] for kind in EDITS], axis=0)
            has_reference = (reference_length > 0).astype(np.float64)

            self._columns[f"{view}.has_reference"] = has_reference
            self._columns[f"{view}.exact"] = (distance == 0).astype(np.float64)
            self._columns[f"{view}.ned"] = distance / np.maximum(longer, 1)
            self._columns[f"{view}.all_edits"] = distance
            self._columns[f"{view}.edits"] = has_reference * distance
            for kind in EDITS:
                self._columns[f"{view}.{kind}"] = has_reference * self[f"{view}.{kind}"]

        self._columns["word_edits"] = (
            self["canonical.has_reference"] * self["all_word_edits"]
        )


def _float_array(values: Iterable[float]) -> Column:
    return np.fromiter(values, np.float64)


def _names() -> Iterator[str]:
    """Columns that start as zeros."""
    yield from (f"{view}.{name}" for view in VIEWS for name in (*EDITS, *_LENGTHS))
    yield "all_word_edits"
    yield from (f"class.{error_class.value}" for error_class in ErrorClass)
    yield from (f"space.{kind}" for kind in SPACE_KINDS)
    yield from (f"flag.{flag}" for flag in FLAGS)
