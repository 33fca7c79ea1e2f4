"""Labels from agreement: the lines of which each character is read by two independent engines,
chosen so that the share of a character class does not drift.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nordocr_cli.core.adapt.voting import Vote, vote

# Watched because engines of other languages agree on wrong ones, or on none.
WATCHED: dict[str, str] = {
    "å ä ö": "åäöÅÄÖ",
    "æ ø": "æøÆØ",
    "other accents": "áàâãéèêëíìîïóòôõúùûüýÿçñÁÀÂÃÉÈÊËÍÌÎÏÓÒÔÕÚÙÛÜÝÇÑþðÞÐ",
    "digits": "0123456789",
}
# The share of a class among labels may differ from that in all lines by these factors.
_MIN_SHARE = 0.8
_MAX_SHARE = 1.25
_MAX_DROPPED = 0.5  # of the labels, to bring a class back to its share
_AT_ONCE = 20  # a twentieth of the labels is dropped before the shares are counted again
# A class is unconfirmed when our recognizer reads it this often, and the other engines confirm less
# than this part of it.
_MIN_READ = 0.001
_MIN_CONFIRMED = 0.3


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
    """A line with the text that engines agree on. `complete` says that two engines read the same
    line; otherwise each character is confirmed by one engine or another.
    """

    line: LineReadings
    text: str
    complete: bool


@dataclass(frozen=True)
class LabelChoice:
    """The labels that were chosen, the lines without one, and the share of each watched class among
    the confirmed characters of all lines and among the labels. `dropped` labels were left out so
    that no class drifts; of the classes `unconfirmed` other engines confirm hardly any.
    """

    labels: tuple[Label, ...]
    open_lines: tuple[LineReadings, ...]
    shares: Mapping[str, tuple[float, float]]
    dropped: int
    unconfirmed: tuple[str, ...] = ()

    @property
    def drifting(self) -> tuple[str, ...]:
        """Classes whose share among the labels is off in spite of the balancing."""
        return tuple(
            name
            for name, (expected, found) in self.shares.items()
            if _is_off(expected, found)
        )


def choose_labels(lines: Sequence[LineReadings], own: str, seed: int = 1) -> LabelChoice:
    """Take as labels the lines of which two engines, spaces aside, read each character. `own` names
    our recognizer among the engines; its spaces decide where the others differ.
    """
    votes = [vote(line.texts, own) for line in lines]
    labels = []
    open_lines = []
    for line, found in zip(lines, votes, strict=True):
        if found.text is None:
            open_lines.append(line)
        else:
            labels.append(Label(line, found.text, found.complete))
    expected = class_shares([found.confirmed for found in votes])
    kept = _balanced(labels, expected, seed)
    in_labels = class_shares([label.text for label in kept])
    return LabelChoice(
        labels=tuple(kept),
        open_lines=tuple(open_lines),
        shares={name: (expected[name], in_labels[name]) for name in WATCHED},
        dropped=len(labels) - len(kept),
        unconfirmed=_unconfirmed([line.texts[own] for line in lines], votes),
    )


def class_shares(texts: Sequence[str]) -> dict[str, float]:
    """Return the share of each watched class among the characters of texts, spaces aside."""
    counts = _class_counts(texts)
    total = sum(len(text) - text.count(" ") for text in texts)
    return {name: count / max(1, total) for name, count in counts.items()}


def _class_counts(texts: Sequence[str]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return {
        name: sum(counts[character] for character in characters)
        for name, characters in WATCHED.items()
    }


def _unconfirmed(readings: Sequence[str], votes: Sequence[Vote]) -> tuple[str, ...]:
    """Return the classes that our recognizer reads and the other engines do not: it invents them,
    or they cannot read them.
    """
    read = _class_counts(readings)
    confirmed = _class_counts([found.confirmed for found in votes])
    shares = class_shares(readings)
    return tuple(
        name
        for name in WATCHED
        if shares[name] >= _MIN_READ and confirmed[name] < _MIN_CONFIRMED * read[name]
    )


def _is_off(expected: float, found: float) -> bool:
    too_low = found < _MIN_SHARE * expected
    too_high = expected > 0 and found > _MAX_SHARE * expected
    return too_low or too_high


def _balanced(
    labels: Sequence[Label], expected: Mapping[str, float], seed: int
) -> list[Label]:
    """Drop labels at random, up to half of them, until each watched class has its share: those
    without the class where it is too rare, those full of it where it is too frequent.
    """
    at_once = max(1, len(labels) // _AT_ONCE)
    minimum = len(labels) * (1 - _MAX_DROPPED)
    kept = list(labels)
    random.Random(seed).shuffle(kept)
    for name, characters in WATCHED.items():
        while len(kept) - at_once >= minimum:
            found = class_shares([label.text for label in kept])[name]
            if not _is_off(expected[name], found):
                break
            too_rare = found < expected[name]
            removable = [
                label
                for label in kept
                if _may_go(label.text, characters, expected[name], too_rare)
            ]
            if not removable:
                break
            gone = {label.line.id for label in removable[:at_once]}
            kept = [label for label in kept if label.line.id not in gone]
    in_order = {label.line.id for label in kept}
    return [label for label in labels if label.line.id in in_order]


def _may_go(text: str, characters: str, expected: float, too_rare: bool) -> bool:
    """Whether dropping a label of this text brings the class nearer to its share."""
    count = sum(text.count(character) for character in characters)
    if too_rare:
        return count == 0
    return count > _MAX_SHARE * expected * len(text)
