"""Weights files from elsewhere: tensors by name, read without running any code that the file may carry."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.settings import Model

_WRAPPERS = ("state_dict", "model")  # under which training programs put the weights


@dataclass(frozen=True)
class Imported:
    """What another program's checkpoint is: a network's options, its weights, its number of classes, how many tensors were left
    out for which reason, and where SVTR's window was read."""

    model: Model
    state: dict[str, Tensor]
    num_classes: int
    dropped: Mapping[str, int]
    window_from: str = ""


def read_tensors(path: Path, key: str) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` file or of a torch file (a state dict, bare or wrapped).

    `key` is the profile's key or the argument that names the file. Raises UsageError when there is no such file and
    ArtifactError when it is damaged, holds anything but tensors or carries code.
    """
    if not path.is_file():
        raise UsageError(f"{key}: no file {path}; it must be on this machine: nothing is downloaded")
    try:
        loaded: Any = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
        )
    except pickle.UnpicklingError as error:
        raise ArtifactError(
            f"{key}: {path} is refused: it is damaged, or holds more than tensors, and so could run code; ask for its "
            "state_dict as .safetensors"
        ) from error
    except Exception as error:  # on a damaged file the unpickler raises whatever the bytes lead it to
        raise ArtifactError(f"{key}: {path} is not a readable weights file ({type(error).__name__}: {error})") from error
    if not isinstance(loaded, Mapping):
        raise ArtifactError(f"{key}: {path} holds a {type(loaded).__name__}, not tensors by name")
    for wrapper in _WRAPPERS:
        loaded = loaded[wrapper] if isinstance(loaded.get(wrapper), Mapping) else loaded
    tensors = {str(name).removeprefix("module."): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ArtifactError(f"{key}: {path} holds no tensors by name")
    return tensors
