"""Limits for everything that comes from outside, and the only readers of JSON and TOML.

A file from outside may be a few bytes that stand for gigabytes (a compressed image, a document
that claims a million pages), may not be a file at all (a named pipe, a device), or may hold values
that later code cannot handle (a thousand nested lists, an integer of 4,000 digits). These functions
refuse all of them with a message, before memory or time is spent.

- Pages and documents: `Limits.require_pixels` and `Limits.require_pages` check what a header
  claims.
- Files: `require_regular_file`, `open_regular` and `read_regular` take regular files only.
- Text, JSON and TOML: `read_text`, `read_json` and `read_toml` read files; `parse_json` and
  `parse_toml` read text that is already in memory and raise ValueError.
"""

import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nordocr_cli.errors import DataError, NordocrError, UsageError
from nordocr_cli.printable import shown_path

# A4 at 600 dpi has 35 million pixels, A3 at 400 dpi 31 million.
MAX_PAGE_PIXELS = 40_000_000
MAX_DOCUMENT_PAGES = 10_000
# Above this OpenCV cannot warp an image and JPEG cannot store one.
MAX_PAGE_SIDE = 65_500

MAX_JSON_BYTES = 256 << 20
MAX_TEXT_BYTES = 1 << 30
MAX_TOML_BYTES = 1 << 20
HEAD_BYTES = 4096  # of a file, by which its format is recognized
# Our own files nest at most 8 levels; ALTO and TrOCR configurations as JSON at most 12.
MAX_DEPTH = 64
MAX_LINE_CHARACTERS = 20_000
# Each list, table or element of a file takes 60 to 300 bytes of memory. Beyond a million of them
# there may be one for this many characters: a point of an outline in JSON, as `[10,20],`, has about
# eight, an element of XML more than twenty.
_MAX_EMPTY_PARTS = 1_000_000
_CHARACTERS_A_PART = {"lists and tables": 6, "elements": 16}
# NumPy, LMDB and TOML end at 64 bits.
MAX_INTEGER = 2**63 - 1
MIN_INTEGER = -(2**63)

# An integer below this number of digits always fits into 64 bits.
_LONG_NUMBER = re.compile(r"\d{19}|[eE]\+?\d{3}")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISSOCK, "a socket"),
)


def require_sides(height: int, width: int, where: str) -> None:
    """Raise DataError when a side in pixels is longer than decoders and warps take."""
    if max(height, width) > MAX_PAGE_SIDE:
        raise DataError(
            f"{where}: {height:,} x {width:,} pixels (height x width); a side may have at most"
            f" {MAX_PAGE_SIDE:,}: cut or scale the image"
        )


@dataclass(frozen=True)
class Limits:
    """What one document may have at most. `max_pixels` is height x width of one page."""

    max_pixels: int = MAX_PAGE_PIXELS
    max_pages: int = MAX_DOCUMENT_PAGES

    def require_pixels(self, height: int, width: int, where: str) -> None:
        """Raise DataError when a page that claims this size in pixels is too large."""
        require_sides(height, width, where)
        pixels = height * width
        if pixels > self.max_pixels:
            raise DataError(
                f"{where}: {height:,} x {width:,} pixels (height x width), above the limit of"
                f" {self.max_pixels:,} for a page; scale it down, or raise --max-pixels to {pixels}"
            )

    def require_pages(self, count: int, where: str) -> None:
        """Raise DataError when a document that claims `count` pages has too many."""
        if count > self.max_pages:
            raise DataError(
                f"{where}: the document claims {count:,} pages, above the limit of"
                f" {self.max_pages:,}; split it, or raise --max-pages to {count}"
            )


def require_few_parts(count: int, characters: int, what: str) -> None:
    """Raise ValueError when a text of some megabytes holds so many "lists and tables" or "elements"
    (`what`) that its value would take gigabytes. No real file is made of empty ones.
    """
    if count > _MAX_EMPTY_PARTS + characters // _CHARACTERS_A_PART[what]:
        raise ValueError(f"{count:,} {what} in {characters:,} characters are too many")


def require_line_length(text: str) -> None:
    """Raise ValueError for a text that is no line: comparing two such texts takes gigabytes."""
    if len(text) > MAX_LINE_CHARACTERS:
        raise ValueError(
            f"a text of {len(text):,} characters; a line has at most {MAX_LINE_CHARACTERS:,}"
        )


