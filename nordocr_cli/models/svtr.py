"""SVTR tiny, small, base and large: three stages of local, then global attention; the height is
merged to 1 for CTC.

Names of modules follow the authors' state_dict. Two things differ from their code without changing
what it computes:

- Local attention runs in blocks of columns that see their neighbours' edges, with a mask computed
    for one block: cost and
  memory grow with the width, where a dense mask over all pairs of tokens grows with its square.
- The learned positions are a grid that a line as wide as the grid, or narrower, reads as it stands
    and a wider one stretches
  over its own width. So any width is taken, and what a line is padded to never moves its positions.

As in our other networks padding can be masked, and the output is logits.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nordocr_cli.models.base import CtcNetwork
from nordocr_cli.models.kernels.attention import attention
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
from nordocr_cli.models.merging import SVTRMerging
from nordocr_cli.models.rctc import RctcHead
from nordocr_cli.settings import SvtrModel

_HEAD = 32  # channels of an attention head
_MLP_RATIO = 4
_EPS = 1e-6
# added to the scores of keys outside the window: finite in fp16 too, and nothing after exp
_HIDDEN = -1e4
_BLOCK_COLUMNS = 16  # of local attention: 16 columns look at 16 + width of the window - 1


@dataclass(frozen=True)
class SvtrSize:
    """Channels and blocks of the three stages; the first `local` blocks mix locally, the others
    globally. The local blocks of `convolves` mix by a convolution, not by attention; all blocks of
    such a network are post-norm, and it has no norm behind them.
    """

    dims: tuple[int, int, int]
    depths: tuple[int, int, int]
    local: int
    convolves: bool = False


SVTR_SIZES = {
    "tiny": SvtrSize((64, 128, 256), (3, 6, 3), 6),
    "small": SvtrSize((96, 192, 256), (3, 6, 6), 8),
    "base": SvtrSize((128, 256, 384), (3, 6, 9), 8),
    "large": SvtrSize((192, 256, 512), (3, 9, 9), 10),
    # OpenOCR's svtr_base_ctc and svtr_base_rctc, whose configuration says `prenorm: True`
    "base-conv": SvtrSize((128, 256, 384), (6, 6, 6), 8, convolves=True),
}
_CONV_KERNEL = 5


class GlobalMixer(SelfAttention):
    """Self-attention among all positions of the map."""

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, C); `valid` is bool (N, W) or None."""
        return (
            super().forward(x.flatten(1, 2), valid_keys(valid, x.shape[1])).reshape(x.shape)
        )


class LocalMixer(SelfAttention):
    """Self-attention of each position to the window of [height, width] positions that it is the
    centre of.
    """

    def __init__(self, dim: int, heads: int, window: tuple[int, int]) -> None:
        super().__init__(dim, heads)
        self.reach = (window[0] // 2, window[1] // 2)  # rows and columns to each side

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, C); `valid` is bool (N, W) or None."""
        (n, rows, width, dim), size, reach = x.shape, _BLOCK_COLUMNS, self.reach[1]
        fill = (size - width % size) % size
        qkv = F.pad(self.qkv(x), (0, 0, 0, fill))  # (N, H, blocks size, 3 C)
        qkv = qkv.reshape(n, rows, -1, size, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(4, 0, 2, 5, 1, 3, 6).unbind(
            0
        )  # (N, blocks, heads, H, size, d) each
        real = x.new_ones(1, width) if valid is None else valid.to(x.dtype)
        # (N or 1, blocks, 1, 1, size, 1)
        real = F.pad(real, (0, fill)).unflatten(1, (-1, size))[:, :, None, None, :, None]
        # (N or 1, blocks, 1, L')
        keys = with_neighbours(real, reach).expand(-1, -1, -1, rows, -1, -1).flatten(3) > 0
        near, itself = _near(rows, size, self.reach, x.device)  # (L, L')
        # A position always sees itself: a padding position would otherwise see nothing, which is no
        # number.
        seen = (keys[:, :, :, None] & near) | itself  # (N or 1, blocks, 1, L, L')
        hidden = ((~seen).to(q.dtype) * _HIDDEN).expand(n, -1, -1, -1, -1)
        mixed = attention(
            q.flatten(0, 1).flatten(2, 3),  # (N blocks, heads, L, d), L = H size
            # (N blocks, heads, L', d), L' = H (size + 2 reach)
            with_neighbours(k, reach).flatten(0, 1).flatten(2, 3),
            with_neighbours(v, reach).flatten(0, 1).flatten(2, 3),
            hidden.flatten(0, 1),
        )
        # (N, blocks, heads, H, size, d)
        mixed = mixed.unflatten(2, (rows, size)).unflatten(0, (n, -1))
        return self.proj(
            mixed.permute(0, 3, 1, 4, 2, 5).reshape(n, rows, -1, dim)[:, :, :width]
        )


class ConvMixer(nn.Module):
    """One grouped 5x5 convolution over the map."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.local_mixer = nn.Conv2d(
            dim, dim, _CONV_KERNEL, padding=_CONV_KERNEL // 2, groups=heads
        )

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, C); `valid` is bool (N, W) or None."""
        return convolve(self.local_mixer, zero_padding(x, valid))


def with_neighbours(x: Tensor, reach: int) -> Tensor:
    """Give each block of columns the `reach` columns before and after it, zeros at the ends of the
    line.

    Maps (N, blocks, heads, H, size, d) to (N, blocks, heads, H, size + 2 reach, d).
    """
    left = x[..., -reach:, :]
    right = x[..., :reach, :]
    before = torch.cat([torch.zeros_like(left[:, :1]), left[:, :-1]], dim=1)
    after = torch.cat([right[:, 1:], torch.zeros_like(right[:, :1])], dim=1)
    return torch.cat([before, x, after], dim=-2)


def _near(
    rows: int, size: int, reach: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Which keys of a block with neighbours are in the window of each of its queries, and which one
    is the query itself: bool (rows * size, rows * (size + 2 reach)), both in row order.
    """
    row = torch.arange(rows, device=device)
    column = torch.arange(size, device=device)
    key_column = torch.arange(-reach[1], size + reach[1], device=device)
    rows_off = (row[:, None] - row).abs()[:, None, :, None]  # (rows, 1, rows, 1)
    # (1, size, 1, size + 2 reach)
    columns_off = (column[:, None] - key_column).abs()[None, :, None, :]
    near = ((rows_off <= reach[0]) & (columns_off <= reach[1])).flatten(2).flatten(0, 1)
    return near, (rows_off + columns_off == 0).flatten(2).flatten(0, 1)


