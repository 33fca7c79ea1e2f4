#!/usr/bin/env python3
"""How fast is prep? Against OpenCV's decode and resize alone, the machine's limit, and against
other recognizers' scripts.

    python benchmarks/prep.py                            20,000 lines, the saved result
    python benchmarks/prep.py --lines 1000 --rounds 1    a first look, nothing saved

Every round visits every contestant on the same files, warm in the page cache; medians over rounds
are compared. Seconds of processor time stand next to those of the clock: on a machine that does
other work too, they say more.

| contestant | does |
|---|---|
| `limit` | reads the file, `cv2.imdecode`, `cv2.resize` (linear), RGB order, and keeps nothing; one
    thread a worker |
| `nordocr` | `nordocr prep`: manifest, checks, decode, resize, hashes, an atomic line store; one
    thread a worker |
| `peers` | the way of PARSeq's and OpenOCR's scripts: Pillow, RGB, bicubic, PNG into LMDB; one
    process and one LMDB a worker |
"""

import argparse
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import lmdb
import numpy as np
from PIL import Image
from saving import has_defaults, save

from nordocr_cli.core.prep.run import prep
from nordocr_cli.profile import load_profile
from nordocr_cli.runtime.stopwatch import measurement_environment

HEIGHT, WIDTH, DIFFERENT = 64, 900, 200
PROFILE = load_profile("svtrv2-1024").profile


