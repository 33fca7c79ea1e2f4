"""The moving average of a network's weights."""

import copy

import torch

from nordocr_cli.models.base import LineNetwork


class Ema:
    """An exponential moving average of a network's weights and floating-point buffers: what is
    evaluated and shipped.

    The decay warms up as (1 + step) / (10 + step), so that a short run is not held back by its
    random start. torch's AveragedModel is not used: it copies the weights at its first update,
    counts updates instead of steps, and its saved keys have a prefix that old states do not have.
    """

    def __init__(self, model: LineNetwork, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: LineNetwork, step: int) -> None:
        """Move the average towards `model` after its `step`-th step."""
        weight = 1.0 - min(self.decay, (1 + step) / (10 + step))
        averaged: list[torch.Tensor] = []
        current: list[torch.Tensor] = []
        pairs = zip(
            self.model.state_dict().values(), model.state_dict().values(), strict=True
        )
        for own, other in pairs:
            if own.is_floating_point():
                averaged.append(own)
                current.append(other)
            else:
                own.copy_(other)  # a count is copied, not averaged
        torch._foreach_lerp_(averaged, current, weight)
