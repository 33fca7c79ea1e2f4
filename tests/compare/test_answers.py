import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from nordocr_cli.compare.answers import AnswerFile, question
from nordocr_cli.compare.reply import Reply
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.records import Box


def gray_question(gray):
    return question(np.full((8, 40, 3), gray, np.uint8), 0, Box(0, 0, 40, 8))


def test_a_key_holds_for_pixels_model_and_size(tmp_path):
    one = gray_question(1)
    assert one.key("m") == gray_question(1).key("m")
    assert len({one.key("m"), one.key("n"), gray_question(2).key("m")}) == 3
    assert one.params == {"temperature": 0, "seed": 1, "max_tokens": 32 + 6 * 5}
    wide = question(np.zeros((8, 8000, 3), np.uint8), 0, Box(0, 0, 8000, 8))
    assert wide.params["max_tokens"] == 1024


def test_replies_come_back_as_they_were(tmp_path):
    path = tmp_path / "a.jsonl"
    answers = AnswerFile(path, "m")
    replies = [
        Reply("Årets\tresultat\u2028 \ud800", "stop", 10, 2),
        Reply("[1]\n", "length"),
        Reply(""),
    ]
    for gray, reply in enumerate(replies):
        answers.add(gray_question(gray), reply)
    again = AnswerFile(path)
    assert again.model == "m"
    assert [again._replies[gray_question(gray).key("m")] for gray in range(3)] == replies
    assert again.tokens() == (1, 10, 2)
    assert again.tokens([gray_question(1)]) == (0, 0, 0)
    assert gray_question(3) not in again
    assert again.get(gray_question(3)).status == "unanswered"


def test_the_digest_is_of_the_replies_asked_for_in_any_order(tmp_path):
    first, second = (
        AnswerFile(tmp_path / "a.jsonl", "m"),
        AnswerFile(tmp_path / "b.jsonl", "m"),
    )
    for gray in (1, 2, 3):
        first.add(gray_question(gray), Reply(str(gray)))
    for gray in (2, 1):
        second.add(gray_question(gray), Reply(str(gray)))
    assert first.digest([gray_question(1), gray_question(2)]) == second.digest(
        [gray_question(2), gray_question(1)]
    )
    assert first.digest([gray_question(1), gray_question(3)]) != first.digest(
        [gray_question(1), gray_question(2)]
    )


def test_damaged_lines_are_passed_over(tmp_path):
    path = tmp_path / "a.jsonl"
    answers = AnswerFile(path, "m")
    for gray in range(3):
        answers.add(gray_question(gray), Reply(f"line {gray}"))
    path.write_text(path.read_text().replace("line 1", "line 7"))
    again = AnswerFile(path)
    assert again.damaged == 1
    assert [again.get(gray_question(gray)).text for gray in range(3)] == [
        "line 0",
        "",
        "line 2",
    ]


@pytest.mark.parametrize("content", [b"II*\0\n\xff\xfe\n", b'{"text": "a"}\n', b"[]\n"])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="holds no recorded answer"):
        AnswerFile(path)


def test_a_model_is_chosen_where_several_answered(tmp_path):
    path = tmp_path / "a.jsonl"
    for model in ("one", "two"):
        AnswerFile(path, model).add(gray_question(1), Reply(model))
    with pytest.raises(
        UsageError, match="answers of one, two; choose one with --vlm-model"
    ):
        AnswerFile(path)
    assert AnswerFile(path, "two").get(gray_question(1)).text == "two"


def test_no_room_is_said(tmp_path, small_files):
    answers = AnswerFile(tmp_path / "a.jsonl", "m")
    with small_files(), pytest.raises(DataError, match="the answers so far are kept"):
        for gray in range(256):
            answers.add(gray_question(gray), Reply("x" * 1000))
    again = AnswerFile(tmp_path / "a.jsonl")
    assert (
        again.get(gray_question(0)).text == ""
    )  # too long for a reading, and whole all the same
    assert again._replies[gray_question(0).key("m")] == Reply("x" * 1000)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from nordocr_cli.compare.answers import AnswerFile, question
from nordocr_cli.compare.reply import Reply
from nordocr_cli.records import Box
answers = AnswerFile(Path(sys.argv[1]), "m")
print("ready", flush=True)
for n in range(100000):
    crop = np.full((8, 8, 3), 0, np.uint8)
    crop[0, :4, 0] = n >> 16, (n >> 8) & 255, n & 255, 1
    answers.add(question(crop, 0, Box(0, 0, 8, 8)), Reply(f"line {n} " * 50))
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_writer_leaves_whole_answers(tmp_path):
    path = tmp_path / "a.jsonl"
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        before = path.stat().st_size if path.exists() else 0
        while not path.exists() or path.stat().st_size < before + 20_000:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with open(path, "ab") as file:
        file.write(path.read_bytes()[:70])  # what a machine that lost its power may leave
    lines = path.read_bytes().count(b"\n")
    answers = AnswerFile(path)
    assert answers.damaged == 0
    answers.add(gray_question(9), Reply("after"))
    again = AnswerFile(path)
    assert again.damaged == 1  # the cut line has its end now
    assert again.get(gray_question(9)).text == "after"
    assert (
        len([json.loads(line) for line in path.read_bytes().split(b"\n")[:lines]])
        == lines
        > 0
    )
