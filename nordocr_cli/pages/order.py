"""Reading order: columns from left to right, rows from top to bottom, rows of a table from left to
right.

All positions are in the frame of the text: turned so that the lines run level.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Pieces whose middles are closer than this share of the lower one's height stand in one row.
_SAME_ROW = 0.5
# A gutter between columns is at least this many line heights wide.
_GUTTER_HEIGHTS = 0.8
# Columns of text have at least so many lines on both sides, and lines at least this many line
# heights long.
_COLUMN_LINES = 3
_COLUMN_TEXT_HEIGHTS = 9.0
_FULL_SHARE = 0.6  # of the width of a column, by most of its lines
_SAMPLED_PIECES = 200  # at most so many of a side are looked at
# Where this share of the lines of one side stands level with lines of the other, short lines are
# cells of a table.
_LEVEL_SHARE = 0.6
# A side whose lines are mostly shorter than so many line heights holds numbers.
_NUMBER_HEIGHTS = 6.0
# A block of short lines has one piece in nearly every row.
_SINGLE_SHARE = 0.8
_LEVEL_HEIGHTS = 0.4  # between the middles of lines: digits have no tails
# Lines of a paragraph.
_SAME_HEIGHT = 1.5  # the maximum ratio of their heights
_PARAGRAPH_STEP = 1.9  # the maximum distance of their middles in line heights
_MAXIMUM_DEPTH = 12
_MAXIMUM_GUTTERS = 64  # looked at, widest first


@dataclass(frozen=True, slots=True)
class Span:
    """The place of a piece of text in the frame of its text, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        """y of the middle."""
        return (self.top + self.bottom) / 2


def reading_order(spans: Sequence[Span]) -> list[int]:
    """Return the numbers of `spans` in the order in which they are read."""
    if not spans:
        return []
    edges = np.array(
        [(s.left, s.top, s.right, s.bottom) for s in spans], dtype=np.float64
    )  # (N, 4)
    height = float(np.median(edges[:, 3] - edges[:, 1]))
    return _ordered(edges, np.arange(len(edges)), max(1.0, height), _MAXIMUM_DEPTH)


def rows_of(spans: Sequence[Span]) -> list[list[int]]:
    """Return the numbers of `spans` that stand in one row, rows from top to bottom, each from left
    to right.
    """
    edges = np.array(
        [(s.left, s.top, s.right, s.bottom) for s in spans], dtype=np.float64
    ).reshape(-1, 4)
    return _rows(edges, np.arange(len(edges)))


def paragraphs_of(spans: Sequence[Span]) -> list[int]:
    """Return for each of `spans`, in reading order, the number of its paragraph, from 0.

    A line belongs to the paragraph before when it stands close below its last line, is as high, and
    overlaps it; or when it stands next to it in one row.
    """
    numbers: list[int] = []
    for at, span in enumerate(spans):
        if not numbers:
            numbers.append(0)
            continue
        continues = _continues(spans[at - 1], span)
        numbers.append(numbers[-1] if continues else numbers[-1] + 1)
    return numbers


def _continues(before: Span, span: Span) -> bool:
    height = max(before.height, span.height)
    if height > _SAME_HEIGHT * min(before.height, span.height):
        return False
    if abs(before.middle - span.middle) < _SAME_ROW * height:
        return True
    step = span.middle - before.middle
    overlap = min(before.right, span.right) - max(before.left, span.left)
    narrower = min(before.right - before.left, span.right - span.left)
    return 0 < step < _PARAGRAPH_STEP * height and overlap > 0.5 * narrower


def _ordered(
    edges: NDArray[np.float64], members: NDArray[np.int64], height: float, depth: int
) -> list[int]:
    """The numbers in `members` in reading order; `edges` (N, 4) are left, top, right and bottom of
    all pieces.
    """
    if len(members) > 2 * _COLUMN_LINES - 1 and depth:
        found = _column_section(edges, members, height)
        if found is not None:
            above, left, right, below = found
            ordered: list[int] = []
            for part in (above, left, right, below):
                ordered += _ordered(edges, part, height, depth - 1)
            return ordered
    return [number for row in _rows(edges, members) for number in row]


def _rows(edges: NDArray[np.float64], members: NDArray[np.int64]) -> list[list[int]]:
    middles = (edges[:, 1] + edges[:, 3]) / 2
    rows: list[list[int]] = []
    for number in sorted(members.tolist(), key=lambda n: (middles[n], edges[n, 0])):
        if rows and _in_row(edges, middles, rows[-1], number):
            rows[-1].append(number)
        else:
            rows.append([number])
    return [sorted(row, key=lambda n: edges[n, 0]) for row in rows]


def _in_row(
    edges: NDArray[np.float64],
    middles: NDArray[np.float64],
    row: Sequence[int],
    number: int,
) -> bool:
    """Whether a piece stands level with the last of a row, and over none of its pieces."""
    last = row[-1]
    lower = min(edges[last, 3] - edges[last, 1], edges[number, 3] - edges[number, 1])
    if middles[number] - middles[row[0]] > _SAME_ROW * lower:
        return False
    left = edges[number, 0]
    right = edges[number, 2]
    width = right - left
    overlaps = (min(right, edges[other, 2]) - max(left, edges[other, 0]) for other in row)
    return all(
        overlap < 0.5 * min(width, edges[other, 2] - edges[other, 0])
        for overlap, other in zip(overlaps, row, strict=True)
    )


