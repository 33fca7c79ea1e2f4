"""Leaders: rows of dots, as between a heading and its page number.

The detector is unsure of lines that hold them, and few networks have learned to read them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.pages.ink import Pixels, gray_of, ink_areas, ink_mask

# A dot is solid, and at most this high and wide: of a line's height, of a page's small letters.
_SOLID, _OF_LINE, _OF_LETTER = 0.7, 0.25, 0.5
# So many dots make a leader. They stand at one height, about as far from each other as their median
# distance, which is at most this share of a line's height.
_DOTS, _SAME_HEIGHT, _DISTANCES, _MAXIMUM_DISTANCE = 5, 0.08, (0.6, 1.6), 1.0
_LINE_OF_LETTER = 2.0  # height of a line in those of its small letters


def find_leaders(areas: NDArray[np.int32], letter_px: float) -> list[NDArray[np.int32]]:
    """Return the leaders of a page, each the areas (N, 5) of its dots from left to right.

    `areas` are those of `ink_areas` on a page whose small letters are `letter_px` high.
    """
    return _leaders_among(areas, _OF_LETTER * letter_px, _LINE_OF_LETTER * letter_px)


def without_leaders(line: Pixels) -> Pixels | None:
    """Return a cut line, uint8 (height, width, 3) or (height, width), with the dots of its leaders
    painted over; None when it has none.
    """
    height = line.shape[0]
    areas = ink_areas(ink_mask(gray_of(line)))
    leaders = _leaders_among(areas, _OF_LINE * height, height)
    if not leaders:
        return None
    return painted_over(line, np.concatenate(leaders))


def painted_over(page: Pixels, areas: NDArray[np.int32]) -> Pixels:
    """Return a copy of a page or line with paper in place of `areas` (N, 5)."""
    painted = page.copy()
    paper = np.median(page[::4, ::4].reshape(-1, *page.shape[2:]), axis=0).astype(np.uint8)
    for left, top, across, down in areas[:, :4].tolist():
        rows = slice(max(0, top - 1), top + down + 1)
        painted[rows, max(0, left - 1) : left + across + 1] = paper
    return painted


def _leaders_among(
    areas: NDArray[np.int32], dot_px: float, line_px: float
) -> list[NDArray[np.int32]]:
    """Return the leaders whose dots have at most `dot_px`, in lines of about `line_px`."""
    across, down, ink = areas[:, 2], areas[:, 3], areas[:, 4]
    largest = max(2.0, dot_px)
    is_dot = (across <= largest) & (down <= largest) & (ink >= _SOLID * across * down)
    dots = areas[is_dot]
    if len(dots) < _DOTS:
        return []

    middles = dots[:, 1] + dots[:, 3] / 2
    step = max(1.0, _SAME_HEIGHT * line_px)
    leaders: list[NDArray[np.int32]] = []
    # Twice, half a step apart: a row of dots may lie across the border of two bins.
    for shift in (0.0, 0.5):
        bins = np.floor(middles / step + shift).astype(np.int64)
        order = np.lexsort((dots[:, 0], bins))
        starts = np.flatnonzero(np.diff(bins[order])) + 1
        for row in np.split(dots[order], starts):
            leaders += _evenly_spaced(row, line_px)
    return leaders


def _evenly_spaced(dots: NDArray[np.int32], line_px: float) -> Sequence[NDArray[np.int32]]:
    """Return the leaders among the dots (N, 5) of one row, from left to right."""
    if len(dots) < _DOTS:
        return []
    distances = np.diff(dots[:, 0] + dots[:, 2] / 2)
    typical = float(np.median(distances))
    if typical > _MAXIMUM_DISTANCE * line_px:
        return []
    nearest, farthest = (share * typical for share in _DISTANCES)
    is_even = (distances >= nearest) & (distances <= farthest)
    runs = np.split(dots, np.flatnonzero(~is_even) + 1)
    return [run for run in runs if len(run) >= _DOTS]
