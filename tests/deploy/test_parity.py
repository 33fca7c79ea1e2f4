import numpy as np
import pytest
import torch
from torch import nn

from nordocr_cli.artifact import Contract
from nordocr_cli.charset import NORDIC
from nordocr_cli.deploy.onnx_export import reference, to_onnx
from nordocr_cli.deploy.parity import Point, check_parity, make_cases, shapes_to_try
from nordocr_cli.errors import ArtifactError
from nordocr_cli.geometry import Geometry

CONTRACT = Contract(NORDIC, Geometry(max_width=320), {"name": "test"})


class Columns(nn.Module):
    """A network with the right output shape: each frame sees its own four columns. `frozen` reshapes to the traced width."""

    def __init__(self, frozen=False, bias=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.classify = nn.Conv2d(3, 126, kernel_size=(32, 4), stride=4)
        with torch.no_grad():
            self.classify.bias += bias
        self.frozen = frozen

    def forward(self, images, widths):
        logits = self.classify(images).squeeze(2).transpose(1, 2)  # (N, T, C)
        return logits[:, : int(logits.shape[1])] if self.frozen else logits


def compare(tmp_path, exported, original, contract=CONTRACT, shapes=((1, 32), (2, 320))):
    path = tmp_path / "model.onnx"
    path.write_bytes(to_onnx(exported, contract, 17).SerializeToString())
    cases = make_cases(reference(original, contract), 32, shapes)
    return check_parity(path, cases, contract.geometry, contract.precision, name="model.onnx")


def test_equal_networks(tmp_path):
    parity = compare(tmp_path, Columns(), Columns())
    assert parity.worst.max_diff < 1e-4
    assert parity.agreement == 1
    assert [(p.batch, p.width) for p in parity.points] == [(1, 32), (2, 320)]
    assert 100 < sum(p.decided for p in parity.points) <= 168


def test_a_small_difference_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"differs by 0\.0005 at 2x320 px|differs by 0\.0005 at 1x32 px"):
        compare(tmp_path, Columns(bias=5e-4), Columns())


def test_a_frozen_width_is_refused(tmp_path):
    """The trace keeps 64 frames of a 256 px example: shorter lines pass, longer ones are cut."""
    compare(tmp_path, Columns(frozen=True), Columns(), shapes=((1, 32), (1, 128)))
    with pytest.raises(ArtifactError, match=r"at 1x320 px the file gives \(1, 64, 126\).*frozen"):
        compare(tmp_path, Columns(frozen=True), Columns(), shapes=((1, 32), (1, 320)))


def test_fp16_overflow_is_refused(tmp_path):
    network = Columns()
    with torch.no_grad():
        network.classify.weight *= 6e5
        network.classify.weight.clamp_(-6e4, 6e4)
    with pytest.raises(ArtifactError, match="overflows in fp16"):
        compare(tmp_path, network, network, Contract(NORDIC, Geometry(max_width=320), {}, precision="fp16"))


def test_fp16_must_agree_on_the_best_class(tmp_path):
    class Coarse(Columns):
        """Two classes are far ahead of the others and 0.4 apart, the difference of numbers that fp16 stores to 1.0."""

        def __init__(self):
            super().__init__()
            self.up = nn.Parameter(torch.full((126,), 1500.0))
            self.up.data[1:3] = torch.tensor([1550.0, 1550.4])
            self.down = nn.Parameter(torch.tensor(-1500.0))

        def forward(self, images, widths):
            return super().forward(images, widths) * 0.01 + self.up + self.down

    network = Coarse()
    with pytest.raises(ArtifactError, match="best class differs in"):
        compare(tmp_path, network, network, Contract(NORDIC, Geometry(max_width=320), {}, precision="fp16"))


def test_worst_is_relative_to_what_was_allowed():
    from nordocr_cli.deploy.parity import Parity

    parity = Parity((Point(1, 32, 8, 0.1, 1.0, 1.0), Point(2, 64, 16, 0.01, 0.5, 0.02)))
    assert str(parity.worst) == "2x64 px"
    assert np.isclose(parity.agreement, 16 / 24)


def test_shapes_reach_the_greatest_width_and_stay_affordable():
    shapes = shapes_to_try(1792)
    assert (5, 320) in shapes
    assert (1, 1792) in shapes
    assert (2, 1792) not in shapes
    assert shapes_to_try(100) == ((1, 32), (2, 32), (5, 32), (1, 100), (2, 100), (5, 100))
