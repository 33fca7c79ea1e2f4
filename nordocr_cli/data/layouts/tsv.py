"""TSV of Tesseract, in which words follow their line, and of `predict`, with a line per row.

| file | page | rows |
|---|---|---|
| Tesseract | `page_num` from 1 | level 4 is a line, level 5 its words |
| `predict` | `page` from 1 | every row is a line |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nordocr_cli.charset import to_nfc
from nordocr_cli.data.layouts.layout import BadLines, Layout, box_from_json
from nordocr_cli.errors import DataError
from nordocr_cli.records import Box, Page, Region

_LINE_LEVEL = 4
_WORD_LEVEL = 5


def sniff(head: bytes) -> bool:
    """Whether a file that begins so has a header with boxes."""
    columns = head.split(b"\n", 1)[0]
    return b"\t" in columns and b"left" in columns


@dataclass
class _Line:
    """A line as it is collected; `box` is None of one that is damaged."""

    box: Box | None = None
    words: list[str] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)

    def region(self, box: Box) -> Region:
        known = self.confidences
        confidence = sum(known) / len(known) if known else None
        return Region(box, to_nfc(" ".join(self.words)), confidence)


class _Table:
    """Collects the lines of a table's rows, page by page."""

    def __init__(self, header: Sequence[str]) -> None:
        self.header = header
        self.by_word = "level" in header
        self.pages: dict[int, list[_Line]] = {}
        self._page = 0

    def add(self, row: Mapping[str, str], where: str) -> None:
        """Take a row. Raises DataError, KeyError, IndexError or ValueError when it is damaged."""
        self._begin_line(row)
        level = int(row.get("level", _LINE_LEVEL))
        line_level = _WORD_LEVEL if self.by_word else _LINE_LEVEL
        if level == _LINE_LEVEL:
            x, y, width, height = (
                float(row[key]) for key in ("left", "top", "width", "height")
            )
            self._last.box = box_from_json([x, y, x + width, y + height], where)
        if level != line_level:
            return
        text = row.get("text", "")
        written = row.get("conf" if self.by_word else "confidence") or "-1"
        confidence = float(written) / (100 if self.by_word else 1)
        self._last.words.append(text.strip() if self.by_word else text)
        if confidence >= 0:
            self._last.confidences.append(confidence)

    def damage(self, problem: str, bad_lines: BadLines) -> None:
        """Note that the line of the last row is damaged."""
        lines = self.pages.setdefault(self._page, [])
        if not lines:
            lines.append(_Line())
        lines[-1] = _Line()
        bad_lines[self._page, len(lines)] = problem

    @property
    def _last(self) -> _Line:
        return self.pages[self._page][-1]

    def _begin_line(self, row: Mapping[str, str]) -> None:
        is_line = str(row.get("level", _LINE_LEVEL)).strip() not in ("1", "2", "3", "5")
        try:
            self._page = int(row.get("page_num") or row.get("page") or self._page + 1) - 1
        finally:
            if is_line:
                self.pages.setdefault(self._page, []).append(_Line())


def read(content: bytes, path: Path, bad_lines: BadLines | None = None) -> Layout:
    """Read a table. Raises DataError naming file:line; see `read_layout`."""
    header, *rows = _cells(content, path)
    _require_one_image(header, rows, path)
    table = _Table(header)
    for number, cells in enumerate(rows, start=2):
        where = f"{path}:{number}"
        row = dict(zip(header, cells, strict=False))
        try:
            table.add(row, where)
        except (KeyError, IndexError, ValueError, OverflowError, DataError) as error:
            columns = ", ".join(header)
            problem = f"{where}: expected numbers under {columns}, and lines before words"
            if isinstance(error, DataError):
                problem = str(error)
            if bad_lines is None:
                raise DataError(problem) from None
            table.damage(problem, bad_lines)
    if not table.pages or min(table.pages) < 0:
        raise DataError(f"{path}: the TSV has no line of a page (counted from 1)")

    pages = [
        Page(index, tuple(line.region(line.box) for line in lines if line.box))
        for index, lines in sorted(table.pages.items())
    ]
    return Layout(tuple(pages))


def _cells(content: bytes, path: Path) -> list[list[str]]:
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error})") from error
    return [line.split("\t") for line in text.split("\n") if line]


def _require_one_image(
    header: Sequence[str], rows: Sequence[Sequence[str]], path: Path
) -> None:
    if "image" not in header:
        return
    column = header.index("image")
    images = {cells[column] for cells in rows if column < len(cells)}
    if len(images) > 1:
        raise DataError(
            f"{path}: its rows are of several images; a layout is of one document"
        )
