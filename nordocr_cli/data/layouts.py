"""Where the lines of a page are and what they say: the consumer's JSON, ground truth JSON, ALTO and PAGE-XML.

The one reader for prep (crops with their texts), predict and bench (regions) and compare3way (readings). torch-free.

| format | pages | lines |
|---|---|---|
| result JSON of the consumer | `pages[].page_index` from 0 | `lines[]`: `bbox` {x, y, width, height}, `text` |
| ground truth JSON | `pages[].page` from 1 | `regions[]`: `bbox` [x0, y0, x1, y1], `text` |
| ALTO | `Page` | `TextLine`: HPOS, VPOS, WIDTH, HEIGHT in pixels; its `String` elements |
| PAGE-XML | `Page` | `TextLine`: the box around `Coords`; its `TextEquiv`, else those of its words |
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from nordocr_cli.charset import to_nfc
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.records import Box, Page, Region

_XML_STARTS = (b"<", b"\xff\xfe<", b"\xfe\xff\0<")


@dataclass(frozen=True)
class Layout:
    """The regions of a document's pages, in the order of the file, and the document's language (`` where not known).

    `images` names each page's image file as the layout does, and `sizes` holds each page's (height, width) in pixels; both are
    empty where the format does not say, and otherwise as long as `pages`.
    """

    pages: tuple[Page, ...]
    language: str = ""
    images: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()

    @property
    def num_regions(self) -> int:
        """Number of regions on all pages."""
        return sum(len(page.regions) for page in self.pages)


def read_layout(path: Path) -> Layout:
    """Read a layout in any of the module's formats, told apart by content. Text is brought to NFC.

    Raises UsageError when there is no such file, DataError naming the page and line that is wrong. XML with a DTD is refused:
    its entities can grow without bounds and read other files.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no result or region file {path}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_XML_STARTS):
        return _from_xml(content, path)
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not readable JSON ({error})") from error
    return _from_json(value, path)


def _in_order(pages: list[Page], path: Path) -> tuple[Page, ...]:
    indices = [page.index for page in pages]
    if len(set(indices)) != len(indices):
        raise DataError(f"{path}: two pages have the same index; found {sorted(indices)}")
    return tuple(sorted(pages, key=lambda page: page.index))


# JSON ------------------------------------------------------------------------------------------------------------------


def _from_json(value: Any, path: Path) -> Layout:
    if not isinstance(value, Mapping) or not isinstance(value.get("pages"), list):
        raise DataError(f'{path}: expected {{"pages": [{{"page_index": 0, "lines": [...]}}]}} as the pipeline writes it')
    pages = [_page(page, f"{path}: page {number}") for number, page in enumerate(value["pages"], start=1)]
    return Layout(_in_order(pages, path), str(value.get("language") or ""))


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


# XML -------------------------------------------------------------------------------------------------------------------


class _WithoutDtd(ElementTree.TreeBuilder):
    """Builds the tree of a document that declares no document type."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse. Called when the declaration begins, before any entity is expanded."""
        raise DataError("it declares a DTD (<!DOCTYPE …>); take the declaration out, ALTO and PAGE need none")


def _from_xml(content: bytes, path: Path) -> Layout:
    try:
        root = ElementTree.fromstring(content, ElementTree.XMLParser(target=_WithoutDtd()))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path} is not readable XML ({error})") from error
    readers = {"alto": _from_alto, "PcGts": _from_page_xml}
    if (name := _name(root)) not in readers:
        raise DataError(f"{path}: the XML's root is <{name}>, neither <alto> nor <PcGts> (PAGE)")
    try:
        layout = readers[name](root, path)
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: damaged {name}: {error!r}") from error
    if not layout.pages:
        raise DataError(f"{path}: the {name} file has no Page")
    return layout


def _name(element: Element) -> str:
    """Tag without namespace: ALTO 2, 3, 4 and PAGE of all years differ in it alone."""
    return element.tag.rpartition("}")[2]


def _children(element: Element, *names: str) -> Iterator[Element]:
    return (child for child in element if _name(child) in names)


def _descendants(element: Element, name: str) -> Iterator[Element]:
    return (child for child in element.iter() if isinstance(child.tag, str) and _name(child) == name)


