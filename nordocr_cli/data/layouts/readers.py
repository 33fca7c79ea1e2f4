"""Where the lines of a page are and what they say: the consumer's JSON, ground truth JSON, ALTO,
PAGE-XML, hOCR and TSV.

The one reader for prep (crops with their texts), predict and bench (regions) and compare3way
(readings). torch-free.

| format | pages | lines |
|---|---|---|
| result JSON of the consumer | `pages[].page_index` from 0 | `lines[]`: `bbox` {x, y, width,
    height}, `text` |
| ground truth JSON | `pages[].page` from 1 | `regions[]`: `bbox` [x0, y0, x1, y1], `text`,
    `polygon` |
| ALTO | `Page` | `TextLine`: HPOS, VPOS, WIDTH, HEIGHT in pixels; its `String` elements |
| hOCR | `ocr_page` | `ocr_line` and its kin: bbox in `title`; its `ocrx_word` elements |
| TSV of Tesseract, or of `predict` | `page_num`, `page` from 1 | rows of level 4 with the words of
    level 5; every row |
| PAGE-XML | `Page` | `TextLine`: the box around `Coords`; its `TextEquiv`, else those of its words
    |
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from nordocr_cli.charset import to_nfc
from nordocr_cli.data.layouts.hocr import layout_from_hocr
from nordocr_cli.data.layouts.layout import BadLines, Layout, box_from_json, language_code
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.records import Box, Page, Region

_HEAD_BYTES = 4096  # in which a format shows itself
_XML_STARTS = (b"<", b"\xff\xfe<", b"\xfe\xff\0<")

_Line = TypeVar("_Line")


def read_layout(path: Path, bad_lines: BadLines | None = None) -> Layout:
    """Read a layout in any of the module's formats, told apart by content. Text is brought to NFC.

    Raises UsageError when there is no such file, DataError naming the page and line that is wrong;
    with `bad_lines` such lines are left out of the layout and told there. XML with a DTD is
    refused: its entities can grow without bounds and read other files.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no result or region file {path}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    head = content[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(_XML_STARTS):
        return (
            layout_from_hocr(content, path, bad_lines)
            if b"<html" in head.lower()
            else _from_xml(content, path, bad_lines)
        )
    if b"\t" in (columns := head.split(b"\n", 1)[0]) and b"left" in columns:
        return _from_tsv(content, path, bad_lines)
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not readable JSON ({error})") from error
    return _from_json(value, path, bad_lines)


def _regions(
    lines: Iterable[_Line],
    read: Callable[[_Line, str], Region],
    where: str,
    index: int,
    bad_lines: BadLines | None,
) -> tuple[Region, ...]:
    """Read the lines of the page with that index; see `read_layout` for those that are wrong."""
    regions: list[Region] = []
    for number, line in enumerate(lines, start=1):
        try:
            regions.append(read(line, f"{where}, line {number}"))
        except (DataError, KeyError, ValueError) as error:
            if bad_lines is None:
                raise
            bad_lines[index, number] = (
                str(error) if isinstance(error, DataError) else f"damaged line: {error!r}"
            )
    return tuple(regions)


def _in_order(pages: list[Page], path: Path) -> tuple[Page, ...]:
    indices = [page.index for page in pages]
    if len(set(indices)) != len(indices):
        raise DataError(f"{path}: two pages have the same index; found {sorted(indices)}")
    return tuple(sorted(pages, key=lambda page: page.index))


# JSON
# ----------------------------------------


def _from_json(value: Any, path: Path, bad_lines: BadLines | None) -> Layout:
    if not isinstance(value, Mapping) or not isinstance(value.get("pages"), list):
        raise DataError(
            f'{path}: expected {{"pages": [{{"page_index": 0, "lines": [...]}}]}} as the pipeline'
            " writes it"
        )
    pages = [
        _page(page, path, number, bad_lines) for number, page in enumerate(value["pages"], start=1)
    ]
    return Layout(_in_order(pages, path), language_code(str(value.get("language") or "")))


def _page(value: Any, path: Path, number: int, bad_lines: BadLines | None) -> Page:
    where = f"{path}: page {number}"
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: expected an object with lines or regions")
    lines = value.get("lines", value.get("regions"))
    # The consumer counts pages from 0 (`page_index`), ground truth from 1 (`page`).
    index = value.get(
        "page_index", value["page"] - 1 if isinstance(value.get("page"), int) else None
    )
    if not isinstance(lines, list) or not isinstance(index, int) or index < 0:
        raise DataError(
            f"{where}: needs page_index (from 0) with lines, or page (from 1) with regions"
        )
    return Page(index, _regions(lines, _region, where, index, bad_lines))


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
            tuple((float(x), float(y)) for x, y in value.get("polygon") or ()),
        )
    except (TypeError, ValueError, OverflowError):
        raise DataError(
            f"{where}: confidence, char_confidences and the corners of polygon must be numbers"
        ) from None


# XML
# ----------------------------------------


class _WithoutDtd(ElementTree.TreeBuilder):
    """Builds the tree of a document that declares no document type."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse. Called when the declaration begins, before any entity is expanded."""
        raise DataError(
            "it declares a DTD (<!DOCTYPE …>); take the declaration out, ALTO and PAGE need none"
        )


def _from_xml(content: bytes, path: Path, bad_lines: BadLines | None) -> Layout:
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
        layout = readers[name](root, path, bad_lines)
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
    return (
        child for child in element.iter() if isinstance(child.tag, str) and _name(child) == name
    )


