"""SVTRv2 tiny, small and base with the RCTC or the plain CTC head, as its authors publish it
("SVTRv2LNConvTwo33" with "RCTCDecoder" or "CTCDecoder").

Names of modules follow the authors' state_dict, so that their checkpoints load unchanged; base with
126 classes has 19,767,486 parameters, with the plain head 17,780,286. Blocks are post-norm, there
is no positional embedding (zero padding of the convolutions gives the position), and the width is
free. Unlike the authors' code, the output is logits in evaluation too, and padding can be masked.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from nordocr_cli.models.base import CtcNetwork
from nordocr_cli.models.layers import (
    Downsample,
    DropPath,
    Mlp,
    SelfAttention,
    StemLayer,
    convolve,
    drop_rates,
    init_weights,
)
from nordocr_cli.models.masking import columns_by_stride, valid_keys, zero_padding
from nordocr_cli.models.rctc import RctcHead
from nordocr_cli.settings import SvtrV2Model

_HEAD = 32  # channels of an attention head, and of a group of the convolutions
_MLP_RATIO = 4
_PLAIN_CHANNELS = 256  # between the rows' mean and the classifier of the plain head
_LAST_DROPOUT = 0.1
_BLOCK_EPS = 1e-6  # of the blocks' norms; all others have torch's 1e-5


@dataclass(frozen=True)
class Svtrv2Size:
    """Channels of the three stages, and their mixers: C convolution, F flatten (height and width to
    tokens), G attention.
    """

    dims: tuple[int, int, int]
    stages: tuple[str, str, str]


SVTRV2_SIZES = {
    "tiny": Svtrv2Size((64, 128, 256), ("CCC", "CCCFGGG", "GGG")),
    "small": Svtrv2Size((96, 192, 384), ("CCC", "CCCFGGG", "GGG")),
    "base": Svtrv2Size((128, 256, 384), ("CCCCCC", "CCFGGGG", "GGGGGG")),
}


class ConvBlock(nn.Module):
    """Post-norm block that mixes neighbours by two grouped 3x3 convolutions in a row."""

    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_BLOCK_EPS)
        self.mixer = nn.Sequential(
            nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim // _HEAD),
            nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim // _HEAD),
        )
        self.norm2 = nn.LayerNorm(dim, eps=_BLOCK_EPS)
        self.mlp = Mlp(dim, _MLP_RATIO * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, C); `valid` is bool (N, W) or None."""
        mixed = convolve(self.mixer[0], zero_padding(x, valid))
        mixed = convolve(self.mixer[1], zero_padding(mixed, valid))
        x = self.norm1(x + self.drop_path(mixed))
        return self.norm2(x + self.drop_path(self.mlp(x)))


