"""The regions of a document as every layout format gives them, and what the readers share.

The readers are one module per format; readers.py holds their registry.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nordocr_cli.errors import DataError
from nordocr_cli.limits import require_line_length
from nordocr_cli.records import Box, Page, Point, Region

# Two-letter codes, and what else the formats write: PAGE names, Tesseract and ALTO three letters.
_LANGUAGES = {
    "sv": ("swe", "swedish"),
    "no": ("nor", "norwegian"),
    "nb": ("nob", "norwegian bokmål", "bokmål"),
    "nn": ("nno", "norwegian nynorsk", "nynorsk"),
    "da": ("dan", "danish"),
    "is": ("isl", "ice", "icelandic"),
    "fo": ("fao", "faroese"),
    "fi": ("fin", "finnish"),
    "en": ("eng", "english"),
}
_CODES = {name: code for code, names in _LANGUAGES.items() for name in (code, *names)}

# Texts that datasets give to regions that nobody could read: PaddleOCR and ICDAR.
ILLEGIBLE_TEXTS = ("###", "*")

_MAX_PAGE_LINES = 10_000  # a newspaper has some thousand
# Of a position, in pixels or units of a format: sums and products of larger ones may be infinite.
MAX_COORDINATE = 1e9
_MAX_POINTS = (
    100_000  # of an outline; one that follows each pixel of a line has ten thousand
)


# Damaged lines: (index of the page from 0, number of the line on it from 1) → what is wrong.
BadLines = dict[tuple[int, int], str]

_Line = TypeVar("_Line")


@dataclass(frozen=True)
class Layout:
    """The regions of a document's pages, in reading order, and the document's language (see
    `language_code`; empty where unknown).

    `images` names each page's image file as the layout does, and `sizes` holds each page's (height,
    width) in pixels; both are empty where the format does not say, and otherwise as long as
    `pages`. `illegible` are numbers of lines of the file that somebody marked as such; they are on
    no page.
    """

    pages: tuple[Page, ...]
    language: str = ""
    images: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    illegible: tuple[int, ...] = ()

    @property
    def num_regions(self) -> int:
        """Number of regions on all pages."""
        return sum(len(page.regions) for page in self.pages)


def language_code(name: str) -> str:
    """Return `sv` for `Swedish`, `swe` or `sv-SE`; an unknown language comes back as it is."""
    lowered = name.strip().lower()
    return _CODES.get(lowered) or _CODES.get(
        lowered.replace("_", "-").split("-")[0], name.strip()
    )


def read_page_regions(
    lines: Iterable[_Line],
    read: Callable[[_Line, str], Region],
    where: str,
    index: int,
    bad_lines: BadLines | None,
) -> tuple[Region, ...]:
    """Read the lines of the page with that index; a damaged line goes to `bad_lines`, or raises
    without it. Raises DataError for more lines than a page has.
    """
    regions: list[Region] = []
    for number, line in enumerate(lines, start=1):
        if number > _MAX_PAGE_LINES:
            raise DataError(f"{where}: more than {_MAX_PAGE_LINES:,} lines on one page")
        try:
            region = read(line, f"{where}, line {number}")
            require_line_length(region.text or "")
            regions.append(region)
        except (DataError, KeyError, ValueError, OverflowError) as error:
            if bad_lines is None:
                raise
            is_reported = isinstance(error, DataError)
            bad_lines[index, number] = (
                str(error) if is_reported else f"damaged line: {error!r}"
            )
    return tuple(regions)


def pages_by_index(pages: Sequence[Page], path: Path) -> tuple[Page, ...]:
    """Return the pages sorted by index. Raises DataError when two pages have the same index."""
    indices = [page.index for page in pages]
    if len(set(indices)) != len(indices):
        raise DataError(f"{path}: two pages have the same index; found {sorted(indices)}")
    return tuple(sorted(pages, key=lambda page: page.index))


def box_from_json(value: Any, where: str) -> Box:
    """Read `{x, y, width, height}` or `[x0, y0, x1, y1]`. Raises DataError naming `where`."""
    try:
        if isinstance(value, Mapping):
            x, y, width, height = (
                float(value[key]) for key in ("x", "y", "width", "height")
            )
        else:
            x, y, right, bottom = (float(edge) for edge in value)
            width = right - x
            height = bottom - y
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError(
            f"{where}: bbox {value!r} is neither {{x, y, width, height}} nor [x0, y0, x1, y1]"
        ) from None
    is_near = all(abs(edge) <= MAX_COORDINATE for edge in (x, y, width, height))
    if not is_near or width <= 0 or height <= 0:  # NaN is not near either
        raise DataError(f"{where}: bbox {value!r} has no area")
    return Box(x, y, width, height)


def require_few_points(count: int) -> None:
    """Raise ValueError when an outline has so many points that they take hundreds of megabytes."""
    if count > _MAX_POINTS:
        raise ValueError(f"an outline of {count:,} points; it may have {_MAX_POINTS:,}")


def box_of_points(points: Sequence[Point], where: str) -> Box:
    """Return the upright box around points. Raises DataError when it has no area."""
    if not points:
        raise DataError(f"{where}: the line has no position")
    xs, ys = zip(*points, strict=True)
    return box_from_json((min(xs), min(ys), max(xs), max(ys)), where)


def points_from_json(value: Any) -> tuple[Point, ...]:
    """Read `[[x, y], …]`, `[x, y, x, y, …]` or `[{"x": …, "y": …}, …]`; nothing gives ().

    Raises ValueError, TypeError or KeyError when it is something else.
    """
    items = list(value or ())
    require_few_points(len(items))
    if items and all(isinstance(item, int | float) for item in items):
        items = list(zip(items[0::2], items[1::2], strict=True))
    if items and all(isinstance(item, Mapping) for item in items):
        items = [(item["x"], item["y"]) for item in items]
    return tuple((float(x), float(y)) for x, y in items)


def corners_of(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return a line's corners: two points or fewer are no outline."""
    if len(points) > 2:
        return tuple(points)
    return ()
