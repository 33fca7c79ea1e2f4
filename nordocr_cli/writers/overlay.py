"""A picture of the page with the outlines of its lines, and what was read next to them: for looking
at layouts.
"""

import io
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from nordocr_cli.writers.read_page import Pixels, ReadLine, ReadPage

_SURE, _UNSURE = (30, 140, 60), (210, 50, 40)  # RGB
_SURE_FROM = 0.8  # confidence
_FADED = 0.45  # share of the page's own contrast that is left under the text
_TEXT_SHARE = 0.42  # of the height of a line


def draw_overlay(page: ReadPage) -> Pixels:
    """Return uint8 (height, width, 3) RGB: outlines numbered in reading order, green where the
    reading is sure and red where it is not, with the text in each. The page needs its pixels.
    """
    if page.pixels is None:
        raise ValueError(f"{page.source}: an overlay needs the page's pixels")
    pixels = page.pixels
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    faded = 255 - (255 - pixels.astype(np.float32)) * _FADED
    picture = faded.astype(np.uint8)
    for number, line in enumerate(page.lines, start=1):
        _draw_outline(picture, line)
        _draw_text(picture, line, f"{number}  {line.reading.text}")
    return picture


def overlay_png(page: ReadPage) -> bytes:
    """Return the picture of a page as a PNG file, with the resolution of the page."""
    from PIL import Image

    buffer = io.BytesIO()
    dpi = None
    if page.resolution is not None:
        dpi = (page.resolution.x_dpi, page.resolution.y_dpi)
    Image.fromarray(draw_overlay(page)).save(buffer, "PNG", dpi=dpi)
    return buffer.getvalue()


def _color(line: ReadLine) -> tuple[int, int, int]:
    confidence = line.reading.confidence
    return _UNSURE if confidence is not None and confidence < _SURE_FROM else _SURE


def _draw_outline(picture: Pixels, line: ReadLine) -> None:
    corners: NDArray[np.int32] = np.rint(np.asarray(line.shape.points)).astype(np.int32)
    thickness = max(1, round(min(picture.shape[:2]) / 1200))
    cv2.polylines(picture, [corners], True, _color(line), thickness)


def _draw_text(picture: Pixels, line: ReadLine, text: str) -> None:
    """Write small text along the upper edge of the line; Pillow has the letters å, ä and ö."""
    from PIL import Image, ImageDraw, ImageFont

    first, second, _, fourth = _corners(line)
    height = float(np.hypot(fourth[0] - first[0], fourth[1] - first[1]))
    font = ImageFont.load_default(max(9.0, height * _TEXT_SHARE))
    left, top, right, bottom = font.getbbox(text)
    label = Image.new("L", (max(1, int(right)), max(1, int(bottom))), 0)
    ImageDraw.Draw(label).text((0, 0), text, fill=255, font=font)
    angle = -np.degrees(np.arctan2(second[1] - first[1], second[0] - first[0]))
    if abs(angle) > 1:
        label = label.rotate(float(angle), expand=True)
    x, y = (round(value) for value in first)
    _paint(picture, np.asarray(label), max(0, x), max(0, y), _color(line))
    del left, top


def _corners(line: ReadLine) -> Sequence[tuple[float, float]]:
    from nordocr_cli.writers.read_page import quad_of

    return quad_of(line.shape)


def _paint(picture: Pixels, mask: Pixels, x: int, y: int, color: tuple[int, int, int]) -> None:
    part = picture[y : y + mask.shape[0], x : x + mask.shape[1]]
    share = mask[: part.shape[0], : part.shape[1], None].astype(np.float32) / 255
    part[...] = (part * (1 - share) + np.array(color, dtype=np.float32) * share).astype(np.uint8)
