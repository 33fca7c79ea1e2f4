"""What comes of reading: a document of pages, a page of lines, a line of words.

All positions are in pixels of the page, with (0, 0) at its top left corner.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.errors import UsageError
from nordocr_cli.records import Box

# File name endings and the format that each stands for, longest first.
_FORMAT_OF_SUFFIX = {
    ".alto.xml": "alto",
    ".hocr": "hocr",
    ".html": "hocr",
    ".json": "json",
    ".jsonl": "jsonl",
    ".pdf": "pdf",
    ".tsv": "tsv",
    ".txt": "text",
    ".xml": "alto",
}


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a line. `confidence` is between 0 and 1, None where the recognizer gives none."""

    text: str
    box: Box
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text. `confidence` is between 0 and 1, None where the recognizer gives none.

    `char_confidences` holds one number per character of `text`, or nothing. `words` is a single
    word with the box of the line where the recognizer does not locate characters.
    """

    text: str
    box: Box
    confidence: float | None
    words: tuple[Word, ...]
    char_confidences: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a document, or an image of one line (`index` is None then).

    `index` counts from 0; `height_px` and `width_px` are the size of the page. `error` says why the
    page could not be read; it has no lines then.
    """

    index: int | None
    height_px: int
    width_px: int
    lines: tuple[Line, ...]
    error: str = ""

    @property
    def text(self) -> str:
        """The lines in reading order, one per row."""
        return "\n".join(line.text for line in self.lines)


@dataclass(frozen=True)
class Document:
    """One file that was read, page by page. `read_pages` is what the writers take, without pixels.

    `source` names the file; for bytes and arrays it is the name that `read` was given.
    """

    source: Path
    pages: tuple[Page, ...]
    read_pages: tuple[Any, ...]

    @property
    def text(self) -> str:
        """The text of all pages; pages are separated by an empty line."""
        return "\n\n".join(page.text for page in self.pages)

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines of all pages."""
        return tuple(line for page in self.pages for line in page.lines)

    def to_json(self) -> dict[str, Any]:
        """Return the document as plain JSON values."""
        return {"source": str(self.source), "pages": [_page_to_json(page) for page in self.pages]}

    def save(self, path: str | Path, format: str | None = None) -> Path:
        """Write the document in one of `nordocr.FORMATS` and return the path.

        The format follows the file name: .txt, .json, .jsonl, .tsv, .alto.xml or .xml, .hocr, .pdf;
        `format` decides otherwise. A searchable PDF draws the pages of `source` again, so that file
        must still be there. The file appears complete or not at all. Raises UsageError for an
        unknown ending, DataError for a full disk.
        """
        from nordocr.reading import save

        target = Path(path)
        save(self, target, format or format_of(target))
        return target


def format_of(path: Path) -> str:
    """Return the format that a file name stands for. Raises UsageError for an unknown ending."""
    name = path.name.lower()
    for suffix, kind in _FORMAT_OF_SUFFIX.items():
        if name.endswith(suffix):
            return kind
    known = ", ".join(_FORMAT_OF_SUFFIX)
    raise UsageError(f"{path}: no format is known for this ending (known: {known}); name a format")


def _page_to_json(page: Page) -> dict[str, Any]:
    value: dict[str, Any] = {
        "index": page.index,
        "height_px": page.height_px,
        "width_px": page.width_px,
        "lines": [_line_to_json(line) for line in page.lines],
    }
    if page.error:
        value["error"] = page.error
    return value


def _line_to_json(line: Line) -> dict[str, Any]:
    return {
        "text": line.text,
        "confidence": line.confidence,
        "box": _box_to_json(line.box),
        "words": [
            {"text": word.text, "confidence": word.confidence, "box": _box_to_json(word.box)}
            for word in line.words
        ],
    }


def _box_to_json(box: Box) -> dict[str, float]:
    return {"x": box.x, "y": box.y, "width": box.width, "height": box.height}
