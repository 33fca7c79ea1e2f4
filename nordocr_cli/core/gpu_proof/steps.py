"""What each step does. A step returns plain JSON values; it raises StepFailed with a sentence where
something does not hold. Most go through the command line, as users do.
"""

import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.core.gpu_proof.plan import DEV, SHORT, STORE

SHORT_PROFILE = "parseq-32x128"
_SHOWN_LINES = 6
_TRAINING_FACTOR = 3  # operations of a training step for one of a forward pass
_STEPS = 20
# Mean loss of the first steps against fp32 on the CPU, relative. Steps of 16-bit formats drift
# apart; a fault (a wrong scale, a dead layer, stale graph memory) is off by far more.
_LOSS_TOLERANCE = {"fp32": 0.02, "bf16": 0.10, "fp16": 0.10}


class StepFailed(Exception):
    """A step found something that does not hold."""


@dataclass(frozen=True)
class Scene:
    """Where a step runs: `folder` has the line stores, `work` takes files, `known` are the results
    of earlier steps by name, `seconds` is what is left of the time.
    """

    folder: Path
    work: Path
    device: str
    tiny: bool
    seconds: float
    known: Mapping[str, Any]

    @property
    def on_cpu(self) -> bool:
        """Whether this proof runs on a CPU."""
        return self.device == "cpu"

    @property
    def profile(self) -> tuple[str, ...]:
        """The network of the training steps: the production model, or a tiny one."""
        if not self.tiny:
            return ("-p", "svtrv2-1024")
        sets = ("model.dims=[24,24,32]", "model.depths=[0,0,1]", "geometry.max_width=1024")
        return ("-p", "svtrv2-nano", *(flag for each in sets for flag in ("--set", each)))

    def store(self, name: str) -> str:
        """The path of a line store of the folder."""
        return str(self.folder / name)

    def nordocr(self, *arguments: object, cpu: bool = False) -> Any:
        """Run a command with --json and return what it says. With `cpu` the GPU is hidden. Raises
        StepFailed with the end of its messages.
        """
        command = [sys.executable, "-m", "nordocr_cli", *map(str, arguments), "--json"]
        return self.run(command, cpu=cpu)

    def run(self, command: Sequence[str], *, cpu: bool = False) -> Any:
        """Run a program and return the JSON on its stdout; see `nordocr`."""
        environment = dict(os.environ)
        if cpu or self.on_cpu:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            lines = done.stderr.strip().splitlines()[-_SHOWN_LINES:]
            raise StepFailed(
                f"exit {done.returncode} of {' '.join(command)}: {' | '.join(lines)}"
            )
        if "{" in done.stdout:
            start = done.stdout.find("{")
        else:
            start = len(done.stdout)
        text = done.stdout[min(start, done.stdout.find("[") % (len(done.stdout) + 1)) :]
        if text.strip():
            return json.loads(text)
        return None


def environment(scene: Scene) -> dict[str, Any]:
    """Device, versions, and the peak of matrix products."""
    from nordocr_cli.core.gpu_proof.measure import choose, describe, matrix_peaks
    from nordocr_cli.runtime.stopwatch import environment as machine

    device = choose(scene.device)
    size = 256 if device.type == "cpu" else 8192
    return {
        "device": describe(device),
        "machine": machine(None),
        "usable_cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else None,
        "peak_tflops": matrix_peaks(device, size),
        "trtexec": shutil.which("trtexec"),
    }


def networks(scene: Scene) -> dict[str, Any]:
    """Every network on the device computes what it does on the CPU."""
    from nordocr_cli.core.gpu_proof.measure import choose, compare_networks

    found = list(compare_networks(choose(scene.device)))
    wrong = [each["profile"] for each in found if not each["equal"]]
    if wrong:
        raise StepFailed(f"differ from the CPU: {', '.join(wrong)}: {found}")
    return {"networks": found}


def gpu_tests(scene: Scene) -> dict[str, Any]:
    """The tests that need a GPU, where the folder or the checkout has them."""
    tests = next((p for p in (scene.folder / "tests", Path("tests")) if p.is_dir()), None)
    if tests is None:
        raise StepFailed("no folder of tests next to the line stores or here")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(tests / "gpu")]
    done = subprocess.run(command, capture_output=True, text=True)
    summary = done.stdout.strip().splitlines()[-1:] or [done.stderr.strip()[-200:]]
    if done.returncode not in (0, 5):
        raise StepFailed(" | ".join(done.stdout.strip().splitlines()[-_SHOWN_LINES:]))
    return {"summary": summary[0]}


