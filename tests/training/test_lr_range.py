from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

from nordocr_cli.errors import DataError
from nordocr_cli.training.lr_range import SWEEPS, sweep
from nordocr_cli.training.step import StepResult


def swept(loss_at, steps=100, start=None):
    """The test of a network whose loss at each rate is `loss_at`, that of its start `start`; some
    batches are much harder than others.
    """
    numbers, heard = count(), []
    first = loss_at(1e-9) if start is None else start

    def hardness(batches):
        return [1.0, 0.05, 3.0, 0.4][batches % 4]

    def step(batches, rate):
        loss = loss_at(rate) * hardness(batches)
        return StepResult(loss, 1.0, bool(np.isfinite(loss)))

    made = []

    def new_stepper():
        made.append(
            SimpleNamespace(step=step, loss=lambda batches: first * hardness(batches))
        )
        return made[-1]

    found = sweep(
        new_stepper, numbers, steps, lambda rate, loss: heard.append((rate, loss))
    )
    assert len(made) == 1 + SWEEPS
    assert sorted(heard) == list(zip(found.rates, found.losses, strict=True))
    return found


def test_the_rate_is_suggested_by_which_the_fall_is_done():
    """A loss that falls from 20 to 4 between 1e-4 and 1e-2, stays there to 1e-1, and rises."""

    def loss_at(rate):
        return float(np.interp(np.log10(rate), [-6, -4, -2, -1, 0], [20, 20, 4, 4, 80]))

    found = swept(loss_at)
    assert found.rates[0] == pytest.approx(1e-6)
    assert 10**-2.5 < found.suggested < 10**-1.8
    assert found.rates[-1] == pytest.approx(1.0)  # it runs to its end


def test_a_fine_tuning_stays_far_below_the_rate_that_destroys_what_was_learned():
    """A loss that is smallest at 1e-3 and rises at once behind it."""

    def loss_at(rate):
        return float(np.interp(np.log10(rate), [-6, -5, -3, -2, 0], [0.3, 0.3, 0.2, 1, 20]))

    found = swept(loss_at)
    assert found.helps
    assert 1e-4 < found.suggested < 10**-3.2


def test_a_network_that_knows_the_lines_gets_a_tenth_of_the_rate_at_which_its_loss_rises():
    def loss_at(rate):
        return float(np.interp(np.log10(rate), [-6, -3, -2, 0], [0.1, 0.1, 0.2, 3]))

    found = swept(loss_at)
    assert not found.helps
    assert 1e-4 < found.suggested < 3e-4


def test_a_loss_that_is_not_finite_ends_a_sweep():
    found = swept(
        lambda rate: 10 - 5 * min(1, rate / 1e-3) if rate < 0.02 else float("nan")
    )
    assert found.rates[-1] < 0.02
    assert found.suggested == pytest.approx(1e-3, rel=0.4)
    with pytest.raises(DataError, match="--check 10"):
        swept(lambda _: float("nan"))


def test_no_rate_is_suggested_where_none_changes_the_loss():
    found = swept(lambda _: 5.0)
    assert found.suggested is None
    assert len(found.rates) == 100


def test_two_steps_are_enough_to_say_that_nothing_is_known():
    assert swept(lambda _: 5.0, steps=2).suggested is None
    assert len(swept(lambda _: 5.0, steps=3).rates) == 3


def test_each_sweep_starts_from_the_same_weights():
    found = swept(lambda rate: 5.0 if rate < 1e-2 else 100.0)
    # Both sweeps ended behind the rise, each after at most five of its steps.
    assert found.rates[-1] < 1e-2 * 10 ** (6 / 99 * 2 * 6)
    assert found.suggested == pytest.approx(1e-3, rel=0.5)
