"""What bench measures of a network besides its speed: stages, padding, memory, and the share of the
machine's peak.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from nordocr_cli.core.bench.result import Cell, Stages
from nordocr_cli.data.resize import pad_batch, resize_line
from nordocr_cli.data.text_band import tightened

if TYPE_CHECKING:
    from nordocr_cli.runtime.protocols import Image, Runner
    from nordocr_cli.runtime.recognizers import RunnerRecognizer

# Of the matrices whose product is timed. A GPU computes a product of 1,024 rows faster than it can
# be started, so that the peak would come out far too low.
_PEAK_SIZES = {"cpu": 1024, "cuda": 8192}
_PEAK_TRIES = 12


@dataclass(frozen=True)
class Pass:
    """One pass over all lines, stage by stage. `shapes` are (lines, width in px) of the batches."""

    stages: Stages
    padding_waste: float
    shapes: tuple[tuple[int, int], ...]


def by_stages(
    recognizer: "RunnerRecognizer", crops: "Sequence[Image]", read_s: float
) -> Pass:
    """Read the crops as the recognizer does, and time each stage separately."""
    contract = recognizer.runner.contract
    clock = time.perf_counter
    began = clock()
    geometry = contract.geometry
    lines = [resize_line(tightened(crop, geometry), geometry) for crop in crops]
    resize = clock() - began
    network = decode = 0.0
    shapes = []
    widths = [line.shape[1] for line in lines]
    for width, members in recognizer.batches(widths):
        began = clock()
        images, own = pad_batch(
            [lines[index] for index in members], contract.geometry, width
        )
        padded = clock()
        logits = recognizer.runner.run(images, own)  # (N, T, C)
        ran = clock()
        frames = np.array([contract.out_length(int(w)) for w in own])
        list(
            recognizer.decode(
                logits,
                frames,
                contract.charset,
                contract.output_activation,
                contract.temperature,
            )
        )
        resize, network, decode = (
            resize + padded - began,
            network + ran - padded,
            decode + clock() - ran,
        )
        shapes.append((len(members), width))
    waste = sum(count * width for count, width in shapes) / sum(widths) - 1
    return Pass(
        Stages(read=read_s, resize=resize, network=network, decode=decode),
        waste,
        tuple(shapes),
    )


def time_grid(
    runners: "Mapping[str, Runner]",
    batches: Sequence[int],
    widths: Sequence[int],
    rounds: int,
    calls: int = 3,
) -> list[Cell]:
    """Time every network (by name) at every batch size and width. They take turns: each round
    visits all of them.
    """
    rng = np.random.default_rng(0)
    cells = [
        (name, batch, width) for width in widths for batch in batches for name in runners
    ]
    runs: list[list[float]] = [[] for _ in cells]
    for number in range(rounds + 1):  # the first one warms up
        for (name, batch, width), found in zip(cells, runs, strict=True):
            runner = runners[name]
            images = rng.integers(
                0, 256, (batch, 3, runner.contract.geometry.height, width), np.uint8
            )
            own = np.full(batch, width, np.int64)
            spent = []
            for _ in range(calls if number else 1):
                began = time.perf_counter()
                runner.run(images, own)
                spent.append(1000 * (time.perf_counter() - began))
            if number:
                found.append(median(spent))
    return [
        _cell(name, runners[name], batch, width, found)
        for (name, batch, width), found in zip(cells, runs, strict=True)
    ]


def _cell(
    name: str, runner: "Runner", batch: int, width: int, runs_ms: Sequence[float]
) -> Cell:
    """Return the figures of one network at one batch size and width."""
    median_ms = median(runs_ms)
    pixels = batch * width * runner.contract.geometry.height
    return Cell(
        name=name,
        backend=runner.backend,
        precision=str(getattr(runner, "precision", "")),
        batch=batch,
        width_px=width,
        runs_ms=tuple(runs_ms),
        median_ms=median_ms,
        lines_per_s=1000 * batch / median_ms,
        pixels_per_s=1000 * pixels / median_ms,
    )


def peak_gflops(device: str, threads: int | None, precision: str = "fp32") -> float:
    """Return the speed of the fastest of a few matrix products on the device in one number format
    (fp32, fp16 or bf16), in 1e9 operations per second. It is the upper bound for a network of that
    format.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    size = _PEAK_SIZES[torch.device(device).type]
    # Random values: a GPU multiplies ones with less power, hence faster.
    a = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(_PEAK_TRIES):
        began = time.perf_counter()
        product = a @ a
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e9


def share_of_peak(
    achieved_gflops: float, peaks: Mapping[str, float], precision: str
) -> float | None:
    """Return the share of the peak of a network's number format; None where that has no measured
    peak (int8). A network that is faster than the measured product has reached the peak.
    """
    peak = peaks.get(precision or "fp32")
    if peak is None:
        return None
    return min(1.0, achieved_gflops / peak)


class Operations:
    """Counts the floating-point operations of a network's matrix products and convolutions by
    shape, on weights in torch. A multiplication and an addition count as two. An exported network
    has the counts of the architecture that its contract names.
    """

    def __init__(self, runner: "Runner") -> None:
        from pydantic import TypeAdapter

        from nordocr_cli.models.registry import build_model
        from nordocr_cli.settings import Model

        self._contract = runner.contract
        model: Model = TypeAdapter(Model).validate_python(dict(self._contract.model))
        self._model = build_model(model, self._contract.charset.num_classes).eval()
        self._counted: dict[int, float] = {}

    def of(self, batch: int, width: int) -> float:
        """Return the operations of one call. Attention grows with the square of the width, so every
        shape is counted.
        """
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        if width not in self._counted:
            counter = FlopCounterMode(display=False)
            # The counter does not support the CPU's fused attention and would count 0 for it. The
            # attention is therefore computed in separate operations.
            with sdpa_kernel(SDPBackend.MATH), counter, torch.inference_mode():
                self._model(
                    torch.zeros(1, 3, self._contract.geometry.height, width),
                    torch.tensor([width]),
                )
            self._counted[width] = float(counter.get_total_flops())
        return batch * self._counted[width]


def reset_peak_memory() -> bool:
    """Reset the system's record of peak resident memory. Return False where the system cannot (only
    Linux can).
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_memory_mb() -> float | None:
    """Return the largest resident memory since reset_peak_memory, in MiB; None where it is not
    known.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next(
        (int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None
    )
