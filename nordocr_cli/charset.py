"""Character sets: the order of the classes of a recognizer, and nothing else.

Class 0 is the CTC blank; class `i + 1` is `characters[i]`. The file form is one character a line
(`nordic_dict.txt`), and `Charset.sha256` is the SHA-256 of exactly that file, so `sha256sum
nordic_dict.txt` proves which charset a file holds.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from nordocr_cli.errors import DataError, UsageError, nearest
from nordocr_cli.limits import read_text
from nordocr_cli.rust_source import (
    Constant,
    characters_of,
    find_constants,
    number_of,
    select,
)

BLANK = 0

_ASCII_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_DIGITS = "0123456789"
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NORDIC_CHARACTERS = (
    _DIGITS
    + _UPPER
    + _UPPER.lower()
    + "ÅÄÖØÆÐÞÜ"
    + "åäöøæðþü"
    + " "
    + _ASCII_PUNCTUATION
    # The document's copy shows ASCII quotes here; the consumer has the curly ones (requirements.md,
    # decisions).
    + "§°€£«»–—\u2018\u2019\u201c\u201d±×"
)

# The names of the pipeline's constants end so: CTC_CHARSET, CTC_NUM_CLASSES.
_RUST_CHARSET = "CHARSET"
_RUST_NUM_CLASSES = "NUM_CLASSES"


def to_nfc(text: str) -> str:
    """Return `text` in Unicode NFC, the only form in which this project stores and compares
    text.
    """
    return unicodedata.normalize("NFC", text)


def describe_character(character: str) -> str:
    """Return e.g. `'á' (U+00E1 LATIN SMALL LETTER A WITH ACUTE)`."""
    return (
        f"{character!r} (U+{ord(character):04X} {unicodedata.name(character, 'unnamed')})"
    )


# The largest charset of the field has 7,000 characters.
_MAX_FILE_BYTES = 4 << 20


@dataclass(frozen=True)
class Charset:
    """An ordered set of characters. Raises DataError when a character appears twice or is not a
    single NFC code point.
    """

    name: str
    characters: str

    def __post_init__(self) -> None:
        if not self.characters:
            raise DataError(f"charset {self.name!r} is empty")
        seen: dict[str, int] = {}
        for index, character in enumerate(self.characters, start=1):
            if character in seen:
                hint = ""
                if character in "'\"":
                    hint = " (were curly quotes flattened to ASCII?)"
                raise DataError(
                    f"charset {self.name!r}: {describe_character(character)} is class"
                    f" {seen[character]} and again class {index}; each character may appear once"
                    f"{hint}"
                )
            if character in "\r\n\0" or to_nfc(character) != character:
                raise DataError(
                    f"charset {self.name!r}: class {index} is {character!r}, which is not an NFC"
                    " character"
                )
            seen[character] = index

    @property
    def num_classes(self) -> int:
        """Number of classes C, the blank included."""
        return len(self.characters) + 1

    @cached_property
    def class_of(self) -> dict[str, int]:
        """Map from character to class (1-based; 0 is the blank)."""
        return {
            character: index for index, character in enumerate(self.characters, start=1)
        }

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of `to_dict_text()` in UTF-8, in hex."""
        return hashlib.sha256(self.to_dict_text().encode("utf-8")).hexdigest()

    def missing(self, text: str) -> list[str]:
        """Return the distinct characters of `text` that this charset cannot write, in order of
        appearance.
        """
        return [c for c in dict.fromkeys(text) if c not in self.class_of]

    def encode(self, text: str) -> list[int]:
        """Return the classes of NFC `text`. Raises DataError naming every character outside the
        charset.
        """
        try:
            return [self.class_of[character] for character in text]
        except KeyError:
            names = ", ".join(describe_character(c) for c in self.missing(text))
            raise DataError(
                f"charset {self.name!r} has no {names} (text: {text!r})"
            ) from None

    def decode(self, classes: Iterable[int]) -> str:
        """Return the text of classes 1…C-1. CTC collapse is decode/ctc.py's job: a blank here is an
        error.
        """
        characters = []
        for c in classes:
            if not 1 <= c < self.num_classes:
                raise DataError(
                    f"class {c} is outside 1…{self.num_classes - 1} of charset {self.name!r}"
                )
            characters.append(self.characters[c - 1])
        return "".join(characters)

    def to_dict_text(self) -> str:
        """Return the dictionary file's text: one character a line; the space is a line that holds
        one space.
        """
        return "".join(character + "\n" for character in self.characters)


