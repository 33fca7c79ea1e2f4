"""Archives of line images: zip files and tar files (webdataset), unpacked to a temporary folder.

Members that leave the folder, links and devices are refused, and so is what grows beyond the
limits.
"""

import errno
import lzma
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from nordocr_cli.data.entry import Entry
from nordocr_cli.data.tar import tar_members
from nordocr_cli.errors import DataError

if TYPE_CHECKING:
    from nordocr_cli.data.formats import Source
    from nordocr_cli.pixels import Pixels

ARCHIVE_SUFFIXES = (".zip", ".tar")
_MAX_MEMBERS = 5_000_000
_MAX_BYTES = 256 << 30
# A member that says how many bytes it has is held to that; images and texts shrink little.
_MAX_MEMBER_BYTES = 2 << 30
# Images and texts shrink to a twentieth at most; a few kilobytes that stand for gigabytes shrink to
# a thousandth.
_MAX_GROWTH = 100
_ALWAYS_ALLOWED_BYTES = 256 << 20
# What the readers of archives raise on damaged and hostile ones.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
_CHUNK_BYTES = 1 << 20


class ArchiveSource:
    """The source that lies in an archive; see Source. Its places are named `ARCHIVE!/inside`."""

    def __init__(self, path: Path, inner: "Source", folder: Path) -> None:
        self.path = path
        self._inner = inner
        self._folder = folder
        self.kind = f"{path.suffix[1:]} of {inner.kind}"

    @property
    def files(self) -> Sequence[Path]:
        """See Source."""
        return (self.path,)

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        for entry in self._inner.entries():
            yield replace(
                entry, where=self._inside(entry.where), problem=self._inside(entry.problem)
            )

    def crop(self, entry: Entry) -> "Pixels":
        """See Source."""
        try:
            return self._inner.crop(entry)
        except (FileNotFoundError, DataError) as error:
            raise type(error)(self._inside(str(error))) from None

    def crop_size(self, entry: Entry) -> tuple[int, int]:
        """See Source."""
        return self._inner.crop_size(entry)

    def close(self) -> None:
        """See Source."""
        self._inner.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _inside(self, text: str) -> str:
        return text.replace(str(self._folder), f"{self.path}!")


def unpack(archive: Path) -> Path:
    """Unpack an archive and return the temporary folder with its files, which the caller removes.

    Raises DataError when it is damaged, too large, or holds what is no file or leaves the folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="nordocr-"))
    try:
        if archive.suffix.lower() == ".tar":
            members = _tar_members(archive)
        else:
            members = _zip_members(archive)
        total = 0
        for number, (name, content) in enumerate(members):
            if number >= _MAX_MEMBERS:
                raise DataError(
                    f"{archive}: more than {_MAX_MEMBERS:,} files; unpack it yourself"
                )
            target = folder / _safe_name(name, archive)
            target.parent.mkdir(parents=True, exist_ok=True)
            total += _copy(content, target, archive)
            require_growth(archive, total)
    except ARCHIVE_ERRORS as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(_failure(archive, error)) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def require_growth(archive: Path, unpacked_bytes: int) -> None:
    """Raise DataError when an archive unpacks to more bytes than a file of its size may hold."""
    if unpacked_bytes > _MAX_BYTES:
        raise DataError(
            f"{archive}: unpacks to more than {_MAX_BYTES >> 30} GiB; unpack it yourself"
        )
    allowed = max(_ALWAYS_ALLOWED_BYTES, _MAX_GROWTH * archive.stat().st_size)
    if unpacked_bytes > allowed:
        raise DataError(
            f"{archive}: unpacks to more than {_MAX_GROWTH} times its size, as no images and texts"
            " do; unpack it yourself if you trust it"
        )


def _failure(archive: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{archive}: no disk space to unpack it in {tempfile.gettempdir()}; free some, or set"
            " TMPDIR to another folder"
        )
    return f"{archive}: cannot be unpacked ({error}); copy the file again"


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as file:
        require_growth(archive, sum(info.file_size for info in file.infolist()))
        for info in file.infolist():
            if info.is_dir() or info.filename.startswith("__MACOSX/"):
                continue
            with file.open(info) as content:
                yield info.filename, content


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    for file, info in tar_members(archive, partial(require_growth, archive)):
        if info.isdir():
            continue
        # A sparse file claims any size with a few bytes.
        is_file = info.isreg() and not info.issparse()
        content = file.extractfile(info) if is_file else None
        if content is None:
            raise DataError(
                f"{archive}: {info.name!r} is a link, a device or a sparse file, not a plain file"
            )
        yield info.name, content


def _safe_name(name: str, archive: Path) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    first = path.parts[0] if path.parts else ""
    leaves_folder = path.is_absolute() or ".." in path.parts or ":" in first
    if leaves_folder or not first or "\0" in name:
        raise DataError(f"{archive}: {name!r} would be unpacked outside of its folder")
    return Path(*path.parts)


def _copy(content: IO[bytes], target: Path, archive: Path) -> int:
    written = 0
    with target.open("wb") as file:
        while chunk := content.read(_CHUNK_BYTES):
            written += len(chunk)
            if written > _MAX_MEMBER_BYTES:
                raise DataError(f"{archive}: {target.name!r} unpacks to more than 2 GiB")
            file.write(chunk)
    return written
