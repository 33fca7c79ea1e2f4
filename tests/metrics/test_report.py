import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.charset import NORDIC
from nordocr_cli.metrics.report import GROUPINGS, Report, build_report
from nordocr_cli.metrics.score import (
    document_of_source,
    score_line,
    score_lines,
    width_band,
    worst,
)
from nordocr_cli.metrics.tables import worst_lines
from nordocr_cli.metrics.taxonomy import FAILURES, classify
from nordocr_cli.metrics.text import canonical, count_edits, squeezed
from nordocr_cli.records import LineResult


def line(reference, hypothesis, **fields):
    return LineResult(
        id=fields.pop("id", "x"), reference=reference, hypothesis=hypothesis, **fields
    )


RESULTS = [
    line(
        "Summa kortfristiga skulder",
        "Summa kortfristiga sk",
        language="sv",
        width=700,
        source="d1:p1:r1",
    ),
    line("1 234 567", "1234567", language="sv", width=200, source="d1:p1:r2"),
    line("Øvrige år", "Ovrige ar", language="da", width=200, source="d2:p1:r1"),
    line("Summa", "Summa", language="da", width=768, squash_ratio=1.5, source="d2:p1:r2"),
    line("", "abc", language="", source="d3"),
    line("Það", "", language="is", width=40, frames=2, source="d3"),
]

texts = st.text(alphabet="aåäö 012,", max_size=12)
results = st.lists(
    st.builds(
        LineResult,
        id=st.just("x"),
        reference=texts,
        hypothesis=texts,
        language=st.sampled_from(["", "sv", "is"]),
        subset=st.sampled_from(["", "noisy"]),
        source=st.sampled_from(["", "a:p1", "b"]),
        width=st.sampled_from([None, 4, 320, 324, 2000]),
        squash_ratio=st.sampled_from([1.0, 1.5]),
    ),
    max_size=12,
)


def test_counts_come_first_and_rates_follow():
    report = build_report(RESULTS, NORDIC)
    total = report.total
    assert (total.lines, total.exact, total.failures) == (6, 1, 5)
    assert total.metrics["space_insensitive"].numerator == 2
    assert total.classes == {
        "exact": 1,
        "space_only": 1,
        "right_truncation": 1,
        "leading_garbage": 0,
        "trailing_garbage": 0,
        "minor": 1,
        "major": 2,
    }
    assert total.space_kinds == {"grouping": 1, "word_boundary": 0}
    # 5 missing, 2 spaces, 2 letters, 3 missing of 26 + 9 + 9 + 5 + 3 characters; the empty
    # reference is in neither sum.
    assert report.cer == 12 / 52
    assert total.value("cer_macro") == pytest.approx((5 / 26 + 2 / 9 + 2 / 9 + 0 + 1) / 5)
    assert (total.empty_references, total.empty_reference_insertions) == (1, 3)
    words, digits = total.metrics["wer"], total.metrics["digits_exact"]
    assert (words.numerator, words.denominator) == (1 + 3 + 2 + 1, 10)
    assert (digits.numerator, digits.denominator) == (1, 1)
    assert (
        total.flags["over_wide"],
        total.flags["ctc_infeasible"],
        total.flags["empty_hyp"],
    ) == (
        1,
        1,
        1,
    )


def test_groups():
    report = build_report(RESULTS)
    assert {name: group.lines for name, group in report.by_language.items()} == {
        "(none)": 1,
        "da": 2,
        "is": 1,
        "sv": 2,
    }
    assert report.by_subset == {}
    # 768 px squashed by 1.5 stood 1152 px wide.
    assert {name: group.lines for name, group in report.by_width.items()} == {
        "<=320": 3,
        "<=768": 1,
        "<=1792": 1,
        "unknown": 1,
    }
    assert report.by_width["<=768"].classes["right_truncation"] == 1
    assert {name: group.lines for name, group in report.by_squash.items()} == {
        "fits": 5,
        "<=1.5": 1,
    }
    # Each language is one document: nothing varies, and nothing is known. The narrow lines are of
    # three.
    assert [group.intervals["exact"] for group in report.by_language.values()] == [None] * 4
    narrow = report.by_width["<=320"]
    exact = narrow.intervals["exact"]
    assert (exact.low, exact.high, exact.units) == (0, 0, 3)
    assert narrow.intervals["cer"].low < narrow.value("cer") < narrow.intervals["cer"].high


@pytest.mark.parametrize(
    ("reference", "hypothesis", "pairs"),
    [
        ("það", "thað", [("þ", "th")]),
        ("the that", "þe þat", [("th", "þ"), ("th", "þ")]),
        ("Ærø", "AErö", [("Æ", "AE"), ("ø", "ö")]),
        ("Ære", "Aere", [("Æ", "Ae")]),
        ("bræt", "bret", [("æ", "e")]),
        ("maelt", "mælt", [("ae", "æ")]),
        ("bådä", "baadå", [("å", "aa"), ("ä", "å")]),
        ("auður", "audur", [("ð", "d")]),
        ("þú", "pu", [("þ", "p"), ("ú", "u")]),
        ("ab", "abc", []),
        ("x", "th", []),
        ("þhxx", "thxxy", []),  # the letter that is too many stands elsewhere
    ],
)
def test_nordic_letters_are_matched_by_alignment_two_letters_for_one_too(
    reference, hypothesis, pairs
):
    found = build_report([line(reference, hypothesis)])
    assert sorted(
        (c.reference, c.hypothesis) for c in found.nordic_pairs for _ in range(c.count)
    ) == sorted(pairs)
    assert all(c.of == reference.count(c.reference) for c in found.nordic_pairs)
    assert Report.model_validate(found.to_json()) == found


