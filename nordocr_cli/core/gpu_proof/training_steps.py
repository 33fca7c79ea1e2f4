"""The steps of the proof that train: losses, pace, the loader, resuming, torchrun, PARSeq, and the
production model with the time left.
"""

import json
import math
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nordocr_cli.core.gpu_proof.plan import DEV, SHORT, STORE
from nordocr_cli.core.gpu_proof.scene import Scene, StepFailed, settings
from nordocr_cli.cores import usable_cores
from nordocr_cli.settings import Augment

SHORT_PROFILE = "parseq-32x128"
_TRAINING_FACTOR = 3  # operations of a training step for one of a forward pass
_STEPS = 20
_COPIES = (
    100  # of the store: an epoch has at least 50 steps, so few lines make small batches
)
_SHORT_COPIES = 400
# Mean loss of the first steps against fp32 on the CPU, relative. Steps of 16-bit formats drift
# apart; a fault (a wrong scale, a dead layer, stale graph memory) is off by far more.
_LOSS_TOLERANCE = {"fp32": 0.02, "bf16": 0.10, "fp16": 0.10}
_SMALL = settings("train.batch_size=8")
_FEW_LINES = ("--max-train-samples", "64")
# Each probability of a change; the other options are sizes.
_AUGMENTATIONS = tuple(name for name in Augment.model_fields if not name.startswith("max_"))
_SAME_EVERYWHERE = settings(  # the same batches and drops on every device
    "model.drop_path=0.0",
    "data.num_workers=0",
    *(f"augment.{name}=0.0" for name in _AUGMENTATIONS),
)


def _stores(scene: Scene, name: str = STORE) -> tuple[object, ...]:
    val = SHORT if name == SHORT else DEV
    return ("--train", scene.store(name), "--val", scene.store(val))


def train_folder(
    scene: Scene,
    run: str,
    *more: object,
    stores: Sequence[object] = (),
    cpu: bool = False,
) -> list[dict[str, Any]]:
    """Train into the folder `run` and return the run's metrics, one row a step."""
    folder = scene.work / run
    shutil.rmtree(folder, ignore_errors=True)
    logged = settings(
        "train.log_every=1", "train.eval_every=100000", "train.batch_by_arch={}"
    )
    scene.nordocr(
        "train",
        *scene.profile,
        *(stores or _stores(scene)),
        "--run-dir",
        folder,
        *logged,
        *more,
        cpu=cpu,
    )
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == "train"]


def train_losses(scene: Scene) -> dict[str, Any]:
    """The losses of the first steps in each form, against fp32 on the CPU."""
    steps = 3 if scene.tiny else _STEPS
    small: tuple[object, ...] = (*_SMALL, *settings("train.batch_width_px=320"))
    small += (*_SAME_EVERYWHERE, "--max-steps", steps, *_FEW_LINES)
    forms = _loss_forms(scene)
    found: dict[str, Any] = {}
    with ThreadPoolExecutor(max(1, scene.at_once)) as pool:
        on_cpu = pool.submit(
            train_folder,
            scene,
            "loss-cpu",
            *small,
            *settings("train.precision=fp32"),
            cpu=True,
        )
        running = {
            name: pool.submit(_losses_or_reason, scene, name, (*small, *settings(*sets)))
            for name, sets in forms.items()
        }
        reference = _losses(on_cpu.result())
        for name, future in running.items():
            found[name] = _judged(name, future.result(), reference)
            scene.keep({"reference": reference, "forms": found})

    wrong = [name for name, form in found.items() if not form.get("agrees")]
    if wrong:
        raise StepFailed(f"not as on the CPU: {', '.join(wrong)}")
    return {"reference": reference, "forms": found}


