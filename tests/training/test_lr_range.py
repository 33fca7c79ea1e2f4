from itertools import repeat
from types import SimpleNamespace

import numpy as np
import pytest

from nordocr_cli.errors import DataError
from nordocr_cli.training.lr_range import sweep
from nordocr_cli.training.step import StepResult


def swept(loss_at, steps=100):
    """The test of a network whose loss at each rate is `loss_at`; every seventh batch is a hard
    one.
    """
    number, heard = iter(range(steps)), []

    def step(batches, rate):
        loss = loss_at(rate) * (3 if next(number) % 7 == 0 else 1)
        return StepResult(loss, 1.0, bool(np.isfinite(loss)))

    found = sweep(
        SimpleNamespace(step=step),
        repeat([]),
        steps,
        lambda rate, loss: heard.append((rate, loss)),
    )
    assert heard == list(zip(found.rates, found.losses, strict=True))
    return found


def test_the_rate_is_suggested_by_which_the_fall_is_done():
    """A loss that falls from 20 to 4 between 1e-4 and 1e-2, stays there to 1e-1, and rises."""

    def loss_at(rate):
        return float(np.interp(np.log10(rate), [-6, -4, -2, -1, 0], [20, 20, 4, 4, 80]))

    found = swept(loss_at)
    assert found.rates[0] == pytest.approx(1e-6)
    assert 10**-2.3 < found.suggested < 10**-1.9
    assert found.rates[-1] == pytest.approx(1.0)  # it runs to its end


def test_a_trained_network_gets_a_tenth_of_the_rate_at_which_its_loss_rises():
    """Its loss is small and noisy: it must not end the test, nor suggest a rate that moves
    nothing.
    """

    def loss_at(rate):
        noise = 1 + 0.3 * np.sin(40 * np.log10(rate))
        return float(
            noise * np.interp(np.log10(rate), [-6, -3, -2, 0], [0.1, 0.09, 0.14, 3])
        )

    found = swept(loss_at)
    assert 3e-4 < found.suggested < 3e-3


def test_a_loss_that_is_not_finite_ends_the_test():
    found = swept(
        lambda rate: 10 - 5 * min(1, rate / 1e-3) if rate < 0.02 else float("nan")
    )
    assert found.rates[-1] < 0.02
    assert found.suggested == pytest.approx(1e-3, rel=0.3)
    with pytest.raises(DataError, match="--check 10"):
        swept(lambda _: float("nan"))


def test_no_rate_is_suggested_where_none_lowers_the_loss():
    found = swept(lambda _: 5.0)
    assert found.suggested is None
    assert len(found.rates) == 100
