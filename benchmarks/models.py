#!/usr/bin/env python3
"""Are our networks faster and leaner than the implementations they are held against? Forward and
complete training steps.

    python benchmarks/models.py --openocr ~/OpenOCR                          all networks, 15
        minutes, the saved result
    python benchmarks/models.py --openocr ~/OpenOCR --networks svtrv2-tiny   a first look, nothing
        saved

| network | held against |
|---|---|
| `svtrv2-tiny`, `svtrv2-base`, `svtr-tiny` | OpenOCR's code, from a checkout: `--openocr FOLDER`
    (github.com/Topdu/OpenOCR) |
| `mamba` | transformers' `MambaModel` of the same sizes, where transformers is installed (one
    block, 512 features, one way) |

Both sides get the same images, lines a batch, number format and threads; neither knows the
widths. A training step is forward, CTC loss (for `mamba` the mean square), backward and fused
AdamW. Every round visits each side for `--seconds`; medians over the rounds are compared. Memory,
at 1024 px, is the most that a process of its own takes for one step beyond what it holds before.
What is missing is reported and left out. `--busy` counts the CPU time of one thread, for a machine
that does other work.

On a CPU each side runs twice, in processes of its own: with glibc's malloc as it is, which hands
big blocks back to the kernel and asks for them again, and with GLIBC_TUNABLES as `nordocr train`
sets them, from which both gain. `times_faster` compares each as its own program runs it: the
reference with malloc as it is, ours too in inference and tuned in training.
`times_faster_same_malloc` has both with malloc as it is, and both tuned.

On a GPU both sides run eagerly and ours also compiled, and the share of the card's measured matrix
peak is given; that part has not been run yet.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from reference_models import openocr_network
from saving import has_defaults, save
from torch import Tensor, nn
from torch.nn import functional as F

from nordocr_cli.models.mamba import MambaEncoder
from nordocr_cli.models.registry import build_model
from nordocr_cli.runtime.stopwatch import measurement_environment
from nordocr_cli.settings import MambaModel, SvtrModel, SvtrV2Model
from nordocr_cli.training.malloc import malloc_tunables

NETWORKS = ("svtrv2-tiny", "svtrv2-base", "svtr-tiny", "mamba")
WIDTHS = (320, 1024)
CLASSES, FEATURES = 126, 512
PIXELS = 2560  # of width a batch: 8 lines of 320, 2 of 1024
MEMORY_WIDTH = 1024  # from which on memory is a target, and measured
MODES = ("forward", "train")
SPEED_TARGET, MEMORY_TARGET, MAMBA_TRAIN_TARGET = 1.5, 0.5, 10.0

HEADING = (
    f"{'network':12} {'width':>5} {'mode':8} {'dtype':5} {'ours/s':>8} {'theirs/s':>8} {'times':>6}"
    f" {'plain':>6} {'tuned':>6} {'MiB':>6} {'theirs':>6}"
)

Step = Callable[[], None]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Side:
    """One contestant: whose network, and how its process is started."""

    ours: bool
    tuned: bool = False  # malloc
    compiled: bool = False


ON_CPU = {
    "ours": Side(ours=True),
    "theirs": Side(ours=False),
    "ours tuned": Side(ours=True, tuned=True),
    "theirs tuned": Side(ours=False, tuned=True),
}
ON_GPU = {
    "ours": Side(ours=True),
    "theirs": Side(ours=False),
    "ours compiled": Side(ours=True, compiled=True),
}
FRESH = get_context("forkserver")  # processes that hold the libraries and nothing else
FRESH.set_forkserver_preload(["__main__"])


# The contestants
# ----------------------------------------


def build(name: str, ours: bool, width: int) -> nn.Module:
    """A network with fresh weights. Raises ImportError where the other side is not here."""
    torch.manual_seed(0)
    if name == "mamba":
        options = MambaModel(
            name="mamba", features=FEATURES, layers=1, bidirectional=False, use_lora=False
        )
        if ours:
            return MambaEncoder(options)
        from transformers import MambaConfig
        from transformers import MambaModel as Theirs

        config = MambaConfig(
            vocab_size=2,
            hidden_size=FEATURES,
            num_hidden_layers=options.layers,
            state_size=options.d_state,
            use_cache=False,
        )
        network: nn.Module = Theirs(config)
        return network
    kind, size = name.split("-")
    model: SvtrModel | SvtrV2Model = (
        SvtrV2Model.model_validate({"name": kind, "size": size})
        if kind == "svtrv2"
        else SvtrModel.model_validate(
            {
                "name": kind,
                "size": size,
                "local_window": (7, 11),
                "positions": (8, width // 4),
            }
        )
    )
    return build_model(model, CLASSES) if ours else openocr_network(model, CLASSES, width)


def step_of(
    name: str,
    ours: bool,
    width: int,
    mode: str,
    dtype: str,
    device: str,
    compiled: bool = False,
) -> Step:
    """What is timed, ready to be called again and again."""
    network = build(name, ours, width).to(device).train(mode == "train")
    if ours and name != "mamba":
        # as `nordocr train` and the torch runner have it
        network = network.to(memory_format=torch.channels_last)
    call = torch.compile(network) if compiled else network
    lines = max(1, PIXELS // width)
    generator = torch.Generator().manual_seed(1)
    if name == "mamba":
        images = torch.randn(lines, width // 4, FEATURES, generator=generator).to(device)
    else:
        images = (torch.rand(lines, 3, 32, width, generator=generator) * 2 - 1).to(device)
    length = width // 16  # characters of a line
    targets = torch.randint(1, CLASSES, (lines * length,), generator=generator).to(device)
    frames, lengths = (torch.full((lines,), value) for value in (width // 4, length))
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, fused=True) if mode == "train" else None
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]

    def forward() -> Tensor:
        with torch.autocast(device, dtype=kind, enabled=dtype != "fp32"):
            if name != "mamba":
                return call(images)
            return (
                call(images, None) if ours else call(inputs_embeds=images).last_hidden_state
            )

    def train() -> None:
        assert optimizer is not None
        output = forward().float()
        if name == "mamba":
            loss = output.square().mean()
        else:
            log_probs = output.log_softmax(-1).transpose(0, 1)
            loss = F.ctc_loss(log_probs, targets, frames, lengths, zero_infinity=True)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def infer() -> None:
        with torch.inference_mode():
            forward()

    return train if mode == "train" else infer


# Measuring
# ----------------------------------------


def rate(
    step: Step, seconds: float, device: str, clock: Clock = time.perf_counter
) -> float:
    """Steps a second."""
    began, steps = clock(), 0
    while steps < 1 or clock() - began < seconds:
        step()
        steps += 1
        if device == "cuda":
            torch.cuda.synchronize()
    return steps / (clock() - began)


def side_by_side(
    sides: dict[str, Side],
    name: str,
    width: int,
    mode: str,
    dtype: str,
    args: argparse.Namespace,
) -> dict[str, list[float]]:
    """Steps a second of each side, a value a round, the sides in turn, each in a process of its
    own.
    """
    # a new program each: malloc reads its settings when a program starts
    context = get_context("spawn")
    pipes, workers = {}, []
    for key, side in sides.items():
        pipes[key], end = context.Pipe()
        worker = context.Process(
            target=contestant,
            args=(end, side, name, width, mode, dtype, args),
            daemon=True,
        )
        with patch.dict("os.environ", malloc_tunables() if side.tuned else {}):
            worker.start()
        end.close()
        workers.append(worker)
    found: dict[str, list[float]] = {key: [] for key in sides}
    for pipe in pipes.values():
        pipe.recv()  # it has made a first step
    for _ in range(args.rounds):
        for key, pipe in pipes.items():
            pipe.send(args.seconds)
            found[key].append(pipe.recv())
    for pipe, worker in zip(pipes.values(), workers, strict=True):
        pipe.send(None)
        worker.join()
    return found


def contestant(
    pipe: Connection,
    side: Side,
    name: str,
    width: int,
    mode: str,
    dtype: str,
    args: argparse.Namespace,
) -> None:
    """The process of one side: measures for as many seconds as it is sent, until it is sent
    None.
    """
    torch.set_num_threads(args.threads)
    step = step_of(name, side.ours, width, mode, dtype, args.device, side.compiled)
    step()
    pipe.send(None)
    while (seconds := pipe.recv()) is not None:
        pipe.send(
            rate(
                step,
                seconds,
                args.device,
                time.process_time if args.busy else time.perf_counter,
            )
        )


def peak_mib(
    name: str, side: str, width: int, mode: str, dtype: str, args: argparse.Namespace
) -> float:
    """Memory that one step takes at its most, in MiB, measured in a process of its own."""
    with FRESH.Pool(1) as pool:
        return pool.apply(
            probe, (name, side == "ours", width, mode, dtype, args.device, args.threads)
        )


def probe(
    name: str, ours: bool, width: int, mode: str, dtype: str, device: str, threads: int
) -> float:
    """The same in this process: a step at 32 px first, so that libraries are loaded."""
    torch.set_num_threads(threads)
    step_of(name, ours, 32, mode, dtype, device)()
    step = step_of(name, ours, width, mode, dtype, device)
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = status_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is reset
    step()
    return (status_kib("VmHWM") - before) / 1024


def status_kib(key: str) -> int:
    """A figure of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def matrix_peak(dtype: str) -> float:
    """FLOP/s of a large matrix product on the GPU: the best that can be had of it."""
    a = torch.randn(
        8192,
        8192,
        device="cuda",
        dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[dtype],
    )
    return 2 * 8192**3 * rate(lambda: a @ a, 1.0, "cuda")


