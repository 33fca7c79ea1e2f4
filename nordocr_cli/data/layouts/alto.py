"""ALTO 2, 3 and 4: `Page` / `TextLine` / `String`, positions in pixels.

A line's outline is its `Shape/Polygon` and its BASELINE, as kraken and eScriptorium write them.
"""

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


def sniff(head: bytes) -> bool:
    """Whether a file that begins so is ALTO."""
    return starts_as_xml(head) and root_name(head) == "alto"


def read(content: bytes, path: Path, bad_lines: BadLines | None = None) -> Layout:
    """Read an ALTO file. Raises DataError naming what is wrong; see `read_layout`."""
    root = parse_xml(content, path)
    unit = next(
        (element.text or "" for element in descendants(root, "MeasurementUnit")), "pixel"
    )
    if unit.strip() != "pixel":
        raise DataError(
            f"{path}: positions in {unit.strip()}; export the ALTO with MeasurementUnit pixel"
        )
    pages = list(descendants(root, "Page"))
    if not pages:
        raise DataError(f"{path}: the alto file has no Page")

    image = next(
        (element.text or "" for element in descendants(root, "fileName")), ""
    ).strip()
    order = ReadingOrder(root, "REF")
    try:
        regions = [
            read_page_regions(
                _lines(page, order), _line, f"{path}: page {index + 1}", index, bad_lines
            )
            for index, page in enumerate(pages)
        ]
        sizes = tuple(_size(page) for page in pages)
    except (KeyError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: damaged alto: {error!r}") from error
    return Layout(
        tuple(Page(index, found) for index, found in enumerate(regions)),
        language_code(_language(root)),
        (image,) * len(pages),
        sizes,
    )


def _size(page: Element) -> tuple[int, int]:
    return round(float(page.get("HEIGHT", 0))), round(float(page.get("WIDTH", 0)))


def _language(root: Element) -> str:
    for element in root.iter():
        found = element.get("LANG") or element.get("language")
        if found:
            return found
    return ""


def _lines(page: Element, order: ReadingOrder) -> list[Element]:
    """The lines of a page: as the file has them, or as its ReadingOrder puts blocks and lines."""
    lines = list(descendants(page, "TextLine"))
    if order.is_empty:
        return lines
    block_of = {
        line: block.get("ID", "")
        for block in descendants(page, "TextBlock")
        for line in children(block, "TextLine")
    }

    def position(line: Element) -> tuple[int, int]:
        of_line = order.rank(line.get("ID", ""), order.length)
        of_block = order.rank(block_of.get(line, ""), of_line)
        return of_block, of_line

    return sorted(lines, key=position)


def _line(line: Element, where: str) -> Region:
    where = f"{where} ({line.get('ID', '')!r})"
    text, confidence = _text(line)
    polygon = _polygon(line)
    # A line's own box is optional, and so are those of its words.
    has_own_box = line.get("HPOS") is not None
    boxed = [line] if has_own_box else list(children(line, "String"))
    corners = list(polygon)
    if has_own_box or not polygon:
        corners = [corner for element in boxed for corner in _corners(element)]
    return Region(
        box_of_points(corners, where),
        to_nfc(text.strip()),
        confidence,
        polygon=corners_of(polygon),
        baseline=_baseline(line),
    )


def _text(line: Element) -> tuple[str, float | None]:
    """Text of the words, and the mean of their confidences where all have one."""
    text = ""
    confidences = list[str | None]()
    follows_word = False
    for part in children(line, "String", "SP", "HYP"):
        kind = name_of(part)
        if kind == "String":
            # SP between words may be left out; where it stands, it is the space.
            text += (" " if follows_word else "") + part.get("CONTENT", "")
            confidences.append(part.get("WC"))
        else:
            text += " " if kind == "SP" else part.get("CONTENT", "-")
        follows_word = kind == "String"
    known = [float(confidence) for confidence in confidences if confidence is not None]
    if not known or len(known) != len(confidences):
        return text, None
    return text, sum(known) / len(known)


def _corners(element: Element) -> list[Point]:
    x, y, width, height = (
        float(element.attrib[key]) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT")
    )
    return [(x, y), (x + width, y + height)]


def _polygon(line: Element) -> tuple[Point, ...]:
    for shape in children(line, "Shape"):
        for polygon in children(shape, "Polygon"):
            return parse_points(polygon.get("POINTS", ""))
    return ()


def _baseline(line: Element) -> tuple[Point, ...]:
    """Points of the baseline. ALTO before 4.1 gives one y for a line: no direction."""
    written = line.get("BASELINE", "").split()
    if len(written) < 2:
        return ()
    return parse_points(" ".join(written))
