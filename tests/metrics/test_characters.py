import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.metrics.characters import CHARACTER_KINDS, kind_of, score_characters
from nordocr_cli.metrics.text import canonical, count_edits

texts = st.text(alphabet="aåÅ1 .é\u0301½", max_size=10).map(canonical)


def test_a_substitution_is_one_missed_and_one_invented():
    found = {
        score.name: score
        for score in score_characters([("år 2 024", "ar 2024"), ("å", "å")]).each
    }
    assert (found["å"].hits, found["å"].missed, found["å"].invented) == (1, 1, 0)
    assert (found["å"].precision, found["å"].recall, found["å"].f1) == (1.0, 0.5, 2 / 3)
    assert (found["a"].precision, found["a"].recall, found["a"].f1) == (0.0, None, 0.0)
    assert (found[" "].hits, found[" "].missed) == (1, 1)


def test_kinds_sum_their_characters_and_the_worst_character_comes_first():
    found = score_characters([("Åre 12", "Are 13"), ("1,2", "1.3"), ("12", "12")])
    kinds = {score.name: score for score in found.kinds}
    assert list(kinds) == ["digit", "A-Z", "a-z", "Nordic letter", "punctuation", "space"]
    assert (kinds["digit"].occurrences, kinds["digit"].missed, kinds["digit"].invented) == (
        6,
        2,
        2,
    )
    assert (kinds["A-Z"].occurrences, kinds["A-Z"].invented) == (0, 1)
    assert [score.name for score in found.each[:2]] == ["2", "3"]
    assert found.to_json()["each"][0]["code"] == "U+0032"


@pytest.mark.parametrize(
    ("character", "kind"),
    [
        ("å", "Nordic letter"),
        ("Þ", "Nordic letter"),
        ("é", "other letter"),
        ("А", "other letter"),
        ("Q", "A-Z"),
        ("7", "digit"),
        ("§", "punctuation"),
        ("–", "punctuation"),
        (" ", "space"),
    ],
)
def test_kinds(character, kind):
    assert kind_of(character) == kind


@given(st.lists(st.tuples(texts, texts), max_size=6))
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_the_texts(pairs):
    found = score_characters(pairs)
    edits = [count_edits(a, b) for a, b in pairs]
    assert sum(s.occurrences for s in found.each) == sum(e.reference_length for e in edits)
    assert sum(s.hits + s.invented for s in found.each) == sum(
        e.hypothesis_length for e in edits
    )
    assert sum(s.missed for s in found.each) == sum(
        e.substitutions + e.deletions for e in edits
    )
    assert min([s.hits for s in found.each], default=0) >= 0
    assert all(
        sum(getattr(s, f) for s in found.each) == sum(getattr(s, f) for s in found.kinds)
        for f in ("hits", "missed")
    )
    assert {s.name for s in found.kinds} <= set(CHARACTER_KINDS)
    json.dumps(found.to_json(), allow_nan=False)
