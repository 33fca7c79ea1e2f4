"""Cutting a line of text out of its page, upright and straight.

The one function that prep, predict, eval, bench and compare3way cut lines with:

| outline | how it is cut |
|---|---|
| upright box | the pixels of the box, as the consumer cuts them |
| quadrilateral | turned and straightened by a perspective transform |
| polygon, or a curved baseline | straightened along its baseline or middle line; what is outside of
    it becomes paper |
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from nordocr_cli.errors import DataError
from nordocr_cli.limits import MAX_PAGE_PIXELS
from nordocr_cli.pages.outline import Crop, Outline, direction
from nordocr_cli.pixels import Pixels
from nordocr_cli.records import Box

__all__ = ["Crop", "crop_box", "cut_line", "cut_size"]


# Outlines are drawn close to the ink: letters must not lose their edge pixels where neighbours are
# masked.
_MASK_MARGIN_PX = 2
# A bent line is fitted where it lowers the mean distance to the middle of the polygon by this
# factor, else a straight one.
_WORTH_BENDING = 0.6
_BEND_DEGREE = 3
_MAXIMUM_SIDE_PX = 32_000  # of a cut line; OpenCV counts its pixels with 16 bits


def cut_line(page: Pixels, outline: Outline, crop: Crop = "outline") -> Pixels:
    """Return the line inside `outline` as uint8 (height, width, 3) RGB, upright and straight.

    `page` is uint8 (H, W, 3) RGB or (H, W) gray. With `crop="box"` the line is the upright box
    around its outline, as the consumer cuts it. Parts outside of the page are filled with its edge.
    Raises DataError when nothing of the outline lies on the page, or it is larger than pages are.
    """
    if crop == "box" or outline.is_upright_box:
        cut = crop_box(page, outline.box)
    else:
        _require_line_size(outline)
        around = _box_around(page, outline)
        left, top, right, bottom = around
        window = page[top:bottom, left:right]
        moved = outline.moved(-left, -top)
        if len(outline.points) == 4 and not outline.is_curved:
            cut = _cut_quad(window, moved)
        else:
            cut = _cut_polygon(window, moved)
    if cut.ndim == 2:
        return np.repeat(cut[:, :, None], 3, axis=2)
    return cut


def _require_line_size(outline: Outline) -> None:
    """Raise DataError for an outline whose straightened line would take gigabytes."""
    height, width = cut_size(outline)
    if height * width > MAX_PAGE_PIXELS:
        raise DataError(
            f"a line of {height:,} x {width:,} pixels (height x width) has more than"
            f" {MAX_PAGE_PIXELS:,}; are the regions those of another document?"
        )


def crop_box(page: Pixels, box: Box) -> Pixels:
    """Cut `box` out of `page` as the consumer does: left and top truncated, right and bottom
    ceiled, clamped to the page.

    Raises DataError when nothing of the box lies on the page.
    """
    height, width = page.shape[:2]
    left = max(0, int(box.x))
    top = max(0, int(box.y))
    right = min(width, -int(-box.right // 1))
    bottom = min(height, -int(-box.bottom // 1))
    if right <= left or bottom <= top:
        raise _outside(box, page)
    return page[top:bottom, left:right]


def cut_size(outline: Outline, crop: Crop = "outline") -> tuple[int, int]:
    """Return the (height, width) in pixels that `cut_line` cuts, without the page: exact but for
    polygons and at page edges.
    """
    box = outline.box
    if crop == "box" or outline.is_upright_box:
        return max(1, round(box.height)), max(1, round(box.width))
    along, across = direction(outline)
    if len(outline.points) == 4:
        return _quad_size(np.asarray(outline.points, dtype=np.float64))
    points = np.asarray(outline.points, dtype=np.float64)
    return max(1, round(float(np.ptp(points @ across)))), max(
        1, round(float(np.ptp(points @ along)))
    )


def _box_around(page: Pixels, outline: Outline) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the part of the page that is needed, two pixels wider than the
    outline.
    """
    box = outline.box
    height, width = page.shape[:2]
    if box.right <= 0 or box.bottom <= 0 or box.x >= width or box.y >= height:
        raise _outside(box, page)
    left = max(0, int(box.x) - 2)
    top = max(0, int(box.y) - 2)
    return left, top, min(width, int(box.right) + 3), min(height, int(box.bottom) + 3)


def _outside(box: Box, page: Pixels) -> DataError:
    height, width = page.shape[:2]
    return DataError(
        f"a box at x {box.x:g}, y {box.y:g} of width {box.width:g} and height {box.height:g} lies "
        f"outside its page of width {width} and height {height}; are the regions those of another "
        "document?"
    )


