"""Finding specks: dirt as large as the dots of letters, which reads as dots and rings.

Specks lie everywhere on a page, dots only in its lines. What lies outside of the lines therefore
tells how many specks of each size to expect inside, and a size that is hardly more frequent inside
than expected is one of specks. Sizes that dots have as well stay, and so do pairs, as of ä and ":".
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from nordocr_cli.pages.outline import Outline

_MINIMUM_INK = 3  # pixels of a speck; smaller ones were in the recognizer's training
_MAXIMUM_SIDE = 0.35  # of a speck, in heights of small letters
# Salt, as of a coarse copier, is left alone: its areas have less ink in this share.
_SALT_SHARE = 0.8
# Specks of one size are looked for where at least so many are expected in the lines.
_MINIMUM_EXPECTED = 12.0
# Of the areas of one size in the lines, at least this share must be specks.
_SPECK_SHARE = 0.6
# Specks that touch letters are part of them. How many do not is taken from the sizes that dots do
# not have: those with the fewest areas in the lines, compared with what is expected there.
_FEWEST = 0.25
# The dots of a pair, as of ä or a colon; lengths are in heights of small letters.
_PAIR_INK = 0.35  # they differ by at most this share of their ink
_PAIR_LEVEL = 0.12  # how exactly they stand level, or one above the other
_PAIR_NEAREST = 0.2
_PAIR_FARTHEST = 1.0
_COARSE = 4  # lines are drawn this many times smaller


def find_specks(
    areas: NDArray[np.int32],
    outlines: Sequence[Outline],
    shape: tuple[int, ...],
    letter_px: float,
) -> NDArray[np.int32]:
    """Return those of the areas (N, 5), see `ink_areas`, that are specks in the lines on a page of
    `shape` whose small letters are `letter_px` high.
    """
    is_small = areas[:, 2:4].max(axis=1) <= _MAXIMUM_SIDE * letter_px
    is_salt = is_small & (areas[:, cv2.CC_STAT_AREA] < _MINIMUM_INK)
    small = areas[is_small & ~is_salt]
    if is_salt.sum() > _SALT_SHARE * is_small.sum():
        return small[:0]
    lines = np.zeros((-(-shape[0] // _COARSE), -(-shape[1] // _COARSE)), dtype=np.uint8)
    for outline in outlines:
        corners = np.asarray(outline.points) / _COARSE
        cv2.fillPoly(lines, [np.rint(corners).astype(np.int32)], 1)
    share = float(lines.mean())
    if not len(small) or not 0 < share < 1:
        return small[:0]

    x = (small[:, 0] + small[:, 2] // 2) // _COARSE
    y = (small[:, 1] + small[:, 3] // 2) // _COARSE
    is_single = ~_in_pairs(small, letter_px)
    small, x, y = small[is_single], x[is_single], y[is_single]
    if not len(small):
        return small
    is_inside = lines[y, x] > 0
    sizes = small[:, cv2.CC_STAT_AREA]
    inside = np.bincount(sizes[is_inside], minlength=sizes.max() + 1)
    outside = np.bincount(sizes[~is_inside], minlength=sizes.max() + 1)
    expected = outside * share / (1 - share)
    is_frequent = (expected >= _MINIMUM_EXPECTED) & (inside > 0)
    if not is_frequent.any():
        return small[:0]

    ratios = inside[is_frequent] / expected[is_frequent]
    apart = min(1.0, float(np.quantile(ratios, _FEWEST)))  # share that touches no letter
    is_speck_size = is_frequent & (apart * expected >= _SPECK_SHARE * inside)
    return small[is_inside & is_speck_size[sizes]]


def _in_pairs(dots: NDArray[np.int32], letter_px: float) -> NDArray[np.bool_]:
    """Return (N,) whether each of the dots (N, 5) is one of two alike that stand close together,
    level or one above the other.
    """
    level = max(1.0, _PAIR_LEVEL * letter_px)
    nearest = _PAIR_NEAREST * letter_px
    farthest = _PAIR_FARTHEST * letter_px
    x = dots[:, 0] + dots[:, 2] / 2
    order = np.argsort(x, kind="stable")
    x = x[order]
    y = (dots[:, 1] + dots[:, 3] / 2)[order]
    ink = dots[order, cv2.CC_STAT_AREA]
    is_paired = np.zeros(len(dots), dtype=bool)
    # Each dot and the one so many places to the right of it.
    for step in range(1, len(dots)):
        across = x[step:] - x[:-step]
        down = np.abs(y[step:] - y[:-step])
        if across.min() > farthest:
            break
        larger = np.maximum(ink[step:], ink[:-step])
        alike = np.abs(ink[step:] - ink[:-step]) <= _PAIR_INK * larger
        beside = (down <= level) & (across >= nearest) & (across <= farthest)
        above = (across <= level) & (down >= nearest) & (down <= farthest)
        pairs = alike & (beside | above)
        is_paired[order[step:][pairs]] = True
        is_paired[order[:-step][pairs]] = True
    return is_paired
