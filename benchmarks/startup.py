"""How long the program takes to start: help, and the import of the package.

python benchmarks/startup.py                     this checkout alone
python benchmarks/startup.py --baseline FOLDER   and another checkout, by turns

Both checkouts run with the same Python and its packages. In each round every command runs once
in each checkout, so that other work on the machine slows both alike. The ratios compare medians.
Wall time is what a user waits; processor time is less sensitive to other work.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nordocr_cli import atomic
from nordocr_cli.runtime.stopwatch import measurement_environment

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "startup.json"

# Nothing of ours: its ratio shows how much the machine disturbed the measurement.
PYTHON_ALONE = "python alone"
COMMANDS = {
    "nordocr --help": ("-m", "nordocr_cli", "--help"),
    "nordocr read --help": ("-m", "nordocr_cli", "predict", "--help"),
    "nordocr train --help": ("-m", "nordocr_cli", "train", "--help"),
    "import nordocr": ("-c", "import nordocr"),
    PYTHON_ALONE: ("-c", "pass"),
}
# A slower start than this against the baseline is a regression.
MAX_RATIO = 1.03


def measure(checkout: Path, arguments: tuple[str, ...]) -> tuple[float, float] | None:
    """Return the wall and processor seconds of one start; None when the command failed."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=checkout,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        return None
    return wall_s, usage.ru_utime + usage.ru_stime


def figures(measured: list[tuple[float, float]]) -> dict[str, float]:
    """Return minimum and median of the seconds of several starts."""
    wall = [wall_s for wall_s, _ in measured]
    processor = [processor_s for _, processor_s in measured]
    return {
        "wall_min_s": round(min(wall), 4),
        "wall_median_s": round(statistics.median(wall), 4),
        "processor_min_s": round(min(processor), 4),
        "processor_median_s": round(statistics.median(processor), 4),
    }


def compare(checkouts: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Time every command in every checkout, by turns."""
    measured: dict[str, dict[str, list[tuple[float, float]]]] = {
        command: {name: [] for name in checkouts} for command in COMMANDS
    }
    for round_number in range(rounds + 1):
        for command, arguments in COMMANDS.items():
            for name, checkout in checkouts.items():
                found = measure(checkout, arguments)
                # The first round compiles the modules.
                if found is not None and round_number > 0:
                    measured[command][name].append(found)

    rows: dict[str, Any] = {}
    for command, by_checkout in measured.items():
        row: dict[str, Any] = {
            name: figures(values) for name, values in by_checkout.items() if values
        }
        if "baseline" in row and "this" in row:
            row["processor_ratio"] = _ratio(row, "processor_median_s")
            row["wall_ratio"] = _ratio(row, "wall_median_s")
        rows[command] = row
    return rows


def _ratio(row: dict[str, Any], name: str) -> float:
    return round(row["this"][name] / row["baseline"][name], 3)


def main() -> None:
    """Measure, print and save; exit 1 when a start got slower than the baseline's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--baseline", type=Path, help="another checkout to compare with")
    parser.add_argument("--baseline-name", default="", help="its commit, for the record")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()

    checkouts = {"this": ROOT}
    if given.baseline is not None:
        checkouts["baseline"] = given.baseline.resolve()
    environment = measurement_environment(1)
    rows = compare(checkouts, given.rounds)
    result = {
        "what": f"medians of {given.rounds} starts of each command, the checkouts by turns",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment,
        "baseline": given.baseline_name,
        "goals": {"max_processor_ratio": MAX_RATIO},
        "commands": rows,
    }
    print(json.dumps(result, indent=2))
    atomic.write_json(given.output, result)

    ours = [row for command, row in rows.items() if command != PYTHON_ALONE]
    ratios = [row.get("processor_ratio", 0.0) for row in ours]
    if max(ratios) > MAX_RATIO:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
