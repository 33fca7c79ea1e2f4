"""Documents: TIFF, PDF and image files as pages, a page at a time, with their resolution.

Limits of pages and pixels are checked from the headers, before anything is decoded.
"""

import io
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import overload

from nordocr_cli.current_file import reading_file
from nordocr_cli.data.pdf import PdfPages, is_pdf
from nordocr_cli.data.resize import (
    UnsupportedPixelsError,
    decode_image,
    image_size,
    open_image,
    read_image_bytes,
    rgb_pixels,
    unsupported_tiff,
)
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import Limits
from nordocr_cli.pages.cut import crop_box
from nordocr_cli.pixels import Pixels
from nordocr_cli.records import STDIN, Resolution

__all__ = ["IMAGE_SUFFIXES", "STDIN", "Document", "crop_box", "read_content", "read_pages"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")

# Tags of a TIFF page, and their values for reduced images and masks, which are no pages.
_NEW_SUBFILE_TYPE = 254
_REDUCED_OR_MASK = 0b101  # bits
_OLD_SUBFILE_TYPE = 255
_OLD_REDUCED = 2
_INTEGER_TYPES = {3: "H", 4: "I"}  # SHORT and LONG
_SUBFILE_AMONG = 8  # entries are sorted by tag, and these are the smallest
# A document has many pages: its bytes may be more than those of one page.
_MINIMUM_CONTENT = 200_000_000
_MAXIMUM_PIPED = 1 << 30
# Resolutions that no scanner has are left by programs that know none.
_MINIMUM_DPI = 36.0
_MAXIMUM_DPI = 4800.0
# Cameras and editors write that of a screen: unlikely for pages that would be larger than A3.
_SCREEN_DPI = 96.1
_LARGEST_SCREEN_PAGE_INCHES = 17.0


class Document(Sequence[Pixels]):
    """The pages of a file, uint8 (height, width, 3) RGB, decoded one at a time on request; with
    `keep_gray` pages without colour may come back as (height, width), a third of the memory.
    `content` holds the bytes of the file where they were read before.

    Thumbnails and masks in a TIFF are no pages; of a photograph in MPO the first image is one. Of a
    TIFF that was cut off between its pages the last one stands for what is missing: requesting it
    raises DataError. Raises UsageError when there is no such file, DataError when it is not an
    image, is cut off or exceeds `limits`, and MissingBackendError for a PDF without the library for
    it.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits | None = None,
        *,
        keep_gray: bool = False,
        content: bytes | None = None,
    ) -> None:
        self.path = Path(path)
        self._limits = limits or Limits()
        self._keep_gray = keep_gray
        if content is None:
            content = read_content(self.path, self._limits)
        self._bytes = content
        self.cut = ""  # why there is no last page
        self._pdf: PdfPages | None = None
        self._frames: list[int] = []  # of each page of a TIFF its number among all images
        if is_pdf(self._bytes):
            self._pdf = PdfPages(self._bytes, self.path, self._limits)
            self._pages = self._pdf.count
        elif self._bytes[:2] in (b"II", b"MM"):
            self._frames, self.cut = _tiff_pages(self._bytes, self.path, self._limits)
            self._pages = len(self._frames) + bool(self.cut)
        else:
            self._pages = 1

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

    def __iter__(self) -> Iterator[Pixels]:
        return (self.page(index) for index in range(len(self)))

    def page(self, index: int, size: tuple[int, int] | None = None) -> Pixels:
        """Decode page `index` (from 0). A PDF's page is drawn `size` (height, width) pixels large;
        others have a size.
        """
        number = self._number(index)
        if self._pdf is not None:
            return self._pdf.decode(number, size)
        if self._frames:
            return self._tiff_page(number)
        what = str(self.path)
        if self._bytes:
            self._limits.require_pixels(*image_size(self._bytes, what), what)
        return decode_image(
            self._bytes,
            what,
            max_pixels=self._limits.max_pixels,
            keep_gray=self._keep_gray,
        )

    def resolution(self, index: int, size: tuple[int, int]) -> Resolution | None:
        """Return the dots per inch of page `index` (from 0), decoded `size` (height, width) pixels
        large; None where the file does not say.
        """
        number = self._number(index)
        if self._pdf is not None:
            return self._pdf.resolution(number, size)
        return _resolution(self._bytes, self._frames[number] if self._frames else 0, size)

    def _number(self, index: int) -> int:
        if self.cut and index >= len(self) - 1:
            raise DataError(self.cut)
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} pages, no page index {index}")
        return index % len(self)

    def _tiff_page(self, number: int) -> Pixels:
        from PIL import Image as PillowImage
        from PIL import UnidentifiedImageError

        if len(self) == 1:
            where = str(self.path)
        else:
            where = f"{self.path}, page {number + 1}"
        try:
            # Opened again for each page: Pillow's images are lazy, and one that is shared between
            # threads mixes its pages.
            with (
                reading_file(where),
                PillowImage.open(io.BytesIO(self._bytes), formats=("TIFF",)) as image,
            ):
                image.seek(self._frames[number])
                self._limits.require_pixels(image.height, image.width, where)
                return rgb_pixels(image, keep_gray=self._keep_gray)
        except DataError:
            raise
        except UnsupportedPixelsError as error:
            raise DataError(f"{where}: {error}") from None
        except UnidentifiedImageError:
            unsupported = unsupported_tiff(self._bytes, where)
            if unsupported is not None:
                raise unsupported from None
            raise DataError(
                f"{where}: damaged image (its header is no TIFF's); save the page again"
            ) from None
        except Exception as error:
            # A decoder fed with damaged bytes raises almost anything.
            raise DataError(
                f"{where}: damaged image ({error}); save the page again"
            ) from error


def read_pages(
    path: Path,
    limits: Limits | None = None,
    *,
    keep_gray: bool = False,
    content: bytes | None = None,
) -> Document:
    """Return the pages of a TIFF, PDF or image file, `-` for standard input; see Document."""
    return Document(path, limits, keep_gray=keep_gray, content=content)


def read_content(path: Path, limits: Limits | None = None) -> bytes:
    """Return the bytes of a document, `-` for standard input.

    Raises UsageError when there is no such file, DataError when it is larger than its pixels could
    be.
    """
    if path == STDIN:
        return _standard_input()
    if not path.is_file():
        raise UsageError(f"no document {path}")
    return read_image_bytes(
        path, max_pixels=max(_MINIMUM_CONTENT, (limits or Limits()).max_pixels)
    )


@cache
def _standard_input() -> bytes:
    """What is piped in: it can be read once only, and is looked at several times."""
    content = sys.stdin.buffer.read(_MAXIMUM_PIPED + 1)
    if len(content) > _MAXIMUM_PIPED:
        raise DataError(
            f"standard input: more than {_MAXIMUM_PIPED >> 20} MB; save the document to a file"
        )
    if not content:
        raise DataError(
            "standard input is empty: pipe an image or a document into the command"
        )
    return content


def _resolution(content: bytes, frame: int, size: tuple[int, int]) -> Resolution | None:
    try:
        with open_image(content, "") as image:
            if frame:
                image.seek(frame)
            dpi = image.info.get("dpi")
            # Turned by its EXIF data: what was across is down.
            is_turned = image.size == size and image.size != size[::-1]
    except Exception:  # noqa: BLE001 # a damaged image has no resolution; decoding it says why
        return None
    if not dpi:
        return None
    x, y = (float(value) for value in (dpi[::-1] if is_turned else dpi))
    if not all(_MINIMUM_DPI <= value <= _MAXIMUM_DPI for value in (x, y)):
        return None
    longest_inches = max(size[1] / x, size[0] / y)
    if max(x, y) <= _SCREEN_DPI and longest_inches > _LARGEST_SCREEN_PAGE_INCHES:
        return None
    return Resolution(x, y)


@dataclass(frozen=True)
class _TiffForm:
    """How numbers are written in a TIFF: byte order, and offsets of 4 or, in a BigTIFF, 8 bytes."""

    order: str
    is_big: bool

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.is_big else "H")

    @property
    def pointer(self) -> str:
        return self.order + ("Q" if self.is_big else "I")

    @property
    def entry_bytes(self) -> int:
        if self.is_big:
            return 20
        return 12

    @property
    def value_offset(self) -> int:
        if self.is_big:
            return 12
        return 8


def _tiff_pages(content: bytes, path: Path, limits: Limits) -> tuple[list[int], str]:
    """Return the numbers of the images of a TIFF that are pages, and why the last page is missing
    ("" when it is not).

    The directories are walked here, since decoders read a file that was cut off as one with fewer
    pages without a message. Raises DataError when no page is left or there are too many.
    """
    pages: list[int] = []
    visited: set[int] = set()
    try:
        order = "<" if content[:2] == b"II" else ">"
        (version,) = struct.unpack_from(f"{order}H", content, 2)
        form = _TiffForm(order, version == 43)
        (offset,) = struct.unpack_from(form.pointer, content, 8 if form.is_big else 4)
        while offset:
            if offset in visited:
                raise DataError(
                    f"{path}: the list of pages runs in a circle after page {len(visited)}; save"
                    " the document again"
                )
            visited.add(offset)
            limits.require_pages(len(visited), str(path))
            number = len(visited) - 1
            is_page, offset = _tiff_directory(content, offset, form)
            if is_page:
                pages.append(number)
    except (struct.error, IndexError, OverflowError):
        # An offset of BigTIFF of over 63 bits.
        cut = f"{path}: the TIFF is cut off after page {len(visited) - bool(visited)}"
        cut += f" ({len(content)} bytes); copy the file again"
        complete = [number for number in pages if number < len(visited)]
        if not complete:
            raise DataError(cut) from None
        return complete, cut
    if not pages:
        raise DataError(f"{path}: a TIFF without pages")
    return pages, ""


def _tiff_directory(content: bytes, offset: int, form: _TiffForm) -> tuple[bool, int]:
    """Return whether the image whose directory is at `offset` is a page, and where the next one is.

    Raises struct.error when the file ends before it.
    """
    (entries,) = struct.unpack_from(form.count, content, offset)
    first = offset + struct.calcsize(form.count)
    (following,) = struct.unpack_from(
        form.pointer, content, first + entries * form.entry_bytes
    )
    is_page = True
    for number in range(min(entries, _SUBFILE_AMONG)):
        entry = first + number * form.entry_bytes
        tag, kind = struct.unpack_from(f"{form.order}HH", content, entry)
        if tag not in (_NEW_SUBFILE_TYPE, _OLD_SUBFILE_TYPE) or kind not in _INTEGER_TYPES:
            continue
        (value,) = struct.unpack_from(
            form.order + _INTEGER_TYPES[kind], content, entry + form.value_offset
        )
        if tag == _NEW_SUBFILE_TYPE and value & _REDUCED_OR_MASK:
            is_page = False
        if tag == _OLD_SUBFILE_TYPE and value == _OLD_REDUCED:
            is_page = False
    return is_page, following
