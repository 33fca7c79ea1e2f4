"""Lines wider than a network accepts are cut into overlapping windows, read, and merged at a place
where neither hypothesis has a character.

Squeezing such a line into the network's width, as training and the contract do, makes its letters
narrower than any that the network has seen.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nordocr_cli.data.resize import resize_line
from nordocr_cli.data.text_band import tightened
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import Recognition
from nordocr_cli.runtime.protocols import Image
from nordocr_cli.runtime.recognizers import RunnerRecognizer

# at the network's height: a dozen letters, nearly always with a gap between two words
OVERLAP_PX = 256
MAX_WINDOWS = 64  # a wider "line" is a ruler or a border, and is squeezed

# character, confidence, [first, last + 1) frames of the complete line
_Character = tuple[str, float, tuple[int, int]]


class WideLines:
    """A recognizer that reads lines of any width with a network of limited width; see Recognizer.

    The spans of a cut line count frames of the line scaled to the network's height, not squeezed;
    `edges` takes this into account. With `split=False`, and for an autoregressive network, nothing
    is cut, and lines that are too wide are squeezed as the contract defines.
    """

    def __init__(self, recognizer: RunnerRecognizer, *, split: bool = True) -> None:
        self.recognizer = recognizer
        # Windows are joined by the positions of their characters, which an autoregressive network
        # does not give.
        self.split = split and recognizer.runner.contract.decoding == "ctc"
        self.name = recognizer.name
        self.geometry = recognizer.runner.contract.geometry

    def recognize(
        self, crops: Sequence[Image], languages: Sequence[str] = ()
    ) -> list[Recognition]:
        """Read the crops: tightened if the contract requires it, wide ones in windows."""
        tight = [tightened(crop, self.geometry) for crop in crops]
        readings = self._read(tight)
        return [
            reading if part is crop else replace(reading, read_height=part.shape[0])
            for reading, part, crop in zip(readings, tight, crops, strict=True)
        ]

    def _read(self, crops: Sequence[Image]) -> list[Recognition]:
        parts: list[Image] = []
        # for each crop: the number of its first part, and where its windows start
        plan: list[tuple[int, list[int]]] = []
        for crop in crops:
            starts = self._windows(crop.shape[0], crop.shape[1])
            plan.append((len(parts), starts))
            if len(starts) == 1:
                # At the network's height it is a prepared line, which is not tightened again.
                parts.append(resize_line(crop, self.geometry))
                continue
            natural_width = self.geometry.natural_width(*crop.shape[:2])
            unlimited = replace(self.geometry, max_width=natural_width)
            line = resize_line(crop, unlimited)
            parts += [line[:, start : start + self.geometry.max_width] for start in starts]
        readings = self.recognizer.recognize(parts)

        merged = []
        for first, starts in plan:
            of_line = readings[first : first + len(starts)]
            if len(starts) == 1:
                merged += of_line
            else:
                merged.append(self._merge(of_line, starts))
        return merged

    def edges(
        self, height: int, width: int, reading: Recognition
    ) -> tuple[tuple[float, float], ...]:
        """Return the left and right edge of each character in pixels of its (height, width) crop;
        empty when only the middle of the crop was read.
        """
        geometry = self.geometry
        height = reading.read_height or height
        if len(self._windows(height, width)) > 1:
            read_width = geometry.natural_width(height, width)
        elif (
            geometry.over_width == "center-crop"
            and geometry.squash_ratio(height, width) > 1
        ):
            return ()
        else:
            read_width = geometry.line_width(height, width)
        step = geometry.stride * width / read_width  # pixels of the crop per frame
        return tuple(
            (first * step, min(float(width), last * step)) for first, last in reading.spans
        )

    def _windows(self, height: int, width: int) -> list[int]:
        if self.split:
            return window_starts(height, width, self.geometry)
        return [0]

    def _merge(self, readings: Sequence[Recognition], starts: Sequence[int]) -> Recognition:
        stride = self.geometry.stride
        merged = _characters(readings[0], starts[0] // stride)
        for reading, before, start in zip(readings[1:], starts, starts[1:], strict=False):
            overlap = start // stride, (before + self.geometry.max_width) // stride
            merged = _join(merged, _characters(reading, start // stride), overlap)
        confidences = [confidence for _, confidence, _ in merged]
        mean = 0.0
        if merged:
            mean = float(np.exp(np.mean(np.log(np.maximum(confidences, 1e-12)))))
        text = "".join(character for character, _, _ in merged)
        reading = Recognition(
            text, mean, tuple(confidences), tuple(span for _, _, span in merged)
        )
        return self.recognizer.calibrated(reading)


def window_starts(height: int, width: int, geometry: Geometry) -> list[int]:
    """Return where the windows of a (height, width) crop begin, in pixels of the line at the
    geometry's height. The values are multiples of the stride; `[0]` for a crop that fits or is
    absurdly wide. Each window is max_width wide, and neighbours overlap.
    """
    natural = geometry.natural_width(height, width)
    max_width = geometry.max_width
    stride = geometry.stride
    overlap = min(OVERLAP_PX, max_width // 2)
    count = -(-(natural - overlap) // (max_width - overlap))
    if natural <= max_width or count > MAX_WINDOWS:
        return [0]
    return [
        (natural - max_width) * i // (count - 1) // stride * stride
        for i in range(count - 1)
    ] + [natural - max_width]


def _characters(reading: Recognition, offset: int) -> list[_Character]:
    moved = ((first + offset, last + offset) for first, last in reading.spans)
    return list(zip(reading.text, reading.char_confidences, moved, strict=True))


def _middle(character: _Character) -> float:
    first, last = character[2]
    return (first + last) / 2


def _join(
    left: list[_Character], right: list[_Character], overlap: tuple[int, int]
) -> list[_Character]:
    """Join two hypotheses of a line that share the frames of `overlap`, at the frame farthest from
    any character of either. Only the middle half of the overlap is considered, since at their edges
    both windows cut letters in two.
    """
    first, last = overlap
    quarter = (last - first) // 4
    candidates = np.arange(first + quarter, last - quarter + 1)
    middles = np.array([_middle(character) for character in (*left, *right)] or [-np.inf])
    # frames to the nearest character of either hypothesis
    room = np.abs(candidates[:, None] - middles).min(axis=1)
    centre = (first + last) / 2
    best = np.flatnonzero(room == room.max())
    cut = float(candidates[best[np.abs(candidates[best] - centre).argmin()]])
    head = [c for c in left if _middle(c) < cut]
    tail = [c for c in right if _middle(c) >= cut]
    # Each window may have placed the space of the gap before or after the cut. One gap gives one
    # space.
    while head and head[-1][0] == " ":
        head.pop()
    while tail and tail[0][0] == " ":
        tail.pop(0)
    after = head[-1][2][1] if head else -1
    before = tail[0][2][0] if tail else last + first
    spaces = [
        c for c in (*left, *right) if c[0] == " " and after <= c[2][0] and c[2][1] <= before
    ]
    return head + (spaces[:1] if head and tail else []) + tail
