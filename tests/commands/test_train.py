"""`nordocr train` as a process: signals, and the restart with another malloc."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from nordocr_cli.charset import NORDIC
from nordocr_cli.core.train import run as core
from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import LineRow
from nordocr_cli.training.checkpoint import load_state

NORDOCR = Path(sys.executable).with_name("nordocr")
SETS = [
    "model.dims=[24, 48, 64]",
    "model.depths=[1, 1, 1]",
    "train.precision=fp32",
    "train.log_every=1",
]


SAVE_EVERY = 3


@pytest.mark.skipif(
    not NORDOCR.exists(), reason="the package is not installed with its command"
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals to a child process are POSIX")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_loses_little_and_resume_goes_on(tmp_path, sent):
    """SIGINT and SIGTERM save; SIGKILL, which nobody can answer, costs at most the steps since the
    last saving.
    """
    with LineStoreWriter(tmp_path / "s.lmdb", Geometry(max_width=1792), NORDIC) as writer:
        for number in range(8):
            image = np.full((32, 64, 3), 255, np.uint8)
            cv2.putText(
                image, str(10 + number), (4, 26), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2
            )
            writer.add(
                image, LineRow(id=str(number), image=f"{number}.png", text=str(10 + number))
            )
    # Whatever lies in the user's folder is not ours to import, in the process that is restarted
    # least of all.
    (tmp_path / "rich.py").write_text("raise SystemExit(77)")
    command = [
        NORDOCR,
        "train",
        "-p",
        "svtrv2-nano",
        "--train",
        "s.lmdb",
        "--val",
        "s.lmdb",
        "--run-dir",
        "run",
    ]
    command += ["--max-steps", "1000000", "--threads", "1", "--device", "cpu"]
    command += [
        part
        for item in (*SETS, f"train.save_every={SAVE_EVERY}")
        for part in ("--set", item)
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        metrics = tmp_path / "run" / "metrics.jsonl"
        give_up = time.monotonic() + 120
        while (
            process.poll() is None
            and len(_steps(metrics)) <= SAVE_EVERY
            and time.monotonic() < give_up
        ):
            time.sleep(0.05)
        process.send_signal(sent)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert not output
    assert "Traceback" not in errors
    seen, step = max(_steps(metrics)), load_state(tmp_path / "run")["position"]["step"]
    if sent == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        assert seen - SAVE_EVERY <= step <= seen + 1
    else:
        assert process.returncode == 130, errors
        assert "--resume run" in errors
        assert step == seen
    stores = (tmp_path / "s.lmdb",)
    again = TrainRequest(
        resume=tmp_path / "run",
        train=stores,
        val=stores,
        max_steps=step + 2,
        threads=1,
        device="cpu",
    )
    assert core.train(None, again).steps == step + 2


def _steps(metrics: Path) -> list[int]:
    """Steps that the run has logged so far; a line that is being written is left out."""
    return (
        [
            json.loads(line)["step"]
            for line in metrics.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]
        if metrics.exists()
        else []
    )
