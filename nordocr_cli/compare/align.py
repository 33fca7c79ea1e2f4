"""Which regions of several readings of one page show the same line.

IoU is the wrong measure for lines: a detector's padding of 16 px halves it. Two lines are joined
when they overlap by at least half of the smaller height and half of the smaller width; what hangs
together is one group. Three cells of one engine are thus compared with the one row of another. Of a
skewed line with a known outline the height counts where both lines are, not that of the box around
it, which reaches into its neighbours. Where only such boxes are known the nearest are joined first,
and a group never takes in two lines of one side that stand above each other: on a page that is
turned by a degree everything would else hang together.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

from nordocr_cli.records import Box, Region

MIN_OVERLAP = 0.5
# A box over several lines (a table, a stamp) would join everything under it; it stays alone.
MAX_MEDIAN_HEIGHTS = 3.0
# Boxes whose middles are nearer than this share of their height are the same line, found twice.
_ONE_LINE = 0.25


@dataclass(frozen=True)
class RegionGroup:
    """Regions of one line: `members[k]` are those of side k, left to right; empty where side k saw
    nothing there.
    """

    members: tuple[tuple[Region, ...], ...]

    @property
    def box(self) -> Box:
        """The smallest box around all members."""
        boxes = [region.box for side in self.members for region in side]
        x = min(b.x for b in boxes)
        y = min(b.y for b in boxes)
        return Box(x, y, max(b.right for b in boxes) - x, max(b.bottom for b in boxes) - y)

    def text(self, side: int) -> str | None:
        """What side `side` read: its members' texts joined by one space; None when it saw nothing
        there.
        """
        if self.members[side]:
            return " ".join(region.text for region in self.members[side])
        return None

    @property
    def shape(self) -> str:
        """How many regions each side has, e.g. `1:1` or `3:1`."""
        return ":".join(str(len(side)) for side in self.members)


def align(*sides: Sequence[Region]) -> list[RegionGroup]:
    """Group the regions of one page, as several readings (`sides`) have them. Every region is in
    exactly one group.

    Boxes that are the same on every side (to the pixel, the usual case) belong together whatever
    else overlaps them; the rest goes by overlap. Groups come from top to bottom, then left to
    right.
    """
    regions = [(side, region) for side, of_side in enumerate(sides) for region in of_side]
    # of each group, by the node that it is named after
    members = {node: [node] for node in range(len(regions))}
    group = list(range(len(regions)))

    def join(a: int, b: int) -> None:
        for node in members.pop(b):
            group[node] = a
            members[a].append(node)

    settled = set()
    for nodes in _same_boxes(regions):
        for node in nodes[1:]:
            join(group[nodes[0]], group[node])
        if len(nodes) == len(sides):
            settled |= set(nodes)

    heights = [_height(region) for _, region in regions]
    tallest = MAX_MEDIAN_HEIGHTS * median(heights) if regions else 0.0
    open_nodes = [
        node
        for node in range(len(regions))
        if node not in settled and heights[node] <= tallest
    ]
    for a, b in _near_pairs(regions, open_nodes):
        first = group[a]
        second = group[b]
        if first == second:
            continue
        across = product(members[first], members[second])
        if not any(_stacked(regions[n], regions[m]) for n, m in across):
            join(first, second)

    found = []
    for nodes in members.values():
        by_side: list[list[Region]] = [[] for _ in sides]
        for node in nodes:
            side, region = regions[node]
            by_side[side].append(region)
        ordered = [sorted(of_side, key=lambda r: r.box.x) for of_side in by_side]
        found.append(RegionGroup(tuple(map(tuple, ordered))))
    return sorted(found, key=lambda group: (group.box.y, group.box.x))


def _near_pairs(
    regions: Sequence[tuple[int, Region]], nodes: Sequence[int]
) -> list[tuple[int, int]]:
    """Return the pairs of `nodes` from different sides that overlap enough, nearest first."""
    apart: dict[tuple[int, int], float] = {}
    for number, a in enumerate(nodes):
        for b in nodes[:number]:
            if regions[a][0] == regions[b][0]:
                continue
            distance = _apart(regions[a][1], regions[b][1])
            if distance is not None:
                apart[a, b] = distance
    return sorted(apart, key=apart.__getitem__)


def _same_boxes(regions: Sequence[tuple[int, Region]]) -> Iterable[list[int]]:
    """Return the numbers of the regions with the same box, one of each side. Boxes that occur twice
    on a side are paired one by one.
    """
    same: dict[tuple[tuple[int, ...], int], list[int]] = {}
    seen: Counter[tuple[int, tuple[int, ...]]] = Counter()
    for node, (side, region) in enumerate(regions):
        edges = (
            round(region.box.x),
            round(region.box.y),
            round(region.box.right),
            round(region.box.bottom),
        )
        same.setdefault((edges, seen[side, edges]), []).append(node)
        seen[side, edges] += 1
    return same.values()


def _apart(a: Region, b: Region) -> float | None:
    """How far apart the middles of two lines are, in heights of the lower one; None when they do
    not overlap enough.
    """
    middle = _shared_x(a, b)
    if middle is None:
        return None

    top_a, bottom_a = _extent(a, middle)
    top_b, bottom_b = _extent(b, middle)
    lower = min(bottom_a - top_a, bottom_b - top_b)
    if min(bottom_a, bottom_b) - max(top_a, top_b) < MIN_OVERLAP * lower:
        return None
    return abs(top_a + bottom_a - top_b - bottom_b) / 2 / lower


def _shared_x(a: Region, b: Region) -> float | None:
    """The middle of what two regions share from left to right; None when that is less than half of
    the narrower one.
    """
    left = max(a.box.x, b.box.x)
    right = min(a.box.right, b.box.right)
    if right - left >= MIN_OVERLAP * min(a.box.width, b.box.width):
        return (left + right) / 2
    return None


def _stacked(a: tuple[int, Region], b: tuple[int, Region]) -> bool:
    """Whether two regions of the same side are two lines above each other."""
    side_a, region_a = a
    side_b, region_b = b
    if side_a != side_b:
        return False

    middle = _shared_x(region_a, region_b)
    if middle is None:
        return False

    top_a, bottom_a = _extent(region_a, middle)
    top_b, bottom_b = _extent(region_b, middle)
    lower = min(bottom_a - top_a, bottom_b - top_b)
    distance = abs(top_a + bottom_a - top_b - bottom_b) / 2
    return distance > _ONE_LINE * lower


def _extent(region: Region, x: float) -> tuple[float, float]:
    """Top and bottom of the region at `x`: where the vertical line there cuts its outline, or else
    those of its box.
    """
    cuts = []
    corners = region.polygon
    for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], *corners[:1]), strict=True):
        if min(x0, x1) <= x <= max(x0, x1) and x0 != x1:
            cuts.append(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
    if len(cuts) < 2 or min(cuts) == max(cuts):
        return region.box.y, region.box.bottom
    return min(cuts), max(cuts)


def _height(region: Region) -> float:
    top, bottom = _extent(region, region.box.x + region.box.width / 2)
    return bottom - top
