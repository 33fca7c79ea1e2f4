"""What this machine has: one Finding per library, program, device, variable and known trap."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.artifact.shipped import SHIPPED
from nordocr_cli.errors import MissingBackendError, UsageError, nearest
from nordocr_cli.extras import install_line
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.runtime.backends.tensorrt.engine_file import INSTALL
from nordocr_cli.runtime.backends.tesseract.engine import find_tesseract
from nordocr_cli.variables import VARIABLES, cache_folder

EXPECTED_LANGUAGES = ("swe", "nor", "dan", "isl")
_MIN_FREE_DISK_GB = 5.0
_TRAIN_STEPS = 6
_TRAIN_LINES = 64

# Distribution → the extra that brings it; "" is the plain install.
_LIBRARIES = {
    "onnxruntime": "",
    "opencv-python-headless": "",
    "pypdfium2": "",
    "lmdb": "",
    "torch": "train",
    "onnx": "train",
    "onnxsim": "train",
    "matplotlib": "train",
    "tensorboard": "train",
    "fastapi": "serve",
    "transformers": "trocr",
    "peft": "trocr",
    "tesserocr": "tesserocr",
    "rapidocr": "rapidocr",
}

# What each job of --require cannot do without.
JOBS = {
    "read": (
        "Python",
        "onnxruntime",
        "opencv-python-headless",
        "pypdfium2",
        "nordocr-default",
    ),
    "train": ("Python", "torch", "lmdb", "opencv-python-headless"),
    "export": ("Python", "torch", "onnx", "onnxsim", "onnxruntime"),
    "build-engine": ("Python", "onnx", "TensorRT"),
    "bench": ("Python", "onnxruntime", "Tesseract"),
}

_TELEMETRY = (
    "ORT_DISABLE_TELEMETRY",
    "RAY_USAGE_STATS_ENABLED",
    "HF_HUB_DISABLE_TELEMETRY",
    "WANDB_ERROR_REPORTING",
    "DO_NOT_TRACK",
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `needed` says whether reading fails without it."""

    what: str
    ok: bool
    found: str
    advice: str = ""
    needed: bool = False

    @property
    def mark(self) -> str:
        """✓ fine, ✗ needed and missing, – optional and missing."""
        if self.ok:
            return "✓"
        if self.needed:
            return "✗"
        return "–"

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain JSON values."""
        return asdict(self)


def diagnose() -> list[Finding]:
    """Look at the machine. Nothing is changed, nothing is sent, and torch is not imported."""
    findings = [_python()]
    findings += [_library(name, extra) for name, extra in _LIBRARIES.items()]
    findings += [_default_weights(), _tensorrt(), *_two_onnxruntimes()]
    findings += [_tesseract(), _gpu(), *_torch_for_a_gpu(), _threads(), _disk()]
    findings += [*_names_on_path(), *_tensorrt_lib_dir(), *_variables(), _telemetry()]
    return findings


def require(job: str, findings: Iterable[Finding]) -> None:
    """Raise MissingBackendError naming everything that a job of JOBS lacks, with what fixes it.

    Raises UsageError for an unknown job.
    """
    if job not in JOBS:
        raise UsageError(f"--require {job}: {nearest(job, JOBS)}")
    by_name = {finding.what: finding for finding in findings}
    lacking = [by_name[name] for name in JOBS[job] if not by_name[name].ok]
    if not lacking:
        return
    problems = "; ".join(f"{f.what}: {f.found} ({f.advice})" for f in lacking)
    error = MissingBackendError(f"{job} is not possible here: {problems}")
    error.hint = lacking[0].advice
    raise error


# Libraries
# ----------------------------------------


def _python() -> Finding:
    is_supported = sys.version_info >= (3, 11)
    advice = "" if is_supported else "install Python 3.11 or newer"
    return Finding("Python", is_supported, platform.python_version(), advice, needed=True)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _library(name: str, extra: str) -> Finding:
    version = _installed(name)
    needed = not extra
    if version is not None:
        return Finding(name, True, version, needed=needed)
    if extra:
        advice = install_line(extra)
    else:
        advice = "pip install --force-reinstall nordocr-cli"
    return Finding(name, False, "not installed", advice, needed)


def _default_weights() -> Finding:
    files = sorted(path.name for path in SHIPPED.glob("nordocr-default*") if path.is_file())
    has_onnx = (SHIPPED / "nordocr-default.onnx").is_file()
    if has_onnx:
        advice = ""
    else:
        advice = "install the package again: its weights are missing"
    return Finding("nordocr-default", has_onnx, f"{len(files)} files", advice, needed=True)


def _tensorrt() -> Finding:
    """Either builder is enough for build-engine."""
    found = {name: _installed(name) for name in INSTALL}
    have = [f"{name} {version}" for name, version in found.items() if version]
    advice = "" if have else install_line("rtx")
    return Finding("TensorRT", bool(have), ", ".join(have) or "not installed", advice)


def _two_onnxruntimes() -> list[Finding]:
    """onnxruntime and onnxruntime-gpu share a folder; the last one installed decides about CUDA."""
    gpu = _installed("onnxruntime-gpu")
    if gpu is None or _installed("onnxruntime") is None:
        return []
    advice = "pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu"
    return [Finding("onnxruntime twice", False, f"also onnxruntime-gpu {gpu}", advice)]


# Programs and devices
# ----------------------------------------


def _first_line(command: list[str]) -> str | None:
    """First line that a program prints, or None when it is not there or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return (done.stdout or done.stderr).strip().split("\n")[0]


