"""Two processes on the CPU, started by torchrun as they would be on two GPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.errors import UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.models.weights import load_weights
from nordocr_cli.records import LineRow
from nordocr_cli.training.team import Team, join_team

SETS = [
    "model.dims=[24, 48, 64]",
    "model.depths=[1, 1, 1]",
    "geometry.max_width=160",
    "train.precision=fp32",
    "train.batch_size=4",
    "train.batch_width_px=100",
    "train.eval_every=5",
    "train.save_every=2",
    "data.num_workers=0",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path, rng = tmp_path_factory.mktemp("store") / "digits.lmdb", np.random.default_rng(0)
    with LineStoreWriter(path, Geometry(max_width=160), NORDIC) as writer:
        for number in range(23):
            text = "".join(map(str, rng.integers(0, 10, rng.integers(1, 6))))
            image = np.full((32, 24 * len(text) + 8, 3), 255, np.uint8)
            cv2.putText(image, text, (4, 26), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
            writer.add(image, LineRow(id=f"line-{number}", image=f"{number}.png", text=text))
    return path


def two_processes(*arguments, restarts=0):
    script = Path(__file__).with_name("two_processes.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, script, *arguments], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_gradients_of_two_processes_are_those_of_one(store, tmp_path):
    said = two_processes("gradients", store, tmp_path, *SETS, "model.drop_path=0")
    assert "process 0: equal" in said
    assert "process 1: equal" in said


def test_two_processes_train_and_a_restart_goes_on_as_if_nothing_had_happened(store, tmp_path):
    """Equal to the last bit although one process died: random numbers differ between the two and are dropped paths'."""
    sets = [*SETS, "model.drop_path=0.1"]
    said = two_processes("lives", store, tmp_path / "whole", *sets)
    assert "process 0: 6 steps, 2 files" in said
    assert "process 1: 6 steps, 0 files" in said
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if '"eval"' in line] == [5, 6]
    two_processes("dies", store, tmp_path / "died", *sets, restarts=1)
    facts = json.loads((tmp_path / "died" / "run.json").read_text())
    assert [session["from_step"] for session in facts["sessions"]] == [0, 2]
    whole, died = (load_weights(tmp_path / name / "last.safetensors")[0] for name in ("whole", "died"))
    assert all(torch.equal(whole[name], died[name]) for name in whole)


def test_alone_there_is_nobody_to_ask(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    team = join_team()
    assert (team.rank, team.size, team.first) == (0, 1, True)
    assert team.everyones("a") == ["a"]
    assert team.firsts("a") == "a"
    assert team.most(2.0) == team.total(2.0) == 2.0
    network = torch.nn.Linear(1, 1)
    assert team.wrap(network, torch.device("cpu")) is network
    assert team.device("cuda:1") == "cuda:1"


def test_each_process_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Team(3, 4, 3).device("auto") == "cuda:3"
    assert Team(3, 4, 3).device("cpu") == "cpu"
    with pytest.raises(UsageError, match="each on its own GPU"):
        Team(3, 4, 3).device("cuda:0")
