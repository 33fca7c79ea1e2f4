#!/usr/bin/env python3
"""Run, measure and prove everything of nordocr that a GPU runs, in ten minutes.

    python scripts/on_gpu.py pack build/gpu              a folder that travels, at most 60 MB
    python scripts/on_gpu.py pack build/gpu --wheels 3.12    with wheels for the machine's Python
    python scripts/on_gpu.py pack build/gpu --rtx sm120      with TensorRT-RTX engines built here
    python build/gpu/on_gpu.py run -o gpu.json           on the machine with the GPU
    python build/gpu/on_gpu.py run -o gpu.json --resume      again: only what is missing there
    python build/gpu/on_gpu.py run -o cpu.json --tiny --device cpu    the same steps on a CPU

The folder holds the source, the shipped weights, three line stores, fonts of this machine and, with
--wheels, wheels of the small libraries and what they need. The machine must have torch; whatever
else is missing is installed from the wheels, or from the network where there is one, into the
folder. The result is written after every step.
"""

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT_MB = 60
_SOURCE = ("nordocr_cli", "nordocr", "profiles", "pyproject.toml", "README.md", "LICENSE")
_TESTS = ("tests/gpu", "tests/conftest.py")
_LEFT_OUT = ("__pycache__", "*.pyc", "nordocr-default-ext*")
# Faces of this machine that the synthetic lines of the proof are drawn in, where it has them.
_FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "LiberationSerif-Regular.ttf")
_FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
# Import names of what the steps need, and their packages. torch is the machine's own.
_LIBRARIES = {
    "typer": "typer",
    "rich": "rich",
    "pydantic": "pydantic",
    "lmdb": "lmdb",
    "safetensors": "safetensors",
    "numpy": "numpy",
    "PIL": "pillow",
    "simplejpeg": "simplejpeg",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "cv2": "opencv-python-headless",
    "httpx": "httpx",
    "jinja2": "jinja2",
    "pypdfium2": "pypdfium2",
    "rapidfuzz": "rapidfuzz",
    "pytest": "pytest",
}
# Of a machine with torch: their wheels are large, and not taken along.
_ON_EVERY_MACHINE = (
    "torch",
    "numpy",
    "opencv",
    "onnxruntime",
    "pillow",
    "nvidia",
    "triton",
)
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64")


