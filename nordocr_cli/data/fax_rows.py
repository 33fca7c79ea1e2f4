"""Loading TIFF images in the codes of fax machines (CCITT groups 3 and 4), and noticing damage.

libtiff decodes damaged rows as white paper and says so on the file descriptor of stderr only, so
that Pillow returns the image as if nothing were missing. The descriptor is therefore read while
such an image is decoded. Of data that is missing libtiff says nothing: where a part of the file was
never written it holds zeros, and a long row of zeros is no code.

Zeros at the end of a strip may also fill up a file whose rows are all there. Then libtiff does not
read them, and other bytes in their place give the same pixels and no error.
"""

import io
import os
import random
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from nordocr_cli.current_file import current_file
from nordocr_cli.errors import DamagedImageWarning

# TIFF tags
_COMPRESSION = 259
_OFFSETS = 273
_ROWS_A_STRIP = 278
_BYTE_COUNTS = 279
# Values of _COMPRESSION for CCITT codes, and how many zero bytes in a row are none of their codes:
# fax machines fill the time of a row of group 3 with up to 72.
_ZEROS = {2: 32, 3: 256, 4: 32, 32771: 32}
_OF_LIBTIFF = re.compile(rb"^\S*Fax\w*: .*\n", re.MULTILINE)
# What libtiff says of the list of pages, under a name that nobody has given. data/documents.py
# reads that list too, and reports what is wrong with it under the name of the document.
_OF_PAGE_LIST = re.compile(rb"^TIFF\w*Directory: .*tempfile\.tif.*\n", re.MULTILINE)
_STDERR = 2  # file descriptor
# An image with more errors, as a share of its rows, is refused.
_LARGEST_SHARE = 0.5
# A last code may end with up to three zero bits in the first byte of zeros, counted from either end
# of the byte. The bits behind them end every longer row of zero bits.
_CODE_MAY_END_HERE = 0x18
# Group 3 has this code between rows, which the decoder looks for; it reads the same from either end
# of a byte.
_GROUP_3 = 3
_END_OF_ROW = b"\x00\x18"


def is_fax_coded(tags: Mapping[int, Any]) -> bool:
    """Whether an image with these TIFF tags is compressed as fax machines do."""
    return tags.get(_COMPRESSION) in _ZEROS


def load_fax_rows(image: Image.Image, tags: Mapping[int, Any]) -> None:
    """Decode an opened Pillow image that is fax-coded and has these TIFF tags.

    Warns with DamagedImageWarning of damage. Raises ValueError when most rows are damaged, and what
    Pillow raises.
    """
    strips = _strips_with_zeros(image, tags)
    errors = sum(strip.is_damaged for strip in strips)
    padded = [strip for strip in strips if not strip.is_damaged]
    other = _with_other_ends(image, padded, tags) if padded else None

    errors_of_libtiff = _load(image)
    errors += errors_of_libtiff
    if other is not None:
        errors += _strips_that_end_early(image, other, padded, tags, errors_of_libtiff)
    if not errors:
        return

    found = f"{errors} error{'s' if errors > 1 else ''} in its fax code"
    if errors > _LARGEST_SHARE * image.height:
        raise ValueError(found)
    message = f"{current_file()}: {found}; lines of text may be missing"
    warnings.warn(message.removeprefix(": "), DamagedImageWarning, stacklevel=2)


# zeros in place of codes
# ----------------------------------------


@dataclass(frozen=True)
class _Strip:
    """A strip with a long row of zeros: inside it (`is_damaged`), or only from byte `end` of the
    file on, for `zeros` bytes.
    """

    number: int
    is_damaged: bool
    end: int
    zeros: int


def _strips_with_zeros(image: Image.Image, tags: Mapping[int, Any]) -> list[_Strip]:
    """Return the strips of an image that hold more zeros in a row than a code has."""
    file = getattr(image, "fp", None)
    if file is None:
        return []
    zeros = bytes(_ZEROS[tags[_COMPRESSION]])
    place = file.tell()
    found: list[_Strip] = []
    places = zip(tags.get(_OFFSETS, ()), tags.get(_BYTE_COUNTS, ()), strict=False)
    for number, (offset, count) in enumerate(places):
        file.seek(offset)
        data = file.read(count)
        if zeros not in data:
            continue
        codes = data.rstrip(b"\0")
        is_damaged = not codes or zeros in codes
        found.append(
            _Strip(number, is_damaged, offset + len(codes), len(data) - len(codes))
        )
    file.seek(place)
    return found


