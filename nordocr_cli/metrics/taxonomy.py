"""Error classes of lines: each pair of texts has exactly one, decided by the first rule that
applies.

docs/taxonomy.md has the rules, their reasons and examples. A change of a rule or of a threshold
needs a new `VERSION`.
"""

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any

from rapidfuzz.distance import Levenshtein, Postfix, Prefix

from nordocr_cli.metrics.text import DIGIT, canonical

TAXONOMY_VERSION = 1

# Thresholds of version 1. They travel in every report.
EDGE_MIN_MATCHED = 0.3  # an edge class needs this share of the longer text to be read
EDGE_MAX_RESIDUAL = 0.10  # … with at most this many edits a matched character, rounded down
EDGE_MIN_GAP = 2  # free characters at the edge; one is enough when it is a whole token
MINOR_MIN_EDITS = 2  # up to this many edits are minor in a line of any length
MINOR_MAX_SHARE = 0.10  # … and up to this share of the longer text, rounded down
MINOR_MAX_HALF = 0.5  # but never when more than this share of the longer text is wrong


class ErrorClass(StrEnum):
    """What is wrong with a hypothesis. All but `exact` are failures."""

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
    """What a class means. `actionable` is yes, partly or no; `advice` says what to do about it."""

    definition: str
    actionable: str
    advice: str


MEANING: dict[ErrorClass, Meaning] = {
    ErrorClass.SPACE_ONLY: Meaning(
        "equal without spaces", "no", "the reference often has its own spacing"
    ),
    ErrorClass.RIGHT_TRUNCATION: Meaning(
        "only the beginning was read; the rest is missing",
        "yes",
        "train and serve wider lines",
    ),
    ErrorClass.LEADING_GARBAGE: Meaning(
        "the complete line, with something before it",
        "yes",
        "fix the left edge of the boxes",
    ),
    ErrorClass.TRAILING_GARBAGE: Meaning(
        "the complete line, with something after it", "no", "if many: padding was decoded"
    ),
    ErrorClass.MINOR: Meaning(
        "up to two edits, or edits in a tenth of the line", "partly", "more training data"
    ),
    ErrorClass.MAJOR: Meaning(
        "everything else, including an empty hypothesis", "partly", "look at the lines"
    ),
}

SPACE_KINDS = ("grouping", "word_boundary")

# Flags describe a line further. A line can have several, or none.
FLAGS: dict[str, str] = {
    "digit_error": "the sequences of digits differ",
    "case_only": "equal in lower case, without spaces",
    "diacritic_only": (
        "equal without accents, rings, dots, strokes and spaces: å a, ö ø o, ð d, æ ae, þ th"
    ),
    "punct_only": "equal without punctuation, symbols and spaces",
    "quote_dash_only": "equal without spaces when all quotes count as one, and all dashes",
    "left_truncation": "the beginning is missing, by the mirrored rule of right_truncation",
    "empty_hyp": "nothing was read",
    "duplicate_run": (
        "two or more characters occur twice in a row where the reference has them once"
    ),
    "empty_ref": "the reference is empty, so the line has no character error rate",
    "oov_ref": "the reference has characters outside the charset, so it can never be read exactly",
    "over_wide": "the crop was wider than the geometry allows, and was squashed or cropped",
    "ctc_infeasible": (
        "the reference needs more CTC frames than the line has, so it can never be read exactly"
    ),
    "not_in_store": (
        "the store rejected the line (geometry or charset), so it counts as read empty"
    ),
}


def thresholds() -> dict[str, Any]:
    """Return the version and every threshold, for a report."""
    return {
        "taxonomy": TAXONOMY_VERSION,
        "edge_min_matched": EDGE_MIN_MATCHED,
        "edge_max_residual": EDGE_MAX_RESIDUAL,
        "edge_min_gap": EDGE_MIN_GAP,
        "minor_min_edits": MINOR_MIN_EDITS,
        "minor_max_share": MINOR_MAX_SHARE,
        "minor_max_half": MINOR_MAX_HALF,
    }


