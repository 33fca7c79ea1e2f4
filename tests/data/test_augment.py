import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.data.augment import (
    _CHANCES,
    _add_strips,
    _box_error,
    compose,
    draw_samples,
)
from nordocr_cli.geometry import Geometry
from nordocr_cli.settings import Augment

GEOMETRY = Geometry(max_width=400)
OFF = Augment(**{name: 0 for name in Augment.model_fields if not name.startswith("max_")})


def written(text, width=200, paper=255, colours=False):
    line = np.full((32, width), paper, np.uint8)
    cv2.putText(line, text, (6, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 20, 2)
    return cv2.cvtColor(line, cv2.COLOR_GRAY2RGB) if colours else line


def only(**chances):
    return OFF.model_copy(update=chances)


def ink(line):
    return (line < 128).sum()


@settings(max_examples=40, deadline=None)
@given(
    widths=st.lists(st.integers(1, 100), min_size=1, max_size=30),
    density=st.floats(0.1, 1.0),
    seed=st.integers(0, 999),
    chance=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_samples_use_every_line_once_and_leave_room_for_their_labels(
    widths, density, seed, chance
):
    widths = np.array(widths) * 4
    frames = np.maximum(1, (widths // 4 * density).astype(np.int64))
    joinable = np.arange(len(widths)) % 3 != 0
    samples = draw_samples(
        np.arange(len(widths)),
        widths,
        frames,
        joinable,
        GEOMETRY,
        only(join=chance, squeeze=chance, crop=chance),
        np.random.default_rng(seed),
    )
    assert sorted(samples.lines) == list(range(len(widths)))
    assert samples.first[-1] == len(widths)
    for number, width in enumerate(samples.widths):
        places = slice(samples.first[number], samples.first[number + 1])
        lines = samples.lines[places]
        assert width % 4 == 0
        assert 4 <= width <= GEOMETRY.max_width
        assert frames[lines].sum() + len(lines) - 1 <= GEOMETRY.out_length(int(width))
        assert samples.gaps[places][-1] == 0
        assert (samples.gaps[places][:-1] >= 8).all()
        assert len(lines) == 1 or joinable[lines].all()
        if chance == 0:
            assert width == widths[lines[0]]
            assert len(lines) == 1


def test_joining_and_squeezing_are_as_frequent_as_asked():
    count = 4000
    widths, joinable = np.full(count, 100), np.ones(count, dtype=bool)
    draw = [np.arange(count), widths, np.full(count, 3), joinable, GEOMETRY]
    samples = draw_samples(*draw, only(join=0.2), np.random.default_rng(0))
    assert len(samples) == pytest.approx(0.8 * count, rel=0.07)
    samples = draw_samples(*draw, only(squeeze=0.5), np.random.default_rng(0))
    assert (samples.widths != 100).mean() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("name", _CHANCES)
def test_each_change_keeps_the_shape_changes_pixels_and_spares_its_input(name, colours):
    line, neighbour = (
        written("Ågren, 12", colours=colours),
        written("granne", colours=colours),
    )
    before, changed = line.copy(), 0
    for seed in range(20):
        result = compose(
            [line],
            [0],
            (0, 0),
            200,
            neighbour,
            only(**{name: 1}),
            np.random.default_rng(seed),
        )
        assert result.shape == line.shape
        assert result.dtype == np.uint8
        assert np.array_equal(line, before)
        changed += not np.array_equal(result, line)
        assert 0.5 < ink(result) / ink(line) < 1.8  # still the same letters
    assert changed >= 15


def test_nothing_changes_without_a_chance():
    line = written("orört")
    assert np.array_equal(
        compose([line], [0], (0, 0), 200, line, OFF, np.random.default_rng(0)), line
    )


def test_a_joined_sample_shows_its_parts_and_paper_between():
    left, right = written("ett", 80, paper=250), written("två", 100, paper=200)
    joined = compose(
        [left, right], [20, 0], (0, 0), 200, left, OFF, np.random.default_rng(0)
    )
    assert np.array_equal(joined[:, :80], left)
    assert np.array_equal(joined[:, 100:], right)
    gap = joined[0, 80:100].astype(int)
    assert gap[0] == 250
    assert gap[-1] == 200
    assert (np.diff(gap) <= 0).all()


def test_a_wrong_box_takes_at_most_a_row_of_ink_above_and_below():
    line = np.full((32, 60), 255, np.uint8)
    line[0], line[-1], line[5:25, 10:50] = 0, 0, 0  # ink in the outermost rows
    heights = set()
    for seed in range(40):
        result = _box_error(line, np.random.default_rng(seed))
        assert ((result == 0).sum(axis=1) > 0).sum() >= 20  # rows 5…24 are whole
        assert (result == 0).sum() >= (line == 0).sum() - 2 * 60
        heights.add(result.shape[0])
    assert min(heights) < 32 < max(heights)


def test_strips_of_a_neighbour_never_touch_the_line():
    line, neighbour = np.full((32, 60), 255, np.uint8), np.zeros((32, 40), np.uint8)
    line[:, 20:30] = 90
    for seed in range(10):
        result = _add_strips(line, neighbour, np.random.default_rng(seed))
        rows = np.flatnonzero((result[:, 0] == 255) & (result[:, 25] == 90))
        assert len(rows) == 32  # the line is there whole
        assert (result == 0).any()
        # paper or strip beside it
        assert (result[[rows[0] - 1, (rows[-1] + 1) % len(result)]] != 90).all()


def test_a_threshold_that_would_lose_letters_is_not_applied():
    faded = np.full((32, 200), 250, np.uint8)
    cv2.putText(faded, "blekt", (6, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 190, 1)
    faded[:, 150:] = 0
    for seed in range(5):
        result = compose(
            [faded], [0], (0, 0), 200, faded, only(threshold=1), np.random.default_rng(seed)
        )
        assert (result[:, :100] < 230).any()
