#!/usr/bin/env python3
"""Set up, demonstrate, test and check the project; standard library only, so that it runs on a bare
machine.

python3 scripts/dev.py venv     create .venv and install the pinned dependencies
python3 scripts/dev.py demo     the complete chain on samples/, in demo/
python3 scripts/dev.py test     lint, types and every test
python3 scripts/dev.py check    lint and types only
python3 scripts/dev.py campaign fault injections by the thousand (hours); docs/security.md's table
python3 scripts/dev.py docs     write the generated files: docs/cli.md, completions/,
    profiles/schema.json
python3 scripts/dev.py site     build the documentation into site/
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")


def run(*command: "str | Path", **environment: str) -> None:
    """Run a command in the project's folder; end this program with its exit code when it fails."""
    shown = " ".join(str(part) for part in command).replace(str(ROOT) + os.sep, "")
    print(f"$ {shown}", flush=True)
    code = subprocess.call(
        [str(part) for part in command], cwd=ROOT, env={**os.environ, **environment}
    )
    if code:
        print(f"failed with exit code {code}: {shown}", file=sys.stderr)
        sys.exit(code)


def install(extras: str) -> None:
    """Create .venv and install the project with `extras`; skipped while pyproject.toml and
    constraints.txt are the same.
    """
    if sys.version_info < (3, 11):
        sys.exit(
            f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}. Try: python3.11"
            " scripts/dev.py …"
        )
    expected = hashlib.sha256(
        b"".join(
            (ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")
        )
    ).hexdigest()
    stamp = VENV / f".installed-{extras}"
    if stamp.is_file() and stamp.read_text() == expected and PYTHON.is_file():
        return
    if not PYTHON.is_file():
        print("creating .venv", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        venv.create(VENV, with_pip=True)
    run(
        PYTHON,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-c",
        "constraints.txt",
        "-e",
        f".[{extras}]",
    )
    stamp.write_text(expected)


def check() -> None:
    """Lint, format, types and the figures of readability."""
    install("rtx,dev")
    run(PYTHON, "-m", "ruff", "check", ".")
    run(PYTHON, "-m", "ruff", "format", "--check", ".")
    run(PYTHON, "-m", "mypy")
    run(PYTHON, ROOT / "scripts" / "readability.py", "--check")


def test() -> None:
    """Everything that must pass before a change lands."""
    check()
    # One thread a process: two pytest workers share two cores.
    run(PYTHON, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", OMP_NUM_THREADS="1")


def demo() -> None:
    """The main job from line images to engines, on the samples."""
    install("train,rtx")
    run(PYTHON, ROOT / "scripts" / "demo.py")


def docs() -> None:
    """Write the generated files."""
    install("rtx,dev")
    run(PYTHON, ROOT / "scripts" / "generate.py")


def site() -> None:
    """Build the documentation site into site/; a dead link ends it."""
    install("rtx,dev")
    run(PYTHON, "-m", "mkdocs", "build", "--strict", "--quiet")


def campaign() -> None:
    """Inject faults by the thousand: hours. `scripts/campaign.py --scale 0.01` takes minutes."""
    install("rtx,dev")
    run(PYTHON, ROOT / "scripts" / "campaign.py", "--save")


JOBS = {
    "venv": lambda: install("rtx,dev"),
    "demo": demo,
    "test": test,
    "check": check,
    "docs": docs,
    "site": site,
    "campaign": campaign,
}


def main() -> None:
    """Run one job."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=JOBS)
    JOBS[parser.parse_args().job]()


if __name__ == "__main__":
    main()
