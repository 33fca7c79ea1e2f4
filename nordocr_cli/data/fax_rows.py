"""Loading TIFF images in the codes of fax machines (CCITT groups 3 and 4), and noticing damage.

libtiff decodes damaged rows as white paper and says so on the file descriptor of stderr only, so
that Pillow returns the image as if nothing were missing. The descriptor is therefore read while
such an image is decoded. Of data that is missing libtiff says nothing: where a part of the file was
never written it holds zeros, and a long row of zeros is no code.
"""

import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

from PIL import Image

from nordocr_cli.current_file import current_file
from nordocr_cli.errors import DamagedImageWarning

_COMPRESSION, _OFFSETS, _BYTE_COUNTS = (
    259,
    273,
    279,
)  # TIFF tags; places of strips in the file
# Values of _COMPRESSION for CCITT codes, and how many zero bytes in a row are none of their codes:
# fax machines fill the time of a row of group 3 with up to 72.
_ZEROS = {2: 32, 3: 256, 4: 32, 32771: 32}
_OF_LIBTIFF = re.compile(rb"^\S*Fax\w*: .*\n", re.MULTILINE)
_STDERR = 2  # file descriptor
# An image with more errors, as a share of its rows, is refused.
_LARGEST_SHARE = 0.5
_LOCK = threading.Lock()  # a process has one descriptor of stderr


def is_fax_coded(tags: Mapping[int, Any]) -> bool:
    """Whether an image with these TIFF tags is compressed as fax machines do."""
    return tags.get(_COMPRESSION) in _ZEROS


def load_fax_rows(image: Image.Image, tags: Mapping[int, Any]) -> None:
    """Decode an opened Pillow image that is fax-coded and has these TIFF tags.

    Warns with DamagedImageWarning of damage. Raises ValueError when most rows are damaged, and what
    Pillow raises.
    """
    errors = _missing_parts(image, tags)
    with tempfile.TemporaryFile() as file:
        with _LOCK, _stderr_into(file):
            image.load()
        file.seek(0)
        messages = file.read()
    errors += len(_OF_LIBTIFF.findall(messages))
    _pass_on(_OF_LIBTIFF.sub(b"", messages))
    if not errors:
        return

    found = f"{errors} error{'s' if errors > 1 else ''} in its fax code"
    if errors > _LARGEST_SHARE * image.height:
        raise ValueError(found)
    message = f"{current_file()}: {found}; lines of text may be missing"
    warnings.warn(message.removeprefix(": "), DamagedImageWarning, stacklevel=2)


def _missing_parts(image: Image.Image, tags: Mapping[int, Any]) -> int:
    """Return how many strips of an image hold zeros in place of codes."""
    file = getattr(image, "fp", None)
    if file is None:
        return 0
    zeros = bytes(_ZEROS[tags[_COMPRESSION]])
    place = file.tell()
    missing = 0
    for offset, count in zip(
        tags.get(_OFFSETS, ()), tags.get(_BYTE_COUNTS, ()), strict=False
    ):
        file.seek(offset)
        missing += zeros in file.read(count)
    file.seek(place)
    return missing


@contextmanager
def _stderr_into(file: BinaryIO) -> Iterator[None]:
    """Write to `file` what this process writes to the descriptor of stderr in this block."""
    try:
        kept = os.dup(_STDERR)
    except OSError:  # it is closed, so nothing is written
        yield
        return
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(file.fileno(), _STDERR)
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)


def _pass_on(messages: bytes) -> None:
    """Write what others, such as another thread, wrote meanwhile."""
    if messages:
        os.write(_STDERR, messages)
