"""A page that was read: two paragraphs, of which the second has sloping lines, and a turned one."""

from pathlib import Path

import numpy as np
import pytest

from nordocr_cli.pages.outline import Outline
from nordocr_cli.records import Box, Recognition, Resolution
from nordocr_cli.writers.read_page import ReadLine, ReadPage


def read(text, confidence=0.9):
    spans = tuple((at, at + 1) for at in range(len(text)))
    return Recognition(text, confidence, (confidence,) * len(text), spans)


def sloping(text, left, top, length, height, degrees, paragraph):
    """A line that begins at (left, top) and falls by `degrees`."""
    angle = np.radians(degrees)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-np.sin(angle), np.cos(angle)])
    start = np.array([left, top], dtype=float)
    corners = [
        start,
        start + along * length,
        start + along * length + across * height,
        start + across * height,
    ]
    outline = Outline(tuple((float(x), float(y)) for x, y in corners))
    step = length / len(text)
    edges = tuple((at * step, (at + 1) * step) for at in range(len(text)))
    return ReadLine(outline.box, read(text), edges, outline, paragraph)


@pytest.fixture
def sloping_page():
    """A gray page of 1200 x 800 px at 200 x 100 dpi."""
    text = "Årsmöte 2024"
    edges = tuple((100.0 + 10 * at, 110.0 + 10 * at) for at in range(len(text)))
    upright = ReadLine(Box(100, 50, 200, 40), read(text), edges, None, 0)
    lines = (
        upright,
        sloping("Första raden", 100, 200, 300, 40, 2, 1),
        sloping("andra raden", 98, 260, 280, 40, 2, 1),
        sloping("uppåt", 700, 900, 200, 40, -90, 2),
    )
    pixels = np.full((1200, 800, 3), 250, dtype=np.uint8)
    pixels[50:90, 100:300] = 60
    return ReadPage(
        Path("a b.png"), 0, (1200, 800), lines, pixels, resolution=Resolution(200.0, 100.0)
    )
