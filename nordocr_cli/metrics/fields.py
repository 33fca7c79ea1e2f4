"""Fields of a business document inside a line: amounts, dates, organisation numbers and IBANs.

A field is exact when the hypothesis holds it with the same characters. Which texts count as a field
is decided on the reference, so a metric gives the share of the printed fields that was read
exactly.
"""

import re
from collections import Counter

KINDS = ("amount", "date", "organisation", "iban")

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


def find_fields(text: str) -> list[tuple[str, str]]:
    """Return (one of KINDS, text) of the fields in a line, from left to right."""
    return [_named(match) for match in _FIELD.finditer(text)]


def _named(match: re.Match[str]) -> tuple[str, str]:
    kind = match.lastgroup or ""
    return kind, match["number"] or match[0]


def count_fields(reference: str, hypothesis: str) -> list[int]:
    """Return how many fields of each of KINDS the hypothesis has exactly, then how many the
    reference has; both texts are canonical.
    """
    expected = find_fields(reference)
    if not expected:
        return _NO_FIELDS

    counts = _by_kind(expected)
    if reference == hypothesis:
        return counts + counts
    exact = Counter(expected) & Counter(find_fields(hypothesis))
    return _by_kind(list(exact.elements())) + counts


def _by_kind(fields: list[tuple[str, str]]) -> list[int]:
    kinds = [kind for kind, _ in fields]
    return [kinds.count(kind) for kind in KINDS]


_NO_FIELDS = [0] * (2 * len(KINDS))
