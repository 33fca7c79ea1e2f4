"""What the images of a PDF claim, checked before PDFium opens it.

Most of what a PDF may ask for ends at the limits of PDFium's process. Two things are better found
here: a JPEG of thousands of scans takes all of its seconds, and a mask for which it gets no memory
is left out without a message.
"""

import re
from collections.abc import Iterator

from nordocr_cli.data.resize import require_quick_jpeg
from nordocr_cli.limits import Limits

_JPEG = re.compile(rb"stream\r?\n(?=\xff\xd8)")
_END_OF_STREAM = b"endstream"
_MASK = re.compile(rb"/S?Mask\s{1,20}(\d{1,10})\s{1,20}\d{1,10}\s{1,20}R\b")
_WIDTH = re.compile(rb"/Width\s{1,20}(\d{1,10})\b(?!\s+\d+\s+R)")
_HEIGHT = re.compile(rb"/Height\s{1,20}(\d{1,10})\b(?!\s+\d+\s+R)")
_OBJECT = re.compile(rb"(?<!\d)(\d{1,10})\s{1,20}\d{1,10}\s{1,20}obj\b")
_DICTIONARY_BYTES = 2000


def require_plain_images(content: bytes, where: str, limits: Limits) -> None:
    """Raise DataError when an image of a PDF takes too long to decode, or its mask is too large."""
    for found in _JPEG.finditer(content):
        end = content.find(_END_OF_STREAM, found.end())
        jpeg = content[found.end() : end if end > 0 else None]
        require_quick_jpeg(jpeg, f"{where}: an image in it")
    for height, width in _mask_sizes(content):
        limits.require_pixels(height, width, f"{where}: a mask in it")


def _mask_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the (height, width) in pixels of each mask of an image."""
    masks = {number[1] for number in _MASK.finditer(content)}
    if not masks:
        return
    for found in _OBJECT.finditer(content):
        if found[1] not in masks:
            continue
        head = content[found.end() : found.end() + _DICTIONARY_BYTES].partition(b"stream")[
            0
        ]
        height = _HEIGHT.search(head)
        width = _WIDTH.search(head)
        if height and width:
            yield int(height[1]), int(width[1])
