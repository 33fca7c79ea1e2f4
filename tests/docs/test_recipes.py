"""The recipes of docs/architecture.md, followed to the letter in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import nordocr_cli

ROOT = Path(nordocr_cli.__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
_BLOCK = re.compile(
    r"^```(?:python|text|toml)\n# (\S+?)(?:, ([\w ]+))?\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def blocks():
    """(file, place in it or "" for a new file, code) of each example."""
    recipes = PAGE.read_text(encoding="utf-8").partition("## How to add something")[2]
    return [(file, place or "", code) for file, place, code in _BLOCK.findall(recipes)]


def position(text, place):
    """Where in a file the code of an example goes; None when the file has no such place."""
    kind, _, name = place.partition(" ")
    pattern = {
        "imports": r"^(?=from nordocr_cli)",
        "above": rf"^(?={name}\b)",
        "in": rf"^{name}\b.*[({{]\n",
        "after": rf"^class {name}\b.*?\n(?=\S)",
    }[kind]
    found = re.search(pattern, text, re.MULTILINE | re.DOTALL * (kind == "after"))
    return found.end() if found else None


def follow(file, place, code):
    """Write a new file, or put code into an existing one."""
    if not place:
        assert not file.exists()
        file.parent.mkdir(exist_ok=True)
        file.write_text(code, encoding="utf-8")
        return
    text = file.read_text(encoding="utf-8")
    at = position(text, place)
    assert at is not None, f"{file}: no place {place!r}"
    file.write_text(text[:at] + code + text[at:], encoding="utf-8")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package in which all recipes were followed."""
    folder = tmp_path_factory.mktemp("copy")
    weights = ROOT / "nordocr_cli" / "weights"
    shutil.copytree(
        ROOT / "nordocr_cli",
        folder / "nordocr_cli",
        ignore=lambda path, names: ["weights"] if "weights" in names else [],
    )
    (folder / "nordocr_cli" / "weights").symlink_to(weights)
    shutil.copytree(ROOT / "nordocr", folder / "nordocr")
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    for file, place, code in blocks():
        follow(folder / file, place, code)
    return folder


@pytest.fixture
def nordocr(package, tmp_path, monkeypatch):
    """A function that runs a command of that copy and returns its output."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "nordocr_cli", *map(str, words)],
            env={**os.environ, "PYTHONPATH": str(package), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def line_images(tmp_path):
    for number in range(3):
        image = np.full((32, 80), 255, np.uint8)
        cv2.putText(image, f"10{number}", (4, 26), cv2.FONT_HERSHEY_SIMPLEX, 1, 0, 2)
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    return tmp_path


def test_there_is_an_example_of_every_kind():
    places = {place for _, place, _ in blocks()}
    tables = (
        *("FORMS", "LAYOUT_FORMATS", "ALL", "METRICS"),
        *("_BACKEND_OF", "_READERS", "OPENERS"),
    )
    assert places == {
        *("", "imports", "above ALL", "above OPENERS", "after TrocrModel"),
        *(f"in {table}" for table in tables),
    }


def test_a_network(nordocr, line_images):
    texts = "".join(f"{number}.png\t10{number}\n" for number in range(3))
    (line_images / "labels.txt").write_text(texts, encoding="utf-8")
    nordocr("prep", line_images, "-p", "strips", "-o", "a.lmdb")

    data = ("--train", "a.lmdb", "--val", "a.lmdb", "--allow-leakage")
    nordocr("train", "-p", "strips", *data, "--max-steps", "1", "--run-dir", "run")
    nordocr("export", "run", "-o", "model.onnx")

    result = json.loads(nordocr("eval", "model.onnx", "a.lmdb", "--json"))
    assert result["report"]["total"]["lines"] == 3


def test_a_label_format(nordocr, line_images):
    text = "%LINES\n0.png -- 100\n1.png -- 101\nno separator\n2.png -- 102\n"
    (line_images / "labels.txt").write_text(text, encoding="utf-8")

    words = ("-p", "svtrv2-nano", "--on-bad", "skip", "--json")
    result = json.loads(nordocr("prep", line_images, "-o", "a.lmdb", *words))

    assert (result["read"], result["kept"]) == (4, 3)
    assert "101" in nordocr("data", "view", "a.lmdb")


def test_a_layout_format(nordocr, line_images):
    (line_images / "0.txt").write_text("#boxes\n0 0 80 32 100\n", encoding="utf-8")

    assert "100" in nordocr("data", "view", line_images / "0.txt")
    given = ("--regions", line_images / "0.txt", "--format", "jsonl")
    page = nordocr("predict", line_images / "0.png", *given)
    assert '"page_index": 0' in page


def test_an_output_format(nordocr, line_images):
    nordocr("predict", line_images / "0.png", "--layout", "page", "-o", "a.md")

    assert Path("a.md").read_text(encoding="utf-8").startswith("# 0.png, page 1\n")
    assert "markdown" in nordocr("predict", "--help")


def test_a_metric(nordocr, tmp_path):
    rows = [{"id": "a", "ref": "Rad 12", "hyp": "Rad 123"}]
    (tmp_path / "read.jsonl").write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")

    shown = nordocr("eval", "read.jsonl", "-o", "out", "--fail-if", "length_error>50%")

    assert "wrong length" in shown
    saved = json.loads(Path("out/eval.json").read_text(encoding="utf-8"))
    assert "length_error" in json.dumps(saved)


def test_a_backend(nordocr, line_images, tiny_onnx):
    shutil.copy(tiny_onnx, "model.onnx")
    shutil.copy(tiny_onnx, "model.refonnx")

    read = {
        name: nordocr("predict", "0.png", "1.png", "-m", name, "--jsonl", "--quiet")
        for name in ("model.onnx", "model.refonnx")
    }

    texts = {
        name: [json.loads(line)["text"] for line in out.splitlines()]
        for name, out in read.items()
    }
    assert len(texts["model.onnx"]) == 2
    assert texts["model.onnx"] == texts["model.refonnx"]
