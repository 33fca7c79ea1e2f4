import json

import pytest

from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.metrics.recorded import find_recorded, read_recorded
from nordocr_cli.metrics.score import score_line
from nordocr_cli.records import LineResult


def write(path, *rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows),
        encoding="utf-8",
    )
    return path


def test_our_own_lines_come_back(tmp_path):
    result = LineResult("a", "Å 1", "A 1", 0.5, "sv", "noisy", "d1:p1", 320, 1.5, 80)
    (line,) = read_recorded(write(tmp_path / "lines.jsonl", score_line(result).to_json()))
    assert line.result == result
    assert line.has_reference


def test_readings_of_another_program(tmp_path):
    rows = (
        {
            "image": "i/1.png",
            "ref": "ab",
            "hyp": "",
            "conf": 91,
            "width32": 40,
            "kind": "row",
        },
        {"id": "2", "hypothesis": "x"},
    )
    first, second = read_recorded(write(tmp_path / "t.jsonl", rows[0], "", rows[1]), "kind")
    assert first.result == LineResult("i/1.png", "ab", "", 0.91, subset="row", width=40)
    assert (first.image, first.has_reference) == ("i/1.png", True)
    assert (second.where, second.has_reference, second.result.confidence) == (
        f"{tmp_path}/t.jsonl:3",
        False,
        None,
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{"], r"t\.jsonl:1: not a recorded reading"),
        ([json.dumps({"id": "a", "hyp": "x" * 20_001})], "a text of 20,001 characters"),
        (["[1]"], "not a JSON object"),
        ([{"hyp": "x"}], r"id \(or image\) must be a string"),
        ([{"id": "a"}], r"hypothesis \(or hyp\) must be a string, not None"),
        ([{"id": "a", "hyp": 5}], "must be a string, not 5"),
        ([{"id": "a", "hyp": "x", "ref": 5}], "reference must be a string"),
        ([{"id": "a", "hyp": "x", "width": "wide"}], "invalid literal"),
        (
            [{"id": "a", "hyp": "x"}, {"id": "a", "hyp": "y"}],
            r"t\.jsonl:2: 'a' was already read in .*t\.jsonl:1",
        ),
        (
            [{"id": "a", "hyp": "x", "squash_ratio": float("nan")}],
            "squash_ratio must be a number above 0, not nan",
        ),
        (['{"id": "a", "hyp": "\\ud800"}'], "half a surrogate pair"),
        ([], "holds no readings"),
    ],
)
def test_what_is_no_reading_is_named(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        read_recorded(write(tmp_path / "t.jsonl", *rows))


def test_a_confidence_that_is_no_number_is_none(tmp_path):
    rows = [
        {"id": str(n), "hyp": "\U0001f600", "confidence": value}
        for n, value in enumerate((float("nan"), float("inf"), 0.5))
    ]
    read = read_recorded(write(tmp_path / "t.jsonl", *rows))
    assert [line.result.confidence for line in read] == [None, None, 0.5]


def test_what_a_path_means(tmp_path):
    with pytest.raises(UsageError, match="no recorded result"):
        find_recorded(tmp_path)
    with pytest.raises(UsageError, match="no recorded result"):
        find_recorded(tmp_path / "x.jsonl")
    (tmp_path / "eval.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="is not a result of `nordocr eval -o`"):
        find_recorded(tmp_path)
