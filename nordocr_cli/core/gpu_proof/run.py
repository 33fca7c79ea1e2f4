"""Running the proof: each step in a process of its own with a time limit, the result appended to a
JSON after every step, so that a run that is cut off keeps what it had.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nordocr_cli
from nordocr_cli.atomic import make_folder, write_json
from nordocr_cli.core.gpu_proof.branches import branch_status
from nordocr_cli.core.gpu_proof.plan import ProofPlan, ProofStep
from nordocr_cli.core.gpu_proof.targets import targets
from nordocr_cli.cores import usable_cores
from nordocr_cli.errors import UsageError
from nordocr_cli.limits import read_json
from nordocr_cli.progress import SILENT, Progress

PROOF_SCHEMA = "nordocr.gpu-proof/1"
_TINY_LIMIT_S = 900  # a CPU may be busy
_MINIMUM_S = 5.0  # a step does not begin with less time left
_FAILED = ("failed", "timed out")


@dataclass(frozen=True)
class ProofResult:
    """The steps as they went, and the targets with what was measured."""

    output: Path
    value: Mapping[str, Any]

    @property
    def failed(self) -> list[str]:
        """The names of steps that failed or ran out of time."""
        return [step["name"] for step in self.value["steps"] if step["status"] in _FAILED]

    def to_json(self) -> dict[str, Any]:
        """Return what the file holds."""
        return dict(self.value)


def run_proof(plan: ProofPlan, progress: Progress = SILENT) -> ProofResult:
    """Run the steps in order until the time is used up. Nothing that a step does ends the proof;
    what ends the proof ends the running steps with all their processes.

    Raises UsageError when the plan resumes a proof of another device or scale.
    """
    proof = _Proof(plan, progress)
    try:
        for together in _groups(plan):
            proof.run(together)
    finally:
        proof.end()
    return ProofResult(plan.output, proof.value)


def _groups(plan: ProofPlan) -> Iterator[list[ProofStep]]:
    """Yield the steps that run at the same time."""
    together: list[ProofStep] = []
    for step in plan.steps:
        can_join = bool(together) and not (step.alone or together[-1].alone)
        if together and not (can_join and plan.at_once > 1):
            yield together
            together = []
        together.append(step)
    if together:
        yield together


@dataclass
class _Proof:
    """A proof on its way: its result so far, and the processes of the running steps."""

    plan: ProofPlan
    progress: Progress
    value: dict[str, Any] = field(init=False)
    _processes: set["subprocess.Popen[str]"] = field(init=False, default_factory=set)
    _lock: threading.RLock = field(init=False, default_factory=threading.RLock)

    def __post_init__(self) -> None:
        plan = self.plan
        make_folder(plan.work)
        self._deadline = time.monotonic() + 60 * plan.minutes
        self._device = _device(plan.device)
        self.value = {
            "schema": PROOF_SCHEMA,
            "nordocr": nordocr_cli.__version__,
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": self._device,
            "tiny": plan.tiny,
            "minutes": plan.minutes,
            "steps": _finished_steps(plan, self._device),
        }
        self._write()

    def run(self, steps: Sequence[ProofStep]) -> None:
        """Run steps at the same time, as many as the plan allows."""
        finished = {step["name"] for step in self.value["steps"]}
        due = [step for step in steps if step.name not in finished]
        parallel = min(self.plan.at_once, len(due))
        if parallel < 2:
            for step in due:
                self._run_step(step, parallel=1)
            return
        with ThreadPoolExecutor(parallel) as pool:
            running = [pool.submit(self._run_step, step, parallel=parallel) for step in due]
            try:
                for future in running:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.end()
                raise

    def end(self) -> None:
        """End the running steps with all their processes."""
        with self._lock:
            for process in self._processes:
                _end(process)
            self._processes.clear()

    def _run_step(self, step: ProofStep, *, parallel: int) -> None:
        self.progress.note(f"{step.name}: {step.what}")
        entry = self._entry(step, parallel)
        with self._lock:
            self.value["steps"].append(entry)
            self._write()
        shown = entry.get("reason") or f"{entry['seconds']} s"
        self.progress.note(f"{step.name}: {entry['status']} ({shown})")

    def _write(self) -> None:
        order = [step.name for step in self.plan.steps]
        steps = self.value["steps"]
        steps.sort(key=lambda entry: order.index(entry["name"]))
        self.value["targets"] = targets(steps)
        self.value["branches"] = branch_status(steps)
        write_json(self.plan.output, self.value)

    def _entry(self, step: ProofStep, parallel: int) -> dict[str, Any]:
        """Run one step, or say why not."""
        entry: dict[str, Any] = {"name": step.name, "what": step.what, "seconds": 0.0}
        left = self._deadline - time.monotonic()
        reason = _reason_to_skip(step, self._device, left)
        if reason:
            return {**entry, "status": "skipped", "reason": reason}
        plan = self.plan
        limit = min(_TINY_LIMIT_S if plan.tiny else step.limit_s, left)
        with self._lock:
            known = {
                each["name"]: each["result"]
                for each in self.value["steps"]
                if "result" in each
            }
        scene = {
            "folder": str(plan.folder.absolute()),
            "work": str(plan.work.absolute()),
            "device": self._device,
            "tiny": plan.tiny,
            "seconds": limit,
            "at_once": plan.at_once,
            "known": known,
        }
        began = time.monotonic()
        found = self._in_process(step.name, scene, limit, parallel)
        return {
            **entry,
            **found,
            "limit_s": round(limit),
            "seconds": round(time.monotonic() - began, 1),
        }

    def _in_process(
        self, name: str, scene: Mapping[str, Any], limit: float, parallel: int
    ) -> dict[str, Any]:
        """Run a step in a process of its own, ended with all its children at the limit."""
        file = self.plan.work / f"{name}.step.json"
        write_json(file, {"scene": scene})
        command = [
            sys.executable,
            "-m",
            "nordocr_cli.core.gpu_proof.worker",
            name,
            str(file),
        ]
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=os.name == "posix",
            env=_variables(parallel),
        )
        with self._lock:
            self._processes.add(process)
        try:
            _, stderr = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            _end(process)
            reason = f"over its limit of {limit:.0f} s"
            return {"status": "timed out", "reason": reason, **_partial(file)}
        except BaseException:
            _end(process)
            raise
        finally:
            with self._lock:
                self._processes.discard(process)
        return _outcome(file, process.returncode, stderr)


def _device(requested: str) -> str:
    """`cuda` or `cpu`, whatever `auto` means here."""
    if requested != "auto":
        return requested
    from nordocr_cli.core.gpu_proof.measure import choose

    return choose("auto").type


def _finished_steps(plan: ProofPlan, device: str) -> list[dict[str, Any]]:
    """The steps that ended well in the proof that the plan resumes."""
    if not (plan.resume and plan.output.is_file()):
        return []
    before = read_json(plan.output, "GPU proof")
    now = {"schema": PROOF_SCHEMA, "device": device, "tiny": plan.tiny}
    for key, value in now.items():
        if not isinstance(before, dict) or before.get(key) != value:
            raise UsageError(
                f"--resume: {plan.output} is not a proof with {key} {value!r}; leave --resume out"
            )
    names = {step.name for step in plan.steps}
    return [
        step for step in before["steps"] if step["status"] == "ok" and step["name"] in names
    ]


def _reason_to_skip(step: ProofStep, device: str, left: float) -> str:
    missing = [module for module in step.needs if importlib.util.find_spec(module) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    if step.gpu_only and device == "cpu":
        return "needs a GPU"
    if left < _MINIMUM_S:
        return "no time left"
    return ""


def _variables(parallel: int) -> dict[str, str]:
    """The environment of a step; steps that run at the same time share the cores."""
    variables = dict(os.environ)
    if parallel > 1:
        variables.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // parallel)))
    return variables


def _outcome(file: Path, exit_code: int, stderr: str) -> dict[str, Any]:
    """What a step wrote into its file, or how it died."""
    written = json.loads(file.read_text(encoding="utf-8"))
    if "result" in written:
        file.unlink()
        return {"status": "ok", "result": written["result"]}
    if "skipped" in written:
        file.unlink()
        return {"status": "skipped", "reason": written["skipped"]}
    tail = " | ".join(stderr.strip().splitlines()[-3:])
    reason = written.get("reason") or f"exit {exit_code}: {tail}"
    return {"status": "failed", "reason": reason, **_partial(file)}


def _partial(file: Path) -> dict[str, Any]:
    """What a step had found before it failed or ran out of time, as `result`; the file goes."""
    written = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    if "partial" not in written:
        return {}
    return {"result": written["partial"]}


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is not None:
        return
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
