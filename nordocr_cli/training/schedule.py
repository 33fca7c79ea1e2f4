"""The optimizer and its learning rate over the course of a run."""

import math
from collections.abc import Iterable

import torch
from torch import nn

# OneCycle starts this much below its peak and ends this much below its start (the values of its
# paper's implementations).
_START_DIVISOR = 25.0
_END_DIVISOR = 1e4
_COSINE_END = 0.01


def learning_rate(schedule: str, progress: float, warmup: float) -> float:
    """Return the learning rate as a share of its peak by the schedule "one-cycle" or "cosine"."""
    if schedule == "one-cycle":
        return one_cycle(progress, warmup)
    return cosine(progress, warmup)


def cosine(progress: float, warmup: float) -> float:
    """Return the learning rate as a share of its peak: straight up from 0 during the first `warmup`
    of the run, then down on a cosine to a hundredth.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return progress / warmup
    return _cosine(1.0, _COSINE_END, (progress - warmup) / (1.0 - warmup))


def one_cycle(progress: float, warmup: float) -> float:
    """Return the learning rate as a share of its peak, at `progress` 0…1 of the run.

    It rises on a cosine from 1/25 to 1 during the first `warmup` of the run, then falls on a cosine
    to nearly 0. A pure function of progress: nothing to store, nothing to go wrong on resume, and
    progress may count steps, lines or minutes.
    """
    progress = min(max(progress, 0.0), 1.0)
    start = 1.0 / _START_DIVISOR
    if progress < warmup:
        return _cosine(start, 1.0, progress / warmup)
    return _cosine(1.0, start / _END_DIVISOR, (progress - warmup) / (1.0 - warmup))


def _cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1.0 + math.cos(math.pi * share)) / 2.0


def build_optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """Return fused AdamW. Biases, norms and every other vector are not decayed: pulling them to
    zero only hurts. Nor is a parameter that its network marks with `no_decay = True`.
    """
    decayed, free = _split(model.named_parameters())
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def _split(
    named: Iterable[tuple[str, nn.Parameter]],
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in named:
        if parameter.requires_grad:
            keep = (
                parameter.ndim < 2
                or name.endswith("bias")
                or getattr(parameter, "no_decay", False)
            )
            (free if keep else decayed).append(parameter)
    return decayed, free


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
