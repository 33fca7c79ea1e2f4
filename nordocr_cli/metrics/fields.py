"""Fields of a business document inside a line: amounts, dates, organisation numbers and IBANs.

A field is exact when the hypothesis holds it with the same characters. Which texts count as a field
is decided on the reference, so a metric gives the share of the printed fields that was read
exactly.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

FIELD_KINDS = ("amount", "date", "organisation", "iban")
_NUMBER = {kind: number for number, kind in enumerate(FIELD_KINDS)}

_IBAN = r"\b(?:SE|NO|DK|IS|FI|FO|GL)\d{2}(?: ?[0-9A-Z]{4}){2,6}(?: ?[0-9A-Z]{1,3})?\b"
# Sweden 556677-8899, Norway 987 654 321 (also NO … MVA), Denmark 12345678, Iceland 590169-7579.
# Plain digits are such a number only after a word that announces it.
_ORGANISATION = (
    r"(?<!\d)\d{6}-\d{4}(?!\d)"
    r"|(?i:\b(?:org(?:anisasjons|anisations)?\.? ?-?(?:nr|nummer)|cvr(?:-nr)?|kt|kennitala)\b)"
    r"[.: ]*(?P<number>(?:NO ?)?\d(?:[ -]?\d){7,9})(?!\d)"
)
_MONTHS = "jan|feb|mar|mär|apr|maj|mai|maí|jun|jún|jul|júl|aug|ágú|sep|okt|nov|nóv|dec|des"
# 2024-12-31, 31.12.2024, 31/12-24, 31. desember 2024
_DATE = (
    r"(?<!\d)(?:(?:19|20)\d{2}-\d{2}-\d{2}|\d{1,2}[./-]\d{1,2}[./-](?:(?:19|20)\d{2}|\d{2})"
    rf"|\d{{1,2}}\.? (?i:{_MONTHS})[a-zåäöúóéþ]*\.? (?:19|20)\d{{2}})(?!\d)"
)
# 1 234,50, 1.234,50, 1,234.50, 12345 kr, −1 234
_AMOUNT = (
    r"(?<![\w.,])[-−–]?"
    r"(?:\d{1,3}(?:[ .,']\d{3})+(?:[.,]\d{1,2})?|\d+[.,]\d{2}"
    r"|\d+(?= ?(?:kr|SEK|NOK|DKK|ISK|EUR)\b))"
    r"(?![\w]|[.,]\d)"
)
# The first alternative that matches wins, so digits of a date are no amount.
# Where no field can begin, nothing else is tried: that halves the time.
_BEGINNING = r"(?=[-−–\dSNDIFGoOcCkK])(?<!\d)"
_FIELD = re.compile(
    rf"{_BEGINNING}(?:(?P<iban>{_IBAN})|(?P<organisation>{_ORGANISATION})|(?P<date>{_DATE})"
    rf"|(?P<amount>{_AMOUNT}))"
)


Field = tuple[int, str, str]  # number of the line, one of KINDS, text
_LINE_END = "\n"  # no canonical text holds it, and no field reaches over it


def find_fields(texts: Sequence[str]) -> list[Field]:
    """Return the fields of lines, from left to right. The texts are canonical.

    All lines are searched as one text, which is much faster than one by one.
    """
    ends = list(accumulate(len(text) + len(_LINE_END) for text in texts))
    found = []
    line = 0
    for match in _FIELD.finditer(_LINE_END.join(texts)):
        while match.start() >= ends[line]:
            line += 1
        kind = match.lastgroup or ""
        found.append((line, kind, match["number"] or match[0]))
    return found


def count_fields(
    references: Sequence[str], hypotheses: Sequence[str]
) -> NDArray[np.float64]:
    """Return how many fields of each of KINDS a hypothesis has exactly, then how many its reference
    has: (lines, 2 · kinds). The texts are canonical.
    """
    expected = find_fields(references)

    # Only hypotheses that differ can lack a field.
    changed = {
        number
        for number, (reference, hypothesis) in enumerate(
            zip(references, hypotheses, strict=True)
        )
        if reference != hypothesis
    }
    expected_there = [field for field in expected if field[0] in changed]
    found_there = find_fields(
        [text if number in changed else "" for number, text in enumerate(hypotheses)]
    )
    missed = Counter(expected_there) - Counter(found_there)

    expected_counts = _by_kind(expected, len(references))
    missed_counts = _by_kind(missed.elements(), len(references))
    return np.hstack([expected_counts - missed_counts, expected_counts])


def _by_kind(fields: Iterable[Field], lines: int) -> NDArray[np.float64]:
    """How many fields of each kind each line has, (lines, kinds)."""
    size = len(FIELD_KINDS)
    cells = [line * size + _NUMBER[kind] for line, kind, _ in fields]
    counts = np.bincount(np.array(cells, np.int64), minlength=lines * size)
    return counts.reshape(lines, size).astype(np.float64)
