#!/usr/bin/env python3
"""What do `finetune` and `adapt` gain on real scans, by the number of lines?

    python benchmarks/finetune.py split LINES.jsonl… --work work
        divides the lines in half by document: `learn` and `judge`
    python benchmarks/finetune.py run --work work -m WEIGHTS --arm finetune:200 --minutes 5
    python benchmarks/finetune.py run --work work -m WEIGHTS --arm adapt:all --rounds 2
        runs the command on that many lines of `learn`, reads `judge` before and after, and adds the
        arm to the result file; --other NAME=LINES names more lines to read before and after

The arm `adapt` gets the images alone; the labels of its lines are used afterwards, to count the
errors in what it took as labels and in its estimate of the error rate. Every command is the one
that a user calls. Its resident memory is read from the kernel each second.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from nordocr_cli import atomic
from nordocr_cli.core.adapt.agreement import LineReadings
from nordocr_cli.core.adapt.run import estimated_cer
from nordocr_cli.metrics.text import canonical
from nordocr_cli.runtime.stopwatch import measurement_environment

RESULTS = Path(__file__).parent / "results" / "finetune.json"
HALVES = ("learn", "judge")
SEED = 23
NORDOCR = (sys.executable, "-m", "nordocr_cli")

Row = dict[str, Any]


def read_rows(manifest: Path) -> list[Row]:
    """Return the rows of a JSONL manifest, with the image's path from where we are."""
    rows = []
    for text in manifest.read_text(encoding="utf-8").splitlines():
        row = json.loads(text)
        row["image"] = str(manifest.parent / row["image"])
        row["source"] = row.get("document") or row["source"]
        rows.append(row)
    return rows


def split(manifests: Sequence[Path], work: Path) -> None:
    """Divide the lines in half by document, and link the images into the folders of the halves."""
    by_document: dict[str, list[Row]] = defaultdict(list)
    for manifest in manifests:
        for row in read_rows(manifest):
            by_document[row["source"]].append(row)
    documents = sorted(by_document)
    random.Random(SEED).shuffle(documents)
    # Large documents first, each to the smaller half: the halves end up of one size.
    documents.sort(key=lambda name: -len(by_document[name]))
    halves: dict[str, list[Row]] = {name: [] for name in HALVES}
    for document in documents:
        smaller = min(HALVES, key=lambda name: len(halves[name]))
        halves[smaller] += by_document[document]
    for name, rows in halves.items():
        random.Random(SEED).shuffle(rows)
        write_manifest(work / name, "all", rows)
        count = len({row["source"] for row in rows})
        print(f"{name}: {len(rows):,} lines of {count} documents")


