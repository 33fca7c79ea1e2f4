"""Heads that move between charsets."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nordocr_cli.charset import ALPHANUMERIC, NORDIC, NORDIC_EXT, Charset
from nordocr_cli.data.resize import normalize_array, read_image, resize_line
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.errors import ArtifactError
from nordocr_cli.models.head_transfer import move_head
from nordocr_cli.models.registry import build_model, network_class
from nordocr_cli.models.svtrv2_nano import SvtrV2Nano
from nordocr_cli.models.weights import load_model
from nordocr_cli.settings import MambaModel, SvtrModel, SvtrV2Model, SvtrV2NanoModel

SAMPLES = Path(__file__).parents[2] / "samples"
NANO = SvtrV2NanoModel(name="svtrv2-nano", dims=(24, 48, 64), depths=(1, 1, 1))
ABC, DCB_A = Charset("abc", "abcdø"), Charset("other", "dcbáåŠ½")


def state_of(charset, model=NANO):
    torch.manual_seed(3)
    return build_model(model, charset.num_classes).state_dict()


def test_rows_move_by_character():
    before = state_of(ABC)
    after, report = move_head(before, ABC, DCB_A, SvtrV2Nano)
    assert (report.kept, report.dropped, report.fresh) == ("dcb", "aø", "Š½")
    assert report.from_base == (("á", "a"), ("å", "a"))
    for character in "dcb":
        assert torch.equal(
            after["classifier.weight"][DCB_A.class_of[character]],
            before["classifier.weight"][ABC.class_of[character]],
        )
    assert torch.equal(after["classifier.weight"][0], before["classifier.weight"][0])
    assert torch.equal(
        after["classifier.weight"][DCB_A.class_of["á"]],
        before["classifier.weight"][ABC.class_of["a"]],
    )
    assert (
        after["classifier.bias"][DCB_A.class_of["á"]]
        == before["classifier.bias"][ABC.class_of["a"]] - 3
    )
    assert after["classifier.weight"][DCB_A.class_of["Š"]].abs().max() <= 64**-0.5
    assert all(
        after[key] is tensor
        for key, tensor in before.items()
        if not key.startswith("classifier.")
    )


def test_fresh_rows_are_the_same_each_time_and_nothing_is_copied():
    before = state_of(ABC)
    (one, report), (other, _) = (
        move_head(before, ABC, DCB_A, SvtrV2Nano, "fresh") for _ in range(2)
    )
    assert torch.equal(one["classifier.weight"], other["classifier.weight"])
    assert (report.from_base, report.fresh) == ((), "áåŠ½")
    assert not torch.equal(
        one["classifier.weight"][DCB_A.class_of["á"]],
        before["classifier.weight"][ABC.class_of["a"]],
    )


@pytest.mark.parametrize(
    "model",
    [
        NANO,
        SvtrV2Model(name="svtrv2", size="tiny"),
        SvtrModel(name="svtr"),
        MambaModel(name="mamba", layers=1, features=64, use_lora=False),
    ],
    ids=lambda model: model.name,
)
def test_there_and_back_is_the_same_head_of_every_network(model):
    before = state_of(ALPHANUMERIC, model)
    wide, _ = move_head(before, ALPHANUMERIC, NORDIC, network_class(model.name))
    build_model(model, NORDIC.num_classes).load_state_dict(wide)
    back, report = move_head(wide, NORDIC, ALPHANUMERIC, network_class(model.name))
    assert report.kept == ALPHANUMERIC.characters
    assert all(torch.equal(back[key], tensor) for key, tensor in before.items())


def test_half_precision_stays():
    half = {key: tensor.half() for key, tensor in state_of(NORDIC_EXT).items()}
    after, report = move_head(half, NORDIC_EXT, NORDIC, SvtrV2Nano)
    assert {tensor.dtype for tensor in after.values()} == {torch.float16}
    assert report.dropped == NORDIC_EXT.characters[len(NORDIC.characters) :]
    assert torch.equal(
        after["classifier.weight"], half["classifier.weight"][: NORDIC.num_classes]
    )


def test_other_weights_are_refused():
    with pytest.raises(
        ArtifactError, match=r"no linear head of 126 classes \(classifier\)"
    ):
        move_head(state_of(ABC), NORDIC, NORDIC_EXT, SvtrV2Nano)


def test_untrained_a_moved_head_reads_as_before():
    """The shipped network, its head moved to a larger charset, reads lines as it did: no new
    character speaks.
    """
    network, contract = load_model(Path("nordocr-default"))
    more = Charset("more", contract.charset.characters + "ĀāĒēŐőΩ")
    moved, report = move_head(network.state_dict(), contract.charset, more, type(network))
    assert (len(report.from_base), report.fresh) == (6, "Ω")
    wide = build_model(SvtrV2NanoModel(**contract.model), more.num_classes).eval()
    wide.load_state_dict(moved)
    for path in sorted((SAMPLES / "lines" / "images").glob("*.png"))[:6]:
        line = resize_line(read_image(path), contract.geometry)
        image = torch.from_numpy(
            normalize_array(line.transpose(2, 0, 1)[None], contract.geometry)
        )
        with torch.no_grad():
            logits, before = wide(image).numpy(), network(image).numpy()
        frames = np.array([logits.shape[1]])
        said = decode_greedy(logits, frames, more)[0].text
        assert said == decode_greedy(before, frames, contract.charset)[0].text != ""
