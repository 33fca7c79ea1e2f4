"""Error classes of a line: exactly one of them for each pair of texts, decided by the first rule
that applies.

The rules, their reasons and examples are in docs/taxonomy.md. A change of a rule or of a threshold
is a new `VERSION`.
"""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any

from rapidfuzz.distance import Levenshtein, Postfix, Prefix

from nordocr_cli.metrics.text import DIGIT, canonical

VERSION = 1

# Thresholds of version 1. They travel in every report.
EDGE_MIN_MATCHED = 0.3  # an edge class needs this share of the longer text to be read
EDGE_MAX_RESIDUAL = 0.10  # … with at most this many edits a matched character, rounded down
EDGE_MIN_GAP = 2  # free characters at the edge; one is enough when it is a whole token
MINOR_MIN_EDITS = 2  # up to this many edits are minor in a line of any length
MINOR_MAX_SHARE = 0.10  # … and up to this share of the longer text, rounded down
MINOR_MAX_HALF = 0.5  # but never when more than this share of the longer text is wrong


class ErrorClass(StrEnum):
    """What is wrong with a reading. `exact` is no error; the six others partition the failures."""

    EXACT = "exact"
    SPACE_ONLY = "space_only"
    RIGHT_TRUNCATION = "right_truncation"
    LEADING_GARBAGE = "leading_garbage"
    TRAILING_GARBAGE = "trailing_garbage"
    MINOR = "minor"
    MAJOR = "major"


