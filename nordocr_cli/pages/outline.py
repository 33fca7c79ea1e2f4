"""Where a line of text is on its page: a box, a quadrilateral or a polygon, with or without a
baseline.

Every format that gives positions ends here, so that each line is cut in the same way (see cut.py).
Coordinates are pixels of the page: x to the right, y down.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.records import Box, Point

# How a line is cut: along its outline, or the box around it.
Crop = Literal["outline", "box"]
CROP_RULES: tuple[Crop, ...] = ("outline", "box")

# PaddleOCR turns a quadrilateral this many times as high as wide by a quarter before it is read.
_TALL = 1.5
# Digits and letters that stand alone are as high: with so few characters nothing is turned. Where
# the text is unknown, only what is higher still is turned.
_STANDS_ALONE = 2
_SURELY_TALL = 2.5
# A baseline that leaves the straight line between its ends by more than this share of the line's
# height is curved.
_CURVED_SHARE = 0.08
# An upright box whose baseline rises or falls by more than this share of its height encloses a
# sloping line.
_SLOPING_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Outline:
    """The outline of one line of text.

    `points` are its corners, in order around it. Four points are a quadrilateral: they begin at the
    top left corner of the text as it is read and go clockwise, so the first two give the reading
    direction. `baseline` are the points on which the letters stand, in reading direction; empty
    where it is unknown.
    """

    points: tuple[Point, ...]
    baseline: tuple[Point, ...] = ()

    @classmethod
    def of_box(cls, box: Box) -> "Outline":
        """Return the outline of an upright box."""
        return cls(
            (
                (box.x, box.y),
                (box.right, box.y),
                (box.right, box.bottom),
                (box.x, box.bottom),
            )
        )

    @classmethod
    def of_quad(cls, points: Sequence[Point], text: str = "") -> "Outline":
        """Return the outline of four corners whose first is the top left of the text, as PaddleOCR
        writes them.

        As in PaddleOCR, one that is much higher than wide holds text that reads upwards, unless it
        may be a character or two: by its `text`, "" where that is unknown, by its shape. Raises
        ValueError unless there are four points.

        Clockwise corners that begin at the bottom right mean text that is upside down. Corners in
        another order are sorted, because the text would be mirrored or folded; their first corner
        does not tell where the text begins, and it is taken to read to the right.
        """
        given = tuple(points)
        if len(given) != 4:
            raise ValueError(f"a quadrilateral has 4 corners, not {len(given)}")
        corners = _clockwise(_uncrossed(given))
        if corners != given and _runs_left(corners):
            corners = corners[2:] + corners[:2]
        first, second, third, fourth = corners
        width = max(math.dist(first, second), math.dist(fourth, third))
        height = max(math.dist(first, fourth), math.dist(second, third))
        if height >= _TALL * width and not _may_stand_alone(
            height / max(width, 1e-9), text
        ):
            dx = first[0] - fourth[0]
            dy = first[1] - fourth[1]
            if dx < -abs(dy):  # corners of a level line that begin at its bottom left
                return cls((second, third, fourth, first))
            return cls((fourth, first, second, third))
        return cls((first, second, third, fourth))

    @classmethod
    def of_polygon(
        cls, points: Sequence[Point], baseline: Sequence[Point] = ()
    ) -> "Outline":
        """Return the outline of a polygon whose corners may begin anywhere, as PAGE-XML and ALTO
        write them.

        Text reads along the baseline; without one along the polygon's longer side, from left to
        right, and where that side is upright in the order of the corners. Raises ValueError for
        fewer than three points.
        """
        if len(points) < 3:
            raise ValueError(f"a polygon has 3 corners or more, not {len(points)}")
        corners = tuple((float(x), float(y)) for x, y in points)
        line = tuple((float(x), float(y)) for x, y in baseline)
        if len(line) < 2 or line[0] == line[-1]:
            line = ()
        if len(corners) != 4:
            return cls(corners, line)

        corners = _uncrossed(corners)
        if line and _is_upright(corners):
            sloping = _quad_around_baseline(corners, line)
            if sloping is not None:
                return cls(sloping, line)
        return cls(_in_reading_order(corners, line), line)

    @property
    def box(self) -> Box:
        """The upright box around the outline."""
        xs = [x for x, _ in self.points]
        ys = [y for _, y in self.points]
        return Box(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))

    @property
    def is_upright_box(self) -> bool:
        """Whether it is an upright box whose text reads from left to right."""
        if len(self.points) != 4 or self.is_curved:
            return False
        first, second, third, fourth = self.points
        level = (
            first[1] == second[1]
            and third[1] == fourth[1]
            and first[0] == fourth[0]
            and second[0] == third[0]
        )
        return level and first[0] < second[0] and first[1] < fourth[1]

    @property
    def is_curved(self) -> bool:
        """Whether the baseline leaves the straight line between its ends by more than a twelfth of
        the line's height.
        """
        if len(self.baseline) < 3:
            return False
        _along, across = direction(self)
        offsets = np.asarray(self.baseline) - self.baseline[0]  # (N, 2)
        height = np.ptp(np.asarray(self.points) @ across)
        leaves = np.abs(offsets @ across)
        return bool(leaves.max() > _CURVED_SHARE * height)

    @property
    def angle_degrees(self) -> float:
        """Reading direction: 0 is to the right, positive values turn clockwise (down the page); in
        (-180, 180].
        """
        along, _ = direction(self)
        return math.degrees(math.atan2(along[1], along[0]))

    @property
    def length(self) -> float:
        """Length along the text in pixels."""
        along, _ = direction(self)
        if len(self.points) == 4:
            return math.dist(self.points[0], self.points[1])
        return float(np.ptp(np.asarray(self.points) @ along))

    def moved(self, dx: float, dy: float) -> "Outline":
        """Return the outline moved by (dx, dy) pixels."""
        points = tuple((x + dx, y + dy) for x, y in self.points)
        return Outline(points, tuple((x + dx, y + dy) for x, y in self.baseline))

    def scaled(self, x_factor: float, y_factor: float) -> "Outline":
        """Return the outline on a page scaled by these factors."""
        points = tuple((x * x_factor, y * y_factor) for x, y in self.points)
        return Outline(
            points, tuple((x * x_factor, y * y_factor) for x, y in self.baseline)
        )

    def clamped(self, height: int, width: int) -> "Outline":
        """Return the outline with its points inside a page of that size in pixels."""

        def inside(points: tuple[Point, ...]) -> tuple[Point, ...]:
            return tuple(
                (min(max(x, 0.0), width), min(max(y, 0.0), height)) for x, y in points
            )

        return Outline(inside(self.points), inside(self.baseline))


def outline_of(
    box: Box,
    polygon: Sequence[Point] = (),
    baseline: Sequence[Point] = (),
    text: str = "",
) -> Outline:
    """Return the outline of a line as a layout file gives it: its polygon where there is one, its
    box otherwise, each with the baseline if that is known.

    A box alone is read from left to right, however high it is: the consumer cuts its pixels. A
    quadrilateral that is higher than wide holds text that was turned by a quarter, unless it may
    be a character or two: by its `text`, "" where that is unknown, by its shape.
    """
    corners = tuple(polygon) if len(polygon) >= 3 else Outline.of_box(box).points
    if len(baseline) >= 2:
        return Outline.of_polygon(corners, baseline)
    if len(polygon) < 3:
        return Outline.of_box(box)
    outline = Outline.of_polygon(corners)
    if len(corners) != 4:
        return outline
    first, second, third, _ = outline.points
    aspect = math.dist(first, second) / max(math.dist(second, third), 1e-9)
    if _may_stand_alone(aspect, text):
        return Outline(_level(outline.points))
    return outline


def _may_stand_alone(aspect: float, text: str) -> bool:
    """Whether a quadrilateral `aspect` times as high as wide may hold one or two upright
    characters.
    """
    if text.strip():
        return len(text.strip()) <= _STANDS_ALONE
    return aspect < _SURELY_TALL


def _level(corners: tuple[Point, ...]) -> tuple[Point, ...]:
    """Four corners, clockwise, from the one at which the side begins that runs most to the
    right.
    """
    start = max(range(4), key=lambda at: _steps_right(corners, at))
    return corners[start:] + corners[:start]


def _steps_right(corners: tuple[Point, ...], at: int) -> float:
    dx, dy = _side(corners, at)
    return float(dx) / (math.hypot(dx, dy) or 1.0)


def direction(outline: Outline) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the unit vectors along the text, in reading direction, and across it, from its top to
    its bottom.
    """
    if outline.baseline:
        along = np.subtract(outline.baseline[-1], outline.baseline[0]).astype(np.float64)
    elif len(outline.points) == 4:
        first, second, third, fourth = np.asarray(outline.points, dtype=np.float64)
        along = (second - first) + (third - fourth)
    else:
        along = _long_axis(np.asarray(outline.points, dtype=np.float64))
    length = np.linalg.norm(along)
    along = along / length if length else np.array([1.0, 0.0])
    return along, np.array([-along[1], along[0]])