def _loss_forms(scene: Scene) -> dict[str, tuple[str, ...]]:
    """The forms of training that are compared, and the settings of each."""
    forms: dict[str, tuple[str, ...]] = {
        "fp32": ("train.precision=fp32",),
        "bf16": ("train.precision=bf16",),
        "fp16 with scaler": ("train.precision=fp16",),
        "bf16 compiled": ("train.precision=bf16", "train.compile=true"),
        "bf16 CUDA graphs": ("train.precision=bf16", 'train.compile="reduce-overhead"'),
    }
    if scene.on_cpu:
        # a CPU has no 16-bit scaler and no graphs; compiling takes minutes there
        return {name: forms[name] for name in ("fp32", "bf16")}
    return forms


def _losses_or_reason(
    scene: Scene, name: str, flags: Sequence[object]
) -> list[float] | str:
    """The losses of one form, or why it failed: the others run all the same."""
    try:
        return _losses(train_folder(scene, f"loss-{name.replace(' ', '-')}", *flags))
    except StepFailed as error:
        return str(error)


def _judged(
    name: str, losses: list[float] | str, reference: Sequence[float]
) -> dict[str, Any]:
    if isinstance(losses, str):
        return {"failed": losses}
    finite = all(map(math.isfinite, losses))
    difference = abs(statistics.fmean(losses) / statistics.fmean(reference) - 1)
    within = difference <= _LOSS_TOLERANCE[name.split()[0]]
    return {
        "losses": losses,
        "finite": finite,
        "difference": round(difference, 5) if finite else None,
        "agrees": finite and within and len(losses) == len(reference),
    }