def write_manifest(folder: Path, name: str, rows: Sequence[Row]) -> Path:
    """Write a manifest with the images next to it."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    written = []
    for row in rows:
        image = Path("images") / Path(row["image"]).name
        if not (folder / image).exists():
            os.link(row["image"], folder / image)
        written.append(json.dumps(row | {"image": str(image)}, ensure_ascii=False))
    path = folder / f"{name}.jsonl"
    atomic.write_text(path, "\n".join(written) + "\n")
    return path


def measured(command: Sequence[str], log: Path) -> dict[str, Any]:
    """Run a command; return its exit code, its time, and its memory in MB: the most of each minute,
    resident in all and the process's own (without the pages of files that it maps).
    """
    started = time.monotonic()
    resident: list[float] = []
    anonymous: list[float] = []
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        while process.poll() is None:
            resident.append(memory_mb(process.pid, "VmRSS:"))
            anonymous.append(memory_mb(process.pid, "RssAnon:"))
            time.sleep(1)
    return {
        "exit_code": process.returncode,
        "wall_minutes": round((time.monotonic() - started) / 60, 1),
        "peak_rss_mb": round(max(resident, default=0)),
        "rss_mb_by_minute": by_minute(resident),
        "anonymous_mb_by_minute": by_minute(anonymous),
    }


def by_minute(samples: Sequence[float]) -> list[int]:
    """Return the most of each sixty samples."""
    return [round(max(samples[at : at + 60])) for at in range(0, len(samples), 60)]


def memory_mb(pid: int, field: str) -> float:
    """Return the memory of a process and its children; 0 when it has ended."""
    total = 0.0
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith(field):
            total += int(line.split()[1]) / 1024
    return total + sum(memory_mb(int(child), field) for child in children.split())


def read_set(
    weights: Path, lines: Path, output: Path, against: Path | None
) -> dict[str, Any]:
    """Read lines with weights (once; the result is kept), and return the rates and the
    comparison."""
    if not output.is_file():
        command = [*NORDOCR, "eval", str(weights), str(lines), "-o", str(output), "-q"]
        command += ["--threads", "1", "--allow-leakage"]
        if against:
            command += ["--against", str(against)]
        subprocess.run(command, check=True)
    saved = json.loads(output.read_text(encoding="utf-8"))
    total = saved["report"]["total"]
    found = {
        "lines": total["lines"],
        "cer": total["rates"]["cer"],
        "exact": total["rates"]["exact"],
    }
    comparison = (saved.get("against") or {}).get("comparison")
    return found | ({"comparison": comparison} if comparison else {})


def run_arm(options: argparse.Namespace) -> dict[str, Any]:
    """Run one arm, and return its record."""
    command, _, count = options.arm.partition(":")
    work: Path = options.work
    rows = read_rows(work / "learn" / "all.jsonl")
    if count != "all":
        rows = rows[: int(count)]
    lines = write_manifest(work / "learn", f"first-{count}", rows)
    if command == "adapt":
        lines = write_manifest(
            work / "learn", f"unlabelled-{count}", [row | {"text": "?"} for row in rows]
        )
    run_dir = work / options.arm.replace(":", "-")
    called = [*NORDOCR, command, str(lines), "-m", str(options.model), "-o", str(run_dir)]
    called += ["--threads", "1"]
    if options.minutes:
        called += ["--minutes", str(options.minutes)]
    if options.max_steps:
        called += ["--max-steps", str(options.max_steps)]
    if options.max_steps and command == "finetune":
        seed_rendered(work, run_dir)
    if command == "adapt":
        called += ["--rounds", str(options.rounds), "--languages", options.languages]
    print(" ".join(called), flush=True)
    measure = measured(called, run_dir.with_suffix(".log"))

    record: dict[str, Any] = {
        "arm": options.arm,
        "command": ["nordocr", *called[len(NORDOCR) :]],
        "lines": len(rows),
        "documents": len({row["source"] for row in rows}),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(1),
        **measure,
    }
    if command == "adapt" and (run_dir / "labels.jsonl").is_file():
        record["labels"] = judged_labels(run_dir, rows)
    trained = last_weights(run_dir)
    if trained is None:
        record["message"] = run_dir.with_suffix(".log").read_text().strip().splitlines()[-1]
        return record
    result = json.loads((run_dir / state_of(command)).read_text(encoding="utf-8"))
    record["reported"] = result if command == "adapt" else result["done"]["result"]
    record["trained"] = trained_rounds(run_dir)
    sets = {"judge": options.judge or work / "judge" / "all.jsonl"}
    for named in options.other:
        name, _, path = named.partition("=")
        sets[name] = Path(path)
    record["sets"] = {}
    for name, manifest in sets.items():
        before = work / f"before-{name}-{manifest.stem}.json"
        record["sets"][name] = {
            "before": read_set(options.model, manifest, before, None),
            "after": read_set(
                trained, manifest, run_dir / f"after-{name}-{manifest.stem}.json", before
            ),
        }
    return record


def seed_rendered(work: Path, run_dir: Path) -> None:
    """Take the rendered lines, the guard set and the ordinary lines from the arm with 1,000 labels,
    where it has run with as many steps: they would be rendered again from the same seeds."""
    made = work / "finetune-1000"
    if run_dir.exists() or run_dir == made or not (made / "train").is_dir():
        return
    for store in ("guard.lmdb", "rendered.lmdb", "ordinary.lmdb"):
        shutil.copytree(made / "data" / store, run_dir / "data" / store)
    copied = {"copied": str(made)}
    state = {"schema": 1, "request": {}, "done": {"render": copied, "ordinary": copied}}
    atomic.write_text(run_dir / "finetune.json", json.dumps(state))


def state_of(command: str) -> str:
    """Name the file with the result of a command."""
    return {"finetune": "finetune.json", "adapt": "adapt.json"}[command]


def last_weights(run_dir: Path) -> Path | None:
    """Return the newest weights that a training chose, accepted or not."""
    found = []
    for state in [*run_dir.glob("finetune.json"), *run_dir.glob("*/finetune.json")]:
        chosen = json.loads(state.read_text(encoding="utf-8"))["done"].get("choose")
        if chosen:
            share = chosen["share"]
            name = "last" if share == 1 else f"share-{share:g}"
            found.append(state.parent / "train" / f"{name}.safetensors")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def trained_rounds(run_dir: Path) -> list[dict[str, Any]]:
    """Return steps, lines drawn and minutes of each training of a run."""
    found = []
    for state in sorted(
        [*run_dir.glob("finetune.json"), *run_dir.glob("round-*/finetune.json")]
    ):
        done = json.loads(state.read_text(encoding="utf-8"))["done"]
        metrics = (state.parent / "train" / "metrics.jsonl").read_text(encoding="utf-8")
        speeds = [json.loads(line).get("lines_per_s") for line in metrics.splitlines()]
        measured_speeds = [speed for speed in speeds if speed]
        mean_speed = sum(measured_speeds) / max(1, len(measured_speeds))
        found.append(done["train"] | {"mean_lines_per_s": round(mean_speed, 1)})
    return found


def judged_labels(run_dir: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """Count the errors of what was taken as labels, of each engine, and of the estimate."""
    references = [canonical(row["text"]) for row in rows]
    numbers = {f"line-{number:06d}": number for number in range(len(rows))}
    labels = [
        json.loads(line)
        for line in (run_dir / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    taken = [(references[numbers[row["id"]]], canonical(row["text"])) for row in labels]
    readings = {}
    for file in sorted((run_dir / "readings").glob("*.jsonl")):
        read = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        readings[file.stem] = {row["id"]: canonical(row["text"]) for row in read}
    others = {
        name: texts for name, texts in readings.items() if not name.startswith("nordocr")
    }
    rounds = {}
    for name, own in readings.items():
        if name in others:
            continue
        lines = [
            LineReadings(line, "", "", {"nordocr": own[line]} | of_line(others, line), 1.0)
            for line in own
        ]
        rounds[name] = {
            "estimated": estimated_cer(lines),
            "true": error_rate([(references[numbers[line]], own[line]) for line in own]),
        }
    return {
        "taken": len(labels),
        "cer_of_labels": error_rate(taken),
        "exact": sum(one == other for one, other in taken) / max(1, len(taken)),
        "cer_of_engines": {
            name: error_rate([(references[numbers[line]], texts[line]) for line in texts])
            for name, texts in others.items()
        },
        "cer_by_round": rounds,
    }


def of_line(readings: dict[str, dict[str, str]], line: str) -> dict[str, str]:
    """Return what each engine read on a line."""
    return {engine: texts[line] for engine, texts in readings.items()}


def error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the character error rate of (reference, hypothesis) pairs, over all of them."""
    characters = sum(len(reference) for reference, _ in pairs)
    errors = sum(Levenshtein.distance(one, other) for one, other in pairs)
    return errors / max(1, characters)


