"""The learning-rate range test (L. N. Smith, "Cyclical Learning Rates", 2017): one step at each of
a series of rising rates, each loss compared with that of the start on the same lines, and what
they say. The network is not kept.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nordocr_cli.data.batches import Batch
from nordocr_cli.errors import DataError
from nordocr_cli.extras import load_matplotlib, missing
from nordocr_cli.training.curves import can_draw
from nordocr_cli.training.step import Stepper

# AdamW's rates: below nothing moves within the test, above nothing is learned.
LOWEST, HIGHEST = 1e-6, 1.0
# The steps are divided into so many sweeps from the same weights, whose rates lie between each
# other's, so that no single order of the batches decides.
SWEEPS = 2
# Steps on either side over which losses are summed: batches differ, even against the start.
_NEIGHBOURS = 4
# A sweep ends early when the loss of its last steps is so many times that of the start.
_DIVERGED, _LAST = 4.0, 5
# A loss below this share of the start's shows that some rate helps; smaller falls may be chance.
_FALLEN = 0.9
# The lowest rate by which so much of the fall is done: above it, little more is gained.
_OF_THE_FALL = 0.9
# A schedule stays near its peak for many steps. Its peak is therefore this much below the rate at
# which the loss of a sweep rises by a fifth above that of the start.
_RISEN, _BELOW_RISE = 1.2, 10.0


@dataclass(frozen=True)
class Sweep:
    """The rate of each step, rising, its loss (nats a character), and the loss that the weights of
    the start have on the same lines; at least one step.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    start_losses: tuple[float, ...]

    @cached_property
    def smoothed(self) -> NDArray[np.float64]:
        """Loss as a share of the start's, each step with its neighbours (steps,). Hard and easy
        lines count alike in both, so that what remains is the effect of the rates.
        """
        return _windowed(self.losses) / np.maximum(_windowed(self.start_losses), 1e-12)

    @property
    def least_at(self) -> float:
        """The rate at which the smoothed loss was smallest."""
        return self.rates[int(np.argmin(self.smoothed))]

    @property
    def helps(self) -> bool:
        """Whether some rate lowered the loss clearly."""
        return bool(self.smoothed.min() < _FALLEN)

    @property
    def suggested(self) -> float | None:
        """A peak for the schedule; None where no rate changed the loss.

        It is the lowest rate by which nearly all of the fall is done, but not above a tenth of the
        rate at which the loss rises above that of the start. A network that knows these lines
        already falls nowhere, and gets the tenth.
        """
        limits = []
        if self.helps:
            fall = 1.0 - self.smoothed.min()
            done = self.smoothed <= 1.0 - _OF_THE_FALL * fall
            limits.append(self.rates[int(np.argmax(done))])
        after_least = np.arange(len(self.rates)) >= int(np.argmin(self.smoothed))
        risen = np.flatnonzero(after_least & (self.smoothed > _RISEN))
        if len(risen):
            limits.append(self.rates[int(risen[0])] / _BELOW_RISE)
        return min(limits, default=None)


def sweep(
    new_stepper: Callable[[], Stepper],
    batches: Iterator[list[Batch]],
    steps: int,
    each: Callable[[float, float], None],
) -> Sweep:
    """Take `steps` steps at rates from 1e-6 to 1, in two sweeps from the weights of the start, each
    ended early when its loss has risen to four times the start's or is not finite.

    `new_stepper` returns a stepper with the weights of the start; `each` is called with every
    step's rate and loss. Raises DataError when the first step is not finite.
    """
    start = new_stepper()
    rates = np.geomspace(LOWEST, HIGHEST, steps).tolist()
    taken: list[tuple[float, float, float]] = []
    for number in range(min(SWEEPS, steps)):
        stepper, own = new_stepper(), []
        for rate in rates[number::SWEEPS]:
            batch = next(batches)
            with torch.random.fork_rng():  # dropout of the step drops the same
                start_loss = start.loss(batch)
            stepped = stepper.step(batch, rate)
            if not stepped.finite:
                break
            each(rate, stepped.loss)
            own.append((rate, stepped.loss, start_loss))
            _, last, before = np.sum(own[-_LAST:], axis=0)
            if last > _DIVERGED * before:
                break
        taken += own
    if not taken:
        raise DataError(
            "the first step is not finite, before any rate could matter; `nordocr train --check 10`"
            " names the lines"
        )
    found = np.array(sorted(taken))
    return Sweep(*(tuple(column.tolist()) for column in found.T))


def _windowed(losses: Sequence[float]) -> NDArray[np.float64]:
    sums = [
        np.sum(losses[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS + 1])
        for at in range(len(losses))
    ]
    return np.array(sums)


def require_drawing() -> None:
    """Raise MissingBackendError without matplotlib, before the steps are taken."""
    if not can_draw():
        raise missing("matplotlib", "--lr-range")


def draw_sweep(found: Sweep, title: str) -> bytes:
    """Draw the loss over the rate, and where a peak was suggested; returns a PNG."""
    load_matplotlib("--lr-range")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    shares = np.divide(found.losses, np.maximum(found.start_losses, 1e-12))
    axes.plot(found.rates, shares, color="#8d99ae", lw=0.8, label="each step")
    axes.plot(found.rates, found.smoothed, color="#30638e", lw=2, label="nine steps")
    if found.suggested:
        axes.axvline(
            found.suggested,
            color="#d1495b",
            label=f"suggested as the peak: {found.suggested:.1e}",
        )
    axes.set(
        xscale="log",
        xlabel="learning rate of the step",
        ylabel="loss, as a share of that of the start on the same lines",
        title=title.replace("$", r"\$"),
    )
    axes.set_ylim(0, 1.3 * found.smoothed.max())
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