def write_lines(folder: Path, lines: int, channels: str) -> list[Path]:
    """Write noisy text lines, JPEG (quality 90) and PNG in turn, with their manifest; returns the
    image files.
    """
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    encoded: list[tuple[str, bytes]] = []
    for number in range(DIFFERENT):
        image = np.full((HEIGHT, WIDTH, 3), (225, 235, 240), np.uint8)
        cv2.putText(
            image,
            f"Rad {number} Omsattning 1 449 616 kr",
            (8, 44),
            cv2.FONT_HERSHEY_SIMPLEX,
            1.3,
            (60, 30, 20),
            2,
        )
        image = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
        suffix, options = (
            (".jpg", (cv2.IMWRITE_JPEG_QUALITY, 90)) if number % 2 else (".png", ())
        )
        encoded.append(
            (
                suffix,
                cv2.imencode(
                    suffix, image[:, :, 1] if channels == "gray" else image, options
                )[1].tobytes(),
            )
        )
    files, rows = [], []
    for index in range(lines):
        suffix, data = encoded[index % DIFFERENT]
        files.append(folder / "images" / f"{index:06d}{suffix}")
        files[-1].write_bytes(data)
        rows.append(
            json.dumps(
                {
                    "image": f"images/{files[-1].name}",
                    "text": f"Rad {index % DIFFERENT} 1 449 616 kr",
                }
            )
        )
    (folder / "manifest.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return files


def line_width(width: int, height: int) -> int:
    """Width at height 32."""
    return PROFILE.geometry.line_width(height, width)


def limit(files: Sequence[Path], workers: int) -> None:
    """Decode and scale, nothing else."""

    def one(file: Path) -> None:
        image = cv2.imdecode(
            np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED
        )
        line = cv2.resize(
            image,
            (line_width(image.shape[1], image.shape[0]), 32),
            interpolation=cv2.INTER_LINEAR,
        )
        if line.ndim == 3:
            cv2.cvtColor(line, cv2.COLOR_BGR2RGB)

    with ThreadPoolExecutor(workers) as pool:
        # In slices: a future for each image would cost what is measured here.
        list(
            pool.map(
                lambda part: [one(file) for file in part],
                [files[k::workers] for k in range(workers)],
            )
        )


def nordocr(folder: Path, store: Path, workers: int, lines: int) -> None:
    """The real prep; the store is replaced each time."""
    result = prep([folder], store, PROFILE, threads=workers)
    assert result.kept == lines, result


def peers(files: Sequence[Path], folder: Path, workers: int) -> None:
    """Pillow, bicubic, PNG, LMDB, as one script for each worker."""
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        list(
            pool.map(
                peers_script,
                [files[k::workers] for k in range(workers)],
                [folder / f"{k}" for k in range(workers)],
            )
        )


def peers_script(files: Sequence[Path], target: Path) -> None:
    """One process of it."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    environment = lmdb.open(str(target), map_size=1 << 40)
    cache: dict[bytes, bytes] = {}
    for number, file in enumerate(files, start=1):
        image = Image.open(io.BytesIO(file.read_bytes())).convert("RGB")
        image = image.resize(
            (line_width(image.width, image.height), 32), Image.Resampling.BICUBIC
        )
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        cache[b"image-%09d" % number] = buffer.getvalue()
        cache[b"label-%09d" % number] = b"1 449 616 kr"
        if number % 1000 == 0:
            put(environment, cache)
            cache = {}
    put(environment, cache | {b"num-samples": str(len(files)).encode()})
    environment.close()


def put(environment: lmdb.Environment, cache: dict[bytes, bytes]) -> None:
    """Write one transaction."""
    with environment.begin(write=True) as transaction:
        for key, value in cache.items():
            transaction.put(key, value)


def timed(
    contestants: dict[str, Callable[[], None]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds by the clock and of the processor, one value a round; the first contestant goes last
    in the next round.
    """
    clock: dict[str, list[float]] = {name: [] for name in contestants}
    processor: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            # Its own and its children's.
            began, spent = (time.perf_counter(), sum(os.times()[:4]))
            contestants[name]()
            clock[name].append(round(time.perf_counter() - began, 3))
            processor[name].append(round(sum(os.times()[:4]) - spent, 3))
            print(
                f"round {number + 1}: {name} {clock[name][-1]:.2f} s, processor"
                f" {processor[name][-1]:.2f} s"
            )
    return clock, processor


def compared(seconds: dict[str, list[float]], lines: int) -> dict[str, Any]:
    """Rates and ratios from the medians."""
    rate = {name: lines / median(of) for name, of in seconds.items()}
    return {
        "seconds": seconds,
        "lines_per_s": {name: round(value, 1) for name, value in rate.items()},
        "nordocr_of_limit": round(rate["nordocr"] / rate["limit"], 3),
        "nordocr_times_peers": round(rate["nordocr"] / rate["peers"], 2),
    }


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="default: the cores that may be used",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the files are written; default: the system's temporary folder",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="default: results/prep.json for a full run, else nothing",
    )
    args = parser.parse_args()
    cv2.setNumThreads(1)
    result: dict[str, Any] = {
        "what": (
            f"prep, lines/s: {args.lines} lines of {HEIGHT} x {WIDTH} px, JPEG and PNG in turn"
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(args.workers)
        | {"usable_cores": len(os.sched_getaffinity(0))},
        "rounds": args.rounds,
        "sets": {},
    }
    for channels in ("rgb", "gray"):
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            folder = Path(name)
            files = write_lines(folder / "in", args.lines, channels)
            limit(files, args.workers)  # the files into the page cache
            clock, processor = timed(
                {
                    "limit": lambda files=files: limit(files, args.workers),
                    "nordocr": lambda folder=folder: nordocr(
                        folder / "in", folder / "o.lmdb", args.workers, args.lines
                    ),
                    "peers": lambda files=files, folder=folder: peers(
                        files, folder / "peers", args.workers
                    ),
                },
                args.rounds,
            )
        result["sets"][channels] = {
            "clock": compared(clock, args.lines),
            "processor": compared(processor, args.lines),
        }
        print(channels, json.dumps(result["sets"][channels], indent=2))
    result["environment"]["load_average_after"] = measurement_environment(args.workers)[
        "load_average"
    ]
    is_standard = has_defaults(parser, args, "lines", "rounds")
    save(result, args.output, "prep.json", is_standard=is_standard)


if __name__ == "__main__":
    main()
