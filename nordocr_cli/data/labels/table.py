"""Tables: an image and its text per line, with or without a header.

| form | a line |
|---|---|
| `tsv` | image, one tab, text; nothing is quoted or escaped: further tabs belong to the text |
| `csv` | commas, semicolons or bars between, quotes as usual |
| `labels` | image, one space (or comma, semicolon, bar), text |

A header names the columns (see `entry.OTHER_NAMES` for what other tools call them), and then there
may be more of them; without one there are two. A tsv may name several images of one text as a JSON
list, as PaddleOCR's label files do. Tables of `predict` are read too: a row with a page is a line
on that page.
"""

import csv
import json
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from nordocr_cli.data.entry import IMAGE_NAMES, TEXT_NAMES, Entry, make_entry, named_keys
from nordocr_cli.data.labels.jsonl import row_entry
from nordocr_cli.data.labels.label_file import Columns, LabelFile, bad_entry

_SUFFIXES = "png|jpe?g|tiff?|bmp|webp|gif|jp2"
# `my image.png`, then what parts it from the text.
_LABEL = re.compile(rf"(.+?\.(?:{_SUFFIXES}))(\s*[,;|]|\s)\s?(.*)", re.IGNORECASE)
_IMAGE = re.compile(rf".*\.(?:{_SUFFIXES})", re.IGNORECASE)
# Where and what a line is, and why it is none; as `LabelFile.text_lines` gives them.
_Line = tuple[str, str, str]
_MAXIMUM_ROW_LINES = 50
_BOX_COLUMNS = ("left", "top", "width", "height")


def is_csv(file: LabelFile) -> bool:
    """Whether it is named as a CSV."""
    return file.path.suffix.lower() == ".csv"


def is_tsv(file: LabelFile) -> bool:
    """Whether it is named as a TSV, or most of its first lines have a tab."""
    if file.path.suffix.lower() == ".tsv":
        return True
    tabs = sum("\t" in line for line in file.sample)
    return tabs * 2 > len(file.sample)


def is_labels(file: LabelFile) -> bool:
    """Whether it has any text: image, one space, text is what is left."""
    return bool(file.sample)


def read_csv(file: LabelFile) -> Iterator[Entry]:
    """Yield an entry per row of a CSV. A quoted cell may hold line breaks."""
    table = _Csv(file.columns)
    lines = _Lines(file.text_lines())
    for where, text, problem in lines:
        if problem:
            yield bad_entry(where, problem)
            continue
        try:
            value = _csv_row(table, text, lines)
            if value is not None:
                _require_one_line(value)
                yield _entry(value, where)
        except ValueError as error:
            yield bad_entry(where, error)


def _csv_row(table: "_Csv", text: str, lines: "_Lines") -> Mapping[str, Any] | None:
    """The row that begins with the line `text`, and goes on in `lines` while a quote is open. Lines
    that do not belong to it are put back. Raises ValueError.
    """
    taken: list[_Line] = []
    try:
        return table.row(text)
    except _OpenQuoteError as error:
        problem = error
    for line in islice(lines, _MAXIMUM_ROW_LINES):
        taken.append(line)
        if line[2]:
            break
        try:
            return table.row("\n".join([text, *(each for _, each, _ in taken)]))
        except _OpenQuoteError:
            continue
        except ValueError:
            break
    lines.put_back(taken)
    raise problem


def read_tsv(file: LabelFile) -> Iterator[Entry]:
    """Yield an entry per row of a TSV; several where a row names several images of one text."""
    header: list[str] | None = None
    for number, (where, text, problem) in enumerate(file.text_lines()):
        if problem:
            yield bad_entry(where, problem)
            continue
        if number == 0:
            header = _header(text.split("\t"), file.columns)
            if header:
                continue
        try:
            value = _tsv_row(text, header, file.columns)
            yield from [_entry(each, where) for each in _each_image(value)]
        except ValueError as error:
            yield bad_entry(where, error)


def read_labels(file: LabelFile) -> Iterator[Entry]:
    """Yield an entry per line of image, separator, text."""
    separator = _separator(file.sample)
    for number, (where, text, problem) in enumerate(file.text_lines()):
        if problem:
            yield bad_entry(where, problem)
            continue
        if (
            number == 0
            and separator != " "
            and _header(text.split(separator), file.columns)
        ):
            continue
        try:
            yield make_entry(_label_row(text, separator), where)
        except ValueError as error:
            yield bad_entry(where, error)


def _entry(value: Mapping[str, Any], where: str) -> Entry:
    """The entry of a row; a table of `predict` gives the page and box of each line."""
    if value.get("page") and all(value.get(name) for name in _BOX_COLUMNS):
        return row_entry(_placed(value), where)
    if all(name in value for name in _BOX_COLUMNS):
        value = {
            name: cell
            for name, cell in value.items()
            if name not in ("page", *_BOX_COLUMNS)
        }
    return make_entry(value, where)


def _placed(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of `predict`'s table as its JSON writes it. Raises ValueError."""
    x, y, width, height = (float(value[name]) for name in _BOX_COLUMNS)
    rest = {
        name: cell for name, cell in value.items() if name not in ("page", *_BOX_COLUMNS)
    }
    box = {"x": x, "y": y, "width": width, "height": height}
    return {**rest, "page_index": int(value["page"]) - 1, "bbox": box}


# TSV
# ----------------------------------------


def _tsv_row(
    text: str, header: Sequence[str] | None, columns: Columns
) -> Mapping[str, Any]:
    if header is None:
        image, found, label = text.partition("\t")
        if not found:
            raise ValueError(f"expected image, one tab, text; found {text[:60]!r}")
        return {"image": image, "text": label}
    # Further tabs belong to the text where that is the last column.
    cells = text.split("\t", len(header) - 1)
    if all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells):
        # Written with every cell in quotes, as some spreadsheets do.
        cells = [cell[1:-1].replace('""', '"') for cell in cells]
    return _named_cells(header, cells, columns)


