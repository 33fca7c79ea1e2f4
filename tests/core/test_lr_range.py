import cv2
import pytest
import torch
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.core.train.lr_range import lr_range
from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.errors import GateMissed, UsageError
from nordocr_cli.profile import load_profile

pytest.importorskip("matplotlib")


@pytest.fixture
def trial(tiny_run, tiny_sets):
    threads = torch.get_num_threads()
    store = tiny_run.parent / "digits.lmdb"
    yield (
        [*tiny_sets, "train.batch_size=4"],
        TrainRequest((store,), max_steps=30, device="cpu", threads=1),
    )
    torch.set_num_threads(threads)


def test_a_rate_is_found_drawn_and_kept_for_the_lines_that_lr_is_meant_for(trial, tmp_path):
    sets, request = trial
    found = lr_range(load_profile("svtrv2-nano", sets), request, tmp_path / "lr.png")
    assert found.verdict.startswith("ok: ")
    assert 1e-4 < found.lr < 1
    assert cv2.imread(str(tmp_path / "lr.png")).shape == (600, 1000, 3)
    assert list(tmp_path.iterdir()) == [tmp_path / "lr.png"]
    again = lr_range(
        load_profile("svtrv2-nano", [*sets, "train.lr_batch=16"]),
        request,
        tmp_path / "again.png",
    )
    # the rates of the steps are the same; what lr has to be for them is twice as much
    assert again.losses == found.losses
    assert again.lr == pytest.approx(2 * found.lr, rel=0.05)


def test_what_cannot_be_tried_is_refused(trial, tiny_run, tmp_path):
    sets, request = trial
    with pytest.raises(UsageError, match="leave --resume out"):
        lr_range(None, TrainRequest(resume=tiny_run), tmp_path / "lr.png")
    with pytest.raises(UsageError, match="would overwrite"):
        lr_range(load_profile("svtrv2-nano", sets), request, request.train[0])
    flags = [part for value in [*sets, "model.drop_path=0"] for part in ("--set", value)]
    few = [
        "train",
        "-p",
        "svtrv2-nano",
        *flags,
        "--train",
        str(request.train[0]),
        "--max-steps",
        "2",
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(app, [*few, "--lr-range", str(tmp_path / "few.png")])
    assert isinstance(done.exception, GateMissed)
    assert "no rate changed the loss" in str(done.exception)
