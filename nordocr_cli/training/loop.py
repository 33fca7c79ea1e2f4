"""The training loop: steps, evaluations and checkpoints.

What it reports is in reporting.py, what it watches in watchdogs.py, how far it is in state.py, and
one optimizer step in step.py.
"""

import math
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import Charset
from nordocr_cli.data.batches import Batch, LineBatches
from nordocr_cli.errors import DataError, Interrupted
from nordocr_cli.models.base import AuxiliaryBranch, LineNetwork
from nordocr_cli.models.weights import save_weights
from nordocr_cli.progress import Progress
from nordocr_cli.settings import Train
from nordocr_cli.training.checkpoint import restore_rng, rng_state, save_state
from nordocr_cli.training.disk_space import nearly_full
from nordocr_cli.training.distributed import DistributedContext
from nordocr_cli.training.ema import Ema
from nordocr_cli.training.evaluation import Scores, evaluate_batches
from nordocr_cli.training.malloc import give_memory_back
from nordocr_cli.training.reporting import Reporter
from nordocr_cli.training.runlog import BEST, LAST, STATE_FILE, RunLog
from nordocr_cli.training.schedule import learning_rate
from nordocr_cli.training.state import RunLimits, TrainState, seconds_left
from nordocr_cli.training.step import Stepper, StepResult
from nordocr_cli.training.watchdogs import (
    NotFiniteError,
    ReadingWatch,
    SkippedSteps,
    SpeedWatch,
)

_TRIM_EVERY = 25  # steps; malloc keeps several hundred MB in a hundred of them


@dataclass(frozen=True)
class TrainJob:
    """What is trained, on what, how and where to. `identity` is everything that must be the same in
    a resumed run; `branch` is the network's auxiliary branch, where the profile asks for one.
    """

    model: LineNetwork
    branch: AuxiliaryBranch | None
    train: LineBatches
    val: LineBatches
    charset: Charset
    contract: Contract
    settings: Train
    limits: RunLimits
    device: torch.device
    precision: str
    folder: Path
    identity: dict[str, Any]


