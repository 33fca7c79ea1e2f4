"""hOCR: HTML in which OCR engines write pages, lines and words."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from nordocr_cli.charset import to_nfc
from nordocr_cli.data.layouts.layout import (
    BadLines,
    Layout,
    box_from_json,
    language_code,
    require_few_points,
)
from nordocr_cli.data.layouts.xml import starts_as_xml
from nordocr_cli.errors import DataError
from nordocr_cli.records import Box, Page, Point, Region

_HOCR_LINES = frozenset(
    {"ocr_line", "ocrx_line", "ocr_header", "ocr_caption", "ocr_textfloat"}
)
_HOCR_BOX = re.compile(r"\bbbox((?:\s+-?[\d.]+){4})")
_HOCR_POLYGON = re.compile(r"\bpoly((?:\s+-?[\d.]+){6,})")
_HOCR_BASELINE = re.compile(r"\bbaseline\s+(-?[\d.]+)\s+(-?[\d.]+)\s*(?:;|$)")
# Tesseract writes `image "NAME"`, OCRopus `file NAME`.
_HOCR_IMAGE = re.compile(r"""\b(?:image|file)\s+(?:"([^"]*)"|'([^']*)'|([^\s;"']+))""")
_VOID_TAGS = frozenset({"br", "hr", "img", "input", "link", "meta", "wbr"})


def sniff(head: bytes) -> bool:
    """Whether a file that begins so is HTML."""
    return starts_as_xml(head) and b"<html" in head.lower()


@dataclass
class _HocrLine:
    box: Box | None  # None of a line that is damaged
    title: str = ""
    words: list[str] = field(default_factory=list)
    loose: str = ""  # text outside words
    confidences: list[float] = field(default_factory=list)

    def region(self, box: Box) -> Region:
        words = self.loose.split()
        if self.words:
            words = [" ".join(word.split()) for word in self.words]
        known = self.confidences
        return Region(
            box,
            to_nfc(" ".join(word for word in words if word)),
            sum(known) / len(known) / 100 if known else None,
            polygon=_polygon(self.title),
            baseline=_baseline(self.title, box),
        )


def _polygon(title: str) -> tuple[Point, ...]:
    found = _HOCR_POLYGON.search(title)
    if found is None:
        return ()
    edges = found[1].split()
    require_few_points(len(edges))
    numbers = [float(number) for number in edges]
    return tuple(zip(numbers[0::2], numbers[1::2], strict=False))


def _baseline(title: str, box: Box) -> tuple[Point, ...]:
    """The baseline of hOCR: slope and offset from the bottom left corner of the line's box.

    A level one is left out: such a line is cut as its box.
    """
    found = _HOCR_BASELINE.search(title)
    if found is None or float(found[1]) == 0:
        return ()
    slope = float(found[1])
    offset = float(found[2])
    start = box.bottom + offset
    return ((box.x, start), (box.right, start + slope * box.width))


class _Hocr(HTMLParser):
    """Collects pages and lines. HTML's parser knows no entities but HTML's own and opens no other
    file, so a document type is harmless (Tesseract writes one); one that declares something of its
    own is refused.
    """

    def __init__(self, path: Path, bad_lines: BadLines | None) -> None:
        super().__init__()
        self.path = path
        self.bad_lines = bad_lines
        self.language = ""
        self.pages: list[tuple[str, tuple[int, int], list[_HocrLine]]] = []
        self._open: list[tuple[str, str]] = []  # (tag, "line", "word" or "")

    def handle_decl(self, decl: str) -> None:
        """Refuse a document type with declarations inside."""
        if "[" in decl:
            raise DataError(
                f"{self.path}: its DTD declares something (<!DOCTYPE … [); take the"
                " declarations out"
            )

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a page, a line or a word."""
        given = {name: value or "" for name, value in attrs}
        kinds = set(given.get("class", "").split())
        title = given.get("title", "")
        if tag != "html":  # there Tesseract writes "en", whatever it has read
            self.language = self.language or given.get("lang", "")
        role = ""
        if "ocr_page" in kinds:
            image = _HOCR_IMAGE.search(title)
            if "bbox" in title:
                box = self._box(title, f"page {len(self.pages) + 1}")
            else:
                box = None
            size = (round(box.bottom), round(box.right)) if box else (0, 0)
            self.pages.append(
                (next(filter(None, image.groups()), "") if image else "", size, [])
            )
        elif kinds & _HOCR_LINES and self.pages:
            role = "line"
            lines = self.pages[-1][2]
            where = f"page {len(self.pages)}, line {given.get('id', len(lines) + 1)!r}"
            lines.append(_HocrLine(self._line_box(title, where), title))
        elif "ocrx_word" in kinds and self._inside("line"):
            role = "word"
            line = self.pages[-1][2][-1]
            line.words.append("")
            sure = re.search(r"\bx_wconf\s+([\d.]+)", title)
            if sure:
                line.confidences.append(float(sure[1]))
        if tag in _VOID_TAGS:
            self.handle_data(" ")  # a line break is a gap
        else:
            self._open.append((tag, role))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element without content."""
        self.handle_starttag(tag, attrs)
        if tag not in _VOID_TAGS:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element, and what HTML let its writer leave open inside."""
        while any(name == tag for name, _ in self._open) and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Text, of a word or of the line itself."""
        if self._inside("line"):
            line = self.pages[-1][2][-1]
            if self._inside("word"):
                line.words[-1] += data
            else:
                line.loose += data

    def _inside(self, role: str) -> bool:
        return any(found == role for _, found in self._open)

    def _line_box(self, title: str, what: str) -> Box | None:
        try:
            return self._box(title, what)
        except (DataError, ValueError, OverflowError) as error:
            if self.bad_lines is None:
                raise
            self.bad_lines[len(self.pages) - 1, len(self.pages[-1][2]) + 1] = str(error)
            return None

    def _box(self, title: str, what: str) -> Box:
        found = _HOCR_BOX.search(title)
        if found is None:
            raise DataError(f"{self.path}: {what}: no bbox in its title {title!r}")
        return box_from_json(
            [float(edge) for edge in found[1].split()], f"{self.path}: {what}"
        )


def read(content: bytes, path: Path, bad_lines: BadLines | None = None) -> Layout:
    """Read an hOCR file's pages and lines. Raises DataError when it is none, or a line has no box;
    see `read_layout` for `bad_lines`.
    """
    parser = _Hocr(path, bad_lines)
    try:
        parser.feed(content.decode("utf-8-sig"))
        parser.close()
    # the parser's own word for a broken declaration is an AssertionError
    except (ValueError, OverflowError, AssertionError) as error:
        raise DataError(f"{path} is not readable hOCR ({error})") from error
    if not parser.pages:
        raise DataError(f"{path}: the HTML has no ocr_page; is it hOCR?")
    images, sizes, lines = zip(*parser.pages, strict=True)
    pages = (
        Page(index, tuple(line.region(line.box) for line in found if line.box))
        for index, found in enumerate(lines)
    )
    return Layout(tuple(pages), language_code(parser.language), images, sizes)
