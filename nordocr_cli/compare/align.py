"""Which regions of several readings of one page show the same line.

IoU is the wrong measure for lines: a detector's padding of 16 px halves it. Two lines are joined when they overlap by at
least half of the smaller height and half of the smaller width; what hangs together is one group. So three cells that one
engine sees stand beside the one row that another sees. Of a skewed line with a known outline the height counts where both
lines are, not that of the box around it, which reaches into its neighbours.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from nordocr_cli.records import Box, Region

MIN_OVERLAP = 0.5
# A box over several lines (a table, a stamp) would join everything under it; it stays alone.
MAX_MEDIAN_HEIGHTS = 3.0


@dataclass(frozen=True)
class Group:
    """Regions of one line: `members[k]` are those of side k, left to right; empty where side k saw nothing there."""

    members: tuple[tuple[Region, ...], ...]

    @property
    def box(self) -> Box:
        """The smallest box around all members."""
        boxes = [region.box for side in self.members for region in side]
        x, y = min(b.x for b in boxes), min(b.y for b in boxes)
        return Box(x, y, max(b.right for b in boxes) - x, max(b.bottom for b in boxes) - y)

    def text(self, side: int) -> str | None:
        """What side `side` read: its members' texts joined by one space; None when it saw nothing there."""
        return " ".join(region.text for region in self.members[side]) if self.members[side] else None

    @property
    def shape(self) -> str:
        """How many regions each side has, e.g. `1:1` or `3:1`."""
        return ":".join(str(len(side)) for side in self.members)


def align(*sides: Sequence[Region]) -> list[Group]:
    """Group the regions of one page, as several readings (`sides`) have them. Every region is in exactly one group.

    Boxes that are the same on every side (to the pixel, the usual case) belong together whatever else overlaps them; the rest
    goes by overlap. Groups come from top to bottom, then left to right.
    """
    regions = [(side, region) for side, of_side in enumerate(sides) for region in of_side]
    parent = list(range(len(regions)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    same: dict[tuple[tuple[int, ...], int], list[int]] = {}
    seen: Counter[tuple[int, tuple[int, ...]]] = Counter()
    for node, (side, region) in enumerate(regions):
        edges = (round(region.box.x), round(region.box.y), round(region.box.right), round(region.box.bottom))
        same.setdefault((edges, seen[side, edges]), []).append(node)  # a box that stands twice meets its own twin
        seen[side, edges] += 1
    settled = set()
    for nodes in same.values():
        for node in nodes[1:]:
            parent[root(node)] = root(nodes[0])
        if len(nodes) == len(sides):
            settled |= set(nodes)

    heights = [_height(region) for _, region in regions]
    tallest = MAX_MEDIAN_HEIGHTS * median(heights) if regions else 0.0
    open_nodes = [node for node in range(len(regions)) if node not in settled and heights[node] <= tallest]
    for position, a in enumerate(open_nodes):
        for b in open_nodes[:position]:
            if regions[a][0] != regions[b][0] and _overlap(regions[a][1], regions[b][1]):
                parent[root(a)] = root(b)

    groups: dict[int, list[list[Region]]] = {}
    for node, (side, region) in enumerate(regions):
        groups.setdefault(root(node), [[] for _ in sides])[side].append(region)
    found = [Group(tuple(tuple(sorted(side, key=lambda r: r.box.x)) for side in members)) for members in groups.values()]
    return sorted(found, key=lambda group: (group.box.y, group.box.x))


def _overlap(a: Region, b: Region) -> bool:
    left, right = max(a.box.x, b.box.x), min(a.box.right, b.box.right)
    if right - left < MIN_OVERLAP * min(a.box.width, b.box.width):
        return False
    middle = (left + right) / 2
    (top_a, bottom_a), (top_b, bottom_b) = _extent(a, middle), _extent(b, middle)
    return min(bottom_a, bottom_b) - max(top_a, top_b) >= MIN_OVERLAP * min(bottom_a - top_a, bottom_b - top_b)


def _extent(region: Region, x: float) -> tuple[float, float]:
    """Top and bottom of the region at `x`: where the vertical line there cuts its outline, or else those of its box."""
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
