"""Lines wider than a network takes: cut into windows that overlap, read, and merged where both
readings have nothing.

Squashing such a line, as training and the contract do, makes its letters narrower than any that the
network has seen.
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

# at the network's height; a dozen letters, and a gap between two words nearly always
OVERLAP_PX = 256
MAX_WINDOWS = 64  # beyond it a "line" is a ruler or a border: squash it

# what, confidence, [first, last + 1) frames of the whole line
_Character = tuple[str, float, tuple[int, int]]


class WideLines:
    """A recognizer that reads lines of any width with a network of limited width; see Recognizer.

    Spans of a line that was cut count the frames of the line scaled to the network's height, not
    squashed; `edges` knows. With `split=False`, and for a network that writes tokens, nothing is
    cut, and over-wide lines are squashed as the contract says.
    """

    def __init__(self, recognizer: RunnerRecognizer, *, split: bool = True) -> None:
        self.recognizer = recognizer
        # Windows are joined by the places of their characters, and a network of tokens knows none.
        self.split = split and recognizer.runner.contract.decoding == "ctc"
        self.name = recognizer.name
        self.geometry = recognizer.runner.contract.geometry

    def recognize(
        self, crops: Sequence[Image], languages: Sequence[str] = ()
    ) -> list[Recognition]:
        """Read the crops: tightened where the contract says so, wide ones in windows."""
        tight = [tightened(crop, self.geometry) for crop in crops]
        readings = self._read(tight)
        return [
            reading if part is crop else replace(reading, read_height=part.shape[0])
            for reading, part, crop in zip(readings, tight, crops, strict=True)
        ]

    def _read(self, crops: Sequence[Image]) -> list[Recognition]:
        parts: list[Image] = []
        # of each crop: its first part, and where its windows start
        plan: list[tuple[int, list[int]]] = []
        for crop in crops:
            starts = self._windows(crop.shape[0], crop.shape[1])
            plan.append((len(parts), starts))
            if len(starts) == 1:
                parts.append(crop)
                continue
            line = resize_line(
                crop,
                replace(
                    self.geometry, max_width=self.geometry.natural_width(*crop.shape[:2])
                ),
            )
            parts += [line[:, start : start + self.geometry.max_width] for start in starts]
        readings = self.recognizer.recognize(parts)
        return [
            (
                readings[first]
                if len(starts) == 1
                else self._merge(readings[first : first + len(starts)], starts)
            )
            for first, starts in plan
        ]

    def edges(
        self, height: int, width: int, reading: Recognition
    ) -> tuple[tuple[float, float], ...]:
        """Return the left and right edge of each character in pixels of its (height, width) crop;
        empty where only the middle of the crop was read.
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
        step = geometry.stride * width / read_width  # pixels of the crop a frame
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
        if merged:
            mean = float(np.exp(np.mean(np.log(np.maximum(confidences, 1e-12)))))
        else:
            mean = 0.0
        text = "".join(character for character, _, _ in merged)
        return Recognition(
            text, mean, tuple(confidences), tuple(span for _, _, span in merged)
        )


def window_starts(height: int, width: int, geometry: Geometry) -> list[int]:
    """Return where the windows of a (height, width) crop begin, in pixels of the line at the
    geometry's height: multiples of the stride, `[0]` for a crop that fits or is absurdly wide. Each
    window is max_width wide; neighbours overlap.
    """
    natural, most, stride = (
        geometry.natural_width(height, width),
        geometry.max_width,
        geometry.stride,
    )
    overlap = min(OVERLAP_PX, most // 2)
    count = -(-(natural - overlap) // (most - overlap))
    if natural <= most or count > MAX_WINDOWS:
        return [0]
    return [
        (natural - most) * i // (count - 1) // stride * stride for i in range(count - 1)
    ] + [natural - most]


def _characters(reading: Recognition, offset: int) -> list[_Character]:
    moved = ((first + offset, last + offset) for first, last in reading.spans)
    return list(zip(reading.text, reading.char_confidences, moved, strict=True))


def _middle(character: _Character) -> float:
    first, last = character[2]
    return (first + last) / 2


def _join(
    left: list[_Character], right: list[_Character], overlap: tuple[int, int]
) -> list[_Character]:
    """Join two readings of a line that share the frames of `overlap`, at the frame farthest from
    any character of either.

    Only the middle half of the overlap is looked at: at their edges both windows cut letters in
    two.
    """
    first, last = overlap
    quarter = (last - first) // 4
    candidates = np.arange(first + quarter, last - quarter + 1)
    middles = np.array([_middle(character) for character in (*left, *right)] or [-np.inf])
    # frames to the nearest character of either reading
    room = np.abs(candidates[:, None] - middles).min(axis=1)
    centre = (first + last) / 2
    best = np.flatnonzero(room == room.max())
    cut = float(candidates[best[np.abs(candidates[best] - centre).argmin()]])
    head, tail = (
        [c for c in left if _middle(c) < cut],
        [c for c in right if _middle(c) >= cut],
    )
    # Both may have put the space of one gap on the same side of the cut, or on either: one gap, one
    # space.
    while head and head[-1][0] == " ":
        head.pop()
    while tail and tail[0][0] == " ":
        tail.pop(0)
    after, before = head[-1][2][1] if head else -1, tail[0][2][0] if tail else last + first
    spaces = [
        c for c in (*left, *right) if c[0] == " " and after <= c[2][0] and c[2][1] <= before
    ]
    return head + (spaces[:1] if head and tail else []) + tail
