import importlib.util
import json

import pytest

from nordocr_cli.errors import MissingBackendError
from nordocr_cli.training.runlog import RunLog
from nordocr_cli.training.wandb_board import require_wandb

HERE = importlib.util.find_spec("wandb") is not None


@pytest.mark.skipif(HERE, reason="wandb is installed")
def test_without_wandb_the_extra_is_named():
    with pytest.raises(MissingBackendError, match=r"pip install .*\[wandb\]"):
        require_wandb()


@pytest.mark.skipif(not HERE, reason="wandb is not installed (the extra `wandb`)")
def test_offline_everything_stays_in_the_run_and_a_resumed_session_keeps_its_id(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    identities = []
    for step in (0, 2):
        log = RunLog(tmp_path, {"profile": {"train": {"lr": 1e-3}}}, step, "nordic")
        log.scalars(step + 1, "train", loss=2.0, lr=1e-3)
        log.samples(step + 1, [("Å betale", "A betale")])
        log.close()
        identities.append(json.loads((tmp_path / "run.json").read_text())["wandb"])
    assert identities[0] == identities[1]
    assert identities[0]["project"] == "nordic"
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{identities[0]['id']}"))) == 2
