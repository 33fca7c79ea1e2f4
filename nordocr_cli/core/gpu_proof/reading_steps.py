"""The steps of the proof that export and read: ONNX, backends, formats, engines."""

import importlib.util
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nordocr_cli.core.gpu_proof.plan import DEV, SHORT
from nordocr_cli.core.gpu_proof.scene import Scene, StepFailed, StepSkipped, settings
from nordocr_cli.core.gpu_proof.training_steps import resolved, train_folder

_SHOWN_CHARACTERS = 2000


def export_step(scene: Scene) -> dict[str, Any]:
    """ONNX in fp32 and fp16, equal to torch; of the network that the training steps left."""
    target = scene.work / "model.onnx"
    found = scene.nordocr("export", _trained(scene), "-o", target, *_simplification())
    return {"files": [file["path"] for file in found["files"]], "weights": found["weights"]}


def _simplification() -> tuple[str, ...]:
    """Leave onnxsim out where it is not installed: its wheel is too large for the folder."""
    if importlib.util.find_spec("onnxsim") is None:
        return ("--no-simplify",)
    return ()


def _trained(scene: Scene) -> Path:
    """A run of the training steps; one is trained where there is none."""
    for name in ("speed-eager", "loss-bf16", "export-run"):
        if (scene.work / name / "best.safetensors").is_file():
            return scene.work / name
    train_folder(scene, "export-run", "--max-steps", "2", *settings("train.batch_size=8"))
    return scene.work / "export-run"


def inference(scene: Scene) -> dict[str, Any]:
    """Lines a second with each backend, the network alone at batch 64 x 768 px, and compiled."""
    found: dict[str, Any] = {}
    run = _trained(scene)
    onnx = scene.work / "model.onnx"
    half = onnx.with_name("model.fp16.onnx")
    device = ("--device", scene.device)
    forms: dict[str, tuple[Path, tuple[object, ...]]] = {
        "torch": (run, device),
        "torch bf16": (run, (*device, "--bf16")),
        "onnxruntime": (onnx, device),
        "onnxruntime fp16": (half, device),
        "onnxruntime TensorRT": (onnx, ("--device", "tensorrt")),
    }
    for name, (model, flags) in forms.items():
        if not model.exists():
            found[name] = {"skipped": f"{model.name} was not exported"}
            continue
        found[name] = _or_skipped(partial(_benched, scene, model, flags))
        scene.keep(found)
    if not any("rows" in each for each in found.values()):
        raise StepFailed("no backend read the lines")
    found["network"] = _network_alone(scene)
    scene.keep(found)
    found["predict"] = _predicted(scene, run)
    return found


