"""Boxes in which nothing is written, as line detectors cut them from pages: empty paper, rules,
grids, borders, shadows.
"""

import math
import random

import cv2
import numpy as np

from nordocr_cli.data.synth.damage import Gray
from nordocr_cli.geometry import Geometry

# A single mark could be a dash or a dot: what is drawn goes through the box or is repeated.
_MINIMUM_DOTS = 12


def blank_page(rng: random.Random, em_px: float, geometry: Geometry) -> Gray:
    """Return ink uint8 (h, w) without any letter, about as large as a line of letters `em_px`
    high.
    """
    height = max(8, round(em_px * rng.uniform(0.7, 1.7)))
    widest = geometry.max_width * height / geometry.height
    width = round(math.exp(rng.uniform(math.log(0.4 * height), math.log(0.95 * widest))))
    ink = np.zeros((height, max(2, width)), np.uint8)
    for _ in range(rng.choices((0, 1, 2), (0.3, 0.55, 0.15))[0]):
        rng.choice(_MARKS)(rng, ink, em_px)
    return ink


def _rule(rng: random.Random, ink: Gray, em_px: float) -> None:
    """A rule through the box, not quite level."""
    height, width = ink.shape
    if width < 4 * height:
        return  # it could be a dash
    y = rng.randrange(height)
    drift = rng.randint(-1, 1)
    cv2.line(
        ink,
        (0, y),
        (width - 1, y + drift),
        rng.randint(120, 255),
        max(1, round(em_px * rng.uniform(0.02, 0.12))),
    )


def _grid(rng: random.Random, ink: Gray, em_px: float) -> None:
    """The rules of a table around and between its cells."""
    height, width = ink.shape
    thick = max(1, round(em_px * rng.uniform(0.02, 0.09)))
    level = rng.randint(120, 255)
    for y in rng.sample(
        (rng.randint(0, 3), height - 1 - rng.randint(0, 3)), rng.randint(1, 2)
    ):
        cv2.line(ink, (0, y), (width - 1, y), level, thick)
    for _ in range(rng.randint(1, max(1, min(6, width // (3 * height))))):
        x = rng.randrange(width)
        cv2.line(ink, (x, 0), (x, height - 1), level, thick)


def _border(rng: random.Random, ink: Gray, em_px: float) -> None:
    """The dark edge of a page or of a frame along one side, or a box that is all ink."""
    height, width = ink.shape
    level = rng.randint(150, 255)
    draw = rng.random()
    if draw < 0.2:
        ink[:] = level
    elif draw < 0.5:
        ink[: rng.randint(1, height // 3)] = level
    elif draw < 0.8:
        ink[-rng.randint(1, height // 3) :] = level
    elif width > 3 * height:
        ink[:, : rng.randint(1, height // 2)] = level
    ink[:] = (
        cv2.GaussianBlur(ink, (0, 0), rng.uniform(0.3, 4)) if rng.random() < 0.4 else ink
    )


def _dotted(rng: random.Random, ink: Gray, em_px: float) -> None:
    """A dotted rule to write on, through the box."""
    height, width = ink.shape
    pitch = max(3, round(em_px * rng.uniform(0.12, 0.4)))
    size = max(1, round(em_px * rng.uniform(0.03, 0.1)))
    if width < _MINIMUM_DOTS * pitch:
        return
    y = rng.randint(height // 2, height - 1)
    for x in range(rng.randrange(pitch), width, pitch):
        cv2.rectangle(ink, (x, y), (x + size - 1, min(height - 1, y + size - 1)), 230, -1)


def _screened(rng: random.Random, ink: Gray, em_px: float) -> None:
    """A tinted field."""
    ink[:] = np.maximum(ink, rng.randint(15, 110))


def _specks(rng: random.Random, ink: Gray, em_px: float) -> None:
    """Dust: dots far smaller than a full stop, anywhere."""
    height, width = ink.shape
    draws = np.random.default_rng(rng.getrandbits(32))
    count = max(3, round(height * width * rng.uniform(0.0005, 0.02)))
    ink[draws.integers(0, height, count), draws.integers(0, width, count)] = rng.randint(
        120, 255
    )


_MARKS = (_rule, _rule, _grid, _border, _dotted, _screened, _specks)