def _tesseract() -> Finding:
    advice = (
        "a baseline, not needed for reading; Debian: apt-get install tesseract-ocr"
        " tesseract-ocr-{swe,nor,dan,isl}"
    )
    try:
        found = find_tesseract()
    except MissingBackendError:
        return Finding("Tesseract", False, "not on PATH", advice)
    missing = [
        language for language in EXPECTED_LANGUAGES if language not in found.languages
    ]
    if missing:
        return Finding(
            "Tesseract", False, f"{found.version}; no {' '.join(missing)}", advice
        )
    return Finding(
        "Tesseract", True, f"{found.version} with {' '.join(EXPECTED_LANGUAGES)}"
    )


def _gpu() -> Finding:
    query = "--query-gpu=name,compute_cap,driver_version,memory.total"
    gpu = _first_line(["nvidia-smi", query, "--format=csv,noheader"])
    if gpu is None:
        advice = "not needed to read, train small networks, export or build RTX engines"
        return Finding("NVIDIA GPU", False, "none", advice)
    return Finding("NVIDIA GPU", True, gpu)


def _torch_for_a_gpu() -> list[Finding]:
    """Say when torch and the machine do not fit: CUDA's build without a GPU, or the reverse."""
    version = _installed("torch")
    if version is None:
        return []
    has_cuda_build = _installed("nvidia-cublas") or _installed("nvidia-cublas-cu12")
    has_gpu = _gpu().ok
    if has_cuda_build and not has_gpu:
        advice = (
            "the CPU build is gigabytes smaller: pip install torch --index-url"
            " https://download.pytorch.org/whl/cpu"
        )
        return [Finding("torch build", True, "CUDA's, without a GPU here", advice)]
    if has_gpu and version.endswith("+cpu"):
        advice = "pip install --force-reinstall torch"
        return [Finding("torch build", False, "for CPUs, with a GPU here", advice)]
    return []


def _threads() -> Finding:
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    is_busy = load > cores
    advice = ""
    if is_busy:
        advice = (
            "other work runs here: times are longer, and --threads below the cores may help"
        )
    return Finding("CPU", not is_busy, f"{cores} cores, load {load:.1f}", advice)


def _disk() -> Finding:
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    has_room = free_gb > _MIN_FREE_DISK_GB
    if has_room:
        advice = ""
    else:
        advice = f"stores and checkpoints need {_MIN_FREE_DISK_GB:.0f} GB or more"
    return Finding("free disk here", has_room, f"{free_gb:.1f} GB", advice)


# PATH and variables
# ----------------------------------------


def _names_on_path() -> list[Finding]:
    """The Rust program is named nordocr too: say which one a shell would start."""
    mine = Path(sys.argv[0]).resolve().parent
    found = [
        Path(folder) / name
        for folder in os.environ.get("PATH", "").split(os.pathsep)
        for name in ("nordocr", "nordocr.exe")
        if folder and (Path(folder) / name).is_file()
    ]
    if not found:
        advice = "activate the virtual environment, or call .venv/bin/nordocr"
        return [Finding("nordocr on PATH", False, "not on PATH", advice)]

    ours = found[0].resolve().parent in (mine, Path(sys.executable).parent.resolve())
    if len(found) > 1:
        others = f"; behind it: {', '.join(map(str, found[1:]))}"
    else:
        others = ""
    if ours:
        advice = ""
    else:
        advice = "another program comes first: use nordocr-cli for this one"
    return [Finding("nordocr on PATH", ours, f"{found[0]}{others}", advice)]


