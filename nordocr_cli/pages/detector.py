"""Finding text on a page with a neural detector (PP-OCR small, differentiable binarization),
through ONNX Runtime.

The network marks the core of each line of text; see `boxes_from_map` for what becomes of its map.
Large pages are taken in tiles that overlap, so that memory does not grow with the page.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nordocr_cli.errors import ArtifactError, MissingBackendError
from nordocr_cli.pixels import Pixels

# Values of PaddleOCR's and RapidOCR's post-processing for this network.
MAP_THRESHOLD = 0.3  # a pixel of the map above it is text
BOX_THRESHOLD = 0.5  # a box whose mean is below it is none
# How far a box grows beyond the core that the network marks: area * ratio / perimeter.
UNCLIP_RATIO = 1.6

_MODEL = Path(__file__).parent / "weights" / "ppocr-v6-small-det.onnx"
_MULTIPLE = 32  # sides of the network's input
# A page is looked at in tiles, which bound the memory.
_TILE_WIDTH_PX = 1024
_TILE_PIXELS = 700_000  # of a tile; each takes about 250 bytes
_OVERLAP_PX = 96  # of neighbouring tiles; what overlaps is looked at twice
_MINIMUM_SIDE_PX = 3.0  # of a core in the map; smaller ones are specks


@dataclass(frozen=True, slots=True)
class TextBox:
    """A rotated rectangle around text, in pixels of the page.

    `width` runs along `angle_degrees`, which is in [-45, 45) and turns clockwise; a box higher than
    wide holds upright text or a narrow character. `score` is the mean probability of text inside, 0
    to 1.
    """

    x: float  # of the centre
    y: float
    width: float
    height: float
    angle_degrees: float
    score: float

    def corners(self) -> NDArray[np.float64]:
        """Return the corners (4, 2), clockwise from the top left."""
        angle = math.radians(self.angle_degrees)
        along = np.array([math.cos(angle), math.sin(angle)]) * self.width / 2
        across = np.array([-math.sin(angle), math.cos(angle)]) * self.height / 2
        centre = np.array([self.x, self.y])
        return np.stack(
            [
                centre - along - across,
                centre + along - across,
                centre + along + across,
                centre - along + across,
            ]
        )


class TextDetector:
    """Finds text on pages. `threads` are ONNX Runtime's, by default one a core.

    Raises MissingBackendError without ONNX Runtime, ArtifactError when the model is missing or
    damaged.
    """

    def __init__(self, threads: int | None = None, model: Path = _MODEL) -> None:
        self._threads = threads
        self._path = model

    def detect(self, page: Pixels, scale: float = 1.0) -> list[TextBox]:
        """Return the text boxes of `page`, uint8 (H, W, 3) RGB or (H, W) gray, looked for at
        `scale` times its size.
        """
        probabilities = self.probabilities(page, scale)
        boxes = boxes_from_map(probabilities)
        return [_enlarged(box, 1 / scale) for box in boxes]

    def probabilities(self, page: Pixels, scale: float = 1.0) -> NDArray[np.float32]:
        """Return the probability of text at each pixel of the scaled page, float32 (scaled H,
        scaled W).
        """
        height, width = (max(1, round(side * scale)) for side in page.shape[:2])
        small = page
        if scale != 1.0:
            shrinking = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            small = np.asarray(
                cv2.resize(page, (width, height), interpolation=shrinking), dtype=np.uint8
            )
        found = np.zeros((height, width), dtype=np.float32)
        tiles = list(_tiles_of_page(height, width))
        for number, (rows, row_core, columns, column_core) in enumerate(tiles, start=1):
            tile = self._run(small[rows, columns], is_last=number == len(tiles))
            inner = tile[
                row_core.start - rows.start : row_core.stop - rows.start,
                column_core.start - columns.start : column_core.stop - columns.start,
            ]
            found[row_core, column_core] = inner
        return found

    def _run(self, tile: Pixels, *, is_last: bool) -> NDArray[np.float32]:
        """Return the map of a tile. Memory is kept from tile to tile, and returned after the last
        one: pages of different sizes would need more and more.
        """
        height, width = tile.shape[:2]
        padded_height, padded_width = (
            -(-side // _MULTIPLE) * _MULTIPLE for side in (height, width)
        )
        pixels = np.ones((1, 3, padded_height, padded_width), dtype=np.float32)  # white
        values = tile.astype(np.float32) / 127.5 - 1
        pixels[0, :, :height, :width] = (
            values if values.ndim == 2 else values.transpose(2, 0, 1)[::-1]
        )  # BGR, as trained
        name = self._session.get_inputs()[0].name
        options = self._returning_memory if is_last else None
        (probabilities,) = self._session.run(None, {name: pixels}, options)  # (1, 1, H, W)
        return np.asarray(probabilities[0, 0, :height, :width], dtype=np.float32)

    @cached_property
    def _returning_memory(self) -> Any:
        """Options of a run that returns the memory of ONNX Runtime afterwards."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return options

    @cached_property
    def _session(self) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingBackendError(
                f"onnxruntime cannot be imported ({error}); pip install onnxruntime"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = (
            4  # errors are raised, and their log shows control characters
        )
        options.intra_op_num_threads = self._threads or 0
        # A plan of the memory for each size of tile would take more memory than the tiles do.
        options.enable_mem_pattern = False
        try:
            return onnxruntime.InferenceSession(
                str(self._path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no common base of their own
            raise ArtifactError(
                f"{self._path}: the text detector cannot be loaded ({error}); "
                "install nordocr-cli again"
            ) from error


def _tiles_of_page(height: int, width: int) -> Iterator[tuple[slice, slice, slice, slice]]:
    """Yield the rows of each tile and of its core, and the columns of each and of its core."""
    for columns, column_core in _tiles(width, _TILE_WIDTH_PX):
        tile_height = _TILE_PIXELS // (columns.stop - columns.start)
        for rows, row_core in _tiles(height, tile_height):
            yield rows, row_core, columns, column_core


def _tiles(length: int, maximum: int) -> Iterator[tuple[slice, slice]]:
    """Yield the tiles, at most `maximum` pixels long, along a side of `length` pixels, and the core
    of each, which no other shares.
    """
    if length <= maximum:
        yield slice(0, length), slice(0, length)
        return
    step = maximum - 2 * _OVERLAP_PX
    count = -(-length // step)
    bounds = [round(length * at / count) for at in range(count + 1)]
    for start, stop in pairwise(bounds):
        outer = slice(max(0, start - _OVERLAP_PX), min(length, stop + _OVERLAP_PX))
        yield outer, slice(start, stop)


def boxes_from_map(probabilities: NDArray[np.float32]) -> list[TextBox]:
    """Return the boxes of a probability map, float32 (H, W).

    A connected area above MAP_THRESHOLD is the core of a line. Its smallest rotated rectangle grows
    by area * UNCLIP_RATIO / perimeter on each side, which undoes the shrinking of the training
    labels (Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", 2020,
    section 3.4).
    """
    mask = (probabilities > MAP_THRESHOLD).astype(np.uint8)
    # As in RapidOCR: closes gaps of one pixel.
    mask = np.asarray(cv2.dilate(mask, np.ones((2, 2), dtype=np.uint8)), dtype=np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    boxes = []
    for contour in contours:
        (x, y), (width, height), angle = cv2.minAreaRect(contour)
        if min(width, height) < _MINIMUM_SIDE_PX:
            continue
        corners = np.asarray(
            cv2.boxPoints(((x, y), (width, height), angle)), dtype=np.float32
        )
        score = _mean_inside(probabilities, corners)
        if score < BOX_THRESHOLD:
            continue
        grow = UNCLIP_RATIO * width * height / (width + height)  # twice the distance
        box = _upright_axes(x, y, width + grow, height + grow, angle, score)
        boxes.append(box)
    return boxes


def _mean_inside(probabilities: NDArray[np.float32], corners: NDArray[np.float32]) -> float:
    height, width = probabilities.shape
    left, top = np.clip(
        np.floor(corners.min(axis=0)).astype(int), 0, (width - 1, height - 1)
    )
    right, bottom = np.clip(
        np.ceil(corners.max(axis=0)).astype(int), 0, (width - 1, height - 1)
    )
    inside = np.zeros((bottom - top + 1, right - left + 1), dtype=np.uint8)
    cv2.fillPoly(inside, [(corners - (left, top)).astype(np.int32)], 1)
    return float(cv2.mean(probabilities[top : bottom + 1, left : right + 1], inside)[0])


def _upright_axes(
    x: float, y: float, width: float, height: float, angle: float, score: float
) -> TextBox:
    """OpenCV's angles depend on its version: bring them to [-45, 45)."""
    turns = math.floor((angle + 45) / 90)
    if turns % 2:
        width, height = height, width
    return TextBox(x, y, width, height, angle - 90 * turns, score)


def _enlarged(box: TextBox, factor: float) -> TextBox:
    return TextBox(
        box.x * factor,
        box.y * factor,
        box.width * factor,
        box.height * factor,
        box.angle_degrees,
        box.score,
    )
