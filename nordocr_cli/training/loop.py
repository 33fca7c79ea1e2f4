"""The training loop: steps, evaluations, checkpoints, and nothing else."""

import math
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import ImageFont
from torch import nn

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.atomic import write_text
from nordocr_cli.charset import Charset
from nordocr_cli.data.batches import Batch, LineBatches
from nordocr_cli.errors import DataError, Interrupted
from nordocr_cli.geometry import Geometry
from nordocr_cli.metrics.text import marked_difference
from nordocr_cli.models.guidance import Guidance
from nordocr_cli.models.weights import save_weights
from nordocr_cli.progress import Progress
from nordocr_cli.settings import Train
from nordocr_cli.training.checkpoint import restore_rng, rng_state, save_state
from nordocr_cli.training.curves import can_draw, draw_curves
from nordocr_cli.training.diagnosis import explain_not_finite, not_finite_by_themselves
from nordocr_cli.training.disk_space import short_of_room
from nordocr_cli.training.distributed import Team
from nordocr_cli.training.ema import Ema
from nordocr_cli.training.evaluation import Scores, evaluate, worst_table
from nordocr_cli.training.runlog import BEST, CURVES, LAST, STATE, WORST, RunLog
from nordocr_cli.training.sample_sheet import sample_sheet, sheet_font
from nordocr_cli.training.schedule import learning_rate
from nordocr_cli.training.state import Limits, Position
from nordocr_cli.training.step import Stepped, Stepper
from nordocr_cli.training.usage import Window, give_memory_back, idle_gpu, memory_shown

_MOST_SKIPPED_IN_A_ROW = 10
_SKIPPED_TO_PROBE = 2
_WAIT_SHARE_TO_WARN = 0.2
_EMPTY_SHARE_TO_WARN = 0.9
_TRIM_EVERY = 100  # steps
_MOST_BY_ONE_ROW = 3  # steps that one row may spoil
_WORST_SAID, _WORST_WIDTH = 3, 100  # lines, characters
_DRAW_EVERY_S = 60.0
_STEPS_TO_BE_WARM = 3  # reports before the GPU's use is looked at


class NotFiniteError(DataError):
    """Training has come to losses or gradients that are not finite, again and again."""


