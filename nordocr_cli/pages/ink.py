"""Where there is ink on a page, and how high its letters are."""

import cv2
import numpy as np
from numpy.typing import NDArray

from nordocr_cli.pixels import Pixels

# Ink is darker than the mean around it by this much (of 255). The square must be wider than bold
# strokes, or they hollow out.
_DARKER_BY = 18
_AROUND_PX = 61
# Connected areas of ink that may be letters: higher than specks, no rules and no pictures.
_LETTER_MINIMUM_PX = 3
_LETTER_MAXIMUM_SHARE = 1 / 12  # of the shorter side of the page
# Dashes are lower and longer.
_DASH_MINIMUM_PX = 2
_DASH_ASPECT = 16
_LETTER_ASPECT = 8  # one side over the other: touching letters are wide, "l" and "|" narrow
# Dots of leaders, rules and specks are solid; letters have strokes.
_SOLID = 0.7  # share of the box that is ink
_LETTER_SHARE = 0.25  # letters of a cut line are at least this share of its height
_RULE_ASPECT = 12  # what is higher than wide by this factor is a rule
# Rows of text in an image.
_ROW_LETTER_SHARE = 0.04  # minimum height of a letter as a share of the image's
_ROW_LETTER_PX = 6  # and in pixels
_BETWEEN_ROWS = 0.7  # minimum distance of the middles of two rows in letter heights
_ROW_LETTERS = 3  # a row has at least so many letters
_ROW_SHARE = 0.2  # and this share of the letters of the longest row
# Small print counts too: a quarter of the ink of letters is in letters of this height or less.
_QUANTILE = 0.25


def gray_of(page: Pixels) -> Pixels:
    """Return uint8 (H, W) of a page, uint8 (H, W, 3) RGB or (H, W)."""
    if page.ndim == 2:
        return page
    return np.asarray(cv2.cvtColor(page, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def ink_mask(gray: Pixels) -> Pixels:
    """Return uint8 (H, W), 1 where a gray page (H, W) is darker than the paper around."""
    mask = cv2.adaptiveThreshold(
        gray, 1, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, _AROUND_PX, _DARKER_BY
    )
    return np.asarray(mask, dtype=np.uint8)


def ink_areas(mask: Pixels) -> NDArray[np.int32]:
    """Return (N, 5) left, top, width, height and ink in pixels of the connected areas of a mask (H,
    W).
    """
    try:
        # Labels of 16 bits take a third of the time.
        _, _, stats, _ = cv2.connectedComponentsWithStats(
            mask, connectivity=8, ltype=cv2.CV_16U
        )
    except cv2.error:  # more than 65,534 areas: specks or a photograph
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return np.asarray(stats[1:], dtype=np.int32)  # without the paper


def letters_among(areas: NDArray[np.int32], shorter_side_px: int) -> NDArray[np.int32]:
    """Return those of the areas (N, 5), see `ink_areas`, that may be letters on a page with that
    shorter side.
    """
    width = areas[:, cv2.CC_STAT_WIDTH]
    height = areas[:, cv2.CC_STAT_HEIGHT]
    maximum = max(_LETTER_MINIMUM_PX, shorter_side_px * _LETTER_MAXIMUM_SHARE)
    right_size = (
        (height >= _LETTER_MINIMUM_PX)
        & (height <= maximum)
        & (width <= maximum * _LETTER_ASPECT)
    )
    right_shape = (width <= _LETTER_ASPECT * height) & (height <= _LETTER_ASPECT * width)
    is_dash = (
        (height >= _DASH_MINIMUM_PX)
        & (width >= 3 * height)
        & (width <= _DASH_ASPECT * height)
    )
    is_dash &= (width >= 2 * _LETTER_MINIMUM_PX) & (width <= maximum)
    return areas[(right_size & right_shape) | is_dash]


def letter_height(letters: NDArray[np.int32]) -> float:
    """Return the height in pixels of the smaller letters among areas (N, 5) of `letters_among` on a
    page that does not lie on its side: close to an x-height. 0.0 for none.

    Weighed by ink, so that specks do not count.
    """
    if not len(letters):
        return 0.0
    fill = letters[:, 4] / (letters[:, 2] * letters[:, 3])
    if (fill < _SOLID).any():
        letters = letters[fill < _SOLID]
    # Not the smaller side: fax pages lose thin strokes, and their letters are rows of stems.
    heights = letters[:, 3]
    order = np.argsort(heights)
    ink = np.cumsum(letters[order, 4])
    return float(heights[order][np.searchsorted(ink, _QUANTILE * ink[-1])])


def has_letters(line: Pixels) -> bool:
    """Return whether a cut line, uint8 (height, width, 3) or (height, width), holds ink of the size
    and shape of letters, dark on light or light on dark: not only paper, specks, dots or rules.
    """
    gray = gray_of(line)
    if np.median(gray) < 128:
        gray = 255 - gray
    height, width = gray.shape
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink_mask(gray), connectivity=8)
    areas = np.asarray(stats[1:], dtype=np.int64)  # without the paper
    across = areas[:, 2]
    down = areas[:, 3]
    ink = areas[:, 4]
    is_high = down >= max(_LETTER_MINIMUM_PX, _LETTER_SHARE * height)
    is_rule = (
        (across > 4 * height) | (down > _RULE_ASPECT * across) | (across > 0.9 * width)
    )
    is_panel = (ink > 0.9 * across * down) & (across > 2 * down)
    touches_all_edges = (down >= 0.95 * height) & (across > height)
    return bool((is_high & ~is_rule & ~is_panel & ~touches_all_edges).any())


def text_rows(image: Pixels, letter_share: float = _ROW_LETTER_SHARE) -> int:
    """Return how many rows of text an image shows, uint8 (height, width, 3) or (height, width),
    dark on light or light on dark; what its upper and lower edge cut off does not count. Letters
    are at least `letter_share` of the height of the image.
    """
    gray = gray_of(image)
    if np.median(gray) < 128:
        gray = 255 - gray
    height = gray.shape[0]
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink_mask(gray), connectivity=8)
    areas = np.asarray(stats[1:], dtype=np.int64)  # without the paper
    top = areas[:, 1]
    across = areas[:, 2]
    down = areas[:, 3]
    is_high = down >= max(_ROW_LETTER_PX, letter_share * height)
    is_letter = (across <= _LETTER_ASPECT * down) & (down <= _LETTER_ASPECT * across)
    is_inside = (top > 0) & (top + down < height)
    letters = areas[is_high & is_letter & is_inside]
    if not len(letters):
        return 0

    letter_px = letter_height(letters.astype(np.int32))
    letters = letters[letters[:, 3] >= 0.7 * letter_px]  # without dots and commas
    middles = np.sort(letters[:, 1] + letters[:, 3] / 2)
    ends = np.flatnonzero(np.diff(middles) > _BETWEEN_ROWS * letter_px) + 1
    counts = np.diff([0, *ends.tolist(), len(middles)])
    return int((counts >= max(_ROW_LETTERS, _ROW_SHARE * counts.max())).sum())
