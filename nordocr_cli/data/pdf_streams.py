"""What the streams of a PDF stand for, measured before PDFium opens it.

PDFium decompresses a stream completely before it looks at it, and reads everything that a page
draws before the first pixel. A stream of 1 KB may stand for gigabytes, and twelve drawings that
each show the next one ten times stand for a million million. The streams are found as they are
written. What they hold is unpacked by what it is, zlib data or ASCII that stands for it, whatever
filters they name; LZW, run lengths and encrypted streams are left to PDFium.
"""

import base64
import binascii
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from nordocr_cli.data.resize import require_quick_jpeg
from nordocr_cli.errors import DataError
from nordocr_cli.limits import Limits

# A compressed stream may stand for at most this much: drawings and text have a few MB, images four
# bytes a pixel.
_MAXIMUM_STREAM_BYTES = 32 << 20
_BYTES_PER_PIXEL = 4
_PIECE_BYTES = 1 << 16
_MAXIMUM_LAYERS = 8  # of packed data in packed data
_DICTIONARY_BYTES = 2000
# A stream is looked at from the beginning of its object to its end. A false keyword, as in a text,
# looks at the same bytes again; thousands of them would take minutes.
_MAXIMUM_LOOKED_AT_BYTES, _MAXIMUM_LOOKS = 64 << 20, 4
# What one stream may draw; a business page has some thousand objects.
_MAXIMUM_DRAWN = 500_000
_MAXIMUM_LEVELS = 40  # of drawings in drawings; PDFium reads fewer

_PAINTING = re.compile(rb"[\s\])>](?:[fFsSbB]\*?|sh|T[jJ]|BI|['\"])(?=[\s/\[(<]|$)")
_SHOWN = re.compile(rb"/([^\s/\[\]<>()]+)\s+Do(?=[\s/\[(<]|$)")
_OBJECT = re.compile(rb"(?<!\d)(\d+)\s+\d+\s+obj\b")
_OBJECT_OR_STREAM = re.compile(_OBJECT.pattern + rb"|(?<![A-Za-z])stream(?![A-Za-z])")
_END_OF_LINE = re.compile(rb"\r\n?|\n")
_ESCAPE = re.compile(rb"#([0-9A-Fa-f]{2})")
_NO_HEX = bytes(set(range(256)) - set(b"0123456789abcdefABCDEF"))
_JPEG_START = b"\xff\xd8"
_ASCII85 = re.compile(rb"[!-uz\s]*")
_NAMED = re.compile(rb"/([^\s/\[\]<>()]+)\s+(\d+)\s+\d+\s+R\b")
_REAL = rb"([+-]?(?:\d+\.?\d*|\.\d+))"
_X_STEP = re.compile(rb"/XStep\s*" + _REAL)
_Y_STEP = re.compile(rb"/YStep\s*" + _REAL)
_MATRIX = re.compile(rb"/Matrix\s*\[\s*" + rb"\s+".join([_REAL] * 4))
# PDFium draws five million tiles a second. A tile of one pixel at 600 dpi is on an A4 page 35
# million times.
_MAXIMUM_TILES = 50_000_000
_A4_POINTS = (595, 842)
_RESOURCES = (b"Resources", b"XObject")
_NO_DRAWING = re.compile(
    rb"/Image\b|/FontFile|/Length1\b|/Type1C|/OpenType|/ObjStm|/XRef|/N\s"
)


@dataclass(frozen=True)
class _Stream:
    """One stream: the number of its object, its dictionary with plain names, its packed bytes, and
    all bytes from its beginning to the end of the file.
    """

    number: int
    head: bytes
    packed: bytes
    rest: memoryview


@dataclass(frozen=True)
class _Drawing:
    """What a stream paints itself, and how often it shows each name."""

    head: bytes
    painted: int
    shown: Mapping[bytes, int]


