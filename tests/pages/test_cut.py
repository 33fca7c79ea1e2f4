from itertools import permutations

import numpy as np
import pytest
from PIL import Image

from nordocr_cli.errors import DataError
from nordocr_cli.pages.cut import crop_box, cut_line, cut_size
from nordocr_cli.pages.outline import Outline, outline_of
from nordocr_cli.records import Box

TEXT = "Årsredovisning för Örebro"


@pytest.fixture
def page():
    """A gray page whose pixels are all different in each row and column."""
    rows, columns = np.mgrid[0:200, 0:300]
    return ((rows * 7 + columns * 3) % 251).astype(np.uint8)


def ink(line):
    return line[:, :, 0].astype(int) < 128


def overlap(one, other):
    """Shared ink of two cuts of one line, over all of their ink."""
    from nordocr_cli.data.resize import resize_line  # noqa: F401 # the cuts are compared as read

    height, width = other.shape[:2]
    one = np.asarray(
        Image.fromarray(one).resize((width, height), Image.Resampling.BILINEAR)
    )
    return (ink(one) & ink(other)).sum() / (ink(one) | ink(other)).sum()


def corners(box, degrees, centre):
    """The corners of a box after the page was turned clockwise about `centre`."""
    left, top, right, bottom = box
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = np.array(
        [(left, top), (right, top), (right, bottom), (left, bottom)], dtype=float
    )
    return [tuple(point) for point in (points - centre) @ turn + centre]


def test_an_upright_box_is_cut_as_the_consumer_cuts_it(page):
    box = Box(10.7, 20.2, 30.1, 40.9)
    line = cut_line(page, Outline.of_box(box))
    assert line.shape == (42, 31, 3)  # 20 to 62, 10 to 41
    assert np.array_equal(line[:, :, 0], page[20:62, 10:41])


def test_a_quad_of_an_upright_box_cuts_its_pixels(page):
    quad = Outline(((10.0, 20.0), (50.0, 20.001), (50.0, 60.0), (10.0, 60.0)))
    assert not quad.is_upright_box
    assert np.array_equal(cut_line(page, quad)[:, :, 0], page[20:60, 10:50])


@pytest.mark.parametrize("degrees", [-5, -2, 2, 5, 30, 90, 180, 270])
def test_a_turned_quad_is_cut_as_the_upright_line(degrees, draw_line):
    drawn, box, centre = draw_line(0)
    upright = cut_line(
        drawn, Outline.of_box(Box(box[0], box[1], box[2] - box[0], box[3] - box[1]))
    )
    turned, _, _ = draw_line(degrees)
    line = cut_line(turned, Outline.of_quad(corners(box, degrees, centre)))
    assert abs(line.shape[0] - upright.shape[0]) <= 1
    assert abs(line.shape[1] - upright.shape[1]) <= 1
    assert overlap(line, upright) > 0.8


@pytest.fixture(scope="module")
def draw_line():
    from .conftest import draw

    drawn = draw({TEXT: (300, 400)}, size=(1000, 1000), letter_px=40)
    image = Image.fromarray(drawn.pixels)

    def of(degrees):
        turned = image.rotate(-degrees, Image.Resampling.BICUBIC, fillcolor=255)
        return np.asarray(turned), drawn.boxes[TEXT], (500, 500)

    return of


def test_corners_may_begin_anywhere_and_run_either_way_where_a_baseline_tells(draw_line):
    page, box, centre = draw_line(5)
    quad = corners(box, 5, centre)
    baseline = (quad[3], quad[2])
    expected = cut_line(page, Outline.of_quad(quad))
    for shift in range(4):
        shifted = quad[shift:] + quad[:shift]
        assert np.array_equal(
            cut_line(page, Outline.of_polygon(shifted, baseline)), expected
        )
        backwards = shifted[::-1]
        assert np.array_equal(
            cut_line(page, Outline.of_polygon(backwards, baseline)), expected
        )


@pytest.mark.parametrize(
    "order",
    [order for order in permutations(range(4)) if order != (2, 3, 0, 1)],
)
def test_corners_in_another_order_neither_mirror_nor_fold_the_line(order, page):
    corners = [(40.0, 50.0), (240.0, 58.0), (239.0, 88.0), (39.0, 80.0)]
    expected = cut_line(page, Outline.of_quad(corners))

    mixed = [corners[number] for number in order]

    assert (cut_line(page, Outline.of_quad(mixed)) == expected).all()
    box = Box(39, 50, 201, 38)
    assert (cut_line(page, outline_of(box, mixed, text="Årsredovisning")) == expected).all()


