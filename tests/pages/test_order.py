import numpy as np

from nordocr_cli.pages.order import Span, reading_order, rows_of


def spans(*places, height=30):
    """Spans from (left, top, right)."""
    return [Span(left, top, right, top + height) for left, top, right in places]


def shuffled_order(pieces):
    """The order of pieces that were shuffled, as numbers of the pieces as given."""
    numbers = np.random.default_rng(1).permutation(len(pieces))
    return [int(numbers[n]) for n in reading_order([pieces[n] for n in numbers])]


def column(left, right, top=0, lines=6, pitch=45):
    return [(left, top + pitch * at, right - 40 * (at % 3)) for at in range(lines)]


def test_lines_go_from_top_to_bottom():
    pieces = spans(*column(100, 900))
    assert shuffled_order(pieces) == list(range(6))


def test_columns_are_read_one_after_the_other():
    pieces = spans(*column(100, 600), *column(660, 1160))
    assert shuffled_order(pieces) == list(range(12))


def test_columns_whose_lines_do_not_stand_level_too():
    pieces = spans(*column(100, 600), *column(660, 1160, top=20, pitch=41))
    assert shuffled_order(pieces) == list(range(12))


def test_three_columns_below_a_title_and_above_a_footer():
    title = [(100, 0, 1500)]
    columns = [*column(100, 540, 90), *column(580, 1020, 90), *column(1060, 1500, 90)]
    pieces = spans(*title, *columns, (100, 420, 1400))
    assert shuffled_order(pieces) == list(range(20))


def test_rows_of_a_table_are_read_from_left_to_right():
    rows = [
        [(100, 45 * at, 480), (900, 45 * at + 2, 1000), (1200, 45 * at, 1310)]
        for at in range(8)
    ]
    pieces = spans(*(cell for row in rows for cell in row))
    assert shuffled_order(pieces) == list(range(24))


def test_rows_of_a_table_some_of_whose_cells_are_empty():
    places = []
    for at in range(12):
        places.append((100, 45 * at, 700))
        places += [(1100 - 30 * (at % 4), 45 * at, 1200)] if at % 3 else []
        places += [(1400 - 25 * (at % 5), 45 * at, 1500)] if at % 4 else []
    assert shuffled_order(spans(*places)) == list(range(len(places)))


def test_blocks_of_a_letter_head_whose_lines_do_not_stand_level():
    sender = [(100, 40 * at, 420) for at in range(4)]
    receiver = [(900, 14 + 61 * at, 1250) for at in range(3)]
    assert shuffled_order(spans(*sender, *receiver)) == list(range(7))


def test_pieces_of_one_row_stand_level():
    pieces = spans((100, 0, 200), (300, 8, 400), (100, 45, 200))
    assert rows_of(pieces) == [[0, 1], [2]]


def test_a_page_of_ten_thousand_lines_is_ordered():
    pieces = spans(
        *(
            (100 + 700 * (at % 4), 12 * (at // 4), 700 + 700 * (at % 4))
            for at in range(10_000)
        ),
        height=9,
    )
    assert sorted(reading_order(pieces)) == list(range(10_000))


def test_no_pieces_have_no_order():
    assert reading_order([]) == []
