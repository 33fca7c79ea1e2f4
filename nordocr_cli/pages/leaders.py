"""Leaders: rows of dots between a heading and its page number.

The detector gives lines with leaders a low score, and the recognizer reads their dots as letters.
The dots are therefore painted over. The conditions are strict, because specks and halftones also
form rows of dots: see `find_leaders`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.pixels import Pixels

Areas = NDArray[np.int32]  # (N, 5), see `ink_areas`

# Lengths are in heights of the page's small letters (about an x-height) where not in pixels.
_MINIMUM_DOTS = 8
# Sides of a dot: the larger of the two minima, and of the two maxima.
_SMALLEST_DOT = 0.1
_SMALLEST_DOT_PX = 2.0
_LARGEST_DOT = 0.5
_LARGEST_DOT_PX = 3.0
_SOLID = 0.6  # share of the box that is ink
_LONGEST_STEP = 2.5  # between the middles of two dots
_MAXIMUM_SLOPE = 0.15  # skew of pages is up to 6 degrees
# Steps differ from their median by at most the larger of these.
_EVEN_SHARE = 0.2
_EVEN_PX = 1.5
# So do the widths and heights of the dots.
_ALIKE_SHARE = 0.3
_ALIKE_PX = 1.0
# A dot's middle is at most so far from the row, by the larger of these.
_STRAIGHT = 0.08
_STRAIGHT_PX = 1.0
_CLEAR = 0.9  # no other ink has its middle closer than this to the row
_EXCEPTIONS = 0.1  # specks next to a leader, as a share of its dots
# Dots that touch each other or a speck belong to a leader too: flat ink on its row.
_FLAT = 1.7  # at most this many times as high as a dot
_NEXT_STEPS = 1.7  # at most so many steps away from the leader
_MAXIMUM_CANDIDATES = 20_000  # a page with more dots is a halftone


@dataclass(frozen=True, slots=True)
class Leader:
    """A row of dots, from left to right.

    `dots` are its areas, `step_px` is the distance from one dot to the next, and the middles of the
    dots lie at y = `start` + `slope` * x.
    """

    dots: Areas
    step_px: float
    slope: float
    start: float

    @property
    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The middles (x, y) of the first and the last dot."""
        first, last = _middles(self.dots[[0, -1]]).tolist()
        return (first[0], first[1]), (last[0], last[1])


def find_leaders(areas: Areas, letter_px: float) -> list[Leader]:
    """Return the leaders of a page.

    `areas` are those of `ink_areas` on a page whose small letters are `letter_px` high. A leader
    has at least 8 dots of equal size and equal distance on a straight row, with no other ink
    between them or close above or below.
    """
    dots = _dots_among(areas, letter_px)
    if not _MINIMUM_DOTS <= len(dots) <= _MAXIMUM_CANDIDATES:
        return []

    leaders: list[Leader] = []
    for chain in _chains(dots, letter_px):
        for run in _even_runs(dots[chain]):
            leader = _leader_of(run)
            is_known = any(_is_part_of(leader, other) for other in leaders)
            if is_known or not _is_straight(leader, letter_px):
                continue
            if _is_clear(leader, areas, letter_px):
                leaders.append(_extended(leader, areas))
    return leaders


def painted_over(
    page: Pixels, boxes: NDArray[np.int32], margin_px: int | None = None
) -> Pixels:
    """Return a copy of `page`, uint8 (H, W, 3) or (H, W), with paper in place of `boxes` (N, 4):
    left, top, width and height in pixels. `margin_px` around them is paper too, by default what the
    soft edges of gray scans need.
    """
    painted = page.copy()
    for left, top, width, height in boxes.tolist():
        margin = 1 + height // 3 if margin_px is None else margin_px
        columns = slice(max(0, left - margin), left + width + margin)
        around = page[max(0, top - 4 * margin) : top + height + 4 * margin, columns]
        paper = np.median(around.reshape(-1, *page.shape[2:]), axis=0)
        painted[max(0, top - margin) : top + height + margin, columns] = paper.astype(
            np.uint8
        )
    return painted


def _middles(areas: Areas) -> NDArray[np.float64]:
    """Return the middles (N, 2) of areas."""
    return areas[:, :2] + areas[:, 2:4] / 2


def _dots_among(areas: Areas, letter_px: float) -> Areas:
    """Return the areas that are as small, solid and round as dots, from left to right."""
    width = areas[:, 2]
    height = areas[:, 3]
    ink = areas[:, 4]
    smallest = max(_SMALLEST_DOT_PX, _SMALLEST_DOT * letter_px)
    largest = max(_LARGEST_DOT_PX, _LARGEST_DOT * letter_px)
    longer = np.maximum(width, height)
    shorter = np.minimum(width, height)
    has_size = (longer >= smallest) & (longer <= largest)
    is_round = longer - shorter <= np.maximum(1, 0.5 * shorter)
    is_solid = ink >= _SOLID * width * height
    dots = areas[has_size & is_round & is_solid]
    return dots[np.argsort(dots[:, 0], kind="stable")]


