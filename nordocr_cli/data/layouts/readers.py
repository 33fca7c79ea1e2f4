"""The registry of layout formats: files that say where the lines of a document are and what they
say.

The one reader for prep and eval (crops with their texts), predict and bench (regions) and
compare3way (texts of each engine). torch-free. To add a format, write a module with `sniff` and
`read` and add it to `FORMATS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nordocr_cli.data.layouts import alto, funsd, hocr, icdar, json, page, tsv
from nordocr_cli.data.layouts.layout import BadLines, Layout
from nordocr_cli.data.layouts.xml import name_of, parse_xml, root_name, starts_as_xml
from nordocr_cli.errors import DataError
from nordocr_cli.limits import HEAD_BYTES, MAX_JSON_BYTES, read_head, read_regular

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class LayoutFormat:
    """A layout format: `sniff` tells by the first bytes of a file whether it is one, `read` reads
    it (see `read_layout`). `family` is what kind of file it is, before its format is known.
    """

    name: str
    sniff: Callable[[bytes], bool]
    read: Callable[[bytes, Path, BadLines | None], Layout]
    family: Literal["xml", "text", "json"]


def _read_json(content: bytes, path: Path, bad_lines: BadLines | None) -> Layout:
    """Read one of the formats that are JSON, recognized by their keys."""
    value = json.parse_layout_json(content, path)
    if funsd.is_funsd(value):
        return funsd.layout_from_funsd(value, path, bad_lines)
    return json.layout_from_json(value, path, bad_lines)


def _read_foreign_xml(content: bytes, path: Path, bad_lines: BadLines | None) -> Layout:
    """Refuse XML of another kind by its name. Always raises DataError."""
    root = parse_xml(content, path)
    if "abbyy" in root.tag.lower():
        raise DataError(
            f"{path}: ABBYY FineReader XML is not read; export ALTO from FineReader"
        )
    raise DataError(
        f"{path}: the XML's root is <{name_of(root)}>, neither <alto> nor <PcGts> (PAGE)"
    )


LAYOUT_FORMATS = (
    LayoutFormat("alto", alto.sniff, alto.read, "xml"),
    LayoutFormat("page", page.sniff, page.read, "xml"),
    LayoutFormat("hocr", hocr.sniff, hocr.read, "xml"),
    LayoutFormat("xml", starts_as_xml, _read_foreign_xml, "xml"),
    LayoutFormat("tsv", tsv.sniff, tsv.read, "text"),
    LayoutFormat("icdar", icdar.sniff, icdar.read, "text"),
    LayoutFormat("json", json.sniff, _read_json, "json"),
)
# What a folder of layouts may hold; other XML (METS, metadata) is passed over there.
_XML_ROOTS = ("alto", "PcGts", "html")


def read_layout(path: Path, bad_lines: BadLines | None = None) -> Layout:
    """Read a layout in any of FORMATS, recognized by content. Text is brought to NFC.

    Raises UsageError when there is no such file, DataError naming the page and line that is wrong;
    with `bad_lines` such lines are left out of the layout and listed there. XML with a DTD is
    refused: its entities can grow without bounds and read other files.
    """
    content = read_regular(path, MAX_JSON_BYTES, "result or region file")
    return parse_layout(content, path, bad_lines)


def parse_layout(content: bytes, path: Path, bad_lines: BadLines | None = None) -> Layout:
    """Read a layout from the bytes of the file `path`; see `read_layout`."""
    found = format_of_head(content)
    if found is None:
        return _read_json(content, path, bad_lines)
    return found.read(content, path, bad_lines)


def format_of_head(head: bytes) -> LayoutFormat | None:
    """Return the format of a file by its first bytes, None when it is in none of them."""
    beginning = _without_mark(head)
    return next((found for found in LAYOUT_FORMATS if found.sniff(beginning)), None)


def is_layout_xml(path: Path) -> bool:
    """Whether an XML file holds pages. A damaged one may have: it has to be named, not skipped."""
    head = _without_mark(read_head(path))
    root = root_name(head) if starts_as_xml(head) else ""
    return not root or root.lower() in map(str.lower, _XML_ROOTS)


def _without_mark(head: bytes) -> bytes:
    return head[:HEAD_BYTES].removeprefix(_BOM).lstrip()
