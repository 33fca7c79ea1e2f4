"""FUNSD's annotations: `{"form": [{"box": [x0, y0, x1, y1], "text": …, "words": […]}]}`.

One file is one page. An entity whose words stand in several rows becomes as many lines.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nordocr_cli.charset import to_nfc
from nordocr_cli.data.layouts.layout import BadLines, Layout, box_from_json, box_of_points
from nordocr_cli.errors import DataError
from nordocr_cli.records import Box, Page, Region


def is_funsd(value: Any) -> bool:
    """Whether parsed JSON has FUNSD's shape."""
    return isinstance(value, Mapping) and isinstance(value.get("form"), list)


def layout_from_funsd(value: Any, path: Path, bad_lines: BadLines | None = None) -> Layout:
    """Read a parsed annotation. Raises DataError naming what is wrong; see `read_layout`."""
    regions: list[Region] = []
    for number, entity in enumerate(value["form"], start=1):
        where = f"{path}: form entry {number}"
        try:
            regions += _lines(entity, where)
        except (KeyError, TypeError, AttributeError, DataError) as error:
            if isinstance(error, DataError):
                problem = str(error)
            else:
                problem = f"{where}: {error!r}"
            if bad_lines is None:
                raise DataError(problem) from None
            bad_lines[0, len(regions) + len(bad_lines) + 1] = problem
    return Layout((Page(0, tuple(regions)),))


def _lines(entity: Mapping[str, Any], where: str) -> list[Region]:
    words = [
        (box_from_json(word["box"], where), str(word["text"]))
        for word in entity.get("words") or ()
        if str(word["text"]).strip()
    ]
    if not words:
        return [
            Region(box_from_json(entity["box"], where), to_nfc(str(entity["text"]).strip()))
        ]
    return [_line(row, where) for row in _rows(words)]


def _rows(words: Sequence[tuple[Box, str]]) -> list[list[tuple[Box, str]]]:
    """Words in rows: one that begins to the left of the last and below its middle opens a row."""
    rows: list[list[tuple[Box, str]]] = [[words[0]]]
    for word in words[1:]:
        box = word[0]
        last = rows[-1][-1][0]
        is_below = box.y > last.y + last.height / 2
        if is_below and box.x < last.right:
            rows.append([])
        rows[-1].append(word)
    return rows


def _line(row: Sequence[tuple[Box, str]], where: str) -> Region:
    corners = [
        corner for box, _ in row for corner in ((box.x, box.y), (box.right, box.bottom))
    ]
    return Region(box_of_points(corners, where), to_nfc(" ".join(text for _, text in row)))