def _column_section(
    edges: NDArray[np.float64], members: NDArray[np.int64], height: float
) -> (
    tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None
):
    """The largest part of `members` that a gutter splits into columns: the pieces above it, left,
    right and below it.
    """
    best = None
    maximum = 0
    for gutter in _gutters(edges, members, height):
        crosses = (edges[members, 0] < gutter) & (edges[members, 2] > gutter)
        spanning = members[crosses]
        others = members[~crosses]
        middles = (edges[:, 1] + edges[:, 3]) / 2
        bounds = np.sort(middles[spanning])
        sections = np.searchsorted(bounds, middles[others])
        for section in np.unique(sections):
            inside = others[sections == section]
            left = inside[edges[inside, 2] <= gutter]
            right = inside[edges[inside, 0] >= gutter]
            if len(inside) <= maximum or not _are_columns(edges, left, right, height):
                continue
            maximum = len(inside)
            top = bounds[section - 1] if section else -np.inf
            rest = np.setdiff1d(members, inside, assume_unique=True)
            best = rest[middles[rest] <= top], left, right, rest[middles[rest] > top]
    return best


def _gutters(
    edges: NDArray[np.float64], members: NDArray[np.int64], height: float
) -> list[float]:
    """Positions x at which white runs down between pieces: the middles of the gaps of rows, widest
    first.
    """
    gaps: dict[int, float] = {}
    for row in _rows(edges, members):
        for before, after in itertools.pairwise(row):
            gap = edges[after, 0] - edges[before, 2]
            if gap >= _GUTTER_HEIGHTS * height:
                # The gaps of one gutter differ by the ragged ends of lines: look at its right end,
                # where lines begin.
                at = round(float(edges[after, 0] - min(gap, height) / 2) / (height / 2))
                gaps[at] = gaps.get(at, 0.0) + 1
    ordered = sorted(gaps, key=lambda at: -gaps[at])
    return [at * height / 2 for at in ordered[:_MAXIMUM_GUTTERS]]


def _are_columns(
    edges: NDArray[np.float64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    height: float,
) -> bool:
    """Whether the pieces left and right of a gutter are columns of text, not cells of a table.

    Columns hold running text: most lines are long and fill their column. Blocks of short lines, as
    the addresses in a letter head, are columns too where their lines do not stand level.
    """
    fewer = min(len(left), len(right))
    if fewer < _COLUMN_LINES:
        return False
    top = max(edges[left, 1].min(), edges[right, 1].min())
    bottom = min(edges[left, 3].max(), edges[right, 3].max())
    if bottom - top < height:  # one above the other
        return False

    runs_full = all(_is_running_text(edges, side, height) for side in (left, right))
    if runs_full:
        return True
    narrowest = min(
        float(np.median(edges[side, 2] - edges[side, 0])) for side in (left, right)
    )
    if narrowest < _NUMBER_HEIGHTS * height:
        return False
    if any(len(_rows(edges, side)) < _SINGLE_SHARE * len(side) for side in (left, right)):
        return False
    return (
        max(
            _level_share(edges, left, right, height),
            _level_share(edges, right, left, height),
        )
        < _LEVEL_SHARE
    )


def _is_running_text(
    edges: NDArray[np.float64], side: NDArray[np.int64], height: float
) -> bool:
    """Whether most pieces are long, and most fill the column that they stand in."""
    sample = edges[side[:: -(-len(side) // _SAMPLED_PIECES)]]  # (N, 4)
    left = sample[:, 0]
    right = sample[:, 2]
    widths = right - left
    if np.median(widths) < _COLUMN_TEXT_HEIGHTS * height:
        return False

    shared = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)  # (N, N)
    in_column = shared > 0.5 * np.minimum(widths[:, None], widths)
    # A title over two columns is in the column of neither: percentiles leave it out.
    ends = _quantiles(right, in_column, 0.9)
    starts = _quantiles(left, in_column, 0.1)
    filled = widths / np.maximum(1.0, ends - starts)
    return float(np.median(filled)) >= _FULL_SHARE


def _quantiles(
    values: NDArray[np.float64], chosen: NDArray[np.bool_], share: float
) -> NDArray[np.float64]:
    """Return a quantile (N,) of the `values` (N,) that each row of `chosen` (N, N) takes, with
    linear interpolation. np.nanquantile does the same, a row at a time in Python.
    """
    ordered = np.sort(np.where(chosen, values, np.inf), axis=1)
    last = np.maximum(chosen.sum(axis=1), 1) - 1
    place = last * share
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, last)
    rows = np.arange(len(values))
    lower = ordered[rows, below]
    upper = ordered[rows, above]
    return np.asarray(lower + (upper - lower) * (place - below))


def _level_share(
    edges: NDArray[np.float64],
    side: NDArray[np.int64],
    other: NDArray[np.int64],
    height: float,
) -> float:
    """Share of the lines of one side that stand level with a line of the other."""
    middles = (edges[:, 1] + edges[:, 3]) / 2
    others = np.sort(middles[other])
    after = np.searchsorted(others, middles[side])
    following = others[np.minimum(after, len(others) - 1)]
    preceding = others[np.maximum(after - 1, 0)]
    distance = np.minimum(
        np.abs(following - middles[side]), np.abs(preceding - middles[side])
    )
    return float((distance < _LEVEL_HEIGHTS * height).mean())
