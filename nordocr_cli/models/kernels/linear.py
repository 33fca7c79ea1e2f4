"""Linear layers that run on oneDNN where that is the faster library: in float32 on an x86 CPU.

There torch multiplies float32 matrices with MKL, which leaves AMD's AVX-512 units idle: on a Zen 5
core 95 GFLOP/s, where oneDNN, which is in the same builds of torch, has 200. In other formats and
on other devices torch takes the fastest by itself.
"""

import warnings
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula


class Linear(nn.Linear):
    """torch's linear layer with the same weights and, but for the order of the sums, the same
    numbers.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in_features) to (…, out_features)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x weight^T + bias (…, out_features) for `x` (…, in_features)."""
    if not on_onednn(x, weight):
        return F.linear(x, weight, bias)
    y: Tensor = _OneDnnLinear.apply(x, weight, bias)
    return y


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return GELU of `linear`: in one pass over the memory where nothing has to be kept for a
    gradient, in bfloat16 too.
    """
    if not torch.is_grad_enabled():
        if on_onednn(x, weight):
            return _product(x, weight, bias, "gelu")
        if _in_bfloat16(x, weight):
            return _product(
                x.bfloat16(),
                weight.bfloat16(),
                None if bias is None else bias.bfloat16(),
                "gelu",
            )
    return F.gelu(linear(x, weight, bias))


def on_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is to multiply the two; a graph that is traced or compiled holds torch's own
    operator.
    """
    return (
        not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and _HAS_ONEDNN
    )


def _in_bfloat16(x: Tensor, weight: Tensor) -> bool:
    """Whether torch is about to multiply the two in bfloat16 on a CPU whose oneDNN does."""
    if torch.is_autocast_enabled("cpu"):
        if {x.dtype, weight.dtype} <= {torch.float32, torch.bfloat16}:
            kinds = {torch.get_autocast_dtype("cpu")}
        else:
            kinds = set()
    else:
        kinds = {x.dtype, weight.dtype}
    return (
        kinds == {torch.bfloat16}
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and x.device.type == weight.device.type == "cpu"
        and x.numel() > 0
        and _HAS_ONEDNN
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


class _OneDnnLinear(torch.autograd.Function):
    """x weight^T + bias. Its gradients are such products too, so they can be differentiated
    again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])  # (M, out_features)

        grad_x = grad_weight = grad_bias = None
        if wants_x:
            grad_x = _OneDnnLinear.apply(grad, weight.t(), None)
        if wants_weight:
            inputs = x.reshape(-1, x.shape[-1])  # (M, in_features)
            grad_weight = _OneDnnLinear.apply(rows.t(), inputs.t(), None)
        if wants_bias:
            grad_bias = rows.sum(0)
        return grad_x, grad_weight, grad_bias


def _product(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none"
) -> Tensor:
    """Return x weight^T + bias (…, out_features), through an activation, for `x` (…,
    in_features).
    """
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")
    return y


def _flops(x_shape: torch.Size, weight_shape: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * prod(x_shape) * weight_shape[0]


def _has_onednn() -> bool:
    """Whether torch would use MKL and has oneDNN's product too. It is none of torch's public
    operators, so it is tried.
    """
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    try:
        # Whatever device a network is just being built on.
        one = torch.ones(1, 2, device="cpu")
        return _product(one, one).item() == 2
    except (AttributeError, RuntimeError, TypeError) as error:
        warnings.warn(
            f"torch {torch.__version__} multiplies on the CPU with MKL, slow on AMD: no oneDNN"
            f" ({error})",
            stacklevel=2,
        )
        return False


# Tried when the module is loaded: once, and outside of anything that watches a forward pass.
_HAS_ONEDNN = _has_onednn()
if _HAS_ONEDNN:  # torch's counter of operations does not know oneDNN's
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_flops)
