"""The steps of the proof by name, and those that neither train nor read. A step returns plain JSON
values; it raises StepFailed with a sentence where something does not hold. Most go through the
command line, as users do.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nordocr_cli.core.gpu_proof import reading_steps, training_steps
from nordocr_cli.core.gpu_proof.scene import Scene, StepFailed
from nordocr_cli.cores import usable_cores

_SHOWN_LINES = 6


def environment_step(scene: Scene) -> dict[str, Any]:
    """Device, versions, and the peak of matrix products."""
    from nordocr_cli.core.gpu_proof.measure import choose, describe_device, matrix_peaks
    from nordocr_cli.runtime.stopwatch import measurement_environment

    device = choose(scene.device)
    size = 256 if device.type == "cpu" else 8192
    return {
        "device": describe_device(device),
        "machine": measurement_environment(None),
        "usable_cores": usable_cores(),
        "peak_tflops": matrix_peaks(device, size),
        "trtexec": shutil.which("trtexec"),
    }


def networks(scene: Scene) -> dict[str, Any]:
    """Every network, and every form of Mamba's scan, computes on the device what it does on the
    CPU.
    """
    from nordocr_cli.core.gpu_proof.measure import choose, compare_networks, compare_scans

    device = choose(scene.device)
    found = {"networks": list(compare_networks(device))}
    scene.keep(found)
    found["scans"] = list(compare_scans(device))
    scene.keep(found)
    wrong = [each["profile"] for each in found["networks"] if not each["equal"]]
    wrong += [
        f"{each['scan']} scan of {each['steps']} steps"
        for each in found["scans"]
        if not each["equal"]
    ]
    if wrong:
        raise StepFailed(f"differ from the CPU: {', '.join(wrong)}")
    return found


def gpu_tests(scene: Scene) -> dict[str, Any]:
    """The tests that need a GPU, where the folder or the checkout has them."""
    tests = next((p for p in (scene.folder / "tests", Path("tests")) if p.is_dir()), None)
    if tests is None:
        raise StepFailed("no folder of tests next to the line stores or here")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(tests / "gpu")]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    if done.returncode not in (0, 5):
        raise StepFailed(" | ".join(lines[-_SHOWN_LINES:]))
    return {"summary": lines[-1]}


def doctor_step(scene: Scene) -> dict[str, Any]:
    """A few training steps timed by `doctor --train`."""
    found = scene.nordocr("doctor", "--train", "--device", scene.device)
    return {"train": found["train"]}


def data_rates(scene: Scene) -> dict[str, Any]:
    """Lines a second of prep and synth on this machine."""
    images = scene.work / "prep"
    reading_steps.write_drawn_lines(images, 40 if scene.tiny else 1000)
    labels = "".join(f"{path.name}\t7 811\n" for path in sorted(images.glob("*.png")))
    (images / "labels.tsv").write_text(labels, encoding="utf-8")
    target = scene.work / "prepared.lmdb"
    shutil.rmtree(target, ignore_errors=True)
    began = time.monotonic()
    scene.nordocr("prep", images / "labels.tsv", "-o", target, *scene.profile)
    spent = time.monotonic() - began
    result: dict[str, Any] = {"prep_lines_per_s": round(labels.count("\n") / spent)}
    scene.keep(result)

    synthetic = scene.work / "synthetic.lmdb"
    shutil.rmtree(synthetic, ignore_errors=True)
    number = 20 if scene.tiny else 2000
    flags = ("-n", number, "-o", synthetic, *training_steps.synth_flags(scene))
    began = time.monotonic()
    try:
        scene.nordocr("synth", *flags, *scene.profile)
    except StepFailed as error:  # a machine without fonts
        return {**result, "synth": str(error)}
    result["synth_lines_per_s"] = round(number / (time.monotonic() - began), 1)
    return result


RUN: Mapping[str, Callable[[Scene], dict[str, Any]]] = {
    "environment": environment_step,
    "data_rates": data_rates,
    "train_speed": training_steps.train_speed,
    "loader": training_steps.loader,
    "networks": networks,
    "train_losses": training_steps.train_losses,
    "batch_memory": training_steps.batch_memory,
    "gpu_tests": gpu_tests,
    "export": reading_steps.export_step,
    "resume": training_steps.resume,
    "torchrun": training_steps.torchrun,
    "doctor": doctor_step,
    "parseq": training_steps.parseq,
    "inference": reading_steps.inference,
    "accuracy": reading_steps.accuracy_step,
    "tensorrt": reading_steps.tensorrt,
    "tensorrt_rtx": reading_steps.tensorrt_rtx,
    "recipe": training_steps.recipe_step,
}
