"""Replacing characters that a charset does not have by text that it can write.

There is a default mapping of characters that look like a space or like nothing; a file may add its
own (see `read_mapping`).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from nordocr_cli.charset import Charset, describe_character, to_nfc
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import read_json, read_regular

_CODE_POINT = re.compile(r"U\+([0-9A-Fa-f]{4,6})")
_MAX_FILE_BYTES = 16 << 20

_SPACES = "\t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
_WIDE_SPACES = "\u202f\u205f\u3000"
# Soft hyphen, zero-width characters, marks of direction, variation selectors.
_INVISIBLE = (
    "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062"
    "\u2063\u2064\u2066\u2067\u2068\u2069\ufe00\ufe0e\ufe0f\ufeff"
)
_HYPHENS = "\u2010\u2011"  # a hyphen, and one at which no line is broken: they look like -

# What a scan cannot show: a space is a space, and a mark without width leaves no ink.
DEFAULT_MAPPING: Mapping[str, str] = {
    **dict.fromkeys(_SPACES + _WIDE_SPACES, " "),
    **dict.fromkeys(_INVISIBLE, ""),
    **dict.fromkeys(_HYPHENS, "-"),
}


def default_mapping(charset: Charset) -> dict[str, str]:
    """Return the part of DEFAULT_MAPPING that a charset needs and can write."""
    return {
        character: replacement
        for character, replacement in DEFAULT_MAPPING.items()
        if character not in charset.class_of and not charset.missing(replacement)
    }


def read_mapping(path: Path, charset: Charset) -> dict[str, str]:
    """Read a mapping file: a line is a character (or `U+00C1`), one tab, its replacement (nothing:
    it is left out); or a JSON object of characters and replacements.

    Blank lines are skipped, and so are lines that begin with `#` and have no such form. Raises
    UsageError when there is no such file, DataError naming file:line when a line is no mapping,
    maps what the charset can write, or writes what it cannot.
    """
    mapping: dict[str, str] = {}
    for where, left, right in _pairs(path):
        character = to_nfc(left)
        replacement = to_nfc(right)
        _require_mapping(character, replacement, charset, where)
        mapping[character] = replacement
    if not mapping:
        raise DataError(f"{path}: maps no character; a line is e.g. 'á', one tab, 'a'")
    return mapping


def replace_characters(text: str, mapping: Mapping[str, str]) -> str:
    """Return `text` with every mapped character replaced."""
    return "".join(mapping.get(character, character) for character in text)


def clean_text(text: str, mapping: Mapping[str, str]) -> str:
    """Return `text` as prep keeps it: characters replaced, no spaces at its ends."""
    if not text.isascii() or "\t" in text:
        text = replace_characters(text, mapping)
    return text.strip()


def _pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (where, character, replacement). Raises DataError for a line that is no mapping."""
    if path.suffix == ".json":
        value = read_json(path, "mapping file")
        if not isinstance(value, dict):
            raise DataError(
                f"{path}: expected a JSON object of characters and replacements"
            )
        for left, right in value.items():
            yield f"{path}: {left!r}", _character(left), str(right)
        return
    for number, line in enumerate(_lines(path), start=1):
        left, tab, right = line.partition("\t")
        character = _character(left)
        is_comment = line.startswith("#") and not (tab and len(character) == 1)
        # Of spaces only the usual one is blank: a no-break space is a character to be mapped.
        if not line.strip(" \t") or is_comment:
            continue
        if not tab:
            raise DataError(
                f"{path}:{number}: expected one character, one tab, its replacement; found {line!r}"
            )
        yield f"{path}:{number}", character, right


def _lines(path: Path) -> list[str]:
    if not path.exists():
        raise UsageError(f"no mapping file {path}")
    try:
        content = read_regular(path, _MAX_FILE_BYTES, "mapping file").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    # Only these end a line: U+2028 and its like may be what is mapped.
    return [line.removesuffix("\r") for line in content.split("\n")]


def _character(text: str) -> str:
    found = _CODE_POINT.fullmatch(text)
    if found:
        return chr(int(found[1], 16))
    return to_nfc(text)


def _require_mapping(
    character: str, replacement: str, charset: Charset, where: str
) -> None:
    if len(character) != 1:
        raise DataError(
            f"{where}: expected one character, one tab, its replacement; found {character!r}"
        )
    if character in charset.class_of:
        raise DataError(
            f"{where}: charset {charset.name!r} has {describe_character(character)}; it needs no"
            " replacement"
        )
    missing = charset.missing(replacement)
    if missing:
        names = ", ".join(map(describe_character, missing))
        raise DataError(f"{where}: charset {charset.name!r} has no {names} either")
