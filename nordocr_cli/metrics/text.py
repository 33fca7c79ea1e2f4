"""Comparing two texts: three named views of them, and edits counted in code points of a view.

    raw        the code points as given
    canonical  N(): NFC, every kind of space as one plain space, invisible characters gone, ends
        stripped. The headline
    squeezed   S(): canonical without spaces

Nothing else is folded: case, quotes, dashes and diacritics count in every view.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein

# Zero-width space, non-joiner and joiner, word joiner, byte order mark, soft hyphen.
_INVISIBLE = re.compile("[\u200b-\u200d\u2060\ufeff\u00ad]")
# What canonical() changes in an NFC text, but for its ends.
_ODD = (
    "  ",
    *"\u200b\u200c\u200d\u2060\ufeff\u00ad",
    *"\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000",
    *map(chr, range(0x2000, 0x200B)),
)
# Every Unicode space (TAB, no-break, figure, thin …), and runs of them; a plain one that stands
# alone needs no change.
_SPACES = re.compile(r"[^\S ]\s*| \s+")
DIGIT = re.compile("[\\d²³¹⁰⁴-⁹₀-₉]")
_BETWEEN = "\0"  # no space, nothing composes with it, and no text should hold it


def raw(text: str) -> str:
    """Return `text` as it is."""
    return text


def canonical(text: str) -> str:
    """Return N(text): NFC, runs of any spaces as one U+0020, zero-width characters and soft hyphens
    deleted, stripped.
    """
    composed = unicodedata.normalize("NFC", text)
    # A letter and its accent may have stood on two sides of a deleted character: compose once more.
    visible = unicodedata.normalize("NFC", _INVISIBLE.sub("", composed))
    return _SPACES.sub(" ", visible).strip(" ")


def canonical_all(texts: Sequence[str]) -> list[str]:
    """Return N() of each text. Far faster than one by one: most texts are canonical, and that is
    checked once for all of them joined.
    """
    joined = _BETWEEN.join(texts)
    if unicodedata.is_normalized("NFC", joined) and not any(odd in joined for odd in _ODD):
        return [text.strip(" ") for text in texts]
    if joined.count(_BETWEEN) != len(texts) - 1:
        return [canonical(text) for text in texts]
    return [text.strip(" ") for text in canonical(joined).split(_BETWEEN)]


def squeezed(text: str) -> str:
    """Return S(text): N(text) without spaces."""
    return canonical(text).replace(" ", "")


VIEWS: dict[str, Callable[[str], str]] = {
    "raw": raw,
    "canonical": canonical,
    "squeezed": squeezed,
}


class Edits(NamedTuple):
    """A minimal set of edits that turns a reference into a hypothesis, and the lengths of both (in
    characters or in words).
    """

    substitutions: int
    insertions: int
    deletions: int
    reference_length: int
    hypothesis_length: int

    @property
    def distance(self) -> int:
        """The Levenshtein distance."""
        return self.substitutions + self.insertions + self.deletions


@lru_cache(maxsize=4096)
def no_edits(length: int) -> Edits:
    """Return the edits between two equal texts of `length`."""
    return Edits(0, 0, 0, length, length)


def count_edits(
    reference: str | list[str] | list[int], hypothesis: str | list[str] | list[int]
) -> Edits:
    """Count the edits between two texts as given (characters), or between two lists of words or
    token ids.
    """
    lengths = len(reference), len(hypothesis)
    if reference == hypothesis:
        return no_edits(lengths[0])

    # Insertions minus deletions is the difference of the lengths. If at most one edit more was
    # needed, it is a substitution, and no edits have to be listed.
    distance = Levenshtein.distance(reference, hypothesis)
    longer_by = lengths[1] - lengths[0]
    substitutions = distance - abs(longer_by)
    if substitutions < 2:
        return Edits(substitutions, max(0, longer_by), max(0, -longer_by), *lengths)

    tags = [edit[0] for edit in Levenshtein.editops(reference, hypothesis).as_list()]
    return Edits(
        tags.count("replace"), tags.count("insert"), tags.count("delete"), *lengths
    )


def list_edits(reference: str, hypothesis: str) -> list[tuple[str, int, int]]:
    """Return a minimal list of edits between two texts as given: (`replace`, `insert` or `delete`,
    index in the reference, index in the hypothesis), from left to right.
    """
    edits: list[Any] = Levenshtein.editops(reference, hypothesis).as_list()
    return edits


def confusions(
    reference: str, hypothesis: str, edits: Iterable[tuple[str, int, int]] | None = None
) -> list[tuple[str, str]]:
    """Return (reference, hypothesis) characters for each of the edits between two texts; "" is
    nothing (inserted, deleted).
    """
    if edits is None:
        edits = list_edits(reference, hypothesis)
    return [
        ("" if tag == "insert" else reference[i], "" if tag == "delete" else hypothesis[j])
        for tag, i, j in edits
    ]


def count_characters(texts: Iterable[str]) -> Counter[str]:
    """Return how often each character stands in the texts."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    counts = np.bincount(codes) if len(codes) else codes
    return Counter({chr(code): int(counts[code]) for code in np.flatnonzero(counts)})


def normalized_distance(reference: str, hypothesis: str) -> float:
    """Return NED of two texts as given: their distance over the longer length, 0…1; 0.0 for
    two empty texts.
    """
    longer = max(len(reference), len(hypothesis))
    if longer:
        return Levenshtein.distance(reference, hypothesis) / longer
    return 0.0


def rate(count: float, of: float) -> float | None:
    """Return count / of, and None where there is nothing to divide by (never NaN)."""
    if of:
        return count / of
    return None


def marked_difference(reference: str, hypothesis: str) -> str:
    """Return the canonical texts as one, e.g. `Summa k⟦o→0⟧rt sk⟦ulder→∅⟧`: reference, arrow,
    hypothesis; ∅ is nothing.

    Spaces inside the marks are ␣, and characters that cannot be seen (controls, direction marks)
    are <U+XXXX>.
    """
    a = canonical(reference)
    b = canonical(hypothesis)
    parts = []
    for op in Levenshtein.opcodes(a, b):
        expected = visible(a[op.src_start : op.src_end])
        found = visible(b[op.dest_start : op.dest_end])
        if op.tag == "equal":
            parts.append(expected)
        else:
            parts.append(f"⟦{_marked(expected)}→{_marked(found)}⟧")
    return "".join(parts)


def _marked(text: str) -> str:
    return text.replace(" ", "␣") or "∅"


def visible(text: str) -> str:
    """Return `text` with every character that cannot be seen, or that turns the text around, as
    <U+XXXX>.
    """
    return "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in text)


def character_codes(character: str) -> dict[str, str | None]:
    """Return a character, or two, with code points for a report, e.g. {"char": "å", "code":
    "U+00E5"}; nothing is ε.
    """
    return {"char": character or "ε", "code": code_points(character) or None}


def code_points(text: str) -> str:
    """Return e.g. `U+0074 U+0068`."""
    return " ".join(f"U+{ord(character):04X}" for character in text)
