"""The speed to expect of documents that are not at hand, from the widths of their lines."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.charset import NORDIC
from nordocr_cli.core.bench.plan import BenchRequest, plan
from nordocr_cli.core.bench.result import read_bench
from nordocr_cli.core.bench.widths import read_widths, spread_widths
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import LineRow


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_pages_a_second_are_expected_from_a_table_of_widths(tiny_onnx, tmp_path):
    table, output = tmp_path / "widths.tsv", tmp_path / "bench.json"
    table.write_text("# width lines\n64\t90\n128\t10\n", encoding="utf-8")
    arguments = ("--widths", table, "--lines-per-page", 50, "--limit", 20)
    few = ("--rounds", 1, "--single-lines", 2, "--threads", 1)
    found = run("bench", tiny_onnx, *arguments, *few, "-o", output)
    assert found.exit_code == 0, found.output
    assert "for 50 lines a page" in found.output

    result = read_bench(output)
    row = result.rows[0]
    assert row.lines == 20
    assert row.expected_pages_per_s == pytest.approx(row.lines_per_s / 50)
    # Random pixels have no text to compare.
    assert (row.same_text, row.exact, row.pages_per_s) == (None, None, None)


def test_drawn_widths_are_distributed_as_those_of_the_table():
    assert spread_widths({320: 3, 64: 1}, 8) == [64, 64, 320, 320, 320, 320, 320, 320]
    assert spread_widths({64: 1, 1024: 999}, 10) == [1024] * 10
    assert spread_widths({64: 1, 128: 1, 256: 1}, 3) == [64, 128, 256]


def test_a_store_and_its_statistics_are_tables_of_widths(tmp_path):
    store, stats = tmp_path / "lines.lmdb", tmp_path / "stats.json"
    with LineStoreWriter(store, Geometry(max_width=1024), NORDIC) as writer:
        for number, width in enumerate((64, 64, 512)):
            line = np.full((32, width, 3), 255, np.uint8)
            writer.add(line, LineRow(str(number), f"{number}.png", "7"))
    stats.write_text(run("data", "stats", store, "--json").stdout, encoding="utf-8")
    assert read_widths(store) == read_widths(stats) == {64: 2, 512: 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.tsv", "64 1\n64\n", "w.tsv:2: '64' is not a width in px"),
        ("w.tsv", "0 1\n", "w.tsv:1: a line of 0 px"),
        ("w.tsv", "70000 1\n", "a line of 70000 px"),
        ("w.tsv", "64 0\n", "holds no lines"),
        ("w.json", "[64]", "expected {"),
        ("w.json", '{"64": -1}', "'64': -1 is not a width"),
        ("w.json", '{"64": true}', "'64': True is not a width"),
        ("w.json", '{"wide": 1}', "'wide': 1 is not a width"),
    ],
)
def test_a_damaged_table_names_its_row(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message.replace("{", r"\{")):
        read_widths(path)


def test_without_a_table_the_path_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.tsv"):
        read_widths(tmp_path / "none.tsv")


def test_a_program_needs_lines_with_text(tmp_path):
    table = tmp_path / "widths.json"
    table.write_text(json.dumps({"64": 1}), encoding="utf-8")
    with pytest.raises(UsageError, match="the time of tesseract depends on the text"):
        plan(BenchRequest(("tesseract",), widths=table))


def test_a_document_has_its_own_pages(tiny_onnx, tmp_path):
    document = tmp_path / "scan.tif"
    document.touch()
    with pytest.raises(UsageError, match="a document has its pages"):
        plan(BenchRequest((str(tiny_onnx),), document=document, lines_per_page=40))
