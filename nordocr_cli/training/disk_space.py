"""Room on the disk: a run that cannot write its checkpoints is refused before it begins, and told
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
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def require_room(folder: Path, model: nn.Module, *, averaged: bool) -> None:
    """Raise DataError when the disk of `folder` cannot hold what a run of `model` writes beside
    what is there already.

    The state and one weights file count twice: the old one stays until the new one is whole.
    """
    state, weights = state_bytes(model, averaged=averaged), weights_bytes(model)
    there = (
        sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
        if folder.is_dir()
        else 0
    )
    needed, free = max(2 * state + 3 * weights - there, state), free_bytes(folder)
    if free < needed:
        raise DataError(
            f"the disk of {folder} is too full: this run's checkpoints need up to"
            f" {megabytes(needed)} (state.pt {megabytes(state)} and its successor, weights"
            f" {megabytes(weights)} each), and {megabytes(free)} are free; free some, or name"
            " another --run-dir"
        )


def short_of_room(folder: Path, model: nn.Module, *, averaged: bool) -> str:
    """Return a warning when the disk of `folder` has no room for the next state, else ""."""
    needed, free = state_bytes(model, averaged=averaged), free_bytes(folder)
    if free >= needed:
        return ""
    return (
        f"the disk of {folder} is nearly full: {megabytes(free)} free, and the next state needs"
        f" {megabytes(needed)}. Free some, or the run ends there"
    )


def megabytes(count: int) -> str:
    """Return a number of bytes in MB."""
    return f"{count / 1e6:,.0f} MB"
