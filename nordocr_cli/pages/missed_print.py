"""Print that the detector misses on a page of other print: small, as footnotes, or faint. Where it
is, so that the detector can look there again.

A page is looked at once, at a size that its usual letters fit. Much smaller ones are then too
small for the detector, and faint ones stay unseen next to dark ones: their ink lies in no line, in
blocks.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nordocr_cli.pages.ink import gray_of, letter_height
from nordocr_cli.pixels import Pixels

# Letters have strokes and at least this height; specks and dots are solid.
_SOLID = 0.7  # share of the box that is ink
_SMALLEST_PX = 5
_LARGEST = 2.0  # times the height of the page's small letters
# A block has at least so many letters of about one height.
_BLOCK_LETTERS = 12
_SAME_HEIGHT = 2.5  # the highest as many times as high as the typical one
# Letters of one block are at most this many times their height apart.
_REACH = 1.5
# What is looked at again is wider than the block by this many letter heights on each side.
_MARGIN = 4.0
_MAXIMUM_BLOCKS = 24
# Ink that is less than this (of 255) darker than its paper is faint; it becomes as dark as usual.
_FAINT_CONTRAST = 60.0
_USUAL_CONTRAST = 200.0
_INK_PERCENTILE = 2.0  # of the gray values of a block
_COARSE = 4  # the map of the blocks is this many times smaller than the page


@dataclass(frozen=True, slots=True)
class MissedPrint:
    """A part of a page, in pixels, whose letters are `letter_px` high."""

    left: int
    top: int
    right: int
    bottom: int
    letter_px: float


def find_missed_print(
    missed: NDArray[np.int32], letter_px: float, shape: tuple[int, ...]
) -> list[MissedPrint]:
    """Return the blocks of missed print on a page of `shape` whose small letters are `letter_px`
    high, largest first.

    `missed` (N, 5) are the areas of letters (see `letters_among`) that lie in no line.
    """
    height = missed[:, 3]
    has_strokes = missed[:, 4] < _SOLID * missed[:, 2] * height
    has_size = (height >= _SMALLEST_PX) & (height <= _LARGEST * letter_px)
    letters = missed[has_strokes & has_size]
    if len(letters) < _BLOCK_LETTERS:
        return []

    small_px = letter_height(letters)
    letters = letters[letters[:, 3] <= _SAME_HEIGHT * small_px]

    # Letters that touch each other on the map, each grown by half of the reach, are one block.
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


def _block(letters: NDArray[np.int32], shape: tuple[int, ...]) -> MissedPrint:
    small_px = letter_height(letters)
    margin = round(_MARGIN * small_px)
    left, top = letters[:, :2].min(axis=0).tolist()
    right, bottom = (letters[:, :2] + letters[:, 2:4]).max(axis=0).tolist()
    return MissedPrint(
        max(0, left - margin),
        max(0, top - margin),
        min(shape[1], right + margin),
        min(shape[0], bottom + margin),
        small_px,
    )


def darkened(part: Pixels) -> Pixels | None:
    """Return a part of a page, uint8 (H, W, 3) RGB or (H, W), with its faint print as dark as usual
    print, uint8 (H, W); None where it is not faint.
    """
    gray = gray_of(part)
    paper = float(np.median(gray))
    contrast = paper - float(np.percentile(gray, _INK_PERCENTILE))
    if not 0 < contrast < _FAINT_CONTRAST:
        return None
    stretched = 255 - (paper - gray.astype(np.float32)) * (_USUAL_CONTRAST / contrast)
    return np.clip(stretched, 0, 255).astype(np.uint8)
