"""A picture for looking at a result: the page with the outlines of its lines, and next to it the
text that was read, each line at its place.
"""

import io
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from nordocr_cli.charset import NORDIC
from nordocr_cli.pixels import Pixels
from nordocr_cli.printable import caption
from nordocr_cli.writers.read_page import ReadLine, ReadPage, quad_of

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

# Colours in RGB.
_SURE = (30, 140, 60)
_UNSURE = (210, 50, 40)
_SURE_FROM = 0.8  # confidence
_TEXT_SHARE = 0.7  # of the height of a line
_SMALLEST_PX = 9
_LINE_A_PAGE = 1 / 1200  # thickness of outlines, of the shorter side of the page


def draw_overlay(page: ReadPage) -> Pixels:
    """Return uint8 (height, 2 x width, 3) RGB: on the left the page with its lines numbered in
    reading order, on the right what they read as; green where the reading is sure, red where it is
    not. The page needs its pixels.
    """
    if page.pixels is None:
        raise ValueError(f"{page.source}: an overlay needs the page's pixels")
    pixels = page.pixels
    if pixels.ndim == 3:
        left = pixels.copy()
    else:
        left = np.repeat(pixels[:, :, None], 3, axis=2)
    right = np.full_like(left, 255)
    thickness = max(1, round(min(page.size) * _LINE_A_PAGE))
    for number, line in enumerate(page.lines, start=1):
        corners = np.rint(np.asarray(line.shape.points)).astype(np.int32)
        cv2.polylines(left, [corners], True, _color(line), thickness)
        _write(left, line, str(number), _TEXT_SHARE / 2)
        _write(right, line, line.reading.text, _TEXT_SHARE)
    return np.concatenate([left, right], axis=1)


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
    if confidence is not None and confidence < _SURE_FROM:
        return _UNSURE
    return _SURE


def _write(picture: Pixels, line: ReadLine, text: str, share: float) -> None:
    """Write text from the top left corner of a line on, turned as the line is."""
    from PIL import Image, ImageDraw

    first, second, _, fourth = quad_of(line.shape)
    height = float(np.hypot(fourth[0] - first[0], fourth[1] - first[1]))
    font = _font(max(_SMALLEST_PX, round(height * share)))
    # Further ones lie outside of the picture.
    text = caption(text, maximum=picture.shape[1])
    _, _, width, bottom = font.getbbox(text)
    if width < 1 or bottom < 1:
        return
    label = Image.new("L", (int(width) + 1, int(bottom) + 1), 0)
    ImageDraw.Draw(label).text((0, 0), text, fill=255, font=font)
    angle = float(np.degrees(np.arctan2(second[1] - first[1], second[0] - first[0])))
    if abs(angle) > 1:
        label = label.rotate(-angle, expand=True)
    xs, ys = zip(*line.shape.points, strict=True)
    _paint(
        picture,
        np.asarray(label),
        max(0, round(min(xs))),
        max(0, round(min(ys))),
        _color(line),
    )


@cache
def _font(size_px: int) -> "FreeTypeFont | ImageFont":
    """A font of the system that has the Nordic letters, else Pillow's own, which draws others."""
    from PIL import ImageFont

    found = _nordic_font()
    if found:
        return found.font_variant(size=size_px)
    return ImageFont.load_default(size_px)


@cache
def _nordic_font() -> "FreeTypeFont | None":
    from nordocr_cli.data.synth.fonts import label_font
    from nordocr_cli.errors import UsageError

    try:
        return label_font(NORDIC, _SMALLEST_PX)
    except UsageError:
        return None


def _paint(
    picture: Pixels, mask: Pixels, x: int, y: int, color: tuple[int, int, int]
) -> None:
    part = picture[y : y + mask.shape[0], x : x + mask.shape[1]]
    share = mask[: part.shape[0], : part.shape[1], None].astype(np.float32) / 255
    part[...] = (part * (1 - share) + np.array(color, dtype=np.float32) * share).astype(
        np.uint8
    )
