#!/usr/bin/env python3
"""How much memory does a training take over time?

    python benchmarks/train_memory.py --name "10 minutes" --run-dir runs/a -- nordocr train …
        runs the command, and adds what was measured to the result file
    python benchmarks/train_memory.py --name "an hour" --run-dir runs/a --pid 1234
        watches a process that runs already, until it ends or --minutes have passed

Every half minute the kernel's figures of the process are read: `anonymous` is the memory of the
process itself; `files` are pages of the line stores, which LMDB maps and which the kernel takes
back when others need them.
"""

import argparse
import json
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nordocr_cli import atomic
from nordocr_cli.runtime.stopwatch import measurement_environment

RESULTS = Path(__file__).parent / "results" / "train-memory.json"
EVERY_S = 30
FIELDS = {"RssAnon": "anonymous_mb", "RssFile": "files_mb", "VmRSS": "resident_mb"}


def sample(pid: int) -> dict[str, int]:
    """Return the memory of a process in MB; empty when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return {}
    values = (line.split() for line in status.splitlines() if ":" in line)
    return {
        FIELDS[words[0].rstrip(":")]: round(int(words[1]) / 1024)
        for words in values
        if words[0].rstrip(":") in FIELDS
    }


def last_step(run_dir: Path) -> int:
    """Return the last step that a run has logged."""
    metrics = run_dir / "metrics.jsonl"
    if not metrics.is_file():
        return 0
    lines = metrics.read_text(encoding="utf-8").strip().splitlines()
    return int(json.loads(lines[-1])["step"]) if lines else 0


def watch(pid: int, run_dir: Path, minutes: float | None) -> list[dict[str, Any]]:
    """Sample a process until it ends, or `minutes` have passed."""
    began = time.monotonic()
    samples: list[dict[str, Any]] = []
    while True:
        now = (time.monotonic() - began) / 60
        found = sample(pid)
        if not found or (minutes and now > minutes):
            return samples
        samples.append({"minute": round(now, 1), "step": last_step(run_dir), **found})
        time.sleep(EVERY_S)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--pid", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument(
        "--note", default="", help="what the result file says about the run"
    )
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument("command", nargs="*")
    options = parser.parse_args()
    if options.pid:
        samples = watch(options.pid, options.run_dir, options.minutes)
    else:
        process = subprocess.Popen(options.command)
        samples = watch(process.pid, options.run_dir, options.minutes)
    record = {
        "name": options.name,
        "note": options.note,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(1),
        "minutes": samples[-1]["minute"],
        "steps": samples[-1]["step"],
        "most": {name: max(one[name] for one in samples) for name in FIELDS.values()},
        "samples": samples,
    }
    saved: dict[str, Any] = {"schema": "nordocr.benchmark.train-memory/1", "runs": []}
    if options.output.is_file():
        saved = json.loads(options.output.read_text(encoding="utf-8"))
    others = [one for one in saved["runs"] if one["name"] != record["name"]]
    saved["runs"] = [*others, record]
    atomic.write_text(
        options.output, json.dumps(saved, indent=1, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    main()
