"""Searchable PDF: each page as its picture with the text that was read behind it, invisible, at its
place.

Written by hand (ISO 32000-1, sections 7 and 9): a page is one image, and its letters are of fonts
in the file, with empty glyphs (Type 3) and a table of the characters that they stand for
(ToUnicode): any character is found, whatever fonts the reader has. All are 0.6 em wide, so that a
word is stretched to its box without font metrics. Text render mode 3 draws nothing.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import cv2
import numpy as np

from nordocr_cli.data.resize import Pixels
from nordocr_cli.writers.results import ReadPage

_DPI = 300  # of a page whose file does not say; only the printed size depends on it
_POINTS = 72 / _DPI
_LETTER_EM = 0.6
_WIDTH = round(1000 * _LETTER_EM)  # in the units of a glyph
_CODES = 255  # a byte names a letter of a font; 0 is left out, as some readers end a text there
_JPEG_QUALITY = 85
_CATALOG, _PAGES, _GLYPH, _FONTS = 1, 2, 3, 4  # object numbers; the glyph draws nothing


def write_pdf(pages: Iterable[ReadPage]) -> Iterator[bytes]:
    """Yield a PDF piece by piece; `pages` need their pixels."""
    offsets: dict[int, int] = {}
    letters = _Letters()
    written, kids = 0, []

    def out(number: int, body: bytes) -> bytes:
        nonlocal written
        piece = b"%d 0 obj\n%b\nendobj\n" % (number, body)
        offsets[number] = written
        written += len(piece)
        return piece

    header = b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n"
    written = len(header)
    yield header
    yield out(_CATALOG, b"<</Type/Catalog/Pages %d 0 R>>" % _PAGES)
    yield out(_GLYPH, _stream(b"", zlib.compress(b"%d 0 0 -200 %d 800 d1" % (_WIDTH, _WIDTH))))
    number = _FONTS
    for page in pages:
        if page.pixels is None:
            raise ValueError(f"{page.source}: a PDF needs the page's pixels")
        image, content, kid = number + 1, number + 2, number + 3
        number = kid
        height, width = page.size
        yield out(image, _picture(page.pixels))
        yield out(content, _stream(b"", zlib.compress(_content(page, letters))))
        box = b"[0 0 %.2f %.2f]" % (width * _POINTS, height * _POINTS)
        resources = b"<</XObject<</P %d 0 R>>/Font %d 0 R>>" % (image, _FONTS)
        yield out(
            kid,
            b"<</Type/Page/Parent %d 0 R/MediaBox%b/Resources%b/Contents %d 0 R>>"
            % (_PAGES, box, resources, content),
        )
        kids.append(kid)
    names = b""
    for index, characters in enumerate(letters.fonts()):
        unicode, font = number + 1, number + 2
        number = font
        yield out(unicode, _stream(b"", zlib.compress(_to_unicode(characters))))
        yield out(font, _font(characters, unicode))
        names += b"/F%d %d 0 R" % (index, font)
    yield out(_FONTS, b"<<%b>>" % names)
    yield out(
        _PAGES,
        b"<</Type/Pages/Count %d/Kids[%b]>>"
        % (len(kids), b" ".join(b"%d 0 R" % kid for kid in kids)),
    )
    table = b"".join(b"%010d 00000 n \n" % offsets[i] for i in range(1, number + 1))
    yield b"xref\n0 %d\n0000000000 65535 f \n%b" % (number + 1, table)
    yield b"trailer\n<</Size %d/Root %d 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (
        number + 1,
        _CATALOG,
        written,
    )


class _Letters:
    """The fonts' letters, numbered as they come."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def show(self, text: str, size: float) -> bytes:
        """Return the operators that show `text`, `size` points high: a run for each font."""
        places = [divmod(self._numbers.setdefault(c, len(self._numbers)), _CODES) for c in text]
        runs = groupby(places, key=itemgetter(0))
        return b" ".join(
            b"/F%d %.2f Tf <%b> Tj" % (f, size, bytes(code + 1 for _, code in run).hex().encode())
            for f, run in runs
        )

    def fonts(self) -> Iterator[Sequence[str]]:
        """Yield the characters of each font; the first one's code is 1."""
        characters = tuple(self._numbers)
        return (characters[first : first + _CODES] for first in range(0, len(characters), _CODES))


