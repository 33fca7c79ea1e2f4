"""What `predict` was given: images of one line, folders of them, or pages whose lines have to be
found.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Literal, get_args

from nordocr_cli.errors import DataError, UsageError, nearest

Layout = Literal["auto", "line", "page"]

_SORTED_UP_TO = 10_000  # images of a folder; a larger folder is read in its own order
# an image at least so high, and less than so many times as wide, is no line
_PAGE_HEIGHT_PX, _PAGE_ASPECT = 400, 4


def resolve_layout(inputs: Sequence[Path], layout: str) -> Literal["line", "page"]:
    """Return what `inputs` are. `auto` takes PDFs, TIFFs of several pages and high images for
    pages, and folders for lines.

    Only headers are read. Raises UsageError for another name, and for pages and lines in one call.
    """
    if layout not in get_args(Layout):
        raise UsageError(f"--layout {layout!r}: {nearest(layout, get_args(Layout))}")
    if layout != "auto":
        return "page" if layout == "page" else "line"
    first: dict[bool, Path] = {}
    for path in inputs:
        first.setdefault(_is_page(path), path)
    if len(first) > 1:
        raise UsageError(
            f"{first[True]} looks like a page, {first[False]} like a line or a folder of them: say"
            " --layout page or line"
        )
    return "page" if True in first else "line"


def _is_page(path: Path) -> bool:
    from PIL import Image

    if path.is_dir() or path.suffix.lower() == ".pdf":
        return not path.is_dir()
    try:
        with Image.open(path) as image:
            (width, height), pages = image.size, getattr(image, "n_frames", 1)
    except Exception:  # noqa: BLE001 # damaged: reading it says how
        return False
    return pages > 1 or (height >= _PAGE_HEIGHT_PX and width < _PAGE_ASPECT * height)


def find_images(inputs: Sequence[Path], layout: Literal["line", "page"] = "line") -> Iterator[Path]:
    """Yield the image files that `inputs` mean; a folder means the images in it, by name up to
    10,000 of them.

    Checks every input before the first is yielded. Raises UsageError for one that is not there, a
    folder without images, and for lines a file of several pages.
    """
    from nordocr_cli.data.documents import IMAGE_SUFFIXES

    for path in inputs:
        if path.is_dir():
            if next(_images_in(path), None) is None:
                raise UsageError(f"{path} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        elif not path.is_file():
            raise UsageError(f"no image or folder {path}")
        elif layout == "line":
            require_one_page(path, UsageError)
    return chain.from_iterable(_in_order(path) if path.is_dir() else [path] for path in inputs)


def require_one_page(path: Path, error: type[UsageError] | type[DataError]) -> None:
    """Raise `error` when `path` is a PDF or a TIFF of several pages."""
    from nordocr_cli.data.documents import read_pages

    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff", ".pdf") and (
        (count := len(read_pages(path))) > 1 or suffix == ".pdf"
    ):
        pages = f"{count} page{'s' if count > 1 else ''}"
        raise error(
            f"{path} has {pages}; say where the lines are (--regions FILE), or let --layout page"
            " find them"
        )


def _images_in(folder: Path) -> Iterator[Path]:
    from nordocr_cli.data.documents import IMAGE_SUFFIXES

    with os.scandir(folder) as entries:
        for entry in entries:
            # A link to nothing is an image that cannot be read, which reading it says.
            if entry.name.lower().endswith(IMAGE_SUFFIXES) and (
                entry.is_file() or not os.path.exists(entry)
            ):
                yield folder / entry.name


def _in_order(folder: Path) -> Iterator[Path]:
    images = _images_in(folder)
    first = list(islice(images, _SORTED_UP_TO + 1))
    yield from sorted(first) if len(first) <= _SORTED_UP_TO else first
    yield from images
