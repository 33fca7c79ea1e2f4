import torch
from torch import nn

from nordocr_cli.models.lora import LoraLinear, merge_lora


def test_begins_as_the_plain_layer():
    torch.manual_seed(0)
    layer, x = LoraLinear(6, 5, rank=2), torch.randn(3, 6)
    assert torch.allclose(
        layer(x), nn.functional.linear(x, layer.weight, layer.bias), atol=1e-6
    )
    assert {
        name: tuple(p.shape) for name, p in layer.named_parameters() if "lora" in name
    } == {
        "lora_a": (2, 6),
        "lora_b": (5, 2),
    }


def test_merged_computes_the_same_with_plain_layers():
    torch.manual_seed(0)
    network = nn.Sequential(
        LoraLinear(6, 5, 2), nn.ReLU(), nn.Sequential(LoraLinear(5, 4, 3, bias=False))
    )
    x = torch.randn(3, 6)
    begun = network(x)
    for layer in (network[0], network[2][0]):
        nn.init.normal_(layer.lora_b)
    before = network(x)
    assert (before - begun).abs().max() > 0.1
    merged = merge_lora(network)
    assert torch.allclose(merged(x), before, atol=1e-5)
    assert sorted(merged.state_dict()) == ["0.bias", "0.weight", "2.0.weight"]


def test_only_the_thin_matrices_learn_where_the_layer_is_frozen():
    layer = LoraLinear(6, 5, 2)
    layer.weight.requires_grad_(False)
    nn.init.normal_(layer.lora_b)
    layer(torch.randn(3, 6)).sum().backward()
    assert layer.weight.grad is None
    assert layer.lora_a.grad.any()
    assert layer.lora_b.grad.any()
