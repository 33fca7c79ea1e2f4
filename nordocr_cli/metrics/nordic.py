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
        tag, i, j = edits[k]
        following = edits[k + 1] if k + 1 < len(edits) else edits[k]
        if _adjacent(edits[k], following) and {tag, following[0]} in _TWO_FOR_ONE:
            one, two = (1, 2) if "insert" in (tag, following[0]) else (2, 1)
            expected, found = reference[i : i + one], hypothesis[j : j + two]
            if (expected, found) in _WRITTEN_WITH_TWO or (
                found,
                expected,
            ) in _WRITTEN_WITH_TWO:
                yield expected, found
                k += 2
                continue
        if tag == "replace" and _same_family(reference[i], hypothesis[j]):
            yield reference[i], hypothesis[j]
        k += 1


def _adjacent(edit: Edit, following: Edit) -> bool:
    return following[1] - edit[1] <= 1 and following[2] - edit[2] <= 1


def _same_family(expected: str, found: str) -> bool:
    return found in _RELATIVES.get(expected, "")