def _or_skipped(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` finds; a backend that this machine lacks is named and skipped."""
    try:
        return work()
    except StepFailed as error:
        if not error.is_missing_backend:
            raise
        return {"skipped": str(error)}


def _benched(scene: Scene, model: Path, flags: tuple[object, ...]) -> dict[str, Any]:
    limit, rounds, grid = ("16", "1", "2x128") if scene.tiny else ("300", "3", "64x768")
    bench = scene.nordocr(
        "bench", model, *flags, "--lines", scene.store(DEV), "--limit", limit, "--rounds",
        rounds, "--single-lines", "4", "--min-same", "0", "--grid", grid,
    )  # fmt: skip
    return {"rows": bench["rows"], "grid": bench.get("grid")}


def _network_alone(scene: Scene) -> dict[str, Any]:
    """The network without copies to the device and back, and its share of the measured peak."""
    from nordocr_cli.core.gpu_proof.measure import choose, forward_flops, network_pace

    batch, width = (2, 128) if scene.tiny else (64, 768)
    profile = resolved(scene)
    flops = forward_flops(profile, width)
    peaks = scene.known.get("environment", {}).get("peak_tflops", {})
    found = {}
    device = choose(scene.device)
    for form, pace in network_pace(
        profile, device, batch, width, compiled=not scene.on_cpu
    ):
        peak = peaks.get(form.split()[0])
        found[form] = {
            "lines_per_s": round(pace, 1),
            "share_of_peak": round(pace * flops / (peak * 1e12), 4) if peak else None,
        }
    return found


def _predicted(scene: Scene, run: Path) -> dict[str, Any]:
    """Read drawn lines as users do, compiled too, and compare the texts."""
    document = scene.work / "lines"
    write_drawn_lines(document)

    def texts(name: str, *more: str) -> list[str]:
        output = scene.work / f"read-{name}"
        shutil.rmtree(output, ignore_errors=True)
        command: list[object] = [
            sys.executable, "-m", "nordocr_cli",
            "predict", document, "-m", run, "--layout", "line", "--device", scene.device,
            "--format", "text", "-o", output, *more,
        ]  # fmt: skip
        scene.run([str(part) for part in command])  # texts and --json exclude each other
        files = sorted(output.rglob("*.txt")) if output.is_dir() else [output]
        return [file.read_text(encoding="utf-8") for file in files]

    plain = texts("plain")
    compiled = not scene.on_cpu  # compiling takes minutes on a CPU
    same = texts("compiled", "--compile") == plain if compiled else None
    if same is False:
        raise StepFailed("predict --compile reads other texts than predict")
    return {"documents": len(plain), "compiled": compiled, "same_texts": same}


def write_drawn_lines(folder: Path, count: int = 6) -> None:
    """Write drawn lines as images."""
    from PIL import Image

    from nordocr_cli.deploy.golden import golden_crops

    folder.mkdir(parents=True, exist_ok=True)
    for name, crop in golden_crops(count):
        if name not in ("drawn-000", "drawn-001"):  # three pixels wide, and far too wide
            Image.fromarray(crop).save(folder / f"{name}.png")


def accuracy_step(scene: Scene) -> dict[str, Any]:
    """Exact lines of the shipped recognizer on dev in each format."""
    half = scene.work / "default.onnx"
    fp16 = ("--precision", "fp16", *_simplification())
    scene.nordocr("export", "nordocr-default", "-o", half, *fp16)
    device = ("--device", scene.device)
    forms: Mapping[str, tuple[object, ...]] = {
        "torch fp32": ("nordocr-default", *device),
        "ONNX fp32": ("nordocr-default.onnx", *device),
        "ONNX fp16": (half, *device),
        "ONNX fp16 on the CPU": (half, "--device", "cpu"),
        "ONNX int8 on the CPU": ("nordocr-default.int8.onnx", "--device", "cpu"),
    }
    found: dict[str, Any] = {}
    for name, (model, *flags) in forms.items():
        found[name] = _or_skipped(partial(_evaluated, scene, model, flags))
        scene.keep(found)
    return found


def _evaluated(scene: Scene, model: object, flags: list[object]) -> dict[str, Any]:
    lines = scene.store(SHORT if scene.tiny else DEV)  # fewer and shorter lines
    report = scene.nordocr("eval", model, lines, *flags)["report"]
    total: dict[str, Any] = report["total"]
    return total


def tensorrt(scene: Scene) -> dict[str, Any]:
    """A classic engine of the trained network: built here, compared with ONNX Runtime, benched; the
    same by trtexec where it is installed.
    """
    arch = _local_arch()
    onnx = scene.work / "model.onnx"
    found = _built(scene, "tensorrt", arch)
    scene.keep(found)
    found["rows"] = _compared(scene, onnx, found["engine"]["path"])
    command = ("build-engine", "--arch", arch, "--print-trtexec", onnx)
    line = scene.nordocr(*command)[arch]
    found["trtexec"] = {"command": line, **_trtexec(line)}
    return found


def _trtexec(line: str) -> dict[str, Any]:
    """Run trtexec as `build-engine` prints it; what it says at the end."""
    if shutil.which("trtexec") is None:
        return {"skipped": "trtexec is not on the PATH"}
    command = shlex.split(line.replace("\\\n", " "))
    done = subprocess.run(command, capture_output=True, text=True)
    return {"exit": done.returncode, "end": done.stdout[-_SHOWN_CHARACTERS:]}


def tensorrt_rtx(scene: Scene) -> dict[str, Any]:
    """An engine of TensorRT-RTX for this GPU that the packing machine built, or one built here:
    compared with ONNX Runtime and benched.
    """
    from nordocr_cli.runtime.backends.tensorrt.gpu_arch import find_arch

    arch = _local_arch()
    if find_arch(arch).rtx_bit is None:
        raise StepSkipped(f"TensorRT-RTX builds no engines for {arch}")
    packed = sorted((scene.folder / "engines").glob(f"*_{arch}.engine"))
    if packed:
        onnx = next((scene.folder / "engines").glob("*.onnx"))
        rows = _compared(scene, onnx, packed[0])
        return {"engine": {"path": packed[0].name, "built": "by pack"}, "rows": rows}
    found = _built(scene, "rtx", arch)
    return {
        **found,
        "rows": _compared(scene, scene.work / "model.onnx", found["engine"]["path"]),
    }


def _local_arch() -> str:
    from nordocr_cli.runtime.backends.tensorrt.gpu_arch import local_arch

    arch = local_arch()
    if arch is None:
        raise StepFailed("no NVIDIA GPU of a known architecture answers")
    return arch.name


def _built(scene: Scene, backend: str, arch: str) -> dict[str, Any]:
    built = scene.nordocr(
        "build-engine", "--arch", arch, "--backend", backend, "--verify", "-o",
        scene.work / backend, scene.work / "model.onnx",
    )  # fmt: skip
    return {"engine": built[0]}


def _compared(scene: Scene, onnx: Path, engine: object) -> list[dict[str, Any]]:
    """Rows of bench: ONNX Runtime first, whose texts the engine's are compared with."""
    lines = ("--lines", scene.store(DEV), "--min-same", "0")
    rows: list[dict[str, Any]] = scene.nordocr("bench", onnx, engine, *lines)["rows"]
    return rows
