"""A picture of a few validation lines with what was read of them, for TensorBoard."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nordocr_cli.charset import Charset
from nordocr_cli.data.synth.fonts import label_font
from nordocr_cli.errors import UsageError
from nordocr_cli.printable import caption

_TEXT_PX = 14
_MARGIN = 6
_DESK = (255, 236, 214)
_RIGHT = (0, 110, 40)
_WRONG = (170, 0, 0)
_REFERENCE = (90, 90, 90)


def sheet_font(charset: Charset) -> ImageFont.FreeTypeFont | None:
    """Return a font of the system for the sheet; None where no font draws the complete charset."""
    try:
        return label_font(charset, _TEXT_PX)
    except UsageError:
        return None


def sample_sheet(
    images: Sequence[NDArray[np.uint8]],
    pairs: Sequence[tuple[str, str]],
    font: ImageFont.FreeTypeFont | None,
) -> NDArray[np.uint8]:
    """Draw lines (H, w, 3) under each other with their (reference, hypothesis): green where they
    agree, else the reading red and the reference gray below it. Without a font the lines alone.
    Returns RGB (height, width, 3).
    """
    texts = [_rows(*pair) if font else [] for pair in pairs]
    row = _TEXT_PX + 4
    widest = max(
        *(image.shape[1] for image in images),
        *(int(font.getlength(text)) for rows in texts for text, _ in rows if font),
        0,
    )
    height = sum(
        image.shape[0] + row * len(rows) + 2 * _MARGIN
        for image, rows in zip(images, texts, strict=True)
    )
    sheet = Image.new("RGB", (widest + 2 * _MARGIN, height), _DESK)
    draw = ImageDraw.Draw(sheet)
    y = 0
    for image, rows in zip(images, texts, strict=True):
        sheet.paste(Image.fromarray(image), (_MARGIN, y + _MARGIN))
        y += _MARGIN + image.shape[0]
        for text, colour in rows:
            draw.text((_MARGIN, y + 2), text, fill=colour, font=font)
            y += row
        y += _MARGIN
    return np.asarray(sheet)


def _rows(reference: str, hypothesis: str) -> list[tuple[str, tuple[int, int, int]]]:
    read = caption(hypothesis or "(nothing)")
    if hypothesis == reference:
        return [(read, _RIGHT)]
    return [(read, _WRONG), (caption(reference), _REFERENCE)]