def _train(
    scene: Scene, run: str, *more: object, cpu: bool = False
) -> list[dict[str, Any]]:
    """Train and return the run's metrics. Steps are logged one by one."""
    folder = scene.work / run
    shutil.rmtree(folder, ignore_errors=True)
    arguments: list[object] = ["train", *scene.profile, "--train", scene.store(STORE)]
    arguments += [
        "--val",
        scene.store(DEV),
        "--run-dir",
        folder,
        "--set",
        "train.log_every=1",
    ]
    arguments += ["--set", "train.eval_every=100000", "--set", "train.batch_by_arch={}"]
    scene.nordocr(*arguments, *more, cpu=cpu)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == "train"]


_PLAIN = (  # the same batches and drops on every device
    *("--set", "model.drop_path=0.0", "--set", "data.num_workers=0"),
    *(
        flag
        for name in (
            "join",
            "squeeze",
            "crop",
            "neighbour",
            "resample",
            "blur",
            "brightness",
        )
        for flag in ("--set", f"augment.{name}=0.0")
    ),
    *(
        flag
        for name in ("noise", "threshold", "jpeg", "pad_right")
        for flag in ("--set", f"augment.{name}=0.0")
    ),
)


def train_losses(scene: Scene) -> dict[str, Any]:
    """The losses of the first steps in each form, against fp32 on the CPU."""
    steps = 3 if scene.tiny else _STEPS
    small = ("--set", "train.batch_size=8", "--set", "train.batch_width_px=320", *_PLAIN)
    small += ("--max-steps", str(steps), "--max-train-samples", "64")
    reference = _losses(
        _train(scene, "loss-cpu", *small, "--set", "train.precision=fp32", cpu=True)
    )
    forms: dict[str, tuple[str, ...]] = {
        "fp32": ("train.precision=fp32",),
        "bf16": ("train.precision=bf16",),
        "fp16": ("train.precision=fp16",),
        "bf16 compiled": ("train.precision=bf16", "train.compile=true"),
        "bf16 graphs": ("train.precision=bf16", 'train.compile="reduce-overhead"'),
    }
    if (
        scene.on_cpu
    ):  # a CPU has no 16-bit scaler and no graphs; compiling takes minutes there
        forms = {name: forms[name] for name in ("fp32", "bf16")}
    found: dict[str, Any] = {}
    for name, sets in forms.items():
        flags = [flag for each in sets for flag in ("--set", each)]
        try:
            rows = _train(scene, f"loss-{name.replace(' ', '-')}", *small, *flags)
        except StepFailed as error:
            found[name] = {"failed": str(error)}
            continue
        losses = _losses(rows)
        difference = abs(statistics.fmean(losses) / statistics.fmean(reference) - 1)
        found[name] = {
            "losses": losses,
            "finite": all(map(math.isfinite, losses)),
            "difference": round(difference, 5),
            "agrees": difference <= _LOSS_TOLERANCE[name.split()[0]],
        }
    wrong = [
        name for name, each in found.items() if not (each.get("agrees") and each["finite"])
    ]
    result = {"reference": reference, "forms": found}
    if wrong:
        raise StepFailed(f"not as on the CPU: {', '.join(wrong)}: {json.dumps(result)}")
    return result


