"""Does the loader give as many lines for its processor time as in another checkout?

python benchmarks/loader_pairs.py OTHER --rounds 7

The checkouts take turns; each turn is a process that loads batches of the two sets of lines of
`benchmarks/loader.py` with the checkout's own code. The rates are lines for a second of processor
time, which other work on the machine disturbs less than the clock. The first pass over a store is
reported apart: it reads the labels and compares the checksum of each line once.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "loader-pairs.json"
LINES = 2000
FIRST_PASS = ", first pass"


def rates(checkout: Path, folder: Path, seconds: float) -> dict[str, float]:
    """Lines for a second of processor time by set and channels, with the code of `checkout`: in the
    first pass over a store, and in later passes.
    """
    place = checkout / "benchmarks" / "loader.py"
    specification = importlib.util.spec_from_file_location("loader", place)
    assert specification is not None
    assert specification.loader is not None
    loader = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loader)
    from nordocr_cli.data.store import LineStore

    found = {}
    for kind in ("fixed", "bucketed"):
        for channels in ("rgb", "gray"):
            path = folder / f"{kind}-{channels}.lmdb"
            if not path.exists():
                loader.write_store(path, loader.widths_of(kind, LINES), channels == "gray")
            with LineStore(path) as store:
                stream = loader.nordocr(store)
                found[f"{kind} {channels}{FIRST_PASS}"] = rate(stream, lines=LINES)
                # The batches that were filled ahead belong to the first pass.
                rate(stream, lines=LINES)
                found[f"{kind} {channels}"] = rate(stream, seconds=seconds)
                stream.close()
    return found


def rate(stream: Iterator[int], lines: int = 0, seconds: float = 0.0) -> float:
    """Lines for a second of processor time, over at least so many lines and seconds."""
    began = time.process_time()
    loaded = 0
    while loaded < lines or time.process_time() - began < seconds:
        loaded += next(stream)
    return loaded / (time.process_time() - began)


def turn(checkout: Path, folder: Path, seconds: float) -> dict[str, float]:
    """Run `rates` in a process that imports from `checkout`."""
    done = subprocess.run(
        [
            sys.executable,
            __file__,
            str(checkout),
            "--turn",
            str(folder),
            "--seconds",
            f"{seconds}",
        ],
        env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """The median of each side, the ratio this / other of each pair, and the ratio of the highest
    rates, which other work on the machine disturbed least.
    """
    found = {}
    for name in rounds[0]["this"]:
        this = [each["this"][name] for each in rounds]
        other = [each["other"][name] for each in rounds]
        found[name] = {
            "this": round(median(this)),
            "other": round(median(other)),
            "ratio_of_highest": round(max(this) / max(other), 3),
            "ratio_of_medians": round(median(this) / median(other), 3),
            "median_ratio_of_pairs": round(
                median(a / b for a, b in zip(this, other, strict=True)), 3
            ),
            "ratios_of_pairs": [round(a / b, 3) for a, b in zip(this, other, strict=True)],
        }
    return found


def main() -> None:
    """Measure by turns, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--name", default="", help="its commit, for the record")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--turn", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    if given.turn is not None:
        print(json.dumps(rates(given.other, given.turn, given.seconds)))
        return

    from nordocr_cli import atomic
    from nordocr_cli.runtime.stopwatch import measurement_environment

    environment = measurement_environment(1)
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        sides = {"this": ROOT, "other": given.other.resolve()}
        folders = {side: Path(name) / side for side in sides}
        for folder in folders.values():
            folder.mkdir()
        for number in range(given.rounds):
            order = list(sides) if number % 2 == 0 else list(sides)[::-1]
            rounds.append(
                {side: turn(sides[side], folders[side], given.seconds) for side in order}
            )
    result = {
        "what": f"lines for a second of processor time, {given.rounds} pairs of turns",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment,
        "other": given.name,
        "sets": summary(rounds),
    }
    print(json.dumps(result, indent=2))
    atomic.write_json(given.output, result)


if __name__ == "__main__":
    main()
