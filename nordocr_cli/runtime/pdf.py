"""Searchable PDF: each page as its picture with the text that was read behind it, invisible, at its place.

Written by hand (ISO 32000-1, sections 7 and 9): a page is one image, one font for all pages is the built-in Courier, whose
letters are all 0.6 em wide, so that a word is stretched to its box without font metrics. Text render mode 3 draws nothing.
"""

import zlib
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from nordocr_cli.data.resize import Pixels
from nordocr_cli.runtime.results import ReadPage

_DPI = 300  # of a page whose file does not say; only the printed size depends on it
_POINTS = 72 / _DPI
_LETTER_EM = 0.6
_JPEG_QUALITY = 85
_CATALOG, _PAGES, _FONT = 1, 2, 3  # object numbers


def write_pdf(pages: Iterable[ReadPage]) -> Iterator[bytes]:
    """Yield a PDF piece by piece; `pages` need their pixels. Characters outside Windows-1252 are found as `?`."""
    offsets: dict[int, int] = {}
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
    yield out(_FONT, b"<</Type/Font/Subtype/Type1/BaseFont/Courier/Encoding/WinAnsiEncoding>>")
    number = _FONT
    for page in pages:
        if page.pixels is None:
            raise ValueError(f"{page.source}: a PDF needs the page's pixels")
        image, content, kid = number + 1, number + 2, number + 3
        number = kid
        height, width = page.size
        yield out(image, _picture(page.pixels))
        yield out(content, _stream(b"", zlib.compress(_content(page))))
        box = b"[0 0 %.2f %.2f]" % (width * _POINTS, height * _POINTS)
        resources = b"<</XObject<</P %d 0 R>>/Font<</F %d 0 R>>>>" % (image, _FONT)
        yield out(
            kid,
            b"<</Type/Page/Parent %d 0 R/MediaBox%b/Resources%b/Contents %d 0 R>>" % (_PAGES, box, resources, content),
        )
        kids.append(kid)
    yield out(_PAGES, b"<</Type/Pages/Count %d/Kids[%b]>>" % (len(kids), b" ".join(b"%d 0 R" % kid for kid in kids)))
    table = b"".join(b"%010d 00000 n \n" % offsets[i] for i in range(1, number + 1))
    yield b"xref\n0 %d\n0000000000 65535 f \n%b" % (number + 1, table)
    yield b"trailer\n<</Size %d/Root %d 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (number + 1, _CATALOG, written)


def _stream(entries: bytes, data: bytes, coding: bytes = b"FlateDecode") -> bytes:
    return b"<<%b/Filter/%b/Length %d>>\nstream\n%b\nendstream" % (entries, coding, len(data), data)


def _picture(pixels: Pixels) -> bytes:
    """The page as an image object: black and white pages bit for bit, others as JPEG."""
    height, width = pixels.shape[:2]
    entries = b"/Type/XObject/Subtype/Image/Width %d/Height %d" % (width, height)
    gray = pixels[..., 0] if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all() else None
    if gray is not None and ((gray == 0) | (gray == 255)).all():
        bits = np.packbits(gray == 255, axis=1).tobytes()
        return _stream(entries + b"/ColorSpace/DeviceGray/BitsPerComponent 1", zlib.compress(bits))
    _, data = cv2.imencode(".jpg", pixels[..., ::-1] if gray is None else gray, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    color = b"DeviceRGB" if gray is None else b"DeviceGray"
    return _stream(entries + b"/ColorSpace/%b/BitsPerComponent 8" % color, data.tobytes(), b"DCTDecode")


def _content(page: ReadPage) -> bytes:
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
            x, y = box.x * _POINTS, (height - box.bottom) * _POINTS + 0.2 * size  # the baseline lies a fifth above the bottom
            shown = (text + " ").encode("cp1252", "replace")
            escaped = shown.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
            parts.append(b"/F %.2f Tf %.2f Tz 1 0 0 1 %.2f %.2f Tm (%b) Tj\n" % (size, stretch, x, y, escaped))
    return b"".join(parts) + b"ET\n"
