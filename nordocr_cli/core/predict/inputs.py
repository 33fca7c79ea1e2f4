"""What `predict` was given: images of one line, folders, documents whose lines have to be found."""

import os
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Literal, get_args

from nordocr_cli.core.predict.contents import Contents
from nordocr_cli.errors import DataError, UsageError, nearest
from nordocr_cli.limits import Limits
from nordocr_cli.records import STDIN

PageLayout = Literal["auto", "line", "page", "tesseract"]
ResolvedLayout = Literal["line", "page", "tesseract"]

_SORTED_UP_TO = 10_000  # images of a folder; a larger folder is read in its own order
# An image is no line when it is at least so high and less than so many times as wide.
_PAGE_HEIGHT_PX = 400
_PAGE_ASPECT = 4
# A wider image from this height up, as of several lines of a page, is decoded to count its rows of
# text, unless that takes much memory.
ROWS_HEIGHT_PX = 120
_ROWS_PIXELS = 25_000_000
_SAMPLED = 16  # images of a folder whose headers tell whether it holds pages
_HEADER_BYTES = 1 << 20


def resolve_layout(
    inputs: Sequence[Path], layout: str, contents: Contents | None = None
) -> ResolvedLayout:
    """Return what `inputs` are. `auto` takes PDFs, TIFFs of several pages and high images for
    pages, and a folder for pages when most of its first images are. High images are pages, and
    others that show several rows of text.

    Files that were looked at are kept in `contents`. Raises UsageError for
    another name, and for pages and lines in one call.
    """
    if layout not in get_args(PageLayout):
        raise UsageError(f"--layout {layout!r}: {nearest(layout, get_args(PageLayout))}")
    if layout == "line":
        return "line"
    if layout != "auto":
        if layout == "page":
            return "page"
        return "tesseract"
    contents = contents or Contents()
    first: dict[bool, Path] = {}
    for path in inputs:
        if path.is_dir():
            is_page = _holds_pages(path, contents)
        else:
            is_page = looks_like_page(path, contents)
        first.setdefault(is_page, path)
    if len(first) > 1:
        raise UsageError(
            f"{first[True]} looks like a page, {first[False]} like a line or a folder of them:"
            " give --layout page or --layout line"
        )
    if True in first:
        return "page"
    return "line"


def looks_like_page(path: Path, contents: Contents) -> bool:
    """Return whether a file is a page: a PDF, a TIFF of several pages, an image as high as a page,
    or one with several rows of text. A damaged file is no page, except a TIFF: the reader of
    documents says where it is cut off, and reads the pages before that.
    """
    from nordocr_cli.data.pdf import is_pdf
    from nordocr_cli.data.resize import open_image

    if path.suffix.lower() == ".pdf":
        return True
    try:
        with contents.look(path) as file:
            if is_pdf(file.read(_HEADER_BYTES)):
                return True
            file.seek(0)
            content = file.read()
    except (DataError, UsageError):
        raise
    except Exception:  # noqa: BLE001 # damaged: reading it says how
        return False
    try:
        # Reading the file names its damage; here a warning would come without its name.
        with (
            warnings.catch_warnings(action="ignore"),
            open_image(content, str(path)) as image,
        ):
            width, height = image.size
            pages = getattr(image, "n_frames", 1)
    except Exception:  # noqa: BLE001 # damaged: reading it says how
        return path.suffix.lower() in (".tif", ".tiff")
    if pages > 1 or is_page_size(height, width):
        return True
    return height >= ROWS_HEIGHT_PX and _shows_rows(path, contents, height * width)


def _shows_rows(path: Path, contents: Contents, pixels: int) -> bool:
    """Whether an image of so many pixels shows several rows of text; a damaged one does not."""
    from nordocr_cli.data.resize import decode_image
    from nordocr_cli.pages.ink import text_rows

    if pixels > _ROWS_PIXELS:
        return False
    try:
        with contents.look(path) as file:
            image = decode_image(file.read(), str(path))
    except DataError:
        return False  # reading it names the damage
    return text_rows(image) > 1


def is_page_size(height: int, width: int) -> bool:
    """Return whether an image of that size in pixels is too high for one line of text."""
    return height >= _PAGE_HEIGHT_PX and width < _PAGE_ASPECT * height


def find_images(
    inputs: Sequence[Path],
    layout: ResolvedLayout = "line",
    limits: Limits | None = None,
    contents: Contents | None = None,
) -> Iterator[Path]:
    """Yield the image files that `inputs` mean; a folder means the images in it, by name up to
    10,000 of them.

    Checks every input before the first is yielded. Raises UsageError for one that is not there, a
    folder without images, and for lines a file of several pages.
    """
    from nordocr_cli.data.documents import IMAGE_SUFFIXES

    contents = contents or Contents(limits)
    for path in inputs:
        if path == STDIN:
            continue
        if path.is_dir():
            if next(_images_in(path), None) is None:
                raise UsageError(f"{path} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        elif not path.is_file():
            raise UsageError(f"no image or folder {path}")
        elif layout == "line":
            with contents.look(path) as file:
                require_one_page(path, file.read(), UsageError, limits)
    return chain.from_iterable(
        _in_order(path) if path.is_dir() else [path] for path in inputs
    )


def require_one_page(
    path: Path,
    content: bytes,
    error: type[UsageError] | type[DataError],
    limits: Limits | None = None,
) -> None:
    """Raise `error` when `path`, whose bytes are `content`, is a PDF or a TIFF of several pages.

    A damaged file passes: reading it names the damage, and the other files are read.
    """
    from nordocr_cli.data.documents import read_pages

    suffix = path.suffix.lower()
    if suffix not in (".tif", ".tiff", ".pdf"):
        return
    try:
        count = len(read_pages(path, limits, content=content))
    except DataError:
        return
    if count > 1 or suffix == ".pdf":
        pages = f"{count} page{'s' if count > 1 else ''}"
        raise error(
            f"{path} has {pages}; say where the lines are (--regions FILE), or find them with"
            " --layout page"
        )


def _holds_pages(folder: Path, contents: Contents) -> bool:
    """Whether most of the first images of a folder look like pages."""
    sample = list(islice(_images_in(folder), _SAMPLED))
    pages = sum(looks_like_page(path, contents) for path in sample if path.is_file())
    return pages > len(sample) / 2


def _images_in(folder: Path) -> Iterator[Path]:
    from nordocr_cli.data.documents import IMAGE_SUFFIXES
    from nordocr_cli.data.images import is_of_macos

    with os.scandir(folder) as entries:
        for entry in entries:
            is_named_so = entry.name.lower().endswith(IMAGE_SUFFIXES) and not is_of_macos(
                entry.name
            )
            # A link to nothing is an image that cannot be read, which reading it says.
            if is_named_so and (entry.is_file() or not os.path.exists(entry)):
                yield folder / entry.name


def _in_order(folder: Path) -> Iterator[Path]:
    images = _images_in(folder)
    first = list(islice(images, _SORTED_UP_TO + 1))
    yield from sorted(first) if len(first) <= _SORTED_UP_TO else first
    yield from images
