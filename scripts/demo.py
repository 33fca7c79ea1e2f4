#!/usr/bin/env python3
"""The main job on samples/, each step the command that a user would type: prep → train → eval →
export → build-engine → bench → compare3way. Everything lands in demo/. Runs inside the project's
environment; `dev.py demo` sees to that.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEMO = Path("demo")
START = "nordocr-default"
DOCUMENT, REGIONS = "samples/doc/dev_doc.tif", "samples/doc/dev_doc.json"
FINE_TUNING_STEPS = 60


def nordocr(*arguments: str, table: str = "") -> float:
    """Run one command, shown as typed, its result into the file `table` where given; return its
    seconds.

    Ends the demo with the command's exit code when it fails.
    """
    print(f"\n$ nordocr {' '.join(arguments)}{f' > {table}' if table else ''}", flush=True)
    began = time.monotonic()
    with open(ROOT / table, "wb") if table else nullcontext() as out:
        code = subprocess.call(
            [sys.executable, "-m", "nordocr_cli", *arguments], cwd=ROOT, stdout=out
        )
    if code:
        print(
            f"the demo stopped: nordocr {arguments[0]} ended with exit code {code}", file=sys.stderr
        )
        sys.exit(code)
    return time.monotonic() - began


def load(name: str) -> Any:
    """Read one of the demo's JSON results."""
    return json.loads((ROOT / DEMO / name).read_text(encoding="utf-8"))


def reading(name: str) -> str:
    """One line about an eval result."""
    total = load(name)["report"]["total"]
    rates, lines = total["rates"], total["lines"]
    exact = lines - total["failures"]
    return f"CER {100 * rates['cer']:.2f} %, exact {exact} of {lines} ({100 * exact / lines:.1f} %)"


def main() -> None:
    """Run the chain and print where everything lies."""
    began = time.monotonic()
    shutil.rmtree(ROOT / DEMO, ignore_errors=True)
    (ROOT / DEMO).mkdir()
    steps: dict[str, float] = {}

    rendered = "demo/train_val.lmdb"
    steps["prep"] = nordocr("charset", "emit", "nordic", "-o", "demo/nordic_dict.txt")
    # Rendered lines to train on; lines of damaged scans, which nobody trains on, to measure.
    steps["prep"] += nordocr(
        "prep",
        "samples/train/manifest.jsonl",
        "-o",
        "demo/train.lmdb",
        "-p",
        "demo",
        "--val-split",
        "0.15",
    )
    steps["prep"] += nordocr("prep", "samples/lines", "-o", "demo/scans.lmdb", "-p", "demo")
    steps["eval before"] = nordocr(
        "eval", START, "demo/scans.lmdb", "-o", "demo/before.json", table="demo/before.txt"
    )
    steps["eval before"] += nordocr(
        "eval", START, rendered, "-o", "demo/before_val.json", table="demo/before_val.txt"
    )
    steps["train"] = nordocr(
        *("train", "-p", "demo", "--train", "demo/train.lmdb", "--val", rendered, "--load", START),
        *("--max-steps", str(FINE_TUNING_STEPS), "--run-dir", "demo/run"),
    )
    steps["eval after"] = nordocr("eval", "demo/run", "demo/scans.lmdb", "-o", "demo/after.json")
    steps["eval after"] += nordocr(
        "eval", "demo/run", rendered, "-o", "demo/after_val.json", table="demo/after_val.txt"
    )
    steps["export"] = nordocr("export", "demo/run", "-o", "demo/model.onnx")
    steps["build-engine"] = nordocr("build-engine", "--arch", "sm86,sm120", "demo/model.onnx")
    engines = ["demo/run", "demo/model.onnx"]
    tesseract = shutil.which("tesseract") is not None
    if tesseract:
        engines.append("tesseract")
    steps["bench"] = nordocr(
        *(
            "bench",
            *engines,
            "--doc",
            DOCUMENT,
            "--regions",
            REGIONS,
            "--rounds",
            "1",
            "--bf16",
            "-o",
            "demo/bench.json",
        )
    )
    if tesseract:
        steps["compare3way"] = nordocr(
            *(
                "compare3way",
                DOCUMENT,
                "--svtrv2",
                "demo/svtrv2_result.json",
                "--tess",
                "demo/tess_result.json",
            ),
            *("--truth", REGIONS, "-o", "demo/compare3way.json"),
        )
    else:
        print(
            "\nTesseract is not installed, so compare3way has no second engine and is left out.",
            file=sys.stderr,
        )
        print(
            "Debian: apt-get install tesseract-ocr tesseract-ocr-swe, then run the demo again.",
            file=sys.stderr,
        )

    bench = load("bench.json")
    speed = ", ".join(f"{row['name']} {row['lines_per_s']:.0f} lines/s" for row in bench["rows"])
    read = load("before.json")["report"]["total"]["lines"]
    rows = [
        (
            "read",
            (
                f"{read} lines of damaged scans in four languages, a five-page document with"
                f" {bench['rows'][0]['lines']} lines"
            ),
        ),
        (
            "before training",
            f"scans: {reading('before.json')};  rendered lines: {reading('before_val.json')}",
        ),
        (
            "after training",
            f"scans: {reading('after.json')};  rendered lines: {reading('after_val.json')}",
        ),
        (
            "trained on",
            (
                f"340 rendered lines for {FINE_TUNING_STEPS} steps, from nordocr-default; never on"
                " scans"
            ),
        ),
        ("speed", speed),
        ("checkpoint", "demo/run/best.safetensors"),
        ("ONNX", ", ".join(sorted(f"{DEMO}/{p.name}" for p in (ROOT / DEMO).glob("*.onnx")))),
        ("engines", ", ".join(sorted(f"{DEMO}/{p.name}" for p in (ROOT / DEMO).glob("*.engine")))),
        ("dictionary", "demo/nordic_dict.txt"),
        (
            "reports",
            ", ".join(
                sorted(
                    f"{DEMO}/{p.name}"
                    for p in (ROOT / DEMO).glob("*.json")
                    if "engine" not in p.name
                )
            ),
        ),
        ("time", ", ".join(f"{name} {seconds:.0f} s" for name, seconds in steps.items())),
        ("in all", f"{time.monotonic() - began:.0f} s on {os.cpu_count()} cores"),
    ]
    print("\nThe whole chain ran:\n")
    for name, value in rows:
        print(f"  {name:<16} {value}")
    print(
        "\nnext: .venv/bin/nordocr predict samples/doc/dev_doc.tif --regions"
        " samples/doc/dev_doc.json --model demo/run"
    )


if __name__ == "__main__":
    main()
