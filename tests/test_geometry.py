"""The geometry contract: one width rule, one frame count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nordocr_cli.geometry import Geometry, frames_needed, out_length

GUIDE = Geometry(max_width=1024)


@given(st.integers(1, 4000), st.integers(1, 40000))
def test_widths_follow_the_guides_rule(height, width):
    # Round (half away from zero, as the consumer does), floor to a multiple of 4, clamp.
    expected = max(4, min(int(width * 32 / height + 0.5) // 4 * 4, 1024))
    assert GUIDE.line_width(height, width) == expected


@pytest.mark.parametrize(
    ("height", "width", "line_width"),
    [(32, 128, 128), (64, 900, 448), (32, 3, 4), (32, 5000, 1024), (64, 15, 8)],
)
def test_worked_widths(height, width, line_width):
    assert GUIDE.line_width(height, width) == line_width
    assert GUIDE.natural_width(64, 13) == 4


def test_out_length_is_the_ceiling_of_a_quarter():
    assert [out_length(w) for w in (1, 4, 5, 32, 130, 768, 1024, 1792)] == [
        1,
        1,
        2,
        8,
        33,
        192,
        256,
        448,
    ]


def test_squash_ratio():
    assert GUIDE.squash_ratio(32, 2048) == 2.0
    assert GUIDE.squash_ratio(32, 100) == 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_width": 32}, "square"),
        ({"height": 224, "max_width": 224}, "square"),
        ({"max_width": 1022}, "multiple of 4"),
        ({"pad_value": 300}, "pad_value"),
        ({"over_width": "crop"}, "over_width"),
        ({"resampler": "lanczos"}, "resampler"),
        ({"normalization": "none"}, "normalization"),
    ],
)
def test_impossible_geometries_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        Geometry(**changes)


def test_a_crop_without_pixels_is_refused():
    with pytest.raises(ValueError, match="no pixels"):
        GUIDE.line_width(0, 10)


def test_conflicts_name_each_field():
    other = Geometry(max_width=768, pad_value=0)
    assert GUIDE.conflicts(other) == [
        "geometry.max_width: 1024 / 768",
        "geometry.pad_value: 255 / 0",
    ]
    assert GUIDE.conflicts(other, ignore=("max_width", "pad_value")) == []


@pytest.mark.parametrize(
    ("text", "frames"), [("", 0), ("abc", 3), ("aab", 4), ("....", 7), ("1 000 000", 13)]
)
def test_ctc_needs_a_blank_between_equal_neighbours(text, frames):
    assert frames_needed(text) == frames
