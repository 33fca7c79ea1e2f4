"""How far a run is, and when it ends. No torch."""

from dataclasses import dataclass


@dataclass
class Position:
    """How far a run is. `batch` counts the batches of the present `epoch` that are done,
    `elapsed_s` wall-clock seconds of all sessions together; `best_step` is the step of the best
    evaluation, -1 before the first. From the share `stretched_from` of the run on, what was left of
    the schedule then, which stood at `stretched_at`, fills the rest: 0 and 0 in a run whose length
    was never changed.
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
    stretched_from: float = 0.0
    stretched_at: float = 0.0

    def scheduled(self, done: float) -> float:
        """Return how far the learning rate's schedule is, 0…1, when the share `done` of the run
        is.
        """
        if done >= 1.0:
            return 1.0
        return self.stretched_at + (done - self.stretched_from) * (1 - self.stretched_at) / (
            1 - self.stretched_from
        )


@dataclass(frozen=True)
class Limits:
    """When a run ends: after `epochs`, unless steps or minutes are given; then they alone count,
    and whichever comes first.
    """

    epochs: int
    max_steps: int | None = None
    max_minutes: float | None = None

    def progress(self, position: Position, lines: int) -> float:
        """Share 0…1 of the run that is done, `lines` being those of an epoch. The learning rate
        follows it.
        """
        shares = []
        if self.max_steps is not None:
            shares.append(position.step / self.max_steps)
        if self.max_minutes is not None:
            shares.append(position.elapsed_s / (60.0 * self.max_minutes))
        return max(shares) if shares else position.lines / (self.epochs * lines)
