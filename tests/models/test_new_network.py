"""A new CTC network is one file, its settings table and its profile: nothing else changes."""

import sys

import pytest

from nordocr_cli.core.eval.run import evaluate
from nordocr_cli.core.export.plan import ExportOptions, plan_export
from nordocr_cli.core.export.run import export
from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.core.train.run import train
from nordocr_cli.profile import load_profile
from nordocr_cli.settings import MODEL_KINDS

TABLE = '''
from typing import ClassVar, Literal

from nordocr_cli.settings import ModelTable


class ToyModel(ModelTable):
    """Two convolutions."""

    network: ClassVar[str] = "toy_network:Toy"

    name: Literal["toy"]
    channels: int = 16
'''
NETWORK = """
from torch import nn

from nordocr_cli.models.base import CtcNetwork


class Toy(CtcNetwork):
    def __init__(self, options, num_classes):
        super().__init__(options)
        self.stem = nn.Conv2d(3, options.channels, 3, stride=2, padding=1)
        self.mix = nn.Conv2d(options.channels, options.channels, 3, stride=2, padding=1)
        self.classifier = nn.Linear(options.channels, num_classes)

    def forward(self, images, widths=None):
        x = self.mix(self.stem(images).relu()).relu()  # (N, C, 8, T)
        return self.classifier(x.mean(dim=2).transpose(1, 2))  # (N, T, classes)
"""
PROFILE = """
description = "A toy network."

[model]
name = "toy"
channels = 24

[geometry]
max_width = 160

[train]
precision = "fp32"
batch_size = 4
lr = 1e-3
mask_share = 0.0
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The profile of a network whose files lie in a folder of their own."""
    (tmp_path / "toy_settings.py").write_text(TABLE, encoding="utf-8")
    (tmp_path / "toy_network.py").write_text(NETWORK, encoding="utf-8")
    (tmp_path / "toy.toml").write_text(PROFILE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("toy_settings")
    yield load_profile(str(tmp_path / "toy.toml"))
    MODEL_KINDS.pop("toy", None)
    for name in ("toy_settings", "toy_network"):
        sys.modules.pop(name, None)


def test_a_toy_network_trains_exports_and_is_evaluated(toy, tiny_run, tmp_path):
    stores = (tiny_run.parent / "digits.lmdb",)
    request = TrainRequest(
        stores, stores, tmp_path / "run", max_steps=2, threads=1, device="cpu"
    )
    run = train(toy, request)
    assert run.steps == 2

    options = ExportOptions(precision="fp32", max_width=160)
    (exported,) = export(plan_export(run.run_dir, tmp_path / "toy.onnx", options)).files
    assert exported.parity.worst.max_diff < 1e-4

    for model in (run.run_dir, tmp_path / "toy.onnx"):
        report = evaluate(str(model), stores[0], device="cpu", threads=1)
        assert report.report.total.lines == 12


def test_an_unknown_option_of_a_new_network_is_named(toy, tmp_path):
    from nordocr_cli.errors import UsageError

    bad = tmp_path / "bad.toml"
    bad.write_text(PROFILE.replace("channels", "chanels"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"unknown key 'model\.chanels'.*channels"):
        load_profile(str(bad))
