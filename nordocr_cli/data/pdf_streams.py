"""What the streams of a PDF stand for, measured before PDFium opens it.

PDFium decompresses a stream completely before it looks at it, and reads everything that a page
draws before the first pixel. A stream of 1 KB may stand for gigabytes, and twelve drawings that
each show the next one ten times stand for a million million. The streams are found as they are
written; what is not readable here is left to PDFium.
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from nordocr_cli.errors import DataError
from nordocr_cli.limits import Limits

# A compressed stream may stand for at most this much: drawings and text have a few MB, images four
# bytes a pixel.
_MAXIMUM_STREAM_BYTES = 32 << 20
_BYTES_PER_PIXEL = 4
_HEAD_BYTES = 2000
# What one stream may draw; a business page has some thousand objects.
_MAXIMUM_DRAWN = 500_000
_MAXIMUM_LEVELS = 40  # of drawings in drawings; PDFium reads fewer

_PAINTING = re.compile(rb"[\s\])>](?:[fFsSbB]\*?|sh|T[jJ]|BI|['\"])(?=[\s/\[(<]|$)")
_SHOWN = re.compile(rb"/([^\s/\[\]<>()]+)\s+Do(?=[\s/\[(<]|$)")
_OBJECT = re.compile(rb"(?<!\d)(\d+)\s+\d+\s+obj\b")
_NUMBER = re.compile(rb"(\d+)\s+\d+\s+\Z")
_NAMED = re.compile(rb"/([^\s/\[\]<>()]+)\s+(\d+)\s+\d+\s+R\b")
_REAL = rb"([+-]?(?:\d+\.?\d*|\.\d+))"
_X_STEP = re.compile(rb"/XStep\s*" + _REAL)
_Y_STEP = re.compile(rb"/YStep\s*" + _REAL)
_MATRIX = re.compile(rb"/Matrix\s*\[\s*" + rb"\s+".join([_REAL] * 4))
_MINIMUM_STEP_POINTS = 0.24
_RESOURCES = (b"Resources", b"XObject")
_NO_DRAWING = re.compile(
    rb"/Image\b|/FontFile|/Length1\b|/Type1C|/OpenType|/ObjStm|/XRef|/N\s"
)


@dataclass(frozen=True)
class _Stream:
    """One stream: the number of its object, its dictionary, and its packed bytes."""

    number: int
    head: bytes
    packed: bytes


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
    for stream in _streams(content):
        most = _MAXIMUM_STREAM_BYTES
        if b"/Image" in stream.head:
            most = _BYTES_PER_PIXEL * limits.max_pixels
        unpacked = _unpacked(stream, most)
        if unpacked is None:
            raise DataError(
                f"{where}: a compressed stream stands for more than {most:,} bytes; print the"
                " document to a new PDF first"
            )
        if _has_tiny_tiles(stream.head):
            raise DataError(
                f"{where}: a pattern in it has tiles smaller than a pixel; print the document to"
                " images first"
            )
        if not _NO_DRAWING.search(stream.head):
            drawings[stream.number] = _drawing(stream.head, unpacked)
    if _draws_more_than(_MAXIMUM_DRAWN, drawings, content):
        raise DataError(
            f"{where}: a drawing in it stands for more than {_MAXIMUM_DRAWN:,} objects; print the"
            " document to images first"
        )


def _streams(content: bytes) -> Iterator[_Stream]:
    end = 0
    while True:
        keyword = content.find(b"stream", end)
        if keyword < 0:
            return
        end = keyword + len(b"stream")
        if content[keyword - 3 : keyword] == b"end":
            continue
        before, _, head = content[max(0, keyword - _HEAD_BYTES) : keyword].rpartition(
            b"obj"
        )
        number = _NUMBER.search(before)
        start = end + (2 if content[end : end + 2] == b"\r\n" else 1)
        stop = content.find(b"endstream", start)
        if stop < 0:
            stop = len(content)
        yield _Stream(int(number[1]) if number else -keyword, head, content[start:stop])


def _unpacked(stream: _Stream, most: int) -> bytes | None:
    """Return the bytes that a stream stands for, None when they are more than `most`. What is no
    zlib data is returned as it is.
    """
    found = stream.packed
    layers = stream.head.count(b"FlateDecode") + stream.head.count(b"/Fl ")
    for _ in range(layers):
        unpacker = zlib.decompressobj()
        try:
            found = unpacker.decompress(found, most + 1)
        except zlib.error:
            return found
        if len(found) > most:
            return None
    return found


def _has_tiny_tiles(head: bytes) -> bool:
    """Whether a stream is a tile that a page repeats at steps below a pixel at 300 dpi: PDFium
    would draw it billions of times.
    """
    if b"/PatternType" not in head:
        return False
    matrix = _MATRIX.search(head)
    a, b, c, d = map(float, matrix.groups()) if matrix else (1.0, 0.0, 0.0, 1.0)
    for step, scale in ((_X_STEP, math.hypot(a, b)), (_Y_STEP, math.hypot(c, d))):
        found = step.search(head)
        if found and abs(float(found[1])) * scale < _MINIMUM_STEP_POINTS:
            return True
    return False


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
        text = self._content[start : start + _HEAD_BYTES].partition(b"endobj")[0]
        return b"" if b"stream" in text else text


def _by_name(pairs: Iterable[tuple[bytes, bytes]]) -> Mapping[bytes, set[int]]:
    found: dict[bytes, set[int]] = {}
    for name, number in pairs:
        found.setdefault(name, set()).add(int(number))
    return found