@pytest.mark.parametrize(
    ("width", "ratio", "band"),
    [
        (320, 1.0, "<=320"),
        (324, 1.0, "<=768"),
        (1792, 1.0, "<=1792"),
        (1792, 1.01, ">1792"),
        (None, 1.0, "unknown"),
    ],
)
def test_width_bands(width, ratio, band):
    assert width_band(line("", "", width=width, squash_ratio=ratio)) == band


def test_confusions_name_code_points():
    report = build_report(RESULTS)
    pairs = {(c.reference, c.hypothesis): (c.count, c.of) for c in report.nordic_pairs}
    assert pairs == {("Ø", "O"): (1, 1), ("å", "a"): (1, 1)}
    assert build_report([line("Iå", "iÅ")]).nordic_pairs == ()  # case is another matter
    rows = report.to_json()["confusions"]
    assert rows[0] == {
        "reference": {"char": " ", "code": "U+0020"},
        "hypothesis": {"char": "ε", "code": None},
        "count": 2,
        "of": 5,
    }


def test_out_of_vocabulary_references_need_a_charset():
    á = [line("Já", "Ja")]
    assert build_report(á, NORDIC).total.flags["oov_ref"] == 1
    assert build_report(á).total.flags["oov_ref"] == 0


def test_intervals_draw_documents_where_they_are_known():
    assert document_of_source("d000_sv_ar:p1:r4") == "d000_sv_ar"
    report = build_report(RESULTS)
    assert (report.cer_interval.unit, report.cer_interval.units) == ("source", 3)
    assert report.exact_interval.low <= report.exact_rate <= report.exact_interval.high
    unknown = build_report([line("ab", "ac", source=source) for source in ("d1", "")])
    assert unknown.cer_interval.unit == "line"


def test_nothing_at_all():
    report = build_report([])
    assert (report.cer, report.exact_rate, report.cer_interval) == (None, None, None)
    json.dumps(report.to_json(), allow_nan=False)


@given(results)
@settings(max_examples=40, deadline=None)
def test_the_classes_partition_the_failures(lines):
    report = build_report(lines, NORDIC)
    groups = [group for kind in GROUPINGS for group in report.groups(kind).values()]
    for group in (report.total, *groups):
        assert sum(group.classes[c.value] for c in FAILURES) == group.failures
        assert sum(group.classes.values()) == group.lines
        assert (
            group.classes["space_only"]
            == sum(group.space_kinds.values())
            == group.metrics["space_insensitive"].numerator - group.exact
        )
        assert (
            group.metrics["exact_ceiling"].numerator <= group.lines - group.flags["oov_ref"]
        )
    for kind in GROUPINGS:
        assert not report.groups(kind) or sum(
            group.lines for group in report.groups(kind).values()
        ) == len(lines)


@given(results)
@settings(max_examples=20, deadline=None)
def test_a_report_survives_its_json(lines):
    value = json.loads(json.dumps(build_report(lines, NORDIC).to_json(), allow_nan=False))
    assert Report.model_validate(value).to_json() == value


@given(results)
@settings(max_examples=40, deadline=None)
def test_lines_are_scored_together_as_alone(lines):
    together = score_lines(lines, NORDIC)
    assert together == [score_line(line, NORDIC) for line in lines]
    for score in together:
        assert score.edits["raw"] == count_edits(
            score.result.reference, score.result.hypothesis.strip()
        )
        assert score.edits["canonical"] == count_edits(
            canonical(score.result.reference), canonical(score.result.hypothesis)
        )
        assert score.edits["squeezed"] == count_edits(
            squeezed(score.result.reference), squeezed(score.result.hypothesis)
        )
        assert score.words == count_edits(score.reference.split(), score.hypothesis.split())
        assert score.error_class is classify(
            score.result.reference, score.result.hypothesis
        )


def test_a_result_says_itself_what_is_outside_the_charset():
    assert score_line(line("Já", "Ja", oov=True)).flags == ("diacritic_only", "oov_ref")
    assert score_line(line("Ja", "Ja", oov=True), NORDIC).flags == ()
    report = build_report(
        [line("Já", "Ja", oov=True), line("Ja", "Ja"), line("aa", "a", frames=2)]
    )
    assert report.total.rates["exact_ceiling"] == 1 / 3


def test_the_worst_lines_come_first():
    scores = [score_line(result) for result in RESULTS]
    assert [score.result.reference for score in worst(scores, 2)] == [
        "Summa kortfristiga skulder",
        "",
    ]
    assert len(worst(scores, 99)) == 5
    long, short = worst_lines(
        [score_line(line("x" * 20_000, "y")), score_line(line("x", "y"))]
    )
    assert len(long[3]) < 600
    assert long[3].endswith("more characters)")
    assert short[3] == "⟦x→y⟧"


def test_a_line_keeps_what_everything_else_follows_from():
    row = score_line(RESULTS[1]).to_json()
    assert row["class"] == "space_only"
    assert (row["reference"], row["hypothesis"], row["edits"], row["characters"]) == (
        "1 234 567",
        "1234567",
        2,
        9,
    )
