"""The steps of the proof, in order, each with a time limit and what it needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.cores import usable_cores
from nordocr_cli.errors import UsageError, nearest

# Line stores of the folder that travels.
STORE = "train.lmdb"
DEV = "dev.lmdb"
SHORT = "short.lmdb"  # lines of at most 128 px
# A command on a lent GPU machine may run ten minutes; the last half minute writes the results.
DEFAULT_MINUTES = 9.5
_CORES_A_STEP = 4


@dataclass(frozen=True)
class ProofStep:
    """One step. `limit_s` are seconds at full scale; `needs` are modules without which it is
    skipped, `gpu_only` says that a CPU cannot run it. A step that times nothing need not run
    `alone`: those that follow each other run at the same time where there are cores for it.
    """

    name: str
    what: str
    limit_s: int
    needs: tuple[str, ...] = ()
    gpu_only: bool = False
    alone: bool = True


STEPS: tuple[ProofStep, ...] = (
    ProofStep("environment", "device, versions, and the peak of matrix products", 40),
    ProofStep("data_rates", "lines a second of prep and synth", 60),
    ProofStep(
        "train_speed",
        "lines a second, share of the peak, data wait, memory, batch auto",
        180,
    ),
    ProofStep("loader", "batches a second that the loader feeds to the device", 30),
    ProofStep(
        "networks", "networks and scans compute what they do on the CPU", 120, alone=False
    ),
    ProofStep(
        "train_losses",
        "losses in bf16, fp16, compiled and with CUDA graphs as on the CPU",
        240,
        alone=False,
    ),
    ProofStep(
        "batch_memory", "the batch search at a memory that is too small", 90, alone=False
    ),
    ProofStep("gpu_tests", "the tests that need a GPU", 120, ("pytest",), alone=False),
    ProofStep(
        "export", "ONNX in fp32 and fp16, equal to torch", 150, ("onnx",), alone=False
    ),
    ProofStep(
        "resume", "a stopped and resumed run computes the same losses", 90, alone=False
    ),
    ProofStep(
        "torchrun", "training as torchrun starts it, with one process", 60, alone=False
    ),
    ProofStep("doctor", "a few training steps timed by doctor --train", 60, alone=False),
    ProofStep("parseq", "PARSeq trains and reads", 90, alone=False),
    ProofStep("inference", "lines a second with torch, compiled, and ONNX Runtime", 120),
    ProofStep(
        "accuracy", "exact lines on dev in fp32, fp16 and int8", 90, ("onnxruntime",)
    ),
    ProofStep(
        "tensorrt",
        "a classic engine: built, compared with ONNX Runtime, trtexec",
        150,
        ("tensorrt",),
        gpu_only=True,
    ),
    ProofStep(
        "tensorrt_rtx",
        "an engine of TensorRT-RTX, run",
        90,
        ("tensorrt_rtx",),
        gpu_only=True,
    ),
    ProofStep(
        "recipe",
        "svtrv2-1024 trained with the time left, against the shipped recognizer",
        600,
    ),
)


@dataclass(frozen=True)
class ProofPlan:
    """What will run. `folder` holds the line stores; `output` is the JSON that grows step by step,
    `work` the folder of runs and files next to it. `tiny` scales every step down to seconds on a
    CPU, through the same code. `at_once` steps that time nothing run at the same time. With
    `resume`, steps that ended well according to `output` do not run again.
    """

    folder: Path
    output: Path
    steps: tuple[ProofStep, ...]
    device: str
    minutes: float
    tiny: bool
    at_once: int = 1
    resume: bool = False

    @property
    def work(self) -> Path:
        """Where the steps write."""
        return self.output.with_suffix("")

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            "folder": str(self.folder),
            "output": str(self.output),
            "device": self.device,
            "minutes": self.minutes,
            "tiny": self.tiny,
            "at_once": self.at_once,
            "resume": self.resume,
            "steps": {
                step.name: {"what": step.what, "limit_s": step.limit_s}
                for step in self.steps
            },
        }


def plan_proof(
    folder: Path,
    output: Path,
    *,
    device: str = "auto",
    minutes: float = DEFAULT_MINUTES,
    tiny: bool = False,
    only: Sequence[str] = (),
    at_once: int | None = None,
    resume: bool = False,
) -> ProofPlan:
    """Resolve what will run. `only` names steps; `at_once` is by default one step for every four
    cores on a GPU, and one on a CPU. Raises UsageError for an unknown step, and for a folder
    without line stores.
    """
    known = [step.name for step in STEPS]
    for name in only:
        if name not in known:
            raise UsageError(f"unknown step {name!r}: {nearest(name, known)}")
    for store in (STORE, DEV, SHORT):
        if not (folder / store / "data.mdb").is_file():
            raise UsageError(
                f"{folder} holds no {store}; make it with scripts/on_gpu.py pack"
            )
    steps = tuple(step for step in STEPS if not only or step.name in only)
    if at_once is None:
        at_once = 1 if tiny or device == "cpu" else max(1, usable_cores() // _CORES_A_STEP)
    return ProofPlan(folder, output, steps, device, minutes, tiny, at_once, resume)
