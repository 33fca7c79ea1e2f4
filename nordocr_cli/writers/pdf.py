"""Searchable PDF: each page as its picture, at its true size, with the text behind it.

Written by hand (ISO 32000-1, sections 7 and 9): a page is one image; its text is invisible (render
mode 3) in a font without glyphs, as in Tesseract's PDF renderer: every code is a UTF-16 unit, all
letters are half an em wide, and a word is stretched to its place. Other programs rewrite such files
without losing the text.
"""

import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from nordocr_cli.pixels import Pixels
from nordocr_cli.records import Point, Resolution
from nordocr_cli.writers.read_page import ReadPage, Word, quad_of

_POINTS_PER_INCH = 72
_UNKNOWN = Resolution(300.0, 300.0)  # of a page whose file does not say
_LETTER_EM = 0.5
_BASELINE_SHARE = 0.2  # letters stand a fifth of the line's height above its lower edge
_JPEG_QUALITY = 85
_FONT_FILE = Path(__file__).with_name("glyphless.ttf")
# Object numbers.
_CATALOG, _PAGES, _FONT, _DESCENDANT, _DESCRIPTOR, _FONT_DATA, _TO_GLYPH, _TO_UNICODE = (
    range(1, 9)
)
_FIRST_OF_PAGES = 9

_UNICODE_MAP = b"""/CIDInit /ProcSet findresource begin
12 dict begin
begincmap
/CIDSystemInfo <</Registry (Adobe) /Ordering (UCS) /Supplement 0>> def
/CMapName /Adobe-Identity-UCS def
/CMapType 2 def
1 begincodespacerange
<0000> <FFFF>
endcodespacerange
1 beginbfrange
<0000> <FFFF> <0000>
endbfrange
endcmap
CMapName currentdict /CMap defineresource pop
end
end
"""


def write_pdf(pages: Iterable[ReadPage]) -> Iterator[bytes]:
    """Yield a PDF piece by piece; `pages` need their pixels."""
    file = _File()
    yield file.header
    yield file.add(_CATALOG, b"<</Type/Catalog/Pages %d 0 R>>" % _PAGES)
    yield from _font_objects(file)
    kids: list[int] = []
    number = _FIRST_OF_PAGES
    for page in pages:
        if page.pixels is None:
            raise ValueError(f"{page.source}: a PDF needs the page's pixels")
        yield file.add(number, _picture(page.pixels))
        yield file.add(number + 1, _stream(b"", zlib.compress(_content(page))))
        yield file.add(number + 2, _page_object(page, number, number + 1))
        kids.append(number + 2)
        number += 3
    references = b" ".join(b"%d 0 R" % kid for kid in kids)
    yield file.add(_PAGES, b"<</Type/Pages/Count %d/Kids[%b]>>" % (len(kids), references))
    yield file.trailer()


class _File:
    """Where the objects of the file are."""

    header = b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n"

    def __init__(self) -> None:
        self._offsets: dict[int, int] = {}
        self._written = len(self.header)

    def add(self, number: int, body: bytes) -> bytes:
        """Return the object, and remember where it is."""
        piece = b"%d 0 obj\n%b\nendobj\n" % (number, body)
        self._offsets[number] = self._written
        self._written += len(piece)
        return piece

    def trailer(self) -> bytes:
        """Return the end of the file."""
        count = max(self._offsets) + 1
        rows = b"".join(
            b"%010d 00000 n \n" % self._offsets[number] for number in range(1, count)
        )
        return b"xref\n0 %d\n0000000000 65535 f \n%btrailer\n<</Size %d/Root %d 0 R>>\n" % (
            count,
            rows,
            count,
            _CATALOG,
        ) + (b"startxref\n%d\n%%%%EOF\n" % self._written)


def _font_objects(file: _File) -> Iterator[bytes]:
    """The font without glyphs: any UTF-16 unit, half an em wide, shown as nothing."""
    yield file.add(
        _FONT,
        b"<</Type/Font/Subtype/Type0/BaseFont/GlyphLessFont/Encoding/Identity-H"
        b"/DescendantFonts[%d 0 R]/ToUnicode %d 0 R>>" % (_DESCENDANT, _TO_UNICODE),
    )
    yield file.add(
        _DESCENDANT,
        b"<</Type/Font/Subtype/CIDFontType2/BaseFont/GlyphLessFont/CIDToGIDMap %d 0 R"
        b"/CIDSystemInfo<</Ordering(Identity)/Registry(Adobe)/Supplement 0>>"
        b"/DW %d/FontDescriptor %d 0 R>>" % (_TO_GLYPH, 1000 * _LETTER_EM, _DESCRIPTOR),
    )
    yield file.add(
        _DESCRIPTOR,
        b"<</Type/FontDescriptor/FontName/GlyphLessFont/Flags 5/Ascent 1000/CapHeight 1000"
        b"/Descent -1/FontBBox[0 0 %d 1000]/ItalicAngle 0/StemV 80/FontFile2 %d 0 R>>"
        % (1000 * _LETTER_EM, _FONT_DATA),
    )
    font = _FONT_FILE.read_bytes()
    yield file.add(_FONT_DATA, _stream(b"/Length1 %d" % len(font), zlib.compress(font)))
    # Each of the 65,536 codes is glyph 1.
    yield file.add(_TO_GLYPH, _stream(b"", zlib.compress(b"\x00\x01" * 0x10000)))
    yield file.add(_TO_UNICODE, _stream(b"", zlib.compress(_UNICODE_MAP)))


