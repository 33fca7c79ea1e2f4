"""Voting of several engines on one line, character by character.

Recognizers that were made apart seldom make the same error at the same place, so a character that
two of them read there is nearly always right. (J. G. Fiscus, "A post-processing system to yield
reduced word error rates: Recognizer Output Voting Error Reduction (ROVER)", 1997, votes the same
way, on words.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from nordocr_cli.metrics.text import canonical, squeezed

# Shorter readings agree by chance: as they stand, and where each character has another witness.
_MIN_CHARACTERS = 2
_MIN_VOTED = 8
# An engine that differs in more than this part of the characters has read something else.
_MAX_DIFFERENCE = 0.5


@dataclass(frozen=True)
class Vote:
    """What a vote on one line came to. `text` is what the engines agree on, None when some
    character is not confirmed; `complete` says that two engines read the same line, spaces aside.
    `confirmed` holds the characters of our own reading that another engine reads too.
    """

    text: str | None
    complete: bool
    confirmed: str


@dataclass(frozen=True)
class _Alignment:
    """How one reading supports another one, spaces aside: whether it has the same character at each
    place, whether it puts one more in front of each place or at the end, and whether it has a space
    in front of each place (None where it has no character there).
    """

    same: list[bool]
    inserts: list[bool]
    spaces: list[bool | None]


def vote(texts: Mapping[str, str], own: str) -> Vote:
    """Vote on a line that engines read as `texts`; `own` names our recognizer among them."""
    readings = {engine: canonical(text) for engine, text in texts.items()}
    # Our spaces and Tesseract's are better than PP-OCR's, which drops some.
    order = sorted(
        readings, key=lambda engine: (engine != own, -readings[engine].count(" "))
    )
    votes = [
        _support(readings[pivot], [readings[other] for other in order if other != pivot])
        for pivot in order
    ]
    found = [one for one in votes if one.text is not None]
    found.sort(key=lambda one: not one.complete)
    if not found:
        return Vote(None, False, votes[0].confirmed)
    return Vote(found[0].text, found[0].complete, votes[0].confirmed)


def _support(pivot: str, others: Sequence[str]) -> Vote:
    """Find what of one reading the others confirm."""
    text = squeezed(pivot)
    aligned = [_align(pivot, other) for other in others]
    close = [
        one
        for one, other in zip(aligned, others, strict=True)
        if _is_close(text, squeezed(other))
    ]
    witnessed = [any(one.same[at] for one in close) for at in range(len(text))]
    confirmed = "".join(
        letter for letter, known in zip(text, witnessed, strict=True) if known
    )
    complete = any(all(one.same) and not any(one.inserts) for one in close)
    minimum = _MIN_CHARACTERS if complete else _MIN_VOTED
    if len(text) < minimum or not all(witnessed):
        return Vote(None, False, confirmed)
    if not complete and _is_short(close, len(text)):
        return Vote(None, False, confirmed)
    return Vote(_spaced(pivot, close), complete, confirmed)


def _is_close(text: str, other: str) -> bool:
    longer = max(len(text), len(other), 1)
    return Levenshtein.distance(text, other) <= _MAX_DIFFERENCE * longer


def _is_short(close: list[_Alignment], length: int) -> bool:
    """Whether every other engine reads one more character at the same place."""
    return any(all(one.inserts[at] for one in close) for at in range(length + 1))


def _align(pivot: str, other: str) -> _Alignment:
    """Align `other` to `pivot`, both with their spaces."""
    text = squeezed(pivot)
    theirs = squeezed(other)
    in_front = _spaces_in_front(other)
    same = [False] * len(text)
    inserts = [False] * (len(text) + 1)
    spaces: list[bool | None] = [None] * len(text)
    for operation in Levenshtein.opcodes(text, theirs):
        start = operation.src_start
        there = operation.dest_start
        if operation.tag == "insert":
            inserts[start] = True
            continue
        if operation.tag == "delete":
            continue
        for step in range(operation.src_end - start):
            same[start + step] = operation.tag == "equal"
            spaces[start + step] = in_front[there + step]
    return _Alignment(same, inserts, spaces)


def _spaces_in_front(text: str) -> list[bool]:
    """Return for each character but spaces whether a space stands in front of it."""
    return [
        at > 0 and text[at - 1] == " " for at, letter in enumerate(text) if letter != " "
    ]


def _spaced(pivot: str, others: list[_Alignment]) -> str:
    """Return the pivot's characters with spaces where most engines have one; the pivot decides
    where they are even.
    """
    written = []
    for at, (letter, own_space) in enumerate(
        zip(squeezed(pivot), _spaces_in_front(pivot), strict=True)
    ):
        opinions = [own_space, *(one.spaces[at] for one in others)]
        balance = opinions.count(True) - opinions.count(False)
        has_space = own_space if balance == 0 else balance > 0
        written.append(f" {letter}" if has_space else letter)
    return "".join(written).strip()
