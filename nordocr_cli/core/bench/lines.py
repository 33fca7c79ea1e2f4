"""The lines that bench reads, from a store or from the regions of a document."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.core.eval.fit import require_line_fit
from nordocr_cli.data.layouts.layout import Layout
from nordocr_cli.errors import DataError
from nordocr_cli.metrics.text import canonical
from nordocr_cli.pages.outline import outline_of
from nordocr_cli.progress import Progress
from nordocr_cli.records import Page, Recognition, Region

if TYPE_CHECKING:
    from nordocr_cli.core.bench.plan import BenchRequest
    from nordocr_cli.data.documents import Document
    from nordocr_cli.pages.square_dots import SquarePage
    from nordocr_cli.runtime.protocols import Image


@dataclass(frozen=True)
class Lines:
    """Crops to read, uint8 (height, width, 3) RGB each, with their languages and reference texts
    (`` where not known). `documents` are their sources: pages where one document is read.
    `readable` is false for lines of random pixels, which only take time.
    """

    source: str
    crops: "Sequence[Image]"
    languages: tuple[str, ...]
    texts: tuple[str, ...]
    documents: tuple[str, ...]
    read_s: float = 0.0  # seconds for reading all of them
    pages: tuple[Page, ...] = ()  # where the crops were cut out of a document
    readable: bool = True


def collect_lines(
    request: "BenchRequest",
    regions: Layout | None,
    contracts: Mapping[str, Contract],
    progress: Progress,
) -> Lines:
    """Read the lines of a store, the crops of another source, or the `regions` of a document. The
    line finder finds the regions when they are None. With `request.limit`, that many lines are
    taken, evenly spread. `contracts` are those of the networks that will read, by model.

    Raises ArtifactError for a store that was not made for one of them, DataError when there are no
    lines.
    """
    began = time.perf_counter()
    if request.lines:
        found = _read_source(request.lines, contracts, request.limit, progress)
    else:
        found = _cut_regions(request, regions, progress)
    found = replace(found, read_s=time.perf_counter() - began)
    if not found.crops:
        raise DataError(f"{found.source} has no lines")
    return found


def _read_source(
    path: Path, contracts: Mapping[str, Contract], limit: int | None, progress: Progress
) -> Lines:
    from nordocr_cli.core.eval.lines import open_lines

    with open_lines(path, contract=None, resampler=None) as lines:
        for model, contract in contracts.items():
            require_line_fit(lines, contract, model, progress)
        chosen = _spread(len(lines), limit)
        rows = [lines.row(index) for index in chosen]
        crops = [lines.image(index) for index in chosen]
    return Lines(
        str(path),
        crops,
        languages=tuple(row.language for row in rows),
        texts=tuple(row.text for row in rows),
        documents=tuple(row.source for row in rows),
    )


def _cut_regions(
    request: "BenchRequest", layout: Layout | None, progress: Progress
) -> Lines:
    from nordocr_cli.data.documents import read_pages

    document = request.document
    assert document is not None
    pages = read_pages(document)
    if layout is None:
        return _cut_found(pages, request.limit, progress)

    chosen = set(_spread(layout.num_regions, request.limit))
    number = 0
    crops = []
    kept = []
    sizes = layout.sizes or ((0, 0),) * len(layout.pages)
    for page, size in zip(layout.pages, sizes, strict=True):
        if page.index >= len(pages):
            raise DataError(
                f"{request.regions}: page_index {page.index}, but {document} has {len(pages)} pages"
            )
        numbered = enumerate(page.regions, start=number)
        number += len(page.regions)
        of_page = tuple(region for i, region in numbered if i in chosen)
        if of_page:
            square = _square_page(pages, page.index, size if all(size) else None).smoothed()
            crops += [_cut(square, region) for region in of_page]
            kept.append(Page(page.index, of_page))
    return _lines_of_pages(pages, crops, kept, layout.language)


def _cut_found(document: "Document", limit: int | None, progress: Progress) -> Lines:
    """Cut the lines that the text detector finds on each page. Pages are decoded twice, so that
    neither all pages nor the lines beyond `limit` are held in memory.
    """
    from nordocr_cli.pages.cut import cut_line
    from nordocr_cli.pages.finder import LineFinder
    from nordocr_cli.pages.square_dots import FoundPage

    progress.note(f"no regions of {document.path} are given: the text detector finds them")
    finder = LineFinder()
    found = [
        finder.find(_square_page(document, index).pixels) for index in range(len(document))
    ]
    places = [
        (index, line.outline) for index, page in enumerate(found) for line in page.lines
    ]
    chosen = [places[number] for number in _spread(len(places), limit)]

    crops: list[Image] = []
    kept: list[Page] = []
    for index, of_page in groupby(chosen, key=itemgetter(0)):
        page = FoundPage.of(_square_page(document, index), found[index])
        regions: list[Region] = []
        for _, outline in of_page:
            crops.append(cut_line(page.page.pixels, outline).copy())
            on_page = page.on_page(outline)
            regions.append(Region(on_page.box, polygon=on_page.points))
        kept.append(Page(index, tuple(regions)))
    return _lines_of_pages(document, crops, kept, language="")


def _square_page(
    document: "Document", index: int, size: tuple[int, int] | None = None
) -> "SquarePage":
    from nordocr_cli.pages.square_dots import with_square_dots

    pixels = document.page(index, size)
    return with_square_dots(pixels, document.resolution(index, pixels.shape[:2]))


def _lines_of_pages(
    document: "Document", crops: "Sequence[Image]", pages: Sequence[Page], language: str
) -> Lines:
    return Lines(
        str(document.path),
        crops,
        languages=(language,) * len(crops),
        texts=tuple(region.text for page in pages for region in page.regions),
        documents=tuple(f"page {page.index}" for page in pages for _ in page.regions),
        pages=tuple(pages),
    )


def _cut(page: "SquarePage", region: Region) -> "Image":
    """Cut a line along its outline. Returns a copy, so that not every page stays in memory."""
    from nordocr_cli.pages.cut import cut_line

    outline = outline_of(region.box, region.polygon, region.baseline, region.text)
    return cut_line(page.pixels, page.from_page(outline)).copy()


def _spread(count: int, limit: int | None) -> list[int]:
    """Return `limit` of `count` numbers, evenly spread; all of them without a limit."""
    if limit is None or limit >= count:
        return list(range(count))
    return [i * count // limit for i in range(limit)]


def exact_lines(texts: Sequence[str], readings: Sequence[Recognition]) -> int | None:
    """How many lines match the reference text; None where that is not known."""
    if not any(texts):
        return None
    return sum(
        canonical(text) == canonical(reading.text)
        for text, reading in zip(texts, readings, strict=True)
    )


def pages_read(pages: Sequence[Page], readings: Sequence[Recognition]) -> list[Page]:
    """The same boxes with the text that was read in them."""
    arriving = iter(readings)
    return [
        Page(
            page.index,
            tuple(_region_read(region, next(arriving)) for region in page.regions),
        )
        for page in pages
    ]


def _region_read(region: Region, reading: Recognition) -> Region:
    return Region(region.box, reading.text, reading.confidence, reading.char_confidences)
