"""What a vision-language model answered about one line crop, and whether that is a reading of one
line.

Wrappings are removed by the rules of wrappings.py. What is no reading (a refusal, a loop, several
lines) is `invalid`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nordocr_cli.charset import to_nfc
from nordocr_cli.compare.wrappings import is_refusal, unwrap
from nordocr_cli.limits import parse_json
from nordocr_cli.printable import redacted

EMPTY = "<EMPTY>"
REPLACEMENT_CHARACTER = "\ufffd"
# Characters that a line of ink can hold, for each time that it is as wide as high. The densest of
# 448 real lines has 3.9, and half as many more are allowed; the constant is for crops that are cut
# close around one letter.
CHARACTERS_PER_HEIGHT = 6
_CHARACTERS_MORE = 8
# The consumer's comparison recorded its time-outs as if they were text.
_RECORDED_TIMEOUT = "[VLM_TIMEOUT]"
_SHOWN = 200  # characters of a server's own words in a message

# unanswered: not recorded, and no server was configured. unreadable: the model reports that it
# cannot read a part of the line. failed: the server refused the line or broke down on it.
Status = Literal["ok", "timeout", "invalid", "failed", "unanswered", "unreadable"]

# Four times the same words. Dot leaders, dashes and equal amounts in a table repeat too: a block
# has three different letters.
_REPEATED = re.compile(r"(.{4,}?)\1{3,}")
_LETTERS_OF_A_BLOCK = 3


class ServerError(Exception):
    """A body that holds an error instead of a completion: the server's message and its status (0:
    none).
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Reply:
    """A chat completion as the server gave it: the text, why it ended, and the tokens that it
    counted (None: not reported).
    """

    content: str
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def is_cut(self) -> bool:
        """Whether it was cut off, or holds nothing though nothing was filtered: a second try may
        help.
        """
        is_empty = not unwrap(self.content)[0]
        return self.finish_reason == "length" or (is_empty and self.finish_reason == "stop")


@dataclass(frozen=True)
class Answer:
    """The model's reading of one crop (NFC). Only `ok` has a text that may be compared; `rules`
    removed wrappings from it.
    """

    status: Status
    text: str = ""
    reason: str = ""
    rules: tuple[str, ...] = ()


def parse_completion(body: bytes, content_type: str = "") -> Reply:
    """Read the body of a chat completion, or the events of a streamed one.

    Raises ServerError for an error in it, ValueError when it is something else, cut JSON above all.
    """
    text = body.decode("utf-8-sig", errors="replace")
    if "event-stream" in content_type or text.startswith("data:"):
        return _parse_events(text)
    if text.lstrip()[:1] == "<":
        raise ServerError(
            f"an HTML page instead of a completion: {_words_of_page(text)!r}", 403
        )
    try:
        value = parse_json(text)
        error = error_message(value) if "choices" not in value else ""
        if error:
            raise ServerError(error, _status_of(value))
        choice = value["choices"][0]
        usage = value.get("usage")
        content = _content_of(choice["message"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"not a chat completion: {redacted(text)[:120]!r}") from None

    finish = choice.get("finish_reason")
    if choice["message"].get("refusal") and not content:
        finish = "refusal"
        content = str(choice["message"]["refusal"])
    return Reply(
        content,
        finish if isinstance(finish, str) else "",
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
    )


def _content_of(message: Mapping[str, Any]) -> str:
    """The text of a message: a string, the text parts of a list, and "" for null, which a model
    gives that had only thoughts.
    """
    content = message["content"]
    if content is None:
        return ""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str):
        raise TypeError(f"content is {type(content).__name__}")
    return content