def _font(characters: Sequence[str], unicode: int) -> bytes:
    """A font of empty letters; object `unicode` says what they stand for."""
    last = len(characters)
    names = b"".join(b"/g%d" % code for code in range(1, last + 1))
    glyphs = b"".join(b"/g%d %d 0 R" % (code, _GLYPH) for code in range(1, last + 1))
    return (
        b"<</Type/Font/Subtype/Type3/FontBBox[0 -200 %d 800]/FontMatrix[.001 0 0 .001 0"
        b" 0]/Resources<<>>/FirstChar 1/LastChar"
        b" %d/Widths[%b]/CharProcs<<%b>>/Encoding<</Type/Encoding/Differences[1%b]>>/ToUnicode %d"
        b" 0 R>>" % (_WIDTH, last, b" ".join([b"%d" % _WIDTH] * last), glyphs, names, unicode)
    )


def _to_unicode(characters: Sequence[str]) -> bytes:
    """The characters of the codes from 1 on (ISO 32000-1, 9.10.3), at most 100 in a block."""
    rows = [
        b"<%02x> <%b>" % (code, c.encode("utf-16-be", "replace").hex().encode())
        for code, c in enumerate(characters, start=1)
    ]
    blocks = [rows[first : first + 100] for first in range(0, len(rows), 100)]
    return b"\n".join(
        [
            b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
            b"/CIDSystemInfo <</Registry (Adobe) /Ordering (UCS) /Supplement 0>> def",
            b"/CMapName /Adobe-Identity-UCS def /CMapType 2 def",
            b"1 begincodespacerange <00> <ff> endcodespacerange",
            *(
                b"%d beginbfchar\n%b\nendbfchar" % (len(block), b"\n".join(block))
                for block in blocks
            ),
            b"endcmap CMapName currentdict /CMap defineresource pop end end",
        ]
    )


def _stream(entries: bytes, data: bytes, coding: bytes = b"FlateDecode") -> bytes:
    return b"<<%b/Filter/%b/Length %d>>\nstream\n%b\nendstream" % (entries, coding, len(data), data)


def _picture(pixels: Pixels) -> bytes:
    """The page as an image object: black and white pages bit for bit, others as JPEG."""
    height, width = pixels.shape[:2]
    entries = b"/Type/XObject/Subtype/Image/Width %d/Height %d" % (width, height)
    gray = (
        pixels[..., 0]
        if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
        else None
    )
    if gray is not None and ((gray == 0) | (gray == 255)).all():
        bits = np.packbits(gray == 255, axis=1).tobytes()
        return _stream(entries + b"/ColorSpace/DeviceGray/BitsPerComponent 1", zlib.compress(bits))
    _, data = cv2.imencode(
        ".jpg",
        pixels[..., ::-1] if gray is None else gray,
        [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
    )
    color = b"DeviceRGB" if gray is None else b"DeviceGray"
    return _stream(
        entries + b"/ColorSpace/%b/BitsPerComponent 8" % color, data.tobytes(), b"DCTDecode"
    )


def _content(page: ReadPage, letters: _Letters) -> bytes:
    """Draw the picture over the whole page, then each word where it stands."""
    height, width = page.size
    parts = [b"q %.2f 0 0 %.2f 0 0 cm /P Do Q\nBT 3 Tr\n" % (width * _POINTS, height * _POINTS)]
    for line in page.lines:
        for text, box, _ in line.words():
            size = box.height * _POINTS
            if size <= 0 or box.width <= 0:
                continue
            # A space behind each word, so that readers do not run words together.
            stretch = 100 * box.width * _POINTS / (_LETTER_EM * size * len(text))
            # the baseline lies a fifth above the bottom
            x, y = box.x * _POINTS, (height - box.bottom) * _POINTS + 0.2 * size
            parts.append(
                b"%.2f Tz 1 0 0 1 %.2f %.2f Tm %b\n"
                % (stretch, x, y, letters.show(text + " ", size))
            )
    return b"".join(parts) + b"ET\n"
