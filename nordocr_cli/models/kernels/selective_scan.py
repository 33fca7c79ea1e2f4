"""The selective scan of Mamba, in forms that compute the same in float32.

For each channel d and state s, with a state that starts at zero:

    state[t] = exp(delta[t] A) state[t-1] + delta[t] x[t] B[t]        y[t] = sum over s of C[t]
        state[t]

- On a CPU training and inference run it step by step: that beats every "parallel" form several
    times over, as all of them move
  more memory. Training keeps the state before every 16th step and computes the others again, a
      stretch at a time in the cache.
- On a GPU the kernel of `mamba-ssm` runs where that package is installed, else torch's associative
    scan, compiled. It has not run
  on a GPU yet; its arithmetic is tested on a CPU.
- An exported graph must not hold a loop, nor one node a step: there it runs in chunks of 16 steps
    whose carries are combined in
  eight doublings.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

STRETCH = (
    16  # steps between the states that training on a CPU keeps: of 8 to 32 none was faster
)
CHUNK = 16  # steps that the chunked form runs one after the other
_DOUBLINGS = (
    8  # of the carries: the chunked form takes sequences of up to 16 * 2 ** 8 steps
)
MAX_CHUNKED_LENGTH = CHUNK * 2**_DOUBLINGS


def selective_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return y (N, L, D) for `x` and `delta` (N, L, D), `a` (D, S), `b` and `c` (N, L, S).

    float64 stays float64, everything else is computed and returned in float32, under autocast too:
    the product of many decays near 1 does not survive fewer bits.
    """
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    with torch.autocast(x.device.type, enabled=False):
        x, delta, a, b, c = (tensor.to(kind) for tensor in (x, delta, a, b, c))
        if torch._C._get_tracing_state() is not None:
            return chunked_scan(x, delta, a, b, c)
        if _steps(x):
            return step_by_step_scan(x, delta, a, b, c)

        kernel = mamba_ssm_kernel() if kind == torch.float32 else None
        if kernel is not None:
            # It has the channels before the steps: (N, D, L), (N, S, L).
            x, delta, b, c = (tensor.mT.contiguous() for tensor in (x, delta, b, c))
            return kernel(x, delta, a, b, c).mT
        return all_at_once_scan(x, delta, a, b, c)


def step_by_step_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The scan as a loop over the steps; arguments and result as in `selective_scan`."""
    y: Tensor = _StepByStep.apply(*_steps_first(x, delta), a, *_steps_first(b, c))
    return y.transpose(0, 1)


def all_at_once_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The scan by torch's associative scan; arguments and result as in `selective_scan`."""
    y: Tensor = _Associative.apply(*_steps_first(x, delta), a, *_steps_first(b, c))
    return y.transpose(0, 1)


