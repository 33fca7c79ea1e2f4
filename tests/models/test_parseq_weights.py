"""PARSeq's checkpoints become our weights: names and shapes are those of the released ones
(test_parseq.py holds the table).
"""

import pytest
import torch
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.charset import ALPHANUMERIC, NORDIC, Charset
from nordocr_cli.core.import_ import import_checkpoint, plan_import
from nordocr_cli.errors import ArtifactError
from nordocr_cli.models.head_transfer import move_head
from nordocr_cli.models.parseq.network import Parseq
from nordocr_cli.models.registry import build_model
from nordocr_cli.models.weights import load_model
from nordocr_cli.settings import ParseqModel

SMALL = ParseqModel(name="parseq", size="tiny", width=16, max_label_length=5)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(2)
    return build_model(SMALL, ALPHANUMERIC.num_classes).eval()


def imported(state, folder, charset="alphanumeric"):
    torch.save(state, folder / "parseq.pt")
    return import_checkpoint(
        plan_import(folder / "parseq.pt", charset, folder / "a.safetensors")
    )


@pytest.mark.parametrize("prefix", ["", "model.", "module.model.", "model._orig_mod."])
def test_every_form_of_a_checkpoint(tiny, prefix, tmp_path):
    """Bare as released, out of Lightning, of several GPUs, compiled."""
    state = {prefix + name: tensor for name, tensor in tiny.state_dict().items()}
    result = imported({"state_dict": state, "epoch": 3} if prefix else state, tmp_path)
    assert result.tensors == 175
    network, contract = load_model(tmp_path / "a.safetensors")
    assert (contract.charset, contract.model) == (
        ALPHANUMERIC,
        SMALL.model_dump(mode="json"),
    )
    assert contract.geometry.max_width == 16
    line = torch.rand(1, 3, 32, 12) * 2 - 1
    with torch.no_grad():
        assert torch.equal(network(line), tiny(line))


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("encoder.norm.weight", None, r"1 missing: encoder\.norm\.weight"),
        ("encoder.cls_token", torch.zeros(1, 1, 192), r"1 unknown: encoder\.cls_token"),
        ("encoder.pos_embed", torch.zeros(1, 17, 192), "17 patches are not 8 rows"),
        ("head.weight", torch.zeros(62, 192), "reads 65 tokens and writes 62"),
        ("pos_queries", torch.zeros(1, 6, 100), "a PARSeq of 100 channels"),
        ("head.weight", None, r"a PARSeq without 'head\.weight'"),
        ("decoder.norm.bias", torch.zeros(7), r"decoder\.norm\.bias \(7,\), not \(192,\)"),
    ],
)
def test_other_networks_are_refused(tiny, name, tensor, said, tmp_path):
    state = {key: value for key, value in tiny.state_dict().items() if key != name}
    with pytest.raises(ArtifactError, match=said):
        imported(state if tensor is None else {**state, name: tensor}, tmp_path)
    assert not (tmp_path / "a.safetensors").exists()


def test_another_charset_is_refused(tiny, tmp_path):
    with pytest.raises(ArtifactError, match="has 63 classes, charset 'nordic' 126"):
        imported(tiny.state_dict(), tmp_path, "nordic")


def test_what_is_read_moves_with_what_is_written(tiny):
    """A head for another charset: rows of the embedding too, the beginning and padding behind
    them.
    """
    before, other = tiny.state_dict(), Charset("other", "zaá½")
    after, report = move_head(before, ALPHANUMERIC, other, Parseq)
    assert (report.kept, report.from_base, report.fresh) == ("za", (("á", "a"),), "½")
    read, reads = (
        before["text_embed.embedding.weight"],
        after["text_embed.embedding.weight"],
    )
    assert after["head.weight"].shape[0] == 5
    assert reads.shape[0] == 7
    a = ALPHANUMERIC.class_of["a"]
    assert torch.equal(reads[[0, 2, 3, 5, 6]], read[[0, a, a, 63, 64]])
    assert torch.equal(after["head.weight"][[0, 2]], before["head.weight"][[0, a]])
    network = build_model(SMALL, other.num_classes)
    network.load_state_dict(after)


def test_the_commands(tiny, tmp_path):
    torch.save(tiny.state_dict(), tmp_path / "parseq.pt")
    weights, moved = tmp_path / "a.safetensors", tmp_path / "nordic.safetensors"
    done = CliRunner().invoke(
        app,
        [
            "import",
            str(tmp_path / "parseq.pt"),
            "--charset",
            "alphanumeric",
            "-o",
            str(weights),
        ],
    )
    assert done.exit_code == 0
    assert "175 tensors" in done.stdout
    done = CliRunner().invoke(
        app, ["charset", "move", str(weights), "--to", "nordic", "-o", str(moved)]
    )
    assert done.exit_code == 0, done.stderr
    assert load_model(moved)[1].charset == NORDIC
