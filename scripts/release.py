#!/usr/bin/env python3
"""Build a release and smoke-test it in an empty environment; see docs/release.md.

python3 scripts/release.py [--python python3.12]
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIRED_FILES = (
    "nordocr/__init__.py",
    "nordocr/serving/static/index.html",
    "nordocr_cli/profiles/svtrv2-1024.toml",
    "nordocr_cli/weights/nordocr-default.onnx",
    "share/man/man1/nordocr.1",
    "share/bash-completion/completions/nordocr",
)


def main() -> None:
    """Run the steps; end with exit code 1 at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--python", default=sys.executable, help="Python of the empty environment."
    )
    arguments = parser.parse_args()

    step("generated files are current")
    run(sys.executable, str(ROOT / "scripts" / "generate.py"), "--check")
    step("the version has a changelog entry")
    require_changelog_entry()
    with tempfile.TemporaryDirectory(prefix="nordocr-release-") as name:
        folder = Path(name)
        step("wheel")
        wheel = build_wheel(folder)
        require_files(wheel)
        step("install in an empty environment, and read")
        smoke_test(folder / "venv", wheel, arguments.python)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, sha256 {digest}")


def step(what: str) -> None:
    """Name a step."""
    print(f"== {what}", flush=True)


def run(*command: str, in_clone: bool = True) -> str:
    """Run a command and return its stdout; end the program when it fails. `in_clone`: with this
    clone's package; otherwise in a folder without one, where only what is installed is found.
    """
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH"
    }
    folder = Path(tempfile.gettempdir())
    if in_clone:
        environment["PYTHONPATH"] = str(ROOT)
        folder = ROOT
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def require_changelog_entry() -> None:
    """End the program unless CHANGELOG.md has a heading for the version."""
    source = (ROOT / "nordocr_cli" / "__init__.py").read_text(encoding="utf-8")
    version = re.findall(r'__version__ = "([^"]+)"', source)[0]
    headings = re.findall(
        r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.M
    )
    if version not in headings:
        sys.exit(f"CHANGELOG.md has no heading for {version}; it has {', '.join(headings)}")


def build_wheel(folder: Path) -> Path:
    """Build the wheel and return its path."""
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        str(folder),
        str(ROOT),
    )
    return next(folder.glob("*.whl"))


def require_files(wheel: Path) -> None:
    """End the program when a file that users need is not in the wheel, or tests are."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    missing = [f for f in REQUIRED_FILES if not any(name.endswith(f) for name in names)]
    tests = [name for name in names if name.startswith("tests/")]
    if missing or tests:
        sys.exit(
            f"{wheel.name}: missing {missing or 'nothing'}, tests {tests[:3] or 'none'}"
        )


def smoke_test(folder: Path, wheel: Path, python: str) -> None:
    """Install the wheel alone and use what a first user uses."""
    if python == sys.executable:
        venv.create(folder, with_pip=True)
    else:
        run(python, "-m", "venv", str(folder))
    scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")

    def installed(program: str, *arguments: str) -> str:
        return run(str(scripts / program), *arguments, in_clone=False).strip()

    installed("python", "-m", "pip", "install", "-q", str(wheel))
    print(installed("nordocr", "--version"))
    installed("nordocr", "doctor", "--require", "read")
    line = next((ROOT / "samples" / "lines" / "images").glob("*.png"))
    print("reads:", installed("nordocr", "read", "-q", str(line)))
    installed("python", "-c", "import nordocr; nordocr.Reader()")


if __name__ == "__main__":
    main()
