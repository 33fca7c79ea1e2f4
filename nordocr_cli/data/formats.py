"""Sources of labelled line images, recognized by looking: manifests, source LMDBs, pages with
layouts, or a folder of those.
"""

import json
import os
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nordocr_cli.atomic import require_utf8
from nordocr_cli.data.lmdb_file import HEADER_KEY, LmdbReader
from nordocr_cli.data.manifest import (
    Entry,
    ManifestKind,
    iterate_manifest,
    make_entry,
    manifest_kind,
    resolve_image,
)
from nordocr_cli.data.pages import (
    PAGE_SUFFIXES,
    LayoutSource,
    PageImages,
    crop_size,
    find_layouts,
    layout_beside,
)
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from nordocr_cli.data.resize import Pixels
    from nordocr_cli.data.store import LineStore

# Looked for in a folder, in this order; a folder must have one of them, or exactly one *.jsonl,
# *.tsv or *.csv, or layouts.
LABEL_FILES = (
    *("manifest.jsonl", "labels.jsonl", "metadata.jsonl", "manifest.tsv", "labels.tsv", "gt.tsv"),
    *(
        "manifest.csv",
        "labels.csv",
        "metadata.csv",
        "labels.txt",
        "label.txt",
        "gt.txt",
        "rec_gt.txt",
        "Label.txt",
    ),
)


class Source(Protocol):
    """Labelled line images. `kind` says what it is, `path` the file or folder."""

    kind: str
    path: Path

    @property
    def files(self) -> Sequence[Path]:
        """The files that hold the rows, for provenance."""

    def entries(self) -> Iterator[Entry]:
        """Yield every row, the unusable ones with their problem; reads no image."""

    def crop(self, entry: Entry) -> "Pixels":
        """Return the line image of `entry`, uint8 (h, w, 3) RGB, or (h, w) when it is gray. Safe in
        threads.

        Raises FileNotFoundError when there is none, DataError when it is unusable.
        """

    def crop_size(self, entry: Entry) -> tuple[int, int]:
        """Return (height, width) of `crop(entry)` without decoding it; raises as that does."""

    def close(self) -> None:
        """Let go of open files."""


@dataclass(frozen=True)
class SourceSpec:
    """A source as it was asked for: `path`, the folder (or page image) its image names start from,
    a name for its rows.
    """

    path: Path
    root: Path | None = None
    name: str = ""


def parse_source(text: str) -> SourceSpec:
    """Read `[NAME=]PATH[:ROOT]`. What exists as it stands is a path. Raises UsageError when nothing
    is there, or its name is not UTF-8.
    """
    require_utf8(Path(text))
    name, rest = "", text
    if not Path(text).exists() and (found := re.fullmatch(r"([\w.-]+)=(.+)", text)):
        name, rest = found.groups()
    if Path(rest).exists():
        return SourceSpec(Path(rest), None, name)
    for colon in reversed([match.start() for match in re.finditer(":", rest)]):
        path, root = Path(rest[:colon]), Path(rest[colon + 1 :])
        if path.exists():
            if not root.exists():
                raise UsageError(
                    f"no folder {root}, from which the images of {path} should be read"
                )
            return SourceSpec(path, root, name)
    raise UsageError(f"no such file or folder: {rest}")


def open_source(spec: SourceSpec | Path, progress: Progress = SILENT) -> Source:
    """Open what is at `spec.path`; of a folder with several label files the first of LABEL_FILES,
    warning of the others.

    Raises UsageError when nothing is there, DataError when it is nothing that prep reads.
    """
    spec = spec if isinstance(spec, SourceSpec) else SourceSpec(Path(spec))
    path, root = spec.path, spec.root
    if path.is_file():
        if path.suffix == ".mdb":
            raise UsageError(f"{path}: give the folder of an LMDB, {path.parent}")
        if path.suffix.lower() in PAGE_SUFFIXES:
            return LayoutSource(path, [layout_beside(path)], root or path)
        if path.suffix.lower() in (".xml", ".json", ".hocr"):
            return LayoutSource(path, [path], root)
        return ManifestSource(path, manifest_kind(path), root)
    if not path.is_dir():
        raise UsageError(f"no such file or folder: {path}")
    if (path / "data.mdb").is_file():
        return LmdbSource(path)
    if manifest := _label_file(path, progress):
        return ManifestSource(manifest, manifest_kind(manifest), root)
    if layouts := find_layouts(path):
        return LayoutSource(path, layouts, root)
    if not any(path.iterdir()):
        raise DataError(f"{path} is empty")
    raise DataError(
        f"{path} holds no label file ({', '.join(LABEL_FILES)}), no layouts (ALTO, PAGE, JSON) and"
        " no LMDB (data.mdb)"
    )


