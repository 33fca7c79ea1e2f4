"""How a run uses its machine: speed, waiting for data, memory, and how busy the GPU is."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nordocr_cli.training.disk_space import megabytes

_FILLED = 0.8  # of the GPU's memory that a batch may come to
_BUSY = 0.6  # below this share a GPU counts as idle
_MAX_GROWTH = 4.0
_MIN_GROWTH = 1.25


def memory_shown(device: torch.device) -> str:
    """Return the memory in use for the progress line: on a GPU its peak, otherwise that of this
    process; "" where the platform does not report it.
    """
    if device.type == "cuda":
        peak, total = gpu_memory(device)
        return f"{peak / 1e9:.1f}/{total / 1e9:.0f} GB"
    used = memory_used(device)
    if used is None:
        return ""
    return megabytes(used)


def memory_used(device: torch.device) -> int | None:
    """Return bytes in use: on a GPU the peak that torch reserved, otherwise those of this process;
    None where the platform does not report them.
    """
    if device.type == "cuda":
        return gpu_memory(device)[0]
    if not sys.platform.startswith("linux"):
        return None
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def gpu_memory(device: torch.device) -> tuple[int, int]:
    """Return (peak bytes that torch has reserved, bytes that the GPU has)."""
    return (
        torch.cuda.max_memory_reserved(device),
        torch.cuda.get_device_properties(device).total_memory,
    )


def gpu_busy(device: torch.device) -> float | None:
    """Return the share of the last moments in which the GPU was computing, by nvidia-smi; None
    where it is not available.
    """
    identity = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    command = [
        "nvidia-smi",
        f"--id={identity}",
        "--query-gpu=utilization.gpu",
        "--format=csv,noheader,nounits",
    ]
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=5, check=True
        )
        return float(found.stdout) / 100
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def idle_gpu(device: torch.device, lines: int) -> str:
    """Return a warning when the GPU is idle much of the time and a batch of more than `lines` lines
    would fit, else "".
    """
    busy, (peak, total) = gpu_busy(device), gpu_memory(device)
    more = larger_batch(lines, peak, total)
    if busy is None or busy >= _BUSY or not more:
        return ""
    return (
        f"GPU underused: {busy:.0%} busy, {peak / 1e9:.1f} of {total / 1e9:.0f} GB used by {lines}"
        f" lines a batch; in a new run try batch {more} (train.batch_size, or train.batch_by_arch"
        " for this card)"
    )


def larger_batch(lines: int, peak: int, total: int) -> int | None:
    """Return how many lines a batch may have, by the memory that `lines` of them take; None where
    that is not much more.
    """
    growth = min(_MAX_GROWTH, _FILLED * total / max(peak, 1))
    if growth >= _MIN_GROWTH:
        return int(lines * growth)
    return None


def rate_text(rate: float) -> str:
    """Return a rate in digits that never show a slow one as 0: "1,240", "37", "6.1", "0.04"."""
    if rate >= 10:
        return f"{rate:,.0f}"
    if rate >= 1:
        return f"{rate:.1f}"
    return f"{rate:.2g}"


@dataclass(frozen=True)
class WindowFigures:
    """Figures between two reports: mean loss (NaN without a finite step), lines and batches a
    second, the share of the time spent waiting for data, and the CPU cores that this process got
    on average. Lines are those of all processes, batches those of one.
    """

    loss: float
    lines_per_s: float
    batches_per_s: float
    data_wait: float
    cores: float


class Window:
    """Collects the figures between two reports."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.began = time.monotonic()
        self.cpu_began = time.process_time()
        self.waited_s = self.paused_s = self.paused_cpu_s = 0.0
        self.lines = self.batches = 0
        self.losses: list[float] = []

    def add(self, lines: int, batches: int, loss: float) -> None:
        """Count a step of `batches` batches; a loss that is not finite stays out of the mean."""
        self.lines += lines
        self.batches += batches
        if math.isfinite(loss):
            self.losses.append(loss)

    def pause(self, work: Callable[[], None]) -> None:
        """Do `work` without counting its time."""
        began = time.monotonic()
        cpu_began = time.process_time()
        work()
        self.paused_s += time.monotonic() - began
        self.paused_cpu_s += time.process_time() - cpu_began

    def close(self) -> WindowFigures:
        """Return the figures and begin the next window."""
        seconds = max(time.monotonic() - self.began - self.paused_s, 1e-9)
        if self.losses:
            loss = sum(self.losses) / len(self.losses)
        else:
            loss = math.nan
        cpu_s = time.process_time() - self.cpu_began - self.paused_cpu_s
        figures = WindowFigures(
            loss,
            lines_per_s=self.lines / seconds,
            batches_per_s=self.batches / seconds,
            data_wait=self.waited_s / seconds,
            cores=cpu_s / seconds,
        )
        self._reset()
        return figures
