"""Softmax attention by the form that is fastest for device, number format and length.

In float32 and on a GPU that is torch's fused kernel. On a CPU in bfloat16 it is slow. There
training on short sequences is written out, and all else goes in pieces, as many heads or lines at
once as leave their scores in the cache; training does not even keep those of very long ones.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_PIECE = 2**20  # scores of a piece: 2 MiB
# of a head: training on fewer is no slower written out, which takes fewer steps
_MINIMUM_SCORES = 256 * 256
_MAXIMUM_THREADS = (
    4  # that share one piece well; the fused kernel shares out lines and heads
)
# Longest sequence whose probabilities are kept for the backward pass. Those of longer ones (2048
# tokens for SVTRv2 at 1024 px) would fill the memory: they are computed again.
_KEPT_TOKENS = 1024


def attention(q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v, (N, heads, L, d).

    `q` is (N, heads, L, d), `k` and `v` are (N, heads, L', d); `keys` is bool (N, 1, 1 or L, L'),
    true where a key may be seen, or the same in the dtype of `q` as what is added to the scores, or
    None.
    """
    if _in_pieces(q, k):
        y: Tensor = _InPieces.apply(
            q, k, v, None if keys is None else _added(keys, q.dtype)
        )
        return y
    if (
        q.dtype == torch.bfloat16
        and q.device.type == "cpu"
        and q.requires_grad
        and k.shape[2] <= _KEPT_TOKENS
    ):
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (N, heads, L, L')
        return (scores if keys is None else scores + _added(keys, q.dtype)).softmax(
            dim=-1
        ) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keys)


def _in_pieces(q: Tensor, k: Tensor) -> bool:
    return (
        q.dtype == torch.bfloat16
        and q.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and (not q.requires_grad or q.shape[2] * k.shape[2] >= _MINIMUM_SCORES)
        and torch.get_num_threads() <= _MAXIMUM_THREADS
    )


def _added(keys: Tensor, kind: torch.dtype) -> Tensor:
    """What a mask adds to the scores: nothing, or minus infinity."""
    if keys.dtype == torch.bool:
        return torch.zeros_like(keys, dtype=kind).masked_fill(~keys, float("-inf"))
    return keys


class _InPieces(torch.autograd.Function):
    """One piece after the other; `added` (N or 1, 1, 1 or L, L') is added to the scores and has no
    gradient.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, added: Tensor | None) -> Tensor:
        (n, heads, length, dim), keys = q.shape, k.shape[2]
        q = torch.mul(q, dim**-0.5, out=q.new_empty(q.shape)).flatten(
            0, 1
        )  # (N heads, L, d)
        # (N heads, L', d), contiguous too
        k, v, y = k.flatten(0, 1), v.flatten(0, 1), torch.empty_like(q)
        keep = any(ctx.needs_input_grad) and keys <= _KEPT_TOKENS
        kept = q.new_empty(n * heads, length, keys) if keep else None
        for lines, piece in _pieces(n, heads, length * keys):
            shares = _shares(
                q[piece], k[piece], added, lines, None if kept is None else kept[piece]
            )
            torch.bmm(shares, v[piece], out=y[piece])
        ctx.save_for_backward(q, k, v, added, kept)
        return y.unflatten(0, (n, heads))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, added, kept = ctx.saved_tensors
        (n, heads, length, dim), keys = grad.shape, k.shape[1]
        grad_q = torch.empty_like(q)
        grad_k = torch.empty_like(k)
        grad_v = torch.empty_like(v)
        grad = grad.flatten(0, 1)  # (N heads, L, d)
        for lines, piece in _pieces(n, heads, length * keys):
            # (P, L, L')
            if kept is None:
                shares = _shares(q[piece], k[piece], added, lines)
            else:
                shares = kept[piece]
            of_scores = torch.ops.aten._softmax_backward_data(
                grad[piece] @ v[piece].mT, shares, -1, q.dtype
            )
            torch.bmm(of_scores, k[piece], out=grad_q[piece])
            torch.bmm(of_scores.mT, q[piece], out=grad_k[piece])
            torch.bmm(shares.mT, grad[piece], out=grad_v[piece])
        grad_q *= dim**-0.5
        return *(value.unflatten(0, (n, heads)) for value in (grad_q, grad_k, grad_v)), None


def _pieces(lines: int, heads: int, scores: int) -> Iterator[tuple[slice, slice]]:
    """Yield what goes together where a head of a line has so many scores, several whole lines or
    heads of one line: which lines, and which of the heads of all lines.
    """
    at_once = max(1, _PIECE // scores)
    if at_once >= heads:
        for line in range(0, lines, at_once // heads):
            end = min(line + at_once // heads, lines)
            yield slice(line, end), slice(line * heads, end * heads)
    else:
        for line, head in product(range(lines), range(0, heads, at_once)):
            yield (
                slice(line, line + 1),
                slice(line * heads + head, line * heads + min(head + at_once, heads)),
            )


def _shares(
    q: Tensor, k: Tensor, added: Tensor | None, lines: slice, out: Tensor | None = None
) -> Tensor:
    """Return by how much each key counts, (P, L, L'), for `q` (P, L, d), scaled, and `k` (P, L', d)
    of a piece of `lines`.
    """
    scores = q @ k.mT
    if added is not None:
        of_lines = added if len(added) == 1 else added[lines]  # (lines or 1, 1, 1 or L, L')
        scores.unflatten(0, (len(of_lines), -1)).add_(of_lines)
    return torch.softmax(scores, -1, out=out)
