"""PDF pages as images, through PDFium.

A PDF has points, not pixels. A page is drawn at the size that its layout was made for, where that
is known; a page that is one scan comes with the scan's own pixels; any other at 300 dpi, as the
consumer scans.
"""

import ctypes
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from nordocr_cli.data.pdf_streams import require_small_streams
from nordocr_cli.data.resize import Pixels
from nordocr_cli.errors import DataError, MissingBackendError
from nordocr_cli.limits import Limits
from nordocr_cli.records import Resolution

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
# Of processor time: drawings of a page take a second at most, and a page that takes forever would
# stop every other page.
_DRAWING_S = 15.0

_LOCK = (
    threading.RLock()
)  # PDFium is for one thread at a time, whatever the number of documents


def is_pdf(content: bytes) -> bool:
    """Whether a file's content is a PDF."""
    return b"%PDF-" in content[:_MARK_BYTES]


class PdfPages:
    """The pages of a PDF. May be shared by threads.

    Raises MissingBackendError without pypdfium2, DataError when the PDF is damaged, encrypted or
    has more pages than `limits` allow.
    """

    def __init__(self, content: bytes, path: Path, limits: Limits | None = None) -> None:
        try:
            import pypdfium2
        except ImportError as error:
            raise MissingBackendError(
                f"{path}: PDF needs pypdfium2 ({error}); pip install pypdfium2"
            ) from error
        self._path, self._pdfium, self._limits = path, pypdfium2, limits or Limits()
        require_small_streams(content, str(path), self._limits)
        with _LOCK:
            try:
                self._document = pypdfium2.PdfDocument(content)
            except pypdfium2.PdfiumError as error:
                is_encrypted = "password" in str(error).lower()
                if is_encrypted:
                    fix = "save it without a password"
                else:
                    fix = "save it again"
                raise DataError(
                    f"{path}: the PDF cannot be opened ({error}); {fix}"
                ) from error
            self.count = len(self._document)
            self._limits.require_pages(self.count, str(path))
            self._document.init_forms()
        if not self.count:
            raise DataError(f"{path}: a PDF without pages")

    def decode(self, index: int, size: tuple[int, int] | None) -> Pixels:
        """Return page `index` (from 0) as uint8 (height, width, 3) RGB, of the given size (height,
        width) in pixels or its own.

        Raises DataError for a damaged page, and one of more pixels than the limits allow.
        """
        where = f"{self._path}, page {index + 1}"
        with _LOCK:
            try:
                page = self._document[index]
                scan = self._scan(page, where)
                height, width = size or self._size(page, scan)
                self._limits.require_pixels(height, width, where)
                if scan is not None and scan.get_px_size() == (width, height):
                    pixels = _rgb(scan.get_bitmap(), self._pdfium.raw)
                    small = (max(1, height // _THUMBNAIL), max(1, width // _THUMBNAIL))
                    thumbnail = cv2.resize(
                        pixels, small[::-1], interpolation=cv2.INTER_AREA
                    )
                    # Stencils, masks and colour spaces of its own: what the page shows is not
                    # always what the image holds.
                    if (
                        np.abs(
                            thumbnail.astype(np.int16) - self._draw(page, *small, where)
                        ).mean()
                        < _SAME_PICTURE
                    ):
                        return pixels
                return self._draw(page, height, width, where)
            except self._pdfium.PdfiumError as error:
                raise DataError(
                    f"{where}: damaged page ({error}); save the document again"
                ) from error

    def resolution(self, index: int, size: tuple[int, int]) -> Resolution | None:
        """Return the dots per inch of page `index` (from 0) drawn `size` (height, width) pixels
        large.
        """
        with _LOCK:
            try:
                width, height = self._document[index].get_size()
            except self._pdfium.PdfiumError:
                return None  # decoding it raises
        if not (width > 0 and height > 0):
            return None
        return Resolution(
            size[1] / width * _POINTS_PER_INCH, size[0] / height * _POINTS_PER_INCH
        )

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
                # Known before it is decoded.
                self._limits.require_pixels(height, width, f"{where}: an image in it")
            else:
                others += (
                    item.type != raw.FPDF_PAGEOBJ_FORM
                )  # what a form holds is listed after it
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
        if fits and across > 0 and upright > 0 and not up_x and not up_y:
            return images[0]
        return None

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

    def _render(
        self,
        bitmap: "pypdfium2.PdfBitmap",
        page: "pypdfium2.PdfPage",
        size: tuple[int, int],
        where: str,
    ) -> None:
        """Draw a page of `size` (height, width) pixels. Raises DataError when it takes too long
        or fails.
        """
        height, width = size
        raw = self._pdfium.raw
        deadline = _Deadline(raw, _DRAWING_S)
        status = raw.FPDF_RenderPageBitmap_Start(
            *(bitmap, page, 0, 0, width, height, 0, raw.FPDF_ANNOT),
            ctypes.byref(deadline.pause),
        )
        raw.FPDF_RenderPage_Close(page)
        if status == raw.FPDF_RENDER_TOBECONTINUED:
            raise DataError(
                f"{where}: drawing it takes more than {_DRAWING_S:g} s; print the document to"
                " images first"
            )
        if status != raw.FPDF_RENDER_DONE:
            raise DataError(f"{where}: cannot be drawn; print the document to images first")

    def _draw(
        self, page: "pypdfium2.PdfPage", height: int, width: int, where: str
    ) -> Pixels:
        raw = self._pdfium.raw
        bitmap = self._pdfium.PdfBitmap.new_native(width, height, raw.FPDFBitmap_BGR)
        bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
        self._render(bitmap, page, (height, width), where)
        if self._document.formenv:
            raw.FPDF_FFLDraw(
                self._document.formenv, bitmap, page, 0, 0, width, height, 0, raw.FPDF_ANNOT
            )
        return _rgb(bitmap, raw)


class _Deadline:
    """Asks PDFium to stop drawing when this thread has computed for some seconds."""

    def __init__(self, raw: Any, seconds: float) -> None:
        self._end = time.thread_time() + seconds
        kind = dict(raw.IFSDK_PAUSE._fields_)["NeedToPauseNow"]
        self._callback = kind(lambda _: int(self.is_over))  # kept, for PDFium calls it
        self.pause = raw.IFSDK_PAUSE(version=1, NeedToPauseNow=self._callback, user=None)

    @property
    def is_over(self) -> bool:
        return time.thread_time() > self._end


def _rgb(bitmap: "pypdfium2.PdfBitmap", raw: Any) -> Pixels:
    """A copy of PDFium's pixels, which are gray or blue first."""
    pixels = bitmap.to_numpy()
    gray = bitmap.format == raw.FPDFBitmap_Gray
    return np.asarray(
        cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if gray else pixels[:, :, 2::-1],
        dtype=np.uint8,
    ).copy()
