"""Pages laid out for the tests: lines of text drawn with Pillow at known places."""

from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont


@dataclass
class Drawn:
    """A gray page (height, width) and the boxes (left, top, right, bottom) of its texts."""

    pixels: np.ndarray
    boxes: dict[str, tuple[int, int, int, int]]


def draw(texts, size=(1240, 1754), letter_px=34):
    """Draw `texts` {text: (x, y)} in black on white, or {text: (x, y, letter_px)}."""
    image = Image.new("L", size, 255)
    pen = ImageDraw.Draw(image)
    boxes = {}
    for text, (x, y, *own) in texts.items():
        font = ImageFont.truetype("DejaVuSans.ttf", own[0] if own else letter_px)
        pen.text((x, y), text, font=font, fill=0)
        boxes[text] = pen.textbbox((x, y), text, font=font)
    return Drawn(np.asarray(image), boxes)


def turned(pixels, degrees):
    """The page turned clockwise on white paper; by quarters its sides change."""
    image = Image.fromarray(pixels)
    whole = degrees % 90 == 0
    resample = Image.Resampling.BICUBIC
    return np.asarray(image.rotate(-degrees, resample, expand=whole, fillcolor=255))


LETTER = [
    "Faktura nr 20417 till Björkängens Såg & Hyvel AB",
    "Förfallodag: 2024-05-31 Betalningsvillkor: 30 dagar",
    "Konsultarvode avseende översyn av årsredovisning",
    "Belopp exkl. moms 12 450,00 kr",
    "Vänligen ange fakturanummer vid betalning",
    "Æblehaven ApS, Sønder Alle 12, 8000 Århus C",
    "Summa kortfristiga skulder och eget kapital",
    "Kassaflöde från den löpande verksamheten",
]


@pytest.fixture(scope="session")
def letter():
    """A page of eight lines."""
    return draw({text: (120, 150 + 70 * at) for at, text in enumerate(LETTER)})


@pytest.fixture(scope="session")
def read():
    """The recognizer that ships, as the finder takes it."""
    from nordocr_cli.runtime.recognizers import open_recognizer
    from nordocr_cli.runtime.specs import default_model

    return open_recognizer(default_model(), threads=1).recognize


@pytest.fixture(scope="session")
def finder():
    from nordocr_cli.pages.finder import LineFinder

    return LineFinder(threads=1)
