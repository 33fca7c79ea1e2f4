"""Padding masks: with the widths given, a line's logits do not depend on what it was batched with.

A convolution must see the zeros that it sees at the right edge of the line alone, so padding
columns are zeroed before every convolution, at every resolution; attention leaves the padding keys
out. Without widths all masks are None and no operation is added, which keeps an exported graph
clean.
"""

import torch
from torch import Tensor


def valid_columns(lengths: Tensor, width: int) -> Tensor:
    """Return bool (N, W), true where a column belongs to the line.

    `lengths` is int64 (N,), the columns of each line at this resolution, 1…`width`: a line without
    columns would give attention nothing to look at.
    """
    return torch.arange(width, device=lengths.device) < lengths[:, None]  # (N, W)


def halve(length: Tensor) -> Tensor:
    """Return the length after a convolution of kernel 3, stride 2, padding 1: ceil(length / 2)."""
    return (length + 1) // 2


def columns_by_stride(
    width: int, widths: Tensor | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return `valid_columns` of lines `widths` (N,) wide in a batch of `width` pixels at stride 1,
    2 and 4, through a stem of two convolutions of stride 2; None three times without widths.
    """
    if widths is None:
        return None, None, None
    widths2 = halve(widths)
    width2 = (width + 1) // 2
    return (
        valid_columns(widths, width),
        valid_columns(widths2, width2),
        valid_columns(halve(widths2), (width2 + 1) // 2),
    )


def zero_padding(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return `x` (N, H, W, C) with the padding columns set to zero; `x` itself when `valid` is
    None.
    """
    if valid is None:
        return x
    return x * valid[:, None, :, None]


def valid_keys(valid: Tensor | None, rows: int) -> Tensor | None:
    """Return the mask of an attention over `rows` x W tokens in row order: bool (N, 1, 1, rows *
    W), true = attend.
    """
    if valid is None:
        return None
    return valid.repeat(1, rows)[:, None, None, :]
