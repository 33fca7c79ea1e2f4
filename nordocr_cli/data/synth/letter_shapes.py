"""Whether a face draws letters: its A-Z, a-z and 0-9 against the shapes that most faces agree on.

The name of a face does not say it: `D050000L` draws a pictogram for every letter, and other faces
have the letters of another script under ours. `letter_shapes.png` holds the median of some thousand
open faces for each letter; `scripts/letter_shapes.py` draws it again.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
SHAPE_PX = 16
SHAPES = Path(__file__).with_name("letter_shapes.png")

# The lowest agreement of a face that is read as letters. Faces of pictograms and of other scripts
# reach 0.06 at most, the most swash italic of 1,084 text faces 0.38.
MINIMUM_AGREEMENT = 0.2

# Letters whose shapes differ by size or by little else once they fill the same square.
_ALIKE = ("oO0", "iIl1j", "Cc", "Ss5", "Vv", "Ww", "Xx", "Zz2", "Uu", "Kk", "Pp")
# Columns by which a row moves, per row: italics are set upright first.
_SLANTS = (0.0, 0.15, 0.3)
_MINIMUM_ASPECT = (
    3  # narrower shapes get white on both sides, so that an l does not fill the square
)

Shapes = NDArray[np.float32]


def letter_shape(font: ImageFont.FreeTypeFont, letter: str, slant: float = 0.0) -> Shapes:
    """Return the ink of one letter stretched to a square, float32 (SHAPE_PX, SHAPE_PX), 0…255.

    `slant` sets an italic upright. A letter without ink gives zeros.
    """
    mask = font.getmask(letter, mode="L")
    ink: NDArray[Any] = np.asarray(mask, dtype=np.uint8).reshape(mask.size[::-1])
    if not ink.any():
        return np.zeros((SHAPE_PX, SHAPE_PX), np.float32)
    if slant:
        height, width = ink.shape
        shear = np.array([[1, slant, 0], [0, 1, 0]], dtype=np.float32)
        ink = cv2.warpAffine(ink, shear, (width + int(height * slant) + 1, height))
    rows = np.flatnonzero(ink.any(axis=1))
    columns = np.flatnonzero(ink.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = ink.shape
    if width < height // _MINIMUM_ASPECT:
        side = (height // _MINIMUM_ASPECT - width) // 2 + 1
        ink = np.pad(ink, ((0, 0), (side, side)))
    square = cv2.resize(ink, (SHAPE_PX, SHAPE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(square.astype(np.float32), (0, 0), 0.8))


def letter_agreement(font: ImageFont.FreeTypeFont) -> float:
    """Return the share of LETTERS whose shape is nearest to the shape of that same letter, 0…1."""
    known = _known_shapes()
    return max(_agreement(font, known, slant) for slant in _SLANTS)


def _agreement(font: ImageFont.FreeTypeFont, known: Shapes, slant: float) -> float:
    drawn = _standardized(
        np.stack([letter_shape(font, letter, slant) for letter in LETTERS])
    )
    nearest = (drawn @ known.T).argmax(axis=1)
    agreed = [
        _family(LETTERS[found]) == _family(LETTERS[own])
        for own, found in enumerate(nearest)
    ]
    return sum(agreed) / len(LETTERS)


@lru_cache(maxsize=1)
def _known_shapes() -> Shapes:
    """The shapes of the picture, standardized, float32 (letters, pixels)."""
    picture = cv2.imread(str(SHAPES), cv2.IMREAD_GRAYSCALE)
    if picture is None or picture.shape != (SHAPE_PX, SHAPE_PX * len(LETTERS)):
        raise RuntimeError(f"{SHAPES} is missing or damaged; install nordocr again")
    squares = picture.reshape(SHAPE_PX, len(LETTERS), SHAPE_PX).transpose(1, 0, 2)
    return _standardized(squares.astype(np.float32))


def _standardized(squares: Shapes) -> Shapes:
    """Flattened shapes with mean 0 and norm 1: their products are correlations."""
    flat = squares.reshape(len(squares), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(norms, 1e-6), dtype=np.float32)


def _family(letter: str) -> str:
    return next((alike for alike in _ALIKE if letter in alike), letter)
