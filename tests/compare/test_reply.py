import json

import pytest

from nordocr_cli.compare.reply import (
    Answer,
    Reply,
    maximum_characters,
    parse_completion,
    read_reply,
)


def read(content, limit=200, **fields):
    return read_reply(Reply(content, **fields), limit)


@pytest.mark.parametrize(
    ("content", "text", "rules"),
    [
        ("Summa kr 1 234,50", "Summa kr 1 234,50", ()),
        ("  Årets resultat \n", "Årets resultat", ()),
        ("A\u030arets", "Årets", ()),
        ("<EMPTY>", "", ()),
        ("```text\nSumma\n```", "Summa", ("code fence",)),
        ("```\nSumma\n```\n", "Summa", ("code fence",)),
        ("`Summa`", "Summa", ("backticks",)),
        ("Here is the transcription:\n\nSumma", "Summa", ("lead-in",)),
        ("Sure! Here's the text: “Summa”", "Summa", ("lead-in",)),
        ("The text in the image reads: Summa", "Summa", ("lead-in",)),
        ("Here is the text:\n```\nSumma\n```", "Summa", ("code fence",)),
        ("<think>It says\nSumma.</think>\nSumma", "Summa", ("thoughts",)),
        ("<think>Nothing.</think><EMPTY>", "", ("thoughts",)),
        # Lines of documents that look like wrappings, loops and refusals and are none.
        ("”Det är så”", "”Det är så”", ()),
        ('"Summa"', "Summa", ("quotes",)),
        ("Text: Summa", "Text: Summa", ()),
        ("Not 3 ........................ 12", "Not 3 ........................ 12", ()),
        ("_____________________", "_____________________", ()),
        ("10 000 10 000 10 000 10 000 10 000", "10 000 10 000 10 000 10 000 10 000", ()),
        ("Sorry-gruppen AB", "Sorry-gruppen AB", ()),
        ("[EMPTY]", "[EMPTY]", ()),
    ],
)
def test_readings(content, text, rules):
    assert read(content) == Answer("ok", text, rules=rules)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "an empty answer"),
        ("<think>x</think> ", "an empty answer"),
        ("Summa\n1 234", "2 lines instead of one"),
        ("I'm sorry, but I can't read this.", "a refusal"),
        ("I’m unable to see an image", "a refusal"),
        ("As an AI model I see no picture", "a refusal"),
        ("Unfortunately, I cannot help", "a refusal"),
        ("There is no visible text here", "a refusal"),
        ("Summa kr Summa kr Summa kr Summa kr Summa kr ", "the same words over and over"),
        ("a b c " * 40, "the same words over and over"),
        (
            "abcdefghij klmnop" * 2 + "qrstuvwxyz" * 2 + "y" * 30,
            "84 characters on a line that holds 60",
        ),
    ],
)
def test_what_is_no_reading(content, reason):
    answer = read(content, limit=60)
    assert (answer.status, answer.text) == ("invalid", "")
    assert reason in answer.reason


def test_an_answer_that_did_not_stop_or_cannot_be_read_has_no_text():
    assert read("Summa", finish_reason="length") == Answer(
        "invalid", reason="did not stop in time"
    )
    assert read("Su\ufffdma").status == "unreadable"
    assert read("[VLM_TIMEOUT]").status == "timeout"


def test_the_limit_grows_with_the_width():
    assert maximum_characters(32, 32) == 14
    assert maximum_characters(32, 1727) == 8 + 6 * 54
    # The densest line of the development set.
    assert maximum_characters(32, 882) >= 1.5 * len(
        "Sikring: Regnskapsmaterialet skal på en forsvarlig måte sikres mot urettmessig endring,"
        " sletting eller tap."
    )


def test_completions_are_parsed():
    body = {
        "choices": [{"message": {"content": "x"}, "finish_reason": None}],
        "usage": {"prompt_tokens": 7},
    }
    assert parse_completion(json.dumps(body).encode()) == Reply("x", "", 7, None)
    for damaged in (
        b"",
        b'{"choices": []}',
        b"[1]",
        b'{"choices": [{"mess',
    ):
        with pytest.raises(ValueError, match="not a chat completion"):
            parse_completion(damaged)