def flops(name: str, width: int, mode: str) -> int:
    """Floating-point operations of a step of ours, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    step = step_of(name, True, width, mode, "fp32", "cpu")
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def measure(
    name: str, width: int, mode: str, dtype: str, args: argparse.Namespace
) -> dict[str, Any]:
    """One row: images a second of both sides, their ratio, memory, and whether the targets are
    met.
    """
    lines = max(1, PIXELS // width)
    steps = side_by_side(
        ON_GPU if args.device == "cuda" else ON_CPU, name, width, mode, dtype, args
    )
    images = {side: median(values) * lines for side, values in steps.items()}
    as_run = "ours tuned" if mode == "train" and args.device == "cpu" else "ours"
    speed = images[as_run] / images["theirs"]
    measured = width >= MEMORY_WIDTH
    memory = (
        {
            side: peak_mib(name, side, width, mode, dtype, args)
            for side in ("ours", "theirs")
        }
        if measured
        else {}
    )
    target = MAMBA_TRAIN_TARGET if name == "mamba" and mode == "train" else SPEED_TARGET
    row: dict[str, Any] = {
        "network": name,
        "width": width,
        "lines_a_batch": lines,
        "mode": mode,
        "dtype": dtype,
        "images_per_s": {side: round(value, 2) for side, value in images.items()},
        "rounds_images_per_s": {
            side: [round(v * lines, 2) for v in values] for side, values in steps.items()
        },
        "times_faster": round(speed, 2),
        "times_faster_same_malloc": {
            kind: round(images[f"ours{end}"] / images[f"theirs{end}"], 2)
            for kind, end in (("as it is", ""), ("tuned", " tuned"))
            if f"theirs{end}" in images
        },
        "speed_target": target,
        "speed_met": speed >= target,
    }
    if measured:
        row["peak_mib"] = {side: round(value) for side, value in memory.items()}
        row["memory_share"] = round(memory["ours"] / memory["theirs"], 2)
        row["memory_met"] = row["memory_share"] <= MEMORY_TARGET
    if args.device == "cuda":
        share = flops(name, width, mode) / lines / matrix_peak(dtype)
        row["share_of_matrix_peak"] = {
            side: round(images[side] * share, 3) for side in ("ours", "ours compiled")
        }
    return row


def line_of(row: dict[str, Any]) -> str:
    """A row of the table on the terminal."""
    speed, memory = row["images_per_s"], row.get("peak_mib", {"ours": "", "theirs": ""})
    same = row["times_faster_same_malloc"]
    return (
        f"{row['network']:12} {row['width']:5} {row['mode']:8} {row['dtype']:5}"
        f" {speed['ours']:8.2f} {speed['theirs']:8.2f} {row['times_faster']:6.2f}"
        f" {same['as it is']:6.2f} {same.get('tuned', 0):6.2f} {memory['ours']:6}"
        f" {memory['theirs']:6}"
    )


def missing(name: str, args: argparse.Namespace) -> str:
    """Why a network cannot be held against anything here; empty when it can."""
    if name == "mamba":
        return (
            ""
            if find_spec("transformers")
            else "transformers is not installed (pip install transformers)"
        )
    return "" if args.openocr else "no checkout of OpenOCR (--openocr FOLDER)"


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--openocr", type=Path, help="a checkout of github.com/Topdu/OpenOCR"
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--widths", nargs="+", type=int, default=list(WIDTHS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument(
        "--dtypes", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="how long a side runs in a round"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cuda" if torch.cuda.is_available() else "cpu",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="default: results/models.json for a full run, else nothing",
    )
    parser.add_argument(
        "--busy", action="store_true", help="count the CPU time of one thread"
    )
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds: at least 1")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here")
    args.threads = 1 if args.busy else args.threads
    torch.set_num_threads(args.threads)
    if args.openocr:
        if not (args.openocr / "openrec").is_dir():
            parser.error(
                f"--openocr {args.openocr}: there is no openrec folder in it; give a checkout of"
                " Topdu/OpenOCR"
            )
        sys.path.insert(0, str(args.openocr.resolve()))
    reasons = {name: missing(name, args) for name in args.networks}
    left_out = {name: why for name, why in reasons.items() if why}
    result: dict[str, Any] = {
        "what": (
            f"forward and training steps, {PIXELS} px of width a batch, ours next to OpenOCR's and"
            " transformers'"
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": (
            measurement_environment(args.threads)
            | {"device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu"}
        ),
        "rounds": args.rounds,
        "seconds": args.seconds,
        "clock": "CPU time of one thread" if args.busy else "wall",
        "left_out": left_out,
        "rows": [],
    }
    for name, why in left_out.items():
        print(f"{name} is left out: {why}", file=sys.stderr)
    print(HEADING)
    for name in (name for name in args.networks if name not in left_out):
        for width in args.widths:
            for mode in args.modes:
                for dtype in args.dtypes:
                    row = measure(name, width, mode, dtype, args)
                    result["rows"].append(row)
                    print(line_of(row), flush=True)
    result["environment"]["load_average_after"] = measurement_environment(None)[
        "load_average"
    ]
    measured = ("networks", "widths", "modes", "dtypes", "rounds", "seconds")
    is_standard = not left_out and has_defaults(parser, args, *measured)
    save(result, args.output, "models.json", is_standard=is_standard)


if __name__ == "__main__":
    main()
