import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import NORDIC
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import Recognition
from nordocr_cli.runtime.recognizers import RunnerRecognizer, open_recognizer
from nordocr_cli.runtime.wide_lines import MAX_WINDOWS, OVERLAP_PX, WideLines, window_starts

SAMPLES = Path(__file__).parents[2] / "samples" / "lines" / "images"
CELL = 16  # pixels a character of the drawn lines
NARROW = Geometry(max_width=512)


class Barcode:
    """A Runner that reads drawn lines: each 16 px cell has the gray level of its class, 255 is
    paper. What is cut off at a window's edge it misreads, as networks do.
    """

    name, backend, uses_widths, replicas = "barcode", "stub", True, ()

    def __init__(self, geometry):
        self.contract = Contract(NORDIC, geometry, {})

    def run(self, images, widths):
        logits = np.full((len(images), images.shape[3] // 4, 126), -9.0, np.float32)
        logits[:, :, 0] = 0
        for n, image in enumerate(images):
            row = image[0, 16]
            starts = [0, *(np.flatnonzero(np.diff(row.astype(int))) + 1), len(row)]
            for left, right in itertools.pairwise(starts):
                if row[left] < 200:
                    whole = right - left == CELL - 4
                    logits[n, (left + right) // 8, row[left] if whole else 1] = 9
        return logits


def drawn(text):
    """A line of cells: 12 px of the class's gray level and 4 px of paper."""
    line = np.full((32, CELL * len(text), 3), 255, np.uint8)
    for i, character in enumerate(text):
        line[:, i * CELL : (i + 1) * CELL - 4] = NORDIC.class_of[character]
    return line


def reader(geometry):
    return WideLines(RunnerRecognizer(Barcode(geometry)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 6000), st.sampled_from([64, 128, 512, 1024]))
def test_windows_cover_the_line_and_overlap(height, width, max_width):
    geometry = Geometry(max_width=max_width)
    starts, natural = (
        window_starts(height, width, geometry),
        geometry.natural_width(height, width),
    )
    if natural <= max_width or len(starts) == 1:
        assert starts == [0]
        return
    assert len(starts) <= MAX_WINDOWS
    assert (starts[0], starts[-1] + max_width) == (0, natural)
    assert all(start % 4 == 0 for start in starts)
    for before, after in itertools.pairwise(starts):
        assert before < after <= before + max_width - min(OVERLAP_PX, max_width // 2)


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.sampled_from(NORDIC.characters.replace(" ", "")), min_size=1, max_size=260),
    st.sampled_from([256, 512, 1024]),
)
def test_a_line_of_any_width_is_read_whole(text, max_width):
    (reading,) = reader(Geometry(max_width=max_width)).recognize([drawn(text)])
    assert reading.text == text
    assert len(reading.spans) == len(reading.char_confidences) == len(text)
    assert list(reading.spans) == sorted(reading.spans)
    edges = reader(Geometry(max_width=max_width)).edges(32, CELL * len(text), reading)
    assert all(
        i * CELL <= left < right <= (i + 1) * CELL for i, (left, right) in enumerate(edges)
    )


class Scripted(WideLines):
    """Merges given readings: two windows of 512 px of a line of 768 px, the overlap is frames 64 to
    128.
    """

    def __init__(self):
        super().__init__(RunnerRecognizer(Barcode(NARROW)))

    def merge(self, left, right):
        readings = [
            Recognition(
                "".join(c for c, _ in part),
                0.5,
                (0.5,) * len(part),
                tuple((f, f + 1) for _, f in part),
            )
            for part in (left, [(c, f - 64) for c, f in right])
        ]
        return self._merge(readings, [0, 256])


@pytest.mark.parametrize(
    ("left", "right", "merged"),
    [
        # The gap's space is on the far side of the cut in both readings, or on the near side in
        # both: still one space.
        ([("a", 80), (" ", 85), ("b", 110)], [("a", 81), (" ", 105), ("b", 111)], "a b"),
        ([("a", 80), (" ", 105), ("b", 110)], [("a", 81), (" ", 85), ("b", 111)], "a b"),
        ([("a", 80), ("b", 110)], [("a", 81), ("b", 111)], "ab"),
        ([("a", 10)], [("b", 180)], "ab"),
        ([("a", 10), (" ", 90)], [], "a"),
        ([], [("b", 180)], "b"),
        ([], [], ""),
        # What a window reads on its last and first frames is half a letter.
        (
            [("a", 80), ("b", 105), ("x", 127)],
            [("y", 64), ("a", 80), ("b", 105), ("c", 120)],
            "abc",
        ),
    ],
)
def test_seams(left, right, merged):
    reading = Scripted().merge(left, right)
    assert reading.text == merged
    assert reading.confidence == pytest.approx(0.5 if merged else 0.0)


def test_lines_that_fit_are_read_as_ever(tiny_onnx):
    from nordocr_cli.data.resize import read_image

    crops = [read_image(path) for path in sorted(SAMPLES.iterdir())[:6]]
    plain = open_recognizer(tiny_onnx, threads=1)
    assert WideLines(plain).recognize(crops) == plain.recognize(crops)


def test_edges_of_squashed_and_cut_crops():
    squashed = WideLines(RunnerRecognizer(Barcode(NARROW)), split=False)
    one = Recognition("ab", 0.5, (0.5, 0.5), ((0, 1), (127, 128)))
    assert squashed.edges(64, 2048, one) == ((0.0, 16.0), (2032.0, 2048.0))
    cropped = WideLines(
        RunnerRecognizer(Barcode(replace(NARROW, over_width="center-crop"))), split=False
    )
    assert cropped.edges(64, 2048, one) == ()
    assert reader(NARROW).edges(64, 2048, Recognition("a", 0.5, (0.5,), ((250, 256),))) == (
        (2000.0, 2048.0),
    )
