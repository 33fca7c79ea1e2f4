"""The learning-rate range test (L. N. Smith, "Cyclical Learning Rates", 2017): one step at each of
a series of rising rates, and what the losses say. The network is not kept.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.data.batches import Batch
from nordocr_cli.errors import DataError
from nordocr_cli.extras import load_matplotlib, missing
from nordocr_cli.training.curves import can_draw
from nordocr_cli.training.step import Stepper

# AdamW's rates: below nothing moves within the test, above nothing is learned.
LOWEST, HIGHEST = 1e-6, 1.0
# Steps on either side whose median is the smoothed loss: batches differ, some by a lot.
_NEIGHBOURS = 4
# The test ends early only when the smoothed loss is so many times the first one. A network that is
# trained already has a small loss, whose noise must not end the test.
_DIVERGED = 4.0
# The minimum of the smoothed loss as a share of the first: below the lower one the network learned
# from nearly nothing, above the higher one no rate lowered the loss.
_LEARNED, _FALLEN = 0.6, 0.9
# From nothing, the rate by which so much of the fall is done is suggested: above it, little more is
# gained.
_OF_THE_FALL = 0.9
# A trained network hardly falls in a hundred steps; its peak is this much below the rate at which
# the loss rises by a fifth.
_RISEN, _BELOW_RISE = 1.2, 10.0


@dataclass(frozen=True)
class Sweep:
    """The rate and the loss (nats a character) of each step, at least one."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @cached_property
    def smoothed(self) -> NDArray[np.float64]:
        """The median of each step's loss and its neighbours' (steps,); unlike a running mean it
        does not lag behind.
        """
        return _medians(self.losses)

    @property
    def least_at(self) -> float:
        """The rate at which the smoothed loss was smallest."""
        return self.rates[int(np.argmin(self.smoothed))]

    @property
    def suggested(self) -> float | None:
        """A peak for the schedule; None where no rate lowered the loss.

        From nothing it is the lowest rate by which nearly all of the fall is done. For a trained
        network, whose loss hardly falls, it is a tenth of the rate at which the loss rises.
        """
        first, minimum = self.smoothed[0], self.smoothed.min()
        if minimum >= _LEARNED * first:
            risen = np.flatnonzero(self.smoothed > _RISEN * first)
            if len(risen):
                return self.rates[int(risen[0])] / _BELOW_RISE
        if minimum >= _FALLEN * first:
            return None
        done = self.smoothed <= first - _OF_THE_FALL * (first - minimum)
        return self.rates[int(np.argmax(done))]


def sweep(
    stepper: Stepper,
    batches: Iterator[list[Batch]],
    steps: int,
    each: Callable[[float, float], None],
) -> Sweep:
    """Take `steps` steps at rates from 1e-6 to 1, each the same factor above the one before; fewer
    when the loss has risen to four times its start or is not finite. `each` is called with every
    step's rate and loss. Raises DataError when the first step is not finite.
    """
    rates: list[float] = []
    losses: list[float] = []
    for rate in np.geomspace(LOWEST, HIGHEST, steps).tolist():
        stepped = stepper.step(next(batches), rate)
        if not stepped.finite:
            break
        each(rate, stepped.loss)
        rates.append(rate)
        losses.append(stepped.loss)
        smoothed = _medians(losses)
        if smoothed[-_NEIGHBOURS - 1 :][0] > _DIVERGED * smoothed[0]:
            break
    if not rates:
        raise DataError(
            "the first step is not finite, before any rate could matter; `nordocr train --check 10`"
            " names the lines"
        )
    return Sweep(tuple(rates), tuple(losses))


def _medians(losses: Sequence[float]) -> NDArray[np.float64]:
    around = [
        losses[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS + 1] for at in range(len(losses))
    ]
    return np.array([np.median(few) for few in around])


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
    axes.plot(found.rates, found.losses, color="#8d99ae", lw=0.8, label="each step")
    axes.plot(
        found.rates, found.smoothed, color="#30638e", lw=2, label="median of nine steps"
    )
    if found.suggested:
        axes.axvline(
            found.suggested,
            color="#d1495b",
            label=f"suggested as the peak: {found.suggested:.1e}",
        )
    axes.set(
        xscale="log",
        xlabel="learning rate of the step",
        ylabel="loss, nats a character",
        title=title.replace("$", r"\$"),
    )
    axes.set_ylim(0, 1.3 * found.smoothed.max())
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