class Trainer:
    """One run: a network, its data, its optimizer and how far it is."""

    def __init__(
        self,
        *,
        model: nn.Module,
        train: LineBatches,
        val: LineBatches,
        charset: Charset,
        contract: Contract,
        settings: Train,
        limits: Limits,
        device: torch.device,
        folder: Path,
        identity: dict[str, Any],
        log: RunLog | None,
        progress: Progress,
        stop: Callable[[], bool],
        precision: str,
        guidance: Guidance | None = None,
        team: Team | None = None,
    ) -> None:
        self.model = model.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.train, self.val, self.charset, self.contract = train, val, charset, contract
        self.settings, self.limits, self.device, self.folder = settings, limits, device, folder
        self.identity, self.log, self.progress, self.stop = identity, log, progress, stop
        self.precision, self.team = precision, team or Team()
        self.position = Position()
        self.guidance = guidance and guidance.to(device)
        self.ema = Ema(self.model, settings.ema_decay) if settings.ema_decay else None
        self.stepper = Stepper(
            self.model, self.guidance, contract.geometry, settings, device, precision, self.team
        )
        self.optimizer, self.scaler, self.amp = (
            self.stepper.optimizer,
            self.stepper.scaler,
            self.stepper.amp,
        )
        self._session_began, self._elapsed_before = time.monotonic(), 0.0
        self._wait_warned = self._usage_asked = self._room_warned = False
        self._saved_step = -1
        self.scores: Scores | None = None  # of the last evaluation
        self._spoilt_by: Counter[str] = Counter()
        self._faults_said: set[str] = set()
        self._drawn = time.monotonic()
        self._font: ImageFont.FreeTypeFont | None = None

    @property
    def geometry(self) -> Geometry:
        """The geometry that the data was prepared with."""
        return self.contract.geometry

    @property
    def weights(self) -> nn.Module:
        """The network that is evaluated and shipped: the average where there is one."""
        return self.ema.model if self.ema else self.model

    # state
    # ----------------------------------------

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `load_state()`: the same weights, optimizer, random numbers and place in the
        data. Warns of what another device or precision does not let it take over.
        """
        self.model.load_state_dict(state["model"])
        if self.guidance:
            self.guidance.load_state_dict(state["guidance"])
        self.optimizer.load_state_dict(state["optimizer"])
        before = state.get("precision", self.precision)
        if before != self.precision:
            self.progress.warn(
                f"the run computed in {before} and goes on in {self.precision}; it will not be the"
                " very same run"
            )
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.ema:
            self.ema.model.load_state_dict(state["ema"])
        others = state.get("rng_of_others", [])
        rng = (
            state["rng"]
            if self.team.first
            else others[self.team.rank - 1]
            if self.team.rank <= len(others)
            else None
        )
        if rng is None or not restore_rng(rng, self.device):
            self.progress.warn(
                f"the run drew its random numbers on another kind of device than {self.device};"
                " they begin anew, and it will not be the very same run"
            )
        self.position = Position(**state["position"])
        self._elapsed_before, self._saved_step = self.position.elapsed_s, self.position.step
        before = Limits(**state["limits"]) if "limits" in state else self.limits
        if before != self.limits:
            done = before.progress(self.position, len(self.train))
            self.position.stretched_at = self.position.scheduled(done)
            self.position.stretched_from = self.limits.progress(self.position, len(self.train))

    def save(self) -> None:
        """Write last.safetensors and the state to resume from."""
        self._count_time()
        self._saved_step = self.position.step
        rng, *rng_of_others = self.team.everyones(rng_state(self.device))
        if not self.team.first:
            return
        save_weights(self.folder / LAST, self.weights.state_dict(), self.contract)
        save_state(
            self.folder,
            {
                "identity": self.identity,
                "contract": self.contract.to_json(),
                "model": self.model.state_dict(),
                "guidance": self.guidance.state_dict() if self.guidance else {},
                "ema": self.ema.model.state_dict() if self.ema else {},
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "precision": self.precision,
                "rng": rng,
                "rng_of_others": rng_of_others,
                "position": asdict(self.position),
                "limits": asdict(self.limits),
            },
        )
        short = short_of_room(self.folder, self.model, averaged=self.ema is not None)
        if short and not self._room_warned:
            self.progress.warn(short)
        self._room_warned = bool(short)

    def _count_time(self) -> None:
        self.position.elapsed_s = self._elapsed_before + time.monotonic() - self._session_began

    def _share_done_here(self) -> float:
        self._count_time()
        return self.limits.progress(self.position, len(self.train))

    def _share_done(self) -> float:
        """Share of the run that is done; the processes' clocks differ, and the furthest counts."""
        return self.team.most(self._share_done_here())

    def _stop_asked(self) -> bool:
        return self.team.most(self.stop()) > 0

    # the loop
    # ----------------------------------------

    def run(self) -> Position:
        """Train to the end of the limits. Raises Interrupted when `stop` asks and DataError when
        data cannot be read or the run not be written, all saved as far as can be; NotFiniteError
        when steps are not finite again and again.
        """
        if not can_draw():
            self.progress.note(
                f"{CURVES} is not drawn: it needs matplotlib, pip install 'nordocr-cli[plot]'"
            )
        try:
            position = self._train()
        except (NotFiniteError, Interrupted):
            self._draw()
            raise
        except DataError as error:
            raise DataError(f"{error}; {self._keep()}") from error
        self._draw()
        return position

    def _keep(self) -> str:
        """After an error: save if that can be done; say what is saved, and how to go on."""
        if self.team.size == 1:  # the others would have to save at the same time
            with suppress(DataError):  # the full disk that is being told of already
                self.save()
        if not (self.folder / STATE).is_file():
            return "nothing was saved yet; start again when that is mended"
        return (
            f"step {self._saved_step:,} is saved; go on, when that is mended, with: nordocr train"
            f" --resume {self.folder}"
        )

    def _draw(self) -> None:
        if can_draw() and self.team.first:
            draw_curves(self.folder)
        self._drawn = time.monotonic()

    def _train(self) -> Position:
        self._session_began = time.monotonic()
        position, settings = self.position, self.settings
        total = (
            None
            if self.limits.max_steps or self.limits.max_minutes
            else self.limits.epochs * len(self.train)
        )
        self.progress.start("train", total, "lines")
        if total and position.lines:
            self.progress.advance(position.lines)
        batches = self._batches()
        window = Window()
        try:
            if (
                position.step
                and position.step % settings.eval_every == 0
                and position.evaluated_step != position.step
            ):
                # the session before was stopped in the middle of it
                window.pause(self._evaluate_and_save)
            while (done := self._share_done()) < 1.0 and not self._stop_asked():
                asked = time.monotonic()
                together = next(batches)
                window.waited_s += time.monotonic() - asked
                lr = settings.lr * learning_rate(
                    settings.schedule, position.scheduled(done), settings.warmup_ratio
                )
                stepped, lines = (
                    self._step(together, lr),
                    sum(batch.shared_lines for batch in together),
                )
                window.add(lines, stepped.loss)
                shown = {
                    "step": f"{position.step:,}",
                    "done": f"{done:.1%}",
                    **self._shown_cer(),
                    **window.shown,
                }
                if position.step % settings.log_every == 0:
                    self._report(window, lr, stepped.norm)
                    shown |= window.shown
                self.progress.advance(lines, **shown)
                if self.device.type == "cpu" and position.step % _TRIM_EVERY == 0:
                    give_memory_back()
                if position.step % settings.eval_every == 0:
                    window.pause(self._evaluate_and_save)
                elif position.step % settings.save_every == 0:
                    window.pause(self.save)
            if self._share_done() >= 1.0 and position.evaluated_step != position.step:
                self._evaluate_and_save()
            if self._stop_asked():
                self.save()
                again = f"nordocr train --resume {self.folder}"
                raise Interrupted(
                    f"interrupted after step {position.step:,}; all is saved. Go on with: {again}"
                )
        finally:
            batches.close()
            self.progress.finish()
        return position

    def _shown_cer(self) -> dict[str, str]:
        return {"cer": f"{self.scores.cer:.2%}"} if self.scores else {}

    def _batches(self) -> Generator[list[Batch], None, None]:
        """The batches of each step, without end, from where the run stands. A step does not reach
        into the next epoch.
        """
        while True:
            with closing(self.train.epoch(self.position.epoch, self.position.batch)) as batches:
                while together := list(islice(batches, self.settings.accumulate)):
                    yield together
            self.position.epoch, self.position.batch = self.position.epoch + 1, 0

    def _step(self, batches: list[Batch], lr: float) -> Stepped:
        stepped, position = self.stepper.step(batches, lr), self.position
        position.step, position.batch = position.step + 1, position.batch + len(batches)
        position.lines += sum(batch.shared_lines for batch in batches)
        if stepped.finite:
            position.skipped_in_a_row = 0
            if self.ema:
                self.ema.update(self.model, position.step)
        else:
            self._count_skipped(batches, stepped)
        return stepped

    def _count_skipped(self, batches: list[Batch], stepped: Stepped) -> None:
        position = self.position
        position.skipped += 1
        position.skipped_in_a_row += 1
        # the scaler's own search for a scale
        probing = self.scaler.is_enabled() and math.isfinite(stepped.loss)
        names, samples, mine = [], 0, [row for batch in batches for row in batch.row_ids]
        for batch in batches if not probing else ():
            guilty = not_finite_by_themselves(
                self.model, batch, self.geometry, self.device, self.amp
            )
            names += [name for index in guilty for name in batch.ids_of(index)]
            samples += len(guilty)
        every = samples == sum(map(len, batches))
        told = self.team.everyones((names, every, mine))
        names, ids = (
            [name for own, _, _ in told for name in own],
            [row for _, _, own in told for row in own],
        )
        every = all(own for _, own, _ in told)
        rows = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
        if self.log:
            self.log.event(
                position.step,
                "skipped",
                loss=str(stepped.loss),
                norm=str(stepped.norm),
                rows=ids,
                alone=names,
            )
        # fp16 probes by design for the greatest scale whose gradients are finite: a step or two of
        # that are not worth a word.
        if not probing or position.skipped_in_a_row > _SKIPPED_TO_PROBE:
            self.progress.warn(
                f"step {position.step:,} skipped: loss {stepped.loss}, gradient norm"
                f" {stepped.norm}; rows {rows}"
            )
        self._spoilt_by.update(names)
        again = [name for name in names if self._spoilt_by[name] >= _MOST_BY_ONE_ROW]
        if position.skipped_in_a_row >= _MOST_SKIPPED_IN_A_ROW or again:
            why = explain_not_finite(
                self.model, again or names, not again and every, self.settings.lr, self.precision
            )
            times = (
                f"{self._spoilt_by[again[0]]} steps with one line"
                if again
                else f"{position.skipped_in_a_row} steps in a row"
            )
            raise NotFiniteError(
                f"{times} were not finite, the last at step {position.step:,} (rows {rows}): {why}"
            )

    def _report(self, window: "Window", lr: float, norm: float) -> None:
        figures = window.close()
        if self.log is None:
            return
        self.log.scalars(
            self.position.step, "train", **figures, lr=lr, grad_norm=norm, epoch=self.position.epoch
        )
        window.shown |= {
            "loss": f"{figures['loss']:.3f}",
            "lr": f"{lr:.1e}",
            "wait": f"{figures['data_wait']:.0%}",
        }
        window.shown["speed"] = f"{figures['lines_per_s']:,.0f}/s"
        window.shown |= {"mem": memory_shown(self.device)}
        if (
            figures["data_wait"] > _WAIT_SHARE_TO_WARN
            and not self._wait_warned
            and self.position.step > self.settings.log_every
        ):
            self._wait_warned = True
            self.progress.warn(
                f"loader-bound: {figures['data_wait']:.0%} of the time goes into waiting for data;"
                f" raise data.num_workers ({self.train.workers}), or put the line store on a faster"
                " disk"
            )
        warm = self.position.step >= _STEPS_TO_BE_WARM * self.settings.log_every
        if self.device.type == "cuda" and warm and not self._usage_asked:
            self._usage_asked = True
            if told := idle_gpu(self.device, self.train.budget_px // self.settings.batch_width_px):
                self.progress.warn(told)

    def _evaluate_and_save(self) -> None:
        """The first process evaluates; what it found, the others take over."""
        if self.log:
            self._evaluate(self.log)
        vars(self.position).update(self.team.firsts(vars(self.position)))
        if self.position.evaluated_step != self.position.step:
            return  # asked to stop; the run saves and ends
        self.save()
        if self.log:
            best = {
                "step": self.position.best_step,
                "cer": self.position.best_cer,
                "exact": self.position.best_exact,
            }
            self.log.update(best=best, position=asdict(self.position))
            if time.monotonic() - self._drawn > _DRAW_EVERY_S:
                self._draw()

    def _evaluate(self, log: RunLog) -> None:
        position = self.position
        scores = evaluate(self.weights, self.val, self.charset, self.device, self.amp, self.stop)
        if scores is None:
            return  # asked to stop
        position.evaluated_step = position.step
        log.scalars(
            position.step,
            "eval",
            cer=scores.cer,
            exact=scores.exact,
            empty=scores.empty,
            seconds=scores.seconds,
        )
        self._font = self._font or sheet_font(self.charset)
        log.samples(
            position.step, scores.samples, sample_sheet(scores.pictures, scores.samples, self._font)
        )
        self.scores = scores
        better = (scores.cer, -scores.exact) < (position.best_cer, -position.best_exact)
        if better:
            position.best_step, position.best_cer, position.best_exact = (
                position.step,
                scores.cer,
                scores.exact,
            )
            save_weights(self.folder / BEST, self.weights.state_dict(), self.contract)
        self.progress.note(
            f"step {position.step:,}: CER {scores.cer:.2%}, exact {scores.exact:.1%} of"
            f" {scores.lines:,} lines in {scores.seconds:.0f} s{' - best so far' if better else ''}"
        )
        write_text(self.folder / WORST, worst_table(position.step, scores.worst))
        for line in scores.worst[:_WORST_SAID]:
            marked = marked_difference(line.reference, line.hypothesis)
            self.progress.note(
                f"  worst: {line.id}:"
                f" {marked if len(marked) <= _WORST_WIDTH else marked[:_WORST_WIDTH] + ' …'}"
            )
        if self._share_done_here() > self.settings.warmup_ratio:
            for kind in scores.faults.keys() - self._faults_said:
                self.progress.warn(f"step {position.step:,}: {scores.faults[kind]}")
            self._faults_said |= scores.faults.keys()
        if (
            scores.empty > _EMPTY_SHARE_TO_WARN
            and self._share_done_here() > self.settings.warmup_ratio
        ):
            self.progress.warn(
                f"{scores.empty:.0%} of the lines read as nothing after the warm-up: the CTC blank"
                f" plateau. If it lasts, lower train.lr ({self.settings.lr:g}), raise"
                f" train.warmup_ratio ({self.settings.warmup_ratio:g}), or begin with short lines"
            )
