"""ResNet34 for text lines, with adapters. Names of modules follow torchvision's state_dict, so that
ImageNet weights load.

What differs from the network for photographs: layer2 to layer4 halve the height alone, so that a 32
px line comes out at height 1 and a quarter of its width; and padding can be masked. Feature maps
are (N, C, H, W) in channels_last memory.
"""

import re
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from nordocr_cli.models.checkpoints.fit import require_same_tensors
from nordocr_cli.models.checkpoints.foreign import read_tensors
from nordocr_cli.models.masking import columns_by_stride

CHANNELS = (64, 128, 256, 512)
_DEPTHS = (3, 4, 6, 3)
# transformers' names → torchvision's.
_RENAMED = (
    (r"^(?:resnet|model|backbone)\.", ""),
    (r"^embedder\.embedder\.convolution\.", "conv1."),
    (r"^embedder\.embedder\.normalization\.", "bn1."),
    (r"^encoder\.stages\.0\.", "layer1."),
    (r"^encoder\.stages\.1\.", "layer2."),
    (r"^encoder\.stages\.2\.", "layer3."),
    (r"^encoder\.stages\.3\.", "layer4."),
    (r"^(layer\d)\.layers\.(\d+)\.", r"\1.\2."),
    (r"\.layer\.0\.convolution\.", ".conv1."),
    (r"\.layer\.0\.normalization\.", ".bn1."),
    (r"\.layer\.1\.convolution\.", ".conv2."),
    (r"\.layer\.1\.normalization\.", ".bn2."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
)
_CLASSIFIER = ("fc.", "classifier.")  # of the photographs: not ours


class Adapter(nn.Module):
    """A bottleneck of two 1x1 convolutions on a shortcut. It begins as the identity, as its second
    convolution is zero.
    """

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, rank, kernel_size=1)
        self.up = nn.Conv2d(rank, channels, kernel_size=1)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        return x + self.up(F.relu(self.down(x)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions on a shortcut, then the adapter. The first one divides the height by
    `stride`.
    """

    def __init__(
        self, channels: int, out_channels: int, stride: int, adapter_rank: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            channels, out_channels, kernel_size=3, stride=(stride, 1), padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(
            out_channels, out_channels, kernel_size=3, padding=1, bias=False
        )
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if channels != out_channels:
            convolution = nn.Conv2d(
                channels, out_channels, kernel_size=1, stride=(stride, 1), bias=False
            )
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(out_channels))
        self.adapter = Adapter(out_channels, adapter_rank) if adapter_rank else None

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / stride), W); `keep` is bool (N, 1, 1, W) or None."""
        x = masked(x, keep)
        mixed = masked(F.relu(self.bn1(self.conv1(x))), keep)
        mixed = self.bn2(self.conv2(mixed))
        x = F.relu(mixed + (x if self.downsample is None else self.downsample(x)))
        if self.adapter is None:
            return x
        return self.adapter(x)


class ResNet34(nn.Module):
    """Stem of stride 4 and four layers: (N, 3, H, W) to (N, 512, ceil(H / 32), ceil(W / 4))."""

    def __init__(self, adapter_rank: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            3, CHANNELS[0], kernel_size=7, stride=2, padding=3, bias=False
        )
        self.bn1 = nn.BatchNorm2d(CHANNELS[0])
        self.layer1 = _layer(CHANNELS[0], CHANNELS[0], _DEPTHS[0], adapter_rank)
        self.layer2 = _layer(CHANNELS[0], CHANNELS[1], _DEPTHS[1], adapter_rank)
        self.layer3 = _layer(CHANNELS[1], CHANNELS[2], _DEPTHS[2], adapter_rank)
        self.layer4 = _layer(CHANNELS[2], CHANNELS[3], _DEPTHS[3], adapter_rank)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and "adapter" not in name:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor, widths: Tensor | None = None) -> Tensor:
        """Return features (N, 512, ceil(H / 32), T), T = ceil(W / 4), for normalized images (N, 3,
        H, W).
        """
        keep1, keep2, keep4 = (
            None if valid is None else valid[:, None, None, :]
            for valid in columns_by_stride(images.shape[3], widths)
        )  # bool (N, 1, 1, columns)
        x = F.relu(self.bn1(self.conv1(masked(images, keep1))))  # (N, 64, H/2, W/2)
        # After ReLU a zero never wins against a pixel of the line, so padding set to zero is no
        # padding.
        x = F.max_pool2d(
            masked(x, keep2), kernel_size=3, stride=2, padding=1
        )  # (N, 64, H/4, T)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in layer:
                x = block(x, keep4)
        return x

    def load_imagenet(self, path: Path, key: str) -> None:
        """Load torchvision's or transformers' weights of ResNet34; the adapters keep theirs.

        Raises UsageError when there is no such file and ArtifactError when it is not one of this
        network.
        """
        state = {}
        for name, tensor in read_tensors(path, key).items():
            for pattern, replacement in _RENAMED:
                name = re.sub(pattern, replacement, name)
            if not name.startswith(_CLASSIFIER):
                state[name] = tensor
        # Not in such a file: the adapters, and in old files the counters of the norms.
        own = {
            n: t
            for n, t in self.state_dict().items()
            if ".adapter." in n or n.endswith("num_batches_tracked")
        }
        require_same_tensors(
            self,
            own | state,
            f"{key}: {path}",
            "Give the weights of a ResNet34, torchvision's or transformers'",
        )
        self.load_state_dict(own | state)


def masked(x: Tensor, keep: Tensor | None) -> Tensor:
    """Return `x` (N, C, H, W) with the padding columns set to zero; `x` itself when `keep` is
    None.
    """
    if keep is None:
        return x
    return x * keep


def _layer(
    channels: int, out_channels: int, depth: int, adapter_rank: int
) -> nn.ModuleList:
    blocks = [
        BasicBlock(
            channels, out_channels, 2 if channels != out_channels else 1, adapter_rank
        )
    ]
    blocks += [
        BasicBlock(out_channels, out_channels, 1, adapter_rank) for _ in range(depth - 1)
    ]
    return nn.ModuleList(blocks)