def _steps_first(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Turn (N, L, …) into (L, N, …)."""
    return tuple(tensor.transpose(0, 1).contiguous() for tensor in tensors)


@cache
def mamba_ssm_kernel() -> Callable[..., Tensor] | None:
    """Return the scan of the `mamba-ssm` package, for float32 on a GPU; None where it is not
    installed.

    Where it is but cannot be used - newer releases build this kernel only when asked to - there is
    a warning, once.
    """
    try:
        from mamba_ssm.ops.selective_scan_interface import (
            selective_scan_cuda,
            selective_scan_fn,
        )
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mamba_ssm"):
            return None
        broken = str(error)
    except ImportError as error:
        broken = str(error)
    else:
        kernel: Callable[..., Tensor] = selective_scan_fn
        if selective_scan_cuda is not None:
            return kernel
        broken = "it was built without selective_scan_cuda"
    warnings.warn(
        f"mamba-ssm is installed but cannot be used ({broken}): torch's associative scan runs"
        " instead",
        stacklevel=2,
    )
    return None


class _StepByStep(torch.autograd.Function):
    """The scan over tensors (L, N, …), a stretch of K = 16 steps (the last may be shorter) after
    the other.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor
    ) -> Tensor:
        parts = _stretches(x)
        # the state that each stretch begins with
        before = x.new_empty(len(parts), x.shape[1], *a.shape)
        y = torch.empty_like(x)
        room = _room(x, before)
        state = torch.zeros_like(before[0])
        for index, part in enumerate(parts):
            before[index] = state
            # (K, N, D, S): the decays first, the states afterwards
            states = _decays(delta[part], a, room)
            _run(states, states, before[index], delta[part] * x[part], b[part])
            state = states[-1]
            y[part] = (states @ c[part, :, :, None])[..., 0]
        ctx.save_for_backward(x, delta, a, b, c, before)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        x, delta, a, b, c, before = ctx.saved_tensors
        grad_x, grad_delta, grad_b, grad_c = (
            torch.empty_like(value) for value in (x, delta, b, c)
        )
        grad_a = torch.zeros_like(a)
        rooms = [_room(x, before) for _ in range(3)]
        # what the steps behind a stretch make of the gradient of its last state
        onward = torch.zeros_like(before[0])
        for index, part in reversed(list(enumerate(_stretches(x)))):
            drive = delta[part] * x[part]
            outer = grad_y[part][..., None]
            outputs = c[part, :, None]
            decays = _decays(delta[part], a, rooms[0])  # (K, N, D, S), as are the next two
            states, grads = (room[: len(decays)] for room in rooms[1:])
            _run(states, decays, before[index], drive, b[part])
            for t in range(len(grads) - 1, -1, -1):
                torch.addcmul(onward, outer[t], outputs[t], out=grads[t])
                torch.mul(decays[t], grads[t], out=onward)
            grad_c[part] = (outer.mT @ states)[:, :, 0]
            grad_drive = (grads @ b[part, :, :, None])[..., 0]  # (K, N, D)
            grad_b[part] = (drive[:, :, None] @ grads)[:, :, 0]
            # of the exponents delta A, in place of the decays: times the state before
            exponents = decays.mul_(grads)
            exponents[1:].mul_(states[:-1])
            exponents[0].mul_(before[index])
            torch.mul(grad_drive, delta[part], out=grad_x[part])
            grad_delta[part] = (
                torch.mul(exponents, a, out=grads).sum(-1) + grad_drive * x[part]
            )
            grad_a += exponents.mul_(delta[part][..., None]).sum((0, 1))
        return grad_x, grad_delta, grad_a, grad_b, grad_c


def _stretches(x: Tensor) -> list[slice]:
    return [slice(begin, begin + STRETCH) for begin in range(0, len(x), STRETCH)]


def _room(x: Tensor, before: Tensor) -> Tensor:
    """Memory for the states of a stretch, (K, N, D, S)."""
    return x.new_empty(min(len(x), STRETCH), *before.shape[1:])


def _run(states: Tensor, decays: Tensor, before: Tensor, drive: Tensor, b: Tensor) -> None:
    """Write `states` (K, N, D, S) of a stretch, which may lie where its `decays` do; it begins with
    `before` (N, D, S).
    """
    for t in range(len(decays)):
        torch.mul(decays[t], before, out=states[t]).addcmul_(
            drive[t][..., None], b[t, :, None]
        )
        before = states[t]


