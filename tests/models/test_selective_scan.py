import sys
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.models.kernels import selective_scan as module
from nordocr_cli.models.kernels.selective_scan import (
    CHUNK,
    MAX_CHUNKED_LENGTH,
    STRETCH,
    associative,
    chunked_scan,
    mamba_ssm_kernel,
    selective_scan,
)
from nordocr_cli.settings import MambaModel


def reference(x, delta, a, b, c):
    """The recurrence as it is written down, step by step, differentiated by autograd."""
    state, outputs = x.new_zeros(x.shape[0], *a.shape), []
    for t in range(x.shape[1]):
        step = delta[:, t, :, None]  # (N, D, 1)
        state = (step * a).exp() * state + step * x[:, t, :, None] * b[:, t, None]
        outputs.append((state * c[:, t, None]).sum(-1))
    return torch.stack(outputs, 1)


def arguments(lines, length, channels=6, states=4, dtype=torch.float64):
    """x, delta, A, B, C as a trained block has them: decays from nearly 1 to nearly 0."""
    generator = torch.Generator().manual_seed(length)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    delta = (draw(lines, length, channels) * 2 - 3).exp()
    a = -torch.arange(1, states + 1, dtype=dtype).repeat(channels, 1)
    return [
        draw(lines, length, channels),
        delta,
        a,
        draw(lines, length, states),
        draw(lines, length, states),
    ]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    length=st.one_of(st.integers(1, 3 * CHUNK), st.sampled_from([80, 256, 449])),
    lines=st.integers(1, 3),
)
def test_both_forms_are_the_recurrence(length, lines):
    values = arguments(lines, length)
    expected = reference(*values)
    for form in (selective_scan, chunked_scan):
        torch.testing.assert_close(form(*values), expected, rtol=0, atol=1e-12)
        single = form(*(value.float() for value in values))
        assert single.dtype == torch.float32
        assert (single - expected).abs().max() < 1e-5 * max(1, expected.abs().max())


@pytest.mark.parametrize("length", [1, 2, STRETCH, STRETCH + 1, 2 * STRETCH, 40])
@pytest.mark.parametrize("form", [selective_scan, chunked_scan])
def test_gradients_are_those_of_the_recurrence(form, length):
    values = [value.requires_grad_() for value in arguments(2, length)]
    expected = torch.autograd.grad(reference(*values).cos().sum(), values)
    found = torch.autograd.grad(form(*values).cos().sum(), values)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_gradcheck():
    assert torch.autograd.gradcheck(
        selective_scan, [value.requires_grad_() for value in arguments(2, 5, 3, 2)]
    )


def test_training_keeps_one_state_in_sixteen():
    """Those of every step would be most of the memory of a training step."""
    lines, length, channels, states = 2, 40, 24, 16
    scan = selective_scan(
        *(value.requires_grad_() for value in arguments(lines, length, channels, states))
    ).grad_fn
    kept = [value.shape for node, _ in scan.next_functions for value in node.saved_tensors]
    # before the steps 0, 16 and 32
    assert max(kept, key=torch.Size.numel) == (3, lines, channels, states)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_computes_in_float32_whatever_it_is_given(dtype):
    """Under mixed precision too."""
    values = [value.to(dtype) for value in arguments(2, 30, dtype=torch.float32)]
    with torch.autocast("cpu", torch.bfloat16):
        y = selective_scan(*(value.requires_grad_() for value in values))
    y.sum().backward()
    assert y.dtype == torch.float32
    assert torch.equal(y, selective_scan(*(value.detach().float() for value in values)))
    assert all(
        value.grad.dtype == dtype and value.grad.isfinite().all() for value in values
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_a_trace_takes_any_length():
    """What is exported must not remember the length, nor have a loop or nodes for each step."""
    traces = [
        torch.jit.trace(lambda *v: selective_scan(*v), arguments(2, n), check_trace=False)
        for n in (20, 200)
    ]
    for length in (1, 16, 33, 256):
        values = arguments(1, length)
        torch.testing.assert_close(
            traces[0](*values), reference(*values), rtol=0, atol=1e-12
        )
    kinds = [[node.kind() for node in trace.graph.nodes()] for trace in traces]
    assert kinds[0] == kinds[1]
    assert not {"prim::Loop", "prim::PythonOp"} & set(kinds[0])


def test_the_chunked_form_takes_its_longest_and_refuses_longer_ones():
    values = arguments(1, MAX_CHUNKED_LENGTH, channels=1, states=1)
    torch.testing.assert_close(
        chunked_scan(*values), selective_scan(*values), rtol=0, atol=1e-12
    )
    with pytest.raises(ValueError, match="at most 4096 steps, not 4097"):
        chunked_scan(*arguments(1, MAX_CHUNKED_LENGTH + 1, channels=1, states=1))
    assert MambaModel.max_export_width_px == 4 * MAX_CHUNKED_LENGTH


@pytest.mark.parametrize("length", [1, 2, 17, 40])
def test_the_scan_of_a_gpu_is_the_recurrence(length, monkeypatch):
    """Its arithmetic, forwards and backwards, on a CPU and not compiled: on a GPU it has not
    run.
    """
    values = [value.requires_grad_() for value in arguments(2, length)]
    expected = torch.autograd.grad(reference(*values).cos().sum(), values)
    monkeypatch.setattr(module, "_steps", lambda _: False)
    monkeypatch.setattr(module, "_on_gpu", lambda: associative)
    y = selective_scan(*values)
    torch.testing.assert_close(y, reference(*values), rtol=0, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(y.cos().sum(), values), expected, strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def fake_mamba_ssm(monkeypatch, **names):
    """A package of that name, as far as it is asked for."""
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    interface = ModuleType("mamba_ssm.ops.selective_scan_interface")
    vars(interface).update(names)
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    mamba_ssm_kernel.cache_clear()


@pytest.fixture
def forget_kernel():
    yield
    mamba_ssm_kernel.cache_clear()


def test_a_faked_mamba_ssm_is_called_as_its_interface_is_recorded(
    monkeypatch, forget_kernel
):
    """selective_scan_fn(u, delta, A, B, C): u and delta (N, D, L), A (D, S), B and C (N, S, L),
    result (N, D, L).
    """

    def recorded(u, delta, a, b, c):
        assert all(
            tensor.is_contiguous() and tensor.dtype == torch.float32
            for tensor in (u, delta, a, b, c)
        )
        return reference(u.mT, delta.mT, a, b.mT, c.mT).mT

    fake_mamba_ssm(monkeypatch, selective_scan_fn=recorded, selective_scan_cuda=object())
    monkeypatch.setattr(module, "_steps", lambda _: False)
    values = arguments(2, 9, dtype=torch.float32)
    torch.testing.assert_close(selective_scan(*values), reference(*values))


def test_mamba_ssm_that_is_not_installed_is_no_news(monkeypatch, forget_kernel, recwarn):
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    mamba_ssm_kernel.cache_clear()
    assert mamba_ssm_kernel() is None
    assert not recwarn


def test_a_faked_mamba_ssm_without_its_kernel_is_a_warning(monkeypatch, forget_kernel):
    fake_mamba_ssm(monkeypatch, selective_scan_fn=None, selective_scan_cuda=None)
    with pytest.warns(
        UserWarning,
        match="mamba-ssm is installed but.*without selective_scan_cuda.*associative scan",
    ):
        assert mamba_ssm_kernel() is None
