"""The formats of results: their names, the suffixes of their files, and what writes them.

A new format is a function from pages to pieces of a file, and a row of ALL.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.errors import UsageError, nearest

if TYPE_CHECKING:
    from nordocr_cli.writers.read_page import ReadPage


@dataclass(frozen=True)
class Format:
    """A format of results. `open_writer` returns the function that writes it.

    A binary format is written to a file only. `of_one_document` says that a file describes one
    image or document, `keeps_errors` that it has a place for what could not be read,
    `is_one_file_a_page` that each page becomes a file of its own, and `draws_pages` that it needs
    the pixels of the pages.
    """

    name: str
    suffixes: tuple[str, ...]
    open_writer: Callable[[], Callable[..., Any]]
    is_binary: bool = False
    of_one_document: bool = False
    keeps_errors: bool = False
    is_one_file_a_page: bool = False
    draws_pages: bool = False

    def write(self, pages: "Iterable[ReadPage]", **options: Any) -> Any:
        """Yield the file piece by piece, str or bytes."""
        return self.open_writer()(pages, **options)


def _tables(name: str) -> Callable[[], Callable[..., Any]]:
    def open_writer() -> Callable[..., Any]:
        from nordocr_cli.writers import tables

        writer: Callable[..., Any] = getattr(tables, name)
        return writer

    return open_writer


def _alto() -> Callable[..., Any]:
    from nordocr_cli.writers.alto import write_alto

    return write_alto


def _page_xml() -> Callable[..., Any]:
    from nordocr_cli.writers.page_xml import page_xml

    return lambda pages: (page_xml(page) for page in pages)


def _hocr() -> Callable[..., Any]:
    from nordocr_cli.writers.hocr import write_hocr

    return write_hocr


def _pdf() -> Callable[..., Any]:
    from nordocr_cli.writers.pdf import write_pdf

    return write_pdf


def _overlay() -> Callable[..., Any]:
    from nordocr_cli.writers.overlay import overlay_png

    return lambda pages: (overlay_png(page) for page in pages)


ALL = (
    Format("text", (".txt",), _tables("write_text_pages")),
    Format("json", (".json",), _tables("write_json_pages"), keeps_errors=True),
    Format("jsonl", (".jsonl",), _tables("write_jsonl"), keeps_errors=True),
    Format("tsv", (".tsv",), _tables("write_tsv")),
    Format("alto", (".alto", ".alto.xml", ".xml"), _alto, of_one_document=True),
    Format("page", (".page", ".page.xml"), _page_xml, is_one_file_a_page=True),
    Format("hocr", (".hocr", ".html", ".htm"), _hocr),
    Format("pdf", (".pdf",), _pdf, is_binary=True, draws_pages=True),
    Format(
        "overlay",
        (".png",),
        _overlay,
        is_binary=True,
        is_one_file_a_page=True,
        draws_pages=True,
    ),
)
FORMATS = {form.name: form for form in ALL}


def require_format(name: str) -> Format:
    """Return the format of that name. Raises UsageError."""
    if name not in FORMATS:
        raise UsageError(f"--format {name!r}: {nearest(name, FORMATS)}")
    return FORMATS[name]


def format_of_file(path: Path) -> Format | None:
    """Return the format that the suffix of a file stands for, the longest suffix first."""
    name = path.name.lower()
    fitting = [
        (len(suffix), form)
        for form in FORMATS.values()
        for suffix in form.suffixes
        if name.endswith(suffix)
    ]
    if fitting:
        return max(fitting, key=lambda found: found[0])[1]
    return None
