"""The moving average of a network's weights."""

import copy

import torch
from torch import nn


class Ema:
    """An exponential moving average of a network's weights and floating-point buffers: what is
    evaluated and shipped.

    The decay warms up as (1 + step) / (10 + step), so that a short run is not held back by its
    random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = copy.deepcopy(model).eval().requires_grad_(False), decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards `model` after its `step`-th step."""
        mine, theirs = list(self.model.state_dict().values()), list(model.state_dict().values())
        floats = [i for i, tensor in enumerate(mine) if tensor.is_floating_point()]
        weight = 1.0 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_([mine[i] for i in floats], [theirs[i] for i in floats], weight)
        for i in set(range(len(mine))) - set(floats):
            mine[i].copy_(theirs[i])
