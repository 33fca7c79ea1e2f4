from dataclasses import asdict

import pytest
import torch
from torch import nn

from nordocr_cli.training.schedule import build_optimizer, cosine, learning_rate, one_cycle
from nordocr_cli.training.state import TrainState


def test_rises_to_the_peak_and_falls_to_nothing():
    assert one_cycle(0.0, 0.1) == pytest.approx(1 / 25)
    assert one_cycle(0.1, 0.1) == pytest.approx(1.0)
    assert one_cycle(0.55, 0.1) == pytest.approx(0.5, abs=0.01)
    assert 0 < one_cycle(1.0, 0.1) < 1e-5
    assert one_cycle(2.0, 0.1) == one_cycle(1.0, 0.1)
    assert one_cycle(0.0, 0.0) == pytest.approx(1.0)
    rising = [one_cycle(k / 1000, 0.1) for k in range(101)]
    falling = [one_cycle(k / 1000, 0.1) for k in range(100, 1001)]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


def test_vectors_and_biases_are_not_decayed():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm(4), nn.Linear(4, 2))
    decayed, free = build_optimizer(network, 1e-3, 0.05).param_groups
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    assert decayed["weight_decay"] == 0.05
    assert all(p.ndim == 1 for p in free["params"])
    assert free["weight_decay"] == 0.0
    assert sum(p.numel() for g in (decayed, free) for p in g["params"]) == sum(
        p.numel() for p in network.parameters()
    )


def test_frozen_parameters_stay_out():
    layer = nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    groups = build_optimizer(layer, 1e-3, 0.05).param_groups
    assert [len(group["params"]) for group in groups] == [0, 1]
    assert torch.is_tensor(groups[1]["params"][0])


def test_cosine_rises_straight_and_falls_to_a_hundredth():
    assert [cosine(0.0, 0.2), cosine(0.1, 0.2), cosine(0.2, 0.2)] == [0.0, 0.5, 1.0]
    assert cosine(1.0, 0.2) == pytest.approx(0.01)
    falling = [cosine(0.2 + 0.1 * i, 0.2) for i in range(9)]
    assert falling == sorted(falling, reverse=True)
    assert (
        learning_rate("cosine", 0.1, 0.2)
        != learning_rate("one-cycle", 0.1, 0.2)
        == one_cycle(0.1, 0.2)
    )


def test_batches_a_second_leave_out_the_time_before_they_were_counted():
    """A run that an earlier version began has no count of its first batches."""
    state = TrainState.from_saved({"step": 500, "elapsed_s": 1000.0})
    state.batches, state.elapsed_s = 40, 1010.0
    assert state.batches_per_s == 4

    resumed_again = TrainState.from_saved(asdict(state))
    assert resumed_again.batches_per_s == 4
