"""Pictures of the pages of an evaluation, with their wrong lines marked."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nordocr_cli import atomic
from nordocr_cli.data.lmdb_source import is_line_store
from nordocr_cli.data.manifest_lines import ManifestLines
from nordocr_cli.errors import UsageError
from nordocr_cli.metrics.text import marked_difference
from nordocr_cli.records import Recognition
from nordocr_cli.writers.overlay import overlay_png
from nordocr_cli.writers.read_page import ReadLine, ReadPage

if TYPE_CHECKING:
    from nordocr_cli.core.eval.result import EvalResult
    from nordocr_cli.metrics.score import LineScore

# The confidence by which overlays colour a line.
_RIGHT = 1.0
_WRONG = 0.0


def require_pages(store: Path | None) -> None:
    """Raise UsageError when the lines cannot be those of pages."""
    if store is None or is_line_store(store):
        raise UsageError(
            "--overlay draws pages: give their layouts (ALTO, PAGE-XML, hOCR, JSON, Label.txt)"
            " instead of a line store"
        )


def write_overlays(result: "EvalResult", store: Path, folder: Path) -> "EvalResult":
    """Write a PNG for each page that has a wrong line: on the left the page with its lines, green
    where they were read exactly and red where not; on the right the texts, with their edits marked
    as [reference→hypothesis].

    Raises UsageError when no line stands on a page.
    """
    written: list[str] = []
    with ManifestLines(store) as lines:
        for (image, page), members in _by_page(lines, store).items():
            scores = {index: result.scores[index] for index in members}
            if all(score.exact for score in scores.values()):
                continue
            target = _free_name(folder, f"{Path(image).stem}-{page + 1}", written)
            atomic.write_bytes(
                target, overlay_png(_drawn(lines, scores, Path(image), page))
            )
            written.append(str(target))
    return replace(result, files=(*result.files, *written))


def _by_page(lines: ManifestLines, store: Path) -> dict[tuple[str, int], list[int]]:
    """The indices of the lines of each page, by its image and page index."""
    pages: dict[tuple[str, int], list[int]] = {}
    for index in range(len(lines)):
        place = lines.place(index)
        if place is not None:
            pages.setdefault((lines.image_name(index), place.page), []).append(index)
    if not pages:
        raise UsageError(f"--overlay: no line of {store} stands on a page, all are cut out")
    return pages


def _drawn(
    lines: ManifestLines, scores: dict[int, "LineScore"], image: Path, page: int
) -> ReadPage:
    """A page with its lines, as the writer of overlays takes it."""
    pixels = lines.page(next(iter(scores)))
    height, width = pixels.shape[:2]
    return ReadPage(image, page, (height, width), tuple(_marked(lines, scores)), pixels)


def _marked(lines: ManifestLines, scores: dict[int, "LineScore"]) -> Iterator[ReadLine]:
    for index, score in scores.items():
        place = lines.place(index)
        assert place is not None
        text = score.reference
        confidence = _RIGHT
        if not score.exact:
            # Few fonts have the white brackets.
            marked = marked_difference(score.reference, score.hypothesis)
            text = marked.translate({ord("⟦"): "[", ord("⟧"): "]"})
            confidence = _WRONG
        reading = Recognition(text, confidence)
        yield ReadLine(place.box, reading, outline=place.outline)


def _free_name(folder: Path, stem: str, taken: list[str]) -> Path:
    """FOLDER/STEM.png, with a number where two images have the same name."""
    target = folder / f"{stem}.png"
    number = 2
    while str(target) in taken:
        target, number = folder / f"{stem}-{number}.png", number + 1
    return target