def _each_image(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A row for each image that a tsv names as a JSON list. Raises ValueError."""
    image = value.get("image")
    if not isinstance(image, str) or not image.startswith('["'):
        return [value]
    try:
        images = json.loads(image)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"the image looks like a JSON list, but is none: {error.msg}"
        ) from None
    except RecursionError:
        raise ValueError("the image's JSON is nested too deeply") from None
    return [{**value, "image": each} for each in images]


# Labels
# ----------------------------------------


def _separator(sample: Sequence[str]) -> str:
    """What stands between image and text in most lines: a space, comma, semicolon or bar."""
    matches = map(_LABEL.match, sample)
    found = Counter(match[2].strip() or " " for match in matches if match)
    if not found:
        return " "
    return found.most_common(1)[0][0]


def _label_row(text: str, separator: str) -> Mapping[str, Any]:
    match = _LABEL.fullmatch(text)
    if match is not None and (match[2].strip() or " ") == separator:
        image = match[1]
        label = match[3]
        if separator == " ":
            label = text[match.end(1) + 1 :]
    else:
        image, found, label = text.partition(separator)
        if not found:
            what = {" ": "space"}.get(separator, separator)
            raise ValueError(f"expected image, one {what}, text; found {text[:60]!r}")
    is_quoted = len(label) > 1 and label[0] == label[-1] == '"'
    if separator != " " and is_quoted:
        label = label[1:-1].replace('\\"', '"').replace('""', '"')
    return {"image": image, "text": label}


# CSV
# ----------------------------------------


class _Lines:
    """The lines of a file; some that were taken can be put back."""

    def __init__(self, lines: Iterator[_Line]) -> None:
        self._lines = lines
        self._returned: deque[_Line] = deque()

    def __iter__(self) -> Iterator[_Line]:
        return self

    def __next__(self) -> _Line:
        if self._returned:
            return self._returned.popleft()
        return next(self._lines)

    def put_back(self, lines: Sequence[_Line]) -> None:
        """Let these come next, in their order."""
        self._returned.extendleft(reversed(lines))


def _require_one_line(row: Mapping[str, Any]) -> None:
    """Raise ValueError for a text with a line break in it."""
    names = (name for name in ("text", *sorted(TEXT_NAMES)) if row.get(name))
    text = str(row.get(next(names, "text"), ""))
    if "\n" in text.strip():
        count = len(text.strip().splitlines())
        raise ValueError(f"{count} lines of text; the image of a line has one")


class _OpenQuoteError(ValueError):
    """A CSV's line ends within a quoted cell, which may go on in the next one."""


class _Csv:
    """Reads a CSV row by row."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._header: list[str] = []
        self._delimiter = ","

    def row(self, line: str) -> Mapping[str, Any] | None:
        """Return the row as an object, None for the header. Raises ValueError for bad quoting and
        another number of columns.
        """
        if self._header:
            return _named_cells(self._header, self._cells(line), self._columns)
        # Spreadsheets write ; where the comma is the decimal sign, as in the Nordic countries.
        found = (character for character in line if character in ",;\t|")
        self._delimiter = next(found, ",")
        cells = self._cells(line)
        header = _header(cells, self._columns)
        if header:
            self._header = header
            return None
        if len(cells) != 2:
            raise ValueError(
                f"no header with an image and a text column, and {len(cells)} columns instead"
                " of two; --image-key and --text-key name the columns"
            )
        self._header = ["image", "text"]
        return self.row(line)

    def _cells(self, line: str) -> list[str]:
        try:
            rows = csv.reader(
                line.splitlines(keepends=True), delimiter=self._delimiter, strict=True
            )
            return next(rows)
        except csv.Error as error:
            kind = _OpenQuoteError if "unexpected end" in str(error) else ValueError
            raise kind(
                f"not CSV: {error}; a quote that opens a cell closes it, and one within quotes is"
                " doubled"
            ) from None


# Columns
# ----------------------------------------


def _header(cells: Sequence[str], columns: Columns) -> list[str] | None:
    """The columns that a first row names; None when it is a row like the others."""
    names = [cell.strip().strip('"') for cell in cells]
    if columns.are_given:
        requested = [name for name in (columns.image, columns.text) if name]
        missing = [name for name in requested if name not in names]
        if missing:
            raise ValueError(f"no column {missing[0]!r}; there are {', '.join(names)}")
        return names
    lowered = [name.lower() for name in names]
    has_both = TEXT_NAMES & set(lowered) and IMAGE_NAMES & set(lowered)
    is_row = any(_IMAGE.fullmatch(name) for name in names)
    if has_both and not is_row:
        return lowered
    return None


def _named_cells(
    header: Sequence[str], cells: Sequence[str], columns: Columns
) -> Mapping[str, Any]:
    if len(cells) != len(header):
        raise ValueError(
            f"{len(cells)} columns instead of {len(header)}; quote a text that holds the delimiter"
        )
    keep = TEXT_NAMES | {columns.text}
    # An empty cell is a value that is not known, but for the text.
    named = {
        name: cell for name, cell in zip(header, cells, strict=True) if cell or name in keep
    }
    return named_keys(named, columns.image, columns.text, header)