def _from_alto(root: Element, path: Path) -> Layout:
    unit = next((element.text or "" for element in _descendants(root, "MeasurementUnit")), "pixel").strip()
    if unit != "pixel":
        raise DataError(f"{path}: positions in {unit}; export the ALTO with MeasurementUnit pixel")
    pages = list(_descendants(root, "Page"))
    image = next((element.text or "" for element in _descendants(root, "fileName")), "").strip()
    language = next((value for element in root.iter() if (value := element.get("LANG") or element.get("language"))), "")
    return Layout(
        tuple(
            Page(index, tuple(_alto_line(line, f"{path}: page {index + 1}") for line in _descendants(page, "TextLine")))
            for index, page in enumerate(pages)
        ),
        language,
        (image,) * len(pages),
        tuple((round(float(page.get("HEIGHT", 0))), round(float(page.get("WIDTH", 0)))) for page in pages),
    )


def _alto_line(line: Element, where: str) -> Region:
    text, confidences, after_word = "", [], False
    for part in _children(line, "String", "SP", "HYP"):
        if _name(part) == "String":
            # SP between words may be left out; where it stands, it is the space.
            text += (" " if after_word else "") + part.get("CONTENT", "")
            confidences.append(part.get("WC"))
        else:
            text += " " if _name(part) == "SP" else part.get("CONTENT", "-")
        after_word = _name(part) == "String"
    known = [float(c) for c in confidences if c is not None]
    confidence = sum(known) / len(known) if known and len(known) == len(confidences) else None
    where = f"{where}, line {line.get('ID', '')!r}"
    boxes = [line] if line.get("HPOS") else list(_children(line, "String"))  # the line's own box is optional
    corners = [tuple(float(part.attrib[key]) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT")) for part in boxes]
    edges = [(x, y, x + width, y + height) for x, y, width, height in corners]
    return Region(_around(edges, where), to_nfc(text.strip()), confidence)


def _from_page_xml(root: Element, path: Path) -> Layout:
    pages = list(_descendants(root, "Page"))
    language = next((value for element in root.iter() if (value := element.get("primaryLanguage"))), "")
    return Layout(
        tuple(
            Page(index, tuple(_page_line(line, f"{path}: page {index + 1}") for line in _descendants(page, "TextLine")))
            for index, page in enumerate(pages)
        ),
        language,
        tuple(page.get("imageFilename", "") for page in pages),
        tuple((round(float(page.get("imageHeight", 0))), round(float(page.get("imageWidth", 0)))) for page in pages),
    )


def _page_line(line: Element, where: str) -> Region:
    where = f"{where}, line {line.get('id', '')!r}"
    points = [
        tuple(float(number) for number in pair.split(","))
        for coords in _children(line, "Coords")
        for pair in coords.get("points", " ".join(f"{p.get('x')},{p.get('y')}" for p in _children(coords, "Point"))).split()
    ]
    text, confidence = _page_text(line)
    if text is None:  # no text of its own: its words', in their order
        text = " ".join(word for element in _children(line, "Word") if (word := _page_text(element)[0]))
    return Region(_around([(x, y, x, y) for x, y in points], where), to_nfc(text.strip()), confidence)


def _page_text(element: Element) -> tuple[str | None, float | None]:
    """Text and confidence of the first TextEquiv by its index."""
    found = sorted(_children(element, "TextEquiv"), key=lambda equiv: int(equiv.get("index", 0)))
    for equiv in found[:1]:
        text = next(("".join(unicode.itertext()) for unicode in _children(equiv, "Unicode")), "")
        return text, float(equiv.attrib["conf"]) if "conf" in equiv.attrib else None
    return None, None


def _around(edges: list[tuple[float, float, float, float]], where: str) -> Box:
    """The box around (left, top, right, bottom) edges. Raises DataError when it has no area."""
    if not edges:
        raise DataError(f"{where}: the line has no position")
    left, top, right, bottom = (pick(values) for pick, values in zip((min, min, max, max), zip(*edges, strict=True), strict=True))
    return box_from_json((left, top, right, bottom), where)
