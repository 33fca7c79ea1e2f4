"""Only real leaders may be painted over: specks, halftones and text must stay as they are."""

import time

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from nordocr_cli.pages.ink import ink_areas, ink_mask, letter_height, letters_among
from nordocr_cli.pages.leaders import find_leaders, painted_over


def leaders_on(page):
    areas = ink_areas(ink_mask(page))
    letters = letters_among(areas, min(page.shape))
    return find_leaders(areas, letter_height(letters))


def drawn(*lines, letter_px=34, step=60):
    """A page of lines in black on white."""
    image = Image.new("L", (1600, 1000), 255)
    pen = ImageDraw.Draw(image)
    font = ImageFont.truetype("DejaVuSans.ttf", letter_px)
    for number, line in enumerate(lines):
        pen.text((60, 40 + step * number), line, font=font, fill=0)
    return np.asarray(image)


def test_the_dots_of_a_leader_are_found():
    page = drawn("Balansräkning " + "." * 40 + " 17", "Noter " + " ." * 20 + " 9")
    assert sorted(len(leader.dots) for leader in leaders_on(page)) == [20, 40]


def test_a_leader_is_followed_over_a_dot_that_differs():
    page = drawn("Balansräkning " + "." * 40 + " 17").copy()
    leader = leaders_on(page)[0]
    left, top, width, height = leader.dots[20, :4].tolist()
    page[top : top + height, left : left + width + 4] = 0
    assert len(leaders_on(page)[0].dots) == 40


@pytest.mark.parametrize("degrees", [-5, 3])
def test_leaders_are_found_on_a_skewed_page(degrees):
    page = Image.fromarray(drawn("Balansräkning " + "." * 30 + " 17", "Ett", "Två", "Tre"))
    skewed = page.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
    (leader,) = leaders_on(np.asarray(skewed))
    assert len(leader.dots) == 30
    assert np.degrees(np.arctan(leader.slope)) == pytest.approx(-degrees, abs=0.3)


def specks(page):
    """Random specks of the size of dots."""
    rng = np.random.default_rng(3)
    marked = page.copy()
    for _ in range(4000):
        y, x = rng.integers(0, page.shape[0] - 6), rng.integers(0, page.shape[1] - 6)
        size = rng.integers(2, 6)
        marked[y : y + size, x : x + size] = 0
    return marked


def halftone(page):
    """A picture printed as rows of dots."""
    marked = page.copy()
    for y in range(400, 600, 12):
        for x in range(100, 700, 12):
            marked[y : y + 5, x : x + 5] = 0
    return marked


@pytest.mark.parametrize("spoil", [specks, halftone])
def test_specks_and_halftones_are_no_leaders(spoil):
    page = drawn(*["Årets resultat enligt fastställd balansräkning"] * 10)
    assert leaders_on(spoil(page)) == []


def test_a_page_full_of_specks_takes_little_time():
    """19,000 specks that may be dots, next to letters so large that most specks are in reach."""
    count = 19_000
    rng = np.random.default_rng(0)
    left, top = rng.integers(0, 400, count), rng.integers(0, 20_000, count)
    side = np.full(count, 12)
    areas = np.stack([left, top, side, side, side**2], axis=1).astype(np.int32)

    began_s = time.process_time()
    leaders = find_leaders(areas, letter_px=120)

    assert leaders == []
    assert time.process_time() - began_s < 5


def test_full_stops_and_an_ellipsis_are_no_leader():
    page = drawn("Bl.a. m.m. t.ex. s.k. f.d. o.s.v. i.e. dvs. ... kr. 1.2.3.4.5.6.7.8.9.")
    assert leaders_on(page) == []


def test_dots_are_replaced_by_the_paper_around_them():
    page = np.full((60, 200, 3), (250, 240, 200), np.uint8)
    page[30:36, 100:106] = 0
    painted = painted_over(page, np.array([[100, 30, 6, 6]], np.int32))
    assert (painted == (250, 240, 200)).all()
    assert (page[30:36, 100:106] == 0).all()


def test_a_page_of_nothing_but_a_leader_has_no_lines(finder):
    assert finder.find(drawn("." * 60)).lines == ()
