#!/usr/bin/env python3
"""What do other shapes of `svtrv2-nano` cost? Parameters, operations and milliseconds a line, side by side.

    python benchmarks/nano_shapes.py                          all shapes on two threads, about a minute, the saved result
    python benchmarks/nano_shapes.py --rounds 1 -o /tmp/a.json    a first look

Every round visits every shape at every width for `--seconds`; medians over the rounds. Weights are fresh: this is what a shape
costs, not how well it reads. `--busy` counts the CPU time of one thread, for a machine that does other work.
"""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nordocr_cli import atomic
from nordocr_cli.models import svtrv2_nano
from nordocr_cli.models.registry import build_model
from nordocr_cli.runtime.stopwatch import environment
from nordocr_cli.settings import SvtrV2NanoModel

CLASSES, LINES, WIDTHS = 126, 4, (320, 1024)
RESULT = Path(__file__).parent / "results" / "nano-shapes.json"

# What: (channels, blocks, channels of a group of the 5x5 convolutions, rows at which attention runs)
SHAPES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], int, int]] = {
    "as shipped": ((48, 96, 192), (2, 3, 3), 24, 2),
    "attention at height 1": ((48, 96, 192), (2, 3, 3), 24, 1),
    "no attention": ((48, 96, 192), (2, 3, 0), 24, 2),
    "three more attention blocks": ((48, 96, 192), (2, 3, 6), 24, 2),
    "fewer blocks": ((48, 96, 192), (1, 2, 2), 24, 2),
    "half the channels": ((24, 48, 96), (2, 3, 3), 24, 2),
    "half as many channels again": ((72, 144, 288), (2, 3, 3), 24, 2),
    "wider last stage": ((48, 96, 256), (2, 3, 3), 24, 2),
    "depthwise 5x5": ((48, 96, 192), (2, 3, 3), 1, 2),
    "groups of 8": ((48, 96, 192), (2, 3, 3), 8, 2),
    "groups of 48": ((48, 96, 192), (2, 3, 3), 48, 2),
}


def build(name: str) -> nn.Module:
    """A network of that shape with fresh weights, in evaluation mode."""
    dims, depths, group, rows = SHAPES[name]
    torch.manual_seed(0)
    shipped, svtrv2_nano._GROUP = svtrv2_nano._GROUP, group
    try:
        network = build_model(SvtrV2NanoModel(name="svtrv2-nano", dims=dims, depths=depths), CLASSES)
    finally:
        svtrv2_nano._GROUP = shipped
    assert isinstance(network, svtrv2_nano.SvtrV2Nano)
    if rows == 1:  # 4 rows become 1 at once, in front of the attention
        network.down2.conv = nn.Conv2d(dims[1], dims[2], kernel_size=3, stride=(4, 1), padding=1)
    return network.eval().to(memory_format=torch.channels_last)


def ms_a_line(network: nn.Module, width: int, seconds: float, busy: bool) -> float:
    """Milliseconds that a line of `width` px takes in a batch."""
    clock = time.process_time if busy else time.perf_counter
    images = torch.zeros(LINES, 3, 32, width)
    began, steps = clock(), 0
    with torch.inference_mode():
        while steps < 1 or clock() - began < seconds:
            network(images)
            steps += 1
    return 1e3 * (clock() - began) / steps / LINES


def gflop(network: nn.Module, width: int) -> float:
    """Operations of one line, 2 for a multiplication with an addition."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, 32, width))
    return counter.get_total_flops() / 1e9


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", action="store_true", help="count the CPU time of one thread")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    asked = parser.parse_args()
    threads = 1 if asked.busy else asked.threads
    torch.set_num_threads(threads)
    networks = {name: build(name) for name in SHAPES}
    for network in networks.values():
        ms_a_line(network, WIDTHS[0], 0, asked.busy)
    times: dict[tuple[str, int], list[float]] = {(name, width): [] for name in SHAPES for width in WIDTHS}
    for _ in range(asked.rounds):
        for (name, width), found in times.items():
            found.append(ms_a_line(networks[name], width, asked.seconds, asked.busy))
    rows: list[dict[str, Any]] = []
    for name, network in networks.items():
        dims, depths, group, height = SHAPES[name]
        row = {"shape": name, "dims": dims, "depths": depths, "group": group, "attention_rows": height}
        row["parameters"] = sum(p.numel() for p in network.parameters())
        row["gflop"] = {width: round(gflop(network, width), 2) for width in WIDTHS}
        row["ms_a_line"] = {width: round(median(times[name, width]), 2) for width in WIDTHS}
        rows.append(row)
        figures = "  ".join(f"{row['gflop'][w]:5.2f} GFLOP {row['ms_a_line'][w]:7.2f} ms" for w in WIDTHS)
        print(f"{name:28} {row['parameters'] / 1e6:5.2f} M  {figures}")
    result = {
        "what": f"inference of shapes of svtrv2-nano, fp32, {LINES} lines a batch, fresh weights",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment(threads),
        "clock": "CPU time of one thread" if asked.busy else "wall",
        "rounds": asked.rounds,
        "seconds": asked.seconds,
        "rows": rows,
    }
    atomic.write_json(asked.output, result)
    print(f"saved {asked.output}")


if __name__ == "__main__":
    main()
