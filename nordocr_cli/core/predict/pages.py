"""Reading the lines of pages: given ones, and those that are found."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from nordocr_cli.core.predict.counts import Counts
from nordocr_cli.core.predict.doubts import page_doubts
from nordocr_cli.errors import DataError
from nordocr_cli.pages.cut import Crop, cut_line
from nordocr_cli.pages.outline import Outline, outline_of
from nordocr_cli.pixels import Pixels
from nordocr_cli.records import Box, Recognition, Resolution
from nordocr_cli.writers.read_page import ReadLine, ReadPage

if TYPE_CHECKING:
    from nordocr_cli.data.documents import Document
    from nordocr_cli.data.layouts.layout import Layout
    from nordocr_cli.pages.finder import LineFinder
    from nordocr_cli.pages.square_dots import SquarePage
    from nordocr_cli.runtime.backends.tesseract.recognizer import (
        TesseractLineFinder,
    )
    from nordocr_cli.runtime.protocols import Recognizer

_LINES_AT_A_TIME = (
    256  # cut out of a page at once: a page of ten thousand lines is no problem
)


@dataclass(frozen=True)
class LinePlace:
    """Where a line is: its outline, and the number of its paragraph."""

    outline: Outline
    paragraph: int | None = None


@dataclass(frozen=True)
class PageOf:
    """A page on its way through reading: the pixels, and where they are from."""

    source: Path
    index: int
    pixels: Pixels
    resolution: Resolution | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


class PageReader:
    """Reads lines of pages with a recognizer. Lines that cannot be cut are counted in `counts`."""

    def __init__(
        self, recognizer: "Recognizer", language: str, crop: Crop, counts: Counts
    ) -> None:
        self._recognizer = recognizer
        self._language = language
        self._crop = crop
        self._counts = counts

    def recognize(self, crops: Sequence[Pixels]) -> list[Recognition]:
        """Read cut lines."""
        return self._recognizer.recognize(list(crops), [self._language] * len(crops))

    def read_given(self, page: PageOf, places: Iterable[LinePlace]) -> ReadPage:
        """Read lines that somebody else found; all of them are kept. With the crop "outline" they
        are cut from a page with square dots, as found ones are.
        """
        from nordocr_cli.pages.square_dots import SquarePage, with_square_dots

        if self._crop == "box":
            square = SquarePage(page.pixels)
        else:
            square = with_square_dots(page.pixels, page.resolution).smoothed()
        scaled = (
            LinePlace(square.from_page(place.outline), place.paragraph) for place in places
        )
        read = self._read(replace(page, pixels=square.pixels), scaled)
        lines = _on_page(list(read), square)
        if lines:
            doubts = page_doubts([line.reading for line in lines])
        else:
            doubts = ()
        return self._done(page, lines, doubts)

    def read_found(
        self, page: PageOf, finder: "LineFinder | TesseractLineFinder"
    ) -> ReadPage:
        """Find the lines of a page and read them; lines that read as nothing are left out."""
        from nordocr_cli.pages.finder import LineFinder
        from nordocr_cli.pages.square_dots import find_lines, with_square_dots

        if isinstance(finder, LineFinder):
            result = find_lines(finder, page.pixels, page.resolution, self.recognize)
            square = result.page
            found = result.found
            places = [LinePlace(line.outline, line.paragraph) for line in found.lines]
            turns = found.quarter_turns
            uncovered = found.uncovered_share
        else:
            square = with_square_dots(page.pixels, page.resolution).smoothed()
            places = [LinePlace(Outline.of_box(box)) for box in finder.find(square.pixels)]
            turns = 0
            uncovered = 0.0

        lines = list(self._read(replace(page, pixels=square.pixels), places))
        doubts = page_doubts([line.reading for line in lines], uncovered)
        kept = [line for line in lines if line.reading.text.strip()]
        kept = _on_page(kept, square)
        return replace(self._done(page, kept, doubts), quarter_turns=turns)

    def _read(self, page: PageOf, places: Iterable[LinePlace]) -> Iterator[ReadLine]:
        waiting = iter(places)
        while some := list(islice(waiting, _LINES_AT_A_TIME)):
            cut: list[tuple[LinePlace, Pixels]] = []
            for place in some:
                try:
                    cut.append((place, cut_line(page.pixels, place.outline, self._crop)))
                except DataError as error:
                    self._counts.fail(
                        DataError(f"{page.source}, page {page.index + 1}: {error}")
                    )
            readings = self.recognize([crop for _, crop in cut])
            for (place, crop), reading in zip(cut, readings, strict=True):
                yield self._line(place, crop, reading, page.size)
            self._counts.progress.advance(len(cut))

    def _line(
        self, place: LinePlace, crop: Pixels, reading: Recognition, size: tuple[int, int]
    ) -> ReadLine:
        """Put a reading at its place on the page, `size` (height, width) in pixels."""
        upright = self._crop == "box" or place.outline.is_upright_box
        outline = place.outline.clamped(*size)
        start = max(0, int(place.outline.box.x)) if upright else 0  # where the cut begins
        edges = character_edges(self._recognizer, crop, reading, start)
        shown = None if upright else outline
        return ReadLine(outline.box, reading, edges, shown, place.paragraph)

    def _done(
        self, page: PageOf, lines: Sequence[ReadLine], doubts: tuple[str, ...]
    ) -> ReadPage:
        self._counts.read += len(lines)
        if doubts:
            self._counts.doubt(f"{page.source}, page {page.index + 1}: {'; '.join(doubts)}")
        return ReadPage(
            page.source,
            page.index,
            page.size,
            tuple(lines),
            page.pixels,
            resolution=page.resolution,
            doubts=doubts,
        )


def character_edges(
    recognizer: "Recognizer", crop: Pixels, reading: Recognition, start: int = 0
) -> tuple[tuple[float, float], ...]:
    """Return the left and right edge of each character in pixels of the cut line, moved right by
    `start`; empty where the recognizer does not know.
    """
    from nordocr_cli.runtime.wide_lines import WideLines

    if not isinstance(recognizer, WideLines):
        return ()
    edges = recognizer.edges(crop.shape[0], crop.shape[1], reading)
    return tuple((start + first, start + last) for first, last in edges)


def _on_page(lines: list[ReadLine], square: "SquarePage") -> list[ReadLine]:
    """The lines of a page with square dots in pixels of the page itself."""
    if not square.is_scaled:
        return lines
    x_factor = 1 / square.x_factor
    y_factor = 1 / square.y_factor
    return [_scaled(line, x_factor, y_factor) for line in lines]


def _scaled(line: ReadLine, x_factor: float, y_factor: float) -> ReadLine:
    """The line on a page scaled by these factors."""
    box = line.box
    moved = Box(
        box.x * x_factor, box.y * y_factor, box.width * x_factor, box.height * y_factor
    )
    if line.outline is None:
        edges = tuple((left * x_factor, right * x_factor) for left, right in line.edges)
        return replace(line, box=moved, edges=edges)
    outline = line.outline.scaled(x_factor, y_factor)
    along = outline.length / line.outline.length
    edges = tuple((left * along, right * along) for left, right in line.edges)
    return replace(line, box=moved, edges=edges, outline=outline)


def read_document(
    document: "Document",
    layout: "Layout",
    regions: Path,
    reader: PageReader,
    counts: Counts,
) -> Iterator[ReadPage]:
    """Yield the pages of `document` with the lines that `layout`, read from `regions`, gives."""
    counts.progress.start("reading", total=layout.num_regions)
    sizes = layout.sizes or ((0, 0),) * len(layout.pages)
    for page, size in zip(layout.pages, sizes, strict=True):
        try:
            pixels = _page_of_layout(document, page.index, size, regions)
        except DataError as error:
            counts.fail(error)
            yield ReadPage(document.path, page.index, size, (), error=str(error))
            continue
        resolution = document.resolution(page.index, pixels.shape[:2])
        places = [
            LinePlace(outline_of(region.box, region.polygon, region.baseline, region.text))
            for region in page.regions
        ]
        found = PageOf(document.path, page.index, pixels, resolution)
        yield reader.read_given(found, places)


def _page_of_layout(
    document: "Document", index: int, size: tuple[int, int], regions: Path
) -> Pixels:
    """The page with that index. Raises DataError when it is not there, damaged, or not the page
    that the layout, of `size` (height, width) where it says so, was made on.
    """
    if index >= len(document) and not document.cut:
        raise DataError(
            f"{regions}: page_index {index}, but {document.path} has {len(document)} pages"
        )
    pixels = document.page(index, size if all(size) else None)
    height, width = pixels.shape[:2]
    if all(size) and size != (height, width):
        raise DataError(
            f"{document.path}, page {index + 1} is {height} x {width} px (height x width), its"
            f" regions in {regions} were found on {size[0]} x {size[1]} px: another scan?"
        )
    return pixels
