"""Mappings of characters that a charset does not have to text that it can write."""

import re
from collections.abc import Mapping
from pathlib import Path

from nordocr_cli.charset import Charset, describe_character, to_nfc
from nordocr_cli.errors import DataError, UsageError


def read_mapping(path: Path, charset: Charset) -> dict[str, str]:
    """Read a mapping file: a line is a character (or `U+00C1`), one tab, its replacement (nothing:
    it is left out).

    Blank lines, and lines that begin with `#` and have no such form, are passed over. Raises
    UsageError when there is no such file, DataError naming file:line when a line is no mapping,
    maps what the charset can write, or writes what it cannot.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UsageError(f"no mapping file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    mapping: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        left, tab, right = line.partition("\t")
        character = (
            chr(int(left[2:], 16)) if re.fullmatch(r"U\+[0-9A-Fa-f]{4,5}", left) else to_nfc(left)
        )
        if not line.strip() or (line.startswith("#") and not (tab and len(character) == 1)):
            continue
        where, replacement = f"{path}:{number}", to_nfc(right)
        if not tab or len(character) != 1:
            raise DataError(
                f"{where}: expected one character, one tab, its replacement; found {line!r}"
            )
        if character in charset.class_of:
            raise DataError(
                f"{where}: charset {charset.name!r} has {describe_character(character)}; it needs"
                " no replacement"
            )
        if missing := charset.missing(replacement):
            raise DataError(
                f"{where}: charset {charset.name!r} has no"
                f" {', '.join(map(describe_character, missing))} either"
            )
        mapping[character] = replacement
    if not mapping:
        raise DataError(f"{path}: maps no character; a line is e.g. 'á', one tab, 'a'")
    return mapping


def replace_characters(text: str, mapping: Mapping[str, str]) -> str:
    """Return `text` with every mapped character replaced."""
    return "".join(mapping.get(character, character) for character in text)
