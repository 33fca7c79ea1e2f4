"""Sources of labelled line images, recognized by looking: label files, pages with layouts, images
with texts next to them, LMDBs, tables, archives, and folders of those.

prep, eval, bench, data and predict read every source through `open_source`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nordocr_cli.atomic import require_utf8
from nordocr_cli.data.archives import ARCHIVE_SUFFIXES, ArchiveSource, unpack
from nordocr_cli.data.entry import Entry
from nordocr_cli.data.images import is_of_macos
from nordocr_cli.data.labels.label_file import NO_COLUMNS, Columns, LabelFile
from nordocr_cli.data.layouts.readers import format_of_head
from nordocr_cli.data.manifest import (
    find_form,
    iterate_manifest,
    manifest_kind,
)
from nordocr_cli.data.manifest_source import ManifestSource
from nordocr_cli.data.pages import (
    LAYOUT_FOLDERS,
    LAYOUT_SUFFIXES,
    PAGE_SUFFIXES,
    LayoutSource,
    begins_as_layout_text,
    find_layouts,
    is_layout_json,
    is_layout_text,
    is_layout_value,
    layout_beside,
)
from nordocr_cli.data.pairs import PairSource, find_pairs, is_marked_text
from nordocr_cli.data.tables import TABLE_SUFFIXES, TableSource
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import require_regular_or_folder
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from nordocr_cli.pixels import Pixels

# Looked for in a folder, in this order; a folder must have one of them, or exactly one other label
# file, or something else that is read.
LABEL_FILES = (
    *(
        "manifest.jsonl",
        "labels.jsonl",
        "metadata.jsonl",
        "manifest.tsv",
        "labels.tsv",
        "gt.tsv",
    ),
    *("manifest.csv", "labels.csv", "metadata.csv", "labels.txt", "label.txt", "gt.txt"),
    *("rec_gt.txt", "Label.txt", "labels.json", "label.json", "gt.json", "lines.txt"),
)
_LABEL_SUFFIXES = (".jsonl", ".tsv", ".csv", ".json", ".txt")
_QUARANTINE = ".quarantine.jsonl"
# Files of other programs that are not read: their suffixes, what they are, and what to do.
_FOREIGN = {
    (".h5", ".hdf5"): ("HDF5", "export its images and texts as files"),
    (".mat",): ("a MATLAB file", "export its images and texts as files"),
    (".npz", ".npy", ".pkl", ".pickle", ".pt", ".pth"): (
        "a Python archive, which could run code when it is read",
        "export its images and texts as files",
    ),
    (".xlsx", ".xls", ".ods"): ("a spreadsheet", "save it as CSV"),
    (".rar", ".7z", ".tgz", ".gz", ".bz2", ".xz", ".zst"): ("an archive", "unpack it"),
    (".sqlite", ".db"): ("a database", "export its images and texts as files"),
    (".tfrecord", ".tfrecords", ".record"): (
        "a TFRecord",
        "export its images and texts as files",
    ),
}
# Annotations of other tools, by what stands in the first kilobytes.
_ANNOTATIONS = {
    "a labelme file": (b'"shapes"', b'"points"'),
    "a project of the VGG Image Annotator": (b'"_via_img_metadata"',),
    "an XML export of CVAT": (b"<annotations>", b"<image "),
    "Pascal VOC": (b"<annotation>", b"<object>"),
}
_ANNOTATION_HEAD_BYTES = 1 << 16
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_MAX_DEPTH = 6  # of folders in folders


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
    """A source as it was requested: `path`, the folder (or page image) its image names start from,
    a name for its rows, and the columns that hold image and text where these have other names.
    """

    path: Path
    root: Path | None = None
    name: str = ""
    columns: Columns = NO_COLUMNS


def parse_source(text: str, columns: Columns = NO_COLUMNS) -> SourceSpec:
    """Read `[NAME=]PATH[:ROOT]`. What exists under the complete text is a path. ROOT may start from
    the label file's folder.

    Raises UsageError when nothing is there, or its name is not UTF-8.
    """
    require_utf8(Path(text))
    name = ""
    rest = text
    named = re.fullmatch(r"([\w.-]+)=(.+)", text)
    if named and not Path(text).exists():
        name, rest = named.groups()
    if Path(rest).exists():
        return SourceSpec(Path(rest), None, name, columns)
    for colon in reversed([match.start() for match in re.finditer(":", rest)]):
        path = Path(rest[:colon])
        root = Path(rest[colon + 1 :])
        if path.exists():
            return SourceSpec(path, _find_root(path, root), name, columns)
    require_regular_or_folder(Path(rest))
    raise UsageError(f"no such file or folder: {rest}")


def _find_root(path: Path, root: Path) -> Path:
    """The folder of the images of `path`, from here or from the folder of `path`."""
    folder = path if path.is_dir() else path.parent
    for found in (root, folder / root):
        if found.exists():
            return found
    raise UsageError(
        f"no folder {root} with the images of {path}, neither here nor in {folder}"
    )


def open_source(spec: SourceSpec | Path, progress: Progress = SILENT) -> Source:
    """Open what is at `spec.path`. Of a folder with several kinds of sources one is read, with a
    warning that names the others.

    Raises UsageError when nothing is there, DataError when it is nothing that prep reads.
    """
    spec = spec if isinstance(spec, SourceSpec) else SourceSpec(Path(spec))
    if spec.path.is_file():
        return _open_file(spec, progress)
    if not spec.path.is_dir():
        require_regular_or_folder(spec.path)
        raise UsageError(f"no such file or folder: {spec.path}")
    source = _open_folder(spec, progress)
    if source is not None:
        return source
    if not any(spec.path.iterdir()):
        raise DataError(f"{spec.path}: the folder is empty")
    inside = sorted(spec.path.rglob("*"))
    foreign = next((path for path in inside if _foreign_kind(path)), None)
    if foreign is not None:
        raise DataError(_refusal(foreign))
    named = [path for path in inside if path.suffix.lower() in _LABEL_SUFFIXES]
    if named:
        raise DataError(
            f"{named[0]} is in no form that is read; docs/data.md lists the forms. A JSON array of"
            ' {"image": …, "text": …} or a CSV with a header always is'
        )
    raise DataError(
        f"{spec.path} holds no label file ({', '.join(LABEL_FILES)}), no layouts (ALTO, PAGE, hOCR,"
        " JSON), no images with NAME.gt.txt, no tables (Parquet, Arrow) and no LMDB (data.mdb)"
    )


# Files
# ----------------------------------------


def _open_file(spec: SourceSpec, progress: Progress) -> Source:
    path = spec.path
    suffix = spec.path.suffix.lower()
    if suffix == ".mdb":
        raise UsageError(f"{path}: give the folder of an LMDB, {path.parent}")
    if suffix in ARCHIVE_SUFFIXES:
        return _open_archive(spec, progress)
    if suffix in TABLE_SUFFIXES:
        return TableSource(path, [path], spec.columns)
    if _foreign_kind(path):
        raise DataError(_refusal(path))
    if suffix in PAGE_SUFFIXES:
        return LayoutSource(path, [layout_beside(path)], spec.root or path)
    if is_marked_text(path.name):
        return PairSource(path, [path], spec.root)
    if is_layout(LabelFile(path, path.parent)):
        return LayoutSource(path, [path], spec.root)
    return ManifestSource(path, manifest_kind(path, spec.columns), spec.root, spec.columns)


def is_layout(file: LabelFile) -> bool:
    """Whether a file is a layout and not a label file."""
    suffix = file.path.suffix.lower()
    if suffix in LAYOUT_SUFFIXES and suffix != ".json":
        return True
    found = format_of_head(file.head)
    if found is None:
        return False
    if found.family == "json":
        return find_form(file) is None and _is_layout_json(file)
    return found.family == "xml" or begins_as_layout_text(file.head)


def is_label_file(file: LabelFile) -> bool:
    """Whether a file, whose bytes were read, is a label file by its suffix and its content."""
    suffix = file.path.suffix.lower()
    if suffix not in _LABEL_SUFFIXES or is_marked_text(file.path.name):
        return False
    head = (file.content or b"")[:_ANNOTATION_HEAD_BYTES]
    if suffix == ".json" and _annotation_kind(head):
        return False
    return find_form(file) is not None


def _is_layout_json(file: LabelFile) -> bool:
    if file.json is None:
        # Damaged, or with values that only the reader of layouts names.
        return is_layout_json(file.path)
    return is_layout_value(file.json)


def _open_archive(spec: SourceSpec, progress: Progress) -> Source:
    folder = unpack(spec.path)
    try:
        inner = open_source(replace(spec, path=folder, root=None), progress)
    except (DataError, UsageError) as error:
        _remove_folder(folder)
        raise type(error)(str(error).replace(str(folder), f"{spec.path}!")) from None
    return ArchiveSource(spec.path, inner, folder)


def _remove_folder(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _foreign_kind(path: Path) -> tuple[str, str] | None:
    """What a file of another program is, and what to do with it; None for others."""
    suffix = path.suffix.lower()
    for suffixes, kind in _FOREIGN.items():
        if suffix in suffixes and path.is_file():
            return kind
    if suffix in (".json", ".xml") and path.is_file():
        with path.open("rb") as file:
            return _annotation_kind(file.read(_ANNOTATION_HEAD_BYTES))
    if suffix or not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(8) == _HDF5_MAGIC:
            return ("HDF5", "export its images and texts")
        return None


def _annotation_kind(head: bytes) -> tuple[str, str] | None:
    """What a JSON or XML file of another annotation tool is, by its first bytes."""
    for kind, marks in _ANNOTATIONS.items():
        if all(mark in head for mark in marks):
            return (kind, "export it as COCO, with a text for each annotation")
    return None


def _refusal(path: Path) -> str:
    kind, remedy = _foreign_kind(path) or ("unknown", "")
    return f"{path} is {kind}, which is not read; {remedy}"


# Folders
# ----------------------------------------


def _open_folder(spec: SourceSpec, progress: Progress) -> Source | None:
    """Open what a folder holds, or the folders in it; None when there is nothing."""
    sources = _sources_below(spec, progress, _MAX_DEPTH)
    if len(sources) > 1:
        return JoinedSource(spec.path, sources)
    if sources:
        return sources[0]
    return None


def _sources_below(spec: SourceSpec, progress: Progress, depth: int) -> list[Source]:
    """The source in a folder, else those in its folders."""
    here = _source_in(spec, progress)
    if here is not None:
        return [here]
    if depth == 0:
        return []
    found: list[Source] = []
    for child in sorted(spec.path.iterdir()):
        if child.is_dir() and not child.name.startswith((".", "__")):
            found += _sources_below(replace(spec, path=child), progress, depth - 1)
    return found


def _source_in(spec: SourceSpec, progress: Progress) -> Source | None:
    """The first kind of source that a folder itself holds, with a warning that names the others."""
    path = spec.path
    root = spec.root
    columns = spec.columns
    if (path / "data.mdb").is_file():
        from nordocr_cli.data.lmdb_source import LmdbSource

        return LmdbSource(path)
    pairs = find_pairs(path)
    manifest = _label_file(path, columns, pairs)
    layouts = find_layouts(path)
    tables = _files_with(path, TABLE_SUFFIXES)
    archives = _files_with(path, ARCHIVE_SUFFIXES)
    if manifest is None and not layouts and not pairs:
        return _tables_or_archives(spec, tables, archives, progress)

    others = _other_label_files(manifest) if manifest else []
    if manifest is not None:
        source: Source = ManifestSource(
            manifest, manifest_kind(manifest, columns), root, columns
        )
        others += _counted(layouts, path, "layouts") + _counted(pairs, path, "pairs")
    elif layouts:
        source = LayoutSource(path, layouts, root)
        others += _counted(pairs, path, "pairs")
    else:
        source = PairSource(path, pairs, root)
        lonely = source.images_without_text()
        if lonely:
            progress.warn(
                f"{path}: {lonely} images have no text next to them and are not read"
            )
    others += _counted(tables, path, "tables") + _counted(archives, path, "archives")
    if others:
        read = manifest.name + " is" if manifest else _counted_files(source)
        progress.warn(
            f"{path}: {read} read; ignored: {', '.join(others)}. Name these as sources of"
            " their own to read them"
        )
    return source


def _tables_or_archives(
    spec: SourceSpec, tables: Sequence[Path], archives: Sequence[Path], progress: Progress
) -> Source | None:
    if tables:
        return TableSource(spec.path, tables, spec.columns)
    opened = [_open_archive(replace(spec, path=archive), progress) for archive in archives]
    if len(opened) > 1:
        return JoinedSource(spec.path, opened)
    if opened:
        return opened[0]
    return None


def _files_with(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    return sorted(
        child
        for child in folder.iterdir()
        if child.suffix.lower() in suffixes
        and not is_of_macos(child.name)
        and child.is_file()
        and child.stat().st_size
    )


def _counted(files: Sequence[Path], folder: Path, what: str) -> list[str]:
    if not files:
        return []
    first = files[0].relative_to(folder)
    if len(files) == 1:
        return [str(first)]
    return [f"{len(files)} {what} ({first}, …)"]


def _counted_files(source: Source) -> str:
    count = len(source.files)
    if count == 1:
        return f"1 {source.kind.removesuffix('s')} is"
    return f"{count} {source.kind} are"


def _label_file(folder: Path, columns: Columns, pairs: Sequence[Path]) -> Path | None:
    """The label file of a folder, which is none of its pairs. Raises UsageError when several may be
    meant.
    """
    for name in LABEL_FILES:
        if (folder / name).is_file() and _is_label_file(folder / name, columns):
            return folder / name
    single = set(pairs)
    others = [
        path
        for path in _files_with(folder, _LABEL_SUFFIXES)
        if path not in single and _is_meant(path, columns)
    ]
    if len(others) > 1:
        names = ", ".join(path.name for path in others)
        raise UsageError(
            f"{folder} holds several label files ({names}); name the one meant"
        )
    if others:
        return others[0]
    return None


def _is_label_file(path: Path, columns: Columns) -> bool:
    """Whether a file with the name of a label file is one; JSON may be a layout."""
    if path.suffix == ".json":
        return find_form(LabelFile(path, path.parent, columns)) is not None
    return not (path.suffix in (".tsv", ".txt") and is_layout_text(path))


def _is_meant(path: Path, columns: Columns) -> bool:
    """Whether a file with any name is a label file, and not one of prep's own lists."""
    if path.name.endswith(_QUARANTINE) or is_marked_text(path.name):
        return False
    # Annotations of COCO lie in a folder of this name; layouts are recognized elsewhere.
    if path.parent.name in LAYOUT_FOLDERS and path.suffix != ".json":
        return False
    if path.suffix in (".jsonl", ".tsv", ".csv"):
        return _is_label_file(path, columns)
    try:
        file = LabelFile(path, path.parent, columns)
        form = find_form(file)
    except DataError:
        return False
    if form is None:
        return False
    return path.suffix == ".json" or _names_an_image(file, form.name)


