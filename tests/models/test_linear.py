import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nordocr_cli.models.kernels import linear as module
from nordocr_cli.models.kernels.linear import Linear, linear_gelu, on_onednn

needs_onednn = pytest.mark.skipif(
    not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()),
    reason="torch without MKL or oneDNN",
)


@needs_onednn
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(24,), (1, 24), (2, 5, 24), (2, 3, 4, 24)])
def test_onednn_gives_torchs_numbers_and_gradients(shape, bias):
    torch.manual_seed(3)
    layer, x = Linear(24, 40, bias=bias), torch.randn(shape)
    if len(shape) > 1:
        x = x.transpose(0, -2)  # not contiguous
    x.requires_grad_()
    assert on_onednn(x, layer.weight)
    parameters = [x, *layer.parameters()]
    ours, theirs = layer(x), F.linear(x, layer.weight, layer.bias)
    assert "OneDnn" in ours.grad_fn.name()
    assert torch.allclose(ours, theirs, atol=1e-6)
    # the second has no strides
    for grad in (torch.randn(ours.shape), torch.ones(()).expand(ours.shape)):
        pairs = zip(
            *(
                torch.autograd.grad(y, parameters, grad, retain_graph=True)
                for y in (ours, theirs)
            ),
            strict=True,
        )
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)
    with torch.no_grad():
        assert torch.allclose(
            linear_gelu(x, layer.weight, layer.bias), F.gelu(theirs), atol=1e-6
        )


@pytest.mark.parametrize("bias", [False, True])
def test_gelu_in_bfloat16(bias):
    """Under mixed precision and where all is bfloat16, within its rounding; with a gradient torch's
    own operators.
    """
    torch.manual_seed(3)
    layer, x = Linear(24, 40, bias=bias), torch.randn(2, 5, 24)
    with torch.no_grad():
        expected = F.gelu(F.linear(x, layer.weight, layer.bias))
        with torch.autocast("cpu", torch.bfloat16):
            mixed = [
                linear_gelu(value, layer.weight, layer.bias) for value in (x, x.bfloat16())
            ]
    with torch.autocast("cpu", torch.bfloat16):
        mixed.append(linear_gelu(x, layer.weight, layer.bias))
    assert mixed[2].requires_grad
    layer = layer.bfloat16()
    with torch.no_grad():
        mixed.append(linear_gelu(x.bfloat16(), layer.weight, layer.bias))
    for found in mixed:
        assert found.dtype == torch.bfloat16
        assert torch.allclose(found.float(), expected, rtol=2**-6, atol=0.02)


def test_its_gradient_has_a_gradient():
    torch.manual_seed(3)
    layer, x = Linear(6, 4), torch.randn(3, 6, requires_grad=True)
    parameters = [x, layer.weight]
    twice = []
    for y in (layer(x), F.linear(x, layer.weight, layer.bias)):
        first = torch.autograd.grad(y.pow(2).sum(), parameters, create_graph=True)
        twice.append(torch.autograd.grad(sum(g.pow(2).sum() for g in first), parameters))
    assert all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(*twice, strict=True)
    )


def test_a_frozen_layer_passes_the_gradient_on():
    layer, x = Linear(8, 8).requires_grad_(False), torch.randn(2, 8, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert torch.allclose(x.grad, layer.weight.sum(0).expand(2, 8), atol=1e-6)


def test_where_torch_multiplies_itself():
    """Mixed precision, other formats, empty batches, and graphs that are written to a file."""
    layer, x = Linear(8, 8), torch.randn(2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer(torch.empty(0, 3, 8)).shape == (0, 3, 8)
    assert layer.double()(x.double()).dtype == torch.float64
    with pytest.raises(RuntimeError, match="dtype"):  # as torch says it
        layer(x)
    assert "aten::linear" in str(torch.jit.trace(Linear(8, 8), x).graph)


@needs_onednn
def test_a_torch_without_the_operator_is_named(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    with pytest.warns(UserWarning, match=r"no oneDNN.*_linear_pointwise"):
        monkeypatch.setattr(module, "_HAS_ONEDNN", module._has_onednn())
    layer, x = Linear(8, 8), torch.randn(2, 8)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


@needs_onednn
def test_its_operations_are_counted():
    counted = []
    for layer in (Linear(8, 16), nn.Linear(8, 16)):
        with FlopCounterMode(display=False) as counter:
            layer(torch.randn(3, 8, requires_grad=True)).sum().backward()
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] == 3 * 2 * 3 * 8 * 16
