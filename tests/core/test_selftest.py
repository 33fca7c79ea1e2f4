import pytest
import torch

from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.core.train.run import train
from nordocr_cli.core.train.selftest import selftest_resume
from nordocr_cli.errors import UsageError
from nordocr_cli.profile import load_profile


@pytest.fixture
def training(tiny_run, tiny_sets, monkeypatch):
    """A profile that draws random numbers in every step, and a request for the digits."""
    monkeypatch.setattr("nordocr_cli.training.reporting.can_draw", lambda: False)
    threads, stores = torch.get_num_threads(), (tiny_run.parent / "digits.lmdb",)
    yield (
        load_profile(
            "svtrv2-nano", [*tiny_sets, "train.batch_size=4", "model.drop_path=0.2"]
        ),
        TrainRequest(stores, stores),
    )
    torch.set_num_threads(threads)


def test_a_resumed_run_computes_the_same_losses(training):
    torch.set_num_threads(3)
    result = selftest_resume(*training, steps=6)
    assert result.verdict.startswith(
        "ok: the losses of 6 steps, stopped after 3 and resumed, are the same, bit for bit"
    )
    assert result.whole == result.resumed
    assert len(set(result.whole)) == 6
    assert torch.get_num_threads() == 3


def test_a_resume_that_forgets_the_random_numbers_fails(training, monkeypatch):
    monkeypatch.setattr("nordocr_cli.training.loop.restore_rng", lambda *_: True)
    result = selftest_resume(*training, steps=6)
    assert result.verdict.startswith("failed: 6 of 6 steps, losses differ by up to")
    assert result.whole[:3] == result.resumed[:3]
    assert result.whole[3:] != result.resumed[3:]
    assert result.difference > 0


def test_the_self_test_makes_its_own_runs(training, tiny_run):
    with pytest.raises(UsageError, match="leave --resume out"):
        selftest_resume(training[0], TrainRequest(resume=tiny_run))
    with pytest.raises(UsageError, match="give --profile"):
        selftest_resume(None, training[1])


@pytest.mark.parametrize(
    ("lr", "verdict"), [("3e-3", "ok: loss "), ("1e-12", "failed: loss ")]
)
def test_a_short_run_is_judged_and_its_readings_shown(
    training, tiny_sets, tmp_path, lr, verdict
):
    sets = [
        *tiny_sets,
        "train.batch_size=16",
        f"train.lr={lr}",
        "train.mask_share=1",
        "train.weight_decay=0",
    ]
    sets += ["augment.join=0", "augment.squeeze=0", "augment.crop=0", "augment.pad_right=0"]
    request = TrainRequest(
        training[1].train,
        training[1].val,
        tmp_path / "c",
        check=10,
        device="cpu",
        threads=1,
    )
    result = train(load_profile("svtrv2-nano", sets), request)
    assert result.steps == 10
    assert result.verdict.startswith(verdict)
    assert result.samples
    assert all(text.isdigit() for text, _ in result.samples)
    with pytest.raises(UsageError, match="leave --max-steps"):
        train(
            load_profile("svtrv2-nano", sets),
            TrainRequest(training[1].train, training[1].val, check=10, max_steps=5),
        )
