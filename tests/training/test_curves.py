import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from nordocr_cli.errors import UsageError
from nordocr_cli.training.curves import draw_curves
from nordocr_cli.training.runlog import (
    CURVES_FILE,
    METRICS_FILE,
    RunLog,
    new_run_folder,
    read_metrics,
)

pytest.importorskip("matplotlib")


def test_a_run_without_a_logged_step_has_no_picture(tmp_path):
    (tmp_path / METRICS_FILE).touch()
    assert draw_curves(tmp_path) is None
    assert not (tmp_path / CURVES_FILE).exists()


def test_a_row_id_does_not_end_a_line_of_the_log(tmp_path):
    log = RunLog(tmp_path, {"profile": {}}, 0)
    log.event(1, "skipped", rows=["a\u2028b\x85c"])
    log.event(3, "skipped", rows=[])
    log.close()
    RunLog(tmp_path, {"profile": {}}, 2).close()  # goes on after step 2
    assert [row["rows"] for row in read_metrics(tmp_path)] == [["a\u2028b\x85c"]]


@pytest.mark.skipif(os.name == "nt", reason="flock")
def test_two_sessions_on_one_run_are_refused(tmp_path):
    log = RunLog(tmp_path, {"profile": {}}, 0)
    with pytest.raises(UsageError, match="another process is training this run"):
        RunLog(tmp_path, {"profile": {}}, 0)
    log.close()
    RunLog(tmp_path, {"profile": {}}, 0).close()


def test_runs_that_begin_together_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "p[x]-7").mkdir(parents=True)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_run_folder(None, "p[x]"), range(16)))
    assert sorted(folder.name for folder in folders) == sorted(
        f"p[x]-{number}" for number in range(8, 24)
    )


def test_a_logged_step_is_drawn(tmp_path):
    row = {
        "step": 20,
        "kind": "train",
        "loss": 1.0,
        "lr": 1e-3,
        "lines_per_s": 40.0,
        "data_wait": 0.01,
    }
    (tmp_path / METRICS_FILE).write_text(json.dumps(row) + "\n")
    drawn = draw_curves(tmp_path)
    assert drawn is not None
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_a_run_that_reads_all_lines_right_is_drawn_without_a_warning(tmp_path):
    """Zeros alone have no place on the logarithmic axis of the errors."""
    row = {
        "step": 20,
        "kind": "eval",
        "cer": 0.0,
        "exact": 1.0,
        "empty": 0.0,
        "seconds": 1.0,
    }
    (tmp_path / METRICS_FILE).write_text(json.dumps(row) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw_curves(tmp_path) is not None
