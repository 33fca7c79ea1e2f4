"""Readings of a document on disk: the consumer's result JSON (read and written) and ground truth with regions."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import write_json
from nordocr_cli.charset import to_nfc
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.records import Box, Page, Region


@dataclass(frozen=True)
class Layout:
    """The regions of a document's pages, in the order of the file, and the document's language (`` where not known)."""

    pages: tuple[Page, ...]
    language: str = ""

    @property
    def num_regions(self) -> int:
        """Number of regions on all pages."""
        return sum(len(page.regions) for page in self.pages)


def read_layout(path: Path) -> Layout:
    """Read the consumer's result JSON (pages[].lines[], bbox an object) or ground truth (pages[].regions[], bbox a list).

    Text is brought to NFC. Raises UsageError when there is no such file, DataError naming the page and line that is wrong.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"no result or region file {path}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable JSON ({error})") from error
    if not isinstance(value, Mapping) or not isinstance(value.get("pages"), list):
        raise DataError(f'{path}: expected {{"pages": [{{"page_index": 0, "lines": [...]}}]}} as the pipeline writes it')
    pages = [_page(page, f"{path}: page {number}") for number, page in enumerate(value["pages"], start=1)]
    indices = [page.index for page in pages]
    if len(set(indices)) != len(indices):
        raise DataError(f"{path}: two pages have the same index; found {sorted(indices)}")
    return Layout(tuple(sorted(pages, key=lambda page: page.index)), str(value.get("language") or ""))


def result_to_json(pages: Sequence[Page]) -> dict[str, Any]:
    """Return pages in the consumer's result shape."""
    return {"pages": [_page_to_json(page) for page in pages]}


def write_result(path: Path, pages: Sequence[Page]) -> None:
    """Write pages in the consumer's result shape, atomically."""
    write_json(path, result_to_json(pages))


def box_to_json(box: Box) -> dict[str, float]:
    """Return a box in the consumer's shape."""
    return {"x": float(box.x), "y": float(box.y), "width": float(box.width), "height": float(box.height)}


def box_from_json(value: Any, where: str) -> Box:
    """Read `{x, y, width, height}` or `[x0, y0, x1, y1]`. Raises DataError naming `where`."""
    try:
        if isinstance(value, Mapping):
            x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
        else:
            x, y, right, bottom = (float(edge) for edge in value)
            width, height = right - x, bottom - y
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{where}: bbox {value!r} is neither {{x, y, width, height}} nor [x0, y0, x1, y1]") from None
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise DataError(f"{where}: bbox {value!r} has no area")
    return Box(x, y, width, height)


def _page(value: Any, where: str) -> Page:
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: expected an object with lines or regions")
    lines = value.get("lines", value.get("regions"))
    # The consumer counts pages from 0 (`page_index`), ground truth from 1 (`page`).
    index = value.get("page_index", value["page"] - 1 if isinstance(value.get("page"), int) else None)
    if not isinstance(lines, list) or not isinstance(index, int) or index < 0:
        raise DataError(f"{where}: needs page_index (from 0) with lines, or page (from 1) with regions")
    return Page(index, tuple(_region(line, f"{where}, line {number}") for number, line in enumerate(lines, start=1)))


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
            tuple(float(c) for c in characters),
        )
    except (TypeError, ValueError):
        raise DataError(f"{where}: confidence and char_confidences must be numbers") from None


def _page_to_json(page: Page) -> dict[str, Any]:
    known = [region.confidence for region in page.regions if region.confidence is not None]
    return {
        "page_index": page.index,
        "text": "\n".join(region.text for region in page.regions),
        "confidence": sum(known) / len(known) if known else 0.0,
        "lines": [_line_to_json(region) for region in page.regions],
    }


def _line_to_json(region: Region) -> dict[str, Any]:
    line: dict[str, Any] = {
        "text": region.text,
        "confidence": 0.0 if region.confidence is None else region.confidence,
        "bbox": box_to_json(region.box),
        "words": None,
    }
    # The consumer leaves the key out where there are none.
    return line | ({"char_confidences": list(region.char_confidences)} if region.char_confidences else {})