def main() -> None:
    """Pack or run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    pack_parser = commands.add_parser("pack", help="write the folder that travels")
    pack_parser.add_argument("folder", type=Path)
    pack_parser.add_argument(
        "--wheels", metavar="PYTHON", help="download wheels for this Python, e.g. 3.12"
    )
    pack_parser.add_argument(
        "--rtx", metavar="ARCH", help="build TensorRT-RTX engines, e.g. sm86,sm120"
    )
    pack_parser.add_argument(
        "--synth", type=int, default=0, metavar="N", help="synthetic lines"
    )
    run_parser = commands.add_parser("run", help="run the steps")
    run_parser.add_argument(
        "--folder", type=Path, default=HERE, help="default: this file's"
    )
    run_parser.add_argument("-o", "--output", type=Path, default=Path("gpu-proof.json"))
    run_parser.add_argument("--device", default="auto")
    run_parser.add_argument("--minutes", type=float, default=9.5)
    run_parser.add_argument(
        "--resume", action="store_true", help="keep the steps that ended well in --output"
    )
    run_parser.add_argument(
        "--at-once", type=int, metavar="N", help="steps without timings at the same time"
    )
    run_parser.add_argument("--tiny", action="store_true", help="seconds a step, for a CPU")
    run_parser.add_argument("--only", action="append", default=[], metavar="STEP")
    options = parser.parse_args()
    sys.exit(pack(options) if options.command == "pack" else run(options))


def pack(options: argparse.Namespace) -> int:
    """Write the folder; exit 1 when it is larger than it may be."""
    repository = HERE.parent
    folder = options.folder
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "source"
    ignored = shutil.ignore_patterns(*_LEFT_OUT)
    for name in _SOURCE:
        _copy(repository / name, source / name, ignored)
    for name in _TESTS:
        _copy(repository / name, folder / name, ignored)
    shutil.copy2(HERE / "on_gpu.py", folder / "on_gpu.py")
    _write_stores(repository, folder, options.synth)
    _copy_fonts(folder / "fonts")
    if options.rtx:
        _build_engines(repository, folder / "engines", options.rtx)
    if options.wheels:
        _download_wheels(folder, options.wheels)
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


def _copy_fonts(folder: Path) -> None:
    """Copy a few faces of this machine: a GPU machine may have no fonts to draw lines with."""
    for pattern in _FONTS:
        for font_folder in _FONT_FOLDERS:
            for path in sorted(font_folder.rglob(pattern)):
                folder.mkdir(exist_ok=True)
                shutil.copy2(path, folder / path.name)
    if not folder.is_dir():
        print("no fonts here: lines are rendered only where the GPU machine has some")


def _build_engines(repository: Path, folder: Path, arches: str) -> None:
    """Build TensorRT-RTX engines of the shipped recognizer, which takes no GPU."""
    folder.mkdir()
    environment = _environment(repository)
    onnx = folder / "nordocr-default.fp16.onnx"
    _nordocr(environment, "export", "nordocr-default", "--precision", "fp16", "-o", onnx)
    backend = ("--backend", "rtx", "-o", folder)
    _nordocr(environment, "build-engine", "--arch", arches, *backend, onnx)


def _download_wheels(folder: Path, python: str) -> None:
    """Download wheels of the small libraries and of what they need, smallest first, up to the
    limit; say what is left out.
    """
    wheels = folder / "wheels"
    loaded = folder / "downloaded"
    command = [sys.executable, "-m", "pip", "download", "-q", "-d", str(loaded)]
    command += ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    for platform in _PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, *_small_libraries()], check=True)
    wheels.mkdir()
    for wheel in sorted(loaded.glob("*.whl"), key=lambda path: path.stat().st_size):
        if wheel.name.lower().startswith(_ON_EVERY_MACHINE):
            continue
        if _megabytes(folder) - _megabytes(loaded) + wheel.stat().st_size / 1e6 > LIMIT_MB:
            print(f"left out, too large: {wheel.name}", file=sys.stderr)
            continue
        wheel.rename(wheels / wheel.name)
    shutil.rmtree(loaded)


def _small_libraries() -> list[str]:
    """The packages whose wheels travel, with the versions of the constraints."""
    pinned = {}
    for line in (HERE.parent / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, separator, _ = line.partition("==")
        if separator:
            pinned[name.strip().lower()] = line.split("#")[0].strip()
    names = [name for name in _LIBRARIES.values() if not name.startswith(_ON_EVERY_MACHINE)]
    return [pinned.get(name, name) for name in names]


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
    from nordocr_cli.errors import NordocrError

    signal.signal(signal.SIGTERM, _stopped)
    try:
        plan = plan_proof(
            folder,
            options.output,
            device=options.device,
            minutes=options.minutes,
            tiny=options.tiny,
            only=options.only,
            at_once=options.at_once,
            resume=options.resume,
        )
        result = run_proof(plan, Console())
    except NordocrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"stopped; {options.output} holds the steps so far", file=sys.stderr)
        return 130
    for target in result.value["targets"]:
        print(f"{target['what']}: {target.get('measured')} (met: {target['met']})")
    print(
        f"{options.output}: {len(result.value['steps'])} steps, failed: {result.failed or 'none'}"
    )
    return 1 if result.failed else 0


def _stopped(_number: int, _frame: object) -> None:
    """End the running step before this process: it may hold the GPU."""
    raise KeyboardInterrupt


def _environment(*paths: Path) -> dict[str, str]:
    known = os.environ.get("PYTHONPATH", "")
    joined = os.pathsep.join([*map(str, paths), *([known] if known else [])])
    return {**os.environ, "PYTHONPATH": joined}


def _install_missing(folder: Path, environment: dict[str, str]) -> None:
    """Install libraries that the machine lacks into the folder, from its wheels or the network."""
    site = folder / "site"
    if site.is_dir():
        sys.path.insert(0, str(site))
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
        # The wheels were chosen to work together, and need no network.
        alone = [
            *command,
            "--no-index",
            "--no-deps",
            *map(str, sorted(wheels.glob("*.whl"))),
        ]
        if subprocess.run(alone, env=environment, check=False).returncode == 0:
            importlib.invalidate_caches()
            sys.path.insert(0, str(folder / "site"))
            missing = [
                p for m, p in _LIBRARIES.items() if importlib.util.find_spec(m) is None
            ]
    if missing:
        subprocess.run([*command, *missing], env=environment, check=False)


if __name__ == "__main__":
    main()
