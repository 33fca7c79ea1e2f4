"""A label file as its readers get it, and what they share: lines, and JSON files."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from nordocr_cli.data.entry import IMAGE_NAMES, TEXT_NAMES, Entry
from nordocr_cli.errors import DataError
from nordocr_cli.limits import (
    HEAD_BYTES,
    parse_json,
    read_head,
    read_regular,
    require_regular_or_folder,
)

_MAX_LINE_BYTES = 1 << 20
_MAX_JSON_BYTES = 1 << 30
_SAMPLE_LINES = 20
_MAX_BLANK_LINES = 100_000  # before the first line with text


@dataclass(frozen=True)
class Columns:
    """Names of the columns for image and text, where the user gave them."""

    image: str = ""
    text: str = ""

    @property
    def are_given(self) -> bool:
        """Whether the user named one of them."""
        return bool(self.image or self.text)


NO_COLUMNS = Columns()


@dataclass(frozen=True)
class LabelFile:
    """A label file; `root` is the folder that its image names start from.

    `content` holds the bytes of a small file that were read before; without it the file is read
    line by line, whenever its lines are needed.
    """

    path: Path
    root: Path
    columns: Columns = NO_COLUMNS
    content: bytes | None = None

    @cached_property
    def head(self) -> bytes:
        """The first bytes. Raises DataError when the file cannot be read."""
        if self.content is not None:
            return self.content[:HEAD_BYTES]
        return read_head(self.path)

    @cached_property
    def sample(self) -> tuple[str, ...]:
        """The first lines that are not blank, without their ends; damaged ones are left out. Empty
        when the file begins with 100,000 blank lines.

        Raises DataError when the file cannot be read, is UTF-16, or has a line over 1 GiB.
        """
        found: list[str] = []
        for number, line in self.lines():
            if b"\0" in line:
                text = ""
            else:
                text = line.decode("utf-8", errors="replace").strip(" \r\n")
            if text.strip():
                found.append(text)
            if len(found) == _SAMPLE_LINES or number - len(found) > _MAX_BLANK_LINES:
                break
        return tuple(found)

    @cached_property
    def json(self) -> Any:
        """The file as one JSON value, None when it is none; an oversized one raises DataError."""
        first = self.sample[0].lstrip()[:1] if self.sample else ""
        if first not in ("{", "["):
            return None
        if first == "{" and len(self.sample) > 1 and self.is_json_lines():
            return None
        try:
            return parse_json(self._all_bytes())
        except ValueError:
            return None

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield (line number from 1, line); see `lines_of`."""
        if self.content is None:
            yield from lines_of(self.path)
        else:
            yield from _lines_in(io.BytesIO(self.content), self.path)

    def text_lines(self) -> Iterator[tuple[str, str, str]]:
        """Yield (file:line, text, problem) of each line that is not blank; one of the last two is
        empty.
        """
        for number, line in self.lines():
            where = f"{self.path}:{number}"
            try:
                text = decoded(line)
            except ValueError as error:
                yield where, "", str(error)
                continue
            if text.strip():
                yield where, text, ""

    def _all_bytes(self) -> bytes:
        if self.content is not None:
            return self.content
        return read_regular(self.path, _MAX_JSON_BYTES, "label file")

    def is_json_lines(self) -> bool:
        """Whether one of the first lines is a JSON object with an image or a text."""
        known = IMAGE_NAMES | TEXT_NAMES | {self.columns.image, self.columns.text}
        for line in self.sample:
            try:
                value = parse_json(line)
            except ValueError:
                continue
            if isinstance(value, dict) and known & value.keys():
                return True
        return False


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line without its end; of a longer line its first MiB).

    Only \\n and \\r\\n end a line: U+2028 and similar characters are text. Raises DataError when
    the file cannot be read, is UTF-16, or has a line over 1 GiB.
    """
    require_regular_or_folder(path)
    try:
        with open(path, "rb") as file:
            yield from _lines_in(file, path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _lines_in(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(_MAX_LINE_BYTES):
        number += 1
        if number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError(f"{path}: the file is UTF-16; save it as UTF-8")
            line = line.removeprefix(b"\xef\xbb\xbf")
        rest = line
        begin = file.tell()
        while len(rest) >= _MAX_LINE_BYTES and not rest.endswith(b"\n"):
            # Of a line that is too long only the beginning is kept.
            rest = file.readline(_MAX_LINE_BYTES)
            if file.tell() - begin > _MAX_JSON_BYTES:
                raise DataError(
                    f"{path}:{number}: the line is over 1 GiB long; this is not a label file"
                )
        yield number, line.removesuffix(b"\n").removesuffix(b"\r")


def decoded(line: bytes) -> str:
    """The text of a line. Raises ValueError when it is none."""
    if len(line) >= _MAX_LINE_BYTES:
        raise ValueError("the line is over 1 MiB long")
    if b"\0" in line:
        raise ValueError(f"a NUL byte at column {line.index(0) + 1}")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte {line[error.start]:#04x} at column {error.start + 1} is not UTF-8; save it as"
            " UTF-8"
        ) from None


def bad_entry(where: str, error: Exception | str, key: str = "") -> Entry:
    """Return the entry of a row that cannot be used."""
    return Entry(where, key, problem=str(error))


def is_mapping_with(value: Any, *keys: str) -> bool:
    """Whether parsed JSON is an object with these keys."""
    return isinstance(value, Mapping) and all(key in value for key in keys)