def classify(reference: str, hypothesis: str) -> ErrorClass:
    """Return the class of a pair of texts. Both are compared in the canonical view."""
    return judge(canonical(reference), canonical(hypothesis))[0]


def judge(reference: str, hypothesis: str) -> tuple[ErrorClass, tuple[str, ...]]:
    """Return the class of two canonical texts, and the flags that follow from them, in the order
    of FLAGS.
    """
    if reference == hypothesis:
        return ErrorClass.EXACT, () if reference else ("empty_ref",)

    pair = _Pair(
        reference, hypothesis, reference.replace(" ", ""), hypothesis.replace(" ", "")
    )
    if pair.dense_reference == pair.dense_hypothesis:
        return ErrorClass.SPACE_ONLY, ()
    distance = Levenshtein.distance(pair.dense_reference, pair.dense_hypothesis)
    return _class_of(pair, distance), _flags_of(pair, distance)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two canonical texts that differ; the dense ones are without spaces."""

    reference: str
    hypothesis: str
    dense_reference: str
    dense_hypothesis: str


def _class_of(pair: _Pair, distance: int) -> ErrorClass:
    edge = _edge_class(pair, distance)
    if edge is not None:
        return edge

    longer = max(len(pair.dense_reference), len(pair.dense_hypothesis))
    allowed_edits = max(MINOR_MIN_EDITS, _floor_share(MINOR_MAX_SHARE, longer))
    if distance <= allowed_edits and distance <= MINOR_MAX_HALF * longer:
        return ErrorClass.MINOR
    return ErrorClass.MAJOR


def _edge_class(pair: _Pair, distance: int) -> ErrorClass | None:
    """Return the edge class whose rule holds with the best score (gap - residual edits), if any."""
    a = pair.dense_reference
    b = pair.dense_hypothesis
    may_be_cut = _leaves_gap(len(b), len(a), distance)
    may_be_extended = _leaves_gap(len(a), len(b), distance)
    if not a or not b or not (may_be_cut or may_be_extended):
        return None

    ends_in_one_character = pair.reference[-2:-1] == " "
    begins_with_one_more = pair.hypothesis[1:2] == " "
    ends_in_one_more = pair.hypothesis[-2:-1] == " "
    scores = {
        ErrorClass.RIGHT_TRUNCATION: _edge_score(b, a, distance, ends_in_one_character),
        ErrorClass.LEADING_GARBAGE: _edge_score(
            a[::-1], b[::-1], distance, begins_with_one_more
        ),
        ErrorClass.TRAILING_GARBAGE: _edge_score(a, b, distance, ends_in_one_more),
    }
    qualified = [(score, edge) for edge, score in scores.items() if score is not None]
    if not qualified:
        return None
    # max() keeps the first of equals, so the order of `scores` settles ties.
    return max(qualified, key=lambda found: found[0])[1]


def space_kind(reference: str, hypothesis: str) -> str:
    """Return the kind of a space_only pair of canonical texts: `grouping` if every space that
    differs stands between two digits, else `word_boundary`.
    """
    text = reference.replace(" ", "")
    differing = _space_positions(reference) ^ _space_positions(hypothesis)
    if all(text[i - 1].isdigit() and text[i].isdigit() for i in differing):
        return "grouping"
    return "word_boundary"


def _flags_of(pair: _Pair, distance: int) -> tuple[str, ...]:
    a = pair.dense_reference
    b = pair.dense_hypothesis
    # Both texts share a beginning and an end. Texts that are equal after folding are equal after
    # folding in the middle, so only the middle is folded.
    first = Prefix.similarity(a, b)
    last = min(Postfix.similarity(a, b), len(a) - first, len(b) - first)
    middle_a = a[first : len(a) - last]
    middle_b = b[first : len(b) - last]
    middles = middle_a + middle_b
    has_signs = not middles.isalnum()  # punctuation, quotation marks or dashes
    may_be_cut = bool(a and b) and _leaves_gap(len(b), len(a), distance)
    begins_with_one_character = pair.reference[1:2] == " "

    def equal_after(folding: Mapping[int, Any]) -> bool:
        return middle_a.translate(folding) == middle_b.translate(folding)

    found = []
    if DIGIT.search(middles) and DIGIT.findall(middle_a) != DIGIT.findall(middle_b):
        found.append("digit_error")
    if a.lower() == b.lower():
        found.append("case_only")
    if not middles.isascii() and equal_after(_PLAIN_LETTERS):
        found.append("diacritic_only")
    if has_signs and equal_after(_WITHOUT_PUNCTUATION):
        found.append("punct_only")
    if has_signs and equal_after(_ONE_QUOTE_ONE_DASH):
        found.append("quote_dash_only")
    if may_be_cut:
        score = _edge_score(b[::-1], a[::-1], distance, begins_with_one_character)
        if score is not None:
            found.append("left_truncation")
    if not pair.hypothesis:
        found.append("empty_hyp")
    if _repeats_something(a, b, first, len(b) - last):
        found.append("duplicate_run")
    if not pair.reference:
        found.append("empty_ref")
    return tuple(found)


def _repeats_something(a: str, b: str, start: int, end: int) -> bool:
    """Whether something occurs twice in a row in `b` but not in `a`. The texts differ at
    b[start:end].
    """
    # Such a repetition reaches into the part that differs, so one of the pairs of characters there
    # occurs twice in `b`. Usually none does, and the search can be left out.
    pairs = (b[i : i + 2] for i in range(max(0, start - 1), min(len(b) - 1, end + 1)))
    if not any(b.count(pair) > 1 for pair in pairs):
        return False
    return any(twice not in a for twice in _doubled(b, end))


def _leaves_gap(complete: int, cut: int, distance: int) -> bool:
    """Whether a text of `cut` characters can have a free edge next to a text of `complete`
    characters that was read completely. For most lines it cannot.
    """
    return cut >= complete - distance + 2


def _edge_score(
    complete_side: str, cut_side: str, distance: int, single: bool
) -> int | None:
    """Match all of `complete_side` with a beginning of `cut_side`; the rest of `cut_side` is the
    gap. Return gap - residual edits if the gap qualifies as a free edge, else None.

    `distance` is the edit distance of the complete texts. `single` says that the last token of
    `cut_side` is one character.
    """
    complete = len(complete_side)
    cut = len(cut_side)
    if not _leaves_gap(complete, cut, distance):
        return None

    # A beginning of n characters costs at least |complete - n| edits. The best beginning leaves a
    # gap only if it costs less than all of the cut side, and qualifies only with a share of n at
    # most. So few lengths have to be tried, usually none.
    maximum_edits = min(
        distance - 1, _floor_share(EDGE_MAX_RESIDUAL / (1 - EDGE_MAX_RESIDUAL), complete)
    )
    longest = min(cut - 1, complete + maximum_edits)
    shortest = max(0, complete - maximum_edits)
    residual = maximum_edits + 1
    matched = 0
    for length in range(longest, shortest - 1, -1):
        if abs(complete - length) >= residual:  # ties: the longest beginning
            continue
        found = Levenshtein.distance(
            complete_side, cut_side[:length], score_cutoff=residual - 1
        )
        if found < residual:
            residual = found
            matched = length

    gap = cut - matched
    # A gap below EDGE_MIN_GAP is one character. It consists of complete tokens exactly when the
    # token at the edge is one character long.
    qualifies = (
        residual <= min(maximum_edits, _floor_share(EDGE_MAX_RESIDUAL, matched))
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
    """Yield the strings that occur twice in a row and begin before `end`, from left to right, the
    shortest at each place. They have 2 to _LONGEST_RUN characters.
    """
    at = 0
    end = min(end, len(text) - 3)
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
    """A table for str.translate that calls `fold` once for each character."""

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
