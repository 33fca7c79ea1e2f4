import pytest
import torch

from nordocr_cli.models.layers import DropPath, drop_rates


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
