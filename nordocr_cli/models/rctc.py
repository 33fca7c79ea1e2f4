"""The RCTC head of SVTRv2, which SVTR can have too: rows of features are rearranged by attention
before the classifier (the paper's feature rearrangement).
"""

import torch
from torch import Tensor, nn

from nordocr_cli.models.kernels.linear import Linear
from nordocr_cli.models.layers import Mlp, SelfAttention
from nordocr_cli.models.masking import valid_keys

_HEAD = 32  # channels of an attention head
_MLP_RATIO = 4


class RowBlock(nn.Module):
    """Pre-norm attention block over the frames of one row."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, dim // _HEAD, qkv_bias=False)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, _MLP_RATIO * dim)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """Map (rows, T, C) to (rows, T, C); `keys` is bool (rows, 1, 1, T) or None."""
        x = x + self.attn(self.norm1(x), keys)
        return x + self.mlp(self.norm2(x))


class RctcHead(nn.Module):
    """Feature rearrangement and classifier: rows attend along the line, then a learned query picks
    among the rows a frame.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.char_token = nn.Parameter(torch.empty(1, 1, dim))
        self.w_atten_block = RowBlock(dim)
        self.fc_kv = Linear(dim, 2 * dim)
        self.fc = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.char_token, std=0.02)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Return logits (N, T, classes) for features (N, H, T, C); `valid` is bool (N, T) or
        None.
        """
        rows = x.shape[1]
        # (N H, 1, 1, T)
        if valid is None:
            keys = None
        else:
            keys = valid_keys(valid.repeat_interleave(rows, dim=0), 1)
        x = self.w_atten_block(x.flatten(0, 1), keys).reshape(x.shape)  # (N, H, T, C)
        k, v = self.fc_kv(x).chunk(2, dim=-1)  # (N, H, T, C) each
        weights = (k @ self.char_token.transpose(1, 2)).softmax(
            dim=1
        )  # (N, H, T, 1), no scaling
        return self.fc((weights * v).sum(dim=1))  # (N, T, classes)
