"""PARSeq's released checkpoints as weights of our network, whose names are theirs."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nordocr_cli.errors import ArtifactError
from nordocr_cli.models.checkpoints.fit import require_same_tensors
from nordocr_cli.models.checkpoints.foreign import Imported
from nordocr_cli.models.parseq.network import PARSEQ_SIZES, PATCH
from nordocr_cli.models.registry import build_model
from nordocr_cli.settings import ParseqModel

MARK = "pos_queries"  # a tensor that no other network has
# of Lightning, of training on several GPUs, of compiling
_PREFIXES = ("model.", "module.", "_orig_mod.", "model.")
_HEIGHT = 32
_MEND = "Only PARSeq as its authors published it is read"
_NOT_CHARACTERS = 2  # the beginning and padding: read, never written


def without_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names that they have in the network itself."""
    named = dict(tensors)
    for prefix in _PREFIXES:
        if named and all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return named


def read_parseq(tensors: Mapping[str, Tensor], path: Path) -> Imported:
    """Return the network that `tensors`, those of the file `path`, are of. Raises ArtifactError for
    another one, naming the first keys that differ.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        (_, positions, dim), (_, patches, _) = shapes[MARK], shapes["encoder.pos_embed"]
        classes = shapes["head.weight"][0]
        tokens = shapes["text_embed.embedding.weight"][0]
    except (KeyError, ValueError, IndexError) as error:
        raise ArtifactError(
            f"{path}: a PARSeq without {error}; its first keys are {', '.join(list(shapes)[:3])}"
        ) from None
    sizes = {size.dim: name for name, size in PARSEQ_SIZES.items()}
    if dim not in sizes:
        raise ArtifactError(
            f"{path}: a PARSeq of {dim} channels; tiny and small have {', '.join(map(str, sizes))}"
        )
    if tokens != classes + _NOT_CHARACTERS:
        raise ArtifactError(
            f"{path}: it reads {tokens} tokens and writes {classes}, not {_NOT_CHARACTERS} fewer"
        )
    rows = _HEIGHT // PATCH[0]
    if patches % rows:
        raise ArtifactError(
            f"{path}: {patches} patches are not {rows} rows, those of a height of {_HEIGHT} pixels"
        )
    model = ParseqModel.model_validate(
        {
            "name": "parseq",
            "size": sizes[dim],
            "width": patches // rows * PATCH[1],
            "max_label_length": positions - 1,
        }
    )
    state = {name: tensor.float() for name, tensor in tensors.items()}
    with torch.device("meta"):
        require_same_tensors(
            build_model(model, classes), state, f"{path} as parseq {model.size}", _MEND
        )
    return Imported(model, state, classes, {})
