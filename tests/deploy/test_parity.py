from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import NORDIC
from nordocr_cli.deploy.bf16 import fp32_twin
from nordocr_cli.deploy.onnx_export import in_torch, reference, to_onnx
from nordocr_cli.deploy.parity import (
    ParityPoint,
    check_parity,
    make_cases,
    open_file,
    shapes_to_try,
)
from nordocr_cli.errors import ArtifactError
from nordocr_cli.geometry import Geometry

CONTRACT = Contract(NORDIC, Geometry(max_width=320), {"name": "test"})


class Columns(nn.Module):
    """A network with the right output shape: each frame sees its own four columns. `frozen`
    reshapes to the traced width.
    """

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
    return check_parity(
        open_file(path, contract, "model.onnx"), cases, contract, name="model.onnx"
    )


def test_equal_networks(tmp_path):
    parity = compare(tmp_path, Columns(), Columns())
    assert parity.worst.max_diff < 1e-4
    assert parity.agreement == 1
    assert [str(p) for p in parity.points if p.content != "noise"] == [
        "1x32 px (white)",
        "1x32 px (black)",
        "1x320 px (white)",
        "1x320 px (black)",
    ]
    noise = [p for p in parity.points if p.content == "noise"]
    assert [(p.batch, p.width) for p in noise] == [(1, 32), (2, 320)]
    assert 100 < sum(p.decided for p in noise) <= 168


def test_a_small_difference_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"differs by 0\.0005 at \dx\d+ px"):
        compare(tmp_path, Columns(bias=5e-4), Columns())


def test_a_frozen_width_is_refused(tmp_path):
    """The trace keeps 64 frames of a 256 px example: shorter lines pass, longer ones are cut."""
    compare(tmp_path, Columns(frozen=True), Columns(), shapes=((1, 32), (1, 128)))
    with pytest.raises(
        ArtifactError, match=r"at 1x320 px the file gives \(1, 64, 126\).*frozen"
    ):
        compare(tmp_path, Columns(frozen=True), Columns(), shapes=((1, 32), (1, 320)))


def test_fp16_overflow_is_refused(tmp_path):
    network = Columns()
    with torch.no_grad():
        network.classify.weight *= 6e5
        network.classify.weight.clamp_(-6e4, 6e4)
    with pytest.raises(ArtifactError, match="overflows in fp16"):
        compare(
            tmp_path,
            network,
            network,
            Contract(NORDIC, Geometry(max_width=320), {}, precision="fp16"),
        )


def test_fp16_must_agree_on_the_best_class(tmp_path):
    class Coarse(Columns):
        """Two classes are far ahead of the others and 0.4 apart, the difference of numbers that
        fp16 stores to 1.0.
        """

        def __init__(self):
            super().__init__()
            self.up = nn.Parameter(torch.full((126,), 1500.0))
            self.up.data[1:3] = torch.tensor([1550.0, 1550.4])
            self.down = nn.Parameter(torch.tensor(-1500.0))

        def forward(self, images, widths):
            return super().forward(images, widths) * 0.01 + self.up + self.down

    network = Coarse()
    with pytest.raises(ArtifactError, match="best class differs in"):
        compare(
            tmp_path,
            network,
            network,
            Contract(NORDIC, Geometry(max_width=320), {}, precision="fp16"),
        )


def test_worst_is_relative_to_what_was_allowed():
    from nordocr_cli.deploy.parity import Parity

    parity = Parity(
        (ParityPoint(1, 32, 8, 0.1, 1.0, 1.0), ParityPoint(2, 64, 16, 0.01, 0.5, 0.02))
    )
    assert str(parity.worst) == "2x64 px"
    assert np.isclose(parity.agreement, 16 / 24)


def test_every_width_at_every_batch_size_while_there_is_time(heard):
    shapes = shapes_to_try(1792)
    assert {*shapes} == {
        (batch, width) for batch in (1, 2, 5) for width in (32, 128, 320, 768, 1024, 1792)
    }
    assert shapes[-1] == (5, 1792)
    assert shapes_to_try(100) == ((1, 32), (2, 32), (5, 32), (1, 100), (2, 100), (5, 100))
    network = reference(Columns(), CONTRACT)
    assert len(make_cases(network, 32, shapes, progress=heard)) == len(shapes) + 4
    assert not heard.notes
    tried = make_cases(network, 32, shapes, budget_s=0, progress=heard)
    assert (
        len(tried) == 3 * 3 + 3 + 4
    )  # batches to 320 px, the wider widths alone, white and black
    assert "2x768, 2x1024, 2x1792, 5x768, 5x1024, 5x1792 px skipped" in heard.notes[0]


@pytest.mark.parametrize("activation", ["logits", "softmax", "argmax+confidence"])
@pytest.mark.parametrize(
    ("pixels", "floats"),
    [("float32", "float32"), ("uint8", "float32"), ("float16", "float16")],
)
def test_every_form_of_input_and_output(tmp_path, activation, pixels, floats):
    contract = replace(
        CONTRACT, output_activation=activation, input_type=pixels, output_type=floats
    )
    parity = compare(tmp_path, Columns(), Columns(), contract)
    assert parity.agreement >= 0.995
    wrong = Columns()
    with torch.no_grad():
        wrong.classify.weight.mul_(-1)
    with pytest.raises(ArtifactError, match="nothing was written"):
        compare(tmp_path, wrong, Columns(), contract)


def test_bf16_is_judged_by_its_twin_in_fp32(tmp_path):
    contract = replace(CONTRACT, precision="bf16")
    model = to_onnx(Columns(), contract, 17)
    assert [entry.version for entry in model.opset_import] == [22]
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="cannot load it"):
        open_file(tmp_path / "m.onnx", contract, "m.onnx")
    (tmp_path / "m.onnx").write_bytes(fp32_twin(model).SerializeToString())
    cases = make_cases(reference(Columns(), contract), 32, ((1, 32), (2, 320)))
    graph = check_parity(
        open_file(tmp_path / "m.onnx", contract, "m.onnx"), cases, contract, name="m.onnx"
    )
    arithmetic = check_parity(in_torch(Columns(), contract), cases, contract, name="m.onnx")
    assert 1e-4 < graph.worst.max_diff < arithmetic.worst.max_diff
