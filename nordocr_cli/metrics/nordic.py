"""Nordic letters that a recognizer confuses: å for a, ø for ö, ð for d, and æ
for the two letters ae.
"""

from collections.abc import Iterator, Sequence

# replace, insert or delete; index in the reference, index in the hypothesis
Edit = tuple[str, int, int]

# A substitution within a family is a confusion of Nordic letters. Case is another matter.
_LOWER_FAMILIES = ("aåäáàæ", "oöøóò", "eéèêæ", "uüúù", "iíì", "yýÿ", "dð", "pþ")
FAMILIES = (*_LOWER_FAMILIES, *(family.upper() for family in _LOWER_FAMILIES))
# A letter and the members of all its families: æ is in those of a and of e.
_RELATIVES = {
    letter: "".join(family for family in FAMILIES if letter in family)
    for letter in "".join(FAMILIES)
}
# Letters that are also written with two.
_LOWER_PAIRS = {"æ": "ae", "ä": "ae", "å": "aa", "ø": "oe", "ö": "oe", "þ": "th", "ð": "dh"}
_WRITTEN_WITH_TWO = {
    (letter, two)
    for low, pair in _LOWER_PAIRS.items()
    for letter in (low, low.upper())
    for two in (pair, pair.upper(), pair.title())
}
_TWO_FOR_ONE = ({"replace", "insert"}, {"replace", "delete"})


def nordic_confusions(
    reference: str, hypothesis: str, edits: Sequence[Edit]
) -> Iterator[tuple[str, str]]:
    """Yield (reference, hypothesis) for those of the edits that take Nordic letters for
    one another.

    Two letters for one (þ read as th, or th as þ) are a replacement next to an insertion or a
    deletion.
    """
    k = 0
    while k < len(edits):
        exchanged = _letter_and_two(reference, hypothesis, edits[k : k + 2])
        if exchanged is not None:
            yield exchanged
            k += 2
            continue

        tag, i, j = edits[k]
        if tag == "replace" and _same_family(reference[i], hypothesis[j]):
            yield reference[i], hypothesis[j]
        k += 1


def _letter_and_two(
    reference: str, hypothesis: str, neighbours: Sequence[Edit]
) -> tuple[str, str] | None:
    """Return (reference, hypothesis) if two neighbouring edits exchange a letter and two others."""
    if len(neighbours) < 2:
        return None
    (tag, i, j), (next_tag, next_i, next_j) = neighbours
    is_adjacent = next_i - i <= 1 and next_j - j <= 1
    if not is_adjacent or {tag, next_tag} not in _TWO_FOR_ONE:
        return None

    if "insert" in (tag, next_tag):
        expected = reference[i : i + 1]
        found = hypothesis[j : j + 2]
    else:
        expected = reference[i : i + 2]
        found = hypothesis[j : j + 1]
    is_known = (expected, found) in _WRITTEN_WITH_TWO or (
        found,
        expected,
    ) in _WRITTEN_WITH_TWO
    return (expected, found) if is_known else None


def _same_family(expected: str, found: str) -> bool:
    return found in _RELATIVES.get(expected, "")
