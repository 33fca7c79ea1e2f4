"""Dirt as large as the dots of letters is no text, and the dots of letters are no dirt."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from nordocr_cli.pages.finder import PageLines
from nordocr_cli.pages.ink import ink_areas, ink_mask, letter_height, letters_among
from nordocr_cli.pages.outline import Outline
from nordocr_cli.pages.specks import find_specks
from nordocr_cli.records import Box

TEXT = "Förvaltningsberättelse: å ä ö. 1.234,5"
LINES = [Box(50, 60 + 70 * row, 1100, 60) for row in range(10)]


@pytest.fixture(scope="module")
def clean():
    """A page of ten lines; the dots of its letters have 17 to 30 px of ink."""
    image = Image.new("L", (1200, 1600), 255)
    font = ImageFont.truetype("DejaVuSans.ttf", 44)
    for box in LINES:
        ImageDraw.Draw(image).text((box.x + 10, box.y), TEXT, font=font, fill=0)
    return np.asarray(image)


def with_specks(page, side, count=1500):
    """The page with as many square specks."""
    dirty = page.copy()
    rng = np.random.default_rng(3)
    height, width = page.shape
    places = zip(
        rng.integers(0, height - side, count),
        rng.integers(0, width - side, count),
        strict=True,
    )
    for top, left in places:
        dirty[top : top + side, left : left + side] = 0
    return dirty


def specks_of(page):
    areas = ink_areas(ink_mask(page))
    letter_px = letter_height(letters_among(areas, min(page.shape)))
    outlines = [Outline.of_box(box) for box in LINES]
    return find_specks(areas, outlines, page.shape, letter_px)


def test_a_clean_page_has_no_specks(clean):
    assert not len(specks_of(clean))


def test_specks_in_lines_are_found(clean):
    page = with_specks(clean, side=3)
    specks = specks_of(page)

    assert len(specks) > 150
    assert (specks[:, 2:4].max(axis=1) <= 3).all()
    cleaned = PageLines((), specks=specks[:, :4]).text_only(page)
    dirt_before = (page != clean).sum()
    in_lines = np.zeros(page.shape, bool)
    for box in LINES:
        in_lines[int(box.y) : int(box.bottom), int(box.x) : int(box.right)] = True
    left_in_lines = ((cleaned != clean) & in_lines).sum()
    assert left_in_lines < 0.5 * ((page != clean) & in_lines).sum() < dirt_before


def test_specks_of_the_size_of_dots_stay(clean):
    areas = ink_areas(ink_mask(clean))
    dots = areas[(areas[:, 4] >= 17) & (areas[:, 4] <= 30)]
    assert len(dots) > 100  # of ö, ä, i, the colon and full stops

    page = with_specks(clean, side=5, count=60)
    kept = PageLines((), specks=specks_of(page)[:, :4]).text_only(page)
    for left, top, width, height, _ in dots.tolist():
        assert (kept[top : top + height, left : left + width] < 128).any()


def test_pixels_of_salt_are_left_to_the_recognizer(clean):
    assert not len(specks_of(with_specks(clean, side=1, count=20_000)))
