import unicodedata
from collections import Counter

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.metrics.text import (
    VIEWS,
    canonical,
    canonical_all,
    confusions,
    count_characters,
    count_edits,
    list_edits,
    marked_difference,
    normalized_distance,
    rate,
    squeezed,
)


def word_edits(a, b):
    return count_edits(canonical(a).split(), canonical(b).split())


SPACES = "\t\n\u00a0\u2007\u2009\u202f\u3000"
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
text = st.text(
    alphabet="aåäöÆøð §°1203.,–-  " + SPACES + INVISIBLE + "\u0301\u030a", max_size=30
)


@pytest.mark.parametrize("space", SPACES)
def test_every_space_is_one_space(space):
    assert canonical(f" 1{space}{space}000,00{space}") == "1 000,00"


def test_every_character_that_is_changed_is_seen_in_many_texts():
    changed = [
        c
        for c in map(chr, range(0x11000))
        if canonical(f"x{c}x") != f"x{c}x" and not 0xD800 <= ord(c) < 0xE000
    ]
    assert [canonical_all([f"x{c}x"]) for c in changed] == [
        [canonical(f"x{c}x")] for c in changed
    ]


@pytest.mark.parametrize("invisible", INVISIBLE)
def test_invisible_characters_go(invisible):
    assert canonical(f"a{invisible}\u030a b{invisible}") == "å b"


def test_nothing_else_is_folded():
    assert canonical("Å – “x” ½ ﬁ") == "Å – “x” ½ ﬁ"


@given(text)
@settings(max_examples=200)
def test_views(value):
    once = canonical(value)
    assert canonical(once) == once
    assert canonical(unicodedata.normalize("NFD", value)) == once
    assert squeezed(value) == once.replace(" ", "")
    assert VIEWS["raw"](value) == value


@given(st.lists(st.one_of(text, st.just("a\0b")), max_size=6))
@settings(max_examples=200)
def test_many_texts_at_once(values):
    assert canonical_all(["a", *values]) == ["a", *map(canonical, values)]
    assert canonical_all(values) == [canonical(value) for value in values]
    assert count_characters(values) == Counter("".join(values))


@given(text, text)
@settings(max_examples=200)
def test_edits_are_consistent(a, b):
    edits = count_edits(a, b)
    assert edits.insertions - edits.deletions == len(b) - len(a)
    assert edits.distance == count_edits(b, a).distance
    assert (edits.distance == 0) == (a == b)
    assert len(confusions(a, b)) == edits.distance
    assert 0 <= normalized_distance(a, b) <= 1


@given(
    st.lists(
        st.tuples(text.map(canonical).filter(bool), text.map(canonical)),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=150)
def test_jiwer_counts_the_same(pairs):
    references, hypotheses = (list(side) for side in zip(*pairs, strict=True))
    characters = [count_edits(*pair) for pair in pairs]
    words = [word_edits(*pair) for pair in pairs]
    assert rate(
        sum(e.distance for e in characters), sum(e.reference_length for e in characters)
    ) == pytest.approx(jiwer.cer(references, hypotheses))
    assert rate(
        sum(e.distance for e in words), sum(e.reference_length for e in words)
    ) == pytest.approx(jiwer.wer(references, hypotheses))


def test_nothing_divides_by_an_empty_reference():
    assert rate(3, 0) is None
    assert normalized_distance("", "") == 0.0
    assert normalized_distance("", "abc") == 1.0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "shown"),
    [
        ("Summa 1 234", "Suma 1 243", "Sum⟦m→∅⟧a 1 2⟦∅→4⟧3⟦4→∅⟧"),
        ("kort sk ulder", "k0rt sk", "k⟦o→0⟧rt sk⟦␣ulder→∅⟧"),
        ("ab", "a\u202eb", "a⟦∅→<U+202E>⟧b"),
        ("same", "same", "same"),
    ],
)
def test_differences_can_be_seen(reference, hypothesis, shown):
    assert marked_difference(reference, hypothesis) == shown


@given(st.text("ab ", max_size=7), st.text("ab ", max_size=7))
def test_edits_are_counted_as_the_list_of_edits_has_them(reference, hypothesis):
    tags = [tag for tag, _, _ in list_edits(reference, hypothesis)]

    edits = count_edits(reference, hypothesis)

    assert edits.substitutions == tags.count("replace")
    assert edits.insertions == tags.count("insert")
    assert edits.deletions == tags.count("delete")
