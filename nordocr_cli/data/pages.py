"""Page images with layouts as sources of line images: each region with its text is a line."""

import json
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from nordocr_cli.charset import to_nfc
from nordocr_cli.data.layouts.layout import BadLines, Layout
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.data.manifest import Entry, Place, has_surrogate, resolve_image
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.records import LineRow

if TYPE_CHECKING:
    from nordocr_cli.data.documents import Document
    from nordocr_cli.data.resize import Pixels

PAGE_SUFFIXES = (".tif", ".tiff", ".pdf", ".png", ".jpg", ".jpeg", ".bmp", ".webp")
# Pages are read one after the other; the threads of prep are at most on two at a time.
_KEPT_PAGES = 3


class PageImages:
    """Cuts lines out of page images and keeps the pages last used. May be shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._document = lru_cache(maxsize=2)(_open_document)
        self._page = lru_cache(maxsize=_KEPT_PAGES)(
            lambda path, index, size: self._document(path).page(index, size)
        )

    def crop(self, path: Path, place: Place) -> "Pixels":
        """Return the line at `place` as uint8 (h, w, 3) RGB.

        Raises FileNotFoundError when there is no such file, DataError when it has no such page or
        one of another size.
        """
        from nordocr_cli.data.documents import crop_box

        if not path.is_file():
            raise FileNotFoundError(path)
        try:
            with self._lock:
                page = self._page(path, place.page, place.page_size)
        except IndexError as error:
            raise DataError(str(error)) from None
        if place.page_size not in (None, page.shape[:2]):
            raise DataError(
                f"{path}: page {place.page + 1} is {page.shape[0]} x {page.shape[1]} px, but its"
                f" layout was made for {place.page_size[0]} x {place.page_size[1]}; give the image"
                " that the layout was made on"
            )
        return crop_box(page, place.box).copy()


def _open_document(path: Path) -> "Document":
    from nordocr_cli.data.documents import Document

    return Document(path)


def crop_size(place: Place) -> tuple[int, int]:
    """Return the (height, width) in pixels of the line at `place`, without reading the page."""
    return max(1, round(place.box.height)), max(1, round(place.box.width))


class LayoutSource:
    """Layout files (see data/layouts/readers.py) and their page images.

    A page's image is looked for by the name that the layout gives, else by the layout's own; in
    `root`, which may also be the image file itself, or beside the layout and one folder up
    (PAGE-XML often lies in `page/`).
    """

    kind = "pages"

    def __init__(self, path: Path, layouts: Sequence[Path], root: Path | None = None) -> None:
        self.path, self.layouts, self.root = path, tuple(layouts), root
        self._images = PageImages()

    @property
    def files(self) -> Sequence[Path]:
        """See Source."""
        return self.layouts

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        for path in self.layouts:
            bad_lines: BadLines = {}
            try:
                layout = read_layout(path, bad_lines)
            except DataError as error:
                yield _bad(path, str(error))
                continue
            yield from self._lines(path, layout, bad_lines)

    def crop(self, entry: Entry) -> "Pixels":
        """See Source."""
        assert entry.place is not None
        return self._images.crop(Path(entry.key), entry.place)

    def crop_size(self, entry: Entry) -> tuple[int, int]:
        """See Source."""
        assert entry.place is not None
        return crop_size(entry.place)

    def close(self) -> None:
        """See Source."""

    def _lines(self, path: Path, layout: Layout, bad_lines: BadLines) -> Iterator[Entry]:
        # One ALTO file may name one image and hold several pages of it; PAGE-XML names an image for
        # each page.
        one_file = len(set(layout.images)) <= 1
        for number, page in enumerate(layout.pages):
            image = self._image(path, layout.images[number] if layout.images else "")
            size = layout.sizes[number] if layout.sizes and all(layout.sizes[number]) else None
            numbers = (line for line in count(1) if (page.index, line) not in bad_lines)
            for line, region in zip(numbers, page.regions, strict=False):
                name = f"{path.stem}:p{page.index + 1}:r{line}"
                text = to_nfc(region.text)
                if has_surrogate(name + image.name + text):
                    what = (
                        f"page {page.index + 1}, line {line}: text {text!r} or the page's name"
                        f" {image.name!r}"
                    )
                    yield _bad(
                        path,
                        f"{what} holds what is no character; a name that is not UTF-8 has to be"
                        " changed",
                    )
                    continue
                row = LineRow(name, image.name, text, layout.language, source=name)
                place = Place(page.index if one_file else 0, region.box, size)
                yield Entry(
                    f"{path}: page {page.index + 1}, line {line}", str(image), row, place=place
                )
        for problem in bad_lines.values():
            yield _bad(path, problem)

    def _image(self, layout: Path, named: str) -> Path:
        if self.root is not None and self.root.is_file():
            return self.root
        folders = [self.root] if self.root is not None else [layout.parent, layout.parent.parent]
        for folder in folders:
            for name in [named, PureWindowsPath(named).name] if named else []:
                try:
                    found = Path(resolve_image(folder, name))
                except DataError:
                    continue  # a path of another machine: its last part is tried next
                if found.is_file():
                    return found
            for suffix in PAGE_SUFFIXES:
                if (found := folder / (layout.stem + suffix)).is_file():
                    return found
        return folders[0] / (PureWindowsPath(named).name or layout.stem + PAGE_SUFFIXES[0])


def _bad(layout: Path, problem: str) -> Entry:
    """An entry without a row; `problem` begins with the layout's name, as errors do."""
    return Entry(str(layout), problem=problem.removeprefix(str(layout)).removeprefix(":").strip())


def find_layouts(folder: Path) -> list[Path]:
    """Return the layout files of a folder in order of name: *.xml there or in `page` or `alto`,
    else *.json that are layouts.
    """
    for place in (folder, folder / "page", folder / "alto"):
        if found := sorted(place.glob("*.xml")):
            return found
    return [path for path in sorted(folder.glob("*.json")) if _is_layout(path)]


def layout_beside(image: Path) -> Path:
    """Return the layout of a page image: the same name with .json or .xml. Raises UsageError when
    there is none.
    """
    for suffix in (".json", ".xml"):
        if (found := image.with_suffix(suffix)).is_file():
            return found
    raise UsageError(
        f"{image} is an image without a layout; put {image.stem}.json or .xml (ALTO, PAGE) beside"
        f" it, or give LAYOUT:{image}"
    )


def _is_layout(path: Path) -> bool:
    """Whether a JSON file has pages. One that cannot be read may have had some: it is to be named,
    not passed over.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return True
    return isinstance(value, dict) and isinstance(value.get("pages"), list)
