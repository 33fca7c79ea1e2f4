"""The bytes of the input files. Planning looks at them and reading takes them, so that a file is
opened once.
"""

import io
from pathlib import Path
from typing import BinaryIO

from nordocr_cli.errors import DataError
from nordocr_cli.limits import Limits, require_regular_or_folder
from nordocr_cli.records import STDIN

# Enough for some hundred images of lines, or a few pages. What is beyond it is opened again.
_KEPT_BYTES = 64 << 20


class Contents:
    """Keeps the bytes of files that were looked at until they are taken.

    The first file is kept whatever its size, since a document is held in memory while it is read;
    others only up to 64 MB in total. `limits` bounds the size of each file.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits
        self._kept: dict[Path, bytes] = {}
        self._kept_bytes = 0

    def look(self, path: Path) -> BinaryIO:
        """Return a file at its beginning, for reading. The caller closes it.

        Raises UsageError when it is no regular file, DataError when it cannot be opened.
        """
        if path == STDIN:
            return io.BytesIO(self._read(path))
        if path in self._kept:
            return io.BytesIO(self._kept[path])
        require_regular_or_folder(path)
        try:
            if self._has_room(path.stat().st_size):
                return io.BytesIO(self._keep(path))
            return path.open("rb")
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error

    def take(self, path: Path) -> bytes | None:
        """Return the bytes of a file and forget them; None when they were not kept."""
        content = self._kept.pop(path, None)
        if content is not None:
            self._kept_bytes -= len(content)
        return content

    def _has_room(self, size: int) -> bool:
        return not self._kept or self._kept_bytes + size <= _KEPT_BYTES

    def _keep(self, path: Path) -> bytes:
        content = self._read(path)
        self._kept[path] = content
        self._kept_bytes += len(content)
        return content

    def _read(self, path: Path) -> bytes:
        # Imported here, since it brings OpenCV, which `--dry-run` seldom needs.
        from nordocr_cli.data.documents import read_content

        return read_content(path, self._limits)