class Trainer:
    """One run: a job with its optimizer, its averaged weights and how far it is.

    `log` is None in every process but the main one; `stop` is called after each step, and the run
    ends when it returns true in any process.
    """

    def __init__(
        self,
        job: TrainJob,
        *,
        log: RunLog | None,
        progress: Progress,
        stop: Callable[[], bool],
        context: DistributedContext | None = None,
    ) -> None:
        self.job = job
        self.log = log
        self.progress = progress
        self.stop = stop
        self.context = context or DistributedContext()
        settings = job.settings
        device = job.device
        self.model = job.model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.train()
        self.branch = job.branch.to(device) if job.branch else None
        self.ema = Ema(self.model, settings.ema_decay) if settings.ema_decay else None
        self.stepper = Stepper(
            self.model,
            self.branch,
            job.contract.geometry,
            settings,
            device,
            job.precision,
            self.context,
        )

        self.state = TrainState()
        self.reporter = Reporter(job.folder, job.charset, device, log, progress)
        self._skipped_steps = SkippedSteps(self.stepper, log, progress)
        self._reading_watch = ReadingWatch(settings)
        options = job.train.options
        self._speed_watch = SpeedWatch(
            settings, device, options.workers, options.budget_px // settings.batch_width_px
        )
        self._session_start = time.monotonic()
        self._elapsed_before = 0.0
        self._done_before = 0.0
        self._saved_step = -1
        self._warned_of_disk = False

    @property
    def weights(self) -> LineNetwork:
        """The network that is evaluated and shipped: the averaged one, where there is one."""
        if self.ema:
            return self.ema.model
        return self.model

    @property
    def scores(self) -> Scores | None:
        """The last evaluation."""
        return self.reporter.scores

    # the loop
    # ----------------------------------------

    def run(self) -> TrainState:
        """Train until the limits are reached.

        Raises Interrupted when `stop` returns true, and DataError when data cannot be read or the
        run cannot be written; both after saving what can be saved. Raises NotFiniteError when step
        after step is not finite.
        """
        try:
            self._train()
        except (NotFiniteError, Interrupted):
            self.reporter.draw()
            raise
        except DataError as error:
            raise DataError(f"{error}; {self._save_after_error()}") from error
        self.reporter.draw()
        return self.state

    def _train(self) -> None:
        state = self.state
        self._session_start = time.monotonic()
        self._done_before = self.job.limits.progress(state, len(self.job.train))
        self._start_progress()
        batches = self._endless_batches()
        try:
            if self._was_stopped_in_evaluation():
                self.reporter.window.pause(self._evaluate_and_save)
            while True:
                done = self._share_done()
                if done >= 1.0 or self._stop_requested():
                    break
                self._train_one_step(batches, done)
            if self._share_done() >= 1.0 and state.evaluated_step != state.step:
                self._evaluate_and_save()
            if self._stop_requested():
                self.save()
                raise Interrupted(
                    f"interrupted after step {state.step:,}; everything is saved. Resume with:"
                    f" nordocr train --resume {self.job.folder}"
                )
        finally:
            batches.close()
            self.progress.finish()

    def _train_one_step(
        self, batches: Generator[list[Batch], None, None], done: float
    ) -> None:
        state = self.state
        settings = self.job.settings
        window = self.reporter.window
        began = time.monotonic()
        together = next(batches)
        window.waited_s += time.monotonic() - began

        scheduled = state.scheduled(done)
        lr = settings.lr * learning_rate(
            settings.schedule, scheduled, settings.warmup_ratio
        )
        result = self._step(together, lr)
        lines = sum(batch.shared_lines for batch in together)
        window.add(lines, len(together), result.loss)

        left = self._seconds_left()
        if state.step % settings.log_every == 0:
            figures = self.reporter.report(state, lr, result.norm, left)
            if self.context.is_main:
                self._speed_watch.check(figures, state.step, self.progress)
        self.reporter.show(state, done, lines, left)

        if self.job.device.type == "cpu" and state.step % _TRIM_EVERY == 0:
            give_memory_back()
        if state.step % settings.eval_every == 0:
            window.pause(self._evaluate_and_save)
        elif state.step % settings.save_every == 0:
            window.pause(self.save)

    def _step(self, batches: list[Batch], lr: float) -> StepResult:
        state = self.state
        result = self.stepper.step(batches, lr)
        state.step += 1
        state.batch += len(batches)
        state.batches += len(batches)
        state.lines += sum(batch.shared_lines for batch in batches)
        if not result.finite:
            self._skipped_steps.count(batches, result, state)
            return result

        state.skipped_in_a_row = 0
        if self.ema:
            self.ema.update(self.model, state.step)
        return result

    def _endless_batches(self) -> Generator[list[Batch], None, None]:
        """Yield the batches of each step from where the run is, epoch after epoch. A step never
        reaches into the next epoch.
        """
        state = self.state
        while True:
            with closing(self.job.train.epoch(state.epoch, state.batch)) as batches:
                while together := list(islice(batches, self.job.settings.accumulate)):
                    yield together
            state.epoch += 1
            state.batch = 0

    # how far the run is
    # ----------------------------------------

    def _start_progress(self) -> None:
        limits = self.job.limits
        lines = len(self.job.train)
        by_epochs = not limits.max_steps and not limits.max_minutes
        self.progress.start("train", limits.epochs * lines if by_epochs else None, "lines")
        if by_epochs and self.state.lines:
            self.progress.advance(self.state.lines)

    def _count_time(self) -> None:
        session_s = time.monotonic() - self._session_start
        self.state.elapsed_s = self._elapsed_before + session_s

    def _local_share_done(self) -> float:
        self._count_time()
        return self.job.limits.progress(self.state, len(self.job.train))

    def _share_done(self) -> float:
        """Return the finished share of the run. The processes' clocks differ; the latest counts."""
        return self.context.all_reduce_max(self._local_share_done())

    def _seconds_left(self) -> float | None:
        # The share is taken now: that from before the step would not hold the step's own time.
        done = self._local_share_done()
        return seconds_left(self._done_before, done, time.monotonic() - self._session_start)

    def _stop_requested(self) -> bool:
        return self.context.all_reduce_max(self.stop()) > 0

    def _was_stopped_in_evaluation(self) -> bool:
        """Whether the session before ended in the middle of an evaluation that is due."""
        state = self.state
        due = state.step > 0 and state.step % self.job.settings.eval_every == 0
        return due and state.evaluated_step != state.step

    # evaluation
    # ----------------------------------------

    def _evaluate_and_save(self) -> None:
        """Evaluate in the main process, share the outcome, and save."""
        if self.context.is_main:
            self._evaluate()
        vars(self.state).update(self.context.broadcast(vars(self.state)))
        if self.state.evaluated_step != self.state.step:
            return  # a stop was requested; the run saves and ends
        self.save()
        self.reporter.saved(self.state)

    def _evaluate(self) -> None:
        state = self.state
        job = self.job
        scores = evaluate_batches(
            self.weights, job.val, job.charset, job.device, self.stepper.amp, self.stop
        )
        if scores is None:
            return  # a stop was requested
        state.evaluated_step = state.step
        cost = scores.cost(job.settings.best_metric)
        before = (self._best_cost(), state.best_cer, -state.best_exact)
        best = (cost, scores.cer, -scores.exact) < before
        if best:
            state.best_step = state.step
            state.best_cost = cost
            state.best_cer = scores.cer
            state.best_exact = scores.exact
            save_weights(job.folder / BEST, self.weights.state_dict(), job.contract)
        self.reporter.evaluation(state, scores, best=best)
        self._reading_watch.check(
            scores, state.step, self._local_share_done(), self.progress
        )

    def _best_cost(self) -> float:
        """The cost of the best evaluation; runs of older versions know its CER alone."""
        state = self.state
        if math.isinf(state.best_cost) and self.job.settings.best_metric == "cer":
            return state.best_cer
        return state.best_cost

    # saving and restoring
    # ----------------------------------------

    def save(self) -> None:
        """Write last.safetensors and the state to resume from."""
        self._count_time()
        self._saved_step = self.state.step
        rng, *rng_of_others = self.context.all_gather(rng_state(self.job.device))
        if not self.context.is_main:
            return
        folder = self.job.folder
        save_weights(folder / LAST, self.weights.state_dict(), self.job.contract)
        save_state(
            folder,
            {
                "identity": self.job.identity,
                "contract": self.job.contract.to_json(),
                "model": self.model.state_dict(),
                "guidance": self.branch.state_dict() if self.branch else {},
                "ema": self.ema.model.state_dict() if self.ema else {},
                "optimizer": self.stepper.optimizer.state_dict(),
                "scaler": self.stepper.scaler.state_dict(),
                "precision": self.job.precision,
                "rng": rng,
                "rng_of_others": rng_of_others,
                "position": asdict(self.state),
                "limits": asdict(self.job.limits),
            },
        )
        warning = nearly_full(folder, self.model, averaged=self.ema is not None)
        if warning and not self._warned_of_disk:
            self.progress.warn(warning)
        self._warned_of_disk = bool(warning)

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from `load_state()`: the same weights, optimizer, random numbers and place in
        the data. Warns of what another device or precision does not allow to restore.
        """
        self.model.load_state_dict(saved["model"])
        if self.branch:
            self.branch.load_state_dict(saved["guidance"])
        if self.ema:
            self.ema.model.load_state_dict(saved["ema"])
        self.stepper.optimizer.load_state_dict(saved["optimizer"])
        self._restore_precision(saved)
        self._restore_random_numbers(saved)
        self.state = TrainState.from_saved(saved["position"])
        self._elapsed_before = self.state.elapsed_s
        self._saved_step = self.state.step
        self._stretch_schedule(saved)

    def _restore_precision(self, saved: dict[str, Any]) -> None:
        before = saved.get("precision", self.job.precision)
        if before != self.job.precision:
            self.progress.warn(
                f"the run was computed in {before} and continues in {self.job.precision}; its"
                " results will not be exactly those of an uninterrupted run"
            )
        if self.stepper.scaler.is_enabled() and saved["scaler"]:
            self.stepper.scaler.load_state_dict(saved["scaler"])

    def _restore_random_numbers(self, saved: dict[str, Any]) -> None:
        states = [saved["rng"], *saved.get("rng_of_others", [])]
        rank = self.context.rank
        own = states[rank] if rank < len(states) else None
        if own is None or not restore_rng(own, self.job.device):
            self.progress.warn(
                f"the run drew its random numbers on another kind of device than {self.job.device};"
                " they restart, and results will not be exactly those of an uninterrupted run"
            )

    def _stretch_schedule(self, saved: dict[str, Any]) -> None:
        """Spread the rest of the learning-rate schedule over the rest of a run whose length was
        changed.
        """
        limits = self.job.limits
        lines = len(self.job.train)
        before = RunLimits(**saved["limits"]) if "limits" in saved else limits
        if before == limits:
            return
        state = self.state
        state.stretched_at = state.scheduled(before.progress(state, lines))
        state.stretched_from = limits.progress(state, lines)

    def _save_after_error(self) -> str:
        """After an error: save if possible; return what is saved, and how to continue."""
        if self.context.world_size == 1:
            # Several processes would have to save at the same time.
            with suppress(DataError):  # the full disk that is reported already
                self.save()
        folder = self.job.folder
        if not (folder / STATE_FILE).is_file():
            return "nothing was saved yet; start again when that is fixed"
        return (
            f"step {self._saved_step:,} is saved; when that is fixed, continue with: nordocr train"
            f" --resume {folder}"
        )
