"""PDF pages as images, through PDFium (extra `pdf`).

A PDF has points, not pixels. A page is drawn at the size that its layout was made for, where that
is known; a page that is one scan comes with the scan's own pixels; any other at 300 dpi, as the
consumer scans.
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from nordocr_cli.data.resize import MAX_PAGE_PIXELS, Pixels
from nordocr_cli.errors import DataError, MissingBackendError

if TYPE_CHECKING:
    import pypdfium2

DPI = 300
_POINTS_PER_INCH = 72
_MARK_BYTES = 1024  # readers look for %PDF- this far in
_MAX_OBJECTS = 100_000  # looked at for images; a business page has hundreds
# An image this much of its page is the page.
_SCAN_SHARE = 0.98
_SCAN_DPI = (72, 1200)
# A scan's own pixels and the drawn page, both an eighth of the size, are the same picture up to
# this mean difference.
_SAME_PICTURE = 6.0
_THUMBNAIL = 8

_LOCK = threading.RLock()  # PDFium is for one thread at a time, whatever the number of documents


def is_pdf(content: bytes) -> bool:
    """Whether a file's content is a PDF."""
    return b"%PDF-" in content[:_MARK_BYTES]


class PdfPages:
    """The pages of a PDF. May be shared by threads.

    Raises MissingBackendError without pypdfium2, DataError when the PDF is damaged or encrypted.
    """

    def __init__(self, content: bytes, path: Path) -> None:
        try:
            import pypdfium2
        except ImportError as error:
            raise MissingBackendError(
                f"{path}: PDF needs pypdfium2 ({error}); pip install 'nordocr-cli[pdf]'"
            ) from error
        self._path, self._pdfium = path, pypdfium2
        with _LOCK:
            try:
                self._document = pypdfium2.PdfDocument(content)
            except pypdfium2.PdfiumError as error:
                mend = (
                    "save it without a password"
                    if "password" in str(error).lower()
                    else "save it again"
                )
                raise DataError(f"{path}: the PDF cannot be opened ({error}); {mend}") from error
            self._document.init_forms()
            self.count = len(self._document)
        if not self.count:
            raise DataError(f"{path}: a PDF without pages")

    def decode(self, index: int, size: tuple[int, int] | None) -> Pixels:
        """Return page `index` (from 0) as uint8 (height, width, 3) RGB, of the given size (height,
        width) in pixels or its own.

        Raises DataError for a damaged page, and one of more pixels than MAX_PAGE_PIXELS.
        """
        where = f"{self._path}, page {index + 1}"
        with _LOCK:
            try:
                page = self._document[index]
                scan = self._scan(page, where)
                height, width = size or self._size(page, scan)
                if height * width > MAX_PAGE_PIXELS:
                    raise DataError(
                        f"{where}: {height} x {width} pixels are more than a page may have"
                    )
                if scan is not None and scan.get_px_size() == (width, height):
                    pixels = _rgb(scan.get_bitmap(), self._pdfium.raw)
                    small = (max(1, height // _THUMBNAIL), max(1, width // _THUMBNAIL))
                    thumbnail = cv2.resize(pixels, small[::-1], interpolation=cv2.INTER_AREA)
                    # Stencils, masks and colour spaces of its own: what the page shows is not
                    # always what the image holds.
                    if (
                        np.abs(thumbnail.astype(np.int16) - self._draw(page, *small)).mean()
                        < _SAME_PICTURE
                    ):
                        return pixels
                return self._draw(page, height, width)
            except self._pdfium.PdfiumError as error:
                raise DataError(
                    f"{where}: damaged page ({error}); save the document again"
                ) from error

    def _scan(self, page: "pypdfium2.PdfPage", where: str) -> "pypdfium2.PdfImage | None":
        """The one upright image that a page consists of; None when it is no scan. Raises DataError
        when an image is too large.
        """
        raw, images, others = self._pdfium.raw, [], 0
        for number, item in enumerate(page.get_objects(), start=1):
            if number > _MAX_OBJECTS:
                raise DataError(
                    f"{where}: has more than {_MAX_OBJECTS:,} objects; print it to an image first"
                )
            if item.type == raw.FPDF_PAGEOBJ_IMAGE:
                images.append(item)
                width, height = item.get_px_size()
                if width * height > MAX_PAGE_PIXELS:  # known before it is decoded
                    raise DataError(
                        f"{where}: holds an image of {height} x {width} pixels, more than a page"
                        " may have"
                    )
            else:
                others += item.type != raw.FPDF_PAGEOBJ_FORM  # what a form holds is listed after it
        if len(images) != 1 or others or page.get_rotation():
            return None
        across, up_x, up_y, upright = images[0].get_matrix().get()[:4]
        left, bottom, right, top = images[0].get_bounds()
        page_width, page_height = page.get_size()
        share = max(0.0, right - left) * max(0.0, top - bottom) / (page_width * page_height)
        fits = (
            _SCAN_SHARE <= share <= 1 / _SCAN_SHARE
            and abs(left) + abs(bottom) < (1 - _SCAN_SHARE) * page_height
        )
        return images[0] if fits and across > 0 and upright > 0 and not up_x and not up_y else None

    def _size(
        self, page: "pypdfium2.PdfPage", scan: "pypdfium2.PdfImage | None"
    ) -> tuple[int, int]:
        width, height = page.get_size()
        if scan is not None:
            columns, rows = scan.get_px_size()
            if _SCAN_DPI[0] <= columns / width * _POINTS_PER_INCH <= _SCAN_DPI[1]:
                return rows, columns
        return max(1, round(height * DPI / _POINTS_PER_INCH)), max(
            1, round(width * DPI / _POINTS_PER_INCH)
        )

    def _draw(self, page: "pypdfium2.PdfPage", height: int, width: int) -> Pixels:
        raw = self._pdfium.raw
        bitmap = self._pdfium.PdfBitmap.new_native(width, height, raw.FPDFBitmap_BGR)
        bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
        raw.FPDF_RenderPageBitmap(bitmap, page, 0, 0, width, height, 0, raw.FPDF_ANNOT)
        if self._document.formenv:
            raw.FPDF_FFLDraw(
                self._document.formenv, bitmap, page, 0, 0, width, height, 0, raw.FPDF_ANNOT
            )
        return _rgb(bitmap, raw)


def _rgb(bitmap: "pypdfium2.PdfBitmap", raw: Any) -> Pixels:
    """A copy of PDFium's pixels, which are gray or blue first."""
    pixels = bitmap.to_numpy()
    gray = bitmap.format == raw.FPDFBitmap_Gray
    return np.asarray(
        cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if gray else pixels[:, :, 2::-1], dtype=np.uint8
    ).copy()
