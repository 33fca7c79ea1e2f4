import pytest
import torch

from nordocr_cli.models.layers import DropPath, attention, drop_rates


@pytest.mark.parametrize("masked", [False, True])
def test_written_out_attention_equals_the_fused_one(masked):
    """In bfloat16 training on CPU another path runs; it must mean the same, gradients included."""
    generator = torch.Generator().manual_seed(5)
    exact = [torch.randn(2, 3, 20, 32, generator=generator, requires_grad=True) for _ in range(3)]
    coarse = [t.detach().bfloat16().requires_grad_() for t in exact]
    keys = torch.arange(20) < torch.tensor([[20], [7]]) if masked else None
    keys = keys[:, None, None, :] if keys is not None else None
    fused, written = attention(*exact, keys), attention(*coarse, keys)
    assert written.dtype == torch.bfloat16
    assert torch.allclose(written.float(), fused, atol=0.03)
    fused.square().sum().backward()
    written.float().square().sum().backward()
    for a, b in zip(exact, coarse, strict=True):
        assert torch.allclose(b.grad.float(), a.grad, atol=0.1)


def test_drop_path_keeps_the_mean_and_drops_whole_lines():
    torch.manual_seed(2)
    layer, x = DropPath(0.25), torch.ones(4000, 2, 3)
    y = layer(x)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (y.flatten(1).min(1).values == y.flatten(1).max(1).values).all()
    assert y.mean() == pytest.approx(1, abs=0.05)
    assert layer.eval()(x) is x


def test_drop_rates_rise_to_the_last():
    assert list(drop_rates(0.1, 3)) == pytest.approx([0, 0.05, 0.1])
    assert list(drop_rates(0.1, 1)) == [0]