def _chains(dots: Areas, letter_px: float) -> list[list[int]]:
    """Return the numbers of dots that follow each other from left to right: each is the next one
    of its size on the row and within reach.
    """
    middles = _middles(dots)
    order = np.argsort(middles[:, 0], kind="stable")
    x = middles[order, 0]
    y = middles[order, 1]
    size = dots[order, 2:4].max(axis=1)
    reach = _LONGEST_STEP * letter_px
    # The dots within reach of each one: those from `starts` to before `ends`.
    starts = np.searchsorted(x, x, side="right").tolist()
    ends = np.searchsorted(x, x + reach, side="left").tolist()
    following: dict[int, int] = {}
    has_previous: set[int] = set()
    for at, (start, end) in enumerate(zip(starts, ends, strict=True)):
        allowed_px = _MAXIMUM_SLOPE * (x[start:end] - x[at]) + _STRAIGHT_PX
        is_on_row = np.abs(y[start:end] - y[at]) <= allowed_px
        is_alike = np.abs(size[start:end] - size[at]) <= max(2.0, _ALIKE_SHARE * size[at])
        nearest = np.flatnonzero(is_on_row & is_alike)[:1]
        if not len(nearest):
            continue
        other = start + int(nearest[0])
        if other not in has_previous:
            following[at] = other
            has_previous.add(other)

    chains = []
    for at in following:
        if at in has_previous:
            continue
        chain = [at]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        chains.append(order[chain].tolist())
    return [chain for chain in chains if len(chain) >= _MINIMUM_DOTS]


def _even_runs(chain: Areas) -> list[Areas]:
    """Return the parts of a chain with equal steps and sizes."""
    steps = np.diff(_middles(chain)[:, 0])
    is_even = _is_alike(steps, _EVEN_SHARE, _EVEN_PX)
    has_width = _is_alike(chain[:, 2], _ALIKE_SHARE, _ALIKE_PX)
    has_height = _is_alike(chain[:, 3], _ALIKE_SHARE, _ALIKE_PX)
    is_alike = has_width & has_height
    continues = is_even & is_alike[1:] & is_alike[:-1]
    runs = np.split(chain, np.flatnonzero(~continues) + 1)
    return [run for run in runs if len(run) >= _MINIMUM_DOTS]


def _is_alike(
    values: NDArray[np.float64] | NDArray[np.int32], share: float, pixels: float
) -> NDArray[np.bool_]:
    """Whether each of `values` (N,) is close to their median."""
    median = float(np.median(values))
    return np.asarray(np.abs(values - median) <= np.maximum(pixels, share * median))


def _leader_of(run: Areas) -> Leader:
    middles = _middles(run)
    slope, start = np.polyfit(middles[:, 0], middles[:, 1], 1)
    step_px = float(np.median(np.diff(middles[:, 0])))
    return Leader(run, step_px, float(slope), float(start))


def _distances(leader: Leader, areas: Areas) -> NDArray[np.float64]:
    """How far the middles of areas are below the row of a leader, in pixels (N,)."""
    middles = _middles(areas)
    return np.asarray(middles[:, 1] - (leader.start + leader.slope * middles[:, 0]))


def _is_part_of(leader: Leader, other: Leader) -> bool:
    """Whether the first dot of a leader is one of another leader's."""
    left, top = leader.dots[0, :2].tolist()
    return bool(((other.dots[:, 0] == left) & (other.dots[:, 1] == top)).any())


def _is_straight(leader: Leader, letter_px: float) -> bool:
    allowed_px = max(_STRAIGHT_PX, _STRAIGHT * letter_px)
    return bool(np.abs(_distances(leader, leader.dots)).max() <= allowed_px)


def _is_clear(leader: Leader, areas: Areas, letter_px: float) -> bool:
    """Whether no ink but the dots of a leader has its middle on its row; specks do not count."""
    (first, _), (last, _) = leader.ends
    speck_px = 0.5 * float(np.median(leader.dots[:, 2:4]))
    x = _middles(areas)[:, 0]
    is_between = (x >= first) & (x <= last) & (areas[:, 2:4].max(axis=1) > speck_px)
    near = np.abs(_distances(leader, areas[is_between])) < _CLEAR * letter_px
    others = int(near.sum()) - len(leader.dots)
    return others <= _EXCEPTIONS * len(leader.dots)


def _extended(leader: Leader, areas: Areas) -> Leader:
    """The leader with the dots next to it that were not alike: they touch others, or specks."""
    dot_px = float(np.median(leader.dots[:, 3]))
    is_flat = areas[:, 3] <= max(dot_px + 1, _FLAT * dot_px)
    is_on_row = np.abs(_distances(leader, areas)) <= max(_STRAIGHT_PX, dot_px / 2)
    row = areas[is_flat & is_on_row]
    row = row[np.argsort(row[:, 0], kind="stable")]
    left = row[:, 0]
    right = row[:, 0] + row[:, 2]
    is_far = left[1:] - np.maximum.accumulate(right)[:-1] > _NEXT_STEPS * leader.step_px
    parts = np.split(row, np.flatnonzero(is_far) + 1)
    own = tuple(leader.dots[0, :2].tolist())
    for part in parts:
        if own in {tuple(corner) for corner in part[:, :2].tolist()}:
            return Leader(part, leader.step_px, leader.slope, leader.start)
    return leader
