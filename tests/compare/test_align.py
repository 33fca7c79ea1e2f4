import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.compare.align import align
from nordocr_cli.records import Box, Region


def region(x, y, width, height, text=""):
    return Region(Box(x, y, width, height), text)


def padded(r, by):
    return Region(
        Box(r.box.x - by, r.box.y - by, r.box.width + 2 * by, r.box.height + 2 * by), r.text
    )


ROWS = [region(100, 60 * n, 400, 40, f"row {n}") for n in range(5)]


def test_same_boxes_belong_together_even_where_they_overlap_others():
    # Boxes around skewed lines reach deep into their neighbours.
    boxes = [region(0, 30 * n, 500, 60, str(n)) for n in range(6)]
    groups = align(boxes, boxes, boxes)
    assert [group.shape for group in groups] == ["1:1:1"] * 6
    assert [group.text(1) for group in groups] == list("012345")


def test_a_box_that_stands_twice_meets_its_twin():
    twice = [ROWS[0], Region(ROWS[0].box, "again")]
    assert [group.shape for group in align(twice, twice)] == ["1:1", "1:1"]


def test_padding_of_any_size_changes_nothing():
    for by in (1, 4, 9):
        groups = align(ROWS, [padded(r, by) for r in ROWS])
        assert [(group.text(0), group.text(1)) for group in groups] == [
            (r.text, r.text) for r in ROWS
        ]


def test_cells_stand_beside_their_row_in_reading_order():
    cells = [
        region(400, 2, 100, 38, "kr"),
        region(100, 1, 150, 39, "Summa"),
        region(260, 0, 120, 40, "12"),
    ]
    (group,) = align(cells, ROWS[:1])
    assert group.shape == "3:1"
    assert group.text(0) == "Summa 12 kr"
    assert group.box == Box(100, 0, 400, 40)


def test_what_one_side_alone_saw_stays_alone():
    groups = align(ROWS[:2], ROWS[1:3])
    assert [group.shape for group in groups] == ["1:0", "1:1", "0:1"]
    assert groups[0].text(1) is None


def test_a_box_over_many_lines_joins_nothing():
    table = region(90, -10, 420, 320, "table")
    groups = align([*ROWS, table], ROWS)
    assert sorted(group.shape for group in groups) == ["1:0"] + ["1:1"] * 5


def skewed(left, width, row, degrees, pitch=50, height=40, text=""):
    """A line of a page that is turned by `degrees`, with its outline and the box around it."""
    slope = math.tan(math.radians(degrees))
    top = 100 + row * pitch + left * slope
    corners = (
        (left, top),
        (left + width, top + width * slope),
        (left + width, top + width * slope + height),
        (left, top + height),
    )
    ys = [y for _, y in corners]
    return Region(Box(left, min(ys), width, max(ys) - min(ys)), text, polygon=corners)


@pytest.mark.parametrize("degrees", [-3, -1, 1, 3])
def test_cells_of_a_turned_page_find_their_row_by_their_outline(degrees):
    rows = [skewed(0, 2000, row, degrees, text=str(row)) for row in range(8)]
    cells = [
        skewed(left, 400, row, degrees, text=str(row))
        for row in range(8)
        for left in (0, 700, 1600)
    ]
    groups = align(rows, cells)
    assert [group.shape for group in groups] == ["1:3"] * 8
    assert all(group.text(1) == " ".join([group.text(0)] * 3) for group in groups)


@pytest.mark.parametrize("degrees", [-3, -1, 1, 3])
def test_boxes_around_turned_lines_do_not_hang_together(degrees):
    """Of the same lines with other padding each meets its own, though its box reaches over its
    neighbours.
    """
    rows = [skewed(0, 2000, row, degrees, text=str(row)) for row in range(8)]
    plain = [Region(region.box, region.text) for region in rows]
    groups = align(plain, [padded(region, 5) for region in plain])
    assert [(group.text(0), group.text(1)) for group in groups] == [
        (str(row), str(row)) for row in range(8)
    ]


@pytest.mark.parametrize("degrees", [-1, 1])
def test_boxes_around_turned_cells_find_their_row(degrees):
    rows = [skewed(0, 2000, row, degrees, text=str(row)) for row in range(8)]
    cells = [
        skewed(left, 400, row, degrees, text=str(row))
        for row in range(8)
        for left in (0, 700, 1600)
    ]
    groups = align(
        *([Region(region.box, region.text) for region in side] for side in (rows, cells))
    )
    assert [(group.text(0), group.text(1)) for group in groups] == [
        (str(row), " ".join([str(row)] * 3)) for row in range(8)
    ]


def page(random, rows=24):
    """A made-up page twice: true lines with their number as text, and what another engine finds of
    them. Returns both, and the groups that are right as sets of (side, place in the side's
    list).
    """
    first, second, right = [], [], []
    for row in range(rows):
        cells = sorted(random.sample(range(0, 2000, 250), random.randint(1, 4)))
        at = [
            region(
                x + random.uniform(0, 20),
                60 * row + random.uniform(-2, 2),
                random.uniform(90, 200),
                40,
            )
            for x in cells
        ]
        for cell in at:
            kind = random.choices(
                ["same", "split", "dropped", "only second"], [80, 8, 6, 6]
            )[0]
            by = random.uniform(0, 16)
            group = set()
            if kind != "only second":
                group.add((0, len(first)))
                first.append(cell)
            if kind == "split":
                half = cell.box.width / 2
                for left in (cell.box.x, cell.box.x + half + 6):
                    group.add((1, len(second)))
                    second.append(region(left, cell.box.y - 1, half - 6, 41))
            elif kind != "dropped":
                group.add((1, len(second)))
                second.append(padded(cell, by))
            right.append(group)
    return first, second, right


def test_made_up_pages_are_grouped_right():
    """Padding of up to 16 px on a line pitch of 60, splits, and lines that one side misses."""
    found_right = total = 0
    for seed in range(60):
        sides = page(random.Random(seed))
        numbered = [
            [Region(r.box, str(n)) for n, r in enumerate(side)] for side in sides[:2]
        ]
        groups = align(*numbered)
        found = [
            frozenset((s, int(r.text)) for s, side in enumerate(g.members) for r in side)
            for g in groups
        ]
        assert sorted(member for group in found for member in group) == [
            (s, n) for s in (0, 1) for n in range(len(sides[s]))
        ]
        found_right += len({frozenset(group) for group in sides[2]} & set(found))
        total += len(sides[2])
    assert found_right >= 0.99 * total


boxes = st.builds(
    region,
    st.integers(0, 300).map(float),
    st.integers(0, 300).map(float),
    st.integers(1, 200).map(float),
    st.integers(1, 60).map(float),
    st.text("ab", max_size=2),
)


@settings(max_examples=60)
@given(st.lists(boxes, max_size=8), st.lists(boxes, max_size=8))
def test_every_region_is_in_exactly_one_group(left, right):
    groups = align(left, right)
    for side, regions in enumerate((left, right)):
        found = [r for group in groups for r in group.members[side]]
        assert sorted(map(repr, found)) == sorted(map(repr, regions))


def test_empty_pages():
    assert align([], []) == []
