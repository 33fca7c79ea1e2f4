import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.charset import to_nfc
from nordocr_cli.compare.adjudication import (
    Decision,
    OpenLine,
    match,
    read_decisions,
    to_tsv,
)
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.records import Box

BOX = Box(10, 20.5, 300, 40)
HOSTILE = [
    "=1+1",
    "-12 345",
    "+46 8 123",
    "@SUM(A1)",
    "'=x",
    "a\tb",
    "a\nb\r",
    'say "hi"',
    '"',
    "\\t",
    "\\",
    "a\u202eb",
    "",
    "∅",
]


def filled(tsv, texts):
    """Fill the last column as a spreadsheet does: read by CSV's rules, written by CSV's rules."""
    rows = list(
        csv.reader(io.StringIO(tsv.removeprefix("\ufeff"), newline=""), "excel-tab")
    )
    for row, text in zip(rows[1:], texts, strict=True):
        row[-1] = text
    out = io.StringIO()
    csv.writer(out, "excel-tab", lineterminator="\r\n").writerows(rows)
    return "\ufeff" + out.getvalue()


def test_hostile_cells_stay_in_their_cells():
    tsv = to_tsv(
        [OpenLine(0, BOX, {"read by A": text, "reference": text}) for text in HOSTILE]
    )
    rows = list(
        csv.reader(io.StringIO(tsv.removeprefix("\ufeff"), newline=""), "excel-tab")
    )
    assert rows[0] == [
        "page",
        "left",
        "top",
        "width",
        "height",
        "read by A",
        "reference",
        "text",
    ]
    assert {len(row) for row in rows} == {8}
    assert len(tsv.splitlines()) == len(rows) == len(HOSTILE) + 1
    for row in rows[1:]:
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row)


@settings(max_examples=100)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_a_cell_copied_over_says_the_same(tmp_path_factory, texts):
    """Who copies the cell of a reading into `text` has decided for that reading."""
    tsv = to_tsv([OpenLine(n, BOX, {"read by A": text}) for n, text in enumerate(texts)])
    shown = [
        row[-2]
        for row in csv.reader(
            io.StringIO(tsv.removeprefix("\ufeff"), newline=""), "excel-tab"
        )
    ][1:]
    path = tmp_path_factory.mktemp("t") / "t.tsv"
    path.write_text(filled(tsv, shown), encoding="utf-8", newline="")
    decisions, left_open = read_decisions(path)
    kept = [(n, text) for n, text in enumerate(texts) if shown[n].strip()]
    assert left_open == len(texts) - len(kept)
    assert [(d.page_index, d.box) for d in decisions] == [(n, BOX) for n, _ in kept]
    for decision, (_, text) in zip(decisions, kept, strict=True):
        assert decision.text.split() == to_nfc(text).split() or text.strip() == "<EMPTY>"


def test_what_a_person_fills_in(tmp_path):
    path = tmp_path / "t.tsv"
    tsv = to_tsv([OpenLine(0, BOX, {"read by A": "x"})] * 5)
    path.write_text(
        filled(tsv, ["-12 345", "<EMPTY>", "", "A\u030arets", "'-5"]),
        encoding="utf-8",
        newline="",
    )
    decisions, left_open = read_decisions(path)
    assert [decision.text for decision in decisions] == ["-12 345", "", "Årets", "-5"]
    assert left_open == 1


def test_numbers_that_a_spreadsheet_rewrote(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text(
        filled(to_tsv([OpenLine(0, BOX, {})]), ["x"]).replace("20.5", "20,5"),
        encoding="utf-8",
        newline="",
    )
    assert read_decisions(path)[0] == [Decision(0, BOX, "x")]


def test_the_reports_export_is_read_too(tmp_path):
    path = tmp_path / "corrected.jsonl"
    # As JSON.stringify writes it: what Unicode calls the end of a line stands as it is.
    row = {
        "page": 2,
        "bbox": {"x": 1, "y": 2, "width": 3, "height": 4},
        "corrected_from": "a\u2028\x85c",
        "text": "b",
    }
    path.write_text(
        json.dumps(row, ensure_ascii=False) + "\n\n", encoding="utf-8", newline=""
    )
    assert read_decisions(path) == ([Decision(1, Box(1, 2, 3, 4), "b")], 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a;b\n", "no column page, left"),
        (b"", "no column page"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (
            b"page\tleft\ttop\twidth\theight\ttext\n1\t2\n",
            r"t\.tsv:2: 2 cells under 6 columns",
        ),
        (
            b"page\tleft\ttop\twidth\theight\ttext\nx\t1\t1\t1\t1\ty\n",
            r"t\.tsv:2: .* must stay as they were written",
        ),
        (b"page\tleft\ttop\twidth\theight\ttext\n0\t1\t1\t1\t1\ty\n", "pages count from 1"),
        (b"page\tleft\ttop\twidth\theight\ttext\n1\t1\t1\t0\t1\ty\n", "has no area"),
        (
            b'page\tleft\ttop\twidth\theight\ttext\n1\t1\t1\t1\t1\t"y\n',
            "needs one at its end",
        ),
        (b'{"page": 1}\n', r't\.tsv:1: expected {"page": 1'),
    ],
)
def test_a_damaged_table_is_named(tmp_path, content, message):
    path = tmp_path / "t.tsv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_decisions(path)
    with pytest.raises(UsageError, match="no decisions"):
        read_decisions(tmp_path / "none.tsv")


def test_decisions_find_their_lines():
    lines = [(0, Box(0, 60 * n, 400, 40)) for n in range(4)] + [(1, Box(0, 0, 400, 40))]
    decisions = [
        Decision(0, Box(0, 0, 400, 40), "same box"),
        Decision(0, Box(4, 116, 410, 48), "another engine's box"),
        Decision(0, Box(900, 900, 10, 10), "nowhere"),
        Decision(1, Box(0, 0, 400, 40), "page 2"),
        Decision(2, Box(0, 0, 400, 40), "no such page"),
    ]
    texts, stray = match(decisions, lines)
    assert texts == {0: "same box", 2: "another engine's box", 4: "page 2"}
    assert [decision.text for decision in stray] == ["nowhere", "no such page"]


def test_two_decisions_about_one_line_are_none():
    texts, stray = match(
        [Decision(0, Box(0, 0, 190, 40), "a"), Decision(0, Box(200, 0, 200, 40), "b")],
        [(0, Box(0, 0, 400, 40))],
    )
    assert (texts, len(stray)) == ({}, 2)