def _names_an_image(file: LabelFile, kind: str) -> bool:
    """Whether the first row of a plain text file names an image that is there, or looks so."""
    if kind not in ("tsv", "labels"):
        return True
    first = next(iterate_manifest(file.path, kind, columns=file.columns), None)
    suffix = Path(first.key).suffix.lower() if first else ""
    return suffix in PAGE_SUFFIXES


def _other_label_files(chosen: Path) -> list[str]:
    """What may be meant as well. Other tables (of fonts, of prices) lie next to manifests, and
    prep's own lists.
    """
    return [
        child.name
        for child in sorted(chosen.parent.iterdir())
        if (child.name in LABEL_FILES or child.suffix == ".jsonl")
        and not child.name.endswith(_QUARANTINE)
        and child.is_file()
        and not child.samefile(chosen)
    ]


class JoinedSource:
    """The sources in the folders of one folder, one after the other; see Source.

    A row's id and document begin with the folder that it comes from.
    """

    kind = "folders"

    def __init__(self, path: Path, sources: Sequence[Source]) -> None:
        self.path = path
        self._sources = tuple(sources)

    @property
    def files(self) -> Sequence[Path]:
        """See Source."""
        return [file for source in self._sources for file in source.files]

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        for number, source in enumerate(self._sources):
            folder = self._folder_name(source.path)
            for entry in source.entries():
                yield _in_folder(replace(entry, part=number), folder)

    def crop(self, entry: Entry) -> "Pixels":
        """See Source."""
        return self._sources[entry.part].crop(entry)

    def crop_size(self, entry: Entry) -> tuple[int, int]:
        """See Source."""
        return self._sources[entry.part].crop_size(entry)

    def close(self) -> None:
        """See Source."""
        for source in self._sources:
            source.close()

    def _folder_name(self, path: Path) -> str:
        inside = path.relative_to(self.path)
        if path.is_file() and path.suffix != ".zip":
            parts = inside.parts[:-1]
        else:
            parts = inside.parts
        return "/".join(name for name in parts if name not in LAYOUT_FOLDERS)


def _in_folder(entry: Entry, folder: str) -> Entry:
    row = entry.row
    if row is None or not folder:
        return entry
    document = row.source
    if entry.is_named_by_file and document:
        document = f"{folder}/{document}"
    return replace(entry, row=replace(row, id=f"{folder}/{row.id}", source=document))
