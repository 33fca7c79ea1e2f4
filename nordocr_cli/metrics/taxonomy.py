"""Error classes of a line: exactly one of them for each pair of texts, decided by the first rule that applies.

The rules, their reasons and examples are in docs/taxonomy.md. A change of a rule or of a threshold is a new `VERSION`.
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rapidfuzz.distance import Levenshtein

from nordocr_cli.metrics.text import canonical

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
    """What a class says in one line; `actionable` is yes, partly or no; `advice` what to do about it."""

    definition: str
    actionable: str
    advice: str


MEANING: dict[ErrorClass, Meaning] = {
    ErrorClass.SPACE_ONLY: Meaning("equal once all spaces are taken out", "no", "often the reference's own habit"),
    ErrorClass.RIGHT_TRUNCATION: Meaning("read up to a point; the rest is missing", "yes", "train and serve wider lines"),
    ErrorClass.LEADING_GARBAGE: Meaning("the whole line, with something before it", "yes", "fix the left edge of the boxes"),
    ErrorClass.TRAILING_GARBAGE: Meaning("the whole line, with something after it", "no", "if many: padding is decoded"),
    ErrorClass.MINOR: Meaning("up to two edits, or a tenth of the line", "partly", "more training data"),
    ErrorClass.MAJOR: Meaning("everything else, an empty reading too", "partly", "look at the lines"),
}

SPACE_KINDS = ("grouping", "word_boundary")

# Flags say more about a line and exclude nothing: a line can carry several, or none.
FLAGS: dict[str, str] = {
    "digit_error": "the digits, in order, differ",
    "case_only": "equal (without spaces) once both are lower case",
    "diacritic_only": "equal (without spaces) once accents, rings, dots and strokes are taken off: å a, ö ø o, ð d, æ ae, þ th",
    "punct_only": "equal (without spaces) once punctuation and symbols are taken out",
    "quote_dash_only": "equal (without spaces) once all quotes are one and all dashes are one",
    "left_truncation": "the beginning is missing, by the rule of right_truncation mirrored",
    "empty_hyp": "nothing was read",
    "duplicate_run": "two or more characters stand twice in a row where the reference has them once",
    "empty_ref": "the reference is empty: the line has no character error rate",
    "oov_ref": "the reference holds characters outside the charset: it can never be read exactly",
    "over_wide": "the crop was wider than the geometry allows, and was squashed or cropped",
    "ctc_infeasible": "the reference needs more CTC frames than the line has: it can never be read exactly",
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
    r, h = canonical(reference), canonical(hypothesis)
    if r == h:
        return ErrorClass.EXACT
    a, b = r.replace(" ", ""), h.replace(" ", "")
    if a == b:
        return ErrorClass.SPACE_ONLY
    if a and b:
        first_of_h, last_of_h, last_of_r = h.split(" ", 1)[0], h.rsplit(" ", 1)[-1], r.rsplit(" ", 1)[-1]
        # (gap - residual edits, class); max() keeps the first of equals, so the order written here settles ties.
        edges = [
            (_edge_score(b, a, len(last_of_r)), ErrorClass.RIGHT_TRUNCATION),
            (_edge_score(a[::-1], b[::-1], len(first_of_h)), ErrorClass.LEADING_GARBAGE),
            (_edge_score(a, b, len(last_of_h)), ErrorClass.TRAILING_GARBAGE),
        ]
        qualified = [(score, edge) for score, edge in edges if score is not None]
        if qualified:
            return max(qualified, key=lambda found: found[0])[1]
    distance, longer = Levenshtein.distance(a, b), max(len(a), len(b))
    if distance <= max(MINOR_MIN_EDITS, _floor_share(MINOR_MAX_SHARE, longer)) and distance <= MINOR_MAX_HALF * longer:
        return ErrorClass.MINOR
    return ErrorClass.MAJOR


def space_kind(reference: str, hypothesis: str) -> str:
    """Return the kind of a space_only pair: `grouping` if every space that differs stands between two digits, else
    `word_boundary`."""
    r, h = canonical(reference), canonical(hypothesis)
    text = r.replace(" ", "")
    between_digits = (text[i - 1].isdigit() and text[i].isdigit() for i in _space_positions(r) ^ _space_positions(h))
    return "grouping" if all(between_digits) else "word_boundary"


def text_flags(reference: str, hypothesis: str) -> list[str]:
    """Return the flags of a failure that follow from its two texts, in the order of FLAGS; none for equal texts."""
    r, h = canonical(reference), canonical(hypothesis)
    if r == h:
        return [] if r else ["empty_ref"]
    a, b = r.replace(" ", ""), h.replace(" ", "")
    differs = a != b
    found = {
        "digit_error": [c for c in a if c.isdigit()] != [c for c in b if c.isdigit()],
        "case_only": differs and a.lower() == b.lower(),
        "diacritic_only": differs and _plain_letters(a) == _plain_letters(b),
        "punct_only": differs and _without_punctuation(a) == _without_punctuation(b),
        "quote_dash_only": differs and a.translate(_ONE_QUOTE_ONE_DASH) == b.translate(_ONE_QUOTE_ONE_DASH),
        "left_truncation": bool(a and b) and _edge_score(b[::-1], a[::-1], len(r.split(" ", 1)[0])) is not None,
        "empty_hyp": not h,
        "duplicate_run": any(match[0] not in a for match in _TWICE.finditer(b)),
        "empty_ref": not r,
    }
    return [flag for flag, holds in found.items() if holds]


def _edge_score(whole_side: str, cut_side: str, edge_token: int) -> int | None:
    """Match all of `whole_side` with a beginning of `cut_side`; return gap - residual edits if the rest of `cut_side` (the
    gap) qualifies as a free edge, else None. `edge_token` is the length of the last token of `cut_side`."""
    # Ties: the longest beginning.
    residual, matched = min(
        ((Levenshtein.distance(whole_side, cut_side[:n]), n) for n in range(len(cut_side) + 1)), key=lambda e: (e[0], -e[1])
    )
    gap = len(cut_side) - matched
    # A gap below EDGE_MIN_GAP is one character: it is whole tokens exactly when the edge token is that long.
    qualifies = (
        (gap >= EDGE_MIN_GAP or gap == 1 == edge_token)
        and matched + 1e-9 >= EDGE_MIN_MATCHED * len(cut_side)
        and residual <= _floor_share(EDGE_MAX_RESIDUAL, matched)
    )
    return gap - residual if qualifies else None


def _floor_share(share: float, length: int) -> int:
    """floor(share · length), without the float error that turns 0.1 · 30 into 2.9999…"""
    return int(share * length + 1e-9)


def _space_positions(text: str) -> set[int]:
    """Indices, in the text without spaces, of the characters that follow a space."""
    positions, characters = set(), 0
    for character in text:
        if character == " ":
            positions.add(characters)
        else:
            characters += 1
    return positions


_TWICE = re.compile(r"(.{2,64}?)\1", re.DOTALL)
_STROKES = str.maketrans({"ø": "o", "Ø": "O", "ð": "d", "Ð": "D", "đ": "d", "æ": "ae", "Æ": "AE", "þ": "th", "Þ": "TH"})
_ONE_QUOTE_ONE_DASH = str.maketrans(
    dict.fromkeys("\"'`´‘’‚‛“”„‟«»‹›′″", "'") | dict.fromkeys("-‐‑‒–—―−", "-"),
)


def _plain_letters(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text.translate(_STROKES))
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def _without_punctuation(text: str) -> str:
    return "".join(c for c in text if unicodedata.category(c)[0] not in "PS")
