#!/usr/bin/env python3
"""How fast do batches come? Against a bare gather in memory, the machine's limit, and against other
recognizers' data loaders.

    python benchmarks/loader.py                                       20,000 lines, five minutes,
        the saved result
    python benchmarks/loader.py --lines 3000 --rounds 1 --seconds 1   a first look, nothing saved

Every round visits every contestant for a few seconds; medians over rounds are compared, in
batches/s for the fixed set (1,024 lines of 32 x 128) and in lines/s for the bucketed one (widths to
1024 px, 131,072 px of width a batch).

| contestant | does |
|---|---|
| `limit` | `np.take` from one uint8 array in memory into buffers used again; by one thread and by
    two, the faster counts |
| `nordocr` | `LineBatches` as train has it: shuffled, padded, uint8, with targets; two threads |
| `peers_original` | PARSeq's way: the original JPEG in LMDB; decoded (Pillow), scaled (bicubic),
    normalized floats |
| `peers_resized` | OpenOCR's way with prepared lines: PNG of height 32 in LMDB, decoded by Pillow,
    normalized floats |

Both peers run in a torch DataLoader with 0 and with 2 worker processes; the faster counts.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from typing import Any

import cv2
import lmdb
import numpy as np
import torch
from PIL import Image
from saving import has_defaults, save
from torch.utils.data import DataLoader, Dataset

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.batch_options import BatchOptions
from nordocr_cli.data.batches import LineBatches
from nordocr_cli.data.store import LineStore, LineStoreWriter
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import LineRow
from nordocr_cli.runtime.stopwatch import measurement_environment

BATCH, FIXED_WIDTH, DIFFERENT = 1024, 128, 500
BUDGET_PX = BATCH * FIXED_WIDTH
GEOMETRY = Geometry(max_width=1024)


# The data
# ----------------------------------------


def widths_of(kind: str, lines: int) -> np.ndarray:
    """Line widths in pixels: all 128, or spread as in business documents (median 285, mean about
    390, up to 1024).
    """
    if kind == "fixed":
        return np.full(lines, FIXED_WIDTH)
    spread = np.random.default_rng(1).lognormal(np.log(285), 0.8, lines)
    return np.clip(spread // 4 * 4, 12, 1024).astype(int)


def write_store(path: Path, widths: np.ndarray, gray: bool) -> Path:
    """A line store of noisy lines."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (DIFFERENT, 32, 1024, 3), dtype=np.uint8)
    with LineStoreWriter(path, GEOMETRY, NORDIC) as writer:
        for index, width in enumerate(widths):
            image = noise[index % DIFFERENT, :, : int(width)]
            writer.add(
                image[:, :, 0] if gray else image,
                LineRow(f"line{index}", f"{index}.png", "Rad 1" if width > 40 else "1"),
            )
    return path


def write_peers_lmdb(path: Path, store: Path, original: bool) -> Path:
    """The same lines as others keep them: JPEG at twice the height, or PNG at height 32."""
    with LineStore(store) as lines:
        target = lmdb.open(str(path), map_size=1 << 40)
        with target.begin(write=True) as transaction:
            transaction.put(b"num-samples", b"%d" % len(lines))
            for index in range(len(lines)):
                image = lines.image(index)[:, :, ::-1]
                if original:
                    image = cv2.resize(
                        image, (image.shape[1] * 2, 64), interpolation=cv2.INTER_CUBIC
                    )
                data = cv2.imencode(".jpg" if original else ".png", image)[1].tobytes()
                transaction.put(b"image-%09d" % (index + 1), data)
                transaction.put(b"label-%09d" % (index + 1), lines.label(index).encode())
        target.close()
    return path


# The contestants: each makes an endless stream of the number of lines in its next batch
# ---------------------------------


def gather(widths: np.ndarray, channels: int, threads: int) -> Iterator[int]:
    """The limit: lines of one array, each batch as wide as its lines are in the mean, copied into a
    ring of buffers.
    """
    width = int(widths.mean()) // 4 * 4
    lines = BUDGET_PX // width
    slab = np.zeros((len(widths), 32 * width * channels), dtype=np.uint8)
    slab += np.arange(len(widths), dtype=np.uint8)[:, None]
    rng, ring = np.random.default_rng(0), SimpleQueue[np.ndarray]()
    for _ in range(threads + 2):
        ring.put(np.zeros((lines, slab.shape[1]), dtype=np.uint8))

    def fill(indices: np.ndarray) -> np.ndarray:
        buffer = ring.get()
        return np.take(slab, indices, axis=0, out=buffer, mode="clip")

    with ThreadPoolExecutor(threads) as pool:
        ahead = [
            pool.submit(fill, rng.integers(0, len(slab), lines)) for _ in range(threads)
        ]
        while True:
            ahead.append(pool.submit(fill, rng.integers(0, len(slab), lines)))
            buffer = ahead.pop(0).result()
            yield len(buffer)
            ring.put(buffer)


