#!/usr/bin/env python3
"""Run, measure and prove everything of nordocr that a GPU runs, in a quarter of an hour.

    python scripts/on_gpu.py pack build/gpu            a folder that travels, at most 60 MB
    python scripts/on_gpu.py pack build/gpu --wheels   with wheels of what the machine may lack
    python build/gpu/on_gpu.py run -o gpu.json         on the machine with the GPU
    python build/gpu/on_gpu.py run -o cpu.json --tiny --device cpu    the same steps on a CPU

The folder holds the source, the shipped weights, three line stores and, with --wheels, wheels of
the small libraries. The machine must have torch; whatever else is missing is installed from the
wheels, or from the network where there is one, into the folder. The result is written after every
step.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT_MB = 60
_SOURCE = ("nordocr_cli", "nordocr", "profiles", "pyproject.toml", "README.md", "LICENSE")
_TESTS = ("tests/gpu", "tests/conftest.py")
_LEFT_OUT = ("__pycache__", "*.pyc", "nordocr-default-ext*")
# Import names of what the steps need, and their packages. torch is the machine's own.
_LIBRARIES = {
    "typer": "typer",
    "rich": "rich",
    "pydantic": "pydantic",
    "lmdb": "lmdb",
    "safetensors": "safetensors",
    "numpy": "numpy",
    "PIL": "pillow",
    "onnx": "onnx",
    "onnxsim": "onnxsim",
    "onnxruntime": "onnxruntime",
    "cv2": "opencv-python-headless",
    "pytest": "pytest",
}


def main() -> None:
    """Pack or run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    pack_parser = commands.add_parser("pack", help="write the folder that travels")
    pack_parser.add_argument("folder", type=Path)
    pack_parser.add_argument("--wheels", action="store_true", help="download wheels too")
    pack_parser.add_argument(
        "--synth", type=int, default=0, metavar="N", help="synthetic lines"
    )
    run_parser = commands.add_parser("run", help="run the steps")
    run_parser.add_argument(
        "--folder", type=Path, default=HERE, help="default: this file's"
    )
    run_parser.add_argument("-o", "--output", type=Path, default=Path("gpu-proof.json"))
    run_parser.add_argument("--device", default="auto")
    run_parser.add_argument("--minutes", type=float, default=14.0)
    run_parser.add_argument("--tiny", action="store_true", help="seconds a step, for a CPU")
    run_parser.add_argument("--only", action="append", default=[], metavar="STEP")
    options = parser.parse_args()
    sys.exit(pack(options) if options.command == "pack" else run(options))


def pack(options: argparse.Namespace) -> int:
    """Write the folder; exit 1 when it is larger than it may be."""
    repository, folder = HERE.parent, options.folder
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "source"
    ignored = shutil.ignore_patterns(*_LEFT_OUT)
    for name in _SOURCE:
        _copy(repository / name, source / name, ignored)
    for name in _TESTS:
        _copy(repository / name, folder / name, ignored)
    shutil.copy2(HERE / "on_gpu.py", folder / "on_gpu.py")
    _write_stores(repository, folder, options.synth)
    if options.wheels:
        _download_wheels(folder)
    size = _megabytes(folder)
    print(
        f"{folder}: {size:.1f} MB; on the GPU machine: python {folder.name}/on_gpu.py run"
    )
    if size > LIMIT_MB:
        print(
            f"that is more than {LIMIT_MB} MB; leave --wheels or --synth out",
            file=sys.stderr,
        )
        return 1
    return 0


def _copy(origin: Path, target: Path, ignored: object) -> None:
    if origin.is_dir():
        shutil.copytree(origin, target, ignore=ignored)  # type: ignore[arg-type]
    elif origin.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(origin, target)


def _write_stores(repository: Path, folder: Path, synthetic: int) -> None:
    """Make the line stores of the samples, and of synthetic lines where requested."""
    environment = _environment(repository)
    stores = (
        ("train", "train", "svtrv2-1024"),
        ("dev", "lines", "svtrv2-1024"),
        ("short", "train", "parseq-32x128"),
    )
    for name, lines, profile in stores:
        manifest = repository / "samples" / lines / "manifest.jsonl"
        target = folder / f"{name}.lmdb"
        # the lines too long for parseq-32x128 are left out
        _nordocr(
            environment, "prep", manifest, "-o", target, "-p", profile, "--on-bad", "skip"
        )
    if synthetic:
        more = folder / "train.lmdb"
        shutil.rmtree(more)
        _nordocr(environment, "synth", "-n", synthetic, "-o", more, "-p", "svtrv2-1024")


def _nordocr(environment: dict[str, str], *arguments: object) -> None:
    command = [sys.executable, "-m", "nordocr_cli", *map(str, arguments), "-q"]
    subprocess.run(command, check=True, env=environment)


def _download_wheels(folder: Path) -> None:
    """Download wheels of the small libraries, smallest first, up to the limit; say what is left
    out.
    """
    wheels = folder / "wheels"
    loaded = folder / "downloaded"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "-d",
        str(loaded),
    ]
    for package in _LIBRARIES.values():
        subprocess.run([*command, package], check=False)
    wheels.mkdir()
    for wheel in sorted(loaded.glob("*.whl"), key=lambda path: path.stat().st_size):
        if _megabytes(folder) - _megabytes(loaded) + wheel.stat().st_size / 1e6 > LIMIT_MB:
            print(f"left out, too large: {wheel.name}", file=sys.stderr)
            continue
        wheel.rename(wheels / wheel.name)
    shutil.rmtree(loaded)


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def run(options: argparse.Namespace) -> int:
    """Run the steps with the folder's own source; exit 1 when one failed."""
    folder = options.folder.resolve()
    source = folder / "source" if (folder / "source").is_dir() else HERE.parent
    environment = _environment(source, folder / "site")
    _install_missing(folder, environment)
    os.environ.update(environment)
    sys.path[:0] = [str(source), str(folder / "site")]

    from nordocr_cli.console import Console
    from nordocr_cli.core.gpu_proof.plan import plan_proof
    from nordocr_cli.core.gpu_proof.run import run_proof

    plan = plan_proof(
        folder,
        options.output,
        device=options.device,
        minutes=options.minutes,
        tiny=options.tiny,
        only=options.only,
    )
    result = run_proof(plan, Console())
    for target in result.value["targets"]:
        print(f"{target['what']}: {target.get('measured')} (met: {target['met']})")
    print(
        f"{options.output}: {len(result.value['steps'])} steps, failed: {result.failed or 'none'}"
    )
    return 1 if result.failed else 0


def _environment(*paths: Path) -> dict[str, str]:
    known = os.environ.get("PYTHONPATH", "")
    joined = os.pathsep.join([*map(str, paths), *([known] if known else [])])
    return {**os.environ, "PYTHONPATH": joined}


def _install_missing(folder: Path, environment: dict[str, str]) -> None:
    """Install libraries that the machine lacks into the folder, from its wheels or the network."""
    missing = [
        p for module, p in _LIBRARIES.items() if importlib.util.find_spec(module) is None
    ]
    if not missing:
        return
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--target",
        str(folder / "site"),
    ]
    wheels = folder / "wheels"
    if wheels.is_dir():
        command += ["--find-links", str(wheels), "--prefer-binary"]
    done = subprocess.run([*command, *missing], env=environment, check=False)
    if done.returncode and wheels.is_dir():  # no network: the wheels alone
        for package in missing:
            alone = [*command, "--no-index", "--no-deps", package]
            subprocess.run(alone, env=environment, check=False)


if __name__ == "__main__":
    main()