class Block(nn.Module):
    """Pre-norm block of a mixer and an MLP."""

    def __init__(self, dim: int, mixer: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_EPS)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(dim, eps=_EPS)
        self.mlp = Mlp(dim, _MLP_RATIO * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, C); `valid` is bool (N, W) or None."""
        x = x + self.drop_path(self.mixer(self.norm1(x), valid))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PostNormBlock(Block):
    """The same with its norms behind the residual sums."""

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, C); `valid` is bool (N, W) or None."""
        x = self.norm1(x + self.drop_path(self.mixer(x, valid)))
        return self.norm2(x + self.drop_path(self.mlp(x)))


class PatchEmbed(nn.Module):
    """Two stem layers: image to features at a quarter of its height and width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(StemLayer(3, dim // 2), StemLayer(dim // 2, dim))


class SVTRBackbone(nn.Module):
    """Stem, positions, three stages of heights H/4, H/8 and H/16, and for the CTC head the merging
    to height 1.
    """

    def __init__(self, model: SvtrModel) -> None:
        super().__init__()
        size = SVTR_SIZES[model.size]
        window = model.local_window
        rates = drop_rates(model.drop_path, sum(size.depths))
        local = "C" if size.convolves else "L"
        mixers = iter(local * size.local + "G" * (sum(size.depths) - size.local))
        self.grid = model.positions  # [rows, columns]
        self.patch_embed = PatchEmbed(size.dims[0])
        self.pos_embed = nn.Parameter(
            torch.empty(1, self.grid[0] * self.grid[1], size.dims[0])
        )
        self.pos_embed.no_decay = True  # type: ignore[attr-defined]
        block = PostNormBlock if size.convolves else Block

        def stage(index: int) -> nn.ModuleList:
            dim = size.dims[index]
            depth = size.depths[index]
            return nn.ModuleList(
                block(dim, _mixer(next(mixers), dim, window), next(rates))
                for _ in range(depth)
            )

        self.blocks1 = stage(0)
        self.sub_sample1 = Downsample(size.dims[0], size.dims[1], stride=2)
        self.blocks2 = stage(1)
        self.sub_sample2 = Downsample(size.dims[1], size.dims[2], stride=2)
        self.blocks3 = stage(2)
        if not size.convolves:
            self.norm = nn.LayerNorm(size.dims[2], eps=_EPS)
        if model.head == "ctc":
            self.last_conv = SVTRMerging(size.dims[2], model.out_channels)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.apply(init_weights)

    def forward(self, images: Tensor, widths: Tensor | None = None) -> Tensor:
        """Return merged features (N, out_channels, 1, T), T = ceil(W / 4), for normalized images
        (N, 3, H, W).
        """
        merged: Tensor = self.last_conv(
            self.features(images, widths)[0].permute(0, 3, 1, 2)
        )
        return merged

    def features(
        self, images: Tensor, widths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return features (N, H/16, T, C) for normalized images (N, 3, H, W), and which frames
        belong to each line, bool (N, T), None without widths.
        """
        valid1, valid2, valid4 = columns_by_stride(images.shape[3], widths)
        x = images.permute(0, 2, 3, 1).contiguous()  # (N, H, W, 3)
        x = convolve(
            self.patch_embed.proj[0], zero_padding(x, valid1)
        )  # (N, H/2, W/2, C1/2)
        x = convolve(self.patch_embed.proj[1], zero_padding(x, valid2))  # (N, H/4, T, C1)
        x = x + self.positions(x.shape[1], x.shape[2], valid4).to(x.dtype)
        for block in self.blocks1:
            x = block(x, valid4)
        x = self.sub_sample1(x, valid4)  # (N, H/8, T, C2)
        for block in self.blocks2:
            x = block(x, valid4)
        x = self.sub_sample2(x, valid4)  # (N, H/16, T, C3)
        for block in self.blocks3:
            x = block(x, valid4)
        if hasattr(self, "norm"):
            x = self.norm(x)
        return x, valid4

    def positions(self, rows: int, frames: int, valid: Tensor | None) -> Tensor:
        """Return the position of each token of the map, (N or 1, rows, frames, C)."""
        grid = self.pos_embed[0].unflatten(0, self.grid)  # (grid rows, grid columns, C)
        row = torch.arange(rows, device=grid.device)  # (rows,)
        column = torch.arange(frames, device=grid.device)  # (T,)
        # Without widths the line is as long as the map; counted from the index, so that an export
        # does not freeze it.
        # (1 or N, 1)
        if valid is None:
            length = column[None, -1:] + 1
        else:
            length = valid.sum(dim=1, keepdim=True)
        # (grid columns, rows, C)
        grid = stretched_positions(grid, row, row[None, -1:] + 1)[0].transpose(0, 1)
        return stretched_positions(grid, column, length).transpose(
            1, 2
        )  # (1 or N, rows, T, C)


