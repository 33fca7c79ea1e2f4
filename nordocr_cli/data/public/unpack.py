"""Unpack an archive from outside: only files and folders, inside the target, within limits."""

import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from nordocr_cli.data.archives import UNREADABLE, require_growth
from nordocr_cli.errors import DataError

MAXIMUM_FILES = 500_000
MAXIMUM_BYTES = 200 << 30


def unpack_into(archive: Path, folder: Path) -> int:
    """Unpack a tar or zip archive into `folder`; return the number of files.

    Links, devices and names that lead out of the folder are refused. Raises DataError.
    """
    try:
        if zipfile.is_zipfile(archive):
            return _unpack_zip(archive, folder)
        return _unpack_tar(archive, folder)
    except UNREADABLE as error:
        raise DataError(f"cannot unpack {archive}: {error}") from None


def _unpack_tar(archive: Path, folder: Path) -> int:
    files = 0
    size = 0
    with tarfile.open(archive) as opened:
        for member in opened:
            # Links are left out: a data set needs none, and they may lead anywhere. So are sparse
            # files, which claim any size with a few bytes.
            if not (member.isfile() or member.isdir()) or member.issparse():
                continue
            files += member.isfile()
            size += member.size
            _require_limits(archive, files, size)
            opened.extract(member, folder, filter="data")
    return files


def _unpack_zip(archive: Path, folder: Path) -> int:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        files = sum(not member.is_dir() for member in members)
        _require_limits(archive, files, sum(member.file_size for member in members))
        for member in members:
            parts = PurePosixPath(member.filename.replace("\\", "/"))
            if parts.is_absolute() or ".." in parts.parts:
                raise DataError(f"{archive}: {member.filename!r} leads out of the archive")
            opened.extract(member, folder)
    return files


def _require_limits(archive: Path, files: int, size: int) -> None:
    if files > MAXIMUM_FILES or size > MAXIMUM_BYTES:
        raise DataError(
            f"{archive} unpacks to more than {MAXIMUM_FILES:,} files or {MAXIMUM_BYTES >> 30} GiB"
        )
    require_growth(archive, size)
