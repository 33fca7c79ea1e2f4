"""PDF pages as images, through PDFium.

A PDF has points, not pixels. A page is drawn at the size that its layout was made for, where that
is known; a page that is one scan comes with the scan's own pixels; any other at 300 dpi, as the
consumer scans. PDFium runs in a process of its own, see `pdfium_process`.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nordocr_cli.data.pdf_images import require_plain_images
from nordocr_cli.data.pdfium_process import PdfiumProcess
from nordocr_cli.errors import DataError
from nordocr_cli.limits import Limits
from nordocr_cli.pixels import Pixels
from nordocr_cli.records import Resolution

DPI = 300
_POINTS_PER_INCH = 72
_MARK_BYTES = 1024  # readers look for %PDF- this far in
# An image this much of its page is the page.
_SCAN_SHARE = 0.98
_SCAN_DPI = (72, 1200)
# A scan's own pixels and the drawn page, both an eighth of the size, are the same picture up to
# this mean difference.
_SAME_PICTURE = 6.0
_THUMBNAIL = 8
# Scanners store text, its colour and the paper as layers, of which one or two are as large as the
# page; an album may show a dozen photographs of 12 megapixels. A smaller image may be a logo that a
# page shows a hundred times, of which PDFium keeps one copy.
_FULL_IMAGES = 4
_LARGE_IMAGE = 4_000_000
_TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}


def is_pdf(content: bytes) -> bool:
    """Whether a file's content is a PDF."""
    return b"%PDF-" in content[:_MARK_BYTES]


class PdfPages:
    """The pages of a PDF. May be shared by threads.

    Raises MissingBackendError without pypdfium2, DataError when the PDF is damaged, encrypted or
    has more pages than `limits` allow.
    """

    def __init__(self, content: bytes, path: Path, limits: Limits | None = None) -> None:
        self._path = path
        self._limits = limits or Limits()
        require_plain_images(content, str(path), self._limits)
        self._pdfium = PdfiumProcess(content, str(path), self._limits)
        self.count = self._pdfium.page_count
        self._limits.require_pages(self.count, str(path))
        if not self.count:
            raise DataError(f"{path}: a PDF without pages")

    def decode(self, index: int, size: tuple[int, int] | None) -> Pixels:
        """Return page `index` (from 0) as uint8 (height, width, 3) RGB, of the given size (height,
        width) in pixels or its own.

        Raises DataError for a damaged page, and one of more pixels, memory or time than the limits
        allow.
        """
        where = self._where(index)
        page, _ = self._pdfium.ask(where, do="look", page=index)
        for columns, rows in page["images"]:
            # Known before the image is decoded.
            self._limits.require_pixels(rows, columns, f"{where}: an image in it")
        self._require_few_pixels(page["images"], where)
        scan = _scan_size(page)
        height, width = size or _size(page, scan)
        self._limits.require_pixels(height, width, where)

        if scan == (height, width):
            pixels = self._bitmap(where, do="scan", page=index)
            if self._shows(pixels, index, where):
                return pixels
        return self._bitmap(where, do="draw", page=index, height=height, width=width)

    def resolution(self, index: int, size: tuple[int, int]) -> Resolution | None:
        """Return the dots per inch of page `index` (from 0) drawn `size` (height, width) pixels
        large.
        """
        try:
            answer, _ = self._pdfium.ask(self._where(index), do="size", page=index)
        except DataError:
            return None  # decoding it raises
        width, height = answer["size"]
        if not (width > 0 and height > 0):
            return None
        return Resolution(
            size[1] / width * _POINTS_PER_INCH, size[0] / height * _POINTS_PER_INCH
        )

    def _require_few_pixels(self, images: list[tuple[int, int]], where: str) -> None:
        """Raise DataError when the large images of a page have too many pixels together."""
        large = [size for size in images if size[0] * size[1] >= _LARGE_IMAGE]
        pixels = sum(columns * rows for columns, rows in large)
        maximum = _FULL_IMAGES * self._limits.max_pixels
        if pixels > maximum:
            raise DataError(
                f"{where}: its {len(large):,} large images have {pixels:,} pixels together, more"
                f" than {maximum:,}; print the document to images first, or raise --max-pixels"
            )

    def _where(self, index: int) -> str:
        return f"{self._path}, page {index + 1}"

    def _shows(self, pixels: Pixels, index: int, where: str) -> bool:
        """Whether a page shows the pixels of its scan. Stencils, masks and colour spaces of its
        own: what a page shows is not always what the image holds.
        """
        height, width = (max(1, side // _THUMBNAIL) for side in pixels.shape[:2])
        thumbnail = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        drawn = self._bitmap(where, do="thumbnail", page=index, height=height, width=width)
        difference = np.abs(thumbnail.astype(np.int16) - drawn).mean()
        return bool(difference < _SAME_PICTURE)

    def _bitmap(self, where: str, **request: Any) -> Pixels:
        """The pixels that PDFium answers a request with, as RGB."""
        form, content = self._pdfium.ask(where, **request)
        height = form["height"]
        width = form["width"]
        channels = form["channels"]
        rows = np.frombuffer(content, np.uint8).reshape(height, form["stride"])
        pixels = rows[:, : width * channels].reshape(height, width, channels)
        return np.asarray(cv2.cvtColor(pixels, _TO_RGB[channels]), dtype=np.uint8)


def _scan_size(page: dict[str, Any]) -> tuple[int, int] | None:
    """The size (height, width) in pixels of the one upright image that a page consists of; None
    when it is no scan.
    """
    if len(page["images"]) != 1 or page["other_objects"] or page["rotation"]:
        return None
    across, up_x, up_y, upright = page["matrix"][:4]
    is_upright = across > 0 and upright > 0 and not up_x and not up_y
    left, bottom, right, top = page["bounds"]
    page_width, page_height = page["size"]
    share = max(0.0, right - left) * max(0.0, top - bottom) / (page_width * page_height)
    is_all = _SCAN_SHARE <= share <= 1 / _SCAN_SHARE
    is_at_corner = abs(left) + abs(bottom) < (1 - _SCAN_SHARE) * page_height
    if not (is_upright and is_all and is_at_corner):
        return None
    columns, rows = page["images"][0]
    return rows, columns


def _size(page: dict[str, Any], scan: tuple[int, int] | None) -> tuple[int, int]:
    """The size (height, width) in pixels at which a page is read."""
    width, height = page["size"]
    if scan is not None:
        dpi = scan[1] / width * _POINTS_PER_INCH
        if _SCAN_DPI[0] <= dpi <= _SCAN_DPI[1]:
            return scan
    pixels_per_point = DPI / _POINTS_PER_INCH
    return max(1, round(height * pixels_per_point)), max(1, round(width * pixels_per_point))
