"""Unpack an archive from outside: only files and folders, inside the target, within limits."""

import zipfile
from functools import partial
from pathlib import Path, PurePosixPath

from nordocr_cli.data.archives import ARCHIVE_ERRORS, require_growth
from nordocr_cli.data.tar import tar_members
from nordocr_cli.errors import DataError
from nordocr_cli.progress import SILENT, Progress

MAXIMUM_FILES = 500_000
MAXIMUM_UNPACKED_BYTES = 200 << 30


def unpack_into(archive: Path, folder: Path, progress: Progress = SILENT) -> int:
    """Unpack a tar or zip archive into `folder`; return the number of files.

    Links are left out, and `progress` warns of them. Raises DataError for damaged and oversized
    archives, devices, sparse files, and names that lead out of the folder.
    """
    try:
        if zipfile.is_zipfile(archive):
            return _unpack_zip(archive, folder)
        return _unpack_tar(archive, folder, progress)
    except ARCHIVE_ERRORS as error:
        raise DataError(f"cannot unpack {archive}: {error}") from None


def _unpack_tar(archive: Path, folder: Path, progress: Progress) -> int:
    files = 0
    links: list[str] = []
    for opened, member in tar_members(archive, partial(_require_bytes, archive)):
        # A link may lead anywhere, and a sparse file claims any size with a few bytes.
        if member.issym() or member.islnk():
            links.append(member.name)
            continue
        if member.issparse() or not (member.isfile() or member.isdir()):
            raise DataError(
                f"{archive}: {member.name!r} is a device or a sparse file, not a plain file"
            )
        files += member.isfile()
        _require_files(archive, files)
        opened.extract(member, folder, filter="data")
    if links:
        progress.warn(
            f"{archive}: {len(links):,} links were left out, the first is {links[0]!r}"
        )
    return files


def _unpack_zip(archive: Path, folder: Path) -> int:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        files = sum(not member.is_dir() for member in members)
        _require_files(archive, files)
        _require_bytes(archive, sum(member.file_size for member in members))
        for member in members:
            parts = PurePosixPath(member.filename.replace("\\", "/"))
            if parts.is_absolute() or ".." in parts.parts:
                raise DataError(f"{archive}: {member.filename!r} leads out of the archive")
            opened.extract(member, folder)
    return files


def _require_files(archive: Path, files: int) -> None:
    if files > MAXIMUM_FILES:
        raise DataError(f"{archive} unpacks to more than {MAXIMUM_FILES:,} files")


def _require_bytes(archive: Path, size: int) -> None:
    if size > MAXIMUM_UNPACKED_BYTES:
        raise DataError(
            f"{archive} unpacks to more than {MAXIMUM_UNPACKED_BYTES >> 30} GiB"
        )
    require_growth(archive, size)
