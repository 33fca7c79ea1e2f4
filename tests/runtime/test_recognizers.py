from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import NORDIC
from nordocr_cli.data.resize import read_image
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.runtime.recognizers import (
    MAX_BATCH_COLUMNS,
    RunnerRecognizer,
    batch_invariance,
    open_recognizer,
)

LINES = Path(__file__).parents[2] / "samples" / "lines" / "images"


class StubRunner:
    """Stands in where only the batches matter."""

    name, replicas = "stub", ()
    contract = Contract(NORDIC, Geometry(max_width=512), {})

    def __init__(self, uses_widths):
        self.uses_widths = uses_widths


@pytest.fixture(scope="module")
def crops():
    """Lines of very different widths, one of them prepared, one far too wide."""
    files = sorted(LINES.iterdir())[:24]
    prepared = np.full((32, 64, 3), 200, np.uint8)
    return [read_image(file) for file in files] + [
        prepared,
        np.full((20, 4000, 3), 230, np.uint8),
    ]


widths = st.lists(st.integers(1, 448).map(lambda n: 4 * n), min_size=1, max_size=60)


@settings(max_examples=60)
@given(widths, st.booleans())
def test_every_line_is_in_one_batch_that_fits(line_widths, uses_widths):
    recognizer = RunnerRecognizer(StubRunner(uses_widths))
    seen = []
    for width, members in recognizer.batches(line_widths):
        seen += members
        assert width == max(line_widths[i] for i in members)
        assert len(members) == 1 or width * len(members) <= MAX_BATCH_COLUMNS
        if not uses_widths:
            assert {line_widths[i] for i in members} == {width}
    assert sorted(seen) == list(range(len(line_widths)))


@pytest.mark.parametrize("kind", ["tiny_checkpoint", "tiny_onnx"])
def test_a_line_reads_alone_as_among_others(kind, crops, request):
    recognizer = open_recognizer(request.getfixturevalue(kind), threads=1)
    # else the test would say nothing
    assert any(reading.text for reading in recognizer.recognize(crops))
    found = batch_invariance(recognizer, crops, as_host=False)
    assert found == {"together": [], "widest": [], "random": []}


def test_order_is_kept_and_the_onnx_reads_as_the_weights(tiny_checkpoint, tiny_onnx, crops):
    torch, ort = (open_recognizer(path, threads=1) for path in (tiny_checkpoint, tiny_onnx))
    texts = [reading.text for reading in torch.recognize(crops)]
    assert [reading.text for reading in ort.recognize(crops)] == texts
    assert [reading.text for reading in torch.recognize(crops[::-1])] == texts[::-1]
    assert torch.recognize([]) == []


def test_confidences_belong_to_the_characters(tiny_checkpoint, crops):
    for reading in open_recognizer(tiny_checkpoint, threads=1).recognize(crops):
        assert len(reading.char_confidences) == len(reading.spans) == len(reading.text)


def test_a_folder_of_a_run_means_its_best_weights(tiny_checkpoint):
    assert open_recognizer(tiny_checkpoint.parent).runner.backend == "torch"


def test_wrong_specs_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="no file or run folder"):
        open_recognizer("nowhere.onnx")
    (tmp_path / "model.pth").touch()
    with pytest.raises(UsageError, match=r"\.safetensors, \.onnx, \.engine"):
        open_recognizer(tmp_path / "model.pth")
    with pytest.raises(UsageError, match="no language given"):
        open_recognizer("tesseract:")


def test_lanes_read_what_one_call_after_another_reads(crops, tiny_onnx):
    alone, side_by_side = (
        open_recognizer(tiny_onnx, threads=threads) for threads in (1, 2)
    )
    assert (len(alone.runner.replicas), len(side_by_side.runner.replicas)) == (0, 2)
    assert side_by_side.recognize(crops) == alone.recognize(crops)


def test_a_batch_that_fails_in_a_lane_is_raised(crops):
    class Failing(StubRunner):
        def run(self, images, widths):
            raise ArtifactError("no")

    runner = Failing(uses_widths=False)
    runner.replicas = (runner, runner)
    with pytest.raises(ArtifactError, match="no"):
        RunnerRecognizer(runner).recognize(crops)