def _losses(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """The loss of each step; a step that was not finite has null, which becomes NaN."""
    return [
        math.nan if row["loss"] is None else round(float(row["loss"]), 5) for row in rows
    ]


def train_speed(scene: Scene) -> dict[str, Any]:
    """Lines a second, share of the measured peak, data wait and memory, eager and compiled."""
    steps = 4 if scene.tiny else 40
    common: tuple[object, ...] = ("--max-steps", steps, "--allow-leakage")
    common += settings("train.precision=bf16", f"data.num_workers={_workers()}")
    if scene.tiny:
        eager_batch: tuple[object, ...] = (*_SMALL, *_FEW_LINES)
        stores = _stores(scene)
    else:
        eager_batch = ("--batch-size", "auto")
        stores = ("--train", *_copies(scene, _COPIES), "--val", scene.store(DEV))
    found = {"eager": _pace(scene, "eager", stores, (*common, *eager_batch))}
    scene.keep(found)
    if scene.on_cpu:
        return found

    # The batch that the search found, so that it is not searched again with compiled networks.
    lines = found["eager"]["batch_size"]
    for name, compiled in (("compiled", "true"), ("CUDA graphs", '"reduce-overhead"')):
        sets = settings(f"train.compile={compiled}", f"train.batch_size={lines}")
        try:
            found[name] = _pace(scene, name, stores, (*common, *sets))
        except StepFailed as error:
            found[name] = {"failed": str(error)}
        scene.keep(found)
    failed = [name for name, form in found.items() if "failed" in form]
    if failed:
        raise StepFailed(f"did not train: {', '.join(failed)}")
    return found


def _workers() -> int:
    return max(1, usable_cores() - 1)


def _copies(scene: Scene, count: int) -> tuple[object, ...]:
    """Copies of the training store, each a store of its own, as arguments of --train."""
    flags: list[object] = []
    for number in range(count):
        copy = scene.work / "copies" / f"{number:03}.lmdb"
        if not copy.is_dir():
            shutil.copytree(scene.store(STORE), copy)
        flags += ["--train", copy]
    return tuple(flags[1:])


def _pace(
    scene: Scene, name: str, stores: Sequence[object], flags: Sequence[object]
) -> dict[str, Any]:
    """Train some steps and return the figures of their second half."""
    run = f"speed-{name.replace(' ', '-')}"
    began = time.monotonic()
    rows = train_folder(scene, run, *flags, stores=stores)
    spent = time.monotonic() - began
    warm = rows[len(rows) // 2 :]  # kernels are chosen and compiled in the first half
    lines_per_s = statistics.median(row["lines_per_s"] for row in warm)
    facts = json.loads((scene.work / run / "run.json").read_text(encoding="utf-8"))
    return {
        "batch_size": facts["profile"]["train"]["batch_size"],
        "lines_per_s": round(lines_per_s, 1),
        "data_wait": round(statistics.median(row["data_wait"] for row in warm), 4),
        "share_of_peak": store_share_of_peak(scene, lines_per_s * _TRAINING_FACTOR),
        "memory_gb": warm[-1].get("memory_gb"),
        "seconds": round(spent, 1),
    }


def store_share_of_peak(
    scene: Scene, lines_per_s: float, precision: str = "bf16"
) -> float | None:
    """The share of the measured matrix peak that so many lines of the store's mean width are."""
    import numpy as np

    from nordocr_cli.core.gpu_proof.measure import forward_flops
    from nordocr_cli.data.store import LineStore

    peaks = scene.known.get("environment", {}).get("peak_tflops")
    if not peaks:
        return None
    profile = resolved(scene)
    with LineStore(Path(scene.store(STORE))) as store:
        widths = np.minimum(store.widths, profile.geometry.max_width) // 64 * 64 + 64
    values, counts = np.unique(widths, return_counts=True)
    total = sum(
        forward_flops(profile, int(width)) * int(count)
        for width, count in zip(values, counts, strict=True)
    )
    return round(lines_per_s * total / int(counts.sum()) / (peaks[precision] * 1e12), 4)


def resolved(scene: Scene) -> Any:
    """The profile of the training steps."""
    from nordocr_cli.profile import load_profile

    name, *flags = scene.profile[1:]
    return load_profile(name, flags[1::2]).profile


def batch_memory(scene: Scene) -> dict[str, Any]:
    """The batch search where the memory is too small for what it tries."""
    from nordocr_cli.core.gpu_proof.measure import batch_in_little_memory, choose

    return batch_in_little_memory(resolved(scene), choose(scene.device))


def loader(scene: Scene) -> dict[str, Any]:
    """Batches of 1,024 short lines a second that the loader feeds, to the device."""
    from nordocr_cli.core.gpu_proof.measure import choose, synchronize
    from nordocr_cli.data.batch_options import BatchOptions
    from nordocr_cli.data.batches import LineBatches
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.profile import load_profile

    device = choose(scene.device)
    profile = load_profile(SHORT_PROFILE).profile
    lines, seconds, copies = (32, 1.0, 1) if scene.tiny else (1024, 8.0, _SHORT_COPIES)
    options = BatchOptions(
        budget_px=lines * profile.geometry.max_width,
        shuffle=True,
        workers=_workers(),
        pin=device.type == "cuda",
    )
    with LineStore(Path(scene.store(SHORT))) as store:
        batches = LineBatches(
            [store] * copies, profile.load_charset(), profile.geometry, options
        )
        count = moved = 0
        began = time.monotonic()
        for epoch in range(1000):
            for batch in batches.epoch(epoch):
                batch.images.to(device, non_blocking=True)
                count, moved = count + 1, moved + batch.lines
                if time.monotonic() - began >= seconds:
                    break
            if time.monotonic() - began >= seconds:
                break
        synchronize(device)
        spent = time.monotonic() - began
    return {
        "batches_per_s": round(count / spent, 1),
        "lines_per_s": round(moved / spent),
        "lines_a_batch": round(moved / max(count, 1)),
        "workers": options.workers,
        "pinned": options.pin,
    }


def resume(scene: Scene) -> dict[str, Any]:
    """A stopped and resumed run computes the same losses; the command fails where it does not."""
    arguments = ("train", *scene.profile, *_stores(scene), *_SMALL, *_FEW_LINES)
    found = scene.nordocr(*arguments, "--selftest-resume", "--device", scene.device)
    return {"selftest": found}


def torchrun(scene: Scene) -> dict[str, Any]:
    """Training as torchrun starts it, and as --gpus 1 does, with one process."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node=1", "-m", "nordocr_cli", "train"]
    started = {"torchrun": launcher}
    if not scene.on_cpu:
        started["gpus"] = [sys.executable, "-m", "nordocr_cli", "train", "--gpus", "1"]
    found = {}
    for name, command in started.items():
        folder = scene.work / name
        shutil.rmtree(folder, ignore_errors=True)
        flags = [*map(str, _stores(scene)), *_SMALL, *_FEW_LINES, "--max-steps", "3"]
        scene.run([*command, *scene.profile, *flags, "--run-dir", str(folder), "--json"])
        result = json.loads((folder / "run.json").read_text(encoding="utf-8"))["result"]
        if result["steps"] != 3:
            raise StepFailed(f"{name}: expected 3 steps, found {result['steps']}")
        found[name] = {"steps": result["steps"], "best_cer": result["best_cer"]}
    return found


def parseq(scene: Scene) -> dict[str, Any]:
    """PARSeq trains and reads."""
    folder = scene.work / "parseq"
    shutil.rmtree(folder, ignore_errors=True)
    profile = ("-p", SHORT_PROFILE, *settings("model.size=tiny"))
    small = (*_SMALL, "--max-steps", "3", *_FEW_LINES, "--run-dir", folder)
    trained = scene.nordocr("train", *profile, *_stores(scene, SHORT), *small)
    found = {"lines_per_s": trained["lines_per_s"], "best_cer": trained["best_cer"]}
    for decoder in ("ar", "nar"):
        read = ("eval", folder, scene.store(SHORT), "--decoder", decoder)
        report = scene.nordocr(*read, "--device", scene.device)["report"]
        found[decoder] = report["total"]
    return found


def recipe_step(scene: Scene) -> dict[str, Any]:
    """Train the production model with the time left, and compare it with the shipped one on dev.

    Lines are rendered first, in a fifth of the time, where this machine has fonts.
    """
    reserve_s = 45.0  # for starting, the last evaluation, and the shipped recognizer
    usable_s = 3.0 if scene.tiny else max(20.0, scene.seconds - reserve_s)
    rendered = _rendered_lines(scene, usable_s / 5)
    folder = scene.work / "recipe"
    shutil.rmtree(folder, ignore_errors=True)
    minutes = round(usable_s * (0.8 if rendered else 1.0) / 60, 2)
    flags: list[object] = ["--max-minutes", minutes, "--run-dir", folder]
    flags += settings("train.save_every=100", f"data.num_workers={_workers()}")
    if scene.tiny:
        flags += [*_SMALL, *_FEW_LINES]
    else:
        lines = scene.known.get("train_speed", {}).get("eager", {}).get("batch_size")
        small_store = settings(f"train.batch_size={min(lines or 64, 64)}")
        flags += [*small_store, *settings("train.batch_by_arch={}")]
    for store in rendered:
        flags += ["--train", store]
    trained = scene.nordocr("train", *scene.profile, *_stores(scene), *flags)
    scene.keep({"trained": trained})
    shipped = ("eval", "nordocr-default", scene.store(DEV), "--device", scene.device)
    cer = scene.nordocr(*shipped)["report"]["total"]["rates"]["cer"]
    return {
        "minutes": minutes,
        "rendered_lines": sum(rendered.values()),
        "trained": trained,
        "shipped_cer": cer,
        "beats_the_shipped": trained["best_cer"] < cer,
    }


def _rendered_lines(scene: Scene, seconds: float) -> dict[Path, int]:
    """Render as many lines as `seconds` allow by the rate that was measured."""
    rate = scene.known.get("data_rates", {}).get("synth_lines_per_s")
    if not rate:
        return {}
    count = max(20, int(rate * seconds))
    store = scene.work / "rendered.lmdb"
    shutil.rmtree(store, ignore_errors=True)
    scene.nordocr(
        "synth", "-n", count, "-o", store, "--seed", 7, *synth_flags(scene), *scene.profile
    )
    return {store: count}


def synth_flags(scene: Scene) -> tuple[object, ...]:
    """All cores, and the fonts of the folder that travels, where it has some."""
    fonts = scene.folder / "fonts"
    own_fonts = ("--fonts", fonts) if fonts.is_dir() else ()
    return ("--workers", usable_cores(), *own_fonts)