def _from_alto(root: Element, path: Path, bad_lines: BadLines | None) -> Layout:
    unit = next(
        (element.text or "" for element in _descendants(root, "MeasurementUnit")), "pixel"
    ).strip()
    if unit != "pixel":
        raise DataError(f"{path}: positions in {unit}; export the ALTO with MeasurementUnit pixel")
    pages = list(_descendants(root, "Page"))
    image = next((element.text or "" for element in _descendants(root, "fileName")), "").strip()
    language = next(
        (
            value
            for element in root.iter()
            if (value := element.get("LANG") or element.get("language"))
        ),
        "",
    )
    return Layout(
        tuple(
            Page(
                index,
                _regions(
                    _descendants(page, "TextLine"),
                    _alto_line,
                    f"{path}: page {index + 1}",
                    index,
                    bad_lines,
                ),
            )
            for index, page in enumerate(pages)
        ),
        language_code(language),
        (image,) * len(pages),
        tuple(
            (round(float(page.get("HEIGHT", 0))), round(float(page.get("WIDTH", 0))))
            for page in pages
        ),
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
    where = f"{where} ({line.get('ID', '')!r})"
    # the line's own box is optional
    boxes = [line] if line.get("HPOS") else list(_children(line, "String"))
    corners = [
        tuple(float(part.attrib[key]) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
        for part in boxes
    ]
    edges = [(x, y, x + width, y + height) for x, y, width, height in corners]
    return Region(_around(edges, where), to_nfc(text.strip()), confidence)


def _from_page_xml(root: Element, path: Path, bad_lines: BadLines | None) -> Layout:
    pages = list(_descendants(root, "Page"))
    language = next(
        (value for element in root.iter() if (value := element.get("primaryLanguage"))), ""
    )
    return Layout(
        tuple(
            Page(
                index,
                _regions(
                    _descendants(page, "TextLine"),
                    _page_line,
                    f"{path}: page {index + 1}",
                    index,
                    bad_lines,
                ),
            )
            for index, page in enumerate(pages)
        ),
        language_code(language),
        tuple(page.get("imageFilename", "") for page in pages),
        tuple(
            (round(float(page.get("imageHeight", 0))), round(float(page.get("imageWidth", 0))))
            for page in pages
        ),
    )


def _page_line(line: Element, where: str) -> Region:
    where = f"{where} ({line.get('id', '')!r})"
    points: list[tuple[float, float]] = []
    for coords in _children(line, "Coords"):
        for pair in coords.get(
            "points", " ".join(f"{p.get('x')},{p.get('y')}" for p in _children(coords, "Point"))
        ).split():
            x, y = (float(number) for number in pair.split(","))
            points.append((x, y))
    text, confidence = _page_text(line)
    if text is None:  # no text of its own: its words', in their order
        text = " ".join(
            word for element in _children(line, "Word") if (word := _page_text(element)[0])
        )
    box = _around([(x, y, x, y) for x, y in points], where)
    return Region(
        box, to_nfc(text.strip()), confidence, polygon=tuple(points) if len(points) > 2 else ()
    )


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
    left, top, right, bottom = (
        pick(values)
        for pick, values in zip((min, min, max, max), zip(*edges, strict=True), strict=True)
    )
    return box_from_json((left, top, right, bottom), where)


# TSV
# ----------------------------------------


def _from_tsv(content: bytes, path: Path, bad_lines: BadLines | None) -> Layout:
    """Read Tesseract's TSV, in which words follow the line that they stand in, or predict's, with a
    line a row.
    """
    try:
        rows = [
            line.split("\t")
            for line in content.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
            if line
        ]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error})") from error
    # no box: a line that is wrong
    header, pages = rows[0], dict[int, list[tuple[Box | None, list[str], list[float]]]]()
    by_word = "level" in header
    page = 0
    for number, cells in enumerate(rows[1:], start=2):
        where = f"{path}:{number}"
        row = dict(zip(header, cells, strict=False))
        # a line, as far as can be told
        begins = str(row.get("level", 4)).strip() not in ("1", "2", "3", "5")
        try:
            level, page = (
                int(row.get("level", 4)),
                int(row.get("page_num") or row.get("page") or page + 1) - 1,
            )
            if begins:
                pages.setdefault(page, []).append((None, [], []))
                begins = False
            sure = row.get("conf" if by_word else "confidence") or "-1"
            text, confidence = row.get("text", ""), float(sure) / (100 if by_word else 1)
            if level == 4:
                x, y, width, height = (
                    float(row[key]) for key in ("left", "top", "width", "height")
                )
                pages[page][-1] = (box_from_json([x, y, x + width, y + height], where), [], [])
            if level == (5 if by_word else 4):
                _, words, confidences = pages[page][-1]
                words.append(text.strip() if by_word else text)
                confidences += [confidence] if confidence >= 0 else []
        except (KeyError, IndexError, ValueError, DataError) as error:
            expected = (
                f"{where}: expected numbers under {', '.join(header)}, and a line before its words"
            )
            problem = error if isinstance(error, DataError) else DataError(expected)
            if bad_lines is None:
                raise problem from None
            lines = pages.setdefault(page, [])
            if begins or not lines:
                lines.append((None, [], []))
            lines[-1] = (None, [], [])
            bad_lines[page, len(lines)] = str(problem)
    named = header.index("image") if "image" in header else len(header)
    if len({cells[named] for cells in rows[1:] if named < min(len(cells), len(header))}) > 1:
        raise DataError(f"{path}: its rows are of several images; a layout is of one document")
    if not pages or min(pages) < 0:
        raise DataError(f"{path}: the TSV has no line of a page (counted from 1)")
    return Layout(
        tuple(
            Page(
                index,
                tuple(
                    Region(box, to_nfc(" ".join(words)), sum(c) / len(c) if c else None)
                    for box, words, c in lines
                    if box
                ),
            )
            for index, lines in sorted(pages.items())
        )
    )
