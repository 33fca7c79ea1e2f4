"""Two processes on the CPU, started by torchrun as they would be on two GPUs."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.errors import DataError, NordocrError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.models.weights import load_weights
from nordocr_cli.records import LineRow
from nordocr_cli.training.distributed import DistributedContext, init_distributed
from nordocr_cli.training.launch import launch
from nordocr_cli.training.launcher_env import LAUNCHED, RESTARTS, report_to_launcher

SETS = [
    "model.dims=[24, 48, 64]",
    "model.depths=[1, 1, 1]",
    "model.drop_path=0.1",
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
            writer.add(
                image, LineRow(id=f"line-{number}", image=f"{number}.png", text=text)
            )
    return path


@pytest.fixture(scope="module")
def said(store, tmp_path_factory):
    """What two processes say that compare gradients, train, and train again, when one dies once;
    and the folder of their runs.
    """
    folder, script = (
        tmp_path_factory.mktemp("runs"),
        Path(__file__).with_name("two_processes.py"),
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--max-restarts=0",
    ]
    words = []
    # Restarted as our launcher does it. torchrun's own restart keeps its store: on a busy
    # machine torch 2.13 was seen to abort or to hang there now and then.
    for restarts, fails in (("0", True), ("1", False)):
        own = {**os.environ, "OMP_NUM_THREADS": "1", RESTARTS: restarts}
        done = subprocess.run(
            [*command, script, store, folder, *SETS],
            capture_output=True,
            text=True,
            env=own,
            timeout=300,
        )
        assert (done.returncode != 0) == fails, done.stderr[-3000:]
        words.append(done.stdout)
    return "".join(words), folder


def test_gradients_of_two_processes_are_those_of_one(said):
    assert "process 0: equal" in said[0]
    assert "process 1: equal" in said[0]


def test_two_processes_train_and_a_restart_goes_on_as_if_nothing_had_happened(said):
    """Equal to the last bit although one process died: random numbers differ between the two and
    are dropped paths'.
    """
    words, folder = said
    assert words.count("process 0: 6 steps, 2 files") == 2
    assert words.count("process 1: 6 steps, 0 files") == 2
    lines = (folder / "whole" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if '"eval"' in line] == [5, 6]
    facts = json.loads((folder / "died" / "run.json").read_text())
    assert [session["from_step"] for session in facts["sessions"]] == [0, 2]
    whole, died = (
        load_weights(folder / name / "last.safetensors")[0] for name in ("whole", "died")
    )
    assert all(torch.equal(whole[name], died[name]) for name in whole)


def test_alone_there_is_nobody_to_ask(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    context = init_distributed()
    assert (context.rank, context.world_size, context.is_main) == (0, 1, True)
    assert context.all_gather("a") == ["a"]
    assert context.broadcast("a") == "a"
    assert context.all_reduce_max(2.0) == context.all_reduce_sum(2.0) == 2.0
    network = torch.nn.Linear(1, 1)
    assert context.wrap(network, torch.device("cpu")) is network
    assert context.device("cuda:1") == "cuda:1"


def test_each_process_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert DistributedContext(3, 4, 3, in_group=True).device("auto") == "cuda:3"
    assert DistributedContext(3, 4, 3, in_group=True).device("cpu") == "cpu"
    with pytest.raises(UsageError, match="each on its own GPU"):
        DistributedContext(3, 4, 3, in_group=True).device("cuda:0")


def run_sh(tmp_path, heard, *lines):
    """`launch` runs this shell script in two processes."""
    script = tmp_path / "work.sh"
    script.write_text("\n".join(lines))
    launch(["/bin/sh", str(script)], 2, 1, heard)


@pytest.fixture
def undisturbed(monkeypatch):
    for name in (LAUNCHED, RESTARTS, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    }
    yield
    logging.disable(logging.NOTSET)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a shell")
def test_an_error_of_the_processes_is_told_once_and_a_death_starts_them_again(
    tmp_path, heard, undisturbed
):
    error = json.dumps({"message": "the disk is full", "timestamp": 1})
    with pytest.raises(DataError, match="^the disk is full$"):
        run_sh(tmp_path, heard, f"echo '{error}' > $TORCHELASTIC_ERROR_FILE", "exit 3")
    run_sh(tmp_path, heard, '[ "$NORDOCR_RESTARTS" = 1 ] || kill -9 $$')
    assert len(heard.warnings) == 1
    assert "was killed by SIGKILL; restarting all processes" in heard.warnings[0]
    with pytest.raises(NordocrError, match="process . ended with exit code 1"):
        run_sh(tmp_path, heard, "exit 1")


def test_what_a_process_leaves_for_its_launcher(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    assert not report_to_launcher(DataError("full"))
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.delenv(LAUNCHED, raising=False)
    monkeypatch.setenv("RANK", "0")
    assert not report_to_launcher(
        DataError("full")
    )  # torchrun started it: the first process speaks
    monkeypatch.setenv("RANK", "1")
    assert report_to_launcher(DataError("full"))
    assert json.loads((tmp_path / "error.json").read_text())["message"] == "full"
