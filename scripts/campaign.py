#!/usr/bin/env python3
"""A campaign of fault injections: thousands of damaged files, hostile inputs, kills and full disks,
each of which must be refused with a message or change nothing.

    python scripts/campaign.py                        every kind, all trials: several hours
    python scripts/campaign.py --scale 0.01           one trial of a hundred: minutes
    python scripts/campaign.py --kinds stores,bombs   only these
    python scripts/campaign.py --minutes 20 --save    as far as the time allows, the saved result
    python scripts/campaign.py --resume --save        the trials after those of the saved result
    python scripts/campaign.py --retry --save         the failures of the saved result, after a fix

Same seed, same trials. The counts are written every minute. With --save they go to
benchmarks/results/campaign.json, where kinds that were not run keep their last counts, and the
table in docs/security.md is written from it. Linux only: it forks, kills and mounts.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from faults import artifacts, commands, inputs, options, special  # noqa: E402
from faults.trials import Kind, Tally, retry_failures, run_kind  # noqa: E402

from nordocr_cli.atomic import write_json, write_text  # noqa: E402
from nordocr_cli.runtime.stopwatch import measurement_environment  # noqa: E402

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        *artifacts.KINDS,
        *inputs.KINDS,
        *commands.KINDS,
        *options.KINDS,
        *special.KINDS,
    )
}
RESULT = ROOT / "benchmarks" / "results" / "campaign.json"
PAGE = ROOT / "docs" / "security.md"
_LEAST_S = 10.0  # for each kind, however little time is left
_BEGIN = "<!-- campaign: begin -->"
_END = "<!-- campaign: end -->"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the trials")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="", help=f"some of {', '.join(KINDS)}")
    parser.add_argument(
        "--minutes", type=float, help="stop after this time, shared by the kinds"
    )
    parser.add_argument(
        "--save", action="store_true", help="write campaign.json and its table"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from the counts that were written"
    )
    parser.add_argument(
        "--retry", action="store_true", help="run the failures that were written again"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="write the result to this file instead"
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="write the table of the saved result, run nothing",
    )
    return parser.parse_args()


def run_campaign(
    kinds: list[Kind],
    scale: float,
    seed: int,
    minutes: float | None = None,
    before: dict[str, Tally] | None = None,
    keep: Callable[[list[Tally]], None] = lambda _: None,
) -> list[Tally]:
    """Run all kinds in turn, print a line for each, and call `keep` with the counts now and then.
    With `minutes` a kind gets its part of the time that is left; `before` are counts to go on from.
    """
    end = time.monotonic() + minutes * 60 if minutes else float("inf")
    tallies: list[Tally] = []
    for number, kind in enumerate(kinds):
        left = len(kinds) - number
        most_s = max(_LEAST_S, (end - time.monotonic()) / left)
        done = tuple(tallies)
        tally = run_kind(
            kind,
            max(1, round(kind.goal * scale)),
            seed,
            most_s,
            before=(before or {}).get(kind.name),
            report=lambda tally, done=done: keep([*done, tally]),
        )
        tallies.append(tally)
        print(_line(tally), flush=True)
    return tallies


def _line(tally: Tally) -> str:
    return (
        f"{tally.name}: tried {tally.tried}, refused {tally.refused}, unchanged {tally.accepted},"
        f" wrong {tally.wrong}, crashed {tally.crashed}, signals {tally.signals},"
        f" hung {tally.hung} ({tally.seconds:.0f} s)"
    )


def to_result(tallies: list[Tally], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the campaign as plain JSON values. Kinds that were not run now are taken from the
    result `before`.
    """
    counted = {kind["name"]: kind for kind in (before or {}).get("kinds", [])}
    counted |= {tally.name: asdict(tally) for tally in tallies}
    return {
        "schema": "nordocr.campaign/1",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(1),
        "kinds": [counted[name] for name in KINDS if name in counted],
    }


def to_table(result: dict[str, Any]) -> str:
    """Return the table of docs/security.md."""
    rows = [
        "| kind of fault | tried | refused | harmless | wrong | crashed | signals | hung |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    counted = ("tried", "refused", "accepted", "wrong", "crashed", "signals", "hung")
    kinds = result["kinds"]
    rows += [
        f"| {kind['title']} | " + " | ".join(f"{kind[name]:,}" for name in counted) + " |"
        for kind in kinds
    ]
    totals = [sum(kind[name] for kind in kinds) for name in counted]
    rows.append("| **all** | " + " | ".join(f"{total:,}" for total in totals) + " |")
    goal = sum(kind["goal"] for kind in kinds)
    note = f"{str(result['when'])[:10]}; a full campaign has {goal:,} trials."
    return "\n".join([*rows, "", note])


def write_table() -> None:
    """Put the table of the saved result into docs/security.md."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    table = to_table(json.loads(RESULT.read_text(encoding="utf-8")))
    write_text(PAGE, f"{before}{_BEGIN}\n{table}\n{_END}{after}")


def main() -> None:
    """Run the campaign; exit 1 when a trial ended badly."""
    options = parse_arguments()
    if options.table:
        write_table()
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    names = [name for name in options.kinds.split(",") if name] or list(KINDS)
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        sys.exit(f"unknown kinds {', '.join(unknown)}; known: {', '.join(KINDS)}")
    kinds = [KINDS[name] for name in names]
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else None
    saved = before
    if options.output and options.output.is_file():
        saved = json.loads(options.output.read_text(encoding="utf-8"))
    counted = {}
    if (options.resume or options.retry) and saved:
        found = [Tally(**kind) for kind in saved["kinds"]]
        counted = {tally.name: tally for tally in found if tally.seed == options.seed}

    def keep(done: list[Tally]) -> None:
        """Write what is known so far: a campaign takes hours, and may be stopped."""
        if options.output:
            write_json(options.output, to_result(done))
        if options.save:
            write_json(RESULT, to_result(done, before))
            write_table()

    if options.retry:
        failed = [kind for kind in kinds if kind.name in counted and counted[kind.name].bad]
        tallies = [retry_failures(kind, counted[kind.name]) for kind in failed]
        keep(tallies)
    else:
        tallies = run_campaign(
            kinds, options.scale, options.seed, options.minutes, counted, keep
        )
    bad = sum(tally.bad for tally in tallies)
    tried = sum(tally.tried for tally in tallies)
    print(f"{tried:,} trials, {bad} bad")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
