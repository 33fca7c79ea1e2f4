"""What this machine has: one Finding per library, program, device and known trap."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.errors import MissingBackendError
from nordocr_cli.runtime.backends.tensorrt.engine_file import INSTALL
from nordocr_cli.runtime.backends.tesseract.engine import find_tesseract

_LIBRARIES = (
    ("torch", True, "pip install -e ."),
    ("opencv-python-headless", True, "pip install -e ."),
    ("lmdb", True, "pip install -e ."),
    ("onnx", True, "pip install -e ."),
    ("onnxruntime", True, "pip install -e ."),
    ("onnxsim", True, "pip install -e ."),
    ("transformers", False, "pip install -e '.[trocr]' (for the profile trocr-lora)"),
    ("peft", False, "pip install -e '.[trocr]' (for the profile trocr-lora)"),
    *((backend, False, install) for backend, install in INSTALL.items()),
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `needed` says whether the core jobs fail without it."""

    what: str
    ok: bool
    found: str
    advice: str = ""
    needed: bool = False

    @property
    def mark(self) -> str:
        """✓ fine, ✗ needed and missing, – optional and missing."""
        return "✓" if self.ok else "✗" if self.needed else "–"

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain JSON values."""
        return asdict(self)


def diagnose() -> list[Finding]:
    """Look at the machine. Nothing is changed, and torch is not imported."""
    findings = [
        Finding(
            "Python",
            sys.version_info >= (3, 11),
            platform.python_version(),
            "3.11 or newer",
            needed=True,
        )
    ]
    findings += [_library(*library) for library in _LIBRARIES]
    findings += _two_onnxruntimes()
    findings += [_tesseract(), _gpu(), *_names_on_path(), _disk()]
    if (library_folder := os.environ.get("TENSORRT_LIB_DIR")) is not None:
        findings.append(_tensorrt_lib_dir(library_folder))
    return findings


def _library(name: str, needed: bool, advice: str) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name), needed=needed)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", advice, needed)


def _two_onnxruntimes() -> list[Finding]:
    """onnxruntime and onnxruntime-gpu install into one folder, and the one installed last decides
    whether there is CUDA.
    """
    gpu = _library("onnxruntime-gpu", False, "")
    if not gpu.ok or not _library("onnxruntime", False, "").ok:
        return []
    advice = "pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu"
    return [Finding("onnxruntime twice", False, f"also onnxruntime-gpu {gpu.found}", advice)]


def _first_line(command: list[str]) -> str | None:
    """First line that a program prints, or None when it is not there or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return (done.stdout or done.stderr).strip().split("\n")[0]


def _tesseract() -> Finding:
    advice = (
        "the baseline to beat; Debian: apt-get install tesseract-ocr"
        " tesseract-ocr-{swe,nor,dan,isl}"
    )
    try:
        found = find_tesseract()
    except MissingBackendError:
        return Finding("Tesseract", False, "not on PATH", advice)
    missing = [
        language for language in ("swe", "nor", "dan", "isl") if language not in found.languages
    ]
    if missing:
        return Finding("Tesseract", False, f"{found.version}; no {' '.join(missing)}", advice)
    return Finding("Tesseract", True, found.version)


def _gpu() -> Finding:
    gpu = _first_line(
        ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    )
    if gpu is None:
        return Finding(
            "NVIDIA GPU",
            False,
            "none",
            "not needed to train small networks, export or build RTX engines",
        )
    return Finding("NVIDIA GPU", True, gpu)


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
        return [
            Finding(
                "nordocr on PATH",
                False,
                "not on PATH",
                "activate the venv, or use .venv/bin/nordocr",
            )
        ]
    ours = found[0].resolve().parent in (mine, Path(sys.executable).parent.resolve())
    others = f"; behind it: {', '.join(map(str, found[1:]))}" if len(found) > 1 else ""
    advice = "" if ours else "another program comes first: use nordocr-cli for this one"
    return [Finding("nordocr on PATH", ours, f"{found[0]}{others}", advice)]


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return Finding(
        "free disk here",
        free > 5,
        f"{free:.1f} GB",
        "stores and checkpoints want 5 GB or more" if free <= 5 else "",
    )


def _tensorrt_lib_dir(folder: str) -> Finding:
    if folder.endswith(("/", "\\")):
        return Finding(
            "TENSORRT_LIB_DIR",
            False,
            folder,
            "take the trailing slash off: the consumer's check fails silently with it",
        )
    if "\\" in folder:
        return Finding("TENSORRT_LIB_DIR", False, folder, "use forward slashes")
    return Finding(
        "TENSORRT_LIB_DIR",
        Path(folder).is_dir(),
        folder,
        "" if Path(folder).is_dir() else "no such folder",
    )
