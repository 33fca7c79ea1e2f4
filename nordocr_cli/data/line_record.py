"""A line as bytes: its pixels as a binary PPM, or PGM when it is gray, and its row as JSON.

Pixels are stored uncompressed, in a format that Pillow and OpenCV open. A PNG is half as large, but
takes 20 times as long to write and 30 times as long to read, and training reads each line many
times.
"""

import hashlib
import json
import re
import zlib
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from nordocr_cli.data.fingerprint import cell_means, contrast, fingerprint
from nordocr_cli.limits import parse_json
from nordocr_cli.pixels import Pixels
from nordocr_cli.records import LineRow

_ROW_FIELDS = ("id", "image", "text", "language", "subset", "split", "source")
_NETPBM = re.compile(rb"P([56])\n(\d+) (\d+)\n255\n")
_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True)
# Level 1: a line takes 0.1 ms to encode instead of 1.5 ms and is a tenth larger.
_PNG_OPTIONS = (cv2.IMWRITE_PNG_COMPRESSION, 1)


@dataclass(frozen=True)
class EncodedLine:
    """A line image ready to be stored: the record (PPM, or PGM when it is gray), its SHA-256 and
    CRC32, the width in pixels; its fingerprint and contrast (see data/fingerprint.py).
    """

    record: bytes
    width: int
    pixels_sha256: bytes
    crc32: int
    fingerprint: int
    contrast: int

    @property
    def png(self) -> bytes:
        """Return the line as PNG, for files."""
        return encode_png(decode_netpbm(self.record))


def encode_line(image: Pixels) -> EncodedLine:
    """Encode a uint8 (height, width, 3) RGB or (height, width) gray line, as one channel when it is
    gray. Safe in threads.
    """
    if (
        image.dtype != np.uint8
        or image.ndim not in (2, 3)
        or image.shape[2:] not in ((), (3,))
    ):
        raise ValueError(
            f"a line image is uint8 (height, width, 3) or (height, width), not {image.dtype}"
            f" {image.shape}"
        )
    height, width = image.shape[:2]
    if image.ndim == 3 and _is_gray(image):
        image = image[:, :, 0]
    header = netpbm_header(height, width, image.ndim == 2)
    record = b"".join((header, np.ascontiguousarray(image).data))
    return _encoded(record, image)


# A store has few different widths, and the loader asks for each line.
@lru_cache(maxsize=4096)
def netpbm_header(height: int, width: int, is_gray: bool) -> bytes:
    """Return the header of a line's record, before the pixels: PGM when it is gray, else PPM."""
    kind = 5 if is_gray else 6
    return b"P%d\n%d %d\n255\n" % (kind, width, height)


def encoded_line(record: bytes) -> EncodedLine:
    """Parse a record into its line. Raises ValueError when it is not a record."""
    return _encoded(record, decode_netpbm(record))


def _encoded(record: bytes, image: Pixels) -> EncodedLine:
    cells = cell_means(image)
    return EncodedLine(
        record,
        image.shape[1],
        hashlib.sha256(record).digest(),
        zlib.crc32(record),
        fingerprint(cells),
        contrast(cells),
    )


def encode_png(image: Pixels) -> bytes:
    """Encode a uint8 (height, width, 3) RGB or (height, width) gray image as PNG."""
    # cv2 writes BGR
    ok, png = cv2.imencode(
        ".png", image if image.ndim == 2 else image[:, :, ::-1], _PNG_OPTIONS
    )
    if not ok:
        raise RuntimeError(f"PNG encoding failed for shape {image.shape}")
    return png.tobytes()


def _is_gray(image: Pixels) -> bool:
    red = image[..., 0]
    green = image[..., 1]
    blue = image[..., 2]
    if not np.array_equal(red[0], green[0]):
        # Most colour images already have colour in their first row.
        return False
    return np.array_equal(red, green) and np.array_equal(green, blue)


def decode_png(record: bytes) -> Pixels:
    """Return the pixels of a record of schema 1. Raises ValueError when it is not an image."""
    stored = cv2.imdecode(np.frombuffer(record, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise ValueError("not a PNG")
    return np.asarray(stored if stored.ndim == 2 else stored[:, :, ::-1], dtype=np.uint8)


def decode_netpbm(record: bytes) -> Pixels:
    """Return the pixels of a PPM or PGM record, (h, w, 3) RGB or (h, w), read-only. Raises
    ValueError for anything else.
    """
    header = _NETPBM.match(record)
    if header is None:
        raise ValueError("no PPM or PGM header")
    width = int(header[2])
    height = int(header[3])
    shape = (height, width) if header[1] == b"5" else (height, width, 3)
    return np.frombuffer(record, dtype=np.uint8, offset=header.end()).reshape(shape)


def encode_row(row: LineRow) -> bytes:
    """Encode a row; equal rows give equal bytes."""
    return _JSON.encode(row.to_json()).encode("utf-8")


def decode_row(record: bytes) -> LineRow:
    """Return the row of a record. Raises ValueError when it is not one."""
    value = parse_json(record)
    extra = {key: item for key, item in value.items() if key not in _ROW_FIELDS}
    # to_json leaves empty fields out
    return LineRow(**{key: value.get(key, "") for key in _ROW_FIELDS}, extra=extra)
