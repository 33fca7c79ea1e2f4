"""Readings of a document written in the consumer's result shape. They are read, as ground truth is,
by data/layouts/readers.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import write_json
from nordocr_cli.records import Box, Page, Region


def result_to_json(pages: Sequence[Page]) -> dict[str, Any]:
    """Return pages in the consumer's result shape."""
    return {"pages": [_page_to_json(page) for page in pages]}


def write_result(path: Path, pages: Sequence[Page]) -> None:
    """Write pages in the consumer's result shape, atomically."""
    write_json(path, result_to_json(pages))


def box_to_json(box: Box) -> dict[str, float]:
    """Return a box in the consumer's shape."""
    return {
        "x": float(box.x),
        "y": float(box.y),
        "width": float(box.width),
        "height": float(box.height),
    }


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
    if region.char_confidences:
        line["char_confidences"] = list(region.char_confidences)
    return line