def _tensorrt_lib_dir() -> list[Finding]:
    """The consumer's build reads TENSORRT_LIB_DIR and fails silently on some values."""
    folder = os.environ.get("TENSORRT_LIB_DIR")
    if folder is None:
        return []
    advice = "" if Path(folder).is_dir() else "no such folder"
    if folder.endswith(("/", "\\")):
        advice = "remove the trailing slash: the consumer's check fails silently with it"
    elif "\\" in folder:
        advice = "use forward slashes"
    return [Finding("TENSORRT_LIB_DIR", not advice, folder, advice)]


def _variables() -> list[Finding]:
    """Every variable that the program reads and that is set."""
    findings = []
    for variable in VARIABLES:
        value = variable.get()
        if value is not None:
            shown = "set" if variable.is_secret else value
            findings.append(Finding(variable.name, True, shown, variable.meaning))
    findings.append(Finding("cache folder", True, str(cache_folder())))
    return findings


def _telemetry() -> Finding:
    """The switches against usage reports of the libraries, which the program sets at its start."""
    values = [f"{name}={os.environ.get(name, '')}" for name in _TELEMETRY]
    is_off = all(os.environ.get(name) for name in _TELEMETRY)
    return Finding("telemetry", is_off, "off: " + " ".join(values))


# A timed training step
# ----------------------------------------


@dataclass(frozen=True)
class TimedTraining:
    """A few steps of training on this machine. `data_wait` is a share of the time, 0 to 1."""

    device: str
    precision: str
    batch_size: float
    step_s: float
    batches_per_s: float
    lines_per_s: float
    data_wait: float
    advice: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return asdict(self)


def time_training(
    profile: str = "svtrv2-nano", device: str = "auto", progress: Progress = SILENT
) -> TimedTraining:
    """Train a few steps on rendered lines in a temporary folder and return what they took.

    Raises what training raises, MissingBackendError without torch among them.
    """
    from nordocr_cli.core.train.request import TrainRequest
    from nordocr_cli.core.train.run import train
    from nordocr_cli.profile import load_profile

    with tempfile.TemporaryDirectory(prefix="nordocr-doctor-") as name:
        folder = Path(name)
        store = _rendered_lines(folder / "lines.lmdb", profile)
        settings = ["train.log_every=1", f"train.batch_size={_TRAIN_LINES // 4}"]
        resolved = load_profile(profile, settings)
        request = TrainRequest((store,), (store,), folder / "run", max_steps=_TRAIN_STEPS)
        train(resolved, _on(request, device), progress=progress)
        facts = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
        lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()

    # The first step includes loading of kernels and is no measure of the others.
    steps = [row for row in map(json.loads, lines) if row.get("kind") == "train"][1:]
    lines_per_s = sum(row["lines_per_s"] for row in steps) / len(steps)
    data_wait = sum(row["data_wait"] for row in steps) / len(steps)
    batch_size = float(_TRAIN_LINES // 4)
    batches_per_s = lines_per_s / batch_size
    used = str(facts.get("device", device))
    precision = resolved.profile.train.precision
    return TimedTraining(
        device=used,
        precision=precision,
        batch_size=batch_size,
        step_s=1 / batches_per_s,
        batches_per_s=batches_per_s,
        lines_per_s=lines_per_s,
        data_wait=data_wait,
        advice=_training_advice(used, precision, data_wait),
    )


def _on(request: Any, device: str) -> Any:
    from dataclasses import replace

    return replace(request, device=device)


def _rendered_lines(output: Path, profile: str) -> Path:
    """Write a store of rendered lines of the profile's geometry."""
    import cv2
    import numpy as np

    from nordocr_cli.data.store import LineStoreWriter
    from nordocr_cli.profile import load_profile
    from nordocr_cli.records import LineRow

    resolved = load_profile(profile).profile
    generator = np.random.default_rng(1)
    with LineStoreWriter(output, resolved.geometry, resolved.load_charset()) as writer:
        for number in range(_TRAIN_LINES):
            text = f"Summa {generator.integers(10**3, 10**9)}"
            image = np.full((resolved.geometry.height, 24 * len(text), 3), 255, np.uint8)
            cv2.putText(image, text, (4, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0, 0, 0), 2)
            writer.add(
                image, LineRow(id=f"line-{number}", image="", text=text, language="sv")
            )
    return output


def _training_advice(device: str, precision: str, data_wait: float) -> tuple[str, ...]:
    advice = []
    if data_wait > 0.1:
        advice.append(
            f"{data_wait:.0%} of the time waits for data: raise data.workers, or train from a store"
        )
    if device.startswith("cuda"):
        if precision == "fp32":
            advice.append("--set train.precision=bf16 is about twice as fast on this GPU")
        advice.append("--batch-size auto takes the largest batch that fits the memory")
    else:
        advice.append(
            "no GPU is used: train networks above a few million parameters on one"
        )
    return tuple(advice)
