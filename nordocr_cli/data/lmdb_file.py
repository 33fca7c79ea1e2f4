"""LMDB files: checked before they are mapped, opened once per process, never replaced by
accident.
"""

import os
import threading
from array import array
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import lmdb

from nordocr_cli.atomic import require_utf8
from nordocr_cli.data.lmdb_pages import check_lmdb_file, check_lmdb_tree
from nordocr_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The key that distinguishes a line store of nordocr from other LMDBs.
HEADER_KEY = "nordocr-header"


class LmdbReader(AbstractContextManager["LmdbReader"]):
    """Reads an LMDB folder by key; safe with several threads and across fork. Raises DataError when
    it is damaged.

    LMDB does not open a file twice in one process, so readers of one file share its environment.
    """

    # (device, inode) → environment, readers
    _shared: dict[tuple[int, int], tuple[lmdb.Environment, int]] = {}  # noqa: RUF012
    _lock = threading.Lock()

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        require_utf8(self.path)
        data = self.path / "data.mdb"
        check_lmdb_file(data)
        with self._lock:
            status = os.stat(data)
            self._key = (status.st_dev, status.st_ino)
            environment, readers = self._shared.get(self._key, (None, 0))
            if environment is None:
                check_lmdb_tree(data)
                try:
                    environment = lmdb.open(
                        str(self.path),
                        readonly=True,
                        lock=False,
                        readahead=False,
                        meminit=False,
                    )
                except lmdb.Error as error:
                    raise DataError(
                        f"{self.path}: cannot open the LMDB: {error}"
                    ) from error
            self._shared[self._key] = (environment, readers + 1)
        self._environment: lmdb.Environment | None = environment

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, key: str) -> bytes | None:
        """Return the value of `key`, None when it is missing."""
        self.require_open()
        assert self._environment is not None
        try:
            with self._environment.begin() as transaction:
                return transaction.get(key.encode())
        except lmdb.Error as error:
            raise DataError(f"{self.path}: damaged at key {key!r}: {error}") from error

    def locate(
        self, keys: Iterable[bytes]
    ) -> "tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]":
        """Return LMDB's mapping of the file as uint8 (bytes,), and the offset and length of each
        key's value in it. It is valid while this reader is open and nothing writes to the file: a
        finished store is never changed, and a store that replaces it is another file. Raises
        DataError naming a key that is missing.
        """
        import numpy as np

        self.require_open()
        assert self._environment is not None
        addresses = array("q")
        lengths = array("q")
        try:
            with self._environment.begin(buffers=True) as transaction:
                for key in keys:
                    value = transaction.get(key)
                    if value is None:
                        raise DataError(
                            f"{self.path}: {key.decode()!r} is missing; make the store again with"
                            " `nordocr prep`"
                        )
                    addresses.append(
                        np.frombuffer(value, dtype=np.uint8).__array_interface__["data"][0]
                    )
                    lengths.append(len(value))
        except lmdb.Error as error:
            raise DataError(f"{self.path}: damaged: {error}") from error
        starts = np.frombuffer(addresses, dtype=np.int64)
        sizes = np.frombuffer(lengths, dtype=np.int64)
        if not len(starts):
            return np.empty(0, np.uint8), starts, sizes
        first = int(starts.min())
        end = int((starts + sizes).max())
        return np.asarray(_Mapped(self, first, end - first)), starts - first, sizes

    def require_open(self) -> None:
        """Raise ValueError when the reader is closed."""
        if self._environment is None:
            raise ValueError(f"{self.path} is closed")

    def close(self) -> None:
        """Release the environment; the last reader closes it."""
        with self._lock:
            if self._environment is None:
                return
            environment, readers = self._shared.pop(self._key)
            if readers > 1:
                self._shared[self._key] = (environment, readers - 1)
            else:
                environment.close()
            self._environment = None


class _Mapped:
    """Gives numpy a part of a reader's mapping, and keeps the reader open as long as an array uses
    it.
    """

    def __init__(self, reader: LmdbReader, address: int, size: int) -> None:
        self._reader = reader
        self.__array_interface__ = {
            "data": (address, True),
            "shape": (size,),
            "typestr": "|u1",
            "version": 3,
        }


def refuse_to_replace(path: Path) -> None:
    """Raise UsageError when `path` exists and is not a line store of nordocr: it would be
    deleted.
    """
    require_utf8(path)
    if not path.exists() and not path.is_symlink():
        return
    problem = "is not a line store of nordocr"
    if path.is_dir() and {child.name for child in path.iterdir()} <= {
        "data.mdb",
        "lock.mdb",
    }:
        try:
            with LmdbReader(path) as reader:
                if reader.get(HEADER_KEY) is not None:
                    return
        except DataError as error:
            problem = f"cannot be read ({error})"
    raise UsageError(
        f"{path} exists and {problem}; nothing was deleted: move it away, or give another --output"
    )
