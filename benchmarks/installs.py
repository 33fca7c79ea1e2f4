#!/usr/bin/env python3
"""Measure what an installation takes: the wheel in an empty virtual environment, with and without
extras, and what it reads then.

python3 benchmarks/installs.py --python python3.11 --python python3.13 -o installs.json
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LINE = ROOT / "samples" / "lines" / "images"
INSTALLS = ("", "train")


def main() -> None:
    """Build the wheel, install it once per Python and extra, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", help="A Python program; repeatable.")
    parser.add_argument("--extra", action="append", help="Extras to install; '' is none.")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="nordocr-installs-") as folder:
        wheel = build_wheel(Path(folder))
        rows = []
        for python in arguments.python or [sys.executable]:
            for extra in arguments.extra or INSTALLS:
                row = measure(Path(folder) / "venv", wheel, python, extra)
                print(json.dumps(row), flush=True)
                rows.append(row)
        result = {
            "schema": "nordocr.installs/1",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command_of(arguments),
            "machine": {
                "system": platform.platform(),
                "cores": os.cpu_count(),
                "load_average": list(os.getloadavg()),
                "note": "on a busy machine times are upper bounds; sizes are exact",
            },
            "wheel_bytes": wheel.stat().st_size,
            "rows": rows,
        }
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def command_of(arguments: argparse.Namespace) -> str:
    """The command without this machine's folders."""
    pythons = [f"--python {Path(python).name}" for python in arguments.python or []]
    extras = [f"--extra '{extra}'" for extra in arguments.extra or []]
    output = f"-o {arguments.output.name}"
    return " ".join(["python3 benchmarks/installs.py", *pythons, *extras, output])


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel and return its path."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True)
    return next(folder.glob("*.whl"))


def measure(venv: Path, wheel: Path, python: str, extra: str) -> dict[str, Any]:
    """Install the wheel into a new environment; return its size, time and a first reading."""
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(venv)], check=True)
    before_bytes = size_bytes(venv)
    before_bytecode_mb = size_bytes(venv, ".pyc") / 1e6

    requirement = f"{wheel}[{extra}]" if extra else str(wheel)
    began_s = time.monotonic()
    install = [
        str(venv / "bin" / "pip"),
        "install",
        "--quiet",
        "--no-cache-dir",
        requirement,
    ]
    subprocess.run(install, check=True)
    install_s = time.monotonic() - began_s

    nordocr = venv / "bin" / "nordocr"
    image = sorted(LINE.glob("*.png"))[0]
    began_s = time.monotonic()
    reading = subprocess.run(
        [str(nordocr), "read", "-q", str(image)], capture_output=True, text=True
    )
    first_reading_s = time.monotonic() - began_s
    version = subprocess.run(
        [str(venv / "bin" / "python"), "-V"], capture_output=True, text=True, check=True
    )
    return {
        "python": version.stdout.split()[-1],
        "extra": extra or "none: reading",
        "installed_mb": round((size_bytes(venv) - before_bytes) / 1e6, 1),
        "of_it_bytecode_mb": round(size_bytes(venv, ".pyc") / 1e6 - before_bytecode_mb, 1),
        "install_s": round(install_s, 1),
        "first_reading_s": round(first_reading_s, 2),
        "reads": reading.returncode == 0 and bool(reading.stdout.strip()),
        "problem": reading.stderr[-400:] if reading.returncode else "",
        "has_torch": any(venv.glob("lib/python*/site-packages/torch")),
        "has_man_page": (venv / "share" / "man" / "man1" / "nordocr.1").is_file(),
        "distributions_mb": distributions_mb(venv),
        "weights_mb": weights_mb(venv),
    }


def size_bytes(folder: Path, suffix: str = "") -> int:
    """Bytes of the files below a folder whose names end with `suffix`, links not followed."""
    files = (path for path in folder.rglob(f"*{suffix}") if path.is_file())
    return sum(path.lstat().st_size for path in files)


def distributions_mb(venv: Path) -> dict[str, float]:
    """Megabytes of each installed distribution without bytecode, the largest first; those below
    1 MB together.
    """
    (site,) = venv.glob("lib/python*/site-packages")
    sizes: dict[str, float] = {}
    for distribution in metadata.distributions(path=[str(site)]):
        files = [Path(str(file.locate())) for file in distribution.files or ()]
        kept = [path for path in files if path.suffix != ".pyc" and path.is_file()]
        sizes[distribution.name] = sum(path.stat().st_size for path in kept) / 1e6
    large = {name: size for name, size in sizes.items() if size >= 1 and name != "pip"}
    shown = {name: round(large[name], 1) for name in sorted(large, key=lambda n: -large[n])}
    rest = sum(sizes.values()) - sum(large.values()) - sizes.get("pip", 0.0)
    return {**shown, "all others": round(rest, 1)}


def weights_mb(venv: Path) -> dict[str, float]:
    """Megabytes of each recognizer and model file of the wheel."""
    (package,) = venv.glob("lib/python*/site-packages/nordocr_cli")
    files = [
        path for path in package.rglob("*") if path.suffix in (".onnx", ".safetensors")
    ]
    return {path.name: round(path.stat().st_size / 1e6, 1) for path in sorted(files)}


if __name__ == "__main__":
    main()
