"""What a vision-language model said about one line crop, and whether that is a reading of one line.

Models add what nobody asked for: a code fence, "Here is the text:", their thoughts. Such wrappings
are taken off by the rules below, and every answer says which rules it needed. Quotation marks
around the whole line stay unless a lead-in stands before them: lines in quotation marks exist. What
is no reading (a refusal, a loop, several lines) is `invalid`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nordocr_cli.charset import to_nfc
from nordocr_cli.limits import parse_json
from nordocr_cli.printable import redacted

EMPTY = "<EMPTY>"
UNREADABLE = "\ufffd"
# Characters that a line of ink can hold, for each time that it is as wide as high. The densest of
# 448 real lines has 3.9, and half as many more are allowed; the constant is for crops that are cut
# close around one letter.
CHARACTERS_PER_HEIGHT = 6
_CHARACTERS_MORE = 8
# The consumer's comparison recorded its time-outs as if they were text.
_RECORDED_TIMEOUT = "[VLM_TIMEOUT]"

# unanswered: not recorded, and nobody was asked. unreadable: the model says that it cannot read a
# part of the line.
Status = Literal["ok", "timeout", "invalid", "failed", "unanswered", "unreadable"]

_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
_FENCE = re.compile(r"\A\s*```[A-Za-z]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_BACKTICKS = re.compile(r"\A\s*`([^`\n]+)`\s*\Z")
_LEAD_IN = re.compile(
    r"\A\s*(?:(?:sure|certainly|of course|okay|ok)\b[,.!:]*\s+)?"
    r"(?:here(?:['’]s| is| are)\b[^:\n]{0,60}|the (?:\w+"
    r" ){0,2}(?:text|line|transcription|image)\b[^:\n]{0,60}):\s*",
    re.IGNORECASE,
)
_QUOTES = re.compile(r"""\A["'“”„«»](.*)["'“”„«»]\Z""", re.DOTALL)
_REFUSAL = re.compile(
    r"\A(?:i(?:['’]?m| am) (?:sorry|unable|not able)|sorry[,.]|i (?:cannot|can['’]?t|can"
    r" not)\b|unable to\b|as an ai\b|"
    r"unfortunately,? i\b|there is no (?:visible |legible |readable )?text\b)",
    re.IGNORECASE,
)
# Four times the same words. Dot leaders, dashes and equal amounts in a table repeat too: a block
# has three different letters.
_REPEATED = re.compile(r"(.{4,}?)\1{3,}")
_LETTERS_OF_A_BLOCK = 3


@dataclass(frozen=True)
class Reply:
    """A chat completion as the server gave it: the text, why it ended, and the tokens that it
    counted (None: not told).
    """

    content: str
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class Answer:
    """The model's reading of one crop (NFC). Only `ok` has a text that may be compared; `rules`
    took wrappings off it.
    """

    status: Status
    text: str = ""
    reason: str = ""
    rules: tuple[str, ...] = ()


def parse_completion(body: bytes) -> Reply:
    """Read the body of a chat completion. Raises ValueError when it is something else, cut JSON
    above all.
    """
    try:
        value = parse_json(body)
        choice, usage = value["choices"][0], value.get("usage")
        content = choice["message"]["content"]
        if not isinstance(content, str):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise ValueError(
            f"not a chat completion: {redacted(body.decode(errors='replace'))[:120]!r}"
        ) from None
    finish = choice.get("finish_reason")
    return Reply(
        content,
        finish if isinstance(finish, str) else "",
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
    )


def _count(usage: Any, key: str) -> int | None:
    value = usage.get(key) if isinstance(usage, Mapping) else None
    return value if isinstance(value, int) else None


def most_characters(height: int, width: int) -> int:
    """Return how long a reading of a crop of `height` x `width` pixels may be before it cannot be
    one.
    """
    return _CHARACTERS_MORE + CHARACTERS_PER_HEIGHT * -(-width // height)


def read_reply(reply: Reply, limit: int) -> Answer:
    """Return the reading in `reply`, of at most `limit` characters, or why there is none."""
    if reply.content.strip() == _RECORDED_TIMEOUT:
        return Answer("timeout", reason="recorded as a time-out")
    if reply.finish_reason == "length":
        return Answer("invalid", reason="did not stop in time")
    text, rules = _unwrapped(reply.content)
    if text == EMPTY:
        return Answer("ok", "", rules=rules)
    reason = _wrong(text, limit)
    if reason:
        return Answer("invalid", reason=reason, rules=rules)
    text = to_nfc(text)
    if UNREADABLE in text:
        return Answer("unreadable", reason=f"read as {text!r}", rules=rules)
    return Answer("ok", text, rules=rules)


def _unwrapped(content: str) -> tuple[str, tuple[str, ...]]:
    """Take off the wrappings; return the text and the names of the rules that did something."""
    text, rules = content, []
    if found := _THOUGHTS.match(text):
        text = text[found.end() :]
        rules.append("thoughts")
    if found := _LEAD_IN.match(text):
        text = text[found.end() :].strip()
        rules.append("lead-in")
        if quoted := _QUOTES.match(text):
            text = quoted[1]
            rules.append("quotes after a lead-in")
    for name, pattern in (("code fence", _FENCE), ("backticks", _BACKTICKS)):
        if found := pattern.match(text):
            text = found[1]
            rules.append(name)
    return text.strip(), tuple(rules)


def _wrong(text: str, limit: int) -> str:
    """Why `text` is no reading of one line; empty when it may be one."""
    if not text:
        return "an empty answer"
    if len(lines := text.splitlines()) > 1:
        return f"{len(lines)} lines instead of one"
    if _REFUSAL.match(text):
        return "a refusal"
    if any(
        len(set(filter(str.isalpha, found[1]))) >= _LETTERS_OF_A_BLOCK
        for found in _REPEATED.finditer(text)
    ):
        return "the same words over and over"
    if len(text) > limit:
        return f"{len(text)} characters on a line that holds {limit}"
    return ""
