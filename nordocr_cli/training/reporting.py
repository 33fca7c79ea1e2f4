"""What a run shows while it trains: the progress line, metrics.jsonl, curves.png, worst.tsv and the
samples in TensorBoard.
"""

import time
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

import torch
from PIL import ImageFont

from nordocr_cli.atomic import write_text
from nordocr_cli.charset import Charset
from nordocr_cli.extras import install_line
from nordocr_cli.metrics.text import marked_difference
from nordocr_cli.progress import Progress
from nordocr_cli.training.curves import can_draw, draw_curves
from nordocr_cli.training.evaluation import Scores, worst_table
from nordocr_cli.training.runlog import CURVES_FILE, WORST_FILE, RunLog
from nordocr_cli.training.sample_sheet import sample_sheet, sheet_font
from nordocr_cli.training.state import TrainState, duration
from nordocr_cli.training.usage import (
    Window,
    WindowFigures,
    memory_shown,
    memory_used,
    rate_text,
)

_WORST_SHOWN = 3  # lines
_MAX_DIFFERENCE = 100  # characters of a line
_DRAW_EVERY_S = 60.0
_SHOW_END_FROM_S = 600.0  # a longer run shows the time at which it will end


class Reporter:
    """Reports the steps and evaluations of one run. `log` is None in every process but the main
    one.
    """

    def __init__(
        self,
        folder: Path,
        charset: Charset,
        device: torch.device,
        log: RunLog | None,
        progress: Progress,
    ) -> None:
        self.folder = folder
        self.charset = charset
        self.device = device
        self.log = log
        self.progress = progress
        self.window = Window()
        self.scores: Scores | None = None  # of the last evaluation
        self.peak_memory_gb: float | None = None  # None where it is not known
        self._fields: dict[str, str] = {}
        self._drawn_at = time.monotonic()
        self._end_announced = False
        self._font: ImageFont.FreeTypeFont | None = None
        if not can_draw():
            progress.note(
                f"{CURVES_FILE} is not drawn: it needs matplotlib, {install_line('train')}"
            )

    def show(
        self, state: TrainState, done: float, lines: int, seconds_left: float | None
    ) -> None:
        """Update the progress line after a step of `lines` lines."""
        fields = {"step": f"{state.step:,}", "done": f"{done:.1%}"}
        if seconds_left is not None:
            fields["left"] = duration(seconds_left)
        if self.scores:
            fields["cer"] = f"{self.scores.cer:.2%}"
        self.progress.advance(lines, **fields, **self._fields)

    def report(
        self, state: TrainState, lr: float, norm: float, seconds_left: float | None
    ) -> WindowFigures:
        """Log the figures since the last report, and return them."""
        figures = self.window.close()
        if self.log is None:
            return figures
        if seconds_left is None:
            expected = {}
        else:
            expected = {"seconds_left": seconds_left}
        peak_memory_gb = self.measure_memory()
        if peak_memory_gb is not None:
            expected["memory_gb"] = peak_memory_gb
        self.log.scalars(
            state.step,
            "train",
            loss=figures.loss,
            lines_per_s=figures.lines_per_s,
            batches_per_s=figures.batches_per_s,
            data_wait=figures.data_wait,
            lr=lr,
            grad_norm=norm,
            epoch=state.epoch,
            **expected,
        )
        self._fields = {
            "loss": f"{figures.loss:.3f}",
            "lr": f"{lr:.1e}",
            "wait": f"{figures.data_wait:.0%}",
            "speed": (
                f"{rate_text(figures.lines_per_s)} lines/s,"
                f" {rate_text(figures.batches_per_s)} batches/s"
            ),
            "mem": memory_shown(self.device),
        }
        self._announce_end(seconds_left)
        return figures

    def measure_memory(self) -> float | None:
        """Return the maximum memory in GB of the measurements so far, this one included."""
        used = memory_used(self.device)
        if used is not None:
            self.peak_memory_gb = max(self.peak_memory_gb or 0.0, round(used / 1e9, 3))
        return self.peak_memory_gb

    def _announce_end(self, seconds_left: float | None) -> None:
        """Say once, after the first report, when a long run will end."""
        if self._end_announced or seconds_left is None:
            return
        self._end_announced = True
        if seconds_left >= _SHOW_END_FROM_S:
            end = datetime.now() + timedelta(seconds=seconds_left)
            self.progress.note(
                f"about {duration(seconds_left)} to go; expected end {end:%Y-%m-%d %H:%M}"
            )

    def evaluation(self, state: TrainState, scores: Scores, *, best: bool) -> None:
        """Report an evaluation: its figures, a few samples, and the worst lines."""
        self.scores = scores
        if self.log:
            self.log.scalars(
                state.step,
                "eval",
                cer=scores.cer,
                exact=scores.exact,
                empty=scores.empty,
                seconds=scores.seconds,
            )
            self._font = self._font or sheet_font(self.charset)
            sheet = sample_sheet(scores.pictures, scores.samples, self._font)
            self.log.samples(state.step, scores.samples, sheet)
        suffix = " - best so far" if best else ""
        self.progress.note(
            f"step {state.step:,}: CER {scores.cer:.2%}, exact {scores.exact:.1%} of"
            f" {scores.lines:,} lines in {scores.seconds:.0f} s{suffix}"
        )
        write_text(self.folder / WORST_FILE, worst_table(state.step, scores.worst))
        for line in scores.worst[:_WORST_SHOWN]:
            marked = marked_difference(line.reference, line.hypothesis)
            if len(marked) > _MAX_DIFFERENCE:
                marked = f"{marked[:_MAX_DIFFERENCE]} …"
            self.progress.note(f"  worst: {line.id}: {marked}")

    def saved(self, state: TrainState) -> None:
        """Record in run.json how far the run is, and redraw the curves now and then."""
        if self.log is None:
            return
        best = {"step": state.best_step, "cer": state.best_cer, "exact": state.best_exact}
        self.log.update(best=best, position=asdict(state))
        if time.monotonic() - self._drawn_at > _DRAW_EVERY_S:
            self.draw()

    def draw(self) -> None:
        """Draw curves.png, where this process writes and matplotlib is installed."""
        if self.log is not None and can_draw():
            draw_curves(self.folder)
        self._drawn_at = time.monotonic()
