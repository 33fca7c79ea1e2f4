"""Where a step of the proof runs, and how it runs commands."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import write_json
from nordocr_cli.errors import MissingBackendError

_SHOWN_LINES = 6


class StepFailed(Exception):
    """A step found something that does not hold. `exit_code` is that of the command that failed."""

    def __init__(self, reason: str, exit_code: int = 1) -> None:
        super().__init__(reason)
        self.exit_code = exit_code

    @property
    def is_missing_backend(self) -> bool:
        """Whether the machine lacks what the command needs, and nothing is wrong."""
        return self.exit_code == MissingBackendError.exit_code


class StepSkipped(Exception):
    """This machine cannot run the step; the text says why."""


@dataclass(frozen=True)
class Scene:
    """Where a step runs: `folder` has the line stores, `work` takes files, `known` are the results
    of earlier steps by name, `seconds` is the step's time, `at_once` how many commands may run at
    the same time where nothing is timed. `file` takes what was found so far.
    """

    folder: Path
    work: Path
    device: str
    tiny: bool
    seconds: float
    known: Mapping[str, Any]
    at_once: int = 1
    file: Path | None = None

    @property
    def on_cpu(self) -> bool:
        """Whether this proof runs on a CPU."""
        return self.device == "cpu"

    @property
    def profile(self) -> tuple[str, ...]:
        """The network of the training steps: the production model, or a tiny one."""
        if not self.tiny:
            return ("-p", "svtrv2-1024")
        sets = ("model.dims=[24,24,32]", "model.depths=[0,0,1]", "geometry.max_width=1024")
        return ("-p", "svtrv2-nano", *settings(*sets))

    def store(self, name: str) -> str:
        """The path of a line store of the folder."""
        return str(self.folder / name)

    def keep(self, found: Mapping[str, Any]) -> None:
        """Write what was found so far, which is kept when the step fails or runs out of time."""
        if self.file:
            write_json(self.file, {"partial": dict(found)})

    def nordocr(self, *arguments: object, cpu: bool = False) -> Any:
        """Run a command with --json and return what it says. With `cpu` the GPU is hidden. Raises
        StepFailed with the end of its messages.
        """
        command = [sys.executable, "-m", "nordocr_cli", *map(str, arguments), "--json"]
        return self.run(command, cpu=cpu)

    def run(self, command: Sequence[str], *, cpu: bool = False) -> Any:
        """Run a program and return the JSON on its stdout, None without; see `nordocr`."""
        variables = dict(os.environ)
        if cpu or self.on_cpu:
            variables["CUDA_VISIBLE_DEVICES"] = ""
        done = subprocess.run(command, capture_output=True, text=True, env=variables)
        if done.returncode:
            end = " | ".join(done.stderr.strip().splitlines()[-_SHOWN_LINES:])
            raise StepFailed(
                f"exit {done.returncode} of {' '.join(command)}: {end}", done.returncode
            )
        return _json_in(done.stdout)


def _json_in(text: str) -> Any:
    """The JSON value in a program's output, None without one."""
    starts = [text.find(sign) for sign in "{[" if sign in text]
    if not starts:
        return None
    return json.loads(text[min(starts) :])


def settings(*values: str) -> tuple[str, ...]:
    """Return `--set` flags for dotted settings."""
    return tuple(flag for value in values for flag in ("--set", value))
