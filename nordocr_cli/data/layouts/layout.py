"""A document's regions as every layout format gives them; the readers are in readers.py and
hocr.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nordocr_cli.errors import DataError
from nordocr_cli.records import Box, Page

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


# Lines that are wrong in themselves: (index of the page from 0, number of the line on it from 1) →
# what is wrong.
BadLines = dict[tuple[int, int], str]


@dataclass(frozen=True)
class Layout:
    """The regions of a document's pages, in the order of the file, and the document's language (see
    `language_code`; empty where not known).

    `images` names each page's image file as the layout does, and `sizes` holds each page's (height,
    width) in pixels; both are empty where the format does not say, and otherwise as long as
    `pages`.
    """

    pages: tuple[Page, ...]
    language: str = ""
    images: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()

    @property
    def num_regions(self) -> int:
        """Number of regions on all pages."""
        return sum(len(page.regions) for page in self.pages)


def language_code(name: str) -> str:
    """Return `sv` for `Swedish`, `swe` or `sv-SE`; a language that is not among ours comes back as
    it is.
    """
    lowered = name.strip().lower()
    return _CODES.get(lowered) or _CODES.get(lowered.replace("_", "-").split("-")[0], name.strip())


def box_from_json(value: Any, where: str) -> Box:
    """Read `{x, y, width, height}` or `[x0, y0, x1, y1]`. Raises DataError naming `where`."""
    try:
        if isinstance(value, Mapping):
            x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
        else:
            x, y, right, bottom = (float(edge) for edge in value)
            width, height = right - x, bottom - y
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError(
            f"{where}: bbox {value!r} is neither {{x, y, width, height}} nor [x0, y0, x1, y1]"
        ) from None
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise DataError(f"{where}: bbox {value!r} has no area")
    return Box(x, y, width, height)
