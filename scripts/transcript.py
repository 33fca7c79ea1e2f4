#!/usr/bin/env python3
"""Run a use of the program as a person would, and write what happened as a page of the
documentation: every command with its output, exit code and seconds.

python3 scripts/transcript.py scripts/uses/office.sh --venv /tmp/fresh -o docs/transcripts/office.md

The commands run one by one in an empty folder, in which the script's first `cd`, `export` and
files persist; `$CLONE` is this clone, and the environment's programs come first. Lines beginning
with `#` are text of the page; `#!expect N` says which exit code the next command is to have.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHOWN_LINES = 24
SHOWN_COLUMNS = 150


@dataclass(frozen=True)
class Step:
    """A command with the text before it and the exit code that it is to have."""

    text: str
    command: str
    exit_code: int = 0


def main() -> None:
    """Run every step; end with exit code 1 when one does not end as expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("use", type=Path, help="A script of scripts/uses/.")
    parser.add_argument(
        "--venv", type=Path, required=True, help="The environment that is used."
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()

    title, steps = read_steps(arguments.use)
    page = [f"# {title}", "", heading(arguments.use)]
    with tempfile.TemporaryDirectory(prefix="nordocr-use-") as folder:
        for step in steps:
            page += run_step(step, Path(folder), arguments.venv.resolve())
    text = "\n".join(page).rstrip() + "\n"
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")


def read_steps(path: Path) -> tuple[str, list[Step]]:
    """Return the title, which is the first line, and the steps of a use."""
    title, *lines = path.read_text(encoding="utf-8").splitlines()
    steps: list[Step] = []
    text: list[str] = []
    exit_code = 0
    for line in lines:
        if line.startswith("#!expect "):
            exit_code = int(line.removeprefix("#!expect "))
        elif line.startswith("#"):
            text.append(line.lstrip("# "))
        elif line.strip():
            steps.append(Step(" ".join(text), line, exit_code))
            text = []
            exit_code = 0
    return title.lstrip("# "), steps


def heading(use: Path) -> str:
    """Say how the page was made."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    made = datetime.now(UTC).strftime("%Y-%m-%d")
    return (
        f"Made by `scripts/transcript.py scripts/uses/{use.name}` on {made}, Python {version},"
        f" {os.cpu_count()} cores that other work shared: seconds are upper bounds. Long outputs"
        " are cut in the middle."
    )


def run_step(step: Step, folder: Path, venv: Path) -> list[str]:
    """Run a command and return its part of the page. Ends the program on another exit code."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
        "CLONE": str(ROOT),
        "COLUMNS": "110",
    }
    began_s = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", step.command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    seconds = time.monotonic() - began_s
    print(f"{seconds:6.1f} s  exit {done.returncode}  {step.command}", flush=True)
    if done.returncode != step.exit_code:
        sys.exit(f"expected exit code {step.exit_code}\n{done.stdout}")
    output = shortened(done.stdout, folder, venv)
    command = step.command.replace("$CLONE", "nordocr")
    shown = [f"    $ {command}", *(f"    {line}" for line in output)]
    took = f"{seconds:.0f} s" if seconds >= 1 else "less than a second"
    ending = f"Exit code {done.returncode}, {took}."
    return (
        ["", step.text, "", *shown, "", ending] if step.text else ["", *shown, "", ending]
    )


def shortened(output: str, folder: Path, venv: Path) -> list[str]:
    """The lines of an output without this machine's paths, cut in the middle where there are
    many.
    """
    for path, name in (
        (folder, "."),
        (venv, "venv"),
        (ROOT, "nordocr"),
        (Path.home(), "~"),
    ):
        output = output.replace(str(path), name)
    output = re.sub(r"/tmp/[\w.-]+", "/tmp/…", output)
    lines = [line[:SHOWN_COLUMNS].rstrip() for line in output.rstrip().splitlines()]
    if len(lines) <= SHOWN_LINES:
        return lines
    half = SHOWN_LINES // 2
    return [*lines[:half], f"… {len(lines) - 2 * half} more lines …", *lines[-half:]]


if __name__ == "__main__":
    main()
