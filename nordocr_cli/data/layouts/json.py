"""JSON with pages: the consumer's results, those of `predict`, and ground truth.

| file | pages | lines |
|---|---|---|
| results | `pages[].page_index` from 0 | `lines[]`: `bbox` {x, y, width, height}, `text` |
| ground truth | `pages[].page` from 1 | `regions[]`: `bbox` [x0, y0, x1, y1], `text` |

Both may give `polygon` and `baseline` as [[x, y], …].
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nordocr_cli import limits
from nordocr_cli.charset import to_nfc
from nordocr_cli.data.layouts.layout import (
    BadLines,
    Layout,
    box_from_json,
    corners_of,
    language_code,
    pages_by_index,
    points_from_json,
    read_page_regions,
)
from nordocr_cli.errors import DataError
from nordocr_cli.records import Page, Region


def sniff(head: bytes) -> bool:
    """Whether a file that begins so is JSON; which kind shows when it has been parsed."""
    return head[:1] in (b"{", b"[")


def parse_layout_json(content: bytes, path: Path) -> Any:
    """Parse a JSON file. Raises DataError when it is none."""
    try:
        return limits.parse_json(content, any_value=True)
    except ValueError as error:
        raise DataError(f"{path} is not readable JSON ({error})") from error


def has_pages(value: Any) -> bool:
    """Whether parsed JSON has the shape that this module reads."""
    return isinstance(value, Mapping) and isinstance(value.get("pages"), list)


def layout_from_json(value: Any, path: Path, bad_lines: BadLines | None = None) -> Layout:
    """Read parsed JSON with pages. Raises DataError naming what is wrong; see `read_layout`."""
    if not has_pages(value):
        raise DataError(
            f'{path}: expected {{"pages": [{{"page_index": 0, "lines": [...]}}]}} as the pipeline'
            " writes it"
        )
    pages = [
        _page(page, path, number, bad_lines)
        for number, page in enumerate(value["pages"], start=1)
    ]
    return Layout(
        pages_by_index(pages, path), language_code(str(value.get("language") or ""))
    )


def _page(value: Any, path: Path, number: int, bad_lines: BadLines | None) -> Page:
    where = f"{path}: page {number}"
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: expected an object with lines or regions")
    lines = value.get("lines", value.get("regions"))
    index = _page_index(value)
    if not isinstance(lines, list) or not isinstance(index, int) or index < 0:
        raise DataError(
            f"{where}: needs page_index (from 0) with lines, or page (from 1) with regions"
        )
    return Page(index, read_page_regions(lines, _region, where, index, bad_lines))


def _page_index(value: Mapping[str, Any]) -> Any:
    """The consumer counts pages from 0 (`page_index`), ground truth from 1 (`page`)."""
    if "page_index" in value:
        return value["page_index"]
    number = value.get("page")
    if isinstance(number, int):
        return number - 1
    return None


def _region(value: Any, where: str) -> Region:
    if not isinstance(value, Mapping) or not isinstance(value.get("text", ""), str):
        raise DataError(f"{where}: expected an object with bbox and text")
    confidence = value.get("confidence")
    characters = value.get("char_confidences") or ()
    try:
        return Region(
            box_from_json(value.get("bbox"), where),
            to_nfc(value.get("text", "")),
            None if confidence is None else float(confidence),
            tuple(float(character) for character in characters),
            corners_of(points_from_json(value.get("polygon"))),
            points_from_json(value.get("baseline")),
        )
    except (TypeError, KeyError, ValueError, OverflowError):
        raise DataError(
            f"{where}: confidence, char_confidences and the points of polygon and baseline must be"
            " numbers"
        ) from None
