#!/usr/bin/env python3
"""What do shapes of `svtrv2-nano` cost, and how well do they read for it? Parameters, operations,
milliseconds a line, CER.

    python benchmarks/nano_shapes.py                          what every shape costs, on two
        threads, about a minute
    python benchmarks/nano_shapes.py --train train.lmdb --read val.lmdb --runs shapes     and how
        six of them read
    python benchmarks/nano_shapes.py --rounds 1 -o /tmp/a.json    a first look

Every round visits every shape at every width for `--seconds`; medians over the rounds, weights
fresh. `--busy` counts the CPU time of one thread, for a machine that does other work. With
`--train` the shapes that TRAINED names each learn from nothing on all lines of that store, once, by
the same command with the same seed, and read the lines of `--read`. Finished runs are kept in
`--runs`, so that the timing can be repeated when the machine is quiet.
"""

import argparse
import json
import subprocess
import sys
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
from nordocr_cli.profile import load_profile
from nordocr_cli.runtime.stopwatch import measurement_environment
from nordocr_cli.settings import SvtrV2NanoModel

CLASSES, LINES, WIDTHS = 126, 4, (320, 1024)
RESULT = Path(__file__).parent / "results" / "nano-shapes.json"

_SHIPPED: dict[str, Any] = dict(load_profile("svtrv2-nano").profile.model) | {"group": 24}
# What: how it differs from the profile's shape. `group`: channels of a group of the 5x5
# convolutions, which no profile can say.
SHAPES: dict[str, dict[str, Any]] = {
    "2 rows": {"attention_rows": 2, "depths": (2, 3, 3)},
    "1 row": {"attention_rows": 1, "depths": (2, 3, 3)},
    "1 row, four attention blocks": {"attention_rows": 1, "depths": (2, 3, 4)},
    "1 row, five attention blocks": {"attention_rows": 1, "depths": (2, 3, 5)},
    "2 rows, no attention": {"attention_rows": 2, "depths": (2, 3, 0)},
    "2 rows, six attention blocks": {"attention_rows": 2, "depths": (2, 3, 6)},
    "2 rows, blocks 1, 2, 2": {"attention_rows": 2, "depths": (1, 2, 2)},
    "2 rows, half the channels": {
        "attention_rows": 2,
        "depths": (2, 3, 3),
        "dims": (24, 48, 96),
    },
    "2 rows, half as many channels again": {
        "attention_rows": 2,
        "depths": (2, 3, 3),
        "dims": (72, 144, 288),
    },
    "2 rows, wider last stage": {
        "attention_rows": 2,
        "depths": (2, 3, 3),
        "dims": (48, 96, 256),
    },
    "2 rows, depthwise 5x5": {"attention_rows": 2, "depths": (2, 3, 3), "group": 1},
    "2 rows, groups of 8": {"attention_rows": 2, "depths": (2, 3, 3), "group": 8},
    "2 rows, groups of 48": {"attention_rows": 2, "depths": (2, 3, 3), "group": 48},
}
SHORT_RUN = {
    "train.batch_size": 32,
    "train.ema_decay": 0.995,
    "train.eval_every": 1_000_000,
}
TRAINED = (
    *("2 rows", "2 rows, blocks 1, 2, 2", "2 rows, half the channels"),
    *("1 row", "1 row, four attention blocks", "1 row, five attention blocks"),
)


def build(shape: dict[str, Any]) -> nn.Module:
    """A network of that shape with fresh weights, in evaluation mode."""
    options = _SHIPPED | shape
    torch.manual_seed(0)
    shipped, svtrv2_nano._GROUP = svtrv2_nano._GROUP, options.pop("group")
    try:
        network = build_model(SvtrV2NanoModel(**options), CLASSES)
    finally:
        svtrv2_nano._GROUP = shipped
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


