"""Page images with layouts as sources of line images: each region with its text is a line."""

import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from nordocr_cli.charset import to_nfc
from nordocr_cli.data.entry import Entry, Place, has_surrogate
from nordocr_cli.data.images import IMAGE_FOLDERS, is_of_macos, resolve_image
from nordocr_cli.data.layouts import icdar, json
from nordocr_cli.data.layouts.funsd import is_funsd
from nordocr_cli.data.layouts.layout import BadLines, Layout
from nordocr_cli.data.layouts.readers import format_of_head, is_layout_xml, read_layout
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import MAX_JSON_BYTES, read_head, read_regular
from nordocr_cli.pages.outline import outline_of
from nordocr_cli.records import LineRow

if TYPE_CHECKING:
    from nordocr_cli.data.documents import Document
    from nordocr_cli.pages.square_dots import SquarePage
    from nordocr_cli.pixels import Pixels

PAGE_SUFFIXES = (".tif", ".tiff", ".pdf", ".png", ".jpg", ".jpeg", ".bmp", ".webp")
LAYOUT_SUFFIXES = (".xml", ".json", ".hocr", ".html")
# Folders that programs put layouts into, next to or below their images: part of no document's name.
LAYOUT_FOLDERS = ("page", "alto", "PAGE", "ALTO", "xml", "hocr", "annotations", "box", "gt")
# Pages are read one after the other; the threads of prep are at most on a few at a time.
_KEPT_PAGES = _KEPT_DOCUMENTS = 4
# Size in bytes and time of change in nanoseconds.
_Signature = tuple[int, int]


class PageImages:
    """Cuts lines out of page images and keeps the pages last used. May be shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._document = lru_cache(maxsize=_KEPT_DOCUMENTS)(_open_document)
        self._page = lru_cache(maxsize=_KEPT_PAGES)(self._decoded)

    def crop(self, path: Path, place: Place) -> "Pixels":
        """Return the line at `place` as uint8 (h, w, 3) RGB, cut along its outline from a page with
        square dots.

        Raises FileNotFoundError when there is no such file, DataError when it has no such page or
        one of another size.
        """
        from nordocr_cli.pages.cut import cut_line

        if not path.is_file():
            raise FileNotFoundError(path)
        status = path.stat()
        signature = (status.st_size, status.st_mtime_ns)
        try:
            with self._lock:
                height, width, square = self._page(
                    path, signature, place.page, place.page_size
                )
        except IndexError as error:
            raise DataError(str(error)) from None
        if place.page_size not in (None, (height, width)):
            raise DataError(
                f"{path}: page {place.page + 1} is {height} x {width} px, but its"
                f" layout was made for {place.page_size[0]} x {place.page_size[1]}; give the image"
                " that the layout was made on"
            )
        return cut_line(square.pixels, square.from_page(place.outline)).copy()

    def _decoded(
        self, path: Path, signature: _Signature, index: int, size: tuple[int, int] | None
    ) -> "tuple[int, int, SquarePage]":
        """Return the height and width of a page, and what its lines are cut from."""
        from nordocr_cli.pages.square_dots import with_square_dots

        document = self._document(path, signature)
        page = document.page(index, size)
        height, width = page.shape[:2]
        resolution = document.resolution(index, (height, width))
        return height, width, with_square_dots(page, resolution).smoothed()


def _open_document(path: Path, _: _Signature) -> "Document":
    from nordocr_cli.data.documents import Document

    return Document(path)


_SHARED: WeakValueDictionary[str, PageImages] = WeakValueDictionary()


def shared_page_images() -> PageImages:
    """Return the page images that all open sources share. Hundreds of sources that each kept their
    last pages and PDFs would take gigabytes, and all descriptors of the process.
    """
    return _SHARED.setdefault("all", PageImages())


def crop_size(place: Place) -> tuple[int, int]:
    """Return the (height, width) in pixels of the line at `place`, without reading the page."""
    from nordocr_cli.pages.cut import cut_size

    return cut_size(place.outline)


class LayoutSource:
    """Layout files (see data/layouts/readers.py) and their page images.

    A page's image is looked for by the name that the layout gives, else by the layout's own; in
    `root`, which may also be the image file itself, or next to the layout, one folder up (PAGE-XML
    often lies in `page/`), and in `images/` and the like there.
    """

    kind = "pages"

    def __init__(
        self, path: Path, layouts: Sequence[Path], root: Path | None = None
    ) -> None:
        self.path = path
        self.layouts = tuple(layouts)
        self.root = root
        self._images = shared_page_images()

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
        is_one_file = len(set(layout.images)) <= 1
        document = self._document_name(path)
        for number, page in enumerate(layout.pages):
            image = self._image(path, layout.images[number] if layout.images else "")
            if layout.sizes and all(layout.sizes[number]):
                size = layout.sizes[number]
            else:
                size = None
            numbers = (line for line in count(1) if (page.index, line) not in bad_lines)
            for line, region in zip(numbers, page.regions, strict=False):
                name = f"{document}:p{page.index + 1}:r{line}"
                text = to_nfc(region.text)
                if has_surrogate(name + image.name + text):
                    yield _bad(
                        path,
                        f"page {page.index + 1}, line {line}: text {text!r} or the page's name"
                        f" {image.name!r} holds what is no character; rename a file whose name is"
                        " not UTF-8",
                    )
                    continue
                row = LineRow(name, image.name, text, layout.language, source=name)
                outline = outline_of(
                    region.box, region.polygon, region.baseline, region.text
                )
                yield Entry(
                    f"{path}: page {page.index + 1}, line {line}",
                    str(image),
                    row,
                    place=Place(page.index if is_one_file else 0, outline, size),
                    is_named_by_file=True,
                )
        for number in layout.illegible:
            problem = f"line {number} is marked as illegible"
            yield Entry(f"{path}:{number}", problem=problem, illegible=True)
        for problem in bad_lines.values():
            yield _bad(path, problem)

    def _document_name(self, layout: Path) -> str:
        """A layout's path in the source without suffix and without folders of layouts."""
        base = self.path if self.path.is_dir() else layout.parent
        if layout.is_relative_to(base):
            inside = layout.relative_to(base)
        else:
            inside = Path(layout.name)
        folders = [name for name in inside.parent.parts if name not in LAYOUT_FOLDERS]
        return "/".join((*folders, layout.stem))

    def _image(self, layout: Path, named: str) -> Path:
        if self.root is not None and self.root.is_file():
            return self.root
        if self.root is not None:
            around = [self.root]
        else:
            around = [layout.parent, layout.parent.parent]
        folders = [*around, *(folder / name for folder in around for name in IMAGE_FOLDERS)]
        names = [named, PureWindowsPath(named).name] if named else []
        for folder in folders:
            for name in names:
                try:
                    found = Path(resolve_image(folder, name))
                except DataError:
                    continue  # a path of another machine: its last part is tried next
                if found.is_file():
                    return found
            for stem in (layout.stem, layout.stem.removeprefix("gt_")):
                for suffix in PAGE_SUFFIXES:
                    for written in (suffix, suffix.upper()):
                        found = folder / (stem + written)
                        if found.is_file():
                            return found
        return around[0] / (PureWindowsPath(named).name or layout.stem + PAGE_SUFFIXES[0])


