"""Small print on a page of larger print, as footnotes: where it is, so that the detector can look
there again, closer.

A page is looked at once, at a size that its usual letters fit. Much smaller ones are then too
small for the detector: their ink lies in no line, in blocks.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nordocr_cli.pages.ink import letter_height

# Letters have strokes and at least this height; specks and dots are solid.
_SOLID = 0.7  # share of the box that is ink
_SMALLEST_PX = 5
# A block of small print has at least so many letters of about one height.
_BLOCK_LETTERS = 12
_SAME_HEIGHT = 2.5  # the highest as many times as high as the typical one
# Letters of one block are at most this many times their height apart.
_REACH = 1.5
# What is looked at again is wider than the block by this many letter heights on each side.
_MARGIN = 4.0
_MAXIMUM_BLOCKS = 24
_COARSE = 4  # the map of the blocks is this many times smaller than the page


@dataclass(frozen=True, slots=True)
class SmallPrint:
    """A part of a page, in pixels, whose letters are `letter_px` high."""

    left: int
    top: int
    right: int
    bottom: int
    letter_px: float


def find_small_print(
    missed: NDArray[np.int32], letter_px: float, shape: tuple[int, ...]
) -> list[SmallPrint]:
    """Return the blocks of small print on a page of `shape` whose small letters are `letter_px`
    high, largest first.

    `missed` (N, 5) are the areas of letters (see `letters_among`) that lie in no line.
    """
    height = missed[:, 3]
    has_strokes = missed[:, 4] < _SOLID * missed[:, 2] * height
    is_small = (height >= _SMALLEST_PX) & (height <= letter_px)
    letters = missed[has_strokes & is_small]
    if len(letters) < _BLOCK_LETTERS:
        return []

    small_px = letter_height(letters)
    letters = letters[letters[:, 3] <= _SAME_HEIGHT * small_px]
    block_map = np.zeros((-(-shape[0] // _COARSE), -(-shape[1] // _COARSE)), np.uint8)
    reach = _REACH * small_px / 2
    for left, top, width, height_px, _ in letters.tolist():
        first = (int((left - reach) / _COARSE), int((top - reach) / _COARSE))
        last = (
            int((left + width + reach) / _COARSE),
            int((top + height_px + reach) / _COARSE),
        )
        cv2.rectangle(block_map, first, last, 1, cv2.FILLED)
    count, labels = cv2.connectedComponents(block_map)
    x = (letters[:, 0] + letters[:, 2] // 2) // _COARSE
    y = (letters[:, 1] + letters[:, 3] // 2) // _COARSE
    numbers = labels[y, x]
    sizes = np.bincount(numbers, minlength=count)
    largest_first = np.argsort(-sizes, kind="stable")[:_MAXIMUM_BLOCKS]
    return [
        _block(letters[numbers == number], shape)
        for number in largest_first.tolist()
        if sizes[number] >= _BLOCK_LETTERS
    ]


def _block(letters: NDArray[np.int32], shape: tuple[int, ...]) -> SmallPrint:
    small_px = letter_height(letters)
    margin = round(_MARGIN * small_px)
    left, top = letters[:, :2].min(axis=0).tolist()
    right, bottom = (letters[:, :2] + letters[:, 2:4]).max(axis=0).tolist()
    return SmallPrint(
        max(0, left - margin),
        max(0, top - margin),
        min(shape[1], right + margin),
        min(shape[0], bottom + margin),
        small_px,
    )