def kind_of_file(mode: int) -> str:
    """Return in words what `st_mode` stands for: "a regular file", "a named pipe", …"""
    for is_kind, words in _KINDS:
        if is_kind(mode):
            return words
    return "a regular file"


def require_regular_file(path: Path, what: str = "file") -> None:
    """Raise UsageError unless `path` is a regular file or a link to one.

    Anything else could block (a named pipe), never end (`/dev/zero`) or change when it is read.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(f"no {what} {shown_path(path)} ({_reason(error)})") from None
    if not stat.S_ISREG(mode):
        raise UsageError(
            f"{shown_path(path)} is {kind_of_file(mode)}; a {what} must be a regular file: copy it"
            " to one first"
        )


def require_regular_or_folder(path: Path) -> None:
    """Raise UsageError when something is at `path` that is neither a regular file nor a folder."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UsageError(
            f"{shown_path(path)} is {kind_of_file(mode)}; give a regular file or a folder"
        )


def open_regular(path: Path, what: str = "file") -> BinaryIO:
    """Open a regular file for reading bytes. Raises UsageError as `require_regular_file` does.

    The file that was opened is checked again: another process may have put a pipe in its place.
    """
    require_regular_file(path, what)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise UsageError(
            f"cannot open {what} {shown_path(path)}: {_reason(error)}"
        ) from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise UsageError(
        f"{shown_path(path)} was replaced while it was opened; run the command again"
    )


def read_regular(path: Path, max_bytes: int, what: str = "file") -> bytes:
    """Return the content of a regular file of at most `max_bytes` bytes.

    Raises UsageError when it is missing or not a regular file, DataError when it is larger or
    cannot be read.
    """
    with open_regular(path, what) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise DataError(
                f"{shown_path(path)}: {size:,} bytes; a {what} may have at most {max_bytes:,}"
            )
        try:
            return file.read(max_bytes)
        except OSError as error:
            raise DataError(f"cannot read {shown_path(path)}: {_reason(error)}") from None


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file, by which its format is recognized.

    Raises UsageError when it is no regular file, DataError when it cannot be read.
    """
    require_regular_or_folder(path)
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {shown_path(path)}: {_reason(error)}") from error


def read_text(
    path: Path,
    what: str = "text file",
    *,
    error: type[NordocrError] = DataError,
    max_bytes: int = MAX_TEXT_BYTES,
) -> str:
    """Return the text of a UTF-8 file without its byte order mark.

    Raises UsageError when it is missing or not a regular file, `error` when it is too large or not
    UTF-8.
    """
    content = _read(path, max_bytes, what, error)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(
            f"cannot read {what} {shown_path(path)}: not UTF-8 ({problem})"
        ) from None


def read_json(
    path: Path,
    what: str = "JSON file",
    *,
    error: type[NordocrError] = DataError,
    max_bytes: int = MAX_JSON_BYTES,
) -> Any:
    """Return the value of a JSON file (UTF-8, with or without a byte order mark).

    Raises UsageError when it is missing or not a regular file, `error` when it is too large, is not
    JSON or holds a value that `parse_json` refuses.
    """
    content = _read(path, max_bytes, what, error)
    try:
        return parse_json(content)
    except ValueError as problem:
        raise error(f"{shown_path(path)}: not a readable {what} ({problem})") from None


def read_json_lines(path: Path, what: str = "JSONL file") -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) for each line of a JSONL file; blank lines are skipped.

    Raises UsageError when it is missing or not a regular file, DataError naming file and line when
    a line is not JSON.
    """
    with open_regular(path, what) as file:
        lines = iter(lambda: file.readline(MAX_JSON_BYTES), b"")
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                value = parse_json(line)
            except ValueError as problem:
                raise DataError(
                    f"{shown_path(path)}:{number}: not JSON ({problem})"
                ) from None
            yield number, value


