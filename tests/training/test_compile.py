import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from nordocr_cli.models.base import CtcNetwork
from nordocr_cli.models.registry import build_model
from nordocr_cli.profile import load_profile
from nordocr_cli.settings import SvtrV2NanoModel
from nordocr_cli.training.batch_fit import noise
from nordocr_cli.training.step import Stepper


class Small(CtcNetwork):
    """A network that compiles in seconds."""

    def __init__(self):
        super().__init__(SvtrV2NanoModel(name="svtrv2-nano"))
        self.conv, self.head = nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.Linear(8, 126)

    def forward(self, images, widths):
        return self.head(self.conv(images).relu().mean(2).transpose(1, 2))  # (N, T, C)


def test_the_networks_are_one_graph_with_a_mask_and_one_without(monkeypatch):
    """Captured, not compiled, which would take minutes; no graph breaks, and no size is taken for
    the only one.
    """
    compiled = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda network, **_: compiled(network, backend="eager")
    )
    torch.compiler.reset()
    counters.clear()
    small = [
        "model.dims=[24, 24, 32]",
        "model.depths=[1, 1, 1]",
        "geometry.max_width=160",
        "train.compile=true",
    ]
    profile = load_profile("svtrv2-nano", small).profile
    network = build_model(profile.model, 126).train()
    made = Stepper(
        network, None, profile.geometry, profile.train, torch.device("cpu"), "fp32"
    )
    for lines, width, masked in (
        (3, 64, True),
        (2, 96, True),
        (4, 40, True),
        (3, 88, False),
        (2, 104, False),
    ):
        made.step(
            [replace(noise(lines, width, profile.geometry, 126), masked=masked)], 1e-3
        )
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


def losses(compiled):
    profile = load_profile(
        "svtrv2-nano", ["geometry.max_width=160", f"train.compile={compiled}"]
    ).profile
    torch.manual_seed(1)
    network = Small().to(memory_format=torch.channels_last)
    made, found = (
        Stepper(
            network, None, profile.geometry, profile.train, torch.device("cpu"), "fp32"
        ),
        [],
    )
    for lines, width in ((3, 64), (2, 96), (4, 40), (5, 80)):
        torch.manual_seed(width)
        found.append(made.step([noise(lines, width, profile.geometry, 126)], 1e-2).loss)
    return found


@pytest.mark.skipif(
    not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU"
)
def test_a_compiled_network_learns_the_same_and_is_compiled_once_for_all_sizes():
    torch.compiler.reset()
    counters.clear()
    plain = losses("false")
    assert losses("true") == pytest.approx(plain, rel=1e-4)
    assert counters["stats"]["unique_graphs"] == 1
    assert losses("'reduce-overhead'") == pytest.approx(
        plain, rel=1e-4
    )  # without a GPU the same