def _bad(layout: Path, problem: str) -> Entry:
    """An entry without a row; `problem` begins with the layout's name, as errors do."""
    return Entry(
        str(layout), problem=problem.removeprefix(str(layout)).removeprefix(":").strip()
    )


def find_layouts(folder: Path) -> list[Path]:
    """Return the layout files of a folder in order of name: those there, or else those of the first
    of LAYOUT_FOLDERS that has some.

    Of several formats the first is taken: XML, hOCR, JSON, text files of ICDAR.
    """
    for place in (folder, *(folder / name for name in LAYOUT_FOLDERS)):
        found = _layouts_in(place) if place.is_dir() else []
        if found:
            return found
    return []


def _layouts_in(folder: Path) -> list[Path]:
    files = sorted(
        child
        for child in folder.iterdir()
        if child.is_file() and not is_of_macos(child.name)
    )
    by_suffix = {
        suffix: [path for path in files if path.suffix.lower() == suffix]
        for suffix in (".xml", ".hocr", ".html", ".json", ".txt", ".tsv")
    }
    found = [path for path in by_suffix[".xml"] if is_layout_xml(path)]
    if found:
        return found
    found = by_suffix[".hocr"] or [p for p in by_suffix[".html"] if is_layout_xml(p)]
    if found:
        return found
    found = [path for path in by_suffix[".json"] if is_layout_json(path)]
    if found:
        return found
    texts = [*by_suffix[".txt"], *by_suffix[".tsv"]]
    return [path for path in texts if is_layout_text(path)]


def is_layout_text(path: Path) -> bool:
    """Whether a text file gives coordinates and texts of one image."""
    return begins_as_layout_text(read_head(path))


def begins_as_layout_text(head: bytes) -> bool:
    """Whether a text file that begins so gives coordinates and texts of one image."""
    found = format_of_head(head)
    if found is None or found.family != "text":
        return False
    header = head.split(b"\n", 1)[0].rstrip(b"\r")
    names_images = b"image" in header.split(b"\t")
    return not names_images


def layout_beside(image: Path) -> Path:
    """Return the layout of a page image: the same name with .json or .xml. Raises UsageError when
    there is none.
    """
    for suffix in (".json", ".xml", ".hocr", ".html"):
        found = image.with_suffix(suffix)
        if found.is_file():
            return found
    for folder in ("page", "alto"):
        found = image.parent / folder / f"{image.stem}.xml"
        if found.is_file():
            return found
    text_file = image.with_suffix(".txt")
    if text_file.is_file() and icdar.sniff(text_file.read_bytes()[:4096]):
        return text_file
    raise UsageError(
        f"{image} is an image without a layout; put {image.stem}.json or .xml (ALTO, PAGE) next to"
        f" it, or give LAYOUT:{image}"
    )


def is_layout_json(path: Path) -> bool:
    """Whether a JSON file has pages, or a form of FUNSD. One that cannot be read may have had some:
    it is to be named, not skipped.
    """
    try:
        value = json.parse_layout_json(read_regular(path, MAX_JSON_BYTES), path)
    except (UsageError, DataError):
        return True
    return is_layout_value(value)


def is_layout_value(value: object) -> bool:
    """Whether parsed JSON has pages, or a form of FUNSD."""
    return json.has_pages(value) or is_funsd(value)
