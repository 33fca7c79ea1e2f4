from collections import Counter

import numpy as np
import pytest

from nordocr_cli.pages.cut import cut_line
from nordocr_cli.pages.finder import detection_scale
from nordocr_cli.pages.ink import ink_areas, ink_mask, letter_height, letters_among

from .conftest import LETTER, draw, turned


def texts_of(page, finder, read):
    found = finder.find(page, read)
    return [
        r.text for r in read([cut_line(page, line.outline) for line in found.lines])
    ], found


def share_found(truth, texts):
    expected = Counter(word for line in truth for word in line.split())
    read = Counter(word for line in texts for word in line.split())
    return sum((expected & read).values()) / sum(expected.values())


@pytest.mark.parametrize("degrees", [0, 2, -5, 90, 180, 270])
def test_a_page_is_read_in_order_however_it_was_turned(letter, finder, read, degrees):
    texts, found = texts_of(turned(letter.pixels, degrees), finder, read)
    assert len(texts) == len(LETTER)
    assert share_found(LETTER, texts) > 0.95
    assert [text[:3] for text in texts] == [line[:3] for line in LETTER]
    quarter_turns, skew = divmod(degrees + 45, 90)
    assert found.quarter_turns == quarter_turns % 4
    assert abs(found.skew_degrees - (skew - 45)) < 0.3
    assert found.uncovered_share < 0.02


def test_columns_are_not_joined_and_read_one_after_the_other(finder, read):
    left = [
        "Styrelsen har under året haft",
        "sju protokollförda möten",
        "och behandlat frågor om",
    ]
    right = [
        "Revisorn har granskat bokslut",
        "och funnit det i god ordning",
        "Inga väsentliga händelser",
    ]
    page = draw(
        {text: (100, 150 + 60 * at) for at, text in enumerate(left)}
        | {text: (720, 150 + 60 * at) for at, text in enumerate(right)},
    )
    texts, _ = texts_of(page.pixels, finder, read)
    assert [text[:8] for text in texts] == [line[:8] for line in left + right]


def test_a_narrow_gutter_between_full_lines_is_kept(finder):
    """Where the detector's margins leave less than a line's height between two columns."""
    left = [f"och behandlat frågor om {100 + at}" for at in range(9)]
    right = [f"granskat årets bokslut {200 + at}" for at in range(9)]
    width = max(draw({text: (0, 0)}).boxes[text][2] for text in left)
    page = draw(
        {text: (100, 150 + 60 * at) for at, text in enumerate(left)}
        | {text: (100 + width + 50, 150 + 60 * at) for at, text in enumerate(right)},
    )
    assert len(finder.find(page.pixels).lines) == 18


def test_a_table_with_rules_is_read_by_rows(finder, read):
    rows = [
        ("Nettoomsättning", "12 450"),
        ("Rörelsekostnader", "-9 120"),
        ("Finansnetto", "-45"),
    ]
    page = draw(
        {label: (140, 160 + 80 * at) for at, (label, _) in enumerate(rows)}
        | {number: (800, 160 + 80 * at) for at, (_, number) in enumerate(rows)}
    )
    pixels = page.pixels.copy()
    for at in range(4):
        pixels[140 + 80 * at : 143 + 80 * at, 120:1000] = 0
    for x in (120, 700, 997):
        pixels[140:383, x : x + 3] = 0
    texts, _ = texts_of(pixels, finder, read)
    assert texts == [cell for row in rows for cell in row]


def test_single_characters_are_kept(finder, read):
    page = draw(
        {
            text: (150, 150 + 90 * at)
            for at, text in enumerate(["Kapitel ett", "7", "Ö", "0"])
        }
    )
    texts, _ = texts_of(page.pixels, finder, read)
    assert texts[0] == "Kapitel ett"
    assert len(texts) == 4


def test_a_dash_in_a_table_is_kept(finder, read):
    rows = {f"Avsättning nummer {at}": (120, 150 + 70 * at) for at in range(6)}
    numbers = {f"{at}7 450": (900, 150 + 70 * at) for at in range(5)}
    page = draw(rows | numbers | {"–": (950, 150 + 70 * 5)})
    texts, _ = texts_of(page.pixels, finder, read)
    assert texts[-1] in ("–", "-")


def test_text_up_the_margin_comes_last_and_is_read(letter, finder, read):
    margin = draw({"Org.nr 556000-1234 Göteborg": (20, 20)}, size=(700, 70)).pixels
    page = letter.pixels.copy()
    page[900:1600, 1150:1220] = np.rot90(margin)
    texts, found = texts_of(page, finder, read)
    assert found.lines[-1].is_crosswise
    assert share_found(["Org.nr 556000-1234 Göteborg"], texts[-1:]) > 0.6
    assert len(texts) == len(LETTER) + 1


def test_blank_pages_have_no_lines(finder, read):
    assert finder.find(np.full((1754, 1240), 255, dtype=np.uint8), read).lines == ()
    assert finder.find(np.zeros((300, 200, 3), dtype=np.uint8), read).lines == ()
    specks = np.full((1754, 1240), 255, dtype=np.uint8)
    specks[np.random.default_rng(3).random(specks.shape) < 0.0004] = 0
    assert finder.find(specks, read).lines == ()


def test_ink_in_which_the_detector_finds_no_text_has_no_lines(finder, read):
    generator = np.random.default_rng(11)
    page = np.full((1200, 900), 255, dtype=np.uint8)
    for _ in range(12):
        row, column = generator.integers(20, 1180), generator.integers(20, 880)
        size = generator.integers(3, 5)
        page[row : row + size, column : column + size] = 0

    assert finder.find(page, read).lines == ()


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 4000), (4000, 1), (3, 3), (40, 2000), (2000, 40), (64, 64)]
)
def test_a_page_of_any_shape_is_a_result(finder, read, shape):
    noise = np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)

    for page in (noise, np.where(noise > 250, 0, 255).astype(np.uint8), 255 - noise // 2):
        finder.find(page, read)


def test_without_a_recognizer_pages_are_found_too(letter, finder):
    found = finder.find(letter.pixels)
    assert len(found.lines) == len(LETTER)
    assert found.quarter_turns == 0


def test_small_print_is_looked_at_larger():
    assert detection_scale(10, 1_000_000) > detection_scale(20, 1_000_000)
    assert detection_scale(0.0, 1_000_000) <= 2
    assert detection_scale(3, 100_000_000) ** 2 * 100_000_000 <= 9_000_001


def test_letters_that_lost_their_thin_strokes_have_their_height():
    """A fax of 98 dots an inch down loses the serifs and bars of small letters: stems are left."""
    sheet = np.full((400, 1200), 255, dtype=np.uint8)
    for line in range(6):
        for stem in range(80):
            left, top = 40 + 14 * stem, 30 + 60 * line
            sheet[top : top + 16 - stem % 2, left : left + 4] = 0
            sheet[top + 3 : top + 6, left] = 255  # ragged, not solid
    letters = letters_among(ink_areas(ink_mask(sheet)), min(sheet.shape))
    assert letter_height(letters) >= 15