class _Associative(torch.autograd.Function):
    """The scan over tensors (L, N, …), all steps at once; one tensor holds the decays first and the
    states afterwards.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor
    ) -> Tensor:
        # (L, N, D, S)
        states = _on_gpu()(_decays(delta, a), (delta * x)[..., None] * b[:, :, None])
        ctx.save_for_backward(x, delta, a, b, c, states)
        return (states @ c[..., None])[..., 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        x, delta, a, b, c, states = ctx.saved_tensors
        grad_c = (grad_y[:, :, None] @ states)[:, :, 0]  # (L, N, S)
        decays = _decays(delta, a)
        # The same scan from the last step to the first, each with the decay of the step behind it.
        grads = _on_gpu()(
            decays.roll(-1, 0).flip(0), (grad_y[..., None] * c[:, :, None]).flip(0)
        ).flip(0)
        grad_drive = (grads @ b[..., None])[..., 0]  # (L, N, D)
        grad_b = ((delta * x)[:, :, None] @ grads)[:, :, 0]  # (L, N, S)
        # of the exponents delta A, in place of the decays: times the state before
        exponents = decays.mul_(grads)
        exponents[1:].mul_(states[:-1])
        exponents[0].zero_()
        grad_delta = torch.mul(exponents, a, out=grads).sum(-1) + grad_drive * x
        grad_a = exponents.mul_(delta[..., None]).sum((0, 1))
        return grad_drive * delta, grad_delta, grad_a, grad_b, grad_c


def associative(decays: Tensor, inputs: Tensor) -> Tensor:
    """Return every state (L, N, D, S) of state[t] = decays[t] state[t-1] + inputs[t], by torch's
    associative scan.

    decays[0] counts for nothing: the first state is the first input.
    """
    from torch._higher_order_ops.associative_scan import associative_scan

    mode = "pointwise" if decays.is_cuda else "generic"
    states: Tensor = associative_scan(
        _one_after_the_other, (decays, inputs), dim=0, combine_mode=mode
    )[1]
    return states


def _one_after_the_other(
    first: tuple[Tensor, Tensor], then: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Two stretches of steps as one: by what a state before them is multiplied, and what they
    add.
    """
    return first[0] * then[0], first[1] * then[0] + then[1]


def _steps(x: Tensor) -> bool:
    """Whether a loop over the steps is the fastest form for a tensor where it lies."""
    return x.device.type != "cuda"


@cache
def _on_gpu() -> Callable[[Tensor, Tensor], Tensor]:
    return torch.compile(associative, dynamic=True)


def _decays(delta: Tensor, a: Tensor, room: Tensor | None = None) -> Tensor:
    """Return exp(delta A), (K, …, D, S) for `delta` (K, …, D), in the first K of `room` where that
    is given.
    """
    return torch.mul(
        delta[..., None], a, out=None if room is None else room[: len(delta)]
    ).exp_()


def chunked_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The scan in plain operations whose number does not depend on the length, which is at most
    MAX_CHUNKED_LENGTH.

    Arguments and result as in `selective_scan`. Raises ValueError for a longer one, except while a
    graph is traced.
    """
    length = x.shape[1]
    # a graph's length is not known; export checks it
    if torch._C._get_tracing_state() is None and length > MAX_CHUNKED_LENGTH:
        raise ValueError(
            f"the chunked scan takes at most {MAX_CHUNKED_LENGTH} steps, not {length}"
        )
    fill = (CHUNK - length % CHUNK) % CHUNK  # steps of delta 0: they change no state
    delta, drive, b, c = (
        F.pad(tensor, (0, 0, 0, fill)).unflatten(1, (-1, CHUNK))
        for tensor in (delta, delta * x, b, c)
    )  # (N, chunks, 16, D or S)
    decays = _decays(delta, a).unbind(2)  # 16 times (N, chunks, D, S)
    inputs = (drive[..., None] * b[..., None, :]).unbind(2)
    # from the beginning of the chunk
    products = [decays[0]]
    states = [inputs[0]]
    for decay, added in zip(decays[1:], inputs[1:], strict=True):
        products.append(products[-1] * decay)
        states.append(states[-1] * decay + added)
    # (N, chunks, D, S): over 1 chunk, then over 2, 4, 8 … chunks up to here
    product = products[-1]
    carry = states[-1]
    for doubling in range(_DOUBLINGS):
        carry = carry + product * _shifted(carry, 2**doubling, 0.0)
        product = product * _shifted(product, 2**doubling, 1.0)
    before = _shifted(carry, 1, 0.0)  # the state that each chunk begins with
    # (N, chunks, 16, D, S)
    state = torch.stack(states, dim=2) + torch.stack(products, dim=2) * before[:, :, None]
    return (state @ c[..., None])[..., 0].flatten(1, 2)[:, :length]


def _shifted(x: Tensor, chunks: int, fill: float) -> Tensor:
    """Move (N, chunks, D, S) on by a number of chunks."""
    return F.pad(x, (0, 0, 0, 0, chunks, 0), value=fill)[:, :-chunks]
