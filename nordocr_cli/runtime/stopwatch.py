"""Timing recognizers side by side.

Timed one after another on a busy machine, the same network differs from itself by half. Every round
therefore visits every recognizer, and medians over rounds are compared, never means or best runs.
"""

import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import Recognition
from nordocr_cli.runtime.protocols import Image, Recognizer

_VERSIONS_OF = (
    "torch",
    "onnxruntime",
    "tensorrt-rtx",
    "tensorrt",
    "numpy",
    "opencv-python-headless",
)


@dataclass
class Laps:
    """The measurements of one recognizer: seconds for all lines, one value per round; milliseconds
    of single lines, one list per round, in the order of the sample; and the texts that it read.
    """

    all_lines_s: list[float] = field(default_factory=list)
    single_line_ms: list[list[float]] = field(default_factory=list)
    readings: list[Recognition] = field(default_factory=list)

    def latency_ms(self, share: float) -> float:
        """Return the milliseconds below which `share` (0…1) of the sampled lines are (nearest
        rank). Each line counts with its median.
        """
        return _nearest_rank(
            [median(of_line) for of_line in zip(*self.single_line_ms, strict=True)], share
        )

    def call_ms(self, share: float) -> float:
        """Return the milliseconds below which `share` (0…1) of all calls are (nearest rank)."""
        return _nearest_rank(
            [call for of_round in self.single_line_ms for call in of_round], share
        )


def _nearest_rank(values: Sequence[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def time_side_by_side(
    recognizers: Sequence[Recognizer],
    crops: Sequence[Image],
    languages: Sequence[str],
    *,
    rounds: int,
    single_lines: int,
    progress: Progress = SILENT,
) -> list[Laps]:
    """Time recognizers over the same crops. In each round, each of them reads all crops at once,
    then a sample one by one. Before the first round each reads the sample once, untimed, since
    first calls build kernels and fill caches.
    """
    step = max(1, len(crops) // max(1, single_lines))
    sample = range(0, len(crops), step)[:single_lines]
    laps = [Laps() for _ in recognizers]
    progress.start("timing", total=len(recognizers) * (rounds + 1), unit="runs")
    for recognizer in recognizers:
        recognizer.recognize([crops[i] for i in sample], [languages[i] for i in sample])
        progress.advance(warming=recognizer.name)
    for _ in range(rounds):
        for recognizer, lap in zip(recognizers, laps, strict=True):
            began = time.perf_counter()
            lap.readings = recognizer.recognize(crops, languages)
            lap.all_lines_s.append(time.perf_counter() - began)
            singles = []
            for i in sample:
                began = time.perf_counter()
                recognizer.recognize([crops[i]], [languages[i]])
                singles.append(1000 * (time.perf_counter() - began))
            lap.single_line_ms.append(singles)
            progress.advance(timed=recognizer.name)
    progress.finish()
    return laps


def measurement_environment(threads: int | None) -> dict[str, Any]:
    """Return where a measurement was taken: processor, cores, requested threads, load, versions. An
    unknown value is None.
    """
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    versions = {name: _version(name) for name in _VERSIONS_OF}
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_average": [round(value, 2) for value in load] if load else None,
        "versions": {name: found for name, found in versions.items() if found},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(
                (
                    line.split(":", 1)[1].strip()
                    for line in file
                    if line.startswith("model name")
                ),
                None,
            )
    except OSError:
        return platform.processor() or None
