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

from nordocr_cli.app import app, main
from nordocr_cli.charset import NORDIC
from nordocr_cli.help_text import build_command_tree

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

# Commands that print no next one, and those whose next one is tested where they run.
ELSEWHERE = {
    "serve": "runs until it is stopped",
    "watch": "runs until it is stopped",
    "build-engine": "requires a GPU",
    "data fetch": "requires the network",
    "merge-lora": "requires the training of a TrOCR",
    "recipe": "its next step is a sentence",
    "adapt": "takes half a minute; see test_adapt.py",
    "contract calibrate": "requires a network that reads some lines right",
}
WITHOUT = {
    "charset show", "charset check", "charset coverage", "completions show", "lineage",
    "models show", "profiles check", "profiles show", "report limitations",
}  # fmt: skip

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
    "predict with regions": (
        *("predict", "page.png", "-m", "runs/a", "--regions", "regions.json"),
    ),
    "predict a page": ("predict", "page.png", "-m", "runs/a", "--layout", "page"),
    "read": ("read", "page.png", "-o", "read.json"),
    "predict": ("predict", "lines/100.png", "-m", "runs/a", "--layout", "line"),
    "predict to a file": (
        *("predict", "lines", "-m", "runs/a", "--layout", "line", "-o", "read.jsonl"),
    ),
    "export": ("export", "runs/a", "-o", "exported.onnx", "--threads", "1"),
    "export int8": (
        *("export", "runs/a", "-o", "exported.onnx", "--threads", "1", "--int8"),
        *("--calibration", "digits.lmdb"),
    ),
    "eval of int8": ("eval", "model.int8.onnx", "digits.lmdb"),
    "contract attach": (
        *("contract", "attach", "bare.onnx", "--contract", "runs/a", "-o", "with.onnx"),
    ),
    "advise": ("advise", "digits.lmdb", "-p", "svtrv2-nano", "--model", "model.onnx"),
    "advise without a model": ("advise", "digits.lmdb", "-p", "svtrv2-nano"),
    "consumer config": ("consumer", "config", "model.onnx", "-o", "config.json"),
    "consumer check": ("consumer", "check", "nordic.txt", "model.onnx"),
    "charset lock": ("charset", "lock", "nordic", "-o", "charset.lock.json"),
    "models get": ("models", "get", "model.onnx"),
    "synth to a folder": (
        *("synth", "-o", "rendered", "-n", "4", "-p", "svtrv2-nano", "--fonts", FONTS),
    ),
    "synth preview": (
        *("synth", "-o", "sheet.png", "-n", "4", "-p", "svtrv2-nano", "--preview"),
        *("--fonts", FONTS),
    ),
    "data suspects to a file": (
        *("data", "suspects", "mine.lmdb", "-m", "runs/a", "-o", "suspects.jsonl"),
    ),
    "runs of one": ("runs", "single"),
    "runs compared": ("runs", "--diff", "runs/a", "runs/c"),
    "compare3way": (
        *("compare3way", "page.png", "--first", "read.json", "--second", "read.json"),
        *("--names", "one,two", "--truth", "regions.json"),
    ),
    "bench document": (
        *("bench", "runs/a", "model.onnx", "--doc", "page.png", "--regions"),
        *("regions.json", "--rounds", "1"),
    ),
    "train resume check": ("train", *TRAIN, "--val", "digits.lmdb", "--selftest-resume"),
    "import": ("import", "best.pth", "--charset", "nordic", "-o", "imported.safetensors"),
    "import other charset": (
        *("import", "best.pth", "--charset", "reversed.txt", "-o", "imported.safetensors"),
    ),
    "completions": ("completions", "install", "bash"),
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
    write_page(tmp_path)
    (tmp_path / "nordic.txt").write_text(NORDIC.to_dict_text(), encoding="utf-8")
    shutil.copytree(tiny_run, tmp_path / "single" / "a")
    shutil.copytree(tiny_run, tmp_path / "runs" / "c")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NORDOCR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nordocr_cli.core.finetune.run._GUARD_LINES", 8)
    # A step may well make an untrained network worse, and then there is no next command.
    monkeypatch.setattr(
        "nordocr_cli.core.finetune.run.replacement_problem", lambda sets, certain: ""
    )
    return tmp_path


def write_page(folder):
    """A page with two lines, and where they are."""
    page = np.full((600, 500), 255, np.uint8)
    boxes = [[40, 60, 240, 100], [40, 160, 240, 200]]
    for (left, _, _, bottom), text in zip(boxes, ("Summa 100", "Datum 205"), strict=True):
        place = (left + 5, bottom - 8)
        cv2.putText(page, text, place, cv2.FONT_HERSHEY_SIMPLEX, 1, 0, 2)
    cv2.imwrite(str(folder / "page.png"), page)
    regions = [{"bbox": box, "text": "Summa 100"} for box in boxes]
    text = json.dumps({"pages": [{"page": 1, "regions": regions}]})
    (folder / "regions.json").write_text(text, encoding="utf-8")


def write_bare_onnx(nordocr):
    """The model without its contract, as another program would have exported it."""
    import onnx

    model = onnx.load("model.onnx")
    del model.metadata_props[:]
    onnx.save(model, "bare.onnx")


def write_checkpoint(nordocr):
    """A checkpoint as OpenOCR saves it, and a charset of the same size as ours."""
    import torch

    from nordocr_cli.models.registry import build_model
    from nordocr_cli.settings import SvtrV2Model

    network = build_model(SvtrV2Model(name="svtrv2", size="tiny"), NORDIC.num_classes)
    torch.save({"state_dict": network.state_dict()}, "best.pth")
    characters = "\n".join(reversed(NORDIC.characters))
    Path("reversed.txt").write_text(characters + "\n", encoding="utf-8")


def write_charset_rs(nordocr):
    escaped = {"'": r"\'", "\\": r"\\"}
    characters = ", ".join(f"'{escaped.get(c, c)}'" for c in NORDIC.characters)
    text = f"pub const CTC_CHARSET: &[char] = &[{characters}];\n"
    Path("charset.rs").write_text(text, encoding="utf-8")


# What a command needs besides the workplace: a function, or a command that comes before it.
BEFORE = {
    "leaderboard": ("eval", "runs/a", "digits.lmdb", "-o", "results/a.json"),
    "compare recorded": ("eval", "runs/a", "digits.lmdb", "-o", "results/a.json"),
    "data suspects to a file": ("prep", "lines", "-o", "mine.lmdb", "-p", "svtrv2-nano"),
    "compare3way": ("read", "page.png", "-m", "runs/a", "-o", "read.json"),
    "eval of int8": ("export", "runs/a", "-o", "model.onnx", "--int8", "--threads", "1"),
    "contract attach": write_bare_onnx,
    "charset lock": write_charset_rs,
    "import": write_checkpoint,
    "import other charset": write_checkpoint,
}


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
    before = BEFORE.get(name, ())
    if callable(before):
        before(nordocr)
    elif before:
        code, _, err = nordocr(*before)
        assert code == 0, err
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


def leaves_of(command, path=()):
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(path)
        return
    for name, child in children.items():
        yield from leaves_of(child, (*path, name))


def test_every_command_is_here():
    """A new command needs a case above, or a reason why it has none."""
    leaves = set(leaves_of(build_command_tree(app)))
    groups = {leaf.partition(" ")[0] for leaf in leaves if " " in leaf}
    tested = {
        " ".join(words[:2]) if words[0] in groups else words[0]
        for words in COMMANDS.values()
    }
    assert leaves == tested | set(ELSEWHERE) | WITHOUT
