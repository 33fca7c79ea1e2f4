"""Weights files from elsewhere: tensors by name, read without running any code that the file may
carry.
"""

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.settings import Model

# under which training programs put the weights
_WRAPPERS = ("state_dict", "model", "model_state_dict")
# Plain numbers of NumPy, which stand next to the weights where a program saved its metrics. They
# are data, like the tensors.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # as NumPy 1 named it
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")),
]


@dataclass(frozen=True)
class Imported:
    """What another program's checkpoint is: a network's options, its weights, its number of
    classes, how many tensors were left out for which reason, and where SVTR's window was read.
    """

    model: Model
    state: dict[str, Tensor]
    num_classes: int
    dropped: Mapping[str, int]
    window_from: str = ""


def read_tensors(path: Path, key: str) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` file or of a torch file (a state dict, bare or
    wrapped).

    `key` is the profile's key or the argument that names the file. Raises UsageError when there is
    no such file and ArtifactError when it is damaged, holds anything but tensors or carries code.
    """
    if not path.is_file():
        raise UsageError(
            f"{key}: no file {path}; it must be on this machine: nothing is downloaded"
        )
    try:
        with torch.serialization.safe_globals(_NUMBERS), warnings.catch_warnings():
            # An instruction that torch does not take is an error anyway, reported below.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            loaded: Any
            if path.suffix == ".safetensors":
                loaded = load_file(path)
            else:
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        carried = re.search(r"(?:GLOBAL|function|class) ([\w.]+)", str(error))
        if carried:
            what = f"it carries {carried[1]}, which"
        else:
            what = "it is damaged, or holds more than tensors, which"
        raise ArtifactError(
            f"{key}: {path} is refused: {what} could run code; ask for its state_dict as"
            " .safetensors, or make it where you trust the file"
        ) from error
    # on a damaged file the unpickler raises whatever the bytes lead it to
    except Exception as error:
        reason = str(error).partition(". ")[0]  # torch goes on to advise loading with code
        raise ArtifactError(
            f"{key}: {path} is not a readable weights file: damaged, cut short or of another kind "
            f"({type(error).__name__}: {reason})"
        ) from error
    if not isinstance(loaded, Mapping):
        raise ArtifactError(
            f"{key}: {path} holds a {type(loaded).__name__}, not tensors by name"
        )
    while inner := next(
        (
            loaded[wrapper]
            for wrapper in _WRAPPERS
            if isinstance(loaded.get(wrapper), Mapping)
        ),
        None,
    ):
        loaded = inner
    tensors = {
        str(name).removeprefix("module."): value
        for name, value in loaded.items()
        if isinstance(value, Tensor)
    }
    if not tensors:
        found = ", ".join(str(name) for name in list(loaded)[:3]) or "nothing"
        raise ArtifactError(f"{key}: {path} holds no tensors by name, but {found}")
    return tensors
