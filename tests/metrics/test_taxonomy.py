import importlib.util
import unicodedata
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from nordocr_cli.metrics.taxonomy import (
    FAILURES,
    FLAGS,
    MEANING,
    SPACE_KINDS,
    ErrorClass,
    classify,
    judge,
    space_kind,
    thresholds,
)
from nordocr_cli.metrics.text import canonical, squeezed

EXAMPLES = [
    ("Summa kortfristiga skulder", "Summa kortfristiga sk", "right_truncation"),
    # one wrong letter inside
    ("Summa kortfristiga skulder", "Summa kortfrestiga sk", "right_truncation"),
    (
        "Kassaflöde från den löpande verksamheten",
        "Kassaflöde från den löpande verksa",
        "right_truncation",
    ),
    ("Belopp kr 5", "Belopp kr", "right_truncation"),  # one character, but a whole token
    ("Summa.", "Summa", "minor"),  # one character, no token
    ("Summa", "| Summa", "leading_garbage"),
    ("Summa", "|Summa", "minor"),
    ("Summa", "I| Summa", "leading_garbage"),
    ("5", "| 5", "leading_garbage"),
    ("5", "S", "major"),  # more than half is wrong
    ("12", "34", "major"),
    # qualifies as trailing garbage too: the order settles it
    ("0,00", "0,000,00", "leading_garbage"),
    ("1", "11", "minor"),
    ("", "abc", "major"),
    ("abc", "", "major"),
    ("1 234", "1 243", "minor"),
    ("Summa eget kapital", "eget kapital", "major"),
    ("Bokslut 2024", "| Bokslut 20", "major"),  # two edges
    ("a b c d", "abcd x", "trailing_garbage"),
    ("1 234", "1234", "space_only"),
    ("1 234", "1\u00a0234", "exact"),
    ("Å", "A\u030a", "exact"),
    ("", "", "exact"),
    ("", "\u200b \t", "exact"),
]


def text_flags(reference, hypothesis):
    return judge(canonical(reference), canonical(hypothesis))[1]


line = st.text(alphabet="abcåäö 0123,.–|", max_size=40)


@pytest.mark.parametrize(("reference", "hypothesis", "expected"), EXAMPLES)
def test_worked_examples(reference, hypothesis, expected):
    assert classify(reference, hypothesis) == expected


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("1 234 567", "1234567", "grouping"),
        ("Summa 1 234", "Summa 1234", "grouping"),
        ("Summa 1 234", "Summa1 234", "word_boundary"),
        ("kr 1 234", "kr1234", "word_boundary"),  # one of each
        ("a b", "ab", "word_boundary"),
    ],
)
def test_kinds_of_space_only(reference, hypothesis, expected):
    assert classify(reference, hypothesis) is ErrorClass.SPACE_ONLY
    assert (
        space_kind(reference, hypothesis) == space_kind(hypothesis, reference) == expected
    )
    assert expected in SPACE_KINDS


@pytest.mark.parametrize(
    ("reference", "hypothesis", "flags"),
    [
        ("1 234", "1 243", ["digit_error"]),
        ("Summa", "summa", ["case_only"]),
        ("Övrigt får", "Ovrigt far", ["diacritic_only"]),
        ("Smør på brød", "Smör pa brod", ["diacritic_only"]),
        ("Summa: 5", "Summa 5", ["punct_only"]),
        ("2023–2024", "2023-2024", ["punct_only", "quote_dash_only"]),
        ("”ja”", '"ja"', ["punct_only", "quote_dash_only"]),
        ("Summa eget kapital", "eget kapital", ["left_truncation"]),
        ("Summa", "", ["empty_hyp"]),
        ("Summa", "SummaSumma", ["duplicate_run"]),
        ("", "abc", ["empty_ref"]),
        ("", "", ["empty_ref"]),
        ("Summa", "Summa", []),
        ("1 234", "1234", []),
        ("........", ".......", ["punct_only"]),
    ],
)
def test_flags(reference, hypothesis, flags):
    assert text_flags(reference, hypothesis) == tuple(flags)
    assert set(flags) <= set(FLAGS)


@given(line, line)
@settings(max_examples=400)
@example("", "")
def test_every_pair_has_one_class(reference, hypothesis):
    found = classify(reference, hypothesis)
    assert (found is ErrorClass.EXACT) == (canonical(reference) == canonical(hypothesis))
    space_only = (
        squeezed(reference) == squeezed(hypothesis) and found is not ErrorClass.EXACT
    )
    assert (found is ErrorClass.SPACE_ONLY) == space_only
    assert found in (ErrorClass.EXACT, *FAILURES)


@given(line, line)
@settings(max_examples=200)
def test_how_a_text_is_written_down_does_not_matter(reference, hypothesis):
    expected = classify(reference, hypothesis)
    assert classify(unicodedata.normalize("NFD", reference), hypothesis) is expected
    assert classify(reference, hypothesis.replace(" ", "\u00a0") + "\t") is expected
    assert text_flags(unicodedata.normalize("NFD", reference), hypothesis) == text_flags(
        reference, hypothesis
    )


@given(
    st.text(alphabet="abcdefghåäö 0123456789", min_size=8, max_size=40).map(canonical),
    st.data(),
)
@settings(max_examples=300)
def test_a_cut_of_two_or_more_characters_is_a_right_truncation(reference, data):
    letters = squeezed(reference)
    assume(len(letters) >= 3)
    kept = data.draw(st.integers(0, len(letters)))
    assume(kept >= 0.3 * len(letters) and kept >= 1 and len(letters) - kept >= 2)
    # Cut the text after `kept` characters, spaces not counted.
    cut = next(
        end
        for end in range(len(reference) + 1)
        if len(reference[:end].replace(" ", "")) == kept
    )
    assert classify(reference, reference[:cut]) is ErrorClass.RIGHT_TRUNCATION


def test_every_class_and_threshold_is_explained():
    assert set(MEANING) == set(FAILURES)
    assert {meaning.actionable for meaning in MEANING.values()} == {"yes", "partly", "no"}
    assert thresholds() == {
        "taxonomy": 1,
        "edge_min_matched": 0.3,
        "edge_max_residual": 0.1,
        "edge_min_gap": 2,
        "minor_min_edits": 2,
        "minor_max_share": 0.1,
        "minor_max_half": 0.5,
    }


def test_eighteen_thousand_readings_of_known_cause(monkeypatch):
    path = Path(__file__).parents[2] / "benchmarks" / "corrupted.py"
    monkeypatch.syspath_prepend(str(path.parent))  # it imports from its own folder
    spec = importlib.util.spec_from_file_location("corrupted", path)
    corrupted = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(corrupted)
    found = corrupted.agreement(corrupted.readings(3_000), classify)
    assert found["readings"] == 18_000
    assert found["share"] >= 0.93, found
    assert min(cause["right"] for cause in found["by_cause"].values()) >= 0.80 * 3_000, (
        found
    )
