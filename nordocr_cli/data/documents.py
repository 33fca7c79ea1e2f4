"""Documents: TIFF, PDF and image files as pages, a page at a time, and lines cut out of a page as
the consumer cuts them.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from nordocr_cli.data.pdf import PdfPages, is_pdf
from nordocr_cli.data.resize import (
    MAX_PAGE_PIXELS,
    Pixels,
    decode_image,
    read_image_bytes,
    rgb_pixels,
)
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.records import Box

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
_MAX_PAGES = 10_000


class Document(Sequence[Pixels]):
    """The pages of a file, uint8 (height, width, 3) RGB, decoded one at a time when asked for.

    Of a TIFF that was cut off between its pages the last one stands for what is missing: asking for
    it raises DataError. Raises UsageError when there is no such file, DataError when it is not an
    image or is cut off, and MissingBackendError for a PDF without the library for it.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UsageError(f"no document {self.path}")
        self._bytes = read_image_bytes(self.path, max_pixels=MAX_PAGE_PIXELS)
        self._is_tiff = self._bytes[:2] in (b"II", b"MM")
        self._pdf = PdfPages(self._bytes, self.path) if is_pdf(self._bytes) else None
        self.cut = ""  # why there is no last page
        if self._pdf is not None:
            self._pages = self._pdf.count
        else:
            self._pages, self.cut = (
                _count_tiff_pages(self._bytes, self.path) if self._is_tiff else (1, "")
            )

    def __len__(self) -> int:
        return self._pages

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | list[Pixels]:
        """Decode page `index` (from 0)."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.page(index)

    def page(self, index: int, size: tuple[int, int] | None = None) -> Pixels:
        """Decode page `index` (from 0). A PDF's page is drawn `size` (height, width) pixels large;
        others have a size.
        """
        if self.cut and index >= len(self) - 1:
            raise DataError(self.cut)
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} pages, no page index {index}")
        return (
            self._pdf.decode(index % len(self), size)
            if self._pdf
            else self._decode(index % len(self))
        )

    def __iter__(self) -> Iterator[Pixels]:
        return (self.page(index) for index in range(len(self)))

    def _decode(self, index: int) -> Pixels:
        if len(self) == 1:
            return decode_image(self._bytes, str(self.path), max_pixels=MAX_PAGE_PIXELS)
        from PIL import Image as PillowImage

        where = f"{self.path}, page {index + 1}"
        try:
            # Opened anew for each page: Pillow's images are lazy, and one that is shared between
            # threads mixes its pages.
            with PillowImage.open(io.BytesIO(self._bytes), formats=("TIFF",)) as image:
                image.seek(index)
                if image.width * image.height > MAX_PAGE_PIXELS:
                    raise DataError(
                        f"{where}: {image.height} x {image.width} pixels are more than a page may"
                        " have"
                    )
                return rgb_pixels(image)
        except DataError:
            raise
        except Exception as error:  # a decoder fed with damaged bytes raises almost anything
            raise DataError(f"{where}: damaged image ({error}); save the page again") from error


def read_pages(path: Path) -> Document:
    """Return the pages of a TIFF, PDF or image file; see Document."""
    return Document(path)


def crop_box(page: Pixels, box: Box) -> Pixels:
    """Cut `box` out of `page` as the consumer does: left and top truncated, right and bottom
    ceiled, clamped to the page.

    Raises DataError when nothing of the box lies on the page.
    """
    height, width = page.shape[:2]
    left, top = max(0, int(box.x)), max(0, int(box.y))
    right, bottom = min(width, -int(-box.right // 1)), min(height, -int(-box.bottom // 1))
    if right <= left or bottom <= top:
        raise DataError(
            f"a box at x {box.x:g}, y {box.y:g} of width {box.width:g} and height {box.height:g}"
            f" lies outside its page of width {width} and height {height}; are the regions those of"
            " another document?"
        )
    return page[top:bottom, left:right]


def _count_tiff_pages(content: bytes, path: Path) -> tuple[int, str]:
    """Count the pages of a TIFF by walking its directories: decoders read a file that was cut off
    as one with fewer pages and say nothing. Here it has one page more than whole ones, and the
    second value says so, else it is "". Raises DataError where not one page is left.
    """
    order = "<" if content[:2] == b"II" else ">"
    pages, visited = 0, set()
    try:
        (version,) = struct.unpack_from(f"{order}H", content, 2)
        big = version == 43  # BigTIFF: 8-byte offsets and counts
        number, pointer, entry_bytes = (
            (f"{order}Q", f"{order}Q", 20) if big else (f"{order}H", f"{order}I", 12)
        )
        (offset,) = struct.unpack_from(pointer, content, 8 if big else 4)
        while offset:
            if offset in visited or pages >= _MAX_PAGES:
                raise DataError(
                    f"{path}: the list of pages runs in a circle after page {pages}; save the"
                    " document again"
                )
            visited.add(offset)
            (entries,) = struct.unpack_from(number, content, offset)
            (offset,) = struct.unpack_from(
                pointer, content, offset + struct.calcsize(number) + entries * entry_bytes
            )
            pages += 1
    except struct.error:
        cut = (
            f"{path}: the TIFF is cut off after page {pages} ({len(content)} bytes); copy the file"
            " again"
        )
        if not pages:
            raise DataError(cut) from None
        return pages + 1, cut
    if not pages:
        raise DataError(f"{path}: a TIFF without pages")
    return pages, ""
