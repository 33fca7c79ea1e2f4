"""The regions of one document from any file that gives them: a layout, or a label file of pages."""

from dataclasses import replace
from pathlib import Path, PureWindowsPath

from nordocr_cli.data.entry import Entry
from nordocr_cli.data.formats import SourceSpec, is_layout, open_source
from nordocr_cli.data.layouts.layout import Layout
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.errors import DataError, UsageError
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
    if path.is_file() and (path.suffix == ".tsv" or is_layout(path)):
        return read_layout(path)
    source = open_source(SourceSpec(path))
    try:
        entries = [entry for entry in source.entries() if entry.place is not None]
    finally:
        source.close()
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
        place, row = entry.place, entry.row
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
