#!/usr/bin/env python3
"""The main job on samples/, each step the command that a user would type: read → prep → train →
eval → export → build-engine → bench → compare3way → lineage. Everything lands in demo/; what can be
looked at is named at the end. Runs inside the project's environment; `dev.py demo` sees to that.
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
DOCUMENT = "samples/doc/dev_doc.tif"
REGIONS = "samples/doc/dev_doc.json"
RENDERED = "demo/train_val.lmdb"
FINE_TUNING_STEPS = 60


def nordocr(*arguments: str, table: str = "") -> float:
    """Run one command, shown as typed, its result into the file `table` where given; return its
    seconds. Ends the demo with the command's exit code when it fails.
    """
    redirected = f" > {table}" if table else ""
    print(f"\n$ nordocr {' '.join(arguments)}{redirected}", flush=True)
    began_s = time.monotonic()
    command = [sys.executable, "-m", "nordocr_cli", *arguments]
    with open(ROOT / table, "wb") if table else nullcontext() as out:
        code = subprocess.call(command, cwd=ROOT, stdout=out)
    if code:
        print(
            f"the demo stopped: nordocr {arguments[0]} ended with {code}", file=sys.stderr
        )
        sys.exit(code)
    return time.monotonic() - began_s


def load(name: str) -> Any:
    """Read one of the demo's JSON results."""
    return json.loads((ROOT / DEMO / name).read_text(encoding="utf-8"))


def quality(name: str) -> str:
    """One line about an eval result."""
    total = load(name)["report"]["total"]
    rates = total["rates"]
    lines = total["lines"]
    exact = lines - total["failures"]
    return f"CER {100 * rates['cer']:.2f} %, exact {exact} of {lines} ({100 * exact / lines:.1f} %)"


# The steps
# ----------------------------------------


def read() -> float:
    """Read the document as a searchable PDF, and draw its pages with what was read."""
    seconds = nordocr("read", DOCUMENT, "-o", "demo/dev_doc.pdf")
    return seconds + nordocr(
        "read", DOCUMENT, "--format", "overlay", "-o", "demo/overlay.png"
    )


def prep() -> float:
    """Rendered lines to train on; lines of damaged scans to measure, never to train on."""
    profile = ("-p", "demo")
    seconds = nordocr("charset", "emit", "nordic", "-o", "demo/nordic_dict.txt")
    source = "samples/train/manifest.jsonl"
    seconds += nordocr(
        "prep", source, "-o", "demo/train.lmdb", *profile, "--val-split", "0.15"
    )
    return seconds + nordocr("prep", "samples/lines", "-o", "demo/scans.lmdb", *profile)


def evaluate(model: str, when: str) -> float:
    """Measure a model on scans and on rendered lines."""
    scans = ("demo/scans.lmdb", "-o", f"demo/{when}.json", "--report", f"demo/{when}.html")
    seconds = nordocr("eval", model, *scans, table=f"demo/{when}.txt")
    rendered = (RENDERED, "-o", f"demo/{when}_val.json")
    return seconds + nordocr("eval", model, *rendered, table=f"demo/{when}_val.txt")


def train() -> float:
    """Fine-tune the recognizer that ships for a few steps."""
    stores = ("--train", "demo/train.lmdb", "--val", RENDERED)
    length = ("--max-steps", str(FINE_TUNING_STEPS))
    return nordocr(
        "train", "-p", "demo", *stores, "--load", START, *length, "--run-dir", "demo/run"
    )


def bench(engines: list[str]) -> float:
    """Time the recognizers on the document."""
    where = ("--doc", DOCUMENT, "--regions", REGIONS)
    return nordocr(
        "bench", *engines, *where, "--rounds", "1", "--bf16", "-o", "demo/bench.json"
    )


def compare() -> float:
    """Compare the network with Tesseract, line by line."""
    sides = ("--svtrv2", "demo/svtrv2_result.json", "--tess", "demo/tess_result.json")
    output = (
        "--truth",
        REGIONS,
        "-o",
        "demo/compare3way.json",
        "--report",
        "demo/compare3way.html",
    )
    return nordocr("compare3way", DOCUMENT, *sides, *output)


def main() -> None:
    """Run the chain and print where everything is."""
    began_s = time.monotonic()
    shutil.rmtree(ROOT / DEMO, ignore_errors=True)
    (ROOT / DEMO).mkdir()
    steps: dict[str, float] = {}

    steps["read"] = read()
    steps["prep"] = prep()
    steps["eval before"] = evaluate(START, "before")
    steps["train"] = train()
    steps["eval after"] = evaluate("demo/run", "after")
    steps["export"] = nordocr("export", "demo/run", "-o", "demo/model.onnx")
    engines = ("build-engine", "--arch", "sm86,sm120", "demo/model.onnx")
    steps["build-engine"] = nordocr(*engines)

    has_tesseract = shutil.which("tesseract") is not None
    recognizers = ["demo/run", "demo/model.onnx"] + ["tesseract"] * has_tesseract
    steps["bench"] = bench(recognizers)
    if has_tesseract:
        steps["compare3way"] = compare()
    else:
        print(
            "\nTesseract is not installed, so compare3way has no second engine and is left out.\n"
            "Debian: apt-get install tesseract-ocr tesseract-ocr-swe, then run the demo again.",
            file=sys.stderr,
        )
    steps["lineage"] = nordocr("lineage", "demo", START)
    show(steps, time.monotonic() - began_s)


def files(pattern: str) -> str:
    """The demo's files of a pattern, on one line."""
    return ", ".join(sorted(f"{DEMO}/{path.name}" for path in (ROOT / DEMO).glob(pattern)))


def show(steps: dict[str, float], total_s: float) -> None:
    """Print what was done and where to look."""
    measured = load("bench.json")
    speed = [f"{row['name']} {row['lines_per_s']:.0f} lines/s" for row in measured["rows"]]
    scans = load("before.json")["report"]["total"]["lines"]
    document_lines = measured["rows"][0]["lines"]
    rows = [
        ("read", f"{scans} lines of damaged scans, a document with {document_lines} lines"),
        ("before training", f"scans: {quality('before.json')}"),
        ("", f"rendered lines: {quality('before_val.json')}"),
        ("after training", f"scans: {quality('after.json')}"),
        ("", f"rendered lines: {quality('after_val.json')}"),
        ("trained on", f"rendered lines for {FINE_TUNING_STEPS} steps, never on scans"),
        ("speed", ", ".join(speed)),
        ("checkpoint", "demo/run/best.safetensors"),
        ("ONNX", files("*.onnx")),
        ("engines", files("*.engine")),
        ("dictionary", "demo/nordic_dict.txt"),
        ("time", ", ".join(f"{name} {seconds:.0f} s" for name, seconds in steps.items())),
        ("in all", f"{total_s:.0f} s on {os.cpu_count()} cores"),
    ]
    print("\nThe complete chain ran:\n")
    for name, value in rows:
        print(f"  {name:<16} {value}")
    print("\nTo look at:\n")
    for name, value in (
        ("searchable PDF", "demo/dev_doc.pdf"),
        ("pages, overlaid", files("overlay*.png")),
        ("reports", files("*.html")),
    ):
        print(f"  {name:<16} {value}")
    print("\nnext: .venv/bin/nordocr read samples/doc/dev_doc.tif --model demo/run")


if __name__ == "__main__":
    main()
