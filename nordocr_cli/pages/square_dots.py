"""Pages whose dots are not square: a fax has twice as many dots across as down.

Every command cuts lines from a page with square dots (`with_square_dots`), given ones and those
that are found; the latter without leaders and specks (`FoundPage`). `on_page` returns outlines to
the pixels of the page itself.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from nordocr_cli.limits import MAX_PAGE_PIXELS
from nordocr_cli.pages.finder import LineFinder, PageLines, Read
from nordocr_cli.pages.outline import Outline
from nordocr_cli.pixels import Pixels
from nordocr_cli.records import Resolution

# Up to this ratio of the resolutions dots count as square.
_SQUARE = 1.1
# Bilevel pages that were enlarged are smoothed by this many enlarged dots (standard deviation):
# edges become steps of the coarser direction, which the recognizer reads as strokes.
_SMOOTHING = 0.4


@dataclass(frozen=True, slots=True)
class SquarePage:
    """A page with square dots, and how many times wider and higher it became. `is_bilevel` says
    that the page itself is black and white.
    """

    pixels: Pixels
    x_factor: float = 1.0
    y_factor: float = 1.0
    is_bilevel: bool = False

    @property
    def is_scaled(self) -> bool:
        """Whether the page had to be scaled."""
        return (self.x_factor, self.y_factor) != (1.0, 1.0)

    def smoothed(self) -> "SquarePage":
        """Return the page as lines are cut from it: smooth, where it is bilevel and was scaled."""
        if not (self.is_scaled and self.is_bilevel):
            return self
        sigma = _SMOOTHING * max(self.x_factor, self.y_factor)
        smooth = cv2.GaussianBlur(self.pixels, (0, 0), sigma)
        return replace(self, pixels=np.asarray(smooth, dtype=np.uint8))

    def from_page(self, outline: Outline) -> Outline:
        """Return an outline on the page itself in pixels of this one."""
        if not self.is_scaled:
            return outline
        return outline.scaled(self.x_factor, self.y_factor)

    def on_page(self, outline: Outline) -> Outline:
        """Return an outline on this page in pixels of the page itself."""
        if not self.is_scaled:
            return outline
        return outline.scaled(1 / self.x_factor, 1 / self.y_factor)


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
        text_only = replace(square, pixels=found.text_only(square.pixels))
        return cls(text_only.smoothed(), found)

    def on_page(self, outline: Outline) -> Outline:
        """Return an outline of `found` in the pixels of the page itself."""
        return self.page.on_page(outline)


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
    is_bilevel = bool(((page == 0) | (page == 255)).all())
    return SquarePage(
        np.asarray(pixels, dtype=np.uint8),
        new_width / width,
        new_height / height,
        is_bilevel,
    )
