import copy

import pytest
import torch
from torch import nn

from nordocr_cli.errors import UsageError
from nordocr_cli.training.freezing import freeze


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)  # 9
        self.norm = nn.BatchNorm2d(3)  # 6
        self.adapter = nn.Conv2d(3, 1, 1)  # 4

    def forward(self, x):
        return self.norm(self.conv(x)) + self.adapter(x)


@pytest.fixture
def network():
    return nn.Sequential(Block(), Block())


def test_only_what_a_pattern_matches_trains(network):
    table = freeze(network, ["adapter", "1"])
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {
        "0.adapter.weight",
        "0.adapter.bias",
        *(f"1.{n}" for n, _ in Block().named_parameters()),
    }
    assert [(r.pattern, r.tensors, r.parameters, r.shared) for r in table.rows] == [
        ("adapter", 4, 8, 0),
        ("1", 3, 15, 2),
    ]
    assert (table.parameters, table.frozen, table.norms) == (23, 15, 1)
    assert "23 parameters (60.5%); 15 are frozen, 1 BatchNorms" in table.lines()[-1]
    assert "2 more are counted above" in table.lines()[1]


def test_patterns_match_whole_parts(network):
    table = freeze(network, ["*.norm.weight", "0.conv"])
    assert [(row.tensors, row.parameters) for row in table.rows] == [(2, 6), (1, 9)]
    with pytest.raises(
        UsageError,
        match=r"'adapt', 'backbone\.7' matches no parameter.*0\.adapter, 0\.conv",
    ):
        freeze(network, ["adapt", "norm", "backbone.7"])


def test_frozen_norms_keep_their_statistics(network):
    """Also in a network that is put into training mode, or copied."""
    freeze(network, ["1"])
    for one in (network.train(), copy.deepcopy(network).train()):
        before = {name: buffer.clone() for name, buffer in one.named_buffers()}
        one(torch.randn(4, 3, 2, 2))
        moved = {
            name.split(".")[0]
            for name, buffer in one.named_buffers()
            if not torch.equal(buffer, before[name])
        }
        assert moved == {"1"}
    assert set(network.state_dict()) == set(nn.Sequential(Block(), Block()).state_dict())


def test_without_patterns_everything_trains(network):
    assert freeze(network, []) is None
    assert all(p.requires_grad for p in network.parameters())


def test_a_number_of_a_wrapped_resnet_means_its_layer():
    network = nn.ModuleDict(
        {"backbone": nn.ModuleDict({"layer3": Block(), "layer4": Block()})}
    )

    table = freeze(network, ["backbone.7"])

    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert all(name.startswith("backbone.layer4.") for name in trained)
    assert table.rows[0].parameters == 19
    assert "understood as backbone.layer4" in table.lines()[0]


def test_a_layer_named_both_ways_is_counted_once():
    network = nn.ModuleDict({"backbone": nn.ModuleDict({"layer4": Block()})})

    table = freeze(network, ["backbone.layer4", "backbone.7"])

    assert [(row.parameters, row.shared) for row in table.rows] == [(19, 0), (0, 5)]
