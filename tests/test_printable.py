"""Names, ids and messages reach a terminal, a table or a file without controlling it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nordocr_cli.core.predict.journal import PredictJournal
from nordocr_cli.printable import (
    caption,
    hide,
    json_text,
    printable,
    printable_lines,
    redacted,
    shown_path,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Årsmelding \u00a0 2024 ✓", "Årsmelding \u00a0 2024 ✓"),
        ("a\x1b[31mred\x1b[0m", "a<U+001B>[31mred<U+001B>[0m"),
        ("a\nb\tc\r", "a<U+000A>b<U+0009>c<U+000D>"),
        ("a\x9b2J", "a<U+009B>2J"),
        ("user\u202etxt.exe", "user<U+202E>txt.exe"),
        ("a\u2028b", "a<U+2028>b"),
        (os.fsdecode(b"h\xe5r"), "h\\xe5r"),
        ("\ud800", "\\ud800"),
    ],
)
def test_controls_and_bytes_become_codes(text, shown):
    assert printable(text) == shown


def test_a_caption_is_one_short_line():
    assert caption("a\nb\x9b") == "a<U+000A>b<U+009B>"
    assert caption("x" * 200) == "x" * 200
    assert caption("x" * 1_000_000) == "x" * 199 + "…"
    assert len(caption("\n" * 1_000_000, maximum=50)) == 50


def test_lines_keep_their_breaks():
    assert printable_lines("a\tb\nc\x1b") == "a\tb\nc<U+001B>"


@pytest.mark.parametrize(
    "text", ["\x9b2J", "\u202e", "a\x00b", "å✓\u2028", os.fsdecode(b"h\xe5r")]
)
def test_json_is_safe_to_print_and_reads_back(text):
    written = json_text({"id": text})
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in written)
    written.encode("utf-8")
    assert json.loads(written)["id"] == shown_path(text)


def test_secrets_are_left_out_however_a_server_repeats_them():
    hide("sk-se/same+1")
    for text in (
        "HTTP 401: key sk-se/same+1 is wrong",
        "url?key=sk-se%2Fsame%2B1",
        '{"headers": {"Authorization": "Bearer sk-se/same+1"}}',
    ):
        assert "same" not in redacted(text)
    assert (
        redacted("Authorization: Bearer abcdef, Host: x")
        == "Authorization: Bearer ***, Host: x"
    )
    assert (
        redacted("'authorization': 'Basic dXNlcjpwYXNz'") == "'authorization': 'Basic ***'"
    )
    assert redacted("at https://me:sesame@host/v1") == "at https://me:***@host/v1"
    assert redacted("a:b@c http://host:80/@x") == "a:b@c http://host:80/@x"
    assert redacted("no authorization needed") == "no authorization needed"


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8")
@pytest.mark.parametrize("form", ["--jsonl", "tsv"])
def test_a_file_name_cannot_control_the_terminal_or_lose_the_result(form, tmp_path):
    line = sorted((Path(__file__).parents[1] / "samples").rglob("*.png"))[0].read_bytes()
    for name in (b"esc\x1b]0;title\x07.png", b"h\xe5r\x9b2J.png", b"tab\tname.png"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(line)
    output = tmp_path / "out" / "result"
    shape = [form] if form.startswith("--") else ["--format", form]
    command = [
        sys.executable,
        "-m",
        "nordocr_cli",
        "predict",
        tmp_path,
        "--layout",
        "line",
        *shape,
    ]
    done = subprocess.run([*command, "-o", output], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    written = output.read_bytes()
    written.decode("utf-8")
    assert not {7, 27} & set(written + done.stderr)
    assert written.count(b".png") == 3


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8")
def test_an_input_whose_name_is_not_utf8_is_read_and_resumed(tmp_path):
    line = sorted((Path(__file__).parents[1] / "samples").rglob("*.png"))[0].read_bytes()
    image = tmp_path / os.fsdecode(b"h\xe5r.png")
    image.write_bytes(line)
    plan = {"inputs": [str(image)], "model": "tesseract", "threads": None}
    first = PredictJournal(tmp_path / "out.jsonl", plan, resume=False)
    first.part.touch()
    first.release()
    again = PredictJournal(tmp_path / "out.jsonl", plan, resume=True)
    assert again.read == 0
    again.discard()