def require_small_streams(content: bytes, where: str, limits: Limits) -> None:
    """Raise DataError when a stream of a PDF stands for more bytes, or for more that is drawn, than
    a page has.
    """
    drawings: dict[int, _Drawing] = {}
    for stream in _streams(content, where):
        most = _MAXIMUM_STREAM_BYTES
        if b"/Image" in stream.head:
            most = _BYTES_PER_PIXEL * limits.max_pixels
        unpacked = _unpacked(stream, most)
        if unpacked is None:
            raise DataError(
                f"{where}: a compressed stream stands for more than {most:,} bytes; print the"
                " document to a new PDF first"
            )
        _require_quick_jpeg(stream.head, unpacked, where)
        if _tiles(stream.head) > _MAXIMUM_TILES:
            raise DataError(
                f"{where}: a pattern in it has more than {_MAXIMUM_TILES:,} tiles on a page; print"
                " the document to images first"
            )
        if not _NO_DRAWING.search(stream.head):
            drawings[stream.number] = _drawing(stream.head, unpacked)
    if _draws_more_than(_MAXIMUM_DRAWN, drawings, content):
        raise DataError(
            f"{where}: a drawing in it stands for more than {_MAXIMUM_DRAWN:,} objects; print the"
            " document to images first"
        )


def _streams(content: bytes, where: str) -> Iterator[_Stream]:
    view = memoryview(content)
    most = _MAXIMUM_LOOKED_AT_BYTES + _MAXIMUM_LOOKS * len(content)
    number, head_start, looked_at = 0, 0, 0
    for found in _OBJECT_OR_STREAM.finditer(content):
        if found[1] is not None:
            number, head_start = int(found[1]), found.end()
            continue
        line_end = _END_OF_LINE.search(content, found.end())
        start = line_end.end() if line_end else len(content)
        stop = content.find(b"endstream", start)
        if stop < 0:
            stop = len(content)
        looked_at += stop - head_start
        if looked_at > most:
            raise DataError(
                f"{where}: its streams have no objects of their own; print the document to a new"
                " PDF first"
            )
        head = content[head_start : found.start()]
        yield _Stream(number, _plain_names(head), content[start:stop], view[start:])


def _plain_names(head: bytes) -> bytes:
    """A dictionary with its names as they are meant: `/Fl#61te` is `/Flate`."""
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), head)


def _unpacked(stream: _Stream, most: int) -> bytes | None:
    """Return the bytes that a stream stands for, None when they are more than `most`. What is not
    packed is returned as it is.
    """
    # Packed data has an end of its own, and may hold the word that ends a stream.
    found = _inflated(stream.rest, most) or _inflated(_from_ascii(stream.packed), most)
    if not found:
        return stream.packed
    for _ in range(_MAXIMUM_LAYERS):
        if len(found) > most:
            return None
        deeper = _inflated(found, most) or _inflated(_from_ascii(found), most)
        if not deeper:
            return found
        found = deeper
    return None


def _inflated(packed: bytes | memoryview, most: int) -> bytes:
    """Return what zlib data stands for, up to `most` + 1 bytes and up to its first damage; nothing
    for other data.
    """
    unpacker = zlib.decompressobj()
    parts: list[bytes] = []
    size = 0
    for start in range(0, len(packed), _PIECE_BYTES):
        piece = packed[start : start + _PIECE_BYTES]
        try:
            part = unpacker.decompress(piece, most + 1 - size)
        except zlib.error:
            break
        parts.append(part)
        size += len(part)
        if unpacker.eof or size > most:
            break
    return b"".join(parts)


def _from_ascii(text: bytes) -> bytes:
    """Return the zlib data that is written in hexadecimal digits or ASCII85; nothing otherwise."""
    for decode in (_from_hex, _from_ascii85):
        if _is_zlib(decode(text[:_DICTIONARY_BYTES])):
            return decode(text)
    return b""