def _page_object(page: ReadPage, image: int, content: int) -> bytes:
    height, width = page.size
    across, down = _points_a_pixel(page)
    box = b"[0 0 %.2f %.2f]" % (width * across, height * down)
    resources = b"<</XObject<</P %d 0 R>>/Font<</F %d 0 R>>>>" % (image, _FONT)
    # A page that lies on its side is shown upright.
    if page.quarter_turns:
        turn = b"/Rotate %d" % (-90 * page.quarter_turns % 360)
    else:
        turn = b""
    return b"<</Type/Page/Parent %d 0 R/MediaBox%b%b/Resources%b/Contents %d 0 R>>" % (
        _PAGES,
        box,
        turn,
        resources,
        content,
    )


def _points_a_pixel(page: ReadPage) -> tuple[float, float]:
    resolution = page.resolution or _UNKNOWN
    return _POINTS_PER_INCH / resolution.x_dpi, _POINTS_PER_INCH / resolution.y_dpi


def _content(page: ReadPage) -> bytes:
    """Draw the picture over the page, then each word at its place."""
    height, width = page.size
    across, down = _points_a_pixel(page)
    parts = [
        b"q %.2f 0 0 %.2f 0 0 cm /P Do Q\nBT 3 Tr\n" % (width * across, height * down),
    ]

    def on_paper(point: Point) -> Point:
        return point[0] * across, (height - point[1]) * down

    for line in page.lines:
        for word in line.words():
            first, second, _, fourth = (
                on_paper(corner) for corner in quad_of(word.outline)
            )
            parts.append(_word(word, first, second, fourth))
    return b"".join(parts) + b"ET\n"


def _word(word: Word, top_left: Point, top_right: Point, bottom_left: Point) -> bytes:
    """Show a word between corners in points; the space after it keeps readers from running words
    together.
    """
    length = math.dist(top_left, top_right)
    size = math.dist(top_left, bottom_left)
    units = word.text.encode("utf-16-be", "replace")
    if length <= 0 or size <= 0 or not units:
        return b""
    along = (top_right[0] - top_left[0]) / length, (top_right[1] - top_left[1]) / length
    up = (top_left[0] - bottom_left[0]) / size, (top_left[1] - bottom_left[1]) / size
    x = bottom_left[0] + _BASELINE_SHARE * size * up[0]
    y = bottom_left[1] + _BASELINE_SHARE * size * up[1]
    stretch = 100 * length / (_LETTER_EM * size * len(units) / 2)
    place = b"%.4f %.4f %.4f %.4f %.2f %.2f Tm" % (*along, -along[1], along[0], x, y)
    return b"/F %.2f Tf %.2f Tz %b <%b0020> Tj\n" % (
        size,
        stretch,
        place,
        units.hex().encode(),
    )


def _stream(entries: bytes, data: bytes, coding: bytes = b"FlateDecode") -> bytes:
    return b"<<%b/Filter/%b/Length %d>>\nstream\n%b\nendstream" % (
        entries,
        coding,
        len(data),
        data,
    )


def _picture(pixels: Pixels) -> bytes:
    """The page as an image object: black and white pages bit for bit, others as JPEG."""
    height, width = pixels.shape[:2]
    entries = b"/Type/XObject/Subtype/Image/Width %d/Height %d" % (width, height)
    gray = _as_gray(pixels)
    if gray is not None and ((gray == 0) | (gray == 255)).all():
        bits = np.packbits(gray == 255, axis=1).tobytes()
        entries += b"/ColorSpace/DeviceGray/BitsPerComponent 1"
        return _stream(entries, zlib.compress(bits))
    drawn = pixels[..., ::-1] if gray is None else gray
    _, data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    color = b"DeviceRGB" if gray is None else b"DeviceGray"
    entries += b"/ColorSpace/%b/BitsPerComponent 8" % color
    return _stream(entries, data.tobytes(), b"DCTDecode")


def _as_gray(pixels: Pixels) -> Pixels | None:
    """The one channel of a page without colour, else None."""
    if pixels.ndim == 2:
        return pixels
    red, green, blue = (pixels[..., at] for at in range(3))
    if (red == green).all() and (red == blue).all():
        return red
    return None