def from_dict_text(text: str, name: str) -> Charset:
    """Read a dictionary file's text. Only the line ends are taken off: a line with one space is the
    space character.

    Raises DataError naming the line when one does not hold exactly one character.
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if len(line) != 1:
            if line == "":
                what = "is empty (was the space stripped by an editor?)"
            else:
                what = f"holds {line!r}"
            raise DataError(
                f"{name}:{number}: {what}; a dictionary has exactly one character a line"
            )
    return Charset(name, "".join(lines))


def from_rust_source(
    source: str, array: str = "CTC_CHARSET", file: str = "charset.rs"
) -> Charset:
    """Read the Rust constant `array` (`pub static NAME: &[char] = &['0', …];`) from `source`, as
    rustc would read it: see `rust_source`.

    The pipeline's file holds two arrays; the name decides, so that the older PARSeq one is never
    taken by accident. Raises DataError with `file` and line when the array is not there, is
    declared more than once, holds something that is not a character, or when the file's number of
    classes (`CTC_NUM_CLASSES`) is another.
    """
    constants = find_constants(source, file)
    chosen = select(constants, array, file)
    characters = characters_of(chosen, constants)
    _require_composed(characters, f"{file}:{chosen.line}: {chosen.name}")
    _require_class_count(chosen, constants, len(characters))
    return Charset(f"rust:{chosen.name}", characters)


def _require_class_count(
    chosen: Constant, constants: Sequence[Constant], characters: int
) -> None:
    """Refuse a file whose number of classes is not that of its characters and the blank."""
    if not chosen.name.endswith(_RUST_CHARSET):
        return
    prefix = chosen.name.removesuffix(_RUST_CHARSET)
    declared = number_of(f"{prefix}{_RUST_NUM_CLASSES}", constants, chosen)
    if declared is None or declared[1] == characters + 1 or not prefix:
        return
    constant, classes = declared
    raise constant.error(
        constant.line,
        f"it is {classes}, but {chosen.name} (line {chosen.line}) has {characters} characters,"
        f" which with the blank are {characters + 1} classes: correct the one that is wrong",
    )


def _require_composed(characters: str, where: str) -> None:
    """Refuse a letter and its combining mark as two classes. An editor or a file system that
    writes NFD makes two of one, and every class after it moves by one.
    """
    for index, (before, character) in enumerate(pairwise(characters), start=2):
        composed = to_nfc(before + character)
        if len(composed) == 1:
            raise DataError(
                f"{where}: class {index} is {describe_character(character)}, which forms"
                f" {composed!r} with the class before it. Labels are in Unicode NFC, where this is"
                f" one character: save the file in NFC"
            )


NORDIC = Charset("nordic", _NORDIC_CHARACTERS)
# Appended after class 125, so that every class of `nordic` keeps its index (requirements.md,
# decisions).
NORDIC_EXT = Charset(
    "nordic-ext",
    _NORDIC_CHARACTERS
    + "ÁÉÍÓÚÝ"
    + "áéíóúý"
    + "ŠšŽž"
    + "ÀàÈèÊêËëÏïÒòÑñÇç"
    + "…•·½¼¾²³µ©®™†",
)
ALPHANUMERIC = Charset("alphanumeric", _DIGITS + _UPPER.lower() + _UPPER)

CHARSETS: dict[str, Charset] = {
    charset.name: charset for charset in (NORDIC, NORDIC_EXT, ALPHANUMERIC)
}


def load_charset(name_or_path: str) -> Charset:
    """Return a charset by name, or read one from a dictionary file (`.txt`) or the pipeline's
    `charset.rs`. `charset.rs#NAME`, `charset.rs#module::NAME` or `charset.rs#LINE` choose another
    constant of a Rust file than `CTC_CHARSET`.

    Raises UsageError for an unknown name and DataError for a file that does not hold a charset.
    """
    if name_or_path in CHARSETS:
        return CHARSETS[name_or_path]
    file, hash_sign, array = name_or_path.partition(".rs#")
    path = Path(f"{file}.rs") if hash_sign else Path(name_or_path)
    if not path.suffix:
        raise UsageError(
            f"unknown charset {name_or_path!r}: {nearest(name_or_path, list(CHARSETS))}"
        )
    text = read_text(path, "charset file", max_bytes=_MAX_FILE_BYTES)
    if path.suffix == ".rs":
        return from_rust_source(text, array or "CTC_CHARSET", str(path))
    return from_dict_text(text, str(path))


def differences(a: Charset, b: Charset) -> list[str]:
    """Return one line per class at which `a` and `b` differ; empty when they are the same."""
    lines = []
    for index in range(max(len(a.characters), len(b.characters))):
        left = a.characters[index : index + 1]
        right = b.characters[index : index + 1]
        if left != right:
            shown = [describe_character(c) if c else "nothing" for c in (left, right)]
            lines.append(
                f"class {index + 1}: {a.name} has {shown[0]}, {b.name} has {shown[1]}"
            )
    return lines


# The letters and signs that running text of each language uses beyond a-z, A-Z and ASCII; for
# `charset coverage`.
LANGUAGE_CHARACTERS: dict[str, Sequence[str]] = {
    "sv": "ÅÄÖåäöÉéÜü",
    "nb": "ÆØÅæøåÉéÒòÔôÓó",
    "nn": "ÆØÅæøåÒòÉéÓóÈè",
    "da": "ÆØÅæøåÉéÜü",
    "is": "ÁÐÉÍÓÚÝÞÆÖáðéíóúýþæö",
    "fi": "ÅÄÖåäöŠšŽž",
    "fo": "ÁÐÍÓÚÝÆØáðíóúýæø",
}
