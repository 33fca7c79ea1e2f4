#!/usr/bin/env python3
"""How often is a text right on which two independent recognizers agree?

    python benchmarks/consensus.py samples/lines/manifest.jsonl

compare3way can take the text that several recognizers share as the reference. This is its known
error: over lines whose text is known, the share on which each pair agrees (canonical view), and how
often the agreed text is wrong.
"""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

from nordocr_cli import atomic
from nordocr_cli.compare.agreement import consensus
from nordocr_cli.data.manifest_lines import ManifestLines
from nordocr_cli.metrics.report import build_report
from nordocr_cli.records import LineResult
from nordocr_cli.runtime.recognizers import open_recognizer
from nordocr_cli.runtime.stopwatch import measurement_environment

RESULT = Path(__file__).parent / "results" / "consensus.json"


def main() -> None:
    """Read, compare, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--recognizers", default="tesseract,rapidocr,nordocr-default")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    with ManifestLines(given.manifest) as lines:
        rows = [lines.row(index) for index in range(len(lines))]
        crops = [lines.image(index) for index in range(len(lines))]
    references = [row.text for row in rows]
    languages = [row.language for row in rows]
    readings = {}
    for name in given.recognizers.split(","):
        read = open_recognizer(name, threads=1).recognize(crops, languages)
        readings[name] = [reading.text for reading in read]

    pairs = {
        " and ".join(pair): agreed(references, [readings[name] for name in pair])
        for pair in combinations(readings, 2)
    }
    if len(readings) > 2:
        pairs["two of all"] = agreed(references, list(readings.values()))
    result = {
        "what": "texts on which recognizers agree, as a reference",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(1),
        "manifest": given.manifest.name,
        "lines": len(rows),
        "alone": {name: figures(references, texts) for name, texts in readings.items()},
        "agreed": pairs,
    }
    print(json.dumps(result["agreed"], indent=2))
    atomic.write_json(given.output, result)


def agreed(references: Sequence[str], readings: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return on how many lines at least two readings are the same, and how good that text is."""
    shared = [consensus(texts) for texts in zip(*readings, strict=True)]
    kept = [(a, b) for a, b in zip(references, shared, strict=True) if b is not None]
    share = round(len(kept) / len(references), 4)
    return {"share": share} | figures([a for a, _ in kept], [b for _, b in kept])


def figures(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, Any]:
    """Return lines, the share that is not exact, and CER."""
    results = [
        LineResult(id=str(number), reference=reference, hypothesis=hypothesis)
        for number, (reference, hypothesis) in enumerate(
            zip(references, hypotheses, strict=True)
        )
    ]
    report = build_report(results, intervals=False)
    exact, cer = report.exact_rate or 0.0, report.cer or 0.0
    return {"lines": len(results), "wrong": round(1 - exact, 4), "cer": round(cer, 5)}


if __name__ == "__main__":
    main()
