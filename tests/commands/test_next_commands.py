"""Every command that is printed as the next one runs, on the state that printed it."""

import json
import shlex
import shutil
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from nordocr_cli.app import main

SAMPLES = Path(__file__).parents[2] / "samples"
FONTS = str(SAMPLES / "train" / "fonts.tsv")
# Words in capitals stand for something of the user's; here they become what a user would name.
PLACEHOLDERS = {
    "PROFILE": "svtrv2-nano",
    "STORE": "digits.lmdb",
    "LINES.lmdb": "digits.lmdb",
    "VAL.lmdb": "digits.lmdb",
    "MODEL": "runs/a",
    "MODEL.onnx": "model.onnx",
    "OTHER": "weights.safetensors",
    "SCAN": "lines/100.png",
    "SCAN.pdf": "lines/100.png",
}
# What takes long, or needs a GPU, is planned: a plan checks the same state.
PLANNED = {"train", "build-engine", "synth", "export"}
TINY = ("model.dims=[24, 48, 64]", "model.depths=[1, 1, 1]", "geometry.max_width=160")
TRAIN = (
    *("-p", "svtrv2-nano", "--train", "digits.lmdb", "--threads", "1", "--device", "cpu"),
    *(word for one in (*TINY, "train.batch_size=4") for word in ("--set", one)),
)

COMMANDS: dict[str, tuple[str, ...]] = {
    "prep": ("prep", "lines", "-o", "mine.lmdb", "-p", "svtrv2-nano"),
    "prep default": (
        *("prep", "lines", "-o", "mine.lmdb", "-p", "default", "--val-split", "0.3"),
    ),
    "prep split": (
        *("prep", "lines", "-o", "mine.lmdb", "-p", "svtrv2-nano", "--val-split", "0.3"),
    ),
    "synth": (
        *("synth", "-o", "s.lmdb", "-n", "4", "-p", "svtrv2-nano", "--fonts"),
        FONTS,
    ),
    "data stats": ("data", "stats", "digits.lmdb"),
    "data view": ("data", "view", "digits.lmdb"),
    "data view source": ("data", "view", "lines"),
    "data verify": ("data", "verify", "digits.lmdb"),
    "data merge": ("data", "merge", "digits.lmdb", "more.lmdb", "-o", "merged.lmdb"),
    "data export": ("data", "export", "digits.lmdb", "-o", "exported"),
    "data suspects": ("data", "suspects", "digits.lmdb", "-m", "runs/a"),
    "data sets": ("data", "sets"),
    "charset emit": ("charset", "emit", "nordic-ext", "-o", "ext.txt"),
    "charset move": (
        "charset",
        "move",
        "runs/a",
        "--to",
        "nordic-ext",
        "-o",
        "m.safetensors",
    ),
    "profiles": ("profiles", "list"),
    "models list": ("models", "list"),
    "contract show": ("contract", "show", "model.onnx"),
    "contract verify": ("contract", "verify", "model.onnx", "weights.safetensors"),
    "contract seal": ("contract", "seal", "model.onnx"),
    "eval run": ("eval", "runs/a", "digits.lmdb"),
    "eval onnx": ("eval", "model.onnx", "digits.lmdb"),
    "eval with output": ("eval", "model.onnx", "digits.lmdb", "-o", "result.json"),
    "predict": ("predict", "lines/100.png", "-m", "runs/a", "--layout", "line"),
    "predict to a file": (
        *("predict", "lines", "-m", "runs/a", "--layout", "line", "-o", "read.jsonl"),
    ),
    "export": ("export", "runs/a", "-o", "exported.onnx", "--threads", "1"),
    "train": (
        "train",
        *TRAIN,
        "--val",
        "digits.lmdb",
        "--max-steps",
        "2",
        "--run-dir",
        "runs/b",
    ),
    "train check": ("train", *TRAIN, "--val", "digits.lmdb", "--check", "2"),
    "train preview": (
        "train",
        *TRAIN,
        "--val",
        "digits.lmdb",
        "--preview-batch",
        "first.png",
    ),
    "runs": ("runs", "runs"),
    "bench": ("bench", "runs/a", "--lines", "digits.lmdb", "--rounds", "1"),
    "promote": (
        *("promote", "runs/a", "-o", "champion.safetensors", "--gate", "cer<=1000%"),
        "--allow-leakage",
    ),
    "leaderboard": ("leaderboard", "results/a.json"),
    "compare recorded": ("eval", "results/a.json"),
    "clean": ("clean", "runs", "--yes"),
    "doctor": ("doctor",),
    "finetune": (
        *(
            "finetune",
            "lines",
            "-m",
            "runs/a",
            "-o",
            "tuned",
            "--max-steps",
            "1",
            "--lr",
            "1e-7",
        ),
        *("--rendered", "0", "--threads", "1", "--trust-labels", "--fonts", FONTS),
    ),
}


@pytest.fixture
def nordocr(monkeypatch, capsys):
    """A function that runs a command line in this process: (exit code, stdout, stderr)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["nordocr", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    before = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def workplace(tmp_path, monkeypatch, tiny_run, tiny_onnx, tiny_checkpoint):
    """A folder as a user has one: line images with labels, a store, a run, a model, a profile."""
    lines = tmp_path / "lines"
    lines.mkdir()
    rows = []
    for number in range(100, 130):
        image = np.full((32, 80), 255, np.uint8)
        cv2.putText(image, str(number), (4, 26), cv2.FONT_HERSHEY_SIMPLEX, 1, 0, 2)
        cv2.imwrite(str(lines / f"{number}.png"), image)
        row = {"image": f"{number}.png", "text": str(number), "source": f"doc{number % 3}"}
        rows.append(json.dumps(row))
    (lines / "manifest.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for number in range(100, 130):
        folder = tmp_path / "scans" / f"doc{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(lines / f"{number}.png", folder)
    shutil.copytree(tiny_run.parent / "digits.lmdb", tmp_path / "digits.lmdb")
    shutil.copytree(tiny_run, tmp_path / "runs" / "a")
    shutil.copytree(tiny_run.parent / "digits.lmdb", tmp_path / "more.lmdb")
    shutil.copy(tiny_onnx, tmp_path / "model.onnx")
    shutil.copy(tiny_checkpoint, tmp_path / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nordocr_cli.core.finetune.run._GUARD_LINES", 8)
    # A step may well make an untrained network worse, and then there is no next command.
    monkeypatch.setattr("nordocr_cli.core.finetune.run.judge", lambda sets, certain: "")
    return tmp_path


def next_of(err):
    """Return the words of the printed command; empty where a sentence is printed instead."""
    last = err.strip().splitlines()[-1]
    assert last.startswith("next: "), err
    words = shlex.split(last.removeprefix("next: "))
    if words[0] != "nordocr":
        return []
    return [PLACEHOLDERS.get(word, word) for word in words[1:]]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_next_command_runs(name, workplace, nordocr):
    if "results" in " ".join(COMMANDS[name]):
        nordocr("eval", "runs/a", "digits.lmdb", "-o", "results/a.json")
    code, _, err = nordocr(*COMMANDS[name])
    assert code == 0, err
    words = next_of(err)
    if not words:
        return
    if words[0] == "train":
        assert "--val" in words  # which a plan does not require yet
    if words[0] in PLANNED:
        words.append("--dry-run")
    code, _, err = nordocr(*words)
    assert code == 0, f"nordocr {shlex.join(words)}\n{err}"