def _from_hex(text: bytes) -> bytes:
    digits = text.partition(b">")[0].translate(None, delete=_NO_HEX)
    return binascii.unhexlify(digits[: len(digits) // 2 * 2])


def _from_ascii85(text: bytes) -> bytes:
    found = _ASCII85.match(text)
    try:
        return base64.a85decode(found[0]) if found else b""
    except ValueError:
        return b""


def _is_zlib(content: bytes) -> bool:
    """Whether the first two bytes are those of zlib data (RFC 1950)."""
    if len(content) < 2:
        return False
    is_deflate = content[0] & 0x0F == 8
    return is_deflate and int.from_bytes(content[:2], "big") % 31 == 0


def _require_quick_jpeg(head: bytes, content: bytes, where: str) -> None:
    """Raise DataError for a JPEG of so many scans that PDFium draws it for minutes."""
    if b"DCT" not in head and not content.startswith(_JPEG_START):
        return
    start = content.find(_JPEG_START)  # PDFium skips what is before it
    if start >= 0:
        require_quick_jpeg(content[start:], f"{where}: an image in it")


def _tiles(head: bytes) -> float:
    """How many tiles of a pattern an A4 page has, whose dictionary is `head`; 0 for what is no
    pattern of tiles. PDFium would draw billions of them.
    """
    if b"/PatternType" not in head:
        return 0
    matrix = _MATRIX.search(head)
    a, b, c, d = map(float, matrix.groups()) if matrix else (1.0, 0.0, 0.0, 1.0)
    steps = ((_X_STEP, math.hypot(a, b)), (_Y_STEP, math.hypot(c, d)))
    tiles = 1.0
    for (step, scale), points in zip(steps, _A4_POINTS, strict=True):
        found = step.search(head)
        step_points = abs(float(found[1])) * scale if found else points
        tiles *= max(1.0, points / step_points) if step_points else math.inf
    return tiles


def _drawing(head: bytes, content: bytes) -> _Drawing:
    painted = sum(1 for _ in _PAINTING.finditer(content))
    shown = Counter(name[1] for name in _SHOWN.finditer(content))
    return _Drawing(head, painted, shown)


def _draws_more_than(most: int, drawings: Mapping[int, _Drawing], content: bytes) -> bool:
    """Whether one of the drawings stands for more than `most` objects, those of the drawings that
    it shows included. Drawings that show themselves, which PDF forbids, stand for any number.
    """
    if any(drawing.painted > most for drawing in drawings.values()):
        return True
    forms = {
        number: drawing for number, drawing in drawings.items() if b"/Form" in drawing.head
    }
    if not any(drawing.shown for drawing in forms.values()):
        return False
    names = _Names(content)
    children = {number: names.shown_by(form, forms) for number, form in forms.items()}
    drawn = {number: form.painted + 1 for number, form in forms.items()}
    # Each round counts one more level of drawings in drawings.
    for _ in range(_MAXIMUM_LEVELS):
        before = dict(drawn)
        for number, form in forms.items():
            below = sum(times * before[child] for child, times in children[number].items())
            drawn[number] = form.painted + 1 + below
        if max(drawn.values()) > most:
            return True
        if drawn == before:
            return False
    return False


class _Names:
    """Which objects the names of a PDF stand for."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._starts = {int(found[1]): found.end() for found in _OBJECT.finditer(content)}

    def shown_by(
        self, drawing: _Drawing, forms: Mapping[int, _Drawing]
    ) -> Mapping[int, int]:
        """Return how often a drawing shows each of `forms`."""
        named = self._named(drawing.head)
        shown: Counter[int] = Counter()
        for name, times in drawing.shown.items():
            for number in named.get(name, set()) & forms.keys():
                shown[number] += times
        return shown

    def _named(self, head: bytes) -> Mapping[bytes, set[int]]:
        """The names in the resources of a drawing, which may stand in dictionaries of their own. A
        drawing without resources uses those of its page: they may be any of the document.
        """
        if b"/Resources" not in head:
            return self._anywhere
        named: list[tuple[bytes, bytes]] = []
        texts = [head]
        for _ in range(3):
            found = [pair for text in texts for pair in _NAMED.findall(text)]
            named += found
            texts = [self._dictionary(int(n)) for name, n in found if name in _RESOURCES]
        return _by_name(named)

    @cached_property
    def _anywhere(self) -> Mapping[bytes, set[int]]:
        return _by_name(_NAMED.findall(self._content))

    def _dictionary(self, number: int) -> bytes:
        """The dictionary of an object as it is written, empty when it is a stream or not found."""
        start = self._starts.get(number)
        if start is None:
            return b""
        text = self._content[start : start + _DICTIONARY_BYTES].partition(b"endobj")[0]
        return b"" if b"stream" in text else text


def _by_name(pairs: Iterable[tuple[bytes, bytes]]) -> Mapping[bytes, set[int]]:
    found: dict[bytes, set[int]] = {}
    for name, number in pairs:
        found.setdefault(name, set()).add(int(number))
    return found
