"""Cut a line crop down to its text: straightened, without the rest of the lines above and below.

Crops that are the bounding boxes of polygons or baselines, as HTR datasets and layout files give
them, are often twice as high as their text and sloped. Scaled to the network's height, such text is
half as large as the text of a tight crop. `tighten` finds the band of rows that the lower-case
letters fill, and cuts above and below it where the rows are quiet.

Only numpy and OpenCV; a crop in which no band is found comes back as it is.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nordocr_cli.geometry import Geometry
from nordocr_cli.pixels import Pixels

# Rows are measured on a copy of at most this height, in pixels: enough to see a band.
_MEASURED_HEIGHT = 48
# Smaller crops, in pixels, are left alone.
_MINIMUM_HEIGHT = 12
_MINIMUM_WIDTH = 8

# Slopes are rises per pixel of width; 0.06 is 3.4 degrees.
_MAXIMUM_SLOPE = 0.06
_SLOPES = 21
_SLOPE_GAIN = 1.03  # the rows' concentration that a slope must gain over none
_SLOPED_FROM = 4  # width over height: a shorter crop shows no slope

_NOISE = 0.5  # of the mean difference between neighbours: taken for paper
_BAND = 0.45  # of the strongest row: rows above it belong to the band
_QUIET = 0.25  # of the strongest row: a cut may lie in rows below it
# The height of the band, as a share of the crop's.
_SMALLEST_BAND = 0.12
_LARGEST_BAND = 0.6
_VALLEY = 0.6  # of the strongest row: the gap to a neighbour's line whose letters touch
_BEYOND = 1.3  # times the valley: how strong the neighbour behind it is
_GAP_DARKNESS = 0.4  # of the band's darkest row: a cut may lie in rows below it
_SHORT = 3  # width over height: in a shorter crop, a gap may lie within its few letters,
_SHORT_LOSS = 0.04  # so no more than this share of its strength is cut off
_WORTH = 0.92  # of the crop's height: a cut that leaves more is not made
_CENTRE_WIDTH = 0.4  # of the height: how far from the middle the crop's own line may lie

# Distances from the band, in heights of the band: nearest, preferred and farthest cut. Above lie
# ascenders and accents, below descenders.
_ABOVE = (0.5, 0.9, 1.3)
_BELOW = (0.3, 0.6, 0.9)


@dataclass(frozen=True)
class TextBand:
    """Where the text of a crop lies: rows `top` to `bottom` (px, bottom excluded) after a vertical
    shear by `slope` (rise per px of width, about the middle column).
    """

    top: int
    bottom: int
    slope: float


def tighten(crop: Pixels) -> Pixels:
    """Return the part of a uint8 (h, w) or (h, w, 3) crop that holds its text, straightened.

    The result has the crop's width and at most its height. The crop itself comes back when it is
    tight already or when no band of text is found.
    """
    band = find_band(crop)
    if band is None:
        return crop
    straight = _sheared(crop, band.slope) if band.slope else crop
    return straight[band.top : band.bottom]


def tightened(crop: Pixels, geometry: Geometry) -> Pixels:
    """Return a crop as `geometry` asks for it before it is scaled: tightened or as it is.

    A crop that has the network's height already counts as a prepared line and is left alone, as
    resize_line leaves it: so a line of a store is never cut twice.
    """
    if not geometry.tighten or crop.shape[0] == geometry.height:
        return crop
    return tighten(crop)


def find_band(crop: Pixels) -> TextBand | None:
    """Return the band of text of a crop, or None when there is nothing to cut or to straighten."""
    height, width = crop.shape[:2]
    if height < _MINIMUM_HEIGHT or width < _MINIMUM_WIDTH:
        return None
    edges = _edges(crop)  # (h', w')
    slope = _slope(edges)
    level = _sheared(crop, slope) if slope else crop
    if slope:
        edges = _edges(level)
    rows = _row_strengths(edges)  # (h',)
    cut = _cut(rows, _dark_rows(level))
    if cut and width < _SHORT * height and _share_outside(rows, cut) > _SHORT_LOSS:
        cut = None
    if cut is None:
        return TextBand(0, height, slope) if slope else None
    scale = height / len(rows)
    return TextBand(round(cut[0] * scale), round(cut[1] * scale), slope)


def _measured(crop: Pixels) -> Pixels:
    """Return the gray crop at a height of at most _MEASURED_HEIGHT, (h', w')."""
    gray = crop if crop.ndim == 2 else cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    if height > _MEASURED_HEIGHT:
        width = max(_MINIMUM_WIDTH, round(width * _MEASURED_HEIGHT / height))
        gray = cv2.resize(gray, (width, _MEASURED_HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(gray, dtype=np.uint8)


def _edges(crop: Pixels) -> NDArray[np.float32]:
    """Return the differences between horizontal neighbours, (h', w') with h' of at most
    _MEASURED_HEIGHT: strong on the strokes of letters, weak on paper, rules and shadows.
    """
    smooth = cv2.blur(_measured(crop), (3, 3))
    edges = cv2.absdiff(smooth[:, 1:], smooth[:, :-1]).astype(np.float32)
    noise = _NOISE * float(edges.mean())
    return np.maximum(edges - noise, 0)


def _row_strengths(edges: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how much text each row shows, (h',), smoothed over three rows, 0 for paper."""
    rows = edges.sum(axis=1)
    smooth = cv2.blur(rows.reshape(-1, 1), (1, 3), borderType=cv2.BORDER_REPLICATE).ravel()
    paper = np.partition(smooth, len(smooth) // 20)[len(smooth) // 20]
    return np.asarray(smooth - paper, dtype=np.float32)


def _dark_rows(crop: Pixels) -> NDArray[np.float32]:
    """Return the dark pixels of each row, (h',), as Otsu's threshold divides dark from light."""
    gray = _measured(crop)
    _, dark = cv2.threshold(gray, 0, 1, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    return np.asarray(dark.sum(axis=1), dtype=np.float32)


def _slope(edges: NDArray[np.float32]) -> float:
    """Return the slope at which the rows are the most concentrated, 0.0 without a clear one.

    The crop is summed in blocks about a line height wide; each candidate shifts the blocks.
    """
    height, width = edges.shape
    if width < _SLOPED_FROM * height:
        return 0.0
    count = min(40, round(width / height))
    blocks = cv2.resize(edges, (count, height), interpolation=cv2.INTER_AREA)  # (h', count)
    centres = (np.arange(count) + 0.5) * (width / count) - width / 2  # (count,)
    largest = min(_MAXIMUM_SLOPE, 0.8 * height / width)
    slopes = np.linspace(-largest, largest, _SLOPES)  # (slopes,)
    shifts = np.rint(slopes[:, None] * centres).astype(int)  # (slopes, count)
    sources = np.arange(height)[None, :, None] + shifts[:, None, :]  # (slopes, h', count)
    inside = (sources >= 0) & (sources < height)
    values = blocks[np.clip(sources, 0, height - 1), np.arange(count)] * inside
    concentration = (values.sum(axis=2) ** 2).sum(axis=1)  # (slopes,)
    best = int(concentration.argmax())
    if concentration[best] <= _SLOPE_GAIN * concentration[_SLOPES // 2]:
        return 0.0
    return float(slopes[best])


def _sheared(crop: Pixels, slope: float) -> Pixels:
    """Return the crop with its columns shifted so that a line of `slope` becomes level."""
    height, width = crop.shape[:2]
    matrix = np.array([[1, 0, 0], [slope, 1, -slope * width / 2]], dtype=np.float32)
    return np.asarray(
        cv2.warpAffine(
            crop,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        dtype=np.uint8,
    )


def _cut(rows: NDArray[np.float32], dark: NDArray[np.float32]) -> tuple[int, int] | None:
    """Return the first and the last row (excluded) of what is kept, None when nothing is cut.

    `rows` and `dark` (h',) are the strength and the dark pixels of each row. A row through the
    waists of figures is weak too, but as dark as others: no cut is made there.
    """
    height = len(rows)
    offsets = (np.arange(height) + 0.5) / height - 0.5
    own = rows * np.exp(-((offsets / _CENTRE_WIDTH) ** 2))  # neighbours' lines count less
    peak = int(own.argmax())
    strongest = float(rows[peak])
    if strongest <= 0:
        return None

    weak = np.flatnonzero(rows < _BAND * strongest)
    weak_above = weak[weak < peak]
    weak_below = weak[weak > peak]
    top = int(weak_above[-1]) + 1 if len(weak_above) else 0
    bottom = int(weak_below[0]) if len(weak_below) else height
    band = bottom - top
    if not _SMALLEST_BAND * height <= band <= _LARGEST_BAND * height:
        return None

    # Distances count from the last row of the band, upwards in the reversed rows.
    above = _gap(rows[:top][::-1], strongest, *(share * band for share in _ABOVE))
    below = _gap(rows[bottom:], strongest, *(share * band for share in _BELOW))
    darkest = float(dark[top:bottom].max())
    start = 0 if above is None else top - 1 - above
    end = height if below is None else bottom + below + 1
    if dark[start] > _GAP_DARKNESS * darkest:
        start = 0
    if dark[end - 1] > _GAP_DARKNESS * darkest:
        end = height
    if end - start > _WORTH * height:
        return None
    return start, end


def _gap(
    rows: NDArray[np.float32],
    strongest: float,
    nearest: float,
    preferred: float,
    farthest: float,
) -> int | None:
    """Return the row at which a cut does no harm, in rows away from the band, or None.

    The quiet row closest to `preferred` is taken. Where letters touch those of a neighbouring line,
    no row is quiet: then the weakest row is taken, if the neighbour's line is seen behind it.
    """
    low = round(nearest)
    high = round(farthest)
    reach = rows[low : high + 1]
    if not len(reach):
        return None
    quiet = np.flatnonzero(reach <= _QUIET * strongest)
    if len(quiet):
        return low + int(quiet[np.abs(quiet + low - preferred).argmin()])
    valley = int(reach.argmin())
    beyond = rows[low + valley :]
    if reach[valley] <= _VALLEY * strongest and beyond.max() >= _BEYOND * reach[valley]:
        return low + valley
    return None


def _share_outside(rows: NDArray[np.float32], cut: tuple[int, int]) -> float:
    """Return the share of the rows' strength that lies outside the cut."""
    positive = np.maximum(rows, 0)
    inside = float(positive[cut[0] : cut[1]].sum())
    return 1 - inside / float(positive.sum())
