"""The regions of one document from any file that gives them: a layout, or a label file of pages."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from nordocr_cli.data.entry import Entry
from nordocr_cli.data.formats import SourceSpec, is_label_file, is_layout, open_source
from nordocr_cli.data.labels.label_file import LabelFile
from nordocr_cli.data.layouts.layout import Layout
from nordocr_cli.data.layouts.readers import parse_layout
from nordocr_cli.data.manifest import iterate_entries
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import MAX_JSON_BYTES, read_regular
from nordocr_cli.records import Page, Region


def read_regions(path: Path, document: Path) -> Layout:
    """Return the regions of `document` from `path`: a layout (see data/layouts/readers.py), or a
    label file with positions (PaddleOCR, COCO-Text, Label Studio, `predict --format jsonl`), of
    which the rows of that document are taken.

    Raises UsageError when there is no such file, DataError when it is damaged or has no region of
    the document.
    """
    if not path.exists():
        raise UsageError(f"no result or region file {path}")
    if not path.is_file() or path.stat().st_size > MAX_JSON_BYTES:
        return _layout_of_source(path, document)

    # Read once; what kind of file it is shows in its content.
    content = read_regular(path, MAX_JSON_BYTES, "result or region file")
    file = LabelFile(path, path.parent, content=content)
    if path.suffix == ".tsv" or is_layout(file):
        return parse_layout(content, path)
    if is_label_file(file):
        return _layout_of_entries(iterate_entries(file), path, document)
    return _layout_of_source(path, document)


def _layout_of_source(path: Path, document: Path) -> Layout:
    """The regions of `document` from a folder, an archive, a table or a very large label file."""
    source = open_source(SourceSpec(path))
    try:
        return _layout_of_entries(source.entries(), path, document)
    finally:
        source.close()


def _layout_of_entries(found: Iterable[Entry], path: Path, document: Path) -> Layout:
    entries = [entry for entry in found if entry.place is not None]
    if not entries:
        raise DataError(f"{path}: no row says where on a page its line is")
    images = {_name(entry) for entry in entries}
    if len(images) > 1:
        entries = [entry for entry in entries if _name(entry) == document.name]
    if not entries:
        raise DataError(
            f"{path}: no region of {document.name}; it has those of"
            f" {', '.join(sorted(images)[:3])} and others"
        )
    return _layout(entries)


def _name(entry: Entry) -> str:
    return PureWindowsPath(entry.key).name


def _layout(entries: list[Entry]) -> Layout:
    pages: dict[int, list[Region]] = {}
    language = ""
    for entry in entries:
        place = entry.place
        row = entry.row
        assert place is not None
        assert row is not None
        language = language or row.language
        region = Region(place.box, row.text)
        if not place.outline.is_upright_box:
            region = replace(
                region, polygon=place.outline.points, baseline=place.outline.baseline
            )
        pages.setdefault(place.page, []).append(region)
    return Layout(
        tuple(Page(index, tuple(found)) for index, found in sorted(pages.items())), language
    )
