"""Running the proof: each step in a process of its own with a time limit, the result appended to a
JSON after every step, so that a run that is cut off keeps what it had.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nordocr_cli
from nordocr_cli.atomic import write_json
from nordocr_cli.core.gpu_proof.plan import ProofPlan, Step
from nordocr_cli.progress import SILENT, Progress

SCHEMA = "nordocr.gpu-proof/1"
_TINY_LIMIT_S = 900  # a CPU may be busy
_LEAST_S = 5.0  # a step is not begun with less left
_TRAIN_COMPILED, _TRAIN_EAGER, _DATA_WAIT, _LOADER = 0.35, 0.20, 0.05, 1000.0
_INFERENCE, _SAME_TEXTS = 0.40, 0.999


@dataclass(frozen=True)
class ProofResult:
    """The steps as they went, and the targets with what was measured."""

    output: Path
    value: Mapping[str, Any]

    @property
    def failed(self) -> list[str]:
        """The names of steps that failed or ran out of time."""
        bad = ("failed", "timed out")
        return [step["name"] for step in self.value["steps"] if step["status"] in bad]

    def to_json(self) -> dict[str, Any]:
        """Return what the file holds."""
        return dict(self.value)


def run_proof(plan: ProofPlan, progress: Progress = SILENT) -> ProofResult:
    """Run the steps in order until the time is used up. Nothing that a step does ends the proof."""
    plan.work.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * plan.minutes
    device = _device(plan.device)
    value: dict[str, Any] = {
        "schema": SCHEMA,
        "nordocr": nordocr_cli.__version__,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "tiny": plan.tiny,
        "minutes": plan.minutes,
        "steps": [],
    }
    write_json(plan.output, value)
    for step in plan.steps:
        progress.note(f"{step.name}: {step.what}")
        left = deadline - time.monotonic()
        entry = _entry(plan, step, device, left, value["steps"])
        value["steps"].append(entry)
        value["targets"] = targets(value["steps"])
        write_json(plan.output, value)
        shown = entry.get("reason") or f"{entry['seconds']} s"
        progress.note(f"{step.name}: {entry['status']} ({shown})")
    return ProofResult(plan.output, value)


def _device(requested: str) -> str:
    """`cuda` or `cpu`, whatever `auto` means here."""
    if requested != "auto":
        return requested
    from nordocr_cli.core.gpu_proof.measure import choose

    return choose("auto").type


def _entry(
    plan: ProofPlan, step: Step, device: str, left: float, done: list[dict[str, Any]]
) -> dict[str, Any]:
    """Run one step, or say why not."""
    entry: dict[str, Any] = {"name": step.name, "what": step.what, "seconds": 0.0}
    missing = [module for module in step.needs if importlib.util.find_spec(module) is None]
    reason = ""
    if missing:
        reason = f"{', '.join(missing)} is not installed"
    elif step.gpu_only and device == "cpu":
        reason = "needs a GPU"
    elif left < _LEAST_S:
        reason = "no time left"
    if reason:
        return {**entry, "status": "skipped", "reason": reason}
    limit = min(_TINY_LIMIT_S if plan.tiny else step.limit_s, left)
    scene = {
        "folder": str(plan.folder.absolute()),
        "work": str(plan.work.absolute()),
        "device": device,
        "tiny": plan.tiny,
        "seconds": limit,
        "known": {each["name"]: each["result"] for each in done if each["status"] == "ok"},
    }
    began = time.monotonic()
    found = _in_process(step.name, scene, limit, plan.work / f"{step.name}.step.json")
    return {
        **entry,
        **found,
        "limit_s": round(limit),
        "seconds": round(time.monotonic() - began, 1),
    }


def _in_process(
    name: str, scene: Mapping[str, Any], limit: float, file: Path
) -> dict[str, Any]:
    """Run a step in a process of its own, ended with all its children at the limit."""
    write_json(file, {"scene": scene})
    command = [sys.executable, "-m", "nordocr_cli.core.gpu_proof.worker", name, str(file)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=os.name == "posix",
    )
    try:
        _, stderr = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        _end(process)
        return {"status": "timed out", "reason": f"over its limit of {limit:.0f} s"}
    except BaseException:
        _end(process)
        raise
    written = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    if "result" in written:
        return {"status": "ok", "result": written["result"]}
    tail = " | ".join(stderr.strip().splitlines()[-3:])
    reason = written.get("reason") or f"exit {process.returncode}: {tail}"
    return {"status": "failed", "reason": reason}


def _end(process: "subprocess.Popen[str]") -> None:
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def targets(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each target with what was measured; `met` is None where nothing was."""
    known = {step["name"]: step["result"] for step in steps if step["status"] == "ok"}
    speed = known.get("train_speed", {})
    wait = max((form["data_wait"] for form in speed.values()), default=None)
    rows = (
        (
            "training share of peak, compiled",
            _at(speed, "compiled", "share_of_peak"),
            _TRAIN_COMPILED,
        ),
        (
            "training share of peak, eager",
            _at(speed, "eager", "share_of_peak"),
            _TRAIN_EAGER,
        ),
        ("loader batches a second", _at(known, "loader", "batches_per_s"), _LOADER),
        ("inference fp16 share of peak", _grid_share(known), _INFERENCE),
        ("engine's texts as ONNX Runtime's", _same_texts(known), _SAME_TEXTS),
    )
    found = [
        {"what": what, "measured": value, "at_least": least, "met": _met(value, least)}
        for what, value, least in rows
    ]
    waiting = None if wait is None else wait < _DATA_WAIT
    found.append(
        {"what": "data wait", "measured": wait, "below": _DATA_WAIT, "met": waiting}
    )
    beats = _at(known, "recipe", "beats_the_shipped")
    found.append({"what": "svtrv2-1024 beats the shipped recognizer on dev", "met": beats})
    return found


def _met(value: float | None, least: float) -> bool | None:
    if value is None:
        return None
    return value >= least


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def _grid_share(known: Mapping[str, Any]) -> float | None:
    """The greatest share of the peak of a 16-bit form on the grid."""
    inference = known.get("inference", {})
    shares = [
        cell.get("roofline_share")
        for name in ("torch bf16", "onnxruntime fp16")
        for cell in (_at(inference, name, "grid") or ())
    ]
    return max((share for share in shares if share is not None), default=None)


def _same_texts(known: Mapping[str, Any]) -> float | None:
    """Share of lines, 0 to 1, on which an engine reads as the bench's reference does."""
    for name in ("tensorrt", "tensorrt_rtx"):
        for row in _at(known, name, "rows") or ():
            if str(row.get("backend", "")).startswith("tensorrt"):
                return _share_of_texts(row)
    return None


def _share_of_texts(row: Mapping[str, Any]) -> float | None:
    same, lines = row.get("same_text"), row.get("lines")
    if same is None or not lines:
        return None
    return float(same) / float(lines)
