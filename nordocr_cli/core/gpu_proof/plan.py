"""The steps of the proof, in order, each with a time limit, what it needs, and the GPU branches of
the package that it runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.errors import UsageError, nearest

# line stores of the folder that travels; SHORT has lines of at most 128 px
STORE, DEV, SHORT = "train.lmdb", "dev.lmdb", "short.lmdb"
DEFAULT_MINUTES = 14.0


@dataclass(frozen=True)
class Step:
    """One step. `limit_s` are seconds at full scale; `needs` are modules without which it is
    skipped, `gpu_only` says that a CPU cannot run it.
    """

    name: str
    what: str
    limit_s: int
    needs: tuple[str, ...] = ()
    gpu_only: bool = False


STEPS: tuple[Step, ...] = (
    Step("environment", "device, versions, and the peak of matrix products", 60),
    Step("networks", "every network on the device computes what it does on the CPU", 90),
    Step("gpu_tests", "the tests that need a GPU", 60, ("pytest",)),
    Step(
        "train_losses",
        "losses in bf16, fp16, compiled and with CUDA graphs as on the CPU",
        180,
    ),
    Step(
        "train_speed",
        "lines a second, share of the peak, data wait, memory, batch auto",
        150,
    ),
    Step("loader", "batches a second that the loader feeds to the device", 30),
    Step("resume", "a stopped and resumed run computes the same losses", 60),
    Step("torchrun", "training as torchrun starts it, with one process", 60),
    Step("parseq", "PARSeq trains and reads", 60),
    Step("export", "ONNX in fp32 and fp16, equal to torch", 120, ("onnxruntime",)),
    Step("inference", "lines a second with torch, compiled, and ONNX Runtime", 120),
    Step(
        "accuracy", "exact lines on dev in fp32, bf16, fp16 and int8", 90, ("onnxruntime",)
    ),
    Step(
        "tensorrt",
        "a classic engine: built, compared with ONNX Runtime",
        150,
        ("tensorrt",),
        True,
    ),
    Step("tensorrt_rtx", "an engine of TensorRT-RTX, run", 90, ("tensorrt_rtx",), True),
    Step("data_rates", "lines a second of prep and synth", 40),
    Step(
        "recipe",
        "svtrv2-1024 trained with the time left, against the shipped recognizer",
        600,
    ),
)

# Every file of the package with a branch for GPUs, and the steps that run it. A test compares this
# with the source.
BRANCHES: Mapping[str, tuple[str, ...]] = {
    "core/bench/network.py": ("inference",),
    "core/train/run.py": ("train_losses",),
    "core/train/setup.py": ("train_losses", "recipe"),
    "core/train/stores.py": ("train_speed", "recipe"),
    "data/batches.py": ("loader", "train_speed"),
    "models/kernels/selective_scan.py": ("networks",),
    "models/kernels/linear.py": ("networks",),
    "runtime/backends/onnxruntime/runner.py": ("inference", "accuracy"),
    "runtime/backends/torch/runner.py": ("inference", "accuracy"),
    "runtime/backends/torch/trocr.py": ("gpu_tests",),
    "runtime/backends/tensorrt/runner.py": ("tensorrt", "tensorrt_rtx"),
    "runtime/backends/tensorrt/cuda_driver.py": ("tensorrt", "tensorrt_rtx"),
    "training/batch_fit.py": ("train_speed",),
    "training/checkpoint.py": ("resume",),
    "training/distributed.py": ("torchrun",),
    "training/loop.py": ("train_losses", "train_speed"),
    "training/schedule.py": ("train_losses",),
    "training/step.py": ("train_losses", "train_speed"),
    "training/watchdogs.py": ("train_losses",),
    "training/usage.py": ("train_speed", "recipe"),
}


@dataclass(frozen=True)
class ProofPlan:
    """What will run. `folder` holds the line stores; `output` is the JSON that grows step by step,
    `work` the folder of runs and files next to it. `tiny` scales every step down to seconds on a
    CPU, through the same code.
    """

    folder: Path
    output: Path
    steps: tuple[Step, ...]
    device: str
    minutes: float
    tiny: bool

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
) -> ProofPlan:
    """Resolve what will run. `only` names steps. Raises UsageError for an unknown step, and for a
    folder without line stores.
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
    return ProofPlan(folder, output, steps, device, minutes, tiny)
