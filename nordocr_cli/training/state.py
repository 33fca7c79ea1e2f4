"""How far a run is, and when it ends. No torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class TrainState:
    """How far a run is.

    `batch` counts the finished batches of the present `epoch` and `batches` those of all epochs
    (in a run that an earlier version began, those since then); `elapsed_s` is wall-clock seconds of
    all sessions together, and `uncounted_s` those before batches were counted; `best_step` is the
    step of the best evaluation, -1 before the first, and `best_cost` its value of
    `train.best_metric`, negative where a higher value is better.

    When a resumed run gets another length, the rest of the learning-rate schedule is stretched over
    the rest of the run: from the share `stretched_from` of the run on, the schedule continues from
    `stretched_at`. Both are 0 in a run whose length never changed.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    lines: int = 0
    elapsed_s: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    evaluated_step: int = -1
    best_step: int = -1
    best_cer: float = float("inf")
    best_exact: float = 0.0
    best_cost: float = float("inf")
    stretched_from: float = 0.0
    stretched_at: float = 0.0
    batches: int = 0
    uncounted_s: float = 0.0

    @classmethod
    def from_saved(cls, position: Mapping[str, Any]) -> "TrainState":
        """Return the state of a saved run. Earlier versions did not count `batches`."""
        state = cls(**position)
        if "batches" not in position:
            state.uncounted_s = state.elapsed_s
        return state

    @property
    def batches_per_s(self) -> float:
        """Batches a second of wall-clock time, in the sessions that counted them."""
        return self.batches / max(self.elapsed_s - self.uncounted_s, 1e-9)

    def scheduled(self, done: float) -> float:
        """Return the position 0…1 in the learning-rate schedule when the share `done` of the run is
        finished.
        """
        if done >= 1.0:
            return 1.0
        left = (1 - self.stretched_at) / (1 - self.stretched_from)
        return self.stretched_at + (done - self.stretched_from) * left


@dataclass(frozen=True)
class RunLimits:
    """When a run ends: after `epochs`, unless steps or minutes are given; then only those count,
    and whichever comes first.
    """

    epochs: int
    max_steps: int | None = None
    max_minutes: float | None = None

    def progress(self, state: TrainState, lines: int) -> float:
        """Return the finished share 0…1 of the run, `lines` being those of an epoch. The learning
        rate follows it.
        """
        shares = []
        if self.max_steps is not None:
            shares.append(state.step / self.max_steps)
        if self.max_minutes is not None:
            shares.append(state.elapsed_s / (60.0 * self.max_minutes))
        if shares:
            return max(shares)
        return state.lines / (self.epochs * lines)


def seconds_left(done_before: float, done: float, session_s: float) -> float | None:
    """Return the seconds that a run still needs when `session_s` seconds of this session brought it
    from the share `done_before` to `done`; None before anything is known.
    """
    gained = done - done_before
    if gained <= 0 or session_s <= 0:
        return None
    return max(0.0, (1.0 - done) * session_s / gained)


def duration(seconds: float) -> str:
    """Return a duration in words of two units at most: "45 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = math.ceil(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min"
    return f"{hours // 24} days {hours % 24} h"
