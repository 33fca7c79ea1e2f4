"""The lines of the scans: found on pages, or taken as they are, and written as images."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nordocr_cli.atomic import make_folder, write_bytes, write_text
from nordocr_cli.core.predict.inputs import find_images, resolve_layout
from nordocr_cli.data.formats import open_source, parse_source
from nordocr_cli.data.line_record import encode_png
from nordocr_cli.errors import DataError
from nordocr_cli.limits import read_json_lines
from nordocr_cli.progress import Progress

if TYPE_CHECKING:
    from nordocr_cli.runtime.protocols import Image

LINES_FILE = "lines.jsonl"
_SHOWN_SCANS = 3  # of a message
_MIN_HEIGHT_PX = 8  # lower pieces hold no letters
LABEL_SUFFIXES = (".jsonl", ".tsv", ".csv", ".lmdb")


@dataclass(frozen=True)
class FoundLine:
    """A line image of the run, and the document that it was cut from."""

    id: str
    image: str  # relative to the run's folder of lines
    document: str


def write_lines(
    scans: Sequence[Path], folder: Path, threads: int | None, progress: Progress
) -> list[FoundLine]:
    """Cut the lines out of the scans into `folder`/images and list them in lines.jsonl. A file of
    labels names line images; its texts are not used.

    Raises UsageError for scans that are not there, and DataError where they hold no text.
    """
    make_folder(folder / "images")
    found: list[FoundLine] = []
    progress.start("finding lines", None, "lines")
    try:
        for document, image in _images(scans, threads):
            if image.shape[0] < _MIN_HEIGHT_PX:
                continue
            name = f"line-{len(found):06d}"
            path = Path("images") / f"{name}.png"
            write_bytes(folder / path, encode_png(image))
            found.append(FoundLine(name, str(path), document))
            progress.advance()
    finally:
        progress.finish()
    if not found:
        named = ", ".join(map(str, scans[:_SHOWN_SCANS]))
        if len(scans) > _SHOWN_SCANS:
            named = f"{named} and {len(scans) - _SHOWN_SCANS} more"
        raise DataError(
            f"no line of text was found in {named}; `nordocr read SCAN -o"
            " page.png` shows what is found on a page"
        )
    lines = (json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in found)
    write_text(folder / LINES_FILE, "".join(lines))
    return found


def read_found_lines(folder: Path) -> list[FoundLine]:
    """Read the list that `write_lines` wrote."""
    path = folder / LINES_FILE
    try:
        found = [FoundLine(**row) for _, row in read_json_lines(path)]
    except TypeError as error:
        raise DataError(
            f"{path} is damaged ({error}); delete {folder} and run the same command again"
        ) from error
    return found


def _images(scans: Sequence[Path], threads: int | None) -> "Iterator[tuple[str, Image]]":
    """Yield (document, line image)."""
    labelled = [path for path in scans if path.suffix.lower() in LABEL_SUFFIXES]
    others = [path for path in scans if path not in labelled]
    for path in labelled:
        yield from _of_labels(path)
    if not others:
        return
    others = [folder for path in others for folder in _folders_with_images(path)]
    layout = resolve_layout(others, "auto")
    if layout == "line":
        yield from _of_line_images(others)
    else:
        yield from _of_pages(others, threads)


def _folders_with_images(path: Path) -> list[Path]:
    """Return the folders in and below `path` that hold images, by name; `path` itself where it is a
    file, or where there are none.
    """
    from nordocr_cli.data.documents import IMAGE_SUFFIXES

    if not path.is_dir():
        return [path]
    folders = {
        file.parent for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES
    }
    return sorted(folders) or [path]


def _of_labels(path: Path) -> "Iterator[tuple[str, Image]]":
    from nordocr_cli.data.split import document_of_row

    with closing(open_source(parse_source(str(path)))) as source:
        for entry in source.entries():
            if entry.row is None:
                continue
            try:
                image = source.crop(entry)
            except (DataError, FileNotFoundError):
                continue  # a line that cannot be opened cannot be read either
            yield document_of_row(entry.row), _rgb(image)


def _of_line_images(paths: Sequence[Path]) -> "Iterator[tuple[str, Image]]":
    from nordocr_cli.data.resize import read_image

    for path in find_images(paths):
        yield path.parent.name, read_image(path)


def _of_pages(paths: Sequence[Path], threads: int | None) -> "Iterator[tuple[str, Image]]":
    from nordocr_cli.data.documents import read_pages
    from nordocr_cli.pages.cut import cut_line
    from nordocr_cli.pages.finder import LineFinder
    from nordocr_cli.pages.square_dots import find_lines

    finder = LineFinder(threads)
    files = list(find_images(paths, "page"))
    for path in files:
        pages = read_pages(path)
        for index, page in enumerate(pages):
            # Of a single document pages are held out, of several documents.
            document = f"{path.stem}:{index + 1}" if len(files) == 1 else path.stem
            resolution = pages.resolution(index, page.shape[:2])
            result = find_lines(finder, page, resolution)
            for line in result.found.lines:
                yield document, cut_line(result.page.pixels, line.outline)


def _rgb(image: "Image") -> "Image":
    import numpy as np

    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    return image