FAILURES = tuple(c for c in ErrorClass if c is not ErrorClass.EXACT)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a class says in one line; `actionable` is yes, partly or no; `advice` what to do about
    it.
    """

    definition: str
    actionable: str
    advice: str


MEANING: dict[ErrorClass, Meaning] = {
    ErrorClass.SPACE_ONLY: Meaning(
        "equal once all spaces are taken out", "no", "often the reference's own habit"
    ),
    ErrorClass.RIGHT_TRUNCATION: Meaning(
        "read up to a point; the rest is missing", "yes", "train and serve wider lines"
    ),
    ErrorClass.LEADING_GARBAGE: Meaning(
        "the whole line, with something before it", "yes", "fix the left edge of the boxes"
    ),
    ErrorClass.TRAILING_GARBAGE: Meaning(
        "the whole line, with something after it", "no", "if many: padding is decoded"
    ),
    ErrorClass.MINOR: Meaning(
        "up to two edits, or a tenth of the line", "partly", "more training data"
    ),
    ErrorClass.MAJOR: Meaning(
        "everything else, an empty reading too", "partly", "look at the lines"
    ),
}

SPACE_KINDS = ("grouping", "word_boundary")

# Flags say more about a line and exclude nothing: a line can carry several, or none.
FLAGS: dict[str, str] = {
    "digit_error": "the digits, in order, differ",
    "case_only": "equal (without spaces) once both are lower case",
    "diacritic_only": (
        "equal (without spaces) once accents, rings, dots and strokes are taken off: å a, ö ø o, ð"
        " d, æ ae, þ th"
    ),
    "punct_only": "equal (without spaces) once punctuation and symbols are taken out",
    "quote_dash_only": "equal (without spaces) once all quotes are one and all dashes are one",
    "left_truncation": "the beginning is missing, by the rule of right_truncation mirrored",
    "empty_hyp": "nothing was read",
    "duplicate_run": (
        "two or more characters stand twice in a row where the reference has them once"
    ),
    "empty_ref": "the reference is empty: the line has no character error rate",
    "oov_ref": "the reference holds characters outside the charset: it can never be read exactly",
    "over_wide": "the crop was wider than the geometry allows, and was squashed or cropped",
    "ctc_infeasible": (
        "the reference needs more CTC frames than the line has: it can never be read exactly"
    ),
    "not_in_store": (
        "the store could not hold the line (geometry or charset): it counts as read empty"
    ),
}


def thresholds() -> dict[str, Any]:
    """Return the version and every threshold, for a report."""
    return {
        "taxonomy": VERSION,
        "edge_min_matched": EDGE_MIN_MATCHED,
        "edge_max_residual": EDGE_MAX_RESIDUAL,
        "edge_min_gap": EDGE_MIN_GAP,
        "minor_min_edits": MINOR_MIN_EDITS,
        "minor_max_share": MINOR_MAX_SHARE,
        "minor_max_half": MINOR_MAX_HALF,
    }


def classify(reference: str, hypothesis: str) -> ErrorClass:
    """Return the one class of a pair of texts. Both are taken in the canonical view."""
    return judge(canonical(reference), canonical(hypothesis))[0]


def judge(r: str, h: str) -> tuple[ErrorClass, tuple[str, ...]]:
    """Return the class of two texts that are canonical, and the flags that follow from them, in the
    order of FLAGS.
    """
    if r == h:
        return ErrorClass.EXACT, () if r else ("empty_ref",)
    a, b = r.replace(" ", ""), h.replace(" ", "")
    if a == b:
        return ErrorClass.SPACE_ONLY, ()
    distance = Levenshtein.distance(a, b)
    return _class_of(r, h, a, b, distance), _flags_of(r, h, a, b, distance)


def _class_of(r: str, h: str, a: str, b: str, distance: int) -> ErrorClass:
    may_have_edge = _leaves_gap(len(b), len(a), distance) or _leaves_gap(
        len(a), len(b), distance
    )
    if a and b and may_have_edge:
        # (gap - residual edits, class); max() keeps the first of equals, so the order written here
        # settles ties.
        edges = [
            (_edge_score(b, a, distance, r[-2:-1] == " "), ErrorClass.RIGHT_TRUNCATION),
            (
                _edge_score(a[::-1], b[::-1], distance, h[1:2] == " "),
                ErrorClass.LEADING_GARBAGE,
            ),
            (_edge_score(a, b, distance, h[-2:-1] == " "), ErrorClass.TRAILING_GARBAGE),
        ]
        qualified = [(score, edge) for score, edge in edges if score is not None]
        if qualified:
            return max(qualified, key=lambda found: found[0])[1]
    longer = max(len(a), len(b))
    if (
        distance <= max(MINOR_MIN_EDITS, _floor_share(MINOR_MAX_SHARE, longer))
        and distance <= MINOR_MAX_HALF * longer
    ):
        return ErrorClass.MINOR
    return ErrorClass.MAJOR


def space_kind(r: str, h: str) -> str:
    """Return the kind of a space_only pair of canonical texts: `grouping` if every space that
    differs stands between two digits, else `word_boundary`.
    """
    text = r.replace(" ", "")
    between_digits = (
        text[i - 1].isdigit() and text[i].isdigit()
        for i in _space_positions(r) ^ _space_positions(h)
    )
    if all(between_digits):
        return "grouping"
    return "word_boundary"


def _flags_of(r: str, h: str, a: str, b: str, distance: int) -> tuple[str, ...]:
    # Without the beginning and the end that both share: what is equal once the texts are folded, is
    # so in the middle.
    first = Prefix.similarity(a, b)
    last = min(Postfix.similarity(a, b), len(a) - first, len(b) - first)
    middle_a, middle_b = a[first : len(a) - last], b[first : len(b) - last]
    middles = middle_a + middle_b
    plain = middles.isalnum()  # then there is no punctuation, no quote and no dash
    found = []
    if DIGIT.search(middles) and DIGIT.findall(middle_a) != DIGIT.findall(middle_b):
        found.append("digit_error")
    if a.lower() == b.lower():
        found.append("case_only")
    if not middles.isascii() and middle_a.translate(_PLAIN_LETTERS) == middle_b.translate(
        _PLAIN_LETTERS
    ):
        found.append("diacritic_only")
    if not plain and middle_a.translate(_WITHOUT_PUNCTUATION) == middle_b.translate(
        _WITHOUT_PUNCTUATION
    ):
        found.append("punct_only")
    if not plain and middle_a.translate(_ONE_QUOTE_ONE_DASH) == middle_b.translate(
        _ONE_QUOTE_ONE_DASH
    ):
        found.append("quote_dash_only")
    may_be_cut = a and b and _leaves_gap(len(b), len(a), distance)
    if may_be_cut and _edge_score(b[::-1], a[::-1], distance, r[1:2] == " ") is not None:
        found.append("left_truncation")
    if not h:
        found.append("empty_hyp")
    if _doubles_anew(a, b, first, len(b) - last):
        found.append("duplicate_run")
    if not r:
        found.append("empty_ref")
    return tuple(found)


def _doubles_anew(a: str, b: str, start: int, end: int) -> bool:
    """Whether something stands twice in a row in `b` and not in `a`, which differ at
    b[start:end].
    """
    # It reaches into what differs; so one of the pairs of characters there stands in `b` twice.
    # Most often none does.
    pairs = (b[i : i + 2] for i in range(max(0, start - 1), min(len(b) - 1, end + 1)))
    return any(b.count(pair) > 1 for pair in pairs) and any(
        twice not in a for twice in _doubled(b, end)
    )


def _leaves_gap(whole: int, cut: int, distance: int) -> bool:
    """Whether a text of `cut` characters can have a free edge next to one of `whole` characters
    that is read completely: for most lines it cannot.
    """
    return cut >= whole - distance + 2


def _edge_score(whole_side: str, cut_side: str, distance: int, single: bool) -> int | None:
    """Match all of `whole_side` with a beginning of `cut_side`; return gap - residual edits if the
    rest of `cut_side` (the gap) qualifies as a free edge, else None. `distance` is that of the
    whole texts, `single` says that the last token of `cut_side` is one character.
    """
    whole, cut = len(whole_side), len(cut_side)
    if not _leaves_gap(whole, cut, distance):
        return None
    # A beginning of n characters costs at least |whole - n| edits. The best one leaves a gap only
    # if it costs less than the whole cut side does, and qualifies only with a share of n at most:
    # few have to be tried, most often none.
    most = min(
        distance - 1, _floor_share(EDGE_MAX_RESIDUAL / (1 - EDGE_MAX_RESIDUAL), whole)
    )
    residual, matched = most + 1, 0
    for n in range(min(cut - 1, whole + most), max(0, whole - most) - 1, -1):
        if abs(whole - n) < residual:  # ties: the longest beginning
            found = Levenshtein.distance(
                whole_side, cut_side[:n], score_cutoff=residual - 1
            )
            if found < residual:
                residual, matched = found, n
    gap = cut - matched
    # A gap below EDGE_MIN_GAP is one character: it is whole tokens exactly when the edge token is
    # that long.
    qualifies = (
        residual <= min(most, _floor_share(EDGE_MAX_RESIDUAL, matched))
        and (gap >= EDGE_MIN_GAP or single)
        and matched + 1e-9 >= EDGE_MIN_MATCHED * cut
    )
    if qualifies:
        return gap - residual
    return None


def _floor_share(share: float, length: int) -> int:
    """floor(share · length), without the float error that turns 0.1 · 30 into 2.9999…"""
    return int(share * length + 1e-9)


def _space_positions(text: str) -> set[int]:
    """Indices, in the text without spaces, of the characters that follow a space."""
    lengths = map(len, text.split(" ")[:-1])
    return set(accumulate(lengths))


_LONGEST_RUN = 64


def _doubled(text: str, end: int) -> Iterator[str]:
    """Yield what stands twice in a row, 2 to _LONGEST_RUN characters long, from left to right, the
    shortest at a place; of those that begin before `end`.
    """
    at, end = 0, min(end, len(text) - 3)
    while at < end:
        pair = text[at : at + 2]
        again = text.find(pair, at + 2, at + _LONGEST_RUN + 2)
        while again >= 0 and text[at:again] != text[again : 2 * again - at]:
            again = text.find(pair, again + 1, at + _LONGEST_RUN + 2)
        if again < 0:
            at += 1
        else:
            yield text[at : 2 * again - at]
            at = 2 * again - at


_STROKES = str.maketrans(
    {
        "ø": "o",
        "Ø": "O",
        "ð": "d",
        "Ð": "D",
        "đ": "d",
        "æ": "ae",
        "Æ": "AE",
        "þ": "th",
        "Þ": "TH",
    }
)
_ONE_QUOTE_ONE_DASH = str.maketrans(
    dict.fromkeys("\"'`´‘’‚‛“”„‟«»‹›′″", "'") | dict.fromkeys("-‐‑‒–—―−", "-"),
)


class _Folding(dict[int, str]):
    """A table for str.translate that asks `fold` once for each character."""

    def __init__(self, fold: Callable[[str], str]) -> None:
        super().__init__()
        self._fold = fold

    def __missing__(self, code: int) -> str:
        self[code] = self._fold(chr(code))
        return self[code]


def _plain_letter(character: str) -> str:
    decomposed = unicodedata.normalize("NFD", character.translate(_STROKES))
    return "".join(c for c in decomposed if not unicodedata.combining(c))


_PLAIN_LETTERS = _Folding(_plain_letter)
_WITHOUT_PUNCTUATION = _Folding(
    lambda character: "" if unicodedata.category(character)[0] in "PS" else character
)
