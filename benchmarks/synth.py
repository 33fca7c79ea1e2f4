#!/usr/bin/env python3
"""How many lines a second does one core render, and what takes the time?

    python benchmarks/synth.py                                  3,000 lines, the saved result
    python benchmarks/synth.py --lines 200 --rounds 1           a first look, nothing saved

Lines are rendered as for a store, in this process: drawn, damaged, cut out, scaled to height 32,
encoded. The rate is taken without looking inside; then the same lines are rendered once more, with
a clock around each stage, for the shares.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import cv2
from saving import has_defaults, save

from nordocr_cli.core.synth import run as synth
from nordocr_cli.core.synth.run import RESAMPLERS, Job, prepare_job
from nordocr_cli.data.synth import render
from nordocr_cli.data.synth.damage import DamageStep
from nordocr_cli.data.synth.fonts import FontPicker
from nordocr_cli.data.synth.texts import TextSource
from nordocr_cli.profile import load_profile
from nordocr_cli.runtime.stopwatch import measurement_environment

# Stage → the functions that are it: where they are looked up, and their names. None of them calls
# another one.
STAGES: dict[str, tuple[tuple[Any, str], ...]] = {
    "texts": ((TextSource, "draw"),),
    "fonts": ((FontPicker, "draw"),),
    "letters": ((render, "_draw_cells"), (render, "_scaled")),
    "surroundings, skew, curl": tuple(
        (render, name) for name in ("_surroundings", "_slivers", "_rotated", "_bend")
    ),
    "damage": ((DamageStep, "apply"), (render, "_on_paper"), (render, "_show_through")),
    "crop": ((render, "_crop_box"),),
    "legibility": ((render, "_is_legible"),),
    "resize": ((synth, "resize_line"),),
    "encode": ((synth, "encode_line"),),
}


def render_all(job: Job, lines: range) -> None:
    """Render them as a store's worker does."""
    for index in lines:
        job.stored_line(index)


def shares(job: Job, lines: range) -> dict[str, float]:
    """Share of the time of each stage; what is left is `rest`."""
    spent: dict[str, float] = defaultdict(float)
    originals = [
        (owner, name, getattr(owner, name))
        for places in STAGES.values()
        for owner, name in places
    ]

    def clocked(function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                spent[stage] += time.perf_counter() - began

        return run

    for stage, places in STAGES.items():
        for owner, name in places:
            setattr(owner, name, clocked(getattr(owner, name), stage))
    began = time.perf_counter()
    try:
        render_all(job, lines)
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)
    total = time.perf_counter() - began
    spent["rest"] = total - sum(spent.values())
    return {stage: round(spent[stage] / total, 4) for stage in (*STAGES, "rest")}


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", default="svtrv2-1024")
    parser.add_argument(
        "--fonts", type=Path, help="folder or list of fonts; default: the system's"
    )
    parser.add_argument(
        "--texts", type=Path, help="folder of corpora; default: built-in texts"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="default: results/synth.json for a full run, else nothing",
    )
    args = parser.parse_args()
    cv2.setNumThreads(1)
    profile = load_profile(args.profile).profile
    job, _ = prepare_job(
        profile.geometry,
        profile.load_charset(),
        seed=1,
        fonts=args.fonts,
        texts=args.texts,
        resamplers=RESAMPLERS,
    )
    render_all(job, range(-100, 0))  # opens fonts, reads the corpus, makes the noise
    clock, processor = [], []
    for number in range(args.rounds):
        began, spent = time.perf_counter(), time.process_time()
        render_all(job, range(number * args.lines, (number + 1) * args.lines))
        clock.append(args.lines / (time.perf_counter() - began))
        processor.append(args.lines / (time.process_time() - spent))
        print(f"round {number + 1}: {clock[-1]:.0f} lines/s, processor {processor[-1]:.0f}")
    result = {
        "what": (
            f"synth, lines/s of one core: {args.profile}, {len(job.faces)} faces, store records"
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(1),
        "lines_a_round": args.lines,
        "lines_per_s": {
            "clock": round(median(clock), 1),
            "processor": round(median(processor), 1),
        },
        "rounds": {
            "clock": [round(rate, 1) for rate in clock],
            "processor": [round(rate, 1) for rate in processor],
        },
        "shares": shares(job, range(args.lines)),
    }
    print(json.dumps({name: result[name] for name in ("lines_per_s", "shares")}, indent=2))
    is_standard = has_defaults(parser, args, "lines", "rounds")
    save(result, args.output, "synth.json", is_standard=is_standard)


if __name__ == "__main__":
    main()
