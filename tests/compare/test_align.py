from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.compare.align import align
from nordocr_cli.records import Box, Region


def region(x, y, width, height, text=""):
    return Region(Box(x, y, width, height), text)


def padded(r, by):
    return Region(Box(r.box.x - by, r.box.y - by, r.box.width + 2 * by, r.box.height + 2 * by), r.text)


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
        assert [(group.text(0), group.text(1)) for group in groups] == [(r.text, r.text) for r in ROWS]


def test_cells_stand_beside_their_row_in_reading_order():
    cells = [region(400, 2, 100, 38, "kr"), region(100, 1, 150, 39, "Summa"), region(260, 0, 120, 40, "12")]
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
