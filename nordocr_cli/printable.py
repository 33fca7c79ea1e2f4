"""Text from outside as text that a terminal, a table and a JSON file can carry.

File names, ids and labels may hold escape sequences that move a cursor or set a title, marks that
reverse the direction of text, line breaks that end a row, and bytes that are not UTF-8. Secrets,
such as the key of a server, may come back in the server's messages.
"""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

# C0 and C1 controls, DEL, and marks that change the direction of text.
_CONTROLS = (
    *range(32),
    *range(127, 160),
    0x200E,
    0x200F,
    0x2028,
    0x2029,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_AS_CODES = {code: f"<U+{code:04X}>" for code in _CONTROLS}
_AS_CODES_BUT_LINES = {
    code: name for code, name in _AS_CODES.items() if chr(code) not in "\t\n"
}
# json.dumps escapes C0 controls itself.
_AS_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in _CONTROLS if code >= 127}
_AUTHORIZATION = re.compile(
    r"""(authorization["']?\s*[:=]\s*["']?(?:(?:bearer|basic|token)\s+)?)[^\s"',;}]+""",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"(\b[a-z]+://[^\s/:@]+:)[^\s/@]+@", re.IGNORECASE)
_SHORTEST_SECRET = 4
_SECRETS: set[str] = set()


def printable(text: str) -> str:
    """Return `text` on one line: controls as `<U+XXXX>`, bytes that are not UTF-8 as `\\xNN`."""
    return _encodable(text).translate(_AS_CODES)


def printable_lines(text: str) -> str:
    """Return `text` as `printable` does, with its line breaks and tabs."""
    return _encodable(text).translate(_AS_CODES_BUT_LINES)


def caption(text: str, maximum: int = 200) -> str:
    """Return `text` as `printable` does, cut to `maximum` characters, for drawing next to an image.
    A font cannot draw line breaks, and a label from outside may be a megabyte long.
    """
    shown = printable(text[: maximum + 1])
    if len(shown) <= maximum:
        return shown
    return f"{shown[: maximum - 1]}…"


def shown_path(path: Path | str) -> str:
    """Return a path as text that UTF-8 can hold: bytes of its name that are not UTF-8 as `\\xNN`.
    Other paths stay as they are.
    """
    return _encodable(str(path))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return `value` as JSON that is readable and safe to print: letters as they are, all controls
    and marks of direction escaped. Raises ValueError on NaN and infinity.
    """
    text = json.dumps(
        value, ensure_ascii=False, indent=indent, allow_nan=False, default=str
    )
    # Outside strings JSON is ASCII, so an escape can only land in a string. A backslash that
    # stands for a byte is one more character of the string, and is escaped itself.
    return _encodable(text, backslash="\\\\").translate(_AS_JSON_ESCAPES)


def hide(secret: str) -> None:
    """From now on leave `secret` out of every text that goes through `redacted`."""
    if len(secret) >= _SHORTEST_SECRET:
        _SECRETS.update((secret, quote(secret, safe=""), json.dumps(secret)[1:-1]))


def holds_secret(text: str) -> bool:
    """Return whether a text holds one of the secrets that `hide` was given."""
    return any(secret in text for secret in _SECRETS)


def redacted(text: str) -> str:
    """Return `text` with `***` for hidden secrets, for what an Authorization header holds, and for
    the password in an address.
    """
    for secret in sorted(_SECRETS, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _PASSWORD.sub(r"\1***@", _AUTHORIZATION.sub(r"\1***", text))


def _encodable(text: str, backslash: str = "\\") -> str:
    """`text` without half surrogates: those that stand for a byte become `\\xNN`."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", lambda found: backslash + _byte_of(found[0]), text)
    return text


def _byte_of(surrogate: str) -> str:
    code = ord(surrogate)
    if 0xDC80 <= code <= 0xDCFF:
        return f"x{code - 0xDC00:02x}"
    return f"u{code:04x}"
