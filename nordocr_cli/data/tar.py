"""The members of a tar file from outside; damage, cuts and hostile headers are refused.

Python's `tarfile` ends without an error at a damaged header, and reads headers of any size into
memory.
"""

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, cast

from nordocr_cli.errors import DataError

# Of one member, with its PAX headers and the map of a sparse file; real ones have some kilobytes.
_MAXIMUM_HEADER_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_MAGIC = b"ustar"  # in every header since 1988
_COMPRESSIONS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


def tar_members(
    archive: Path, require_size: Callable[[int], None]
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the open file and each member of a tar file, which may be compressed.

    `require_size` gets the number of uncompressed bytes up to the end of each member before its
    contents are read, and raises when they are too many. Raises DataError when the file is damaged
    or cut off, has huge headers, or consists of several tar files; besides what `tarfile` raises.
    """
    with closing(_open(archive)) as content:
        reader = _HeaderReader(content, archive)
        with tarfile.TarFile(fileobj=cast(IO[bytes], reader)) as file:
            while (member := file.next()) is not None:
                require_size(file.offset)
                reader.remaining = None
                yield file, member
                # tarfile keeps every member, with its headers.
                cast(Any, file).members.clear()
                reader.remaining = _MAXIMUM_HEADER_BYTES
            _require_end(reader, file.offset, archive, require_size)


def _open(archive: Path) -> Any:
    with archive.open("rb") as file:
        head = file.read(8)
    for magic, decompress in _COMPRESSIONS.items():
        if head.startswith(magic):
            return decompress(archive)
    return archive.open("rb")


class _HeaderReader:
    """A file for `tarfile`, which limits how much is read of headers while `remaining` is set."""

    def __init__(self, content: IO[bytes], archive: Path) -> None:
        self._content = content
        self._archive = archive
        self.remaining: int | None = _MAXIMUM_HEADER_BYTES
        self.last_block = b""
        self.seek = content.seek
        self.tell = content.tell
        self.close = content.close

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes. Raises DataError for too many bytes of headers."""
        if self.remaining is not None:
            self.remaining -= size
            if size < 0 or self.remaining < 0:
                raise DataError(
                    f"{self._archive}: a header of more than {_MAXIMUM_HEADER_BYTES:,} bytes;"
                    " unpack it yourself if you trust it"
                )
        self.last_block = self._content.read(size)
        return self.last_block


def _require_end(
    reader: _HeaderReader, offset: int, archive: Path, require_size: Callable[[int], None]
) -> None:
    """Raise DataError unless `tarfile` ended at an empty block, which is at `offset`, and no other
    tar file follows.
    """
    # Read already: to go back in compressed data is to unpack all of it again.
    if reader.last_block != bytes(tarfile.BLOCKSIZE):
        raise DataError(
            f"{archive}: damaged or cut off at byte {offset:,}, where a file or the end of the"
            " archive must be; copy the archive again"
        )
    reader.remaining = None
    while chunk := reader.read(_CHUNK_BYTES):
        require_size(reader.tell())
        if _MAGIC in chunk:
            raise DataError(
                f"{archive}: several tar files joined; unpack it with `tar --ignore-zeros -xf`"
            )