def test_clockwise_corners_from_the_bottom_right_are_upside_down_text(page):
    corners = [(40.0, 50.0), (240.0, 50.0), (240.0, 88.0), (40.0, 88.0)]
    upright = cut_line(page, Outline.of_quad(corners))

    turned = cut_line(page, Outline.of_quad(corners[2:] + corners[:2]))

    assert (turned[::-1, ::-1] == upright).all()


def test_a_tall_polygon_reads_along_its_baseline(draw_line):
    page, box, centre = draw_line(270)
    left, top, right, bottom = box
    quad = corners(box, 270, centre)
    upright, _, _ = draw_line(0)
    expected = upright[top:bottom, left:right]
    line = cut_line(page, Outline.of_polygon(quad[2:] + quad[:2], (quad[3], quad[2])))
    assert line.shape[1] > 5 * line.shape[0]
    assert overlap(line, np.repeat(expected[:, :, None], 3, axis=2)) > 0.8


def test_neighbours_inside_the_box_of_a_polygon_become_paper():
    page = np.full((200, 600), 255, dtype=np.uint8)
    page[95:105, 100:500] = 0  # the line
    page[60:70, 100:200] = 0  # a neighbour above its left end
    polygon = [(90, 85), (300, 85), (310, 55), (510, 55), (510, 115), (90, 115)]
    line = cut_line(page, Outline.of_polygon(polygon, [(90, 105), (510, 105)]))
    rows = np.flatnonzero(ink(line).any(axis=1))
    assert len(rows) == 10


def test_paper_is_not_white_where_the_page_is_not():
    page = np.full((200, 600), 180, dtype=np.uint8)
    page[95:105, 100:500] = 20
    page[60:70, 100:500] = 20
    polygon = [(90, 85), (510, 85), (510, 115), (300, 130), (90, 115)]
    line = cut_line(page, Outline.of_polygon(polygon))
    outside = line[:3, :3]
    assert (outside == 180).all()


def test_a_line_along_a_curved_baseline_is_straightened():
    page = np.full((400, 1000), 255, dtype=np.uint8)
    xs = np.arange(100, 900)
    curve = 200 + 40 * np.sin((xs - 100) / 800 * np.pi)
    for x, y in zip(xs, curve, strict=True):
        page[round(y) - 3 : round(y) + 3, x] = 0
    baseline = [(float(x), float(y)) for x, y in zip(xs[::50], curve[::50], strict=True)]
    above = [(x, y - 20) for x, y in baseline]
    below = [(x, y + 20) for x, y in baseline]
    line = cut_line(page, Outline.of_polygon(above + below[::-1], baseline))
    height = np.ptp(np.flatnonzero(ink(line).any(axis=1)))
    assert height < 14  # the curve itself is 40 px high


def test_a_bent_polygon_without_a_baseline_is_straightened():
    xs = np.linspace(100, 900, 17)
    curve = 200 + 60 * np.sin((xs - 100) / 800 * np.pi)
    page = np.full((400, 1000), 255, dtype=np.uint8)
    for x in range(100, 900):
        y = round(200 + 60 * np.sin((x - 100) / 800 * np.pi))
        page[y - 3 : y + 3, x] = 0
    above = [(float(x), float(y) - 20) for x, y in zip(xs, curve, strict=True)]
    below = [(float(x), float(y) + 20) for x, y in zip(xs, curve, strict=True)]
    line = cut_line(page, Outline.of_polygon(above + below[::-1]))
    assert np.ptp(np.flatnonzero(ink(line).any(axis=1))) < 25


def test_a_sloping_baseline_in_an_upright_box_gives_a_sloping_outline():
    box = [(100, 100), (500, 100), (500, 160), (100, 160)]
    outline = Outline.of_polygon(box, [(100, 120), (500, 150)])
    assert outline.points == ((100, 100), (500, 130), (500, 160), (100, 130))
    level = Outline.of_polygon(box, [(100, 148), (500, 150)])
    assert level.box == Box(100, 100, 400, 60)
    assert level.is_upright_box