def _losses(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    return [round(float(row["loss"]), 5) for row in rows]


def train_speed(scene: Scene) -> dict[str, Any]:
    """Lines a second, share of the measured peak, data wait and memory, eager and compiled."""
    steps = 4 if scene.tiny else 40
    forms = {"eager": ("train.compile=false",), "compiled": ("train.compile=true",)}
    if scene.on_cpu:
        del forms["compiled"]
    found: dict[str, Any] = {}
    for name, sets in forms.items():
        flags = [flag for each in sets for flag in ("--set", each)]
        flags += ["--set", "train.precision=bf16", "--max-steps", str(steps)]
        if scene.tiny:
            flags += ["--set", "train.batch_size=8", "--max-train-samples", "64"]
        else:
            flags += ["--batch-size", "auto"]
        began = time.monotonic()
        rows = _train(scene, f"speed-{name}", *flags)
        warm = rows[len(rows) // 2 :]  # kernels are chosen and compiled in the first half
        lines_per_s = statistics.median(row["lines_per_s"] for row in warm)
        found[name] = {
            "lines_per_s": round(lines_per_s, 1),
            "data_wait": round(statistics.median(row["data_wait"] for row in warm), 4),
            "share_of_peak": _share_of_peak(scene, lines_per_s * _TRAINING_FACTOR),
            "seconds": round(time.monotonic() - began, 1),
            "memory": [row["memory"] for row in warm if "memory" in row][-1:],
        }
    return found


def _share_of_peak(
    scene: Scene, lines_per_s: float, precision: str = "bf16"
) -> float | None:
    """The share of the measured matrix peak that so many lines of the store's mean width are."""
    import numpy as np

    from nordocr_cli.core.gpu_proof.measure import forward_flops
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.profile import load_profile

    peaks = scene.known.get("environment", {}).get("peak_tflops")
    if not peaks:
        return None
    name, *flags = scene.profile[1:]
    profile = load_profile(name, flags[1::2]).profile
    with LineStore(Path(scene.store(STORE))) as store:
        widths = np.minimum(store.widths, profile.geometry.max_width) // 64 * 64 + 64
    values, counts = np.unique(widths, return_counts=True)
    total = sum(
        forward_flops(profile, int(width)) * int(count)
        for width, count in zip(values, counts, strict=True)
    )
    return round(lines_per_s * total / int(counts.sum()) / (peaks[precision] * 1e12), 4)


def loader(scene: Scene) -> dict[str, Any]:
    """Batches of 1,024 short lines a second that the loader feeds, to the device."""
    from nordocr_cli.core.gpu_proof.measure import choose, synchronize
    from nordocr_cli.data.batch_options import BatchOptions
    from nordocr_cli.data.batches import LineBatches
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.profile import load_profile

    device = choose(scene.device)
    profile = load_profile(SHORT_PROFILE).profile
    lines, seconds = (32, 1.0) if scene.tiny else (1024, 10.0)
    with LineStore(Path(scene.store(SHORT))) as store:
        options = BatchOptions(
            budget_px=lines * profile.geometry.max_width,
            shuffle=True,
            workers=profile.data.num_workers,
            pin=device.type == "cuda",
        )
        stores = [store] * (
            1 if scene.tiny else 40
        )  # enough lines for batches of full size
        batches = LineBatches(stores, profile.load_charset(), profile.geometry, options)
        count = moved = 0
        began = time.monotonic()
        epoch = 0
        while time.monotonic() - began < seconds:
            for batch in batches.epoch(epoch):
                batch.images.to(device, non_blocking=True)
                count, moved = count + 1, moved + batch.lines
                if time.monotonic() - began >= seconds:
                    break
            epoch += 1
        synchronize(device)
        spent = time.monotonic() - began
    return {
        "batches_per_s": round(count / spent, 1),
        "lines_per_s": round(moved / spent),
        "lines_a_batch": round(moved / max(count, 1)),
    }


def resume(scene: Scene) -> dict[str, Any]:
    """A stopped and resumed run computes the same losses."""
    small = ("--set", "train.batch_size=8", "--max-train-samples", "64")
    arguments = (
        "train",
        *scene.profile,
        "--train",
        scene.store(STORE),
        "--val",
        scene.store(DEV),
    )
    found = scene.nordocr(*arguments, *small, "--selftest-resume")
    return {"selftest": found}


def torchrun(scene: Scene) -> dict[str, Any]:
    """Training as torchrun starts it, with one process."""
    folder = scene.work / "torchrun"
    shutil.rmtree(folder, ignore_errors=True)
    launcher = (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=1",
    )
    command = [*launcher, "-m", "nordocr_cli", "train", *scene.profile]
    command += [
        "--train",
        scene.store(STORE),
        "--val",
        scene.store(DEV),
        "--max-steps",
        "3",
    ]
    command += [
        "--set",
        "train.batch_size=8",
        "--max-train-samples",
        "64",
        "--run-dir",
        str(folder),
    ]
    found = scene.run([*command, "--json"])
    return {"steps": found["steps"], "best_cer": found["best_cer"]}


def parseq(scene: Scene) -> dict[str, Any]:
    """PARSeq trains and reads."""
    folder = scene.work / "parseq"
    shutil.rmtree(folder, ignore_errors=True)
    small = ("--set", "train.batch_size=8", "--max-steps", "3", "--max-train-samples", "64")
    profile = ("-p", SHORT_PROFILE, "--set", "model.size=tiny")
    arguments = (
        "train",
        *profile,
        "--train",
        scene.store(SHORT),
        "--val",
        scene.store(SHORT),
    )
    trained = scene.nordocr(*arguments, *small, "--run-dir", folder)
    return {"lines_per_s": trained["lines_per_s"], "best_cer": trained["best_cer"]}


def export(scene: Scene) -> dict[str, Any]:
    """ONNX in fp32 and fp16, equal to torch; of the network that the training steps left."""
    run = _trained(scene)
    target = scene.work / "model.onnx"
    found = scene.nordocr("export", run, "-o", target)
    return {"files": [file["path"] for file in found["files"]], "weights": found["weights"]}


def _trained(scene: Scene) -> Path:
    """A run of the training steps."""
    for name in ("speed-eager", "loss-bf16", "loss-fp32", "torchrun"):
        if (scene.work / name / "best.safetensors").is_file():
            return scene.work / name
    _train(scene, "speed-eager", "--max-steps", "2", "--set", "train.batch_size=8")
    return scene.work / "speed-eager"


def inference(scene: Scene) -> dict[str, Any]:
    """Lines a second of the trained network with each backend, and at batch 64 x 768 px."""
    run, onnx = _trained(scene), scene.work / "model.onnx"
    limit = (
        "--limit",
        "16" if scene.tiny else "300",
        "--rounds",
        "1" if scene.tiny else "3",
    )
    grid = ("--grid", "2x128" if scene.tiny else "64x768")
    common = ("--lines", scene.store(DEV), *limit, "--single-lines", "4", "--min-same", "0")
    found: dict[str, dict[str, Any]] = {}
    forms: dict[str, tuple[object, ...]] = {
        "torch": (run, "--device", scene.device),
        "torch bf16": (run, "--device", scene.device, "--bf16"),
        "onnxruntime": (onnx, "--device", scene.device),
    }
    if onnx.with_name("model.fp16.onnx").is_file() and not scene.on_cpu:
        forms["onnxruntime fp16"] = (
            onnx.with_name("model.fp16.onnx"),
            "--device",
            scene.device,
        )
    for name, arguments in forms.items():
        if not Path(str(arguments[0])).exists():
            continue
        try:
            bench = scene.nordocr("bench", *arguments, *common, *grid)
        except StepFailed as error:
            found[name] = {"failed": str(error)}
            continue
        found[name] = {"rows": bench["rows"], "grid": bench.get("grid")}
    if not any("rows" in each for each in found.values()):
        raise StepFailed(json.dumps(found))
    compiled = [] if scene.tiny else ["--compile"]
    document = scene.work / "lines"
    _draw_lines(document)
    read = scene.nordocr(
        "predict", document, "-m", run, "--layout", "line", "--device", scene.device, *compiled,
        "--format", "json", "-o", scene.work / "read",
    )  # fmt: skip
    found["predict"] = {"compiled": bool(compiled), "result": read}
    return found


def _draw_lines(folder: Path, count: int = 6) -> None:
    """Write drawn lines as images."""
    from PIL import Image

    from nordocr_cli.deploy.golden import golden_crops

    folder.mkdir(parents=True, exist_ok=True)
    for name, crop in golden_crops(count):
        if name not in ("drawn-000", "drawn-001"):  # three pixels wide, and far too wide
            Image.fromarray(crop).save(folder / f"{name}.png")


def accuracy(scene: Scene) -> dict[str, Any]:
    """Exact lines of the shipped recognizer on dev in each format."""
    half = scene.work / "default.onnx"
    scene.nordocr("export", "nordocr-default", "-o", half, "--precision", "fp16")
    found = {}
    for name, model, device in (
        ("fp32", "nordocr-default", scene.device),
        ("fp16", half, scene.device),
        ("int8", "nordocr-default.int8.onnx", "cpu"),
    ):
        report = scene.nordocr("eval", model, scene.store(DEV), "--device", device)[
            "report"
        ]
        found[name] = report["total"]
    return found


def tensorrt(scene: Scene) -> dict[str, Any]:
    """A classic engine of the trained network: built here, compared with ONNX Runtime, benched."""
    return _engine(scene, "tensorrt")


def tensorrt_rtx(scene: Scene) -> dict[str, Any]:
    """An engine of TensorRT-RTX for this GPU: built, compared with ONNX Runtime, benched."""
    return _engine(scene, "rtx")


def _engine(scene: Scene, backend: str) -> dict[str, Any]:
    from nordocr_cli.runtime.backends.tensorrt.gpu_arch import local_arch

    arch = local_arch()
    if arch is None:
        raise StepFailed("no NVIDIA GPU of a known architecture answers")
    folder = scene.work / backend
    built = scene.nordocr(
        "build-engine", "--arch", arch.name, "--backend", backend, "--verify", "-o", folder,
        scene.work / "model.onnx",
    )  # fmt: skip
    engine = built[0]["path"]
    bench = scene.nordocr(
        "bench",
        scene.work / "model.onnx",
        engine,
        "--lines",
        scene.store(DEV),
        "--min-same",
        "0",
    )
    return {"engine": built[0], "rows": bench["rows"]}


def data_rates(scene: Scene) -> dict[str, Any]:
    """Lines a second of prep and synth on this machine."""
    images = scene.work / "prep"
    _draw_lines(images, 40 if scene.tiny else 2000)
    labels = "".join(f"{path.name}\t7 811\n" for path in sorted(images.glob("*.png")))
    (images / "labels.tsv").write_text(labels, encoding="utf-8")
    began = time.monotonic()
    target = scene.work / "prepared.lmdb"
    shutil.rmtree(target, ignore_errors=True)
    scene.nordocr("prep", images / "labels.tsv", "-o", target, *scene.profile)
    prepared = time.monotonic() - began
    count = labels.count("\n")
    result: dict[str, Any] = {"prep_lines_per_s": round(count / prepared)}
    synthetic = scene.work / "synthetic.lmdb"
    shutil.rmtree(synthetic, ignore_errors=True)
    number = 20 if scene.tiny else 1000
    began = time.monotonic()
    try:
        scene.nordocr("synth", "-n", number, "-o", synthetic, *scene.profile)
        result["synth_lines_per_s"] = round(number / (time.monotonic() - began), 1)
    except StepFailed as error:  # a machine without fonts
        result["synth"] = str(error)
    return result


def recipe(scene: Scene) -> dict[str, Any]:
    """Train the production model with the time left, and compare it with the shipped one on dev."""
    minutes = 0.05 if scene.tiny else max(0.5, (scene.seconds - 60) / 60)
    folder = scene.work / "recipe"
    shutil.rmtree(folder, ignore_errors=True)
    flags: list[object] = ["--max-minutes", minutes, "--run-dir", folder]
    flags += ["--set", "train.save_every=100"]
    if scene.tiny:
        flags += ["--set", "train.batch_size=8", "--max-train-samples", "64"]
    else:
        flags += ["--batch-size", "auto"]
    arguments = (
        "train",
        *scene.profile,
        "--train",
        scene.store(STORE),
        "--val",
        scene.store(DEV),
    )
    trained = scene.nordocr(*arguments, *flags)
    shipped = scene.nordocr(
        "eval", "nordocr-default", scene.store(DEV), "--device", scene.device
    )
    cer = shipped["report"]["total"]["rates"]["cer"]
    return {
        "minutes": round(minutes, 2),
        "trained": trained,
        "shipped_cer": cer,
        "beats_the_shipped": trained["best_cer"] < cer,
    }


RUN: Mapping[str, Callable[[Scene], dict[str, Any]]] = {
    step.__name__: step
    for step in (
        environment,
        networks,
        gpu_tests,
        train_losses,
        train_speed,
        loader,
        resume,
        torchrun,
        parseq,
        export,
        inference,
        accuracy,
        tensorrt,
        tensorrt_rtx,
        data_rates,
        recipe,
    )
}
