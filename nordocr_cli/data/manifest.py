"""Manifests: text files that name line images and their texts, one a line.

| kind | a line |
|---|---|
| `jsonl` | a JSON object: `image`, `text`, and if known `id`, `language`, `subset`, `split`,
    `source`; other keys are kept |
| `tsv` | image, one tab, text; nothing is quoted or escaped: further tabs, quotes and braces belong
    to the text |
| `labels` | image, one space, text |
| `csv` | comma or semicolon between, quotes as usual; a header names the columns, or there are two:
    image and text |
| `paddle` | page image, one tab, a JSON list of `{"transcription": …, "points": [[x, y], …]}`
    (PaddleOCR's detection labels) |

A tsv may also name several images of one text as a JSON list, as PaddleOCR's label files do. Other
tools' names of the columns are known: `filename`, `file_name`, `path` for `image`; `words`,
`label`, `transcription` for `text`. The keys that prep writes itself (see data/notes.py) are
refused when they hold something else.

A line that cannot be used becomes an Entry with its problem, so that the caller can count it; it is
never passed over.
"""

import csv
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

from nordocr_cli.charset import to_nfc
from nordocr_cli.data.notes import check_notes
from nordocr_cli.errors import DataError
from nordocr_cli.records import Box, LineRow

ManifestKind = Literal["jsonl", "tsv", "labels", "csv", "paddle"]

_MAX_LINE_BYTES = 1 << 20
_LINES_LOOKED_AT = 20  # to tell a manifest's kind
_TEXT_KEYS = frozenset({"id", "image", "text", "language", "subset", "split", "source"})
# What other tools call these two, in the order in which they are looked for.
_OTHER_NAMES = {
    "image": ("filename", "file_name", "path"),
    "text": ("words", "label", "transcription"),
}
# PaddleOCR's texts for a region that nobody could read, and for one to leave alone.
_PADDLE_ILLEGIBLE = ("###", "*")
_PLAIN_NAME = re.compile(r"(?:[\w-]+/)*[\w-]+\.\w+")
# Opened on Windows, these names are devices whatever their folder and suffix.
_WINDOWS_DEVICE = re.compile(
    r"(?:CON|PRN|AUX|NUL|COM[1-9]|LPT[1-9]) *(?:\..*)?", re.IGNORECASE | re.DOTALL
)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where on a page image a line is: page index from 0, box in pixels, and the page's (height,
    width) where known.
    """

    page: int
    box: Box
    page_size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a source: `row`, or the `problem` for which there is none.

    `where` is file:line or the key in an LMDB; `key` finds the image in its source, and `place` the
    line on it when the image is a whole page; `renormalized` says that the text was not in NFC as
    it stood; `illegible` that somebody marked the line as one that cannot be read, which is no
    fault of the row.
    """

    where: str
    key: str = ""
    row: LineRow | None = None
    problem: str = ""
    renormalized: bool = False
    place: Place | None = None
    illegible: bool = False


def manifest_kind(path: Path) -> ManifestKind:
    """Tell a manifest's kind by its name, else by what most of its first lines are: one of them may
    be damaged.

    Raises DataError when it is not UTF-8 text or is empty.
    """
    if path.suffix in (".jsonl", ".csv"):
        return "jsonl" if path.suffix == ".jsonl" else "csv"
    kinds = Counter[ManifestKind]()
    for _, line in _lines(path):
        text = "" if b"\0" in line else line.decode("utf-8", errors="replace").strip()
        if text == "[":
            raise DataError(
                f"{path}: a JSON array; a manifest has one JSON object a line (JSON Lines)"
            )
        if text:
            kinds[_line_kind(text)] += 1
        if kinds.total() == _LINES_LOOKED_AT:
            break
    if kinds["paddle"]:
        return "paddle"  # nothing else looks like it
    if path.suffix == ".tsv":
        return "tsv"
    if not kinds:
        raise DataError(f"{path}: no line of text in it, so it is no manifest")
    return kinds.most_common(1)[0][0]


def _line_kind(text: str) -> ManifestKind:
    if _paddle_regions(text) is not None:
        return "paddle"
    return "jsonl" if text.startswith("{") else "tsv" if "\t" in text else "labels"


def iterate_manifest(path: Path, kind: ManifestKind | None = None) -> Iterator[Entry]:
    """Yield an Entry for each line that is not blank. Raises DataError when the file cannot be read
    or is not text.
    """
    kind = kind or manifest_kind(path)
    table = _CsvTable() if kind == "csv" else None
    seen: dict[str, int] = {}
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            text = _decoded(line)
        except ValueError as error:
            yield Entry(where, problem=str(error))
            continue
        if not text.strip() or (
            kind == "tsv"
            and number == 1
            and text.split("\t") in (["image", "text"], ["image", "label"])
        ):
            continue
        try:
            entries = list(
                _paddle_entries(text, where)
                if kind == "paddle"
                else _row_entries(text, where, kind, table)
            )
        except ValueError as error:
            yield Entry(where, problem=str(error))
            continue
        for entry in entries:
            if entry.row is not None and (first := seen.get(entry.row.id)):
                yield Entry(
                    where, entry.key, problem=f"id {entry.row.id!r} is already that of line {first}"
                )
                continue
            if entry.row is not None:
                seen[entry.row.id] = number
            yield entry


