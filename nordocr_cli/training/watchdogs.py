"""What is watched while a network trains: steps that are not finite, waiting for data, an idle GPU,
a full disk, and what the readings say about labels and network. Each problem is reported once.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nordocr_cli.data.batches import Batch
from nordocr_cli.errors import DataError
from nordocr_cli.progress import Progress
from nordocr_cli.settings import Train
from nordocr_cli.training.diagnosis import explain_not_finite, not_finite_by_themselves
from nordocr_cli.training.evaluation import Scores
from nordocr_cli.training.runlog import RunLog
from nordocr_cli.training.state import TrainState
from nordocr_cli.training.step import Stepper, StepResult
from nordocr_cli.training.usage import WindowFigures, idle_gpu

MAX_SKIPPED_IN_A_ROW = 10
MAX_STEPS_WITH_ONE_ROW = 3  # steps that one row may make not finite
_STEPS_TO_PROBE = 2
_MAX_NAMED_ROWS = 3
WAIT_SHARE_TO_WARN = 0.2
_BUSY_SHARE = 0.6  # of the threads' cores: below it other programs take the rest
_EMPTY_SHARE_TO_WARN = 0.9
_REPORTS_TO_WARM_UP = 3  # before the use of the GPU is measured


class NotFiniteError(DataError):
    """Losses or gradients are not finite, step after step."""


@dataclass(frozen=True)
class _OffendingLines:
    """Of one skipped step: all its row ids, those whose loss is not finite when read alone, and
    whether that holds for every line.
    """

    row_ids: list[str]
    offending: list[str]
    every_line: bool


class SkippedSteps:
    """Counts the steps that are skipped because their loss or gradients are not finite, and ends
    the run when they do not stop.
    """

    def __init__(self, stepper: Stepper, log: RunLog | None, progress: Progress) -> None:
        self._stepper = stepper
        self._log = log
        self._progress = progress
        self._steps_with_row: Counter[str] = Counter()

    def count(
        self, batches: Sequence[Batch], result: StepResult, state: TrainState
    ) -> None:
        """Record a skipped step. Raises NotFiniteError after ten in a row, or after three with the
        same line.
        """
        state.skipped += 1
        state.skipped_in_a_row += 1
        # fp16 searches by design for the largest scale whose gradients are finite; a step or two of
        # that search are not worth a warning.
        probing = self._stepper.scaler.is_enabled() and math.isfinite(result.loss)
        found = self._offending_lines(batches, search=not probing)
        rows = _shortened(found.row_ids)
        if self._log:
            self._log.event(
                state.step,
                "skipped",
                loss=str(result.loss),
                norm=str(result.norm),
                rows=found.row_ids,
                alone=found.offending,
            )
        if not probing or state.skipped_in_a_row > _STEPS_TO_PROBE:
            self._progress.warn(
                f"step {state.step:,} skipped: loss {result.loss}, gradient norm {result.norm};"
                f" rows {rows}"
            )

        self._steps_with_row.update(found.offending)
        repeated = [
            name
            for name in found.offending
            if self._steps_with_row[name] >= MAX_STEPS_WITH_ONE_ROW
        ]
        if state.skipped_in_a_row < MAX_SKIPPED_IN_A_ROW and not repeated:
            return

        stepper = self._stepper
        reason = explain_not_finite(
            stepper.model,
            repeated or found.offending,
            not repeated and found.every_line,
            stepper.settings.lr,
            stepper.precision,
        )
        if repeated:
            times = f"{self._steps_with_row[repeated[0]]} steps with one line"
        else:
            times = f"{state.skipped_in_a_row} steps in a row"
        raise NotFiniteError(
            f"{times} were not finite, the last at step {state.step:,} (rows {rows}): {reason}"
        )

    def _offending_lines(
        self, batches: Sequence[Batch], *, search: bool
    ) -> _OffendingLines:
        """Find the lines of a step, in all processes, whose own loss is not finite."""
        stepper = self._stepper
        row_ids = [row for batch in batches for row in batch.row_ids]
        offending: list[str] = []
        samples = 0
        if search:
            for batch in batches:
                found = not_finite_by_themselves(stepper, batch)
                offending += [name for index in found for name in batch.ids_of(index)]
                samples += len(found)
        every_line = samples == sum(map(len, batches))

        gathered = stepper.context.all_gather((row_ids, offending, every_line))
        return _OffendingLines(
            [name for rows, _, _ in gathered for name in rows],
            [name for _, names, _ in gathered for name in names],
            all(every for _, _, every in gathered),
        )


class SpeedWatch:
    """Warns once of a run that waits for its data, once of a machine that other programs keep busy,
    and once of a GPU that is mostly idle.
    """

    def __init__(
        self, settings: Train, device: torch.device, workers: int, lines_per_batch: int
    ) -> None:
        self._settings = settings
        self._device = device
        self._workers = workers
        self._lines_per_batch = lines_per_batch
        self._warned_of_waiting = self._warned_of_busy = self._measured_gpu = False

    def check(self, figures: WindowFigures, step: int, progress: Progress) -> None:
        """Look at the figures of one report."""
        waiting = figures.data_wait > WAIT_SHARE_TO_WARN
        if waiting and not self._warned_of_waiting and step > self._settings.log_every:
            self._warned_of_waiting = True
            progress.warn(
                f"loader-bound: {figures.data_wait:.0%} of the time is spent waiting for data;"
                f" raise data.num_workers ({self._workers}), or put the line store on a faster disk"
            )
        self._check_cores(figures, step, progress)
        warm = step >= _REPORTS_TO_WARM_UP * self._settings.log_every
        if self._device.type == "cuda" and warm and not self._measured_gpu:
            self._measured_gpu = True
            advice = idle_gpu(self._device, self._lines_per_batch)
            if advice:
                progress.warn(advice)

    def _check_cores(self, figures: WindowFigures, step: int, progress: Progress) -> None:
        """Several threads on cores that other programs use wait for each other at every operation:
        one thread is faster then.
        """
        threads = torch.get_num_threads()
        if self._device.type != "cpu" or threads < 2 or self._warned_of_busy:
            return
        waiting = figures.data_wait > WAIT_SHARE_TO_WARN
        if (
            waiting
            or step <= self._settings.log_every
            or figures.cores >= _BUSY_SHARE * threads
        ):
            return
        self._warned_of_busy = True
        progress.warn(
            f"this machine is busy: {threads} threads get {figures.cores:.1f} cores. Fewer threads"
            " are faster then; stop and resume with --threads 1"
        )


class ReadingWatch:
    """Warns of what the readings of an evaluation show to be wrong: each kind of fault once, the
    plateau of blanks at every evaluation. Before the end of the warm-up nothing can be judged.
    """

    def __init__(self, settings: Train) -> None:
        self._settings = settings
        self._reported: set[str] = set()

    def check(self, scores: Scores, step: int, done: float, progress: Progress) -> None:
        """Look at an evaluation at the share `done` of the run."""
        if done <= self._settings.warmup_ratio:
            return
        for kind, fault in scores.faults.items():
            if kind not in self._reported:
                progress.warn(f"step {step:,}: {fault}")
        self._reported |= scores.faults.keys()
        if scores.empty > _EMPTY_SHARE_TO_WARN:
            progress.warn(
                f"{scores.empty:.0%} of the lines are read as nothing after the warm-up: the CTC"
                f" blank plateau. If it lasts, lower train.lr ({self._settings.lr:g}), raise"
                f" train.warmup_ratio ({self._settings.warmup_ratio:g}), or begin with short lines"
            )


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMED_ROWS])
    more = len(names) - _MAX_NAMED_ROWS
    if more > 0:
        return f"{shown} and {more} more"
    return shown
