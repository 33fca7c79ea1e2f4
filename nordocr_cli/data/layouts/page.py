"""PAGE-XML of all years (PRImA, Transkribus, eScriptorium): `Page` / `TextLine` / `TextEquiv`.

A line's outline is its `Coords` and its `Baseline`. Lines come in the order of `ReadingOrder` and
of Transkribus' `custom="readingOrder {index:N;}"`, else as they stand in the file.
"""

import re
from pathlib import Path
from xml.etree.ElementTree import Element

from nordocr_cli.charset import to_nfc
from nordocr_cli.data.layouts.layout import (
    BadLines,
    Layout,
    box_of_points,
    corners_of,
    language_code,
    read_page_regions,
)
from nordocr_cli.data.layouts.xml import (
    ReadingOrder,
    children,
    descendants,
    name_of,
    parse_points,
    parse_xml,
    root_name,
    starts_as_xml,
)
from nordocr_cli.errors import DataError
from nordocr_cli.records import Page, Point, Region

_LINE_INDEX = re.compile(r"readingOrder\s*\{\s*index\s*:\s*(\d+)")


def sniff(head: bytes) -> bool:
    """Whether a file that begins so is PAGE-XML."""
    return starts_as_xml(head) and root_name(head) == "PcGts"


def read(content: bytes, path: Path, bad_lines: BadLines | None = None) -> Layout:
    """Read a PAGE-XML file. Raises DataError naming what is wrong; see `read_layout`."""
    root = parse_xml(content, path)
    pages = list(descendants(root, "Page"))
    if not pages:
        raise DataError(f"{path}: the PcGts file has no Page")

    try:
        regions = [
            read_page_regions(
                _lines(page), _line, f"{path}: page {index + 1}", index, bad_lines
            )
            for index, page in enumerate(pages)
        ]
        sizes = tuple(_size(page) for page in pages)
    except (KeyError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: damaged PcGts: {error!r}") from error
    languages = (element.get("primaryLanguage") for element in root.iter())
    language = next((found for found in languages if found), "")
    return Layout(
        tuple(Page(index, found) for index, found in enumerate(regions)),
        language_code(language),
        tuple(page.get("imageFilename", "") for page in pages),
        sizes,
    )


def _size(page: Element) -> tuple[int, int]:
    return round(float(page.get("imageHeight", 0))), round(float(page.get("imageWidth", 0)))


def _lines(page: Element) -> list[Element]:
    """The lines of a page in reading order: block by block, and inside of each by their index."""
    order = ReadingOrder(page, "regionRef")
    blocks: list[tuple[int, list[Element]]] = []
    _collect_blocks(page, order, order.length, blocks)
    blocks.sort(key=lambda block: block[0])
    return [line for _, lines in blocks for line in lines]


def _collect_blocks(
    element: Element,
    order: ReadingOrder,
    rank: int,
    blocks: list[tuple[int, list[Element]]],
) -> None:
    """Add each element that holds lines, with its rank; what has none takes that of its parent."""
    rank = order.rank(element.get("id", ""), rank)
    lines = list(children(element, "TextLine"))
    if lines:
        blocks.append((rank, _by_index(lines)))
    for child in element:
        if name_of(child) not in ("TextLine", "ReadingOrder"):
            _collect_blocks(child, order, rank, blocks)


def _by_index(lines: list[Element]) -> list[Element]:
    found = [_LINE_INDEX.search(line.get("custom", "")) for line in lines]
    if not all(found):
        return lines
    indices = [int(match[1]) for match in found if match]
    numbered = sorted(zip(indices, range(len(lines)), strict=True))
    return [lines[position] for _, position in numbered]


def _line(line: Element, where: str) -> Region:
    where = f"{where} ({line.get('id', '')!r})"
    points = tuple(
        point for coords in children(line, "Coords") for point in _points(coords)
    )
    baseline = tuple(
        point for found in children(line, "Baseline") for point in _points(found)
    )
    text, confidence = _text(line)
    if text is None:  # no text of its own: that of its words, in their order
        words = [_text(word)[0] for word in children(line, "Word")]
        text = " ".join(word for word in words if word)
    return Region(
        box_of_points(points, where),
        to_nfc(text.strip()),
        confidence,
        polygon=corners_of(points),
        baseline=baseline if len(baseline) > 1 else (),
    )


def _points(element: Element) -> tuple[Point, ...]:
    """Points as PAGE of 2013 and later writes them, or as `Point` elements as before."""
    written = element.get("points")
    if written is None:
        corners = children(element, "Point")
        written = " ".join(f"{corner.get('x')},{corner.get('y')}" for corner in corners)
    return parse_points(written)


def _text(element: Element) -> tuple[str | None, float | None]:
    """Text and confidence of the TextEquiv with the lowest index."""
    equivalents = sorted(
        children(element, "TextEquiv"), key=lambda found: int(found.get("index", 0))
    )
    if not equivalents:
        return None, None
    first = equivalents[0]
    text = next(("".join(unicode.itertext()) for unicode in children(first, "Unicode")), "")
    if "conf" in first.attrib:
        confidence = float(first.attrib["conf"])
    else:
        confidence = None
    return text, confidence