def _quad_size(corners: NDArray[np.float64]) -> tuple[int, int]:
    first, second, third, fourth = corners
    width = max(np.linalg.norm(second - first), np.linalg.norm(third - fourth))
    height = max(np.linalg.norm(fourth - first), np.linalg.norm(third - second))
    return _side(float(height)), _side(float(width))


def _side(length: float) -> int:
    return min(_MAXIMUM_SIDE_PX, max(1, round(length)))


def _cut_quad(page: Pixels, outline: Outline) -> Pixels:
    corners = np.asarray(outline.points, dtype=np.float32)  # (4, 2)
    height, width = _quad_size(corners.astype(np.float64))
    target = np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=np.float32)
    # Corners are edges of pixels, OpenCV's coordinates their centres.
    transform = cv2.getPerspectiveTransform(corners - 0.5, target - 0.5)
    cut = cv2.warpPerspective(
        page,
        transform,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(cut, dtype=np.uint8)


def _cut_polygon(page: Pixels, outline: Outline) -> Pixels:
    """Straighten the line along its baseline, or the middle of the polygon, and fill what is
    outside of it with paper.
    """
    along, across = direction(outline)
    frame = np.stack([along, across], axis=1)  # (2, 2): page coordinates to (along, across)
    points = np.asarray(outline.points, dtype=np.float64) @ frame  # (N, 2)
    origin = np.floor(points.min(axis=0))
    width, room = (int(side) for side in np.ceil(points.max(axis=0)) - origin + 1)
    width, room = min(width, _MAXIMUM_SIDE_PX), min(room, _MAXIMUM_SIDE_PX)
    mask = np.zeros((room, width), dtype=np.uint8)
    cv2.fillPoly(mask, [np.rint(points - origin).astype(np.int32)], 255)

    columns = np.arange(width)
    has_ink = mask.any(axis=0)
    top = np.where(has_ink, mask.argmax(axis=0), 0)
    bottom = np.where(has_ink, room - mask[::-1].argmax(axis=0), room)
    if outline.baseline:
        baseline = np.asarray(outline.baseline, dtype=np.float64) @ frame - origin
        ascending = np.argsort(baseline[:, 0], kind="stable")
        middle = np.interp(
            columns, baseline[ascending, 0], baseline[ascending, 1]
        )  # (width,)
    else:
        middle = _middle_line(
            columns[has_ink], (top[has_ink] + bottom[has_ink]) / 2, columns
        )

    above = float((middle - top)[has_ink].max())
    below = float((bottom - middle)[has_ink].max())
    height = _side(above + below)
    rows = (
        np.arange(height)[:, None] - above + middle[None, :]
    )  # (height, width), across the line
    steps = np.broadcast_to(columns[None, :], rows.shape)

    x = (steps + origin[0]) * along[0] + (rows + origin[1]) * across[0]
    y = (steps + origin[0]) * along[1] + (rows + origin[1]) * across[1]
    cut = cv2.remap(
        page,
        x.astype(np.float32),
        y.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    margin = np.ones((2 * _MASK_MARGIN_PX + 1, 2 * _MASK_MARGIN_PX + 1), dtype=np.uint8)
    inside = cv2.remap(
        cv2.dilate(mask, margin),
        steps.astype(np.float32),
        rows.astype(np.float32),
        cv2.INTER_NEAREST,
        borderValue=0,
    )
    return _on_paper(np.asarray(cut, dtype=np.uint8), inside > 0)


def _middle_line(
    known: NDArray[np.int64], middles: NDArray[np.float64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The middle of the line at each column: straight, unless the polygon is clearly bent."""
    if len(known) < 2:
        return np.full(len(columns), middles.mean() if len(middles) else 0.0)
    centre = known.mean()
    scale = max(1.0, float(np.ptp(known)) / 2)
    straight = np.polyfit((known - centre) / scale, middles, 1)
    fitted = np.polyval(straight, (known - centre) / scale)
    if len(known) > 8 * _BEND_DEGREE:
        bent = np.polyfit((known - centre) / scale, middles, _BEND_DEGREE)
        straight_error = np.abs(middles - fitted).mean()
        bent_error = np.abs(middles - np.polyval(bent, (known - centre) / scale)).mean()
        if straight_error > 1 and bent_error < _WORTH_BENDING * straight_error:
            straight = bent
    return np.asarray(np.polyval(straight, (columns - centre) / scale))


def _on_paper(cut: Pixels, inside: NDArray[np.bool_]) -> Pixels:
    """Fill what is outside of the line with the colour of its paper: more than half of a line's
    pixels are paper.
    """
    if inside.all() or not inside.any():
        return cut
    paper = np.median(cut[inside], axis=0)
    filled = cut.copy()
    filled[~inside] = np.rint(paper).astype(np.uint8)
    return filled
