"""The share of input pixels without text, per profile and against a square input."""

import pytest

from nordocr_cli.core.pixel_waste import REFERENCE_WIDTHS_PX, pixel_waste
from nordocr_cli.geometry import Geometry


def test_padding_is_what_the_lines_do_not_fill():
    waste = pixel_waste([512, 1024], 32, Geometry(max_width=1024))

    assert waste.fixed == pytest.approx(0.25)
    assert waste.squashed == 0


def test_a_line_in_a_square_covers_a_strip():
    waste = pixel_waste([320], 32, Geometry(max_width=320))

    assert waste.fixed == 0
    assert waste.square == pytest.approx(0.9)  # a strip of 224 x 22.4 pixels


def test_wider_lines_are_counted_as_squashed():
    waste = pixel_waste([64, 2048], 32, Geometry(max_width=1024))

    assert waste.squashed == 0.5
    assert waste.fixed == pytest.approx(1 - (64 + 1024) / 2 / 1024)


def test_widths_at_another_height_are_scaled():
    assert pixel_waste([1024], 64, Geometry(max_width=1024)).fixed == pytest.approx(0.5)


def test_a_square_wastes_most_of_its_pixels_on_business_lines():
    assert pixel_waste(REFERENCE_WIDTHS_PX, 32, Geometry()).square > 0.8


def test_no_lines_are_an_error():
    with pytest.raises(ValueError, match="no widths"):
        pixel_waste([], 32, Geometry())
