"""Pages whose dots are not square."""

import numpy as np
import pytest

from nordocr_cli.limits import MAX_PAGE_PIXELS
from nordocr_cli.pages.outline import Outline
from nordocr_cli.pages.square_dots import with_square_dots
from nordocr_cli.records import Box, Resolution


@pytest.mark.parametrize(
    ("resolution", "shape"),
    [
        (None, (100, 200)),
        (Resolution(300, 300), (100, 200)),
        (Resolution(204, 196), (100, 200)),  # fine fax: close enough
        (Resolution(204, 98), (208, 200)),
        (Resolution(204, 391), (100, 383)),
    ],
)
def test_the_coarser_direction_is_enlarged(resolution, shape):
    square = with_square_dots(np.full((100, 200), 255, np.uint8), resolution)

    assert square.pixels.shape == shape
    assert square.x_factor == pytest.approx(shape[1] / 200)
    assert square.y_factor == pytest.approx(shape[0] / 100)
    assert square.is_scaled == (shape != (100, 200))


def test_a_page_does_not_grow_beyond_the_pixels_of_a_page():
    page = np.full((2000, 3000), 255, np.uint8)

    square = with_square_dots(page, Resolution(4800, 36))

    height, width = square.pixels.shape
    assert height * width <= 1.01 * MAX_PAGE_PIXELS
    assert square.y_factor / square.x_factor == pytest.approx(4800 / 36, rel=0.01)


def test_only_bilevel_pages_that_were_enlarged_are_smoothed():
    bilevel = np.full((40, 40), 255, np.uint8)
    bilevel[10:30, 10:30] = 0
    gray = np.where(bilevel == 0, 60, 230).astype(np.uint8)
    fax = Resolution(204, 98)

    for page, resolution, is_smoothed in [
        (bilevel, fax, True),
        (gray, fax, False),
        (bilevel, Resolution(200, 200), False),
    ]:
        square = with_square_dots(page, resolution)
        smooth = square.smoothed()
        assert (smooth.pixels != square.pixels).any() == is_smoothed
        assert smooth.y_factor == square.y_factor


def test_outlines_go_to_the_square_page_and_back():
    square = with_square_dots(np.full((100, 200), 255, np.uint8), Resolution(204, 98))
    outline = Outline.of_box(Box(10, 20, 30, 40))

    there = square.from_page(outline)

    assert there.box.height == pytest.approx(40 * 2.08)
    assert there.box.width == 30
    assert square.on_page(there).points == tuple(
        pytest.approx(point) for point in outline.points
    )