def test_the_consumers_own_crop_is_the_upright_box(page):
    quad = Outline.of_quad([(20, 30), (120, 50), (116, 70), (16, 50)])
    assert np.array_equal(cut_line(page, quad, crop="box")[:, :, 0], page[30:70, 16:120])
    assert cut_size(quad, crop="box") == (40, 104)


def test_sizes_are_known_without_the_page(page):
    for outline in (
        Outline.of_box(Box(10, 20, 30, 40)),
        Outline.of_quad([(20, 30), (120, 50), (116, 70), (16, 50)]),
        Outline.of_quad([(50, 20), (70, 22), (60, 120), (40, 118)]),
    ):
        assert cut_line(page, outline).shape[:2] == cut_size(outline)


def test_paddles_rule_for_tall_quads_turns_them_upright():
    tall = [(100, 10), (130, 10), (130, 200), (100, 200)]
    assert cut_size(Outline.of_quad(tall)) == (30, 190)
    assert Outline.of_quad(tall).angle_degrees == -90


def test_an_outline_at_the_edge_is_cut_and_one_outside_is_refused(page):
    edge = Outline.of_quad([(-10, 20), (80, 24), (78, 60), (-12, 56)])
    assert cut_line(page, edge).shape[:2] == cut_size(edge)
    with pytest.raises(DataError, match="outside its page of width 300 and height 200"):
        cut_line(page, edge.moved(400, 0))
    with pytest.raises(DataError, match="outside its page"):
        crop_box(page, Box(10, 300, 20, 20))


def test_colour_is_kept(page):
    colour = np.stack([page, page // 2, page // 3], axis=2)
    quad = Outline.of_quad([(20, 30), (120, 50), (116, 70), (16, 50)])
    line = cut_line(colour, quad)
    assert line.shape[2] == 3
    assert abs(int(line[10, 50, 0]) - 2 * int(line[10, 50, 1])) <= 4


def test_too_few_corners_are_refused():
    with pytest.raises(ValueError, match="3 corners"):
        Outline.of_polygon([(0, 0), (1, 1)])
    with pytest.raises(ValueError, match="4 corners"):
        Outline.of_quad([(0, 0), (1, 1), (2, 0)])


def test_a_layouts_line_is_cut_along_its_polygon_or_its_box():
    box = Box(10, 20, 100, 30)
    assert outline_of(box).is_upright_box
    assert outline_of(box, baseline=[(12, 42), (100, 43)]).is_upright_box
    assert not outline_of(box, baseline=[(12, 30), (100, 45)]).is_upright_box
    assert outline_of(box, [(10, 20), (110, 25), (110, 50), (10, 45)]).points[1] == (
        110,
        25,
    )


@pytest.mark.parametrize("text", ["7", "", "10"])
@pytest.mark.parametrize("slope", [0.0, 0.6])
def test_a_character_that_stands_alone_is_not_turned(text, slope):
    corners = [(10, 20), (29, 20 + slope), (29 - slope, 50), (10 - slope, 50)]
    box = Box(9, 20, 20, 30)
    assert outline_of(box, text=text).is_upright_box
    for outline in (outline_of(box, corners, text=text), Outline.of_quad(corners, "7")):
        assert abs(outline.angle_degrees) < 3
    height, width = cut_size(outline_of(box, corners, text=text))
    assert height > width


def test_a_high_box_alone_is_cut_as_it_is_and_a_high_polygon_turned():
    box = Box(10, 20, 30, 300)
    corners = [(10, 20), (40, 20), (40, 320), (10, 320)]
    assert outline_of(box, text="Bankgiro 123-4567").is_upright_box
    for text in ("", "Bankgiro 123-4567"):
        assert abs(outline_of(box, corners, text=text).angle_degrees) == 90


@pytest.mark.parametrize("side", [40_000, 1e8])
@pytest.mark.parametrize("corners", [4, 5])
def test_a_line_much_larger_than_a_page_is_refused_and_not_drawn(page, side, corners):
    points = [(-side, -9), (9, -side), (side, 9), (9, side), (-side / 2, side / 2)]
    with pytest.raises(DataError, match="are the regions those of another document"):
        cut_line(page, Outline.of_polygon(points[:corners]))
