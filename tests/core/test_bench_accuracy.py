import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nordocr_cli import app
from nordocr_cli.core.bench.accuracy import compare_accuracy
from nordocr_cli.core.bench.lines import Lines
from nordocr_cli.core.bench.result import read_bench
from nordocr_cli.core.bench.run import bench
from nordocr_cli.records import Recognition

SAMPLES = Path(__file__).parents[2] / "samples"
TIFF, TRUTH = SAMPLES / "doc" / "dev_doc.tif", SAMPLES / "doc" / "dev_doc.json"
DOCUMENTS, LINES_OF_EACH = 8, 3


def lines(texts):
    documents = tuple(f"document {number // LINES_OF_EACH}" for number in range(len(texts)))
    return Lines("lines", (), ("sv",) * len(texts), texts=tuple(texts), documents=documents)


def readings(texts, wrong):
    return [
        Recognition("wrong" if number in wrong else text)
        for number, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        (
            range(0, DOCUMENTS * LINES_OF_EACH, LINES_OF_EACH),
            "worse",
        ),  # one of each document
        (range(LINES_OF_EACH), "no difference shown"),  # all of one document
        ((), "no difference"),
    ],
)
def test_accuracy_is_compared_by_document(wrong, verdict):
    texts = [f"text {number}" for number in range(DOCUMENTS * LINES_OF_EACH)]

    (found,) = compare_accuracy(
        lines(texts), ["a", "b"], [readings(texts, ()), readings(texts, wrong)], reference=0
    )

    assert (found.name, found.other) == ("b", "a")
    assert found.comparison.verdict == verdict
    assert found.comparison.unit == "source"
    assert found.comparison.only_a_exact == len(wrong)


def test_lines_without_known_texts_have_no_accuracy():
    read = readings(["read"] * 3, ())

    assert (
        compare_accuracy(lines(["", "", ""]), ["a", "b"], [read, read], reference=0) == ()
    )


def test_bench_prints_and_saves_the_verdict(tiny_onnx, tmp_path):
    output = tmp_path / "bench.json"
    options = ["--rounds", "1", "--single-lines", "1", "--limit", "6", "-o", str(output)]
    document = ["--doc", str(TIFF), "--regions", str(TRUTH)]

    shown = CliRunner().invoke(
        app.app,
        ["bench", str(tiny_onnx), "tesseract", *document, *options],
        env={"COLUMNS": "200"},  # no cell is broken into lines
    )

    assert shown.exit_code == 0
    assert "accuracy, compared with" in shown.stdout
    assert "too few documents" in shown.stdout
    assert "Too few pages to tell: 4" in shown.stderr
    (saved,) = json.loads(output.read_text(encoding="utf-8"))["accuracy"]
    assert saved["comparison"]["verdict"] == "too few documents"
    assert read_bench(output).accuracy[0].comparison.units == 4


def test_bench_reads_what_prep_reads(tiny_onnx, tmp_path):
    labels = SAMPLES / "lines" / "manifest.jsonl"

    result = bench(
        [str(tiny_onnx)], lines=labels, limit=3, rounds=1, single_lines=1, threads=1
    )

    assert (result.source, result.rows[0].lines) == (str(labels), 3)
    assert result.rows[0].exact is not None
