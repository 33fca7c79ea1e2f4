#!/usr/bin/env python3
"""Does `nordocr bench --baseline` cry wolf? One recognizer against itself, in real time, again and
again.

    python benchmarks/aa.py                         200 comparisons of each kind, the saved result
    python benchmarks/aa.py --comparisons 20        a first look, nothing saved

| kind | the second side | the sides' runs |
|---|---|---|
| `same, in turns` | is the first | alternate, as recognizers of one `nordocr bench` do |
| `same, one after the other` | is the first | follow each other, as a baseline and a later bench do
    |
| `slower by a tenth` | reads 11 lines for every 10 | alternate |

A run is the time for a few narrow sample lines with the recognizer that ships, on one thread; a
side has 10 runs. Few and short runs are harder to judge than a bench of a complete store.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from saving import save

from nordocr_cli.core.bench.verdict import compare_runs
from nordocr_cli.data.resize import read_image
from nordocr_cli.runtime.recognizers import open_recognizer
from nordocr_cli.runtime.specs import default_model
from nordocr_cli.runtime.stopwatch import measurement_environment

SAMPLES = Path(__file__).parents[1] / "samples" / "lines"
RUNS, LINES = 10, 10
MOST_ALARMS, LEAST_FOUND = 0.02, 0.95

Read = Callable[[], None]


def readers() -> tuple[Read, Read]:
    """What reads 10 lines, and what reads 11, one line a call: all lines are copies of one, so that
    the work is in proportion.
    """
    rows = map(
        json.loads, (SAMPLES / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    )
    narrow = min(rows, key=lambda row: len(row["text"]))
    recognizer, crop = (
        open_recognizer(default_model(), device="cpu", threads=1),
        read_image(SAMPLES / narrow["image"]),
    )

    def reading(count: int) -> Read:
        def read() -> None:
            for _ in range(count):
                recognizer.recognize([crop])

        return read

    return reading(LINES), reading(LINES + LINES // 10)


def seconds(read: Read) -> float:
    """How long it takes."""
    began = time.perf_counter()
    read()
    return time.perf_counter() - began


def in_turns(first: Read, second: Read) -> tuple[list[float], list[float]]:
    """The runs of both sides, alternating."""
    runs = [(seconds(first), seconds(second)) for _ in range(RUNS)]
    return [a for a, _ in runs], [b for _, b in runs]


def one_after_the_other(first: Read, second: Read) -> tuple[list[float], list[float]]:
    """The runs of one side, then those of the other."""
    return [seconds(first) for _ in range(RUNS)], [seconds(second) for _ in range(RUNS)]


def judged(
    measure: Callable[[Read, Read], tuple[list[float], list[float]]],
    pair: Sequence[Read],
    count: int,
) -> dict[str, Any]:
    """Compare so often, and count the verdicts."""
    found = [compare_runs("lines", *measure(*pair)) for _ in range(count)]
    verdicts = Counter(verdict.verdict for verdict in found)
    changes = sorted(verdict.change for verdict in found)
    at = (0.025, 0.5, 0.975)
    return {
        "comparisons": count,
        "verdicts": dict(verdicts),
        "share_told_apart": round((verdicts["slower"] + verdicts["faster"]) / count, 4),
        "change": {
            f"{100 * share:g} %": round(changes[round(share * (count - 1))], 4)
            for share in at
        },
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--comparisons", type=int, default=200)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="default: results/aa.json for a full run, else nothing",
    )
    args = parser.parse_args()
    ten, eleven = readers()
    for _ in range(RUNS):
        ten()  # warm
    kinds = {
        "same, in turns": judged(in_turns, (ten, ten), args.comparisons),
        "same, one after the other": judged(
            one_after_the_other, (ten, ten), args.comparisons
        ),
        "slower by a tenth": judged(in_turns, (ten, eleven), args.comparisons),
    }
    result = {
        "what": (
            f"{args.comparisons} comparisons of {RUNS} runs a side, {LINES} lines a run, one"
            " thread"
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(1),
        "kinds": kinds,
        "goals": {"most_alarms": MOST_ALARMS, "least_found": LEAST_FOUND},
    }
    print(json.dumps(result, indent=2))
    save(result, args.output, "aa.json", is_standard=args.comparisons >= 200)


if __name__ == "__main__":
    main()
