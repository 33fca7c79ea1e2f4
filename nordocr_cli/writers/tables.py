"""Plain text, JSON, JSON Lines and TSV: one record a line of text."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from nordocr_cli.printable import json_text, printable, shown_path
from nordocr_cli.records import Box
from nordocr_cli.writers.read_page import ReadLine, ReadPage


def write_text_pages(pages: Iterable[ReadPage], *, named: bool = False) -> Iterator[str]:
    """One line of text a line; `named` puts the path of an image of one line and a tab before."""
    for page in pages:
        if named and page.index is None:
            name = f"{_cell(str(page.source))}\t"
        else:
            name = ""
        for line in page.lines:
            yield f"{name}{printable(line.reading.text)}\n"


def write_json_pages(pages: Iterable[ReadPage]) -> Iterator[str]:
    """Pages in the shape of the pipeline's results, and after them how many are doubtful; images
    of lines as a list of objects.
    """
    closing = ""
    doubtful = 0
    for page in pages:
        of_lines = page.index is None
        items = list(records(page)) if of_lines else [page_record(page)]
        doubtful += bool(page.doubts)
        for item in items:
            if closing:
                before = ",\n"
            else:
                before = "[\n" if of_lines else '{"pages": [\n'
            yield before + _dump(item, indent=None if of_lines else 1)
            closing = "\n]\n" if of_lines else "\n], "
    if closing.endswith(", "):
        closing += f'"doubtful_pages": {doubtful}}}\n'
    yield closing or "[]\n"


def write_jsonl(pages: Iterable[ReadPage]) -> Iterator[str]:
    """One JSON object a line of text."""
    for page in pages:
        for record in records(page):
            yield _dump(record) + "\n"


def write_tsv(pages: Iterable[ReadPage]) -> Iterator[str]:
    """One row a line with a header: image, page (from 1; empty for an image of one line), box,
    confidence, text.
    """
    yield "image\tpage\tleft\ttop\twidth\theight\tconfidence\ttext\n"
    for page in pages:
        number = "" if page.index is None else page.index + 1
        for line in page.lines:
            box = line.box
            reading = line.reading
            if reading.confidence is None:
                sure = ""
            else:
                sure = f"{reading.confidence:.4f}"
            place = "\t".join(f"{edge:g}" for edge in (box.x, box.y, box.width, box.height))
            name = _cell(str(page.source))
            yield f"{name}\t{number}\t{place}\t{sure}\t{_cell(reading.text)}\n"


def page_record(page: ReadPage) -> dict[str, Any]:
    """Return a page in the shape of the pipeline's results.

    Keys that the pipeline does not know stand only where they say something: `polygon` of a line
    that is no upright box, `quarter_turns` of a page that was turned, `doubts` and `error`.
    """
    known = [
        line.reading.confidence
        for line in page.lines
        if line.reading.confidence is not None
    ]
    record: dict[str, Any] = {
        "page_index": page.index,
        "text": "\n".join(line.reading.text for line in page.lines),
        "confidence": sum(known) / len(known) if known else 0.0,
        "lines": [_line_record(line) for line in page.lines],
    }
    if page.quarter_turns:
        record["quarter_turns"] = page.quarter_turns
    if page.doubts:
        record["doubts"] = list(page.doubts)
    if page.error:
        record["error"] = page.error
    return record


def _line_record(line: ReadLine) -> dict[str, Any]:
    reading = line.reading
    record: dict[str, Any] = {
        "text": reading.text,
        "confidence": 0.0 if reading.confidence is None else reading.confidence,
        "bbox": _box_record(line.box),
        "words": None,
    }
    if line.outline is not None:
        record["polygon"] = _polygon_record(line)
    if reading.char_confidences:
        record["char_confidences"] = list(reading.char_confidences)
    return record


def records(page: ReadPage) -> Iterator[dict[str, Any]]:
    """Yield one JSON object a line, and one for a page that could not be read."""
    of_page = {} if page.index is None else {"page_index": page.index}
    if page.error:
        yield {"image": shown_path(page.source), **of_page, "error": page.error}
    for line in page.lines:
        reading = line.reading
        record: dict[str, Any] = {"image": shown_path(page.source), **of_page}
        if page.index is not None:
            record["bbox"] = _box_record(line.box)
        if line.outline is not None:
            record["polygon"] = _polygon_record(line)
        record["text"] = reading.text
        record["confidence"] = reading.confidence
        record["char_confidences"] = list(reading.char_confidences)
        record["char_edges_px"] = [
            [round(left, 1), round(right, 1)] for left, right in line.edges
        ]
        if page.doubts:
            record["doubts"] = list(page.doubts)
        yield record


def _box_record(box: Box) -> dict[str, float]:
    sides = {"x": box.x, "y": box.y, "width": box.width, "height": box.height}
    return {name: round(float(value), 2) for name, value in sides.items()}


def _polygon_record(line: ReadLine) -> list[list[float]]:
    return [[round(x, 1), round(y, 1)] for x, y in line.shape.points]


def _dump(value: Any, indent: int | None = None) -> str:
    return json_text(value, indent=indent)


def _cell(text: str) -> str:
    """`text` without what would end a cell or a row, or control a terminal: file names may hold
    it.
    """
    return printable(re.sub(r"[\t\r\n]", " ", text))
