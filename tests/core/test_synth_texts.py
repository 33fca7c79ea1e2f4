import json

import pytest
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.charset import NORDIC
from nordocr_cli.core.synth.texts_only import write_texts
from nordocr_cli.errors import UsageError


def test_texts_alone_are_written_as_long_as_requested(tmp_path):
    file = tmp_path / "texts.jsonl"
    write_texts(file, NORDIC, 50, seed=3, max_characters=20)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == 50
    assert 0 < max(len(row["text"]) for row in rows) <= 20
    assert not NORDIC.missing("".join(row["text"] for row in rows))
    write_texts(tmp_path / "more.jsonl", NORDIC, 60, seed=3, max_characters=20)
    more = (tmp_path / "more.jsonl").read_text(encoding="utf-8").splitlines()
    assert more[:50] == file.read_text(encoding="utf-8").splitlines()
    with pytest.raises(UsageError, match=r"--texts-only writes JSON Lines"):
        write_texts(tmp_path / "texts.lmdb", NORDIC, 1, seed=3)


def test_texts_have_a_shortest_length(tmp_path):
    file = tmp_path / "texts.jsonl"
    write_texts(file, NORDIC, 60, seed=3, min_characters=40, max_characters=60)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    lengths = [len(row["text"]) for row in rows]
    assert 40 <= min(lengths) <= max(lengths) <= 60
    assert {row["look"] for row in rows} >= {"office", "book"}
    assert "figures" not in {row["look"] for row in rows}  # none of theirs is that long
    with pytest.raises(UsageError, match="--min-characters 9 is above --max-characters 8"):
        write_texts(file, NORDIC, 1, seed=3, min_characters=9, max_characters=8)


def test_the_command_writes_texts_without_fonts(tmp_path):
    arguments = [
        "synth",
        "-o",
        str(tmp_path / "t.jsonl"),
        "-n",
        "3",
        "-p",
        "demo",
        "--texts-only",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert len((tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_texts_are_those_of_the_chosen_look(tmp_path):
    file = tmp_path / "receipts.jsonl"
    write_texts(file, NORDIC, 40, seed=3, looks={"receipt": 1.0})
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert {row["look"] for row in rows} == {"receipt"}
    assert {row["kind"] for row in rows} <= {"receipt", "number", "cell"}
