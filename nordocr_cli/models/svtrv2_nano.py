"""svtrv2-nano: a lean network of the SVTRv2 family that trains from scratch on two CPU cores.

What makes it cheap: the height is halved after the first stage, brought to 1 or 2 rows after the
second, and attention runs only in the last one. What makes it start: pre-norm blocks, which leave
the CTC blank plateau at a learning rate of 1e-3 with warm-up where post-norm blocks stay on it.
Convolutions with zero padding tell it the position; there is no embedding.
"""

from torch import Tensor, nn

from nordocr_cli.models.base import CtcNetwork
from nordocr_cli.models.layers import DropPath, Mlp, SelfAttention, convolve, drop_rates
from nordocr_cli.models.masking import columns_by_stride, valid_keys, zero_padding
from nordocr_cli.settings import SvtrV2NanoModel

_GROUP = 24  # channels of a group of the 5x5 convolutions
_HEAD = 32  # channels of an attention head
_MLP_RATIO = 4


class NanoConvBlock(nn.Module):
    """Pre-norm block that mixes neighbours by one grouped 5x5 convolution."""

    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.conv = nn.Conv2d(dim, dim, kernel_size=5, padding=2, groups=dim // _GROUP)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, _MLP_RATIO * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, C); `valid` is bool (N, W) or None."""
        x = x + self.drop_path(convolve(self.conv, zero_padding(self.norm1(x), valid)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class AttentionBlock(nn.Module):
    """Pre-norm block that mixes all tokens by self-attention."""

    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, dim // _HEAD)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, _MLP_RATIO * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """Map (N, L, C) to (N, L, C); `keys` is bool (N, 1, 1, L) or None."""
        x = x + self.drop_path(self.attn(self.norm1(x), keys))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class NanoDownsample(nn.Module):
    """Norm and a convolution that widens the channels and divides the height by 2 (3x3), or by 4
    (4x3: no row is passed over).
    """

    def __init__(self, dim: int, out_dim: int, stride: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        # of the kernel, of zeros above and below
        height, rows = (3, 1) if stride == 2 else (stride, 0)
        self.conv = nn.Conv2d(
            dim, out_dim, kernel_size=(height, 3), stride=(stride, 1), padding=(rows, 1)
        )

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Map (N, H, W, C) to (N, H / stride, W, C'), H a multiple of the stride."""
        return convolve(self.conv, zero_padding(self.norm(x), valid))


class SvtrV2Nano(CtcNetwork):
    """Stem of stride 4, two convolutional stages, one attention stage, a weighted mean over its
    rows, a linear head.
    """

    def __init__(self, model: SvtrV2NanoModel, num_classes: int) -> None:
        super().__init__(model)
        dims = model.dims
        depths = model.depths
        rates = drop_rates(model.drop_path, sum(depths))
        self.stem1 = _stem(3, dims[0] // 2)
        self.stem2 = _stem(dims[0] // 2, dims[0])
        self.stage1 = nn.ModuleList(
            NanoConvBlock(dims[0], next(rates)) for _ in range(depths[0])
        )
        self.down1 = NanoDownsample(dims[0], dims[1])
        self.stage2 = nn.ModuleList(
            NanoConvBlock(dims[1], next(rates)) for _ in range(depths[1])
        )
        self.down2 = NanoDownsample(dims[1], dims[2], 4 // model.attention_rows)
        self.stage3 = nn.ModuleList(
            AttentionBlock(dims[2], next(rates)) for _ in range(depths[2])
        )
        self.norm = nn.LayerNorm(dims[2])
        self.row_score = (
            nn.Linear(dims[2], 1, bias=False) if model.attention_rows > 1 else None
        )
        self.classifier = nn.Linear(dims[2], num_classes)
        self.apply(_init)
        if self.row_score is not None:
            nn.init.zeros_(self.row_score.weight)  # starts as the plain mean over the rows

    def forward(self, images: Tensor, widths: Tensor | None = None) -> Tensor:
        """Return logits (N, T, C), T = ceil(W / 4), for normalized images (N, 3, H, W).

        `widths` int64 (N,), 1…W, are the pixels of each line without its padding; given, padding
        changes nothing.
        """
        valid1, valid2, valid4 = columns_by_stride(images.shape[3], widths)
        x = images.permute(0, 2, 3, 1).contiguous()  # (N, H, W, 3), H = 32
        x = convolve(self.stem1, zero_padding(x, valid1))  # (N, 16, W/2, C1/2)
        x = convolve(self.stem2, zero_padding(x, valid2))  # (N, 8, T, C1)
        for block in self.stage1:
            x = block(x, valid4)
        x = self.down1(x, valid4)  # (N, 4, T, C2)
        for block in self.stage2:
            x = block(x, valid4)
        x = self.down2(x, valid4)  # (N, R, T, C3), R = 1 or 2
        rows = x.shape[1]
        frames = x.shape[2]
        keys = valid_keys(valid4, rows)
        x = x.flatten(1, 2)  # (N, R T, C3)
        for block in self.stage3:
            x = block(x, keys)
        x = self.norm(x.unflatten(1, (rows, frames)))  # (N, R, T, C3)
        # (N, T, C3)
        if self.row_score is None:
            x = x[:, 0]
        else:
            x = (x * self.row_score(x).softmax(dim=1)).sum(dim=1)
        return self.classifier(x)  # (N, T, C)


def _stem(channels: int, out_channels: int) -> nn.Sequential:
    """Half the stem: a 3x3 convolution of stride 2. BatchNorm melts into it at export, so that it
    needs no bias.
    """
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, kernel_size=3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.GELU(),
    )


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