def read_toml(
    path: Path, what: str = "TOML file", *, error: type[NordocrError] = UsageError
) -> dict[str, Any]:
    """Return the tables of a TOML file (UTF-8, with or without a byte order mark).

    Raises UsageError when it is missing or not a regular file, `error` when it is too large, is not
    TOML or holds a value that `parse_toml` refuses.
    """
    content = _read(path, MAX_TOML_BYTES, what, error)
    try:
        return parse_toml(content.decode("utf-8-sig"))
    except ValueError as problem:
        raise error(f"{shown_path(path)}: not valid TOML ({problem})") from None


def parse_json(
    content: str | bytes, *, allow_nan: bool = False, any_value: bool = False
) -> Any:
    """Return the value of a JSON text.

    Raises ValueError when it is not JSON in UTF-8, nests deeper than MAX_DEPTH levels, is made of
    empty lists and tables (see `require_few_parts`), holds a number beyond 64 bits, NaN or infinity
    (JSON has neither), or half a surrogate pair, which cannot be written as UTF-8 again. With
    `allow_nan` NaN and infinity are read, as Python and NumPy write them. With `any_value` only the
    nesting and the empty lists are refused, for readers that check every value and name the bad
    ones: longer integers become floats.
    """
    if isinstance(content, bytes):
        content = content.decode("utf-8-sig")
    parts = content.count("[") + content.count("{")
    require_few_parts(parts, len(content), "lists and tables")
    strict = not (allow_nan or any_value)
    try:
        if _LONG_NUMBER.search(content):
            value = json.loads(content, **_number_hooks(strict, any_value))
        elif strict:
            value = _STRICT_DECODER.decode(content)
        else:
            value = json.loads(content)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    if parts > MAX_DEPTH:
        _require_depth(value)
    if not any_value and _SURROGATE_ESCAPE.search(content):
        _require_characters(value)
    return value


def _number_hooks(strict: bool, any_value: bool) -> dict[str, Any]:
    """Return the options of `json.loads` for a text with a number that may be beyond 64 bits."""
    hooks: dict[str, Any] = {
        "parse_int": _integer_or_float if any_value else _integer,
        "parse_float": float if any_value else _finite,
    }
    if strict:
        hooks["parse_constant"] = _refuse_constant
    return hooks


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises ValueError when it is not TOML, nests deeper than MAX_DEPTH levels, or holds a number
    that is not finite or beyond 64 bits.
    """
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    _require_depth(tables)
    _require_numbers(tables)
    return tables


def _read(path: Path, max_bytes: int, what: str, error: type[NordocrError]) -> bytes:
    try:
        return read_regular(path, max_bytes, what)
    except DataError as problem:
        raise error(str(problem)) from None


def _integer(digits: str) -> int:
    # 20 characters hold every 64-bit integer with its sign; int() of more takes quadratic time.
    value = int(digits) if len(digits) <= 20 else MAX_INTEGER + 1
    if not MIN_INTEGER <= value <= MAX_INTEGER:
        raise ValueError(f"the integer {_shortened(digits)} has more than 64 bits")
    return value


def _integer_or_float(digits: str) -> int | float:
    if len(digits) <= 19:
        return int(digits)
    return float(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {_shortened(digits)} is too large")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


# Made once: `json.loads` makes a decoder for every text that has options, which takes longer than
# to parse a row of a line store.
_STRICT_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _require_depth(value: Any) -> None:
    """Raise ValueError when lists and tables nest too deep. A loop, since a recursive function
    would end in the error that it looks for.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise ValueError(_too_deep())


def _require_numbers(tables: Mapping[str, Any]) -> None:
    waiting: list[Any] = [tables]
    while waiting:
        value = waiting.pop()
        if isinstance(value, int) and not MIN_INTEGER <= value <= MAX_INTEGER:
            raise ValueError("an integer has more than 64 bits")
        if isinstance(value, dict):
            waiting.extend(value.values())
        if isinstance(value, list):
            waiting.extend(value)


def _children(value: Any) -> list[Any]:
    """The lists and tables directly in `value`."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return []
    return [child for child in value if isinstance(child, dict | list)]


def _require_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            "a string holds half a surrogate pair, which is no character"
        ) from None


def _too_deep() -> str:
    return f"lists or tables nest deeper than {MAX_DEPTH} levels"


def _shortened(digits: str) -> str:
    if len(digits) <= 24:
        return digits
    return f"{digits[:20]}… ({len(digits)} characters)"


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
