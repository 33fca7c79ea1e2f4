"""The labels of a training set as classes, all checked before the first step. No torch."""

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.charset import Charset
from nordocr_cli.errors import DataError
from nordocr_cli.geometry import Geometry, frames_needed
from nordocr_cli.records import LineRow

_NAMED_ROWS = 3  # row ids that an error names


@dataclass(frozen=True)
class Labels:
    """The classes of all lines in one flat array: those of line i are
    `classes[starts[i]:starts[i + 1]]`. `frames_needed` int64 (lines,) counts the CTC frames that
    each label needs; `space` is the class of a space, None where the charset has none. Lines that
    are not used have no classes.
    """

    classes: NDArray[np.int16]
    starts: NDArray[np.int64]
    frames_needed: NDArray[np.int64]
    space: int | None

    def lengths(self, lines: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of classes of each line."""
        return self.starts[lines + 1] - self.starts[lines]

    def joinable(self, lines: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which lines may be joined with others by a space: those with text that neither
        begins nor ends with one.
        """
        joinable = np.zeros(len(lines), dtype=bool)
        if self.space is None:
            return joinable
        starts = self.starts[lines]
        ends = self.starts[lines + 1]
        filled = ends > starts
        first = self.classes[starts[filled]]
        last = self.classes[ends[filled] - 1]
        joinable[filled] = (first != self.space) & (last != self.space)
        return joinable


def encode_labels(
    row: Callable[[int], LineRow],
    widths: NDArray[np.int64],
    members: Iterable[int],
    charset: Charset,
    geometry: Geometry,
    label_limit: int | None = None,
) -> Labels:
    """Encode and check the labels of the lines `members`; `row(index)` reads a line's row and
    `widths` int64 (lines,) are the pixels of all lines.

    Raises DataError naming the first rows whose label has a character outside the charset or is
    longer than the network can write it: training would silently learn nothing there.
    """
    used = np.zeros(len(widths), dtype=bool)
    used[np.fromiter(members, dtype=np.int64)] = True
    # A list would take four times as much, and a store may have millions of lines.
    flat = array("h")
    starts = np.zeros(len(widths) + 1, dtype=np.int64)
    needed = np.zeros(len(widths), dtype=np.int64)
    problems: list[str] = []
    for index in range(len(widths)):
        if used[index]:
            line = row(index)
            missing = charset.missing(line.text)
            if missing:
                characters = ", ".join(map(repr, missing))
                problems.append(
                    f"row {line.id!r} has {characters} outside charset {charset.name!r}"
                )
            else:
                classes = charset.encode(line.text)
                needed[index] = frames_needed(classes)
                frames = geometry.out_length(int(widths[index]))
                problem = _length_problem(
                    len(classes), int(needed[index]), frames, label_limit
                )
                if problem:
                    problems.append(f"row {line.id!r} {problem}")
                flat.extend(classes)
        starts[index + 1] = len(flat)
    if problems:
        raise DataError(_message(problems))
    space = None if charset.missing(" ") else charset.encode(" ")[0]
    return Labels(np.array(flat, dtype=np.int16), starts, needed, space)


def _length_problem(
    characters: int, needed: int, frames: int, label_limit: int | None
) -> str:
    if label_limit is None:
        if needed > frames:
            return f"needs {needed} CTC frames and has {frames}"
        return ""
    if characters > label_limit:
        return f"has {characters} characters, the network writes {label_limit}"
    return ""


def _message(problems: list[str]) -> str:
    more = ""
    if len(problems) > _NAMED_ROWS:
        more = f" and {len(problems) - _NAMED_ROWS:,} more"
    return (
        f"{'; '.join(problems[:_NAMED_ROWS])}{more}. `nordocr prep` skips and counts such lines:"
        " prepare again with this profile"
    )
