"""The pipelines of examples/ci are run: every nordocr command, in order, in a folder that holds what
a project would have. Shortened are the batch of the training step and the engines, which take
minutes to build; other tests build them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PIPELINES = ROOT / "examples" / "ci"
SHORTER = {"train": "--batch-size 4 --device cpu", "build-engine": "--dry-run"}


def commands_of(name):
    """The nordocr commands of a pipeline, each as one line."""
    document = yaml.safe_load((PIPELINES / name).read_text(encoding="utf-8"))
    if "jobs" in document:
        steps = [step for job in document["jobs"].values() for step in job["steps"]]
        script = [step["run"] for step in steps if "run" in step]
    else:
        script = document["model"]["script"]
    return [" ".join(line.split()) for line in script if line.startswith("nordocr ")]


def test_both_pipelines_do_the_same():
    assert commands_of("github-actions.yml") == commands_of("gitlab-ci.yml")


@pytest.mark.skipif(sys.platform == "win32", reason="the pipelines use a POSIX shell")
def test_a_pipeline_runs_from_lines_to_engines(tmp_path):
    shutil.copytree(ROOT / "samples" / "lines", tmp_path / "lines")
    nordocr = f'"{sys.executable}" -m nordocr_cli'
    script = [f"{nordocr} charset emit nordic-ext -o charset.txt"]
    for command in commands_of("gitlab-ci.yml"):
        name = command.split()[1]
        shown = command.replace("nordocr", nordocr, 1)
        script.append(f"{shown} {SHORTER.get(name, '')}")

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["sh", "-e", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "eval.json").is_file()
    assert (tmp_path / "model.onnx").is_file()
