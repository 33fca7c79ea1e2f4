"""OpenOCR checkpoints of SVTR and SVTRv2 as weights of our networks.

Ours have the authors' names, so that what is left to do is to tell which network a file holds, to
take off what training put around the names, and to refuse what only looks alike.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nordocr_cli.errors import ArtifactError
from nordocr_cli.models import svtr, svtrv2
from nordocr_cli.models.checkpoints.fit import require_same_tensors
from nordocr_cli.models.checkpoints.foreign import Imported
from nordocr_cli.models.registry import build_model
from nordocr_cli.settings import SvtrModel, SvtrV2Model

_SVTR_CONVOLUTION = "encoder.blocks1.0.mixer.local_mixer.weight"
_ROWS = 8  # of SVTR's learned positions at our height of 32 pixels
_MEND = "Only networks as OpenOCR publishes them are read"
# [height, width] of SVTR's local attention where the checkpoint holds no masks that tell it
_PAPER_WINDOW = (7, 11)


def read_openocr(tensors: Mapping[str, Tensor], path: Path) -> Imported:
    """Return the network that `tensors`, those of the file `path`, are of. Raises ArtifactError for
    another one, naming the first keys that differ.
    """
    renamed: dict[str, Tensor] = {}
    dropped: dict[str, int] = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("module.").replace("decoder.ctc_decoder.", "decoder.", 1)
        if name.startswith("decoder.gtc_decoder."):
            dropped["guidance branch"] = dropped.get("guidance branch", 0) + 1
        elif name.endswith(".mixer.mask"):
            dropped["mask buffers"] = dropped.get("mask buffers", 0) + 1
        else:
            renamed[name] = tensor.float() if tensor.is_floating_point() else tensor
    _refuse_lookalikes(renamed, path)
    classes = _rows(renamed, "decoder.fc.weight", path)
    window_from = ""
    model: SvtrModel | SvtrV2Model
    if "encoder.pos_embed" in renamed:
        model, window_from = _svtr(tensors, renamed, path)
    else:
        dim = _rows(renamed, "encoder.pope.patch_embed.1.conv.weight", path)
        sizes = {size.dims[0]: name for name, size in svtrv2.SVTRV2_SIZES.items()}
        if dim not in sizes:
            raise ArtifactError(
                f"{path}: an SVTRv2 of {dim} channels; tiny, small and base have"
                f" {', '.join(map(str, sizes))}"
            )
        if "encoder.stages.3.last_conv.weight" in renamed:
            head = "ctc"
        else:
            head = "rctc"
        model = SvtrV2Model.model_validate(
            {"name": "svtrv2", "size": sizes[dim], "head": head}
        )
    with torch.device("meta"):
        require_same_tensors(
            build_model(model, classes),
            renamed,
            f"{path} as {model.name} {model.size}",
            _MEND,
        )
    return Imported(model, renamed, classes, dropped, window_from)


def _svtr(
    tensors: Mapping[str, Tensor], renamed: Mapping[str, Tensor], path: Path
) -> tuple[SvtrModel, str]:
    """Return the SVTR that a checkpoint holds, and where its window was read ("": it has none)."""
    positions = renamed["encoder.pos_embed"].shape[1]
    found: dict[str, Any] = {"name": "svtr", "size": _svtr_size(renamed, path)}
    if "decoder.char_token" in renamed:
        found["head"] = "rctc"
    else:
        found["out_channels"] = _rows(renamed, "encoder.last_conv.weight", path)
    window_from = ""
    if svtr.SVTR_SIZES[found["size"]].convolves:
        columns = _columns(positions, path)
    else:
        found["local_window"], columns, window_from = _window(tensors, positions, path)
    found["positions"] = (_ROWS, columns)
    return SvtrModel.model_validate(found), window_from


def _refuse_lookalikes(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse by name the networks that OpenOCR and PaddleOCR call SVTR or SVTRv2 and that are
    others.
    """
    first = tensors.get("encoder.stages.0.blocks.0.mixer.0.weight")
    if (
        any(name.startswith("decoder.svtr_encoder.") for name in tensors)
        or "encoder.pope.patch_embed.0.conv.bias" in tensors
    ):
        raise ArtifactError(
            f"{path} is the Chinese SVTRv2 (svtrv2_ch, repsvtr_ch: decoder.svtr_encoder, 5x5"
            " convolutions), which gives a frame for every 8 pixels, not 4: another network than"
            " svtrv2_rctc and svtrv2_ctc; it cannot be imported"
        )
    if first is not None and tuple(first.shape[2:]) != (3, 3):
        raise ArtifactError(
            f"{path} mixes by convolutions of {tuple(first.shape[2:])}, not the two 3x3 ones of"
            " OpenOCR's SVTRv2"
        )
    if any(name.startswith("transform.") for name in tensors):
        raise ArtifactError(
            f"{path} straightens its input first (transform.*, a TPS/STN rectifier); only networks"
            " without are read"
        )
    convolution = tensors.get(_SVTR_CONVOLUTION)
    if convolution is not None and tuple(convolution.shape[2:]) != (5, 5):
        raise ArtifactError(
            f"{path} mixes by convolutions of {tuple(convolution.shape[2:])}, not by the 5x5 ones"
            " of OpenOCR's svtr_base_ctc and svtr_base_rctc"
        )
    is_svtr = "encoder.pos_embed" in tensors
    if is_svtr and convolution is None and "encoder.norm.weight" not in tensors:
        raise ArtifactError(
            f"{path} is an SVTR of local attention without a last norm (no encoder.norm, OpenOCR's"
            " `prenorm: True`); of those, the ones that convolve are read: svtr_base_ctc and"
            " svtr_base_rctc"
        )