def _label_file(folder: Path, progress: Progress) -> Path | None:
    for name in LABEL_FILES:
        if (folder / name).is_file():
            _warn_of_others(folder / name, progress)
            return folder / name
    others = sorted(
        child
        for child in folder.iterdir()
        if child.suffix in (".jsonl", ".tsv", ".csv") and child.is_file()
    )
    if len(others) > 1:
        raise UsageError(
            f"{folder} holds several label files ({', '.join(child.name for child in others)});"
            " name the one meant"
        )
    return others[0] if others else None


def _warn_of_others(chosen: Path, progress: Progress) -> None:
    """Name what may be meant as well. Other tables (of fonts, of prices) lie beside manifests, and
    prep's own lists.
    """
    others = [
        child.name
        for child in sorted(chosen.parent.iterdir())
        if (child.name in LABEL_FILES or child.suffix == ".jsonl")
        and not child.name.endswith(".quarantine.jsonl")
        if child.is_file() and not child.samefile(chosen)
    ]
    if others:
        progress.warn(
            f"{chosen.parent}: {chosen.name} is read, {', '.join(others)} passed over; name the"
            " file to have another"
        )


class ManifestSource:
    """A manifest file; its images are inside `root`, its own folder when left out."""

    def __init__(self, path: Path, kind: ManifestKind, root: Path | None = None) -> None:
        self.path, self.kind, self._kind = path, str(kind), kind
        self.root = root or path.parent
        self._pages = PageImages()

    @property
    def files(self) -> Sequence[Path]:
        """See Source."""
        return (self.path,)

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        return iterate_manifest(self.path, self._kind)

    def crop(self, entry: Entry) -> "Pixels":
        """See Source."""
        from nordocr_cli.data.resize import decode_image

        if entry.place is not None:
            return self._pages.crop(Path(self._find(entry.key)), entry.place)
        return decode_image(self._image_bytes(entry), entry.key, keep_gray=True)

    def crop_size(self, entry: Entry) -> tuple[int, int]:
        """See Source."""
        from nordocr_cli.data.resize import image_size

        return (
            crop_size(entry.place)
            if entry.place is not None
            else image_size(self._image_bytes(entry), entry.key)
        )

    def _find(self, image: str) -> str:
        """The image's path. PaddleOCR's tools name images from the folder above, `train/1.jpg` in
        `train/Label.txt`.
        """
        path = resolve_image(self.root, image)
        if (
            self._kind == "paddle"
            and not os.path.exists(path)
            and (folder := self.root.resolve()).name == image.split("/")[0]
        ):
            return resolve_image(folder.parent, image)
        return path

    def _image_bytes(self, entry: Entry) -> bytes:
        from nordocr_cli.data.resize import read_image_bytes

        path = self._find(entry.key)
        try:
            return read_image_bytes(path)
        except DataError as error:
            if isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
                raise FileNotFoundError(path) from None
            raise

    def close(self) -> None:
        """See Source."""


class LmdbSource:
    """An LMDB with `num-samples`, `image-%09d`, `label-%09d` (1-based): other people's, and our own
    line stores.

    Of a store of ours the whole rows are read and the pixels checked against their checksums; other
    LMDBs give encoded images and text alone, and the key as id.
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
            return make_entry({"image": key} | json.loads(row), where, key)
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
        """The same LMDB as a line store, opened when the first image is wanted: a dry run does
        without its imports.
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
