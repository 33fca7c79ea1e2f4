"""Labels from agreement: the lines on which independent engines read the same, chosen so that the
share of a character class does not drift.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nordocr_cli.metrics.text import canonical, squeezed

# Watched because engines of other languages agree on wrong ones, or on none.
WATCHED: dict[str, str] = {
    "å ä ö": "åäöÅÄÖ",
    "æ ø": "æøÆØ",
    "other accents": "áàâãéèêëíìîïóòôõúùûüýÿçñÁÀÂÃÉÈÊËÍÌÎÏÓÒÔÕÚÙÛÜÝÇÑþðÞÐ",
    "digits": "0123456789",
}
_MAX_DRIFT = (
    0.8  # the share of a class among labels may fall to this part of that in all lines
)
_MAX_DROPPED = 0.5  # of the labels, to bring a class back to its share
_MIN_CHARACTERS = 2  # shorter readings agree by chance


@dataclass(frozen=True)
class LineReadings:
    """What the engines read on one line. `text` by engine; `confidence` is that of our recognizer,
    `document` what to split by.
    """

    id: str
    image: str
    document: str
    texts: Mapping[str, str]
    confidence: float


@dataclass(frozen=True)
class Label:
    """A line with the text that engines agree on; `votes` names them."""

    line: LineReadings
    text: str
    votes: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """The labels that were chosen, the lines on which no two engines agree, and the share of each
    watched class in our readings of all lines and in the labels. `dropped` labels were left out so
    that no class drifts.
    """

    labels: tuple[Label, ...]
    open_lines: tuple[LineReadings, ...]
    shares: Mapping[str, tuple[float, float]]
    dropped: int

    @property
    def drifting(self) -> tuple[str, ...]:
        """Classes whose share is too low among the labels in spite of the balancing."""
        return tuple(
            name
            for name, (expected, found) in self.shares.items()
            if expected and found < _MAX_DRIFT * expected
        )


def choose_labels(lines: Sequence[LineReadings], own: str, seed: int = 1) -> Choice:
    """Take as labels the lines on which two engines agree after normalization, spaces aside. `own`
    names our recognizer among the engines; its spaces are taken where it is one of those that
    agree, since others drop wide gaps.
    """
    labels = []
    open_lines = []
    for line in lines:
        label = _agreed(line, own)
        if label is None:
            open_lines.append(line)
        else:
            labels.append(label)
    expected = class_shares([line.texts[own] for line in lines])
    kept = _balanced(labels, expected, seed)
    found = class_shares([label.text for label in kept])
    shares = {name: (expected[name], found[name]) for name in WATCHED}
    return Choice(tuple(kept), tuple(open_lines), shares, len(labels) - len(kept))


def class_shares(texts: Sequence[str]) -> dict[str, float]:
    """Return the share of each watched class among the characters of texts, spaces aside."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    total = sum(count for character, count in counts.items() if not character.isspace())
    return {
        name: sum(counts[character] for character in characters) / max(1, total)
        for name, characters in WATCHED.items()
    }


def _agreed(line: LineReadings, own: str) -> Label | None:
    """Return the label of a line: the text that most engines share, two at least."""
    by_text: dict[str, list[str]] = {}
    for engine, text in line.texts.items():
        key = squeezed(text)
        if len(key) >= _MIN_CHARACTERS:
            by_text.setdefault(key, []).append(engine)
    if not by_text:
        return None
    engines = max(by_text.values(), key=len)
    if len(engines) < 2:
        return None
    source = own if own in engines else engines[0]
    return Label(line, canonical(line.texts[source]), tuple(engines))


def _balanced(
    labels: Sequence[Label], expected: Mapping[str, float], seed: int
) -> list[Label]:
    """Drop labels without the characters of a class that has become too rare among them, at random,
    up to half of all labels.
    """
    minimum = len(labels) * (1 - _MAX_DROPPED)
    order = list(range(len(labels)))
    random.Random(seed).shuffle(order)
    dropped: set[int] = set()

    def kept() -> list[Label]:
        return [label for index, label in enumerate(labels) if index not in dropped]

    for name, characters in WATCHED.items():
        wanted = _MAX_DRIFT * expected[name]
        without = [
            index for index in order if not set(labels[index].text) & set(characters)
        ]
        while wanted and without and len(labels) - len(dropped) > minimum:
            if class_shares([label.text for label in kept()])[name] >= wanted:
                break
            # A twentieth at a time: counting again after each one would take long.
            count = max(1, len(labels) // 20)
            dropped.update(without[:count])
            without = without[count:]
    return kept()
