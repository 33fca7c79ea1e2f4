"""A metric is declared once, and is then everywhere."""

import json
from pathlib import Path

import jiwer
import pytest

from nordocr_cli.compare.verdict import ComparedLine, Verdict
from nordocr_cli.metrics import tables
from nordocr_cli.metrics.fields import find_fields
from nordocr_cli.metrics.gates import parse_gate
from nordocr_cli.metrics.registry import METRICS
from nordocr_cli.metrics.report import build_report
from nordocr_cli.records import Box, LineResult

DOCS = Path(__file__).parents[2] / "docs"
LINES = (
    LineResult("a", "Summa 1 234,50 kr", "Summa 1 234,50 kr "),
    LineResult("b", "Org.nr 556677-8899, 2024-12-31", "Org.nr 556677-8890, 2024-12-31"),
    LineResult(
        "c", "IBAN SE35 5000 0000 0549 1000 0003", "IBAN SE35 5000 0000 0549 1000 0003"
    ),
    LineResult("d", "", "xx"),
)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_in_the_report_the_gates_and_the_schemas(metric):
    report = build_report(LINES, intervals=False)
    value = report.total.value(metric.name)
    assert value is not None
    assert report.total.rates[metric.name] == value
    assert parse_gate(f"{metric.name}>1%").value_of(report) == value
    for name in ("eval", "compare3way"):
        schema = json.loads((DOCS / f"{name}.schema.json").read_text(encoding="utf-8"))
        group = schema["$defs"]["Group" if name == "eval" else "EngineScore"]
        assert (
            metric.title
            in group["properties"]["rates"]["properties"][metric.name]["description"]
        )


def test_a_metric_that_is_no_detail_is_in_the_tables_of_eval_and_compare3way():
    compared = tuple(
        ComparedLine(
            0, Box(0, 0, 100, 20), line.reference, (line.hypothesis, line.hypothesis)
        )
        for line in LINES
    )
    shown = {row[0] for row in Verdict(("a", "b"), "r", compared).table()}
    headline = {row[0] for row in tables.headline(build_report(LINES, intervals=False))}
    titles = {metric.title for metric in METRICS if not metric.detail}
    assert titles <= shown
    assert titles <= headline


def test_fields_of_a_business_document_are_scored_on_their_own():
    rates = build_report(LINES, intervals=False).total.rates
    assert rates["amounts_exact"] == 1.0
    assert rates["organisation_numbers_exact"] == 0.0
    assert rates["dates_exact"] == rates["ibans_exact"] == 1.0


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        (
            "amount",
            "Kassa 1 234 567 och −12 345,00 samt 99,50",
            ["1 234 567", "−12 345,00", "99,50"],
        ),
        ("amount", "1.234,50 NOK, 1,234.50, 250 kr", ["1.234,50", "1,234.50", "250"]),
        ("amount", "den 2024-12-31, 556677-8899", []),
        ("amount", "sida 5 av 12", []),
        (
            "date",
            "2024-12-31 til 31.12.2025, 31/12-24",
            ["2024-12-31", "31.12.2025", "31/12-24"],
        ),
        ("date", "31. desember 2024, 5 maj 2023", ["31. desember 2024", "5 maj 2023"]),
        ("date", "1 234 2024", []),
        (
            "organisation",
            "556677-8899; Org.nr: 987 654 321",
            ["556677-8899", "987 654 321"],
        ),
        ("organisation", "CVR 12345678, kt. 590169-7579", ["12345678", "590169-7579"]),
        (
            "iban",
            "Konto NO93 8601 1117 947, DK5000400440116243",
            ["NO93 8601 1117 947", "DK5000400440116243"],
        ),
        ("iban", "NORDEN 12 3456", []),
    ],
)
def test_fields_are_found(kind, text, found):
    assert [field for _, name, field in find_fields([text]) if name == kind] == found


def test_edge_spaces_are_trimmed_and_counted():
    report = build_report(
        [LineResult("a", "x", " x"), LineResult("b", "x", "x")], intervals=False
    )
    assert report.total.rates["cer_raw"] == 0
    assert report.total.rates["edge_spaces"] == 0.5


def test_empty_references_count_as_in_jiwer_too():
    pairs = [("abc de", "abd"), ("", "xx y"), ("same", "same")]
    lines = [LineResult(str(n), *pair) for n, pair in enumerate(pairs)]
    rates = build_report(lines, intervals=False).total.rates
    references, hypotheses = map(list, zip(*pairs, strict=True))
    assert rates["cer_jiwer"] == pytest.approx(jiwer.cer(references, hypotheses))
    assert rates["wer_jiwer"] == pytest.approx(jiwer.wer(references, hypotheses))
    assert rates["cer"] == 3 / 10


def test_fields_of_many_lines_are_those_of_each_line():
    texts = ["Summa 1 234,50", "", "12", "345 kr", "2024-12-31 og 99,50", "5"]
    each = [
        (number, kind, text)
        for number, line in enumerate(texts)
        for _, kind, text in find_fields([line])
    ]

    assert find_fields(texts) == each
    assert find_fields([]) == []
    assert len(each) == 4
