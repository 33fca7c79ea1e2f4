import json
import warnings

import pytest

from nordocr_cli.training.curves import draw_curves
from nordocr_cli.training.runlog import CURVES, METRICS

pytest.importorskip("matplotlib")


def test_a_run_without_a_logged_step_has_no_picture(tmp_path):
    (tmp_path / METRICS).touch()
    assert draw_curves(tmp_path) is None
    assert not (tmp_path / CURVES).exists()


def test_a_logged_step_is_drawn(tmp_path):
    row = {"step": 20, "kind": "train", "loss": 1.0, "lr": 1e-3, "lines_per_s": 40.0, "data_wait": 0.01}
    (tmp_path / METRICS).write_text(json.dumps(row) + "\n")
    drawn = draw_curves(tmp_path)
    assert drawn is not None
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_a_run_that_reads_all_lines_right_is_drawn_without_a_warning(tmp_path):
    """Zeros alone have no place on the logarithmic axis of the errors."""
    row = {"step": 20, "kind": "eval", "cer": 0.0, "exact": 1.0, "empty": 0.0, "seconds": 1.0}
    (tmp_path / METRICS).write_text(json.dumps(row) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw_curves(tmp_path) is not None