def stretched_positions(grid: Tensor, index: Tensor, length: Tensor) -> Tensor:
    """Read learned positions (S, X, C) at each `index`, int64 (K,), of lines `length` long, int64
    (N, 1).

    A line of at most S is read index after index; over a longer one all S positions are stretched,
    interpolated linearly. Returns (N, K, X, C).
    """
    size = grid.shape[0]
    scale = (size / length).clamp(max=1.0)  # (N, 1)
    at = ((index + 0.5) * scale - 0.5).clamp(0, size - 1)  # (N, K)
    low = at.floor()
    share = (at - low).to(grid.dtype)[:, :, None, None]
    low = low.long()
    return torch.lerp(grid[low], grid[(low + 1).clamp(max=size - 1)], share)


class CtcHead(nn.Module):
    """The classifier of each frame."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, 1, T) to logits (N, T, classes)."""
        return self.fc(x.flatten(2).transpose(1, 2))


class Svtr(CtcNetwork):
    """Backbone and CTC or RCTC head."""

    classifier_name = "decoder.fc"

    def __init__(self, model: SvtrModel, num_classes: int) -> None:
        super().__init__(model)
        self.encoder = SVTRBackbone(model)
        self.keeps_rows = model.head == "rctc"
        self.decoder: nn.Module
        if self.keeps_rows:
            self.decoder = RctcHead(SVTR_SIZES[model.size].dims[2], num_classes)
        else:
            self.decoder = CtcHead(model.out_channels, num_classes)

    def forward(self, images: Tensor, widths: Tensor | None = None) -> Tensor:
        """Return logits (N, T, C), T = ceil(W / 4), for normalized images (N, 3, H, W).

        `widths` int64 (N,), 1…W, are the pixels of each line without its padding; given, padding
        changes nothing.
        """
        if self.keeps_rows:
            logits: Tensor = self.decoder(*self.encoder.features(images, widths))
            return logits
        logits = self.decoder(self.encoder(images, widths))
        return logits


def _mixer(kind: str, dim: int, window: tuple[int, int]) -> nn.Module:
    """The mixer of a block: L local attention, C convolution, G global attention."""
    heads = dim // _HEAD
    if kind == "C":
        return ConvMixer(dim, heads)
    if kind == "L":
        return LocalMixer(dim, heads, window)
    return GlobalMixer(dim, heads)
