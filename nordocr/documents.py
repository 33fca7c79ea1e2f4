"""What comes of reading: a document of pages, a page of lines, a line of words.

All positions are in pixels of the page, with (0, 0) at its top left corner.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.errors import UsageError
from nordocr_cli.records import Box


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
    word with the box of the line where the recognizer does not locate characters. `outline` holds
    the corners (x, y) of the line, from the top left of its text clockwise. Lines of one paragraph
    have one number.
    """

    text: str
    box: Box
    confidence: float | None
    words: tuple[Word, ...]
    char_confidences: tuple[float, ...] = ()
    outline: tuple[tuple[float, float], ...] = ()
    paragraph: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a document, or an image of one line (`index` is None then).

    `index` counts from 0; `height_px` and `width_px` are the size of the page. `error` says why the
    page could not be read; it has no lines then. `doubts` say why the reading may be wrong.
    """

    index: int | None
    height_px: int
    width_px: int
    lines: tuple[Line, ...]
    error: str = ""
    doubts: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The lines in reading order, one per row."""
        return "\n".join(line.text for line in self.lines)


@dataclass(frozen=True)
class Document:
    """One file that was read, page by page.

    `source` is the name that results show: the path, or the name that `read` was given. `file` is
    where the pages can be read again, None for bytes and arrays. `read_pages` is what the writers
    take, without pixels.
    """

    source: Path
    pages: tuple[Page, ...]
    read_pages: tuple[Any, ...]
    file: Path | None = None

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
        return {
            "source": str(self.source),
            "pages": [_page_to_json(page) for page in self.pages],
        }

    def corrected(self, texts: Mapping[tuple[int, int], str]) -> "Document":
        """Return the document with other texts on some lines: (page, line) → text, from 0.

        A corrected line has confidence 1 and no confidences of characters. Raises UsageError for a
        line that is not there.
        """
        from nordocr.reading import with_texts

        return with_texts(self, texts)

    def save(self, path: str | Path, format: str | None = None) -> Path:
        """Write the document in one of `nordocr.FORMATS` and return the path.

        The format follows the file name: .txt, .json, .jsonl, .tsv, .xml (ALTO), .page.xml, .hocr,
        .pdf; `format` decides otherwise. A searchable PDF draws the pages of `file` again, so it
        must still be there; a document from bytes or an array cannot become one. The result appears
        complete or not at all. Raises UsageError for an unknown ending, DataError for a full disk.
        """
        from nordocr.reading import save

        target = Path(path)
        save(self, target, format or format_of(target))
        return target


def format_of(path: Path) -> str:
    """Return the format that a file name stands for. Raises UsageError for an unknown ending."""
    from nordocr_cli.writers.registry import FORMATS, format_of_file

    form = format_of_file(path)
    if form is None:
        known = ", ".join(suffix for one in FORMATS.values() for suffix in one.suffixes)
        raise UsageError(
            f"{path}: no format has this ending (known: {known}); name a format"
        )
    return form.name


def _page_to_json(page: Page) -> dict[str, Any]:
    value: dict[str, Any] = {
        "index": page.index,
        "height_px": page.height_px,
        "width_px": page.width_px,
        "lines": [_line_to_json(line) for line in page.lines],
    }
    if page.error:
        value["error"] = page.error
    if page.doubts:
        value["doubts"] = list(page.doubts)
    return value


def _line_to_json(line: Line) -> dict[str, Any]:
    return {
        "text": line.text,
        "confidence": line.confidence,
        "box": _box_to_json(line.box),
        "outline": [list(point) for point in line.outline],
        "words": [
            {
                "text": word.text,
                "confidence": word.confidence,
                "box": _box_to_json(word.box),
            }
            for word in line.words
        ],
    }


def _box_to_json(box: Box) -> dict[str, float]:
    return {"x": box.x, "y": box.y, "width": box.width, "height": box.height}
