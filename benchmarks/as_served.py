#!/usr/bin/env python3
"""How does a model read when a host feeds it? The host's resampler, and lines of a batch padded
with white to its widest.

    python benchmarks/as_served.py nordocr-default.onnx lines/manifest.jsonl -o
    benchmarks/results/as-served.json

The lines are read three times: as this project feeds them, with the host's resampler, and with its
batches too: sorted by width, cut into batches of 64, padded right with white that the network sees
as paper (an ONNX model takes no widths), each line decoded over its own frames.
"""

import argparse
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from nordocr_cli import atomic
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.data.manifest_lines import ManifestLines
from nordocr_cli.data.resize import pad_batch
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.geometry import Geometry
from nordocr_cli.metrics.report import build_report
from nordocr_cli.records import LineResult
from nordocr_cli.runtime.runners import open_runner
from nordocr_cli.runtime.stopwatch import measurement_environment


def read(model: Path, manifest: Path, geometry: Geometry, batch: int) -> dict[str, Any]:
    """Read every line in batches of `batch`, narrow ones first; counts, CER and intervals."""
    runner = open_runner(model, device="cpu")
    results: list[LineResult] = []
    with ManifestLines(manifest, geometry) as lines:
        images = [lines.image(index) for index in range(len(lines))]
        order = sorted(range(len(images)), key=lambda index: images[index].shape[1])
        for start in range(0, len(order), batch):
            members = order[start : start + batch]
            padded, widths = pad_batch([images[index] for index in members], geometry)
            frames = np.array([geometry.out_length(int(width)) for width in widths])
            logits = runner.run(padded, widths)  # (N, T, C)
            for index, reading in zip(
                members, decode_greedy(logits, frames, runner.contract.charset), strict=True
            ):
                row = lines.row(index)
                results.append(
                    LineResult(
                        id=row.id,
                        reference=row.text,
                        hypothesis=reading.text.strip(),
                        language=row.language,
                        subset=row.subset,
                        source=row.source,
                        width=images[index].shape[1],
                    )
                )
    total = build_report(results).to_json()["total"]
    return {
        "lines": total["lines"],
        "exact": total["lines"] - total["failures"],
        "cer": total["rates"]["cer"],
        "intervals": total["intervals"],
    }


def main() -> None:
    """Read, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    model = find_weights(Path(args.model))
    own = read_contract(model).geometry
    hosts = replace(own, resampler="corner-bilinear")
    rows = {
        "own": read(model, args.manifest, own, 1),
        "resampler": read(model, args.manifest, hosts, 1),
        "resampler and padding": read(model, args.manifest, hosts, args.batch),
    }
    base = rows["own"]["cer"]
    for name, row in rows.items():
        row["cer_ratio"] = row["cer"] / base if base else None
        print(
            f"{name:<24} {row['exact']:>6} of {row['lines']} exact   CER {100 * row['cer']:.2f} %  "
            f" x {row['cer_ratio']:.2f}"
        )
    if args.output:
        saved = {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": atomic.sha256_of(model),
            "batch": args.batch,
        }
        atomic.write_json(
            args.output,
            {**saved, "environment": measurement_environment(None), "rows": rows},
        )


if __name__ == "__main__":
    main()
