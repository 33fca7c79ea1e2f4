"""Augmentation of training lines: joined, squeezed, cropped with small errors, scanned again. There
are two steps. `draw_samples` decides for a complete epoch what changes widths and labels, before
batches are formed: which lines are joined, and how wide each sample becomes. `compose` makes the
pixels of one sample from its lines. Both use only the generator passed to them, so an epoch is a
function of its seed. A label stays correct: no letter is cut off, a sample keeps the CTC frames
that its label needs, and none becomes wider than the maximum input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nordocr_cli.geometry import Geometry
from nordocr_cli.settings import Augment

# uint8 (h, w) gray or (h, w, 3); OpenCV's own types are just "an array"
Line = NDArray[Any]

_MIN_GAP_PX = 8  # a narrower gap between joined lines might not look like a space
_MAX_SQUEEZE = 1.3  # range of the factor by which a line becomes narrower or wider
# Minimum CTC frames of a squeezed line, as a multiple of those that its label needs.
_MIN_FRAMES = 1.5
_MAX_MARGIN_PX = 24  # paper that a loose box adds at the left and right of the line
# Rows that a wrong box removes or adds above and below, at height 32.
_BOX_ROWS = (-2, 4)
_INK_ROWS = 1  # how many of the removed rows may hold ink: a ring or a dot is taller
_BOX_COLUMNS = 6  # columns, of paper only, that a tight box removes at either end
_STRIP_ROWS = (1, 4)  # rows of a neighbouring line, from and to
_STRIP_GAP_ROWS = (1, 3)  # rows of paper between it and ours
_SLIVER_PX = 2  # columns of a neighbour at either end
_SLIVER_GAP_PX = 12  # columns of paper between it and ours
_INK_LEVELS = 48  # a pixel that differs from the paper by more than this is ink
# A threshold that erases a larger share of the columns with ink is not applied.
_LOST_COLUMNS = 0.05
# The level of the paper is sampled from every third row and about 64 columns.
_PAPER_ROWS = 3
_PAPER_COLUMNS = 64
_NOISE_H = 128
_NOISE_W = 4096
_SHRINKING = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)
_SMOOTH = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4, cv2.INTER_AREA)


@dataclass(frozen=True)
class Samples:
    """The samples of an epoch. Sample i is lines[first[i]:first[i + 1]] from left to right. All
    lengths are in pixels.
    """

    lines: NDArray[np.int64]  # (L,), indices of lines
    # (L,), paper between a line and the next one of its sample; 0 after the last
    gaps: NDArray[np.int64]
    first: NDArray[np.int64]  # (S + 1,)
    margins: NDArray[np.int64]  # (S, 2), paper added on the left and on the right
    widths: NDArray[np.int64]  # (S,), of the sample, margins included

    def __len__(self) -> int:
        return len(self.widths)


def single_samples(lines: NDArray[np.int64], widths: NDArray[np.int64]) -> Samples:
    """Return samples of one line each, as they are stored. `widths` are those of the lines."""
    count = len(lines)
    zeros = np.zeros(count, dtype=np.int64)
    return Samples(
        lines, zeros, np.arange(count + 1), np.zeros((count, 2), dtype=np.int64), widths
    )


def draw_samples(
    lines: NDArray[np.int64],
    widths: NDArray[np.int64],
    frames: NDArray[np.int64],
    joinable: NDArray[np.bool_],
    geometry: Geometry,
    augment: Augment,
    rng: np.random.Generator,
) -> Samples:
    """Draw the samples of an epoch from `lines`, each of them used once. `widths` are those of the
    lines in pixels, `frames` the CTC frames that their labels need. `joinable` marks the lines that
    may be joined with another, with one space between the labels.
    """
    order = rng.permutation(len(lines))
    lines, widths, frames, joinable = (
        lines[order],
        widths[order],
        frames[order],
        joinable[order],
    )
    gaps = np.exp(
        rng.uniform(
            np.log(_MIN_GAP_PX),
            np.log(max(_MIN_GAP_PX, augment.max_join_gap_px)),
            len(lines),
        )
    )
    gaps = gaps.astype(np.int64)
    begins = _joined(
        rng.random(len(lines)) < augment.join, widths, gaps, joinable, geometry.max_width
    )
    ends = np.append(begins[1:], True)
    gaps[ends] = 0
    first = np.append(np.flatnonzero(begins), len(lines))
    natural = np.add.reduceat(widths + gaps, first[:-1])  # (S,)
    needed = np.add.reduceat(frames + ~ends, first[:-1])  # (S,), including the spaces
    count = len(natural)
    step = geometry.width_multiple
    factors = np.exp(rng.uniform(-np.log(_MAX_SQUEEZE), np.log(_MAX_SQUEEZE), count))
    factors[rng.random(count) >= augment.squeeze] = 1.0
    min_widths = np.minimum(
        natural, np.ceil(needed * geometry.stride * _MIN_FRAMES).astype(np.int64)
    )
    scaled = np.minimum(
        np.maximum(np.rint(natural * factors).astype(np.int64), min_widths),
        geometry.max_width,
    )
    # Margins are mostly narrow and make the width a multiple again. None are added where they would
    # not fit.
    margins = (rng.random((count, 2)) ** 2 * (_MAX_MARGIN_PX + 1)).astype(np.int64)
    margins[rng.random(count) >= augment.crop] = 0
    margins[scaled + margins.sum(1) + step - 1 > geometry.max_width] = 0
    margins[:, 1] += -(scaled + margins.sum(1)) % step  # max_width is itself a multiple
    return Samples(lines, gaps, first, margins, scaled + margins.sum(1))


def _joined(
    requested: NDArray[np.bool_],
    widths: NDArray[np.int64],
    gaps: NDArray[np.int64],
    joinable: NDArray[np.bool_],
    max_width: int,
) -> NDArray[np.bool_]:
    """Return where samples begin. Each line in `requested` is joined with the next one if both fit
    in `max_width` pixels.
    """
    begins = np.ones(len(widths), dtype=bool)
    so_far = widths.tolist()
    for index in np.flatnonzero(requested[:-1] & joinable[:-1] & joinable[1:]).tolist():
        width = so_far[index] + int(gaps[index]) + so_far[index + 1]
        if width <= max_width:
            so_far[index + 1], begins[index + 1] = width, False
    return begins


def compose(
    parts: Sequence[Line],
    gaps: Sequence[int],
    margins: tuple[int, int],
    width: int,
    neighbour: Line,
    augment: Augment,
    rng: np.random.Generator,
) -> Line:
    """Return the pixels of a sample, `width` wide and as high as its `parts`, which are not
    changed. `gaps` are pixels of paper after each part but the last. `neighbour` is any other line,
    parts of which may appear at the edges.
    """
    chances = dict(zip(_CHANCES, rng.random(len(_CHANCES)), strict=True))
    line = _join(parts, gaps) if len(parts) > 1 else parts[0]
    height = line.shape[0]
    content = width - sum(margins)
    crowded = chances["neighbour"] < augment.neighbour
    if chances["crop"] < augment.crop:
        line = _box_error(line, rng)
    if crowded:
        line = _add_strips(line, neighbour, rng)
    if line.shape[:2] != (height, content):
        line = _resize(line, height, content, _SMOOTH, rng)
    if any(margins):
        line = _add_margins(line, margins, neighbour if crowded else None, rng)
    for name, change in _CHANGES.items():
        if chances[name] < getattr(augment, name):
            line = change(line, rng)
    return line


# Shape
# ----------------------------------------


def _paper(pixels: Line) -> NDArray[np.uint8]:
    """Return the level of the paper, () or (3,): the median of the sampled pixels, since most
    pixels of a line are paper.
    """
    few = pixels[::_PAPER_ROWS, :: 1 + pixels.shape[1] // _PAPER_COLUMNS]
    few = few.reshape(-1, *few.shape[2:])
    at = len(few) * 2 // 3
    return np.asarray(np.partition(few, at, axis=0)[at])


def _join(parts: Sequence[Line], gaps: Sequence[int]) -> Line:
    """Return the parts side by side. The paper between two changes gradually from one level to the
    other.
    """
    pieces = [parts[0]]
    for before, gap, after in zip(parts, gaps, parts[1:], strict=False):
        left = _paper(before[:, -_MAX_MARGIN_PX:])
        right = _paper(after[:, :_MAX_MARGIN_PX])
        ramp = np.linspace(left, right, gap).astype(np.uint8)  # (gap,) or (gap, 3)
        pieces += [np.broadcast_to(ramp, (before.shape[0], *ramp.shape)), after]
    return np.concatenate(pieces, axis=1)


def _box_error(line: Line, rng: np.random.Generator) -> Line:
    """Return the line in a box that is a little too large or too small. At most one row of ink is
    lost above and below.
    """
    paper = _paper(line)
    ink = np.abs(line.astype(np.int16) - paper) > _INK_LEVELS
    ink = ink.any(axis=2) if ink.ndim == 3 else ink
    rows = np.flatnonzero(ink.any(axis=1))
    columns = np.flatnonzero(ink.any(axis=0))
    top, bottom = rng.integers(*_BOX_ROWS, 2, endpoint=True).tolist()
    left, right = rng.integers(0, _BOX_COLUMNS, 2, endpoint=True).tolist()
    if not len(rows):
        return line
    free = (
        int(rows[0]),
        line.shape[0] - 1 - int(rows[-1]),
        int(columns[0]),
        line.shape[1] - 1 - int(columns[-1]),
    )
    cut = min(max(0, -top), free[0] + _INK_ROWS), min(max(0, -bottom), free[1] + _INK_ROWS)
    line = line[
        cut[0] : line.shape[0] - cut[1],
        min(left, free[2]) : line.shape[1] - min(right, free[3]),
    ]
    return _framed(line, (max(0, top), max(0, bottom), 0, 0), paper)


def _framed(line: Line, sides: tuple[int, int, int, int], paper: NDArray[np.uint8]) -> Line:
    """Return the line with paper above, below, left and right of it."""
    level = tuple(map(int, np.atleast_1d(paper)))
    return np.asarray(cv2.copyMakeBorder(line, *sides, cv2.BORDER_CONSTANT, value=level))


def _add_strips(line: Line, neighbour: Line, rng: np.random.Generator) -> Line:
    """Return the line with a few rows of another one above it, below it, or both, with paper
    between them.
    """
    height, width = neighbour.shape[:2]
    columns = (np.arange(line.shape[1]) + rng.integers(width)) % width
    paper = _paper(line)
    for above in ((True,), (False,), (True, False))[rng.integers(3)]:
        rows = int(rng.integers(*_STRIP_ROWS, endpoint=True))
        gap = int(rng.integers(*_STRIP_GAP_ROWS, endpoint=True))
        strip = neighbour[height - rows :] if above else neighbour[:rows]
        line = _framed(
            line, (gap + rows, 0, 0, 0) if above else (0, gap + rows, 0, 0), paper
        )
        place = line[:rows] if above else line[-rows:]
        np.minimum(place, strip[:, columns], out=place)  # its ink, on our paper
    return line


def _add_margins(
    line: Line, margins: tuple[int, int], neighbour: Line | None, rng: np.random.Generator
) -> Line:
    """Return the line with paper on the left and right, and with a sliver of a neighbour at the far
    end of a wide margin.
    """
    left, right = margins
    line = _framed(line, (0, 0, left, 0), _paper(line[:, :_MAX_MARGIN_PX]))
    line = _framed(line, (0, 0, 0, right), _paper(line[:, -_MAX_MARGIN_PX:]))
    for margin, begin in (left, slice(None, _SLIVER_PX)), (right, slice(-_SLIVER_PX, None)):
        if (
            neighbour is not None
            and margin >= _SLIVER_PX + _SLIVER_GAP_PX
            and neighbour.shape[1] > _SLIVER_PX
        ):
            at = int(rng.integers(neighbour.shape[1] - _SLIVER_PX))
            np.minimum(
                line[:, begin], neighbour[:, at : at + _SLIVER_PX], out=line[:, begin]
            )
    return line


def _resize(
    line: Line, height: int, width: int, ways: Sequence[int], rng: np.random.Generator
) -> Line:
    # cv2: width first
    return np.asarray(
        cv2.resize(line, (width, height), interpolation=ways[int(rng.integers(len(ways)))])
    )


# Scan
# ----------------------------------------


def _resample(line: Line, rng: np.random.Generator) -> Line:
    """Scan or scale at another resolution, and scale back with another resampler."""
    height, width = line.shape[:2]
    factor = rng.uniform(0.7, 2.0)
    other = max(4, round(height * factor)), max(4, round(width * factor))
    there, back = (_SHRINKING[:2], _SMOOTH) if factor < 1 else (_SMOOTH, _SHRINKING)
    return _resize(_resize(line, *other, there, rng), height, width, back, rng)


def _blur(line: Line, rng: np.random.Generator) -> Line:
    return np.asarray(cv2.GaussianBlur(line, (0, 0), rng.uniform(0.3, 0.9)))


def _brightness(line: Line, rng: np.random.Generator) -> Line:
    contrast = rng.uniform(0.7, 1.3)
    shift = rng.uniform(-40, 40)
    return np.asarray(
        cv2.LUT(
            line,
            np.clip((np.arange(256) - 128) * contrast + 128 + shift, 0, 255).astype(
                np.uint8
            ),
        )
    )


def _noise(line: Line, rng: np.random.Generator) -> Line:
    """Add gray noise: a window, at a random place, of a field that is computed once."""
    height, width = line.shape[:2]
    field = _noise_field()
    top = rng.integers(_NOISE_H)
    left = rng.integers(_NOISE_W)
    window = field.take(range(top, top + height), axis=0, mode="wrap").take(
        range(left, left + width), axis=1, mode="wrap"
    )
    if line.ndim == 2:
        window = window
    else:
        window = np.repeat(window[:, :, None], 3, axis=2)
    return np.asarray(
        cv2.addWeighted(
            line.astype(np.int16), 1.0, window, rng.uniform(2, 12) / 64, 0, dtype=cv2.CV_8U
        )
    )


@lru_cache(maxsize=1)
def _noise_field() -> NDArray[np.int16]:
    """Return normal noise in units of 1/64 standard deviation."""
    return (
        np.random.default_rng(7).standard_normal((_NOISE_H, _NOISE_W), dtype=np.float32)
        * 64
    ).astype(np.int16)


def _threshold(line: Line, rng: np.random.Generator) -> Line:
    """Scan with one bit per pixel at twice the height. The line stays unchanged where letters would
    be lost.
    """
    height, width = line.shape[:2]
    if line.ndim == 2:
        gray = line
    else:
        gray = cv2.cvtColor(line, cv2.COLOR_RGB2GRAY)
    large: Any = cv2.resize(gray, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
    level, _ = cv2.threshold(large, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    bits = cv2.threshold(large, level + rng.uniform(-20, 30), 255, cv2.THRESH_BINARY)[1]
    result: Line = np.asarray(
        cv2.resize(bits, (width, height), interpolation=cv2.INTER_AREA)
    )
    had = (gray < int(_paper(gray)) - _INK_LEVELS).any(axis=0)  # (w,), columns with ink
    lost = had & (result > 255 - _INK_LEVELS).all(axis=0)
    if lost.sum() > _LOST_COLUMNS * had.sum() or result.mean() < 128:
        return line
    if line.ndim == 2:
        return result
    return np.asarray(cv2.cvtColor(result, cv2.COLOR_GRAY2RGB))


def _jpeg(line: Line, rng: np.random.Generator) -> Line:
    done, data = cv2.imencode(
        ".jpg", line, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
    )
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return np.asarray(
        cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if line.ndim == 2 else cv2.IMREAD_COLOR)
    )


# In the order of a scanner, by their names in the profile's [augment].
_CHANGES = {
    "resample": _resample,
    "blur": _blur,
    "brightness": _brightness,
    "noise": _noise,
    "threshold": _threshold,
    "jpeg": _jpeg,
}
_CHANCES = ("crop", "neighbour", *_CHANGES)