def add_record(path: Path, record: dict[str, Any], model: str) -> None:
    """Put the record of an arm into the result file, in place of an earlier one."""
    saved: dict[str, Any] = {"schema": "nordocr.benchmark.finetune/1", "arms": []}
    if path.is_file():
        saved = json.loads(path.read_text(encoding="utf-8"))
    arms = [one for one in saved["arms"] if one["arm"] != record["arm"]]
    saved |= {"start": model, "arms": [*arms, record]}
    atomic.write_text(path, json.dumps(saved, indent=1, ensure_ascii=False) + "\n")


def judge_again(options: argparse.Namespace) -> None:
    """Replace what the result file says about the labels of an arm."""
    saved = json.loads(options.output.read_text(encoding="utf-8"))
    [record] = [one for one in saved["arms"] if one["arm"] == options.arm]
    rows = read_rows(options.work / "learn" / "all.jsonl")[: record["lines"]]
    run_dir = options.work / options.arm.replace(":", "-")
    record["labels"] = judged_labels(run_dir, rows)
    record["trained"] = trained_rounds(run_dir)
    add_record(options.output, record, saved["start"])


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    splitting = parts.add_parser("split")
    splitting.add_argument("lines", nargs="+", type=Path)
    running = parts.add_parser("run")
    running.add_argument("-m", "--model", type=Path, required=True)
    running.add_argument("--named", help="what the result file calls the weights")
    running.add_argument("--arm", required=True, help="finetune:N, adapt:N or N = all")
    running.add_argument("--minutes", type=float)
    running.add_argument("--max-steps", type=int)
    running.add_argument("--rounds", type=int, default=1)
    running.add_argument("--languages", default="eng")
    running.add_argument("--other", action="append", default=[], metavar="NAME=LINES.jsonl")
    running.add_argument("--judge", type=Path, help="a part of the half to judge by")
    running.add_argument("-o", "--output", type=Path, default=RESULTS)
    for one in (splitting, running):
        one.add_argument("--work", type=Path, required=True)
    judging = parts.add_parser("labels", help="count the errors of an arm's labels again")
    judging.add_argument("--arm", required=True)
    judging.add_argument("--work", type=Path, required=True)
    judging.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.part == "labels":
        judge_again(options)
        return
    if options.part == "split":
        split(options.lines, options.work)
        return
    record = run_arm(options)
    add_record(options.output, record, options.named or str(options.model))


if __name__ == "__main__":
    main()
