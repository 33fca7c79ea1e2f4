"""Disk space: a run that cannot write its checkpoints is refused before it begins, and warned
before the disk is full.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor, nn

from nordocr_cli.errors import DataError


def state_bytes(model: nn.Module, *, averaged: bool) -> int:
    """Return the bytes of one state.pt: weights, their average where there is one, and AdamW's two
    moments of what trains.
    """
    trained = _bytes(p for p in model.parameters() if p.requires_grad)
    return weights_bytes(model) * (1 + averaged) + 2 * trained


def weights_bytes(model: nn.Module) -> int:
    """Return the bytes of one weights file."""
    return _bytes(model.state_dict().values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk on which `folder` is or will be."""
    candidates = (folder.absolute(), *folder.absolute().parents)
    existing = next(path for path in candidates if path.exists())
    return shutil.disk_usage(existing).free


def require_disk_space(folder: Path, model: nn.Module, *, averaged: bool) -> None:
    """Raise DataError when the disk of `folder` cannot hold what a run of `model` writes in
    addition to what is there already.

    The state and one weights file count twice: the old one stays until the new one is complete.
    """
    state = state_bytes(model, averaged=averaged)
    weights = weights_bytes(model)
    present = 0
    if folder.is_dir():
        present = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    needed = max(2 * state + 3 * weights - present, state)
    free = free_bytes(folder)
    if free >= needed:
        return
    raise DataError(
        f"the disk of {folder} is too full: this run's checkpoints need up to {megabytes(needed)}"
        f" (state.pt {megabytes(state)} and its successor, weights {megabytes(weights)} each), and"
        f" {megabytes(free)} are free; free disk space, or name another --run-dir"
    )


def nearly_full(folder: Path, model: nn.Module, *, averaged: bool) -> str:
    """Return a warning when the disk of `folder` cannot hold the next state, else ""."""
    needed = state_bytes(model, averaged=averaged)
    free = free_bytes(folder)
    if free >= needed:
        return ""
    return (
        f"the disk of {folder} is nearly full: {megabytes(free)} free, and the next state needs"
        f" {megabytes(needed)}. Free disk space, or the run ends there"
    )


def megabytes(count: int) -> str:
    """Return a number of bytes in MB."""
    return f"{count / 1e6:,.0f} MB"
