"""Every command that README and the documentation show is run: as it stands, or as a dry run where
it would train, build or serve. Commands are those of `sh` blocks and of lines beginning with `$`.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.help_text import build

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Generated from the help, or no instructions.
NOT_INSTRUCTIONS = {"cli.md", "requirements.md"}
# These train, serve, watch, install or need what is not here: a dry run where there is one.
NOT_RUN = {"serve", "completions", "doctor", "promote", "runs", "clean", "recipe"}
DRY = {
    "train",
    "finetune",
    "adapt",
    "bench",
    "compare3way",
    "build-engine",
    "export",
    "synth",
    "prep",
    "watch",
}


def commands_of(page):
    """Yield the nordocr commands of a page, comments and prompts taken off."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
        yield from block.splitlines()
    yield from re.findall(r"^    \$ (.*)$", text, flags=re.MULTILINE)


def all_commands():
    found = []
    for page in PAGES:
        if page.name in NOT_INSTRUCTIONS:
            continue
        for line in commands_of(page):
            words = shlex.split(line, comments=True)
            if words[:1] == ["nordocr"]:
                found.append(
                    pytest.param(words[1:], id=f"{page.stem}: {' '.join(words[1:])}")
                )
    return found


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder with every file that the documents name."""
    made = tmp_path_factory.mktemp("docs")
    (made / "samples").symlink_to(ROOT / "samples")
    page = np.full((600, 900), 255, np.uint8)
    for row in range(4):
        at = (60, 120 + 90 * row)
        cv2.putText(page, "Summa 123 kronor", at, cv2.FONT_HERSHEY_SIMPLEX, 1.2, 0, 2)
    cv2.imwrite(str(made / "scan.tif"), page)
    from PIL import Image

    Image.fromarray(page).save(made / "scan.pdf")
    lines = [
        {"bbox": {"x": 50, "y": 80 + 90 * row, "width": 420, "height": 60}, "text": "Summa"}
        for row in range(4)
    ]
    regions = json.dumps({"pages": [{"page_index": 0, "lines": lines}]})
    for name in ("scan.json", "svtrv2_result.json", "tess_result.json"):
        (made / name).write_text(regions, encoding="utf-8")

    sources = (
        (ROOT / "samples" / "train" / "manifest.jsonl").read_text("utf-8").splitlines()
    )
    for name in ("lines", "corrections"):
        (made / name / "images").mkdir(parents=True)
        rows = [json.loads(row) for row in sources[:200]]
        for row in rows:
            image = ROOT / "samples" / "train" / row["image"]
            shutil.copy(image, made / name / "images" / image.name)
            row["image"] = f"images/{image.name}"
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (made / name / "manifest.jsonl").write_text(text, encoding="utf-8")
    (made / "scans").mkdir()
    (made / "out").mkdir()
    run = CliRunner().invoke
    prep = [
        "prep",
        str(made / "lines" / "manifest.jsonl"),
        "-p",
        "svtrv2-nano",
        "--val-split",
        "0.3",
    ]
    done = run(app, [*prep, "-o", str(made / "train.lmdb")])
    assert done.exit_code == 0, done.output
    return made


@pytest.mark.parametrize("words", all_commands())
def test_the_command_exists_with_these_options(words):
    command = build(app)
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    known |= {option for parameter in command.params for option in parameter.secondary_opts}
    used = {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    assert used - known - {"-h", "--help"} == set()


def runnable():
    return [
        parameter
        for parameter in all_commands()
        if parameter.values[0] and parameter.values[0][0] not in NOT_RUN
    ]


@pytest.mark.parametrize("words", runnable())
def test_the_command_runs(words, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = [word for word in words if word != "--resume"]
    if words[0] in DRY and "--dry-run" not in words:
        words = [*words, "--dry-run"]
    if needs_what_an_earlier_command_makes(words, folder):
        pytest.skip("reads the result of a command that is only run dry here")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"


def needs_what_an_earlier_command_makes(words, folder):
    """Runs, models and results that training and evaluation would have left."""
    made_elsewhere = ("runs/a", "model.onnx", "before.json", "promoted")
    return any(word.startswith(made_elsewhere) for word in words) and not any(
        (folder / word).exists() for word in words if word.startswith(made_elsewhere)
    )