class GlobalBlock(nn.Module):
    """Post-norm block that mixes all positions of the map by self-attention."""

    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_BLOCK_EPS)
        self.mixer = SelfAttention(dim, dim // _HEAD)
        self.norm2 = nn.LayerNorm(dim, eps=_BLOCK_EPS)
        self.mlp = Mlp(dim, _MLP_RATIO * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, C); `valid` is bool (N, W) or None."""
        mixed = self.mixer(x.flatten(1, 2), valid_keys(valid, x.shape[1])).reshape(x.shape)
        x = self.norm1(x + self.drop_path(mixed))
        return self.norm2(x + self.drop_path(self.mlp(x)))


class Flatten(nn.Module):
    """Does nothing: it holds the place of the authors' flatten among the blocks, so that the keys
    after it keep their index.
    """

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Return `x`: attention blocks flatten for themselves."""
        return x


class EncoderStage(nn.Module):
    """Blocks of one width of channels, and what leads to the next stage."""

    def __init__(
        self, dim: int, blocks: list[nn.Module], downsample: Downsample | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Map (N, H, W, C) to (N, H', W, C')."""
        for block in self.blocks:
            x = block(x, valid)
        if self.downsample is None:
            return x
        return self.downsample(x, valid)


class LastStage(nn.Module):
    """What leads to the plain head: mean over the rows, linear layer, Hardswish, dropout."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.last_conv = nn.Linear(dim, _PLAIN_CHANNELS, bias=False)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Map (N, H, W, C) to (N, 1, W, C')."""
        return F.dropout(
            F.hardswish(self.last_conv(x.mean(dim=1, keepdim=True))),
            _LAST_DROPOUT,
            self.training,
        )


class Stem(nn.Module):
    """Two stem layers: image to features at a quarter of its height and width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.patch_embed = nn.Sequential(StemLayer(3, dim // 2), StemLayer(dim // 2, dim))


class Encoder(nn.Module):
    """Stem and three stages: (N, 3, H, W) to (N, ceil(H / 8), ceil(W / 4), C), or with the
    `last_stage` of the plain head to (N, 1, ceil(W / 4), C').
    """

    def __init__(self, size: Svtrv2Size, drop_path: float, last_stage: bool) -> None:
        super().__init__()
        rates = drop_rates(
            drop_path, sum(len(mixers.replace("F", "")) for mixers in size.stages)
        )
        self.pope = Stem(size.dims[0])
        self.stages = nn.ModuleList()
        for index, (dim, mixers) in enumerate(zip(size.dims, size.stages, strict=True)):
            # Only the second step down halves the height: 8 rows, 8 rows, 4 rows of a 32 px line.
            if index < 2:
                down = Downsample(dim, size.dims[index + 1], stride=1 + index)
            else:
                down = None
            self.stages.append(
                EncoderStage(dim, [_block(mixer, dim, rates) for mixer in mixers], down)
            )
        if last_stage:
            self.stages.append(LastStage(size.dims[2]))
        self.apply(init_weights)

    def forward(
        self, images: Tensor, widths: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return features (N, H', T, C) and which frames belong to each line, bool (N, T), None
        without widths.
        """
        valid1, valid2, valid4 = columns_by_stride(images.shape[3], widths)
        x = images.permute(0, 2, 3, 1).contiguous()  # (N, H, W, 3)
        x = convolve(
            self.pope.patch_embed[0], zero_padding(x, valid1)
        )  # (N, H/2, W/2, C1/2)
        x = convolve(self.pope.patch_embed[1], zero_padding(x, valid2))  # (N, H/4, T, C1)
        for stage in self.stages:
            x = stage(x, valid4)
        return x, valid4  # (N, H/8 or 1, T, C)


class PlainHead(nn.Module):
    """The classifier of each frame."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(_PLAIN_CHANNELS, num_classes)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Return logits (N, T, classes) for features (N, 1, T, C)."""
        return self.fc(x[:, 0])


class SvtrV2(CtcNetwork):
    """Encoder and CTC head."""

    classifier_name = "decoder.fc"

    def __init__(self, model: SvtrV2Model, num_classes: int) -> None:
        super().__init__(model)
        size = SVTRV2_SIZES[model.size]
        self.dim = size.dims[2]
        plain = model.head == "ctc"
        self.encoder = Encoder(size, model.drop_path, last_stage=plain)
        self.decoder = (
            PlainHead(num_classes) if plain else RctcHead(size.dims[2], num_classes)
        )

    def forward(self, images: Tensor, widths: Tensor | None = None) -> Tensor:
        """Return logits (N, T, C), T = ceil(W / 4), for normalized images (N, 3, H, W).

        `widths` int64 (N,), 1…W, are the pixels of each line without its padding; given, padding
        changes nothing.
        """
        return self.decoder(*self.encoder(images, widths))


def _block(mixer: str, dim: int, rates: Iterator[float]) -> nn.Module:
    if mixer == "F":
        return Flatten()
    if mixer == "C":
        return ConvBlock(dim, next(rates))
    return GlobalBlock(dim, next(rates))
