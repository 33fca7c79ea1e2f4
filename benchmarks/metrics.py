#!/usr/bin/env python3
"""How fast are the metrics? Against jiwer on the same pairs of texts, in turns.

    python benchmarks/metrics.py                              100,000 pairs, the saved result
    python benchmarks/metrics.py --pairs 10000 --rounds 3     a first look, nothing saved

| contestant | does |
|---|---|
| `jiwer` | `jiwer.cer` and `jiwer.wer` |
| `validation` | every metric of all lines together, as after an epoch of training |
| `all` | what `nordocr eval` reports: three views, classes, flags, confusions, characters,
    calibration, groups with intervals |

One pair in five is wrong, for the causes of corrupted.py in the shares that business documents
show. Every round visits every contestant; medians of the clock and of the processor are compared.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import jiwer
from corrupted import CAUSES, corrupt, sample_texts
from saving import has_defaults, save

from nordocr_cli.metrics.calibration import calibrate
from nordocr_cli.metrics.characters import score_characters
from nordocr_cli.metrics.group import GroupedLines
from nordocr_cli.metrics.report import report_of
from nordocr_cli.metrics.score import score_lines
from nordocr_cli.metrics.text import canonical
from nordocr_cli.records import LineResult
from nordocr_cli.runtime.stopwatch import measurement_environment

WRONG = 0.2
SHARES = (41, 5, 3, 2, 36, 13)  # of CAUSES


def lines(count: int) -> list[LineResult]:
    """Readings of sample texts with what eval knows of a line."""
    rng, texts = random.Random(1), list(map(canonical, sample_texts(shortest=2)))
    found = []
    for number in range(count):
        text = rng.choice(texts)
        wrong = rng.random() < WRONG
        found.append(
            LineResult(
                id=f"line {number}",
                reference=text,
                hypothesis=(
                    canonical(corrupt(text, rng.choices(CAUSES, SHARES)[0], rng))
                    if wrong
                    else text
                ),
                confidence=rng.betavariate(3, 2) if wrong else rng.betavariate(20, 1),
                language=("sv", "no", "da", "is")[number % 4],
                subset=f"subset {number % 9}",
                source=f"document {number // 50}:page",
                width=(len(text) * 12 + 3) // 4 * 4,
                squash_ratio=1.2 if number % 37 == 0 else 1.0,
                frames=len(text) * 3,
            )
        )
    return found


def with_jiwer(results: list[LineResult]) -> tuple[float, float]:
    """CER and WER."""
    references, readings = [r.reference for r in results], [r.hypothesis for r in results]
    return jiwer.cer(references, readings), jiwer.wer(references, readings)


def validation(results: list[LineResult]) -> tuple[float, float]:
    """Every metric, without groups and intervals."""
    rates = GroupedLines(score_lines(results)).total(intervals=False).rates
    return _cer_and_wer(rates)


def everything(results: list[LineResult]) -> tuple[float, float]:
    """All that eval reports."""
    scores = score_lines(results)
    report = report_of(scores)
    score_characters([(score.reference, score.hypothesis) for score in scores])
    calibrate((score.result.confidence, score.exact) for score in scores)
    return _cer_and_wer(report.total.rates)


def _cer_and_wer(rates: Mapping[str, float | None]) -> tuple[float, float]:
    cer, wer = rates["cer"], rates["wer"]
    assert cer is not None
    assert wer is not None
    return cer, wer


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="default: results/metrics.json for a full run, else nothing",
    )
    args = parser.parse_args()
    results = lines(args.pairs)
    contestants: dict[str, Callable[[list[LineResult]], tuple[float, float]]] = {
        "jiwer": with_jiwer,
        "validation": validation,
        "all": everything,
    }
    clock: dict[str, list[float]] = {name: [] for name in contestants}
    processor: dict[str, list[float]] = {name: [] for name in contestants}
    figures: dict[str, tuple[float, float]] = {}
    names = list(contestants)
    for number in range(args.rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began, spent = time.perf_counter(), time.process_time()
            figures[name] = contestants[name](results)
            clock[name].append(round(time.perf_counter() - began, 4))
            processor[name].append(round(time.process_time() - spent, 4))
            print(
                f"round {number + 1}: {name} {clock[name][-1]:.3f} s, processor"
                f" {processor[name][-1]:.3f} s",
                flush=True,
            )
    # The pairs are canonical already, so all three count the same.
    for name, figure in figures.items():
        assert all(
            abs(a - b) < 1e-9 for a, b in zip(figure, figures["jiwer"], strict=True)
        ), (
            name,
            figures,
        )
    of_jiwer = {
        what: {
            name: round(median(seconds[name]) / median(seconds["jiwer"]), 4)
            for name in ("validation", "all")
        }
        for what, seconds in (("clock", clock), ("processor", processor))
    }
    result: dict[str, Any] = {
        "what": (
            f"metrics of {args.pairs} pairs of texts, {100 * WRONG:.0f} % of them wrong, against"
            " jiwer's CER and WER"
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": (
            measurement_environment(None)
            | {"jiwer": jiwer.__version__ if hasattr(jiwer, "__version__") else None}
        ),
        "rounds": args.rounds,
        "seconds": {"clock": clock, "processor": processor},
        "share_of_jiwer": of_jiwer,
        "goals": {"validation": 0.3, "all": 0.5},
    }
    print(json.dumps(of_jiwer, indent=2))
    is_standard = has_defaults(parser, args, "pairs", "rounds")
    save(result, args.output, "metrics.json", is_standard=is_standard)


if __name__ == "__main__":
    main()
