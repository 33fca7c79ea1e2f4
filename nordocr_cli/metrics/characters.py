"""How well each character is read: precision and recall by alignment, in the canonical view, and
summed up by kind.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import model_serializer, model_validator

from nordocr_cli.metrics.result_model import ResultModel
from nordocr_cli.metrics.text import character_codes, confusions, count_characters, rate

NORDIC_LETTERS = frozenset("åäöæøðþÅÄÖÆØÐÞ")
CHARACTER_KINDS = (
    "digit",
    "A-Z",
    "a-z",
    "Nordic letter",
    "other letter",
    "punctuation",
    "space",
)


class CharacterScore(ResultModel):
    """A character, or a kind of them: `hits` stand there and were read, `missed` stand there and
    were not read, `invented` were read and do not stand there. A substitution is one missed and one
    invented.
    """

    name: str
    hits: int
    missed: int
    invented: int

    @property
    def occurrences(self) -> int:
        """How often it stands in the references."""
        return self.hits + self.missed

    @property
    def precision(self) -> float | None:
        """Of those read, the share that stands there."""
        return rate(self.hits, self.hits + self.invented)

    @property
    def recall(self) -> float | None:
        """Of those that stand there, the share that was read."""
        return rate(self.hits, self.occurrences)

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; None when it neither stands anywhere nor was
        read.
        """
        return rate(2 * self.hits, 2 * self.hits + self.missed + self.invented)

    @model_validator(mode="before")
    @classmethod
    def _from_json(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "name" not in value:
            return {**value, "name": value.get("kind", value.get("char"))}
        return value

    @model_serializer
    def _serialize(self) -> dict[str, Any]:
        """Counts and rates, with the code point of a character."""
        if len(self.name) == 1:
            name = character_codes(self.name)
        else:
            name = {"kind": self.name}
        counts = {"hits": self.hits, "missed": self.missed, "invented": self.invented}
        return {
            **name,
            **counts,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
        }


class CharacterReport(ResultModel):
    """The kinds that occur, in the order of KINDS, and each character, the one with the most
    mistakes first.
    """

    kinds: tuple[CharacterScore, ...]
    each: tuple[CharacterScore, ...]


def kind_of(character: str) -> str:
    """Return which of KINDS a character is."""
    if character in NORDIC_LETTERS:
        return "Nordic letter"
    if character == " ":
        return "space"
    category = unicodedata.category(character)
    if category.startswith("N"):
        return "digit"
    if not category.startswith("L"):
        return "punctuation"
    if not character.isascii():
        return "other letter"
    if character.isupper():
        return "A-Z"
    return "a-z"


def score_characters(pairs: Sequence[tuple[str, str]]) -> CharacterReport:
    """Align (reference, hypothesis) of lines, both canonical, and count."""
    hits = count_characters(reference for reference, _ in pairs)
    missed = Counter[str]()
    invented = Counter[str]()
    for (expected, found), times in _confusions_of(pairs).items():
        missed[expected] += times
        invented[found] += times
    del missed[""], invented[""]  # nothing is no character
    hits -= missed

    each = [
        CharacterScore(name=c, hits=hits[c], missed=missed[c], invented=invented[c])
        for c in hits | missed | invented
    ]
    each.sort(key=lambda score: (-score.missed - score.invented, score.name))
    return CharacterReport(kinds=_by_kind(each), each=tuple(each))


def _confusions_of(pairs: Sequence[tuple[str, str]]) -> Counter[tuple[str, str]]:
    counts = Counter[tuple[str, str]]()
    for reference, hypothesis in pairs:
        if reference != hypothesis:
            counts.update(confusions(reference, hypothesis))
    return counts


def _by_kind(each: Sequence[CharacterScore]) -> tuple[CharacterScore, ...]:
    kinds = []
    for kind in CHARACTER_KINDS:
        members = [score for score in each if kind_of(score.name) == kind]
        if not members:
            continue
        kinds.append(
            CharacterScore(
                name=kind,
                hits=sum(score.hits for score in members),
                missed=sum(score.missed for score in members),
                invented=sum(score.invented for score in members),
            )
        )
    return tuple(kinds)
