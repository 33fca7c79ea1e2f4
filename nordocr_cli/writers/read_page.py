"""What was read, a page at a time: the input of every writer."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nordocr_cli.pages.outline import Outline
from nordocr_cli.pixels import Pixels
from nordocr_cli.records import Box, Point, Recognition, Resolution


@dataclass(frozen=True)
class Word:
    """A word with its outline on the page, in pixels."""

    text: str
    outline: Outline
    confidence: float | None

    @property
    def box(self) -> Box:
        """The upright box around the word."""
        return self.outline.box


@dataclass(frozen=True)
class ReadLine:
    """One line that was read.

    `box` is the upright box around it, inside the page; `outline` its outline where it is no
    upright box. `edges` are the left and right edge of each character, as frames tell them (a frame
    is a few pixels wide): x on the page, or with an outline the distance from the beginning of the
    line; empty where the recognizer does not say. Lines of one `paragraph` have one number.
    """

    box: Box
    reading: Recognition
    edges: tuple[tuple[float, float], ...] = ()
    outline: Outline | None = None
    paragraph: int | None = None

    @property
    def shape(self) -> Outline:
        """The outline of the line, an upright box included."""
        return self.outline or Outline.of_box(self.box)

    def words(self) -> list[Word]:
        """Return the words in order; a line whose letters have no place is one word."""
        text = self.reading.text
        confidences = self.reading.char_confidences
        if len(self.edges) != len(text) or len(confidences) != len(text):
            if not text.strip():
                return []
            return [Word(text, self.shape, self.reading.confidence)]
        words = []
        for found in re.finditer(r"\S+", text):
            inside = slice(found.start(), found.end())
            left = self.edges[inside][0][0]
            right = self.edges[inside][-1][1]
            outline = self._part(left, max(right, left + 1.0))
            words.append(Word(found[0], outline, _geometric_mean(confidences[inside])))
        return words

    def _part(self, left: float, right: float) -> Outline:
        """The outline of the part of the line between two of its edges."""
        if self.outline is None:
            return Outline.of_box(Box(left, self.box.y, right - left, self.box.height))
        first, second, third, fourth = quad_of(self.outline)
        length = max(1.0, math.dist(first, second))
        start = left / length
        end = right / length
        return Outline(
            (
                _between(first, second, start),
                _between(first, second, end),
                _between(fourth, third, end),
                _between(fourth, third, start),
            )
        )


@dataclass(frozen=True)
class ReadPage:
    """One page that was read.

    `index` counts from 0; None means an image of one line. `size` is (height, width) in pixels,
    `pixels` the page itself for those who draw it, `error` why it could not be read (then it has no
    lines). `resolution` is None where the file does not say. `quarter_turns` is how often the text
    is turned clockwise by a quarter; `doubts` say why the reading may be wrong.
    """

    source: Path
    index: int | None
    size: tuple[int, int]
    lines: tuple[ReadLine, ...]
    pixels: Pixels | None = field(default=None, compare=False, repr=False)
    error: str = ""
    resolution: Resolution | None = None
    quarter_turns: int = 0
    doubts: tuple[str, ...] = ()

    def paragraphs(self) -> list[list[ReadLine]]:
        """Return the lines by paragraph, in order; a line without one stands alone."""
        grouped: list[list[ReadLine]] = []
        for line in self.lines:
            before = grouped[-1][-1].paragraph if grouped else None
            if line.paragraph is not None and line.paragraph == before:
                grouped[-1].append(line)
            else:
                grouped.append([line])
        return grouped


def quad_of(outline: Outline) -> tuple[Point, Point, Point, Point]:
    """Return four corners of an outline, from the top left of its text clockwise."""
    if len(outline.points) == 4:
        first, second, third, fourth = outline.points
        return first, second, third, fourth
    from nordocr_cli.pages.outline import direction

    along, across = direction(outline)
    points = np.asarray(outline.points, dtype=np.float64)
    starts = points @ along
    tops = points @ across

    def corner(start: float, top: float) -> Point:
        x, y = start * along + top * across
        return float(x), float(y)

    left = starts.min()
    right = starts.max()
    top = tops.min()
    bottom = tops.max()
    return (
        corner(left, top),
        corner(right, top),
        corner(right, bottom),
        corner(left, bottom),
    )


def box_around(boxes: Sequence[Box]) -> Box:
    """Return the upright box around one box or more."""
    left = min(box.x for box in boxes)
    top = min(box.y for box in boxes)
    right = max(box.right for box in boxes)
    bottom = max(box.bottom for box in boxes)
    return Box(left, top, right - left, bottom - top)


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _geometric_mean(confidences: Sequence[float]) -> float:
    return math.exp(sum(math.log(max(c, 1e-12)) for c in confidences) / len(confidences))
