"""Softmax attention by the form that is fastest for device, number format and length.

In float32 and on a GPU that is torch's fused kernel. On a CPU in bfloat16 its backward pass is slow: short sequences are
written out, and long ones go head by head, so that the scores stay in the cache, nothing of the size of all heads' scores is
allocated, and those of very long ones are not even kept.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_LEAST_SCORES = 256 * 256  # of a head: fewer are faster all heads at once
_MOST_THREADS = 4  # that share one head well; the fused kernel shares out lines and heads
# Longest sequence whose probabilities are kept for the backward pass. Those of longer ones (2048 tokens for SVTRv2 at 1024 px)
# would fill the memory: they are computed again.
_KEPT_TOKENS = 1024


def attention(q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v, (N, heads, L, d).

    `q` is (N, heads, L, d), `k` and `v` are (N, heads, L', d); `keys` is bool (N, 1, 1 or L, L'), true where a key may be seen,
    or the same in the dtype of `q` as what is added to the scores, or None.
    """
    if _by_head(q, k):
        y: Tensor = _ByHead.apply(q, k, v, None if keys is None else _added(keys, q.dtype))
        return y
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.requires_grad and k.shape[2] <= _KEPT_TOKENS:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (N, heads, L, L')
        return (scores if keys is None else scores + _added(keys, q.dtype)).softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keys)


def _by_head(q: Tensor, k: Tensor) -> bool:
    return (
        q.dtype == torch.bfloat16
        and q.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and q.shape[2] * k.shape[2] >= _LEAST_SCORES
        and torch.get_num_threads() <= _MOST_THREADS
    )


def _added(keys: Tensor, kind: torch.dtype) -> Tensor:
    """What a mask adds to the scores: nothing, or minus infinity."""
    return torch.zeros_like(keys, dtype=kind).masked_fill(~keys, float("-inf")) if keys.dtype == torch.bool else keys


class _ByHead(torch.autograd.Function):
    """One head of one line after the other; `added` (N or 1, 1, 1 or L, L') is added to the scores and has no gradient."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, added: Tensor | None) -> Tensor:
        (n, heads, length, dim), keys = q.shape, k.shape[2]
        q, k, v = (q * dim**-0.5).contiguous(), k.contiguous(), v.contiguous()
        keep = any(ctx.needs_input_grad) and keys <= _KEPT_TOKENS
        kept = q.new_empty(n, heads, length, keys) if keep else None
        buffer = q.new_empty(length, keys)
        y = q.new_empty(n, length, heads, dim)  # in the order in which the heads are then joined
        for line in range(n):
            for head in range(heads):
                shares = buffer if kept is None else kept[line, head]
                _shares(q[line, head], k[line, head], _of_line(added, line), shares)
                y[line, :, head] = shares @ v[line, head]
        ctx.save_for_backward(q, k, v, added, kept)
        return y.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, added, kept = ctx.saved_tensors
        n, heads, length, dim = q.shape
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        shares = q.new_empty(length, k.shape[2])
        for line in range(n):
            for head in range(heads):
                here = (line, head)
                if kept is None:
                    _shares(q[here], k[here], _of_line(added, line), shares)
                else:
                    shares = kept[here]
                wanted = grad[here].contiguous()  # (L, d)
                of_scores = torch.ops.aten._softmax_backward_data(wanted @ v[here].t(), shares, -1, q.dtype)  # (L, L')
                torch.mm(of_scores, k[here], out=grad_q[here])
                torch.mm(of_scores.t(), q[here], out=grad_k[here])
                torch.mm(shares.t(), wanted, out=grad_v[here])
        return grad_q.mul_(dim**-0.5), grad_k, grad_v, None


def _shares(q: Tensor, k: Tensor, added: Tensor | None, out: Tensor) -> None:
    """Write into `out` (L, L') by how much each key counts for `q` (L, d), scaled, and `k` (L', d)."""
    scores = q @ k.t()
    torch.softmax(scores if added is None else scores.add_(added), -1, out=out)


def _of_line(added: Tensor | None, line: int) -> Tensor | None:
    return None if added is None else added[min(line, len(added) - 1), 0]  # (1 or L, L')