def read_manifest(path: Path) -> list[LineRow]:
    """Return all rows of a manifest. Raises DataError naming file:line of the first rows that
    cannot be used.
    """
    entries = list(iterate_manifest(path))
    problems = [f"{entry.where}: {entry.problem}" for entry in entries if entry.row is None]
    if problems:
        more = f"\n… and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError("\n".join(problems[:5]) + more)
    return [entry.row for entry in entries if entry.row is not None]


def make_entry(value: Mapping[str, Any], where: str, key: str | None = None) -> Entry:
    """Check a row's values and return its Entry, the text in NFC. `id` is the image's name when
    left out.

    Raises ValueError naming the key that is missing or wrong.
    """
    fields: dict[str, str] = {}
    extra: dict[str, Any] = {}
    # Other tools' names are looked up only where the row's own is not there: this runs for every
    # row.
    own = {
        other: name
        for name in _OTHER_NAMES
        if value.get(name) is None and (other := _named(name, value))
    }
    for written, item in value.items():
        name = own.get(written, written)
        if name not in _TEXT_KEYS:
            extra[written] = item
            continue
        if item is None:
            continue
        if not isinstance(item, str):
            raise ValueError(f"{name!r} must be a string, not {type(item).__name__} {item!r}")
        if has_surrogate(item):
            raise ValueError(
                f"{name!r} holds half a surrogate pair, which is no character: {item!r}"
            )
        fields[name] = item
    for name in ("image", "text"):
        if name not in fields:
            raise ValueError(f"no {name!r}; the row has {', '.join(map(str, value)) or 'no keys'}")
    if not fields["image"]:
        raise ValueError("'image' is empty")
    text = to_nfc(fields["text"])
    if extra:
        check_notes(extra)
        if has_surrogate(json.dumps(extra, ensure_ascii=False)):
            raise ValueError(
                f"one of {', '.join(map(repr, extra))} holds half a surrogate pair, which is no"
                " character"
            )
    row = LineRow(
        **{**fields, "id": fields.get("id") or fields["image"], "text": text}, extra=extra
    )
    return Entry(
        where, key if key is not None else row.image, row, renormalized=text != fields["text"]
    )


def has_surrogate(text: str) -> bool:
    """Whether `text` holds half a surrogate pair: JSON can escape it and file names can, but it is
    no character.
    """
    return not text.isascii() and _SURROGATE.search(text) is not None


def _named(name: str, value: Mapping[str, Any]) -> str | None:
    """The key under which `value` holds `name` as other tools call it."""
    return next((key for key in _OTHER_NAMES[name] if value.get(key) is not None), None)


def resolve_image(root: Path, image: str) -> str:
    """Return the path of `image` inside `root`, as text: paths are slow to make, and this runs for
    every row.

    Raises DataError for a path that leaves the root (absolute, `..`, a drive, a symlink out), holds
    NUL, or names a device.
    """
    path, real_root = os.path.join(root, image), _real_folder(str(root))
    if _PLAIN_NAME.fullmatch(image) and not os.path.islink(path):
        # `folder/name.png`, as nearly all are: only where the folder leads is left to ask, and
        # folders are few.
        real = _real_folder(os.path.dirname(path))
        inside = real == real_root or real.startswith(os.path.join(real_root, ""))
        if inside and not any(map(_WINDOWS_DEVICE.fullmatch, image.split("/"))):
            return path
    windows = PureWindowsPath(image)
    if not image or "\0" in image:
        raise DataError(f"image path {image!r} is empty or holds NUL")
    if windows.drive or windows.root or PurePosixPath(image).is_absolute() or ".." in windows.parts:
        raise DataError(
            f"image path {image!r} leaves the manifest's folder; use paths relative to {root}"
        )
    if any(map(_WINDOWS_DEVICE.fullmatch, windows.parts)):
        raise DataError(f"image path {image!r} names a device on Windows")
    if not Path(os.path.realpath(path)).is_relative_to(real_root):
        raise DataError(
            f"image path {image!r} leads through a symlink out of {root}; copy the images there"
        )
    return path


@lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line without its end; of a longer line its first MiB).

    Only \\n and \\r\\n end a line: U+2028 and similar characters are text.
    """
    try:
        with open(path, "rb") as file:
            number = 0
            while line := file.readline(_MAX_LINE_BYTES):
                number += 1
                if number == 1:
                    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                        raise DataError(f"{path}: the file is UTF-16; save it as UTF-8")
                    line = line.removeprefix(b"\xef\xbb\xbf")
                rest = line
                while len(rest) >= _MAX_LINE_BYTES and not rest.endswith(b"\n"):
                    # of a line that is too long only the beginning is kept
                    rest = file.readline(_MAX_LINE_BYTES)
                yield number, line.removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _decoded(line: bytes) -> str:
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


def _parse_json(text: str) -> Mapping[str, Any]:
    try:
        value = _JSON.decode(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(value, dict):
        raise ValueError(f"a row is a JSON object, not {type(value).__name__}")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)


def _split(text: str, separator: str) -> Mapping[str, Any]:
    image, found, label = text.partition(separator)
    if not found:
        raise ValueError(
            f"expected image, one {'tab' if separator == chr(9) else 'space'}, text; found"
            f" {text[:60]!r}"
        )
    return {"image": image, "text": label}


def _row_entries(
    text: str, where: str, kind: ManifestKind, table: "_CsvTable | None"
) -> Iterator[Entry]:
    """The rows of one line: none for a CSV's header, several where a tsv names several images of
    one text.
    """
    if table is not None:
        value = table.row(text)
        if value is not None:
            yield make_entry(value, where)
        return
    value = (
        _parse_json(text) if kind == "jsonl" else _split(text, " " if kind == "labels" else "\t")
    )
    image = value.get("image")
    if kind != "tsv" or not isinstance(image, str) or not image.startswith('["'):
        yield make_entry(value, where)
        return
    try:
        images = json.loads(image)
    except json.JSONDecodeError as error:
        raise ValueError(f"the image looks like a JSON list, but is none: {error.msg}") from None
    except RecursionError:
        raise ValueError("the image's JSON is nested too deeply") from None
    for each in images:
        yield make_entry({**value, "image": each}, where)


class _CsvTable:
    """Reads a CSV line by line; a text line holds no line break, so neither does a row. Raises
    ValueError on bad quoting.
    """

    def __init__(self) -> None:
        self._columns: list[str] = []
        self._delimiter = ","

    def row(self, line: str) -> Mapping[str, Any] | None:
        """Return the row as an object, None for the header."""
        if self._columns:
            cells = self._cells(line)
            if len(cells) != len(self._columns):
                raise ValueError(
                    f"{len(cells)} columns instead of {len(self._columns)}; quote a text that holds"
                    " the delimiter"
                )
            # An empty cell is a value that is not known, but for the text.
            return {
                name: cell
                for name, cell in zip(self._columns, cells, strict=True)
                if cell or name in _TEXT_NAMES
            }
        # Spreadsheets write ; where the comma is the decimal sign, as it is in the Nordic
        # countries.
        self._delimiter = next((character for character in line if character in ",;"), ",")
        cells = self._cells(line)
        lowered = [cell.strip().lower() for cell in cells]
        if _TEXT_NAMES & set(lowered) and _IMAGE_NAMES & set(lowered):
            self._columns = lowered
            return None
        if len(cells) != 2:
            raise ValueError(
                f"no header with an image and a text column, and {len(cells)} columns instead"
                " of two"
            )
        self._columns = ["image", "text"]
        return self.row(line)

    def _cells(self, line: str) -> list[str]:
        try:
            return next(csv.reader([line], delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            raise ValueError(
                f"not CSV: {error}; a row stands on one line, and a quote within quotes is doubled"
            ) from None


_IMAGE_NAMES, _TEXT_NAMES = ({name, *_OTHER_NAMES[name]} for name in ("image", "text"))


def _paddle_regions(text: str) -> tuple[str, list[Mapping[str, Any]]] | None:
    """Page image and regions of a line of PaddleOCR's detection labels; None when it is something
    else.
    """
    image, _, regions = text.partition("\t")
    if not regions.startswith("[{"):
        return None
    try:
        found = json.loads(regions)
    except (ValueError, RecursionError):
        return None
    return (
        (image, found)
        if all(isinstance(r, dict) and {"transcription", "points"} <= r.keys() for r in found)
        else None
    )


def _paddle_entries(text: str, where: str) -> Iterator[Entry]:
    image, found, label = text.partition("\t")
    if found and label.strip() == "[]":
        return  # a page without regions
    parsed = _paddle_regions(text)
    if parsed is None:
        raise ValueError(
            f"expected image, one tab, a JSON list of transcription and points; found {text[:60]!r}"
        )
    for number, region in enumerate(parsed[1], start=1):
        name = f"{image}:r{number}"
        try:
            corners = [(float(x), float(y)) for x, y in region["points"]]
            left, top = (min(values) for values in zip(*corners, strict=True))
            right, bottom = (max(values) for values in zip(*corners, strict=True))
            if (
                not all(map(math.isfinite, (left, top, right, bottom)))
                or right <= left
                or bottom <= top
            ):
                raise ValueError("no area")
            place = Place(0, Box(left, top, right - left, bottom - top))
            value = {"id": name, "image": image, "text": region["transcription"], "source": name}
            entry = replace(make_entry(value, where), place=place)
        except (TypeError, ValueError, OverflowError) as error:
            yield Entry(where, image, problem=f"region {number}: {error}")
            continue
        if region.get("difficult") or region["transcription"] in _PADDLE_ILLEGIBLE:
            yield Entry(
                where, image, problem=f"region {number} is marked as illegible", illegible=True
            )
        else:
            yield entry
