"""LMDBs as sources of line images: those of other programs, and our own line stores."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nordocr_cli.data.entry import Entry, make_entry
from nordocr_cli.data.lmdb_file import HEADER_KEY, LmdbReader
from nordocr_cli.errors import DataError
from nordocr_cli.limits import parse_json

if TYPE_CHECKING:
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.pixels import Pixels


def is_line_store(path: Path) -> bool:
    """Whether there is a line store of ours at `path`, or a damaged LMDB that may be one: the
    store's reader names what is wrong.
    """
    if not (path / "data.mdb").is_file():
        return False
    try:
        reader = LmdbReader(path)
    except DataError:
        return True
    has_header = reader.get(HEADER_KEY) is not None
    has_samples = reader.get("num-samples") is not None
    reader.close()
    return has_header or not has_samples


class LmdbSource:
    """An LMDB with `num-samples`, `image-%09d`, `label-%09d` (1-based): other people's, and our own
    line stores.

    Of our own stores the complete rows are read and the pixels checked against their checksums;
    other LMDBs give encoded images and text alone, and the key as id.
    """

    kind = "lmdb"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = LmdbReader(path)
        self._is_line_store = self._reader.get(HEADER_KEY) is not None
        self._store: LineStore | None = None
        self._lock = threading.Lock()
        try:
            self._lines = int(self._reader.get("num-samples") or b"")
        except ValueError:
            self._reader.close()
            raise DataError(
                f"{path}: the LMDB has no number under 'num-samples'; prep reads PARSeq's layout"
            ) from None

    @property
    def files(self) -> Sequence[Path]:
        """See Source."""
        return (self.path / "data.mdb",)

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        for number in range(1, self._lines + 1):
            key = f"image-{number:09d}"
            where = f"{self.path}:{key}"
            try:
                yield self._entry(number, key, where)
            except (ValueError, RecursionError) as error:
                yield Entry(where, key, problem=str(error))

    def _entry(self, number: int, key: str, where: str) -> Entry:
        row = self._reader.get(f"nordocr-row-{number:09d}")
        if row is not None:
            return make_entry({"image": key} | parse_json(row), where, key)
        label = self._reader.get(f"label-{number:09d}")
        if label is None:
            raise ValueError(f"no label-{number:09d}, though num-samples is {self._lines}")
        return make_entry({"image": key, "text": label.decode("utf-8")}, where, key)

    def crop(self, entry: Entry) -> "Pixels":
        """See Source."""
        from nordocr_cli.data.resize import decode_image

        if self._is_line_store:
            # its checksum is compared here: entries() reads the bytes alone
            self._line_store().row(_index(entry))
            return self._line_store().image(_index(entry))
        return decode_image(self._image_bytes(entry), entry.key, keep_gray=True)

    def crop_size(self, entry: Entry) -> tuple[int, int]:
        """See Source."""
        from nordocr_cli.data.resize import image_size

        if self._is_line_store:
            store = self._line_store()
            return store.header.geometry.height, int(store.widths[_index(entry)])
        return image_size(self._image_bytes(entry), entry.key)

    def _line_store(self) -> "LineStore":
        """The same LMDB as a line store, opened for the first image: a dry run does without its
        imports.
        """
        from nordocr_cli.data.store import LineStore

        with self._lock:
            if self._store is None:
                self._store = LineStore(self.path)
            return self._store

    def _image_bytes(self, entry: Entry) -> bytes:
        value = self._reader.get(entry.key)
        if value is None:
            raise FileNotFoundError(f"{self.path}:{entry.key}")
        return value

    def close(self) -> None:
        """See Source."""
        self._reader.close()
        if self._store is not None:
            self._store.close()


def _index(entry: Entry) -> int:
    """Index from 0 of the line under `image-%09d`."""
    return int(entry.key.removeprefix("image-")) - 1
