from dataclasses import replace

import pytest

from nordocr_cli.compare.verdict import ComparedLine, Verdict, score
from nordocr_cli.metrics.report import build_report
from nordocr_cli.metrics.taxonomy import FAILURES
from nordocr_cli.records import Box, LineResult

BOX = Box(0, 0, 100, 20)


def line(reference, first, second, page=0, **fields):
    return ComparedLine(page, BOX, reference, (first, second), **fields)


LINES = (
    line("Summa kortfristiga skulder", "Summa kortfristiga sk", "Summa kortfristiga skulder"),
    line("7 811 518", "7811518", "7 811 518"),
    line("Årets resultat", "Årets  resultat ", "Arets resultat"),
    line("5", "S", None, page=1),
    line(None, "x", "y", page=1, excluded="timeout"),
)
VERDICT = Verdict(("SVTRv2", "Tesseract"), "agreement with the VLM m, not accuracy", LINES)


def test_counts():
    a, b = VERDICT.scores
    assert (a.lines, a.exact, a.space_insensitive, a.unseen) == (4, 1, 2, 0)
    assert (b.lines, b.exact, b.space_insensitive, b.unseen) == (4, 2, 2, 1)
    assert {k: v for k, v in a.errors.items() if v} == {
        "right_truncation": 1,
        "space_only": 1,
        "major": 1,
    }
    assert a.edits == 5 + 2 + 0 + 1
    assert a.cer_micro == pytest.approx(8 / (26 + 9 + 14 + 1))
    assert a.cer_macro == pytest.approx((5 / 26 + 2 / 9 + 0 + 1) / 4)


def test_what_is_read_on_empty_lines_is_a_failure_and_no_character_error():
    """The same lines give the same CER as in eval's report."""
    lines = (line("abcd", "abcx", "abcd"), line("", "zzzz", ""))
    found = score("", lines, 0)
    report = build_report(
        [LineResult("1", "abcd", "abcx"), LineResult("2", "", "zzzz")], intervals=False
    )
    assert (found.exact, found.lines, found.edits) == (0, 2, 1)
    assert found.cer_micro == report.total.rates()["cer"] == 0.25


def test_classes_partition_the_failures_and_outcomes_the_lines():
    for s in VERDICT.scores:
        assert sum(s.errors.values()) == s.lines - s.exact
    assert VERDICT.outcomes == {"both right": 0, "only first": 1, "only second": 2, "both wrong": 1}
    assert sum(VERDICT.outcomes.values()) == len(VERDICT.scored) == 4
    assert VERDICT.excluded == {"timeout": 1}


def test_the_table_has_every_row_of_the_report_and_its_gap():
    rows = {row[0].strip(): row[1:] for row in VERDICT.table()}
    assert rows["exact match"] == ("1 (25.0 %)", "2 (50.0 %)", "-1", "")
    assert rows["space-insensitive match"][2] == "+0"
    assert rows["CER macro (mean of lines)"][0] == "35.36 %"
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
    empty = score("x", [line("", "", "a")], 1)
    assert (empty.cer_micro, empty.cer_macro) == (None, None)
    assert Verdict(("a", "b"), "r", (line("", "", ""),)).table()[4][1] == "–"


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
    lines = tuple(replace(each, readings=read[1:]) for each, read in zip(lines, THREE, strict=True))
    found = Verdict(("A", "B"), "accuracy", lines, third="V")
    assert found.outcomes == {"both right": 2, "only first": 1, "only second": 1, "both wrong": 1}
    assert (found.third_score.lines, found.third_score.exact) == (4, 4)
    # Digits: in three lines; A has read 1284 once, B's lost space is no lost digit.
    assert [(s.digits_right, s.digit_lines) for s in found.scores] == [(2, 3), (3, 3)]
    assert found.agreement.patterns["canonical"] == {
        "AAA": 1,
        "AAB": 1,
        "ABA": 1,
        "BAA": 1,
        "ABC": 0,
        "missing": 1,
    }
    assert found.agreement.patterns["squeezed"]["AAA"] == 2
    # One line for each alone: no difference is shown, p = 1.
    assert (
        found.comparison.only_a_exact,
        found.comparison.only_b_exact,
        found.comparison.mcnemar_p,
    ) == (1, 1, 1.0)
    assert [each.settled for each in lines] == [True, False, False, False, False]


def test_json_keeps_the_reference_and_the_lines():
    value = VERDICT.to_json()
    assert value["reference"] == "agreement with the VLM m, not accuracy"
    assert value["engines"][0]["errors"]["right_truncation"]["actionable"] == "yes"
    assert value["lines"][0]["classes"] == ["right_truncation", "exact"]
    assert value["lines"][4]["excluded"] == "timeout"
    assert value["lines"][3]["readings"] == ["S", None]
