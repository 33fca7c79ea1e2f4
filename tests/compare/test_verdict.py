from dataclasses import replace

import pytest

from nordocr_cli.compare.verdict import ComparedLine, Verdict, score_reader
from nordocr_cli.metrics.report import build_report
from nordocr_cli.metrics.taxonomy import FAILURES
from nordocr_cli.records import Box, LineResult

BOX = Box(0, 0, 100, 20)


def line(reference, first, second, page=0, **fields):
    return ComparedLine(page, BOX, reference, (first, second), **fields)


LINES = (
    line(
        "Summa kortfristiga skulder", "Summa kortfristiga sk", "Summa kortfristiga skulder"
    ),
    line("7 811 518", "7811518", "7 811 518"),
    line("Årets resultat", "Årets  resultat ", "Arets resultat"),
    line("5", "S", None, page=1),
    line(None, "x", "y", page=1, excluded="timeout"),
)
VERDICT = Verdict(("SVTRv2", "Tesseract"), "agreement with the VLM m, not accuracy", LINES)


def test_counts():
    a, b = VERDICT.scores
    assert (a.lines, a.exact, a.metrics["space_insensitive"].numerator) == (4, 1, 2)
    assert (b.lines, b.exact, b.metrics["space_insensitive"].numerator) == (4, 2, 2)
    assert (a.unseen_lines, b.unseen_lines) == (0, 1)
    assert {name: count for name, count in a.classes.items() if count} == {
        "exact": 1,
        "right_truncation": 1,
        "space_only": 1,
        "major": 1,
    }
    assert a.metrics["cer"].numerator == 5 + 2 + 0 + 1
    assert a.value("cer") == pytest.approx(8 / (26 + 9 + 14 + 1))
    assert a.value("cer_macro") == pytest.approx((5 / 26 + 2 / 9 + 0 + 1) / 4)


def test_what_is_read_on_empty_lines_is_a_failure_and_no_character_error():
    """The same lines give the same CER as in eval's report."""
    lines = (line("abcd", "abcx", "abcd"), line("", "zzzz", ""))
    found = score_reader("", lines, 0)
    report = build_report(
        [LineResult("1", "abcd", "abcx"), LineResult("2", "", "zzzz")], intervals=False
    )
    assert (found.exact, found.lines, found.metrics["cer"].numerator) == (0, 2, 1)
    assert found.rates == report.total.rates
    assert found.value("cer") == 0.25


def test_classes_partition_the_failures_and_outcomes_the_lines():
    for s in VERDICT.scores:
        assert sum(s.classes[c.value] for c in FAILURES) == s.lines - s.exact
    assert VERDICT.outcomes == {
        "both right": 0,
        "only first": 1,
        "only second": 2,
        "both wrong": 1,
    }
    assert sum(VERDICT.outcomes.values()) == len(VERDICT.scored) == 4
    assert VERDICT.excluded == {"timeout": 1}


def test_the_table_has_every_row_of_the_report_and_its_gap():
    rows = {row[0].strip(): row[1:] for row in VERDICT.table()}
    assert rows["exact"] == ("1 (25.0 %)", "2 (50.0 %)", "-1", "")
    assert rows["exact without spaces"][2] == "+0"
    assert rows["CER macro"][0] == "35.36 %"
    assert rows["right truncation"] == ("1 (33.3 %)", "0 (0.0 %)", "+1", "yes")
    assert rows["space only"][3] == "no"
    assert {c.value.replace("_", " ") for c in FAILURES} <= set(rows)


def test_pages_and_examples():
    assert VERDICT.page_table() == [
        ("1", "3", "0", "1", "2", "0", "-1", "0"),
        ("2", "1", "0", "0", "0", "1", "+0", "1"),
    ]
    assert [e.reference for e in VERDICT.examples()] == [
        LINES[0].reference,
        "7 811 518",
        "5",
        "Årets resultat",
    ]
    assert len(VERDICT.examples(2)) == 2


def test_nothing_divides_by_zero():
    empty = score_reader("x", [line("", "", "a")], 1)
    assert (empty.value("cer"), empty.value("cer_macro")) == (None, None)
    rows = Verdict(("a", "b"), "r", (line("", "", ""),)).table()
    assert "CER micro" not in {row[0] for row in rows}


# What stands there, what each engine read, what the VLM read; the reference is ground truth.
THREE = (
    ("1 234", "1 234", "1 234", "1 234"),
    ("1 234", "1 234", "1234", "1 234"),
    ("1 234", "1 284", "1 234", "1 234"),
    ("Årets", "Arets", "Arets", "Årets"),
    ("Årets", "Årets", "Årets", None),
)


def test_three_readers_by_hand():
    lines = tuple(line(truth, *read) for truth, *read in THREE)
    lines = tuple(
        replace(each, readings=read[1:]) for each, read in zip(lines, THREE, strict=True)
    )
    found = Verdict(("A", "B"), "accuracy", lines, third="V")
    assert found.outcomes == {
        "both right": 2,
        "only first": 1,
        "only second": 1,
        "both wrong": 1,
    }
    assert (found.third_score.lines, found.third_score.exact) == (4, 4)
    # Digits: in three lines; A has read 1284 once, B's lost space is no lost digit.
    digits = [score.metrics["digits_exact"] for score in found.scores]
    assert [(sums.numerator, sums.denominator) for sums in digits] == [(2, 3), (3, 3)]
    assert found.agreement.patterns["canonical"] == {
        "AAA": 1,
        "AAB": 1,
        "ABA": 1,
        "BAA": 1,
        "ABC": 0,
        "missing": 1,
    }
    assert found.agreement.patterns["squeezed"]["AAA"] == 2
    # One line for each alone, and one page: no difference can be shown.
    comparison = found.comparison
    assert (comparison.only_a_exact, comparison.only_b_exact, comparison.p_exact) == (
        1,
        1,
        1.0,
    )
    assert comparison.verdict == "too few documents"
    assert [each.settled for each in lines] == [True, False, False, False, False]


def test_json_keeps_the_reference_and_the_lines():
    value = VERDICT.to_json()
    assert value["reference"] == "agreement with the VLM m, not accuracy"
    assert value["engines"][0]["classes"]["right_truncation"] == 1
    assert value["lines"][0]["classes"] == ["right_truncation", "exact"]
    assert value["lines"][4]["excluded"] == "timeout"
    assert value["lines"][3]["readings"] == ["S", None]


def test_truncation_is_counted_by_the_width_of_a_line():
    wide = ComparedLine(
        0, Box(0, 0, 1000, 40), "Summa kortfristiga skulder", ("Summa kort", "x")
    )
    narrow = ComparedLine(0, Box(0, 0, 100, 40), "Summa", ("Summa", "Summa"))
    rows = Verdict(("a", "b"), "r", (wide, narrow, narrow)).truncation_table()
    assert rows == [
        ("<=320", "2", "0 (0.0 %)", "0 (0.0 %)"),
        ("<=1024", "1", "1 (100.0 %)", "0 (0.0 %)"),
    ]
