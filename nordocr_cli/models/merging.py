"""From a map of features to a sequence: the height becomes 1, the width stays."""

from torch import Tensor, nn
from torch.nn import functional as F

_DROPOUT = 0.1


class SVTRMerging(nn.Conv2d):
    """SVTR's merging layer: mean over the rows, 1x1 convolution (this module's weight), Hardswish,
    dropout.

    It is the convolution itself, so that its key is that of the authors' `last_conv.weight`.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', 1, W)."""
        x = super().forward(x.mean(dim=2, keepdim=True))
        return F.dropout(F.hardswish(x), _DROPOUT, self.training)