def _with_other_ends(
    image: Image.Image, strips: list[_Strip], tags: Mapping[int, Any]
) -> TiffImageFile:
    """Return the image, not yet decoded, with other bytes than zeros at the ends of strips."""
    file: Any = getattr(image, "fp", None)
    place = file.tell()
    file.seek(0)
    data = bytearray(file.read())
    file.seek(place)
    for strip in strips:
        other = bytearray(random.Random(strip.number).randbytes(strip.zeros))
        other[0] = _CODE_MAY_END_HERE
        if tags[_COMPRESSION] == _GROUP_3:
            for start in range(1, strip.zeros - 1, 8):
                other[start : start + 2] = _END_OF_ROW
        data[strip.end : strip.end + strip.zeros] = other
    changed = TiffImageFile(io.BytesIO(data))
    changed.seek(image.tell())
    return changed


def _strips_that_end_early(
    image: Image.Image,
    other: TiffImageFile,
    strips: list[_Strip],
    tags: Mapping[int, Any],
    errors_of_libtiff: int,
) -> int:
    """Return for how many of the strips libtiff reads the bytes behind their codes: `other`, which
    has other bytes there, has other pixels or more errors than the decoded `image`.
    """
    try:
        more_errors = _load(other) - errors_of_libtiff
    except OSError:  # the other bytes were read, and are no codes at all
        return len(strips)
    is_row_different = (np.asarray(image) != np.asarray(other)).any(axis=1)
    rows = tags.get(_ROWS_A_STRIP, image.height)
    differing = sum(
        bool(is_row_different[strip.number * rows : (strip.number + 1) * rows].any())
        for strip in strips
    )
    if is_row_different.any():
        # Pillow turns an image upright, and its strips with it.
        differing = max(differing, 1)
    return max(differing, min(more_errors, len(strips)))


# what libtiff says
# ----------------------------------------


class _Redirection:
    """Where the descriptor of stderr is kept while libtiff writes to a file in its place. A process
    has one such descriptor, so one image is decoded at a time.

    A fork in another thread copies this state: the child gets its own lock and stderr back.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._kept: int | None = None

    def start(self, file: BinaryIO) -> None:
        """Write to `file` what this process writes to stderr, unless stderr is closed."""
        with suppress(OSError):
            self._kept = os.dup(_STDERR)
        if self._kept is not None:
            os.dup2(file.fileno(), _STDERR)

    def stop(self) -> None:
        """Write to stderr again."""
        kept, self._kept = self._kept, None
        if kept is not None:
            os.dup2(kept, _STDERR)
            os.close(kept)

    def restart_in_child(self) -> None:
        """Leave what another thread of the parent process had begun."""
        self.lock = threading.Lock()
        self.stop()


_REDIRECTION = _Redirection()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_REDIRECTION.restart_in_child)


def _load(image: Image.Image) -> int:
    """Decode an image; return how many errors libtiff found: none where there is neither memory nor
    a folder for what it writes.
    """
    file = _open_scratch_file()
    if file is None:
        image.load()
        return 0
    with file:
        with _stderr_into(file):
            image.load()
        file.seek(0)
        messages = file.read()
    of_others = _OF_PAGE_LIST.sub(b"", _OF_LIBTIFF.sub(b"", messages))
    _pass_on(of_others)
    return len(_OF_LIBTIFF.findall(messages))


def _open_scratch_file() -> BinaryIO | None:
    """Open a file in memory, or in the temporary folder where the system has none in memory."""
    if hasattr(os, "memfd_create"):
        with suppress(OSError):
            return os.fdopen(os.memfd_create("nordocr-stderr"), "w+b")
    with suppress(OSError):
        return tempfile.TemporaryFile()
    return None


@contextmanager
def _stderr_into(file: BinaryIO) -> Iterator[None]:
    """Write to `file` what this process writes to the descriptor of stderr in this block."""
    with _REDIRECTION.lock:
        try:
            _REDIRECTION.start(file)
            yield
        finally:
            _REDIRECTION.stop()


def _pass_on(messages: bytes) -> None:
    """Write what others, such as another thread, wrote meanwhile."""
    if messages:
        with suppress(OSError):  # the others would not have reached a closed stderr either
            os.write(_STDERR, messages)
