#!/usr/bin/env python3
"""How many lines a second does training get through? Our batches against the same loop padded to the widest input.

    python benchmarks/train.py                                         svtrv2-nano, the saved result
    python benchmarks/train.py --lines 400 --rounds 1 --seconds 5      a first look, nothing saved
    python benchmarks/train.py --profile svtrv2-1024 --device cuda     on a GPU

The same network, optimizer, precision, augmentation and process for every contestant; each takes its turn in every round, and the
medians over the rounds are compared. What counts is whole steps: batches from the store, forward, backward, update.

| contestant | does |
|---|---|
| `nordocr` | `LineBatches` and `Stepper` as train has them: lines of like width under a pixel budget |
| `padded` | the same with every batch as wide as the geometry's maximum, and as many pixels a batch, so fewer lines |
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from loader import widths_of, write_store
from numpy.typing import NDArray

from nordocr_cli import atomic
from nordocr_cli.data.batches import Batch, LineBatches
from nordocr_cli.data.store import LineStore
from nordocr_cli.models.registry import build_model
from nordocr_cli.profile import Profile, load_profile
from nordocr_cli.runtime.stopwatch import environment
from nordocr_cli.runtime.torch_runner import choose_device
from nordocr_cli.training.step import Stepper

RESULTS = Path(__file__).parent / "results"
LR = 1e-4


class PaddedBatches(LineBatches):
    """Batches that are all as wide as the widest input."""

    def _padded(self, width: NDArray[np.int64], extra_px: int) -> NDArray[np.int64]:
        return np.full_like(width, self.geometry.max_width)


@dataclass
class Contestant:
    """A way to train, and what was measured of it: (lines, seconds, seconds of waiting for data) of every round."""

    step: Callable[[list[Batch]], Any]
    batches: Generator[Batch, None, None]
    padding_share: float
    rounds: list[tuple[int, float, float]] = field(default_factory=list)

    def run(self, seconds: float) -> tuple[int, float, float]:
        """Train for `seconds`, to the end of a step."""
        lines, waited, began = 0, 0.0, time.monotonic()
        while (asked := time.monotonic()) - began < seconds:
            batch = next(self.batches)
            waited += time.monotonic() - asked
            self.step([batch])  # ends with the loss read back: the device has done its work
            lines += batch.lines
        return lines, time.monotonic() - began, waited

    def figures(self) -> dict[str, Any]:
        """Medians over the rounds."""
        return {
            "lines_per_s": round(median(lines / seconds for lines, seconds, _ in self.rounds), 2),
            "of_rounds": [round(lines / seconds, 2) for lines, seconds, _ in self.rounds],
            "data_wait": round(median(waited / seconds for _, seconds, waited in self.rounds), 4),
            "padding_share": round(self.padding_share, 4),
        }


def contestants(profile: Profile, store: LineStore, device: torch.device) -> dict[str, Contestant]:
    """Ours and the padded one, each with a network and an optimizer of its own, alike in every weight."""
    charset, settings, found = profile.load_charset(), profile.train, {}
    for name, kind in (("nordocr", LineBatches), ("padded", PaddedBatches)):
        batches = kind(
            [store],
            charset,
            profile.geometry,
            budget_px=settings.batch_size * settings.batch_width_px,
            shuffle=True,
            augment=profile.augment,
            mask_share=settings.mask_share,
            workers=profile.data.num_workers,
            pin=device.type == "cuda",
        )
        torch.manual_seed(settings.seed)
        model = build_model(profile.model, charset.num_classes).to(device, memory_format=torch.channels_last).train()
        stepper = Stepper(model, None, profile.geometry, settings, device, settings.precision)
        found[name] = Contestant(
            lambda batch, stepper=stepper: stepper.step(batch, LR), forever(batches), batches.padding_share()
        )
    return found


def forever(batches: LineBatches) -> Generator[Batch, None, None]:
    """Epoch after epoch."""
    for epoch in count():
        yield from batches.epoch(epoch)


def measure(profile: Profile, store: LineStore, asked: argparse.Namespace) -> dict[str, Any]:
    """Every contestant in every round, after a round to warm up."""
    device = choose_device(asked.device)
    found = contestants(profile, store, device)
    try:
        for number in range(asked.rounds + 1):
            for name in sorted(found, reverse=bool(number % 2)):
                taken = found[name].run(asked.seconds if number else min(asked.seconds, 5.0))
                if number:
                    found[name].rounds.append(taken)
                    print(f"round {number} {name}: {taken[0] / taken[1]:.1f} lines/s")
    finally:
        for contestant in found.values():
            contestant.batches.close()
    figures = {name: contestant.figures() for name, contestant in found.items()}
    ours = figures["nordocr"]["lines_per_s"]
    return figures | {"nordocr_times_padded": round(ours / figures["padded"]["lines_per_s"], 2)}


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="svtrv2-nano")
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE")
    parser.add_argument("--store", type=Path, help="lines to train on; default: noise with the widths of business documents")
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long a contestant trains in a round")
    parser.add_argument("--device", default="auto")
    parser.add_argument("-o", "--output", type=Path, help="default: results/train.json for a full run, else nothing")
    asked = parser.parse_args()
    profile = load_profile(asked.profile, ["geometry.max_width=1024", *asked.sets]).profile
    with tempfile.TemporaryDirectory() as folder:
        path = asked.store or write_store(Path(folder) / "lines.lmdb", widths_of("bucketed", asked.lines), gray=True)
        with LineStore(path) as store:
            result = {
                "what": f"training {profile.model.name} in {profile.train.precision}, {len(store):,} lines, mean width "
                f"{store.widths.mean():.0f} px, up to {profile.geometry.max_width} px",
                "profile": asked.profile,
                "sets": asked.sets,
                "budget_px": profile.train.batch_size * profile.train.batch_width_px,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "environment": environment(torch.get_num_threads()) | {"usable_cores": len(os.sched_getaffinity(0))},
                "device": torch.cuda.get_device_name() if choose_device(asked.device).type == "cuda" else "cpu",
                **measure(profile, store, asked),
            }
    result["environment"]["load_average_after"] = environment(None)["load_average"]
    print(json.dumps(result, indent=2))
    kept = ("profile", "sets", "store", "lines", "rounds", "seconds", "device")
    full = all(getattr(asked, name) == parser.get_default(name) for name in kept)
    if target := asked.output or (RESULTS / "train.json" if full else None):
        atomic.write_json(target, result)
        print(f"saved {target}")


if __name__ == "__main__":
    main()
