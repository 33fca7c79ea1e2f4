from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.compare.agreement import (
    MISSING,
    PATTERNS,
    agreement,
    consensus,
    estimate_accuracy,
    pattern,
)

readings = st.lists(
    st.tuples(*[st.one_of(st.none(), st.text("ab ", max_size=2))] * 3), max_size=12
)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (("x", "x", "x"), "AAA"),
        (("x ", " x", "x\u00a0"), "AAA"),
        (("x", "x", "y"), "AAB"),
        (("x", "y", "x"), "ABA"),
        (("y", "x", "x"), "BAA"),
        (("x", "y", "z"), "ABC"),
        (("", "", "x"), "AAB"),
        (("x", None, "x"), MISSING),
        (("x", "x"), "AA"),
        (("x", "y"), "AB"),
    ],
)
def test_patterns(texts, kind):
    assert pattern(texts) == kind


def test_the_consensus_is_what_two_read():
    assert consensus(("1 2", "12", " 1  2")) == "1 2"
    assert consensus(("a", "b", "c")) is None
    assert consensus((None, "b", "b")) == "b"
    assert consensus((None, None, "b")) is None


@settings(max_examples=60)
@given(readings)
def test_the_patterns_add_up_to_the_lines(lines):
    found = agreement(("a", "b", "c"), lines)
    for view in ("canonical", "squeezed"):
        assert set(found.patterns[view]) == {*PATTERNS[3], MISSING}
        assert sum(found.patterns[view].values()) == len(lines)
    # Whoever agrees as they stand agrees without spaces.
    assert found.patterns["squeezed"]["AAA"] >= found.patterns["canonical"]["AAA"]


def test_counts_by_hand():
    lines = [
        ("x", "x", "x"),
        ("x", "x", "y"),
        ("x", "y", "x"),
        ("y", "x", "x"),
        ("x", "y", "z"),
        (None, "x", "x"),
        ("x", "x", "x"),
    ]
    found = agreement(("a", "b", "c"), lines)
    assert found.patterns["canonical"] == {
        "AAA": 2,
        "AAB": 1,
        "ABA": 1,
        "BAA": 1,
        "ABC": 1,
        MISSING: 1,
    }
    assert [(pair.lines, pair.same) for pair in found.pairs] == [(6, 3), (6, 3), (7, 4)]
    # Where b and c agree (AAA twice, BAA): a has read the same twice.
    others = [(row.others_agree, row.same) for row in found.with_the_others]
    assert others == [(3, 2), (3, 2), (3, 2)]
    # Over the six lines that all three read, every pair agrees on three.
    assert list(found.triangulated.accuracy.values()) == pytest.approx([sqrt(0.5)] * 3)


def test_the_estimate_finds_the_accuracy_of_independent_readers():
    """0.9, 0.8 and 0.7 right, independently, and never wrong in the same way: pairs agree in 0.72,
    0.63 and 0.56.
    """
    assert estimate_accuracy(0.72, 0.63, 0.56) == pytest.approx(0.9)
    assert estimate_accuracy(0.72, 0.56, 0.63) == pytest.approx(0.8)
    assert estimate_accuracy(0.63, 0.56, 0.72) == pytest.approx(0.7)
    assert estimate_accuracy(1.0, 1.0, 0.5) == 1.0
    assert estimate_accuracy(0.5, 0.5, 0.0) is None


def test_two_readers_have_no_estimate():
    found = agreement(("a", "b"), [("x", "x"), ("x", "y"), (None, "y")])
    assert found.patterns["canonical"] == {"AA": 1, "AB": 1, MISSING: 1}
    assert (found.with_the_others, found.triangulated) == (None, None)


def test_no_lines():
    assert agreement(("a", "b", "c"), []).triangulated.accuracy == dict.fromkeys("abc")