def nordocr(store: LineStore) -> Iterator[int]:
    """What train reads from."""
    batches = LineBatches(
        [store],
        NORDIC,
        GEOMETRY,
        BatchOptions(budget_px=BUDGET_PX, shuffle=True, workers=2),
    )
    epoch = 0
    while True:
        for batch in batches.epoch(epoch):
            yield len(batch)
        epoch += 1


class PeersDataset(Dataset[tuple[torch.Tensor, str]]):
    """A line as normalized floats (3, 32, width), as PARSeq's and OpenOCR's data sets make it."""

    def __init__(self, path: Path, widths: np.ndarray) -> None:
        self.path, self.widths = path, widths
        self.environment: lmdb.Environment | None = None

    def __len__(self) -> int:
        return len(self.widths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        if self.environment is None:  # opened in the worker process
            self.environment = lmdb.open(
                str(self.path), readonly=True, lock=False, readahead=False, meminit=False
            )
        with self.environment.begin() as transaction:
            data = transaction.get(b"image-%09d" % (index + 1))
            label = transaction.get(b"label-%09d" % (index + 1)).decode()
        image = Image.open(io.BytesIO(data)).convert("RGB")
        size = (int(self.widths[index]), 32)
        if image.size != size:
            image = image.resize(size, Image.Resampling.BICUBIC)
        pixels = (
            torch.from_numpy(np.array(image))
            .permute(2, 0, 1)
            .contiguous()
            .float()
            .div_(255)
        )
        return pixels.sub_(0.5).div_(0.5), label


def pad_and_stack(items: list[tuple[torch.Tensor, str]]) -> tuple[torch.Tensor, list[str]]:
    """Stack a batch, padded to its widest line."""
    width = max(image.shape[2] for image, _ in items)
    images = torch.ones(len(items), 3, 32, width)
    for slot, (image, _) in enumerate(items):
        images[slot, :, :, : image.shape[2]] = image
    return images, [label for _, label in items]


def peers(path: Path, widths: np.ndarray, workers: int) -> Iterator[int]:
    """A DataLoader over lines of like width, under the same pixel budget."""
    order = np.argsort(widths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        count = max(
            1,
            BUDGET_PX // int(widths[order[min(start + BUDGET_PX // 1024, len(order) - 1)]]),
        )
        batches.append(order[start : start + count].tolist())
        start += count
    while True:
        np.random.default_rng(0).shuffle(batches)
        loader = DataLoader(
            PeersDataset(path, widths),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=pad_and_stack,
            prefetch_factor=2 if workers else None,
        )
        for images, _ in loader:
            yield len(images)


# Measuring
# ----------------------------------------


def rate(stream: Iterator[int], seconds: float) -> tuple[float, float]:
    """Lines a second of the clock and of this process's processor time, over at least `seconds` and
    one batch, after a third of that and two batches to warm up.
    """
    began = time.perf_counter()
    for number, _ in enumerate(stream, start=1):
        if number >= 2 and time.perf_counter() - began > seconds / 3:
            break
    lines, began, spent = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds or not lines:
        lines += next(stream)
    return lines / (time.perf_counter() - began), lines / (time.process_time() - spent)


def timed(
    contestants: dict[str, Callable[[], Iterator[int]]], rounds: int, seconds: float
) -> dict[str, list[tuple[float, float]]]:
    """The `rate` of each contestant, one a round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            stream = contestants[name]()
            found[name].append(rate(stream, seconds))
            stream.close()  # type: ignore[attr-defined]  # a generator
            clock, processor = found[name][-1]
            print(
                f"round {number + 1}: {name} {clock:,.0f} lines/s = {clock / BATCH:,.1f} x {BATCH};"
                f" processor {processor:,.0f}"
            )
    return found


def memory_and_cold(store: Path) -> dict[str, float]:
    """In a process of its own: an epoch from a cold page cache and one from a warm one, and the
    memory that it took.
    """
    descriptor = os.open(store / "data.mdb", os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    done = subprocess.run(
        [sys.executable, __file__, "--probe", str(store)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def probe(path: Path) -> None:
    """The body of `memory_and_cold`."""
    before = anonymous_mb()
    with LineStore(path) as store:
        batches = LineBatches(
            [store],
            NORDIC,
            GEOMETRY,
            BatchOptions(budget_px=BUDGET_PX, shuffle=True, workers=2),
        )
        rates = []
        for epoch in range(2):
            began = time.perf_counter()
            lines = sum(len(batch) for batch in batches.epoch(epoch))
            rates.append(lines / (time.perf_counter() - began))
        print(
            json.dumps(
                {
                    "cold_lines_per_s": round(rates[0]),
                    "warm_lines_per_s": round(rates[1]),
                    "memory_mb": round(anonymous_mb() - before, 1),
                    "store_mb": round((path / "data.mdb").stat().st_size / 1e6, 1),
                }
            )
        )


def anonymous_mb() -> float:
    """This process's own memory (the page cache that a mapping shows is the system's to take
    back).
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return (
        int(
            next(
                line.split()[1]
                for line in status.splitlines()
                if line.startswith("RssAnon")
            )
        )
        / 1000
    )


def measure(folder: Path, kind: str, args: argparse.Namespace) -> dict[str, Any]:
    """All contestants on one set of widths."""
    widths = widths_of(kind, args.lines)
    stores = {
        c: write_store(folder / f"{kind}-{c}.lmdb", widths, c == "gray")
        for c in ("rgb", "gray")
    }
    others = {
        o: write_peers_lmdb(folder / f"{kind}-{o}", stores["rgb"], o == "original")
        for o in ("original", "resized")
    }
    with LineStore(stores["rgb"]) as rgb, LineStore(stores["gray"]) as gray:
        contestants: dict[str, Callable[[], Iterator[int]]] = {
            "nordocr rgb": lambda: nordocr(rgb)
        }
        contestants["nordocr gray"] = lambda: nordocr(gray)
        for threads in (1, 2):
            contestants[f"limit rgb {threads}"] = lambda threads=threads: gather(
                widths, 3, threads
            )
            contestants[f"limit gray {threads}"] = lambda threads=threads: gather(
                widths, 1, threads
            )
        for name, path in others.items():
            for workers in (0, 2):
                contestants[f"peers_{name} {workers}"] = lambda path=path, workers=workers: (
                    peers(path, widths, workers)
                )
        found = timed(contestants, args.rounds, args.seconds)
    return {
        "clock": compared(
            {name: [clock for clock, _ in values] for name, values in found.items()},
            list(others),
        ),
        # Worker processes are not counted, so the peers' two stand for themselves alone.
        "processor": compared(
            {
                n: [p for _, p in values]
                for n, values in found.items()
                if not n.startswith("peers") or n[-1] == "0"
            },
            list(others),
        ),
        "process": {c: memory_and_cold(path) for c, path in stores.items()},
    }


def compared(rates: dict[str, list[float]], others: list[str]) -> dict[str, Any]:
    """Medians over rounds, of each contestant's faster form, and their ratios."""
    best: dict[str, float] = {}
    for name, values in rates.items():
        short = name.rpartition(" ")[0] if name[-1].isdigit() else name
        best[short] = max(best.get(short, 0.0), median(values))
    return {
        "lines_per_s": {
            name: [round(value) for value in values] for name, values in rates.items()
        },
        "median_lines_per_s": {name: round(value) for name, value in best.items()},
        "median_batches_of_1024_per_s": {
            name: round(value / BATCH, 1) for name, value in best.items()
        },
        "nordocr_of_limit": {
            c: round(best[f"nordocr {c}"] / best[f"limit {c}"], 3) for c in ("rgb", "gray")
        },
        "nordocr_times_peers": {
            f"{c} / {o}": round(best[f"nordocr {c}"] / best[f"peers_{o}"], 1)
            for c in ("rgb", "gray")
            for o in others
        },
    }


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=1.5, help="how long a contestant runs in a round"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the stores are written; default: the system's temporary folder",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="default: results/loader.json for a full run, else nothing",
    )
    parser.add_argument("--probe", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    # two workers on one core: the faster of 0 and 2 counts
    warnings.filterwarnings("ignore", "This DataLoader will create")
    if args.probe:
        probe(args.probe)
        return
    result: dict[str, Any] = {
        "what": (
            f"loading, {args.lines} lines: {BATCH} of 32 x {FIXED_WIDTH} a batch; widths to 1024"
            f" px, {BUDGET_PX} px a batch"
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": (
            measurement_environment(torch.get_num_threads())
            | {"usable_cores": len(os.sched_getaffinity(0))}
        ),
        "rounds": args.rounds,
    }
    for kind in ("fixed", "bucketed"):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            result[kind] = measure(Path(folder), kind, args)
        print(kind, json.dumps(result[kind], indent=2))
    result["environment"]["load_average_after"] = measurement_environment(None)[
        "load_average"
    ]
    is_standard = has_defaults(parser, args, "lines", "rounds", "seconds")
    save(result, args.output, "loader.json", is_standard=is_standard)


if __name__ == "__main__":
    main()
