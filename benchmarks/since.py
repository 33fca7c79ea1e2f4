"""Do training and reading take as much processor time as in another checkout?

python benchmarks/since.py OTHER --name 2914bb9

The checkouts take turns; each turn is a process with one thread that runs the checkout's own code:

| what | is |
|---|---|
| reading | `predict` on 300 sample lines with the other checkout's int8 and fp32 weights |
| training | steps of SVTRv2-tiny as in `benchmarks/train.py`, with and without augmentation |

The time of reading includes opening the network; a first training step warms up. Rates are lines
for a second of processor time, which other work on the machine disturbs less than the clock. Both
checkouts have the same lines, weights, and batches of the same width; the texts are compared.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "since-2914bb9.json"
SAMPLES = ROOT / "samples" / "lines" / "manifest.jsonl"
LINES = 300
PRECISIONS = {"int8": "nordocr-default.int8.onnx", "fp32": "nordocr-default.onnx"}
MIN_RATIO = 0.97


def sample_lines() -> list[Path]:
    """The image files of the first sample lines."""
    rows = [json.loads(row) for row in SAMPLES.read_text(encoding="utf-8").splitlines()]
    return [SAMPLES.parent / row["image"] for row in rows[:LINES]]


def read_rate(model: Path) -> tuple[float, list[str]]:
    """Lines for a second of processor time with a network, opening included, and their texts."""
    package = importlib.import_module("nordocr_cli.core.predict")
    if not hasattr(package, "predict"):
        package = importlib.import_module("nordocr_cli.core.predict.run")
    images = sample_lines()
    began = time.process_time()
    prediction = package.predict(
        images, str(model), threads=1, layout="line", decoder="greedy"
    )
    texts = ["".join(line.reading.text for line in page.lines) for page in prediction.pages]
    return len(images) / (time.process_time() - began), texts


def train_rates(checkout: Path, store_path: Path, steps: int) -> dict[str, float]:
    """Lines for a second of processor time in training steps, by what is done with the lines."""
    sys.path.insert(0, str(checkout / "benchmarks"))
    import torch

    train = importlib.import_module("train")
    profile = train.load_profile("svtrv2-1024", train.SETS).profile
    torch.set_num_threads(1)
    found = {}
    with train.LineStore(store_path) as store:
        contestants = train.contestants(profile, store, torch.device("cpu"))
        for name in ("bare", "nordocr"):
            contestant = contestants[name]
            contestant.step([next(contestant.batches)])  # warms up
            began = time.process_time()
            lines = 0
            for _ in range(steps):
                batch = next(contestant.batches)
                contestant.step([batch])
                lines += batch.lines
            found[name] = lines / (time.process_time() - began)
        for contestant in contestants.values():
            contestant.close()
    return found


def measure_turn(checkout: Path, other: Path, store: Path, steps: int) -> dict[str, Any]:
    """All rates of one turn, with the code of `checkout`, and the texts that it read."""
    rates: dict[str, float] = {}
    texts = {}
    for name, file in PRECISIONS.items():
        weights = other / "nordocr_cli" / "weights" / file
        rates[f"reading {name}"], texts[name] = read_rate(weights)
    for name, rate in train_rates(checkout, store, steps).items():
        rates[f"training {name}"] = rate
    return {"rates": rates, "texts": texts}


def turn(checkout: Path, other: Path, store: Path, steps: int) -> dict[str, Any]:
    """Run `measure_turn` in a process that imports from `checkout`."""
    arguments = [str(other), "--turn", str(checkout), "--store", str(store)]
    done = subprocess.run(
        [sys.executable, __file__, *arguments, "--steps", f"{steps}"],
        env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def summary(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Medians of each side and of the ratios this / other of the pairs."""
    found = {}
    for name in rounds[0]["this"]["rates"]:
        this = [each["this"]["rates"][name] for each in rounds]
        other = [each["other"]["rates"][name] for each in rounds]
        ratios = [a / b for a, b in zip(this, other, strict=True)]
        found[name] = {
            "this_lines_per_core_s": round(median(this), 1),
            "other_lines_per_core_s": round(median(other), 1),
            "median_ratio_of_pairs": round(median(ratios), 3),
            "ratio_of_medians": round(median(this) / median(other), 3),
            "ratio_of_highest": round(max(this) / max(other), 3),
            "ratios_of_pairs": [round(ratio, 3) for ratio in ratios],
        }
    return found


def same_texts(both: dict[str, dict[str, Any]]) -> dict[str, int]:
    """How many lines the two checkouts read alike, by precision."""
    return {
        name: sum(
            a == b
            for a, b in zip(
                both["this"]["texts"][name], both["other"]["texts"][name], strict=True
            )
        )
        for name in PRECISIONS
    }


def main() -> None:
    """Measure by turns, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--name", default="", help="its commit, for the record")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4, help="training steps in a turn")
    parser.add_argument("--turn", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    if given.turn is not None:
        print(json.dumps(measure_turn(given.turn, given.other, given.store, given.steps)))
        return

    from nordocr_cli import atomic
    from nordocr_cli.runtime.stopwatch import measurement_environment

    environment = measurement_environment(1)
    other = given.other.resolve()
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        sides = {"this": ROOT, "other": other}
        # The other checkout writes the store: this one reads what older ones wrote.
        store = Path(folder) / "lines.lmdb"
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from pathlib import Path; import train;"
                " train.write_store(Path(sys.argv[1]), train.line_widths(600), gray=True)",
                str(store),
            ],
            cwd=other / "benchmarks",
            env={**os.environ, "PYTHONPATH": str(other)},
            check=True,
        )
        for number in range(given.rounds):
            order = list(sides) if number % 2 == 0 else list(sides)[::-1]
            rounds.append(
                {side: turn(sides[side], other, store, given.steps) for side in order}
            )
            print(f"round {number + 1}: {rounds[-1]['this']['rates']}", file=sys.stderr)
    result = {
        "what": f"lines for a second of processor time, {given.rounds} pairs of turns",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment,
        "other": given.name,
        "goals": {"min_ratio": MIN_RATIO},
        "rates": summary(rounds),
        "lines_read_alike": {"of": LINES} | same_texts(rounds[0]),
    }
    print(json.dumps(result, indent=2))
    atomic.write_json(given.output, result)


if __name__ == "__main__":
    main()
