"""How many lines a batch may have: measured by steps on lines of noise, whose network is thrown
away afterwards.
"""

import gc
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from nordocr_cli.data.batches import Batch
from nordocr_cli.errors import UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.training.disk_space import megabytes
from nordocr_cli.training.malloc import give_memory_back
from nordocr_cli.training.step import Stepper

_FILLED = {"cpu": 0.6, "cuda": 0.9}  # of the memory, or of the batch, that was found
_TRIES = 4  # between the last batch that fitted and the first one that did not
_LR = 1e-6
_ROUND = 8
_MIN_BYTES = 1e6  # of a line, should small steps hide in memory that is kept


def largest_batch(
    stepper: Stepper, geometry: Geometry, num_classes: int, maximum: int
) -> tuple[int, str]:
    """Return how many lines of `batch_width_px` a batch of `stepper` may have, at most `maximum`,
    and a sentence on how that was found. Lines of that width and of the widest input both fit.

    On a GPU larger and larger batches are tried; on a CPU the memory that two steps take is
    measured, and the free memory is divided by it. Raises UsageError where the free memory is not
    known (a CPU without Linux), and when not one line fits.
    """
    width_px = stepper.settings.batch_width_px
    device = stepper.device

    def step(lines: int) -> None:
        for width in sorted({width_px, geometry.max_width}):
            stepper.step(
                [noise(max(1, lines * width_px // width), width, geometry, num_classes)],
                _LR,
            )

    if maximum <= 1:
        found = 1
        how = ""
    elif device.type == "cuda":
        found, how = _tried(step, maximum)
    else:
        found, how = _measured(step, maximum)

    lines = found
    if found >= 2 * _ROUND:
        lines = found // _ROUND * _ROUND
    sentence = f"batch size {lines}: {lines * width_px:,} px a batch"
    if how:
        sentence += f", {how}"
    return lines, sentence


def noise(lines: int, width: int, geometry: Geometry, num_classes: int) -> Batch:
    """A batch of lines of noise, all `width` px, a character every 16 px."""
    characters = max(1, width // 16)
    return Batch(
        images=torch.randint(0, 256, (lines, 3, geometry.height, width), dtype=torch.uint8),
        widths=torch.full((lines,), width),
        targets=torch.randint(1, num_classes, (lines * characters,)),
        target_lengths=torch.full((lines,), characters),
        counts=torch.ones(lines, dtype=torch.int64),
        read_rows=tuple,
        shared_lines=lines,
        shared_characters=lines * characters,
    )


def _tried(step: Callable[[int], None], maximum: int) -> tuple[int, str]:
    """The largest batch that a GPU took, by doubling, then halving the distance."""

    def fits(lines: int) -> bool:
        try:
            step(lines)
        except torch.cuda.OutOfMemoryError:
            full = True  # freed below: here the error still holds the tensors of the step
        else:
            full = False
        if full:
            gc.collect()
            torch.cuda.empty_cache()
        return not full

    fitting = 0
    failing = maximum + 1
    lines = min(8, maximum)
    while lines < failing and fits(lines):
        fitting, lines = lines, min(2 * lines, maximum) if lines < maximum else failing
    if fitting == maximum:
        return maximum, "as many as are sensible for this data; they fit the GPU"
    failing = lines
    for _ in range(_TRIES):
        middle = (fitting + failing) // 2
        if middle == fitting:
            break
        fitting, failing = (middle, failing) if fits(middle) else (fitting, middle)
    if not fitting:
        raise UsageError(
            "not one line of this network fits the GPU: use train.checkpointing, or a smaller model"
        )
    return (
        max(1, int(fitting * _FILLED["cuda"])),
        f"{fitting} lines fitted the GPU and {failing} did not",
    )


def _measured(step: Callable[[int], None], maximum: int) -> tuple[int, str]:
    """What fits a CPU's free memory, by the peaks of a small step and of one of twice as many
    lines.
    """
    if not sys.platform.startswith("linux"):
        raise UsageError(
            "--batch-size auto measures memory on Linux and on GPUs; give a number of lines here"
        )
    few = min(8, maximum)
    step(2 * few)  # what is loaded once is loaded now
    small = _peak(lambda: step(few))
    large = _peak(lambda: step(2 * few))
    a_line = max((large - small) / few, _MIN_BYTES)
    give_memory_back()
    free = free_memory()
    lines = int(_FILLED["cpu"] * free / a_line)
    reason = f"{megabytes(int(a_line))} a line measured, {megabytes(free)} free"
    if lines > maximum:
        reason += f"; {lines} would fit, {maximum} are sensible for this data"
    return max(1, min(lines, maximum)), reason


def _peak(work: Callable[[], None]) -> int:
    """The most memory in bytes that this process has while it does `work`."""
    gc.collect()
    give_memory_back()  # what malloc keeps would hide what the work takes
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # restarts the peak
    work()
    return _kib("/proc/self/status", "VmHWM") * 1024


def free_memory() -> int:
    """Bytes of memory that can still be had: the machine's, or what the control group of this
    process leaves. Linux.
    """
    free = _kib("/proc/meminfo", "MemAvailable") * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    used = Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file():
        maximum = limit.read_text(encoding="ascii").strip()
        if maximum != "max":
            free = min(free, int(maximum) - int(used.read_text(encoding="ascii")))
    return max(0, free)


def _kib(file: str, key: str) -> int:
    lines = Path(file).read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(key + ":")).split()[1])