def _long_axis(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The longer side of the smallest rectangle around points (N, 2), to the right, or upwards
    where it is upright.
    """
    import cv2

    corners = cv2.boxPoints(cv2.minAreaRect(points.astype(np.float32)))
    sides = corners[1] - corners[0], corners[2] - corners[1]
    along = max(sides, key=lambda side: float(np.linalg.norm(side))).astype(np.float64)
    is_upright = abs(along[1]) > abs(along[0])
    backwards = along[1] > 0 if is_upright else along[0] < 0
    if backwards:
        return -along
    return along


def _in_reading_order(
    corners: tuple[Point, ...], baseline: tuple[Point, ...]
) -> tuple[Point, ...]:
    """Four corners, clockwise from the top left of the text."""
    corners = _clockwise(corners)
    starts = range(4)
    if baseline:
        towards = np.subtract(baseline[-1], baseline[0])
        # Of the four sides the one that runs along the baseline is the top.
        start = max(
            starts,
            key=lambda at: (
                float(_side(corners, at) @ towards)
                / (float(np.linalg.norm(_side(corners, at))) or 1.0)
            ),
        )
        return corners[start:] + corners[:start]

    first = float(np.linalg.norm(_side(corners, 0)) + np.linalg.norm(_side(corners, 2)))
    second = float(np.linalg.norm(_side(corners, 1)) + np.linalg.norm(_side(corners, 3)))
    start = 0 if first >= second else 1
    corners = corners[start:] + corners[:start]
    if _runs_left(corners):
        return corners[2:] + corners[:2]
    return corners


def _runs_left(corners: tuple[Point, ...]) -> bool:
    """Whether the first side of four corners is level and runs to the left."""
    dx, dy = _side(corners, 0)
    return bool(dx < 0 and abs(dx) >= abs(dy))


def _clockwise(corners: tuple[Point, ...]) -> tuple[Point, ...]:
    """Four corners, clockwise from the first."""
    if _signed_area(corners) < 0:
        return corners[:1] + corners[:0:-1]
    return corners


def _uncrossed(corners: tuple[Point, ...]) -> tuple[Point, ...]:
    """Four corners in order around their quadrilateral: some programs write them row by row, so
    that two sides cross each other.
    """
    first, second, third, fourth = corners
    if _cross(second, third, fourth, first):
        return first, second, fourth, third
    if _cross(first, second, third, fourth):
        return first, third, second, fourth
    return corners


def _cross(start: Point, end: Point, other_start: Point, other_end: Point) -> bool:
    """Whether two sides cross each other inside of both."""
    turns = [
        _signed_area((start, end, other_start)) * _signed_area((start, end, other_end)),
        _signed_area((other_start, other_end, start))
        * _signed_area((other_start, other_end, end)),
    ]
    return max(turns) < 0


def _side(corners: tuple[Point, ...], at: int) -> NDArray[np.float64]:
    return np.subtract(corners[(at + 1) % 4], corners[at]).astype(np.float64)


def _signed_area(corners: Sequence[Point]) -> float:
    """Twice the area; positive when the corners go clockwise on the page."""
    following = [*corners[1:], corners[0]]
    return sum(
        x * next_y - next_x * y
        for (x, y), (next_x, next_y) in zip(corners, following, strict=True)
    )


def _is_upright(corners: tuple[Point, ...]) -> bool:
    return len({x for x, _ in corners}) == 2 and len({y for _, y in corners}) == 2


def _quad_around_baseline(
    corners: tuple[Point, ...], baseline: tuple[Point, ...]
) -> tuple[Point, ...] | None:
    """The sloping quadrilateral that an upright box around a sloping line encloses; None for a line
    that does not slope.
    """
    (left, start_y), (right, end_y) = baseline[0], baseline[-1]
    top = min(y for _, y in corners)
    bottom = max(y for _, y in corners)
    rise = abs(end_y - start_y)
    runs_level = right > left and rise < abs(right - left)
    if not runs_level or rise <= _SLOPING_SHARE * (bottom - top):
        return None

    # Where the baseline is highest, letters reach the top of the box; where it is lowest, their
    # tails reach its bottom.
    above = max(1.0, min(start_y, end_y) - top)
    below = max(1.0, bottom - max(start_y, end_y))
    return (
        (left, start_y - above),
        (right, end_y - above),
        (right, end_y + below),
        (left, start_y + below),
    )