def _parse_events(text: str) -> Reply:
    """Join the pieces of a streamed completion."""
    pieces = []
    finish = ""
    for line in text.splitlines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        try:
            value = parse_json(data)
            error = error_message(value)
            if error:
                raise ServerError(error, _status_of(value))
            choice = value["choices"][0]
            delta = choice.get("delta") or choice.get("message") or {}
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise ValueError(
                f"not a streamed completion: {redacted(data)[:120]!r}"
            ) from None
        if isinstance(delta.get("content"), str):
            pieces.append(delta["content"])
        if isinstance(choice.get("finish_reason"), str):
            finish = choice["finish_reason"]
    if not pieces and not finish:
        raise ValueError(f"not a streamed completion: {redacted(text)[:120]!r}")
    return Reply("".join(pieces), finish or "stop")


def error_message(value: Any) -> str:
    """Return the message in the JSON of a server's error; "" when there is no error."""
    if not isinstance(value, Mapping):
        return ""
    error = value.get("error", value.get("detail", value.get("message")))
    if isinstance(error, Mapping):
        error = error.get("message", error)
    if isinstance(error, list):
        error = "; ".join(_detail(item) for item in error)
    if error:
        return redacted(str(error))[:_SHOWN]
    return ""


def _detail(item: Any) -> str:
    """One entry of FastAPI's list of what is wrong with a request."""
    if isinstance(item, Mapping) and "msg" in item:
        where = ".".join(map(str, item.get("loc", ())))
        return f"{where}: {item['msg']}"
    return str(item)


def _status_of(value: Mapping[str, Any]) -> int:
    error = value.get("error")
    if isinstance(error, Mapping):
        code = error.get("code")
    else:
        code = value.get("code")
    if isinstance(code, int):
        return code
    return 0


def _words_of_page(text: str) -> str:
    words = re.sub(
        r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE
    )
    return redacted(" ".join(words.split()))[:_SHOWN]


def _count(usage: Any, key: str) -> int | None:
    value = usage.get(key) if isinstance(usage, Mapping) else None
    if isinstance(value, int):
        return value
    return None


def maximum_characters(height: int, width: int) -> int:
    """Return how long a reading of a crop of `height` x `width` pixels may be before it cannot be
    one.
    """
    return _CHARACTERS_MORE + CHARACTERS_PER_HEIGHT * -(-width // height)


def read_reply(reply: Reply, limit: int) -> Answer:
    """Return the reading in `reply`, of at most `limit` characters, or why there is none."""
    if reply.content.strip() == _RECORDED_TIMEOUT:
        return Answer("timeout", reason="recorded as a time-out")
    if reply.finish_reason == "content_filter":
        return Answer("failed", reason="stopped by the server's content filter")
    if reply.finish_reason == "length":
        return Answer("invalid", reason="did not stop in time")
    if reply.finish_reason == "refusal":
        return Answer("invalid", reason=f"a refusal: {reply.content[:_SHOWN]}")

    text, rules = unwrap(reply.content)
    if text == EMPTY:
        return Answer("ok", "", rules=rules)
    reason = _why_no_reading(text, limit)
    if reason:
        return Answer("invalid", reason=reason, rules=rules)
    text = to_nfc(text)
    if REPLACEMENT_CHARACTER in text:
        return Answer("unreadable", reason=f"read as {text!r}", rules=rules)
    return Answer("ok", text, rules=rules)


def _why_no_reading(text: str, limit: int) -> str:
    """Why `text` is no reading of one line; empty when it may be one."""
    if not text:
        return "an empty answer"
    if text.startswith(("<think>", "◁think▷", "<|channel|>")):
        return "thoughts without an answer"
    lines = text.splitlines()
    if len(lines) > 1:
        return f"{len(lines)} lines instead of one"
    if is_refusal(text):
        return "a refusal"
    repeats = (set(filter(str.isalpha, found[1])) for found in _REPEATED.finditer(text))
    if any(len(letters) >= _LETTERS_OF_A_BLOCK for letters in repeats):
        return "the same words over and over"
    if len(text) > limit:
        return f"{len(text)} characters on a line that holds {limit}"
    return ""
