"""Sources of labelled line images, recognized by looking: a manifest, a folder with one, a source LMDB."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from nordocr_cli.data.lmdb_file import LmdbReader
from nordocr_cli.data.manifest import Entry, ManifestKind, iterate_manifest, make_entry, manifest_kind, resolve_image
from nordocr_cli.errors import DataError, UsageError

# Looked for in a folder, in this order; a folder must have one of them, or exactly one *.jsonl or *.tsv.
LABEL_FILES = ("manifest.jsonl", "labels.jsonl", "manifest.tsv", "labels.tsv", "gt.tsv", "labels.txt", "label.txt", "gt.txt")


class Source(Protocol):
    """Labelled line images. `kind` says what it is, `path` the file or folder."""

    kind: str
    path: Path

    def entries(self) -> Iterator[Entry]:
        """Yield every row, the unusable ones with their problem; reads no image."""

    def image_bytes(self, entry: Entry) -> bytes:
        """Return the encoded image of `entry`. Raises FileNotFoundError when there is none, DataError when it is unusable."""

    def close(self) -> None:
        """Let go of open files."""


def open_source(path: Path) -> Source:
    """Open what is at `path`. Raises UsageError when nothing is there, DataError when it is nothing that prep reads."""
    path = Path(path)
    if path.is_file():
        if path.suffix == ".mdb":
            raise UsageError(f"{path}: give the folder of an LMDB, {path.parent}")
        return ManifestSource(path, manifest_kind(path))
    if not path.is_dir():
        raise UsageError(f"no such file or folder: {path}")
    if (path / "data.mdb").is_file():
        return LmdbSource(path)
    manifest = _label_file(path)
    return ManifestSource(manifest, manifest_kind(manifest))


def _label_file(folder: Path) -> Path:
    for name in LABEL_FILES:
        if (folder / name).is_file():
            return folder / name
    others = sorted(child for child in folder.iterdir() if child.suffix in (".jsonl", ".tsv") and child.is_file())
    if len(others) == 1:
        return others[0]
    if others:
        raise UsageError(f"{folder} holds several label files ({', '.join(child.name for child in others)}); name the one meant")
    if not any(folder.iterdir()):
        raise DataError(f"{folder} is empty")
    raise DataError(f"{folder} holds no label file ({', '.join(LABEL_FILES)}) and no LMDB (data.mdb)")


class ManifestSource:
    """A manifest file; its images are inside its folder."""

    def __init__(self, path: Path, kind: ManifestKind) -> None:
        self.path, self.kind, self._kind = path, str(kind), kind

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        return iterate_manifest(self.path, self._kind)

    def image_bytes(self, entry: Entry) -> bytes:
        """See Source."""
        from nordocr_cli.data.resize import read_image_bytes

        path = resolve_image(self.path.parent, entry.key)
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(path) from None
        except OSError as error:
            raise DataError(f"{path}: cannot read the image: {error.strerror or error}") from error
        return read_image_bytes(path)

    def close(self) -> None:
        """See Source."""


class LmdbSource:
    """An LMDB with `num-samples`, `image-%09d`, `label-%09d` (1-based): other people's, and our own line stores.

    Of a store of ours the whole rows are read; other LMDBs give text alone, and the key as id.
    """

    kind = "lmdb"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = LmdbReader(path)
        try:
            self._lines = int(self._reader.get("num-samples") or b"")
        except ValueError:
            self._reader.close()
            raise DataError(f"{path}: the LMDB has no number under 'num-samples'; prep reads PARSeq's layout") from None

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
            return make_entry({"image": key} | json.loads(row), where, key)
        label = self._reader.get(f"label-{number:09d}")
        if label is None:
            raise ValueError(f"no label-{number:09d}, though num-samples is {self._lines}")
        return make_entry({"image": key, "text": label.decode("utf-8")}, where, key)

    def image_bytes(self, entry: Entry) -> bytes:
        """See Source."""
        value = self._reader.get(entry.key)
        if value is None:
            raise FileNotFoundError(f"{self.path}:{entry.key}")
        return value

    def close(self) -> None:
        """See Source."""
        self._reader.close()
