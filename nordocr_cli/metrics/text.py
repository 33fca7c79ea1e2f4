"""Comparing two texts: three named views of them, and edits counted in code points of a view.

    raw        the code points as given
    canonical  N(): NFC, every kind of space as one plain space, invisible characters gone, ends stripped. The headline
    squeezed   S(): canonical without spaces

Nothing else is folded: case, quotes, dashes and diacritics count in every view.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import Levenshtein

# Zero-width space, non-joiner and joiner, word joiner, byte order mark, soft hyphen.
_INVISIBLE = re.compile("[\u200b-\u200d\u2060\ufeff\u00ad]")
_SPACES = re.compile(r"\s+")  # every Unicode space: TAB, no-break, figure, thin …


def raw(text: str) -> str:
    """Return `text` as it is."""
    return text


def canonical(text: str) -> str:
    """Return N(text): NFC, runs of any spaces as one U+0020, zero-width characters and soft hyphens deleted, stripped."""
    composed = unicodedata.normalize("NFC", text)
    # A letter and its accent may have stood on two sides of a deleted character: compose once more.
    visible = unicodedata.normalize("NFC", _INVISIBLE.sub("", composed))
    return _SPACES.sub(" ", visible).strip(" ")


def squeezed(text: str) -> str:
    """Return S(text): N(text) without spaces."""
    return canonical(text).replace(" ", "")


VIEWS: dict[str, Callable[[str], str]] = {"raw": raw, "canonical": canonical, "squeezed": squeezed}


@dataclass(frozen=True, slots=True)
class Edits:
    """A least set of edits that turns a reference into a reading, and the lengths of both (in characters or in words)."""

    substitutions: int
    insertions: int
    deletions: int
    reference_length: int
    hypothesis_length: int

    @property
    def distance(self) -> int:
        """The Levenshtein distance."""
        return self.substitutions + self.insertions + self.deletions


def count_edits(reference: str | list[str], hypothesis: str | list[str]) -> Edits:
    """Count the edits between two texts as they stand (characters), or between two lists of words."""
    lengths = len(reference), len(hypothesis)
    if reference == hypothesis:
        return Edits(0, 0, 0, *lengths)
    tags = [op.tag for op in Levenshtein.editops(reference, hypothesis)]
    return Edits(tags.count("replace"), tags.count("insert"), tags.count("delete"), *lengths)


def word_edits(reference: str, hypothesis: str) -> Edits:
    """Count the edits between the words (separated by spaces in the canonical view) of two texts."""
    return count_edits(canonical(reference).split(), canonical(hypothesis).split())


def confusions(reference: str, hypothesis: str) -> list[tuple[str, str]]:
    """Return (what stands there, what was read) for each edit of the canonical view; "" is nothing (inserted, deleted)."""
    a, b = canonical(reference), canonical(hypothesis)
    pairs = []
    for op in Levenshtein.editops(a, b):
        wanted = "" if op.tag == "insert" else a[op.src_pos]
        found = "" if op.tag == "delete" else b[op.dest_pos]
        pairs.append((wanted, found))
    return pairs


def normalized_distance(reference: str, hypothesis: str) -> float:
    """Return NED of two texts as they stand: their distance over the longer length, 0…1; 0.0 for two empty texts."""
    longer = max(len(reference), len(hypothesis))
    return Levenshtein.distance(reference, hypothesis) / longer if longer else 0.0


def rate(count: float, of: float) -> float | None:
    """Return count / of, and None where there is nothing to divide by (never NaN)."""
    return count / of if of else None


def marked_difference(reference: str, hypothesis: str) -> str:
    """Return the canonical texts as one, e.g. `Summa k⟦o→0⟧rt sk⟦ulder→∅⟧`: wanted, arrow, found; ∅ is nothing.

    Spaces inside the marks are ␣, and characters that cannot be seen (controls, direction marks) are <U+XXXX>.
    """
    a, b = canonical(reference), canonical(hypothesis)
    parts = []
    for op in Levenshtein.opcodes(a, b):
        wanted, found = visible(a[op.src_start : op.src_end]), visible(b[op.dest_start : op.dest_end])
        if op.tag == "equal":
            parts.append(wanted)
        else:
            parts.append(f"⟦{wanted.replace(' ', '␣') or '∅'}→{found.replace(' ', '␣') or '∅'}⟧")
    return "".join(parts)


def visible(text: str) -> str:
    """Return `text` with every character that cannot be seen, or that turns the text around, as <U+XXXX>."""
    return "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in text)


def describe(character: str) -> dict[str, Any]:
    """Return a character with its code point for a report, e.g. {"char": "å", "code": "U+00E5"}; nothing is ε."""
    return {"char": character or "ε", "code": f"U+{ord(character):04X}" if character else None}
