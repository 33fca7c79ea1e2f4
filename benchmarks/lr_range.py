#!/usr/bin/env python3
"""Is the rate that `train --lr-range` suggests a good one?

    python benchmarks/lr_range.py --work work --real LINES.jsonl -m WEIGHTS
        three tasks, a range test and a grid of short trainings each; the saved result

The tasks: real lines for weights that have seen none, rendered lines for the shipped weights (both
judged by the CER on held-out lines of the same kind), and a small network from nothing (judged by
the training loss of the last steps, since it reads nothing yet). Lines are narrow and trainings
short, so that it ends within half an hour of one core. Each rate is trained with two seeds, and
judged by their mean; a rate is tied with the best one where the ranges of their seeds overlap. The
suggestion is within a factor of three of the best rate, or of a tied one, or of neither. Trainings
are kept in the work folder, so that the range test alone can be run again.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nordocr_cli import atomic
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.core.train.lr_range import LrRange, lr_range
from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.core.train.run import train
from nordocr_cli.profile import ResolvedProfile, load_profile
from nordocr_cli.runtime.stopwatch import measurement_environment

RESULTS = Path(__file__).parent / "results" / "lr-range.json"
SAMPLES = Path(__file__).parents[1] / "samples"
NORDOCR = (sys.executable, "-m", "nordocr_cli")
GRID = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SEEDS = (1, 2)
BATCH = 8
WIDEST_PX = 320  # at height 32
FACTOR = 3.0
TOO_MUCH_WORSE = 2.0  # the grid ends above a rate whose result is so many times the best


@dataclass(frozen=True)
class Task:
    """One task: the line stores, what the network starts from, and `--set` values."""

    name: str
    train: Path
    val: Path
    load: Path | None
    sets: tuple[str, ...]


def call(*words: object) -> str:
    """Run a command of nordocr; return its stdout."""
    command = [*NORDOCR, *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    if done.returncode not in (0, 4):
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return done.stdout


def real_stores(manifest: Path, work: Path, profile: str) -> tuple[Path, Path]:
    """Prepare stores of narrow real lines, 600 to train on and 200 of other documents."""
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    narrow = [row for row in rows if 60 <= row["width32"] <= WIDEST_PX]
    documents = sorted({row["source"] for row in narrow})
    random.Random(1).shuffle(documents)
    held_out = set(documents[: len(documents) // 3])
    parts = {
        "real": [row for row in narrow if row["source"] not in held_out][:400],
        "real-val": [row for row in narrow if row["source"] in held_out][:100],
    }
    return prepared(parts, manifest.parent, work, profile)


def rendered_stores(work: Path, profile: str) -> tuple[Path, Path]:
    """Render narrow lines."""
    for name, count, seed in (("rendered", 400, 5), ("rendered-val", 100, 6)):
        if not (work / f"{name}.lmdb").is_dir():
            call(
                *("synth", "-o", work / f"{name}.lmdb", "-n", count, "-p", profile),
                *("--fonts", SAMPLES / "train" / "fonts.tsv", "--seed", seed),
                *("--max-characters", 30),
            )
    return work / "rendered.lmdb", work / "rendered-val.lmdb"


def prepared(
    parts: dict[str, list[dict[str, Any]]], images: Path, work: Path, profile: str
) -> tuple[Path, Path]:
    """Write rows as line stores of the charset nordic-ext."""
    stores = []
    for name, rows in parts.items():
        manifest = work / f"{name}.jsonl"
        atomic.write_text(manifest, "".join(json.dumps(row) + "\n" for row in rows))
        store = work / f"{name}.lmdb"
        if not store.is_dir():
            call(
                *("prep", f"{manifest}:{images}", "-o", store, "-p", profile),
                *("--oov", "skip", "--on-bad", "skip"),
            )
        stores.append(store)
    return stores[0], stores[1]


def profile_of(task: Task, *sets: str) -> ResolvedProfile:
    """Return the profile of a task."""
    return load_profile("default", [f"train.batch_size={BATCH}", *task.sets, *sets])


def suggestion(task: Task, work: Path, steps: int) -> LrRange:
    """Run the range test."""
    request = _request(task, None, steps)
    return lr_range(profile_of(task), request, work / f"{task.name}.png")


def _request(task: Task, run_dir: Path | None, steps: int) -> TrainRequest:
    return TrainRequest(
        (task.train,),
        (task.val,),
        run_dir,
        load=task.load,
        max_steps=steps,
        threads=1,
        device="cpu",
    )


def trained(task: Task, work: Path, lr: float, steps: int, seed: int) -> dict[str, float]:
    """Train with a rate (once; the result is kept); return the last CER and the loss of the last
    third of the steps."""
    run_dir = work / f"run-{task.name}-{lr:g}-{seed}-{steps}"
    kept = run_dir.with_name(f"{run_dir.name}.json")
    if kept.is_file():
        found: dict[str, float] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    shutil.rmtree(run_dir, ignore_errors=True)
    profile = profile_of(
        task,
        f"train.lr={lr:g}",
        f"train.seed={seed}",
        "train.log_every=1",
        f"train.eval_every={steps}",
        "train.ema_decay=0.9",
        "train.save_every=1000",
    )
    train(profile, _request(task, run_dir, steps))
    rows = [
        json.loads(line)
        for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    cers = [row["cer"] for row in rows if row["kind"] == "eval"]
    shutil.rmtree(run_dir)
    last_third = losses[-(len(losses) // 3) :]
    print(f"{task.name}: lr {lr:g}, CER {cers[-1]:.4f}", flush=True)
    found = {"lr": lr, "seed": seed, "cer": cers[-1], "loss": statistics.mean(last_third)}
    atomic.write_text(kept, json.dumps(found))
    return found


def of_rate(
    task: Task, work: Path, lr: float, steps: int, judged_by: str
) -> dict[str, Any]:
    """Train with a rate and each seed; return the mean of what it is judged by, and the range."""
    runs = [trained(task, work, lr, steps, seed) for seed in SEEDS]
    values = [run[judged_by] for run in runs]
    return {
        "lr": lr,
        "mean": statistics.mean(values),
        "low": min(values),
        "high": max(values),
        "runs": runs,
    }


def measure(task: Task, work: Path, steps: int, range_steps: int) -> dict[str, Any]:
    """Run the range test and the grid of one task."""
    found = suggestion(task, work, range_steps)
    judged_by = "cer" if task.load else "loss"
    grid: list[dict[str, Any]] = []
    for lr in GRID:
        grid.append(of_rate(task, work, lr, steps, judged_by))
        if grid[-1]["mean"] > TOO_MUCH_WORSE * min(one["mean"] for one in grid):
            break
    best = min(grid, key=lambda one: one["mean"])
    tied = [one["lr"] for one in grid if one["low"] <= best["high"]]
    record: dict[str, Any] = {
        "task": task.name,
        "judged_by": judged_by,
        "suggested": found.lr,
        "verdict": found.verdict,
        "range": {
            "rates": list(found.rates),
            "losses": list(found.losses),
            "start_losses": list(found.start_losses),
        },
        "grid": grid,
        "best": best["lr"],
        "tied_with_best": tied,
    }
    if found.lr:
        own = of_rate(task, work, found.lr, steps, judged_by)
        record["with_suggested"] = own
        record["ratio"] = found.lr / best["lr"]
        record["within_factor_3"] = near(found.lr, best["lr"])
        record["within_factor_3_of_tied"] = any(near(found.lr, lr) for lr in tied)
        record["no_worse_than_noise"] = own["low"] <= best["high"]
    return record


def near(one: float, other: float) -> bool:
    """Whether two rates are within the factor."""
    return 1 / FACTOR <= one / other <= FACTOR


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--real", type=Path, required=True, help="manifest of real lines")
    parser.add_argument(
        "-m", "--model", type=Path, required=True, help="weights that have seen none"
    )
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--range-steps", type=int, default=100)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument(
        "--resume", action="store_true", help="keep the tasks that are in the output"
    )
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    real = real_stores(options.real, work, "default")
    rendered = rendered_stores(work, "default")
    small = ("model.dims=[24, 48, 64]", "model.depths=[1, 1, 1]")
    tasks = (
        Task("real lines", *real, options.model, ()),
        Task("from nothing", *rendered, None, small),
        Task("rendered lines", *rendered, find_weights(Path("nordocr-default-ext")), ()),
    )
    result: dict[str, Any] = {
        "schema": "nordocr.benchmark.lr-range/1",
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(1),
        "steps": options.steps,
        "lines_a_step": BATCH,
        "tasks": [],
    }
    measured = {}
    if options.resume:
        saved = json.loads(options.output.read_text(encoding="utf-8"))
        measured = {one["task"]: one for one in saved["tasks"]}
    for task in tasks:
        record = measured.get(task.name)
        if record is None:
            record = measure(task, work, options.steps, options.range_steps)
        result["tasks"].append(record)
        atomic.write_text(
            options.output, json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        )


if __name__ == "__main__":
    main()