def read_after_training(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train the shape on `--train` unless that is done, and return how well it reads `--read`."""
    run: Path = args.runs / name.replace(", ", "-").replace(" ", "_")
    result = run / "read.json"
    if not result.exists():
        new = (
            "-p",
            "svtrv2-nano",
            "--train",
            args.train,
            "--val",
            args.read,
            "--run-dir",
            run,
            *options_of(SHAPES[name]),
        )
        again = ("--resume", run) if (run / "state.pt").exists() else new
        nordocr("train", *again, "--threads", "1")
        nordocr("eval", run / "last.safetensors", args.read, "-o", result, "--threads", "1")
    run_record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    total = json.loads(result.read_text(encoding="utf-8"))["report"]["total"]
    interval = total["intervals"]["cer"]
    return {
        "lines_trained": run_record["train"][0]["lines"],
        "lines_read": total["lines"],
        "exact": total["lines"] - total["failures"],
        "cer": total["rates"]["cer"],
        "cer_interval": [interval["low"], interval["high"]],
    }


def options_of(shape: dict[str, Any]) -> list[str]:
    """The shape, and settings for a short run, as options of `nordocr train`."""
    values = {f"model.{key}": value for key, value in shape.items()} | SHORT_RUN
    return [
        word
        for key, value in values.items()
        for word in ("--set", f"{key}={json.dumps(value)}")
    ]


def nordocr(*words: str | Path) -> None:
    """Run one command; what it prints goes to standard error. Ends the program where the command
    fails, which has said why.
    """
    done = subprocess.run(
        [sys.executable, "-m", "nordocr_cli", *map(str, words), "-q"],
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--busy", action="store_true", help="count the CPU time of one thread"
    )
    parser.add_argument(
        "--train", type=Path, help="a line store: train the shapes of TRAINED on it"
    )
    parser.add_argument("--read", type=Path, help="the line store that they then read")
    parser.add_argument("--runs", type=Path, help="folder of these runs")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds: at least 1")
    given = [args.train, args.read, args.runs]
    if any(given) and not all(given):
        parser.error("--train, --read and --runs go together")
    reading = (
        {name: read_after_training(name, args) for name in TRAINED} if args.train else {}
    )
    threads = 1 if args.busy else args.threads
    torch.set_num_threads(threads)
    networks = {name: build(shape) for name, shape in SHAPES.items()}
    for network in networks.values():
        ms_a_line(network, WIDTHS[0], 0, args.busy)
    times: dict[tuple[str, int], list[float]] = {
        (name, width): [] for name in SHAPES for width in WIDTHS
    }
    for _ in range(args.rounds):
        for (name, width), found in times.items():
            found.append(ms_a_line(networks[name], width, args.seconds, args.busy))
    rows: list[dict[str, Any]] = []
    for name, network in networks.items():
        row: dict[str, Any] = {"shape": name, **_SHIPPED, **SHAPES[name]}
        row["parameters"] = sum(p.numel() for p in network.parameters())
        row["gflop"] = {width: round(gflop(network, width), 2) for width in WIDTHS}
        row["ms_a_line"] = {width: round(median(times[name, width]), 2) for width in WIDTHS}
        row |= reading.get(name, {})
        rows.append(row)
        figures = "  ".join(
            f"{row['gflop'][w]:5.2f} GFLOP {row['ms_a_line'][w]:7.2f} ms" for w in WIDTHS
        )
        figures += f"  CER {row['cer']:.2%}" if "cer" in row else ""
        print(f"{name:36} {row['parameters'] / 1e6:5.2f} M  {figures}")
    result = {
        "what": (
            f"shapes of svtrv2-nano: fp32 inference, {LINES} lines a batch; the same training from"
            " nothing, one seed"
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(threads),
        "clock": "CPU time of one thread" if args.busy else "wall",
        "rounds": args.rounds,
        "seconds": args.seconds,
        "rows": rows,
    }
    atomic.write_json(args.output, result)
    print(f"saved {args.output}")


if __name__ == "__main__":
    main()