def _rows(tensors: Mapping[str, Tensor], name: str, path: Path) -> int:
    """The first dimension of a tensor that every such network has."""
    if name not in tensors:
        found = ", ".join(list(tensors)[:3])
        raise ArtifactError(
            f"{path} is no SVTR or SVTRv2 of OpenOCR and no PARSeq: it has no {name}; its first"
            f" keys are {found}"
        )
    return int(tensors[name].shape[0])


def _count_blocks(names: Iterable[str], prefix: str) -> int:
    """The number of blocks in the names `PREFIX.BLOCK.…` of tensors."""
    return len({name.split(".")[2] for name in names if name.startswith(prefix)})


def _svtr_size(tensors: Mapping[str, Tensor], path: Path) -> Any:
    dims = tuple(
        _rows(tensors, f"encoder.blocks{stage}.0.norm1.weight", path) for stage in (1, 2, 3)
    )
    depths = tuple(_count_blocks(tensors, f"encoder.blocks{stage}.") for stage in (1, 2, 3))
    for name, size in svtr.SVTR_SIZES.items():
        if (size.dims, size.depths) == (dims, depths):
            return name
    raise ArtifactError(
        f"{path}: an SVTR of {dims} channels and {depths} blocks is none of"
        f" {', '.join(svtr.SVTR_SIZES)}"
    )


def _window(
    tensors: Mapping[str, Tensor], positions: int, path: Path
) -> tuple[tuple[int, int], int, str]:
    """The window of local attention [height, width], the columns of the learned positions, and
    where they were read.

    A mask buffer (1, 1, L, L) is 0 where a position may look: the first row of the first block's
    shows half the window.
    """
    for name, tensor in tensors.items():
        if not name.endswith("blocks1.0.mixer.mask"):
            continue
        # (L,): from the upper left corner, the window's lower right quarter
        seen = tensor[0, 0, 0] == 0
        columns_seen = int((~seen).float().argmax())
        rows_seen = int(seen.sum()) // columns_seen
        following = seen[columns_seen:].float()
        if rows_seen > 1:
            columns = columns_seen + int(following.argmax())
        else:
            columns = positions
        if columns * _ROWS != positions:
            raise ArtifactError(
                f"{path} was trained on lines of {4 * positions // columns}x{4 * columns} pixels;"
                " nordocr's are 32 pixels high"
            )
        return (2 * rows_seen - 1, 2 * columns_seen - 1), columns, "the mask buffers"
    columns = _columns(positions, path)
    return _PAPER_WINDOW, columns, "the paper: the checkpoint has no masks that tell"


def _columns(positions: int, path: Path) -> int:
    """The columns of learned positions of our height. Raises ArtifactError for another height."""
    if positions % _ROWS:
        raise ArtifactError(
            f"{path}: {positions} learned positions are not {_ROWS} rows, those of a height of 32"
            " pixels"
        )
    return positions // _ROWS
