#!/usr/bin/env python3
"""Does a comparison raise false alarms, and does it find what is there? Lines of one document fail
together, so the trials draw documents of different difficulty.

    python benchmarks/significance.py                       the saved result
    python benchmarks/significance.py --comparisons 40      a first look, nothing saved

| trial | the second recognizer |
|---|---|
| `same` | is as good: every difference is chance (an A/A comparison) |
| `same, five documents` | the same, of too few documents to tell |
| `same, one bad scan` | the same, but loses all lines of one document |
| `better by N points` | has N percentage points more exact lines |

`by line` judges the same trials as if lines were independent, which is what McNemar's test does.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from saving import save

from nordocr_cli.metrics.significance import ALPHA, Comparison, compare_pairs
from nordocr_cli.runtime.stopwatch import measurement_environment

DOCUMENTS, LINES_PER_DOCUMENT, LINE_LENGTH = 60, 20, 25
ERROR_RATE = 0.15  # share of lines with errors, on average
SPREAD = 1.0  # of the documents' difficulty and of each recognizer's own luck, in log odds
MAX_ALARMS = 0.02
TIMED_LINES = 12_000
GAINS = (2, 4, 6, 8)  # percentage points of exact lines


def draw_errors(
    difficulty: NDArray[np.float64], gain: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Edits of each line, (documents, LINES_PER_DOCUMENT): documents have a difficulty in common to
    both recognizers, and each recognizer has its own luck with a document.
    """
    luck = rng.normal(0, SPREAD / 2, len(difficulty))
    odds = np.log(ERROR_RATE / (1 - ERROR_RATE)) + difficulty + luck
    probability = np.clip(1 / (1 + np.exp(-odds)) - gain, 0, 1)[:, None]
    wrong = rng.random((len(difficulty), LINES_PER_DOCUMENT)) < probability
    return wrong * rng.integers(1, 6, wrong.shape)


def compare(
    a: NDArray[np.int64], b: NDArray[np.int64], documents: Sequence[str] | None
) -> Comparison:
    """Compare two recognizers' edits, (documents, lines) each."""
    edits_a, edits_b = a.ravel().tolist(), b.ravel().tolist()
    return compare_pairs(
        edits_a,
        edits_b,
        [LINE_LENGTH] * len(edits_a),
        [edits == 0 for edits in edits_a],
        [edits == 0 for edits in edits_b],
        documents,
    )


def trial(
    count: int,
    documents: int,
    gain: float = 0.0,
    *,
    bad_scan: bool = False,
    by_line: bool = False,
) -> dict[str, Any]:
    """Compare `count` times; return the verdicts and the share that tells a difference."""
    rng = np.random.default_rng(1)
    names = [str(number) for number in range(documents) for _ in range(LINES_PER_DOCUMENT)]
    verdicts: Counter[str] = Counter()
    for _ in range(count):
        difficulty = rng.normal(0, SPREAD, documents)
        a = draw_errors(difficulty, 0.0, rng)
        b = draw_errors(difficulty, gain, rng)
        if bad_scan:
            b[0] = np.maximum(b[0], 1)
        verdicts[compare(a, b, None if by_line else names).verdict] += 1
    decided = verdicts["better"] + verdicts["worse"] + verdicts["mixed"]
    return {
        "comparisons": count,
        "verdicts": dict(verdicts),
        "share_told": round(decided / count, 4),
    }


def seconds_for(lines: int) -> float:
    """How long one comparison of so many lines takes."""
    rng = np.random.default_rng(2)
    documents = lines // LINES_PER_DOCUMENT
    difficulty = rng.normal(0, SPREAD, documents)
    a, b = (draw_errors(difficulty, 0.0, rng) for _ in range(2))
    names = [str(number) for number in range(documents) for _ in range(LINES_PER_DOCUMENT)]
    began = time.process_time()
    compare(a, b, names)
    return round(time.process_time() - began, 3)


def main() -> None:
    """Run the trials, print and save them; exit 1 when there are too many alarms."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--comparisons", type=int, default=200)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    count = given.comparisons
    trials = {
        "same": trial(count, DOCUMENTS),
        "same, by line": trial(count, DOCUMENTS, by_line=True),
        "same, eight documents": trial(count, 8),
        "same, five documents": trial(count, 5),
        "same, one bad scan": trial(count, DOCUMENTS, bad_scan=True),
        "same, one bad scan, by line": trial(count, DOCUMENTS, bad_scan=True, by_line=True),
    }
    for gain in GAINS:
        trials[f"better by {gain} points"] = trial(count, DOCUMENTS, gain / 100)

    alarms = [trials[name]["share_told"] for name in trials if name.startswith("same")]
    by_document = [
        trials[name]["share_told"]
        for name in trials
        if name.startswith("same") and "by line" not in name
    ]
    result = {
        "what": (
            f"{count} comparisons of two recognizers on {DOCUMENTS} documents of"
            f" {LINES_PER_DOCUMENT} lines, {100 * ERROR_RATE:.0f} % of the lines wrong"
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(1),
        "alpha": ALPHA,
        "trials": trials,
        "processor_seconds_for_12000_lines": seconds_for(TIMED_LINES),
        "goals": {"max_alarms": MAX_ALARMS, "max_seconds": 1.0},
        "alarms_by_document": max(by_document),
        "alarms_by_line": max(alarms),
    }
    print(json.dumps(result, indent=2))
    save(result, given.output, "significance.json", is_standard=count >= 200)
    if max(by_document) > MAX_ALARMS:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
