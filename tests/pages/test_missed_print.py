"""Small and faint print on pages of other print."""

import numpy as np

from nordocr_cli.pages.cut import cut_line
from nordocr_cli.pages.ink import ink_areas, ink_mask, letter_height, letters_among
from nordocr_cli.pages.missed_print import darkened, find_missed_print

from .conftest import LETTER, draw

LARGE = {text: (120, 150 + 110 * at, 64) for at, text in enumerate(LETTER[:5])}
SMALL = {f"{text}, not {at}": (120, 1400 + 30 * at, 17) for at, text in enumerate(LETTER)}


def letters_of(pixels):
    areas = ink_areas(ink_mask(pixels))
    return letters_among(areas, min(pixels.shape))


def test_footnotes_under_large_print_are_read(finder, read):
    page = draw({**LARGE, **SMALL}, size=(2200, 1800)).pixels

    found = finder.find(page, read)

    texts = [r.text for r in read([cut_line(page, line.outline) for line in found.lines])]
    assert len(texts) == len(LARGE) + len(SMALL)
    assert len(set(texts) & set(SMALL)) >= len(SMALL) - 1
    # Nothing is found twice: as many lines as there are.
    assert len(set(texts) & set(LARGE)) >= len(LARGE) - 1


def test_blocks_of_missed_letters_are_small_print():
    small = draw(SMALL, size=(2200, 1800)).pixels
    letters = letters_of(small)

    (block,) = find_missed_print(letters, 35.0, small.shape)

    assert block.letter_px == letter_height(letters)
    assert block.left < 120 < block.right
    assert block.top < 1400
    assert block.bottom > 1400 + 30 * len(SMALL)


def test_specks_and_large_letters_are_no_small_print():
    rng = np.random.default_rng(0)
    specks = np.full((1000, 1000), 255, np.uint8)
    for x, y in rng.integers(0, 990, (400, 2)):
        specks[y : y + 6, x : x + 6] = 0
    large = draw(LARGE, size=(2200, 900)).pixels

    assert find_missed_print(letters_of(specks), 35.0, specks.shape) == []
    assert find_missed_print(letters_of(large), 15.0, large.shape) == []


def test_faint_lines_under_dark_ones_are_read(finder, read):
    page = draw({text: (120, 150 + 70 * at) for at, text in enumerate(LETTER)})
    faint = draw({text: (120, 950 + 70 * at) for at, text in enumerate(LETTER[:4])})
    pixels = np.minimum(page.pixels, 255 - (255 - faint.pixels) // 9)

    found = finder.find(pixels, read)

    texts = [r.text for r in read([cut_line(pixels, line.outline) for line in found.lines])]
    assert texts[: len(LETTER)] == LETTER
    assert texts[len(LETTER) :] == LETTER[:4]


def test_only_faint_print_is_darkened():
    usual = draw({LETTER[0]: (20, 20)}, size=(1200, 80)).pixels
    faint = 255 - (255 - usual) // 9

    dark = darkened(faint)

    assert darkened(usual) is None
    assert darkened(np.full((80, 1200), 255, np.uint8)) is None
    assert dark is not None
    assert dark.min() < 60
    assert np.median(dark) == 255
