"""SVTRv2 must be the authors' network: its size and its keys here, its numbers in
test_recorded.py.
"""

from pathlib import Path

import pytest
import torch

from nordocr_cli.geometry import out_length
from nordocr_cli.models.registry import build_model
from nordocr_cli.settings import SvtrV2Model

GOLDEN = Path(__file__).parents[1] / "golden"
PARAMETERS = {"tiny": 5_136_222, "small": 11_263_182, "base": 19_767_486}


def build(size, num_classes=126):
    return build_model(SvtrV2Model(name="svtrv2", size=size), num_classes)


@pytest.mark.parametrize("size", PARAMETERS)
def test_number_of_parameters(size):
    assert sum(p.numel() for p in build(size).parameters()) == PARAMETERS[size]


def test_keys_and_shapes_are_the_authors():
    rows = (
        line.split("\t")
        for line in (GOLDEN / "svtrv2-base-keys.txt").read_text().splitlines()
    )
    expected = {key: (shape, dtype) for key, shape, dtype in rows}
    state = build("base").state_dict()
    assert {
        k: (str(tuple(t.shape)), str(t.dtype).removeprefix("torch."))
        for k, t in state.items()
    } == expected


def test_frames_at_any_width_and_classes(image):
    network = build("tiny", 63).eval()
    with torch.no_grad():
        for width in (1, 2, 3, 4, 5, 7, 127, 128, 129, 1022):
            assert network(image(width)).shape == (1, out_length(width), 63)


def test_logits_in_training_and_evaluation_alike(filled, image):
    """The authors' head gives probabilities in evaluation, which a consumer that applies softmax
    then ruins.
    """
    network = filled(build("tiny"))
    network.encoder.eval()  # BatchNorm and drop path do differ
    with torch.no_grad():
        trained, evaluated = (
            network.train(False)(image(64)),
            network.decoder.train()(*network.encoder(image(64), None)),
        )
    assert torch.equal(trained, evaluated)
    assert trained.min() < 0
