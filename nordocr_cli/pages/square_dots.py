"""Pages whose dots are not square: a fax has twice as many dots across as down.

Every command that finds lines finds and cuts them here, so that all of them read the same lines:
on a page with square dots (`with_square_dots`) and without leaders (`FoundPage`).
`FoundPage.on_page` returns outlines to the pixels of the page itself.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from nordocr_cli.limits import MAX_PAGE_PIXELS
from nordocr_cli.pages.finder import LineFinder, PageLines, Read
from nordocr_cli.pages.outline import Outline
from nordocr_cli.pixels import Pixels
from nordocr_cli.records import Resolution

# Up to this ratio of the resolutions dots count as square.
_SQUARE = 1.1


@dataclass(frozen=True, slots=True)
class SquarePage:
    """A page with square dots, and how many times wider and higher it became."""

    pixels: Pixels
    x_factor: float = 1.0
    y_factor: float = 1.0

    @property
    def is_scaled(self) -> bool:
        """Whether the page had to be scaled."""
        return (self.x_factor, self.y_factor) != (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class FoundPage:
    """The lines found on a page. `page` is what lines are cut from: its dots are square, and the
    dots of leaders are painted over. The outlines of `found` are in pixels of `page`.
    """

    page: SquarePage
    found: PageLines

    @classmethod
    def of(cls, square: SquarePage, found: PageLines) -> "FoundPage":
        """Return the page that lines `found` on a square page are cut from."""
        text_only = found.text_only(square.pixels)
        return cls(SquarePage(text_only, square.x_factor, square.y_factor), found)

    def on_page(self, outline: Outline) -> Outline:
        """Return an outline of `found` in the pixels of the page itself."""
        if not self.page.is_scaled:
            return outline
        return outline.scaled(1 / self.page.x_factor, 1 / self.page.y_factor)


def find_lines(
    finder: LineFinder,
    page: Pixels,
    resolution: Resolution | None,
    read: Read | None = None,
) -> FoundPage:
    """Find the lines of `page`, uint8 (H, W, 3) RGB or (H, W) gray; `read`: see LineFinder.find."""
    square = with_square_dots(page, resolution)
    return FoundPage.of(square, finder.find(square.pixels, read))


def with_square_dots(page: Pixels, resolution: Resolution | None) -> SquarePage:
    """Return `page`, uint8 (H, W, 3) RGB or (H, W) gray, with as many dots an inch across as down:
    the coarser direction is enlarged, up to the pixels that a page may have.
    """
    if resolution is None:
        return SquarePage(page)
    finer = max(resolution.x_dpi, resolution.y_dpi)
    x_factor = finer / resolution.x_dpi
    y_factor = finer / resolution.y_dpi
    if max(x_factor, y_factor) < _SQUARE:
        return SquarePage(page)

    height, width = page.shape[:2]
    enlarged_pixels = height * y_factor * width * x_factor
    reduction = min(1.0, math.sqrt(MAX_PAGE_PIXELS / enlarged_pixels))
    new_width = max(1, round(width * x_factor * reduction))
    new_height = max(1, round(height * y_factor * reduction))
    pixels = cv2.resize(page, (new_width, new_height), interpolation=cv2.INTER_CUBIC)
    return SquarePage(
        np.asarray(pixels, dtype=np.uint8), new_width / width, new_height / height
    )
