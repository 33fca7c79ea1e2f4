"""How well each character is read: precision and recall by alignment, in the canonical view, and
summed up by kind.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nordocr_cli.metrics.text import confusions, count_characters, describe, rate

NORDIC = frozenset("åäöæøðþÅÄÖÆØÐÞ")
KINDS = ("digit", "A-Z", "a-z", "Nordic letter", "other letter", "punctuation", "space")


@dataclass(frozen=True, slots=True)
class CharacterScore:
    """A character, or a kind of them: `hits` stand there and were read, `missed` stand there and
    were not, `invented` were read and do not stand there. A substitution is one missed and one
    invented.
    """

    name: str
    hits: int
    missed: int
    invented: int

    @property
    def wanted(self) -> int:
        """How often it stands in the references."""
        return self.hits + self.missed

    @property
    def precision(self) -> float | None:
        """Of those read, the share that stands there."""
        return rate(self.hits, self.hits + self.invented)

    @property
    def recall(self) -> float | None:
        """Of those that stand there, the share that was read."""
        return rate(self.hits, self.wanted)

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; None when it neither stands anywhere nor was
        read.
        """
        return rate(2 * self.hits, 2 * self.hits + self.missed + self.invented)

    def to_json(self) -> dict[str, Any]:
        """Return counts and rates, with the code point of a character."""
        name = describe(self.name) if len(self.name) == 1 else {"kind": self.name}
        counts = {"hits": self.hits, "missed": self.missed, "invented": self.invented}
        return {**name, **counts, "precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclass(frozen=True)
class CharacterReport:
    """The kinds that occur, in the order of KINDS, and each character, the one with the most
    mistakes first.
    """

    kinds: tuple[CharacterScore, ...]
    each: tuple[CharacterScore, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "kinds": [score.to_json() for score in self.kinds],
            "each": [score.to_json() for score in self.each],
        }


def kind_of(character: str) -> str:
    """Return which of KINDS a character is."""
    if character in NORDIC:
        return "Nordic letter"
    if character == " ":
        return "space"
    category = unicodedata.category(character)
    if category.startswith("N"):
        return "digit"
    if not category.startswith("L"):
        return "punctuation"
    return "other letter" if not character.isascii() else "A-Z" if character.isupper() else "a-z"


def score_characters(pairs: Sequence[tuple[str, str]]) -> CharacterReport:
    """Align (reference, reading) of lines, both canonical, and count."""
    hits, missed, invented = (
        count_characters(wanted for wanted, _ in pairs),
        Counter[str](),
        Counter[str](),
    )
    confused = Counter(
        pair for wanted, read in pairs if wanted != read for pair in confusions(wanted, read)
    )
    for (wanted, read), times in confused.items():
        missed[wanted] += times
        invented[read] += times
    del missed[""], invented[""]  # nothing is no character
    hits -= missed
    each = [CharacterScore(c, hits[c], missed[c], invented[c]) for c in hits | missed | invented]
    kinds = []
    for kind in KINDS:
        members = [score for score in each if kind_of(score.name) == kind]
        if members:
            sums = (
                sum(getattr(score, field) for score in members)
                for field in ("hits", "missed", "invented")
            )
            kinds.append(CharacterScore(kind, *sums))
    return CharacterReport(
        tuple(kinds), tuple(sorted(each, key=lambda s: (-s.missed - s.invented, s.name)))
    )
