#!/usr/bin/env python3
"""How many lines a second does training get through? Our batches against the same loop padded to
the widest input, and against OpenOCR's own trainer where a checkout of it is named.

    python benchmarks/train.py --openocr FOLDER                        SVTRv2-tiny, the saved result
    python benchmarks/train.py --lines 400 --rounds 1 --seconds 5      a first look, nothing saved
    python benchmarks/train.py --set model.size=base --device cuda     on a GPU

The same network, optimizer, precision and process for every contestant; each takes its turn in
every round. What counts is complete steps: batches from the store, forward, backward, update.
Batches hold as many pixels, not as many lines, so a few steps say little: lines and seconds of
all rounds are added up.

| contestant | does |
|---|---|
| `nordocr` | train as the profile has it: lines of like width under a pixel budget, augmented, some
    batches padded further |
| `bare` | the same without augmentation: what the others are compared with |
| `padded` | `bare` with every line padded to the geometry's maximum, and as many pixels a batch, so
    fewer lines |
| `openocr` | OpenOCR's trainer, data set, sampler and SVTRv2-tiny (openocr_training.py), not
    augmented, as many pixels a batch |
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loader import write_peers_lmdb, write_store
from numpy.typing import NDArray
from openocr_training import OpenOcr
from saving import has_defaults, save

from nordocr_cli.data.batch_options import BatchOptions
from nordocr_cli.data.batches import Batch, LineBatches
from nordocr_cli.data.epoch_plan import EpochPlanner
from nordocr_cli.data.store import LineStore
from nordocr_cli.models.registry import build_model
from nordocr_cli.profile import Profile, load_profile
from nordocr_cli.runtime.backends.torch.runner import choose_device
from nordocr_cli.runtime.stopwatch import measurement_environment
from nordocr_cli.settings import Augment
from nordocr_cli.training.step import Stepper

LR = 1e-4
# Of the production model's family what a CPU can train, in batches that it takes in a second or
# two.
SETS = [
    "geometry.max_width=1024",
    "model.size=tiny",
    "train.batch_width_px=320",
    "train.batch_size=32",
    "train.batch_by_arch={}",
]
BARE = Augment(
    **{
        name: 0.0
        for name, field in Augment.model_fields.items()
        if field.annotation is float
    }
)


class PaddedPlanner(EpochPlanner):
    """Plans batches that are all as wide as the widest input."""

    def _padded(self, width: NDArray[np.int64], extra_px: int) -> NDArray[np.int64]:
        return np.full_like(width, self.geometry.max_width)


class PaddedBatches(LineBatches):
    """Batches that are all as wide as the widest input."""

    planner = PaddedPlanner


@dataclass
class Contestant:
    """One of our ways to train: what makes a step, and its batches."""

    step: Callable[[list[Batch]], Any]
    batches: Generator[Batch, None, None]
    padding_share: float

    def run(self, seconds: float) -> tuple[int, float, float]:
        """Train for `seconds`, to the end of a step."""
        lines, waited, began = 0, 0.0, time.monotonic()
        while (before := time.monotonic()) - began < seconds:
            batch = next(self.batches)
            waited += time.monotonic() - before
            self.step([batch])  # ends with the loss read back: the device has done its work
            lines += batch.lines
        return lines, time.monotonic() - began, waited

    def close(self) -> None:
        """End the loading threads."""
        self.batches.close()


def figures(rounds: list[tuple[int, float, float]], contestant: Any) -> dict[str, Any]:
    """What the rounds of a contestant come to: (lines, seconds, seconds of waiting for data) of
    each.
    """
    all_lines, all_seconds, all_waited = (
        sum(column) for column in zip(*rounds, strict=True)
    )
    share = getattr(contestant, "padding_share", None)
    return {
        "lines_per_s": round(all_lines / all_seconds, 2),
        "of_rounds": [round(lines / seconds, 2) for lines, seconds, _ in rounds],
        "data_wait": round(all_waited / all_seconds, 4),
        **({"padding_share": round(share, 4)} if share is not None else {}),
    }


def line_widths(lines: int) -> NDArray[np.int64]:
    """Widths as business documents have them, in pixels: median 300, mean 400, up to 1024."""
    spread = np.random.default_rng(1).lognormal(np.log(300), 1.0, lines)
    return np.clip(spread // 4 * 4, 12, 1024).astype(np.int64)


def contestants(
    profile: Profile, store: LineStore, device: torch.device
) -> dict[str, Contestant]:
    """Ours and the padded one, each with a network and an optimizer of its own, alike in every
    weight.
    """
    charset, settings, found = profile.load_charset(), profile.train, {}
    kinds = {
        "nordocr": (LineBatches, profile.augment),
        "bare": (LineBatches, BARE),
        "padded": (PaddedBatches, BARE),
    }
    for name, (kind, augment) in kinds.items():
        batches = kind(
            [store],
            charset,
            profile.geometry,
            BatchOptions(
                budget_px=settings.batch_size * settings.batch_width_px,
                shuffle=True,
                augment=augment,
                mask_share=settings.mask_share,
                workers=profile.data.num_workers,
                pin=device.type == "cuda",
            ),
        )
        torch.manual_seed(settings.seed)
        model = (
            build_model(profile.model, charset.num_classes)
            .to(device, memory_format=torch.channels_last)
            .train()
        )
        stepper = Stepper(
            model, None, profile.geometry, settings, device, settings.precision
        )
        found[name] = Contestant(
            lambda batch, stepper=stepper: stepper.step(batch, LR),
            forever(batches),
            batches.padding_share(),
        )
    return found


def forever(batches: LineBatches) -> Generator[Batch, None, None]:
    """Epoch after epoch."""
    for epoch in count():
        yield from batches.epoch(epoch)


def measure(
    profile: Profile, store: LineStore, folder: Path, args: argparse.Namespace
) -> dict[str, Any]:
    """Every contestant in every round, after a round to warm up."""
    device, budget = (
        choose_device(args.device),
        profile.train.batch_size * profile.train.batch_width_px,
    )
    found: dict[str, Any] = dict(contestants(profile, store, device))
    if args.openocr:
        lmdb, mixed = (
            write_peers_lmdb(folder / "openocr.lmdb", store.path, original=False),
            profile.train.precision != "fp32",
        )
        charset, width = profile.load_charset(), profile.geometry.max_width
        found["openocr"] = OpenOcr(
            args.openocr, lmdb, folder, charset, budget, width, mixed
        )
    rounds: dict[str, list[tuple[int, float, float]]] = {name: [] for name in found}
    try:
        for number in range(args.rounds + 1):
            for name in sorted(found, reverse=bool(number % 2)):
                taken = found[name].run(args.seconds if number else min(args.seconds, 5.0))
                if number:
                    rounds[name].append(taken)
                    print(f"round {number} {name}: {taken[0] / taken[1]:.1f} lines/s")
    finally:
        for contestant in found.values():
            contestant.close()
    measured = {
        name: figures(rounds[name], contestant) for name, contestant in found.items()
    }
    ours = measured["bare"]["lines_per_s"]
    times = {
        f"bare_times_{name}": round(ours / measured[name]["lines_per_s"], 2)
        for name in ("padded", "openocr")
        if name in found
    }
    return measured | times


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="svtrv2-1024")
    parser.add_argument(
        "--set", action="append", default=[], dest="sets", metavar="KEY=VALUE"
    )
    parser.add_argument(
        "--store",
        type=Path,
        help="lines to train on; default: noise with the widths of business documents",
    )
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument(
        "--openocr",
        type=Path,
        metavar="FOLDER",
        help="a checkout of github.com/Topdu/OpenOCR",
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="how long a contestant trains in a round",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="default: results/train.json for a full run, else nothing",
    )
    args = parser.parse_args()
    profile = load_profile(args.profile, [*SETS, *args.sets]).profile
    if args.openocr and getattr(profile.model, "size", "") != "tiny":
        parser.error("--openocr trains SVTRv2-tiny: leave model.size as it is")
    with tempfile.TemporaryDirectory() as folder:
        path = args.store or write_store(
            Path(folder) / "lines.lmdb", line_widths(args.lines), gray=True
        )
        with LineStore(path) as store:
            result = {
                "what": (
                    f"training {profile.model.name} in {profile.train.precision}, {len(store):,}"
                    f" lines, mean width {store.widths.mean():.0f} px, up to"
                    f" {profile.geometry.max_width} px"
                ),
                "profile": args.profile,
                "sets": args.sets,
                "budget_px": profile.train.batch_size * profile.train.batch_width_px,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "environment": (
                    measurement_environment(torch.get_num_threads())
                    | {"usable_cores": len(os.sched_getaffinity(0))}
                ),
                "device": (
                    torch.cuda.get_device_name()
                    if choose_device(args.device).type == "cuda"
                    else "cpu"
                ),
                **measure(profile, store, Path(folder), args),
            }
    result["environment"]["load_average_after"] = measurement_environment(None)[
        "load_average"
    ]
    print(json.dumps(result, indent=2))
    kept = ("profile", "sets", "store", "lines", "rounds", "seconds", "device")
    is_standard = has_defaults(parser, args, *kept)
    save(result, args.output, "train.json", is_standard=is_standard)


if __name__ == "__main__":
    main()
