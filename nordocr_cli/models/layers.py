"""Layers that the networks share. Feature maps are (N, H, W, C) everywhere: normalization and
linear layers want the channels last, and a permuted view of it is what torch calls channels_last,
so convolutions need no copy either.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from nordocr_cli.models.kernels.attention import attention
from nordocr_cli.models.kernels.linear import Linear, linear_gelu
from nordocr_cli.models.masking import zero_padding


class SelfAttention(nn.Module):
    """Multi-head self-attention over the tokens of a sequence. Rows of `qkv` are [q | k | v], each
    head after head.
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Map (N, L, C) to (N, L, C); `keys` as in `attention`."""
        n, length, dim = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, L, d) each
        return self.proj(attention(q, k, v, keys).transpose(1, 2).reshape(n, length, dim))


class Mlp(nn.Module):
    """Linear, GELU, linear: (…, C) to (…, C)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, C) to (…, C)."""
        return self.fc2(linear_gelu(x, self.fc1.weight, self.fc1.bias))


class DropPath(nn.Module):
    """Stochastic depth: in training, drops a residual branch of a line with probability `rate` and
    scales the others up.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, …) to (N, …)."""
        if not self.training or self.rate == 0:
            return x
        scale = (
            x.new_empty(x.shape[0], *[1] * (x.ndim - 1))
            .bernoulli_(1 - self.rate)
            .div_(1 - self.rate)
        )
        return x * scale


def drop_rates(last: float, blocks: int) -> Iterator[float]:
    """Yield the drop-path rate of each block, rising in even steps from 0 to `last`: deep blocks
    are missed least.
    """
    return iter([last * index / max(1, blocks - 1) for index in range(blocks)])


def convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution (N, C, H, W) to a map (N, H, W, C); both permutations are views of
    channels_last memory.
    """
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Downsample(nn.Module):
    """A 3x3 convolution that widens the channels and divides the height by `stride`, then a
    norm.
    """

    def __init__(self, dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, out_dim, kernel_size=3, stride=(stride, 1), padding=1)
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Map (N, H, W, C) to (N, ceil(H / stride), W, C')."""
        return self.norm(convolve(self.conv, zero_padding(x, valid)))


class StemLayer(nn.Module):
    """A 3x3 convolution of stride 2, BatchNorm, GELU."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels, out_channels, kernel_size=3, stride=2, padding=1, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / 2), ceil(W / 2))."""
        return self.act(self.norm(self.conv(x)))


def init_weights(module: nn.Module) -> None:
    """Start a layer as the authors of SVTR and SVTRv2 start their encoders."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
