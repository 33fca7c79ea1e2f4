"""charset move: weights that read another charset."""

import json

import pytest
import torch
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.atomic import sha256_of
from nordocr_cli.charset import NORDIC, NORDIC_EXT
from nordocr_cli.core.move_head import move_charset, plan_charset_move
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.models.weights import load_model, load_weights, save_weights


@pytest.fixture
def half(tiny_checkpoint, tmp_path, valid_output):
    """The tiny network's weights in half precision, moved to nordic-ext."""
    move = plan_charset_move(tiny_checkpoint, "nordic-ext", tmp_path / "ext.safetensors")
    valid_output("charset move", move.to_json())
    move_charset(move)
    state, contract = load_weights(tmp_path / "ext.safetensors")
    save_weights(
        tmp_path / "half.safetensors",
        state,
        type(contract)(**{**vars(contract), "precision": "fp16"}),
    )
    return tmp_path / "half.safetensors"


def test_a_charset_is_cut_down(half, tiny_checkpoint, tmp_path):
    output = tmp_path / "cut.safetensors"
    done = CliRunner().invoke(
        app, ["charset", "move", str(half), "--to", "nordic", "-o", str(output), "--json"]
    )
    assert done.exit_code == 0
    head = json.loads(done.stdout)["head"]
    assert (head["kept"], head["dropped"]) == (
        NORDIC.characters,
        NORDIC_EXT.characters[125:],
    )
    contract = read_contract(output)
    assert (contract.charset, contract.precision) == (NORDIC, "fp16")
    assert contract.profile["charset"] == "nordic"
    assert contract.parent_sha256 == sha256_of(half)
    assert contract.trained_widths == (8, 1792)
    network, original = load_model(output)[0], load_model(tiny_checkpoint)[0]
    image = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.allclose(network(image), original(image), atol=2e-3)


def test_a_dry_run_writes_nothing(tiny_checkpoint, tmp_path):
    output = tmp_path / "x.safetensors"
    args = [
        "charset",
        "move",
        str(tiny_checkpoint),
        "--to",
        "alphanumeric",
        "-o",
        str(output),
        "--dry-run",
    ]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0
    assert "kept (62)" in done.stdout
    assert not output.exists()


@pytest.mark.parametrize(
    ("to", "output", "new", "error", "said"),
    [
        ("nordic", "x.safetensors", "base", UsageError, "reads charset 'nordic' already"),
        ("nordik", "x.safetensors", "base", UsageError, "did you mean 'nordic'"),
        ("nordic-ext", "x.pt", "base", UsageError, "written as .safetensors"),
        ("nordic-ext", "x.safetensors", "copy", UsageError, "base .* or fresh"),
        ("nordic-ext", "", "base", UsageError, "would overwrite the input"),
    ],
)
def test_what_cannot_be_moved_is_refused(
    tiny_checkpoint, tmp_path, to, output, new, error, said
):
    target = tmp_path / output if output else tiny_checkpoint
    with pytest.raises(error, match=said):
        plan_charset_move(tiny_checkpoint, to, target, new)


def test_weights_that_do_not_fit_their_contract_are_not_passed_on(
    tiny_checkpoint, tmp_path
):
    state, contract = load_weights(tiny_checkpoint)
    del state["norm.weight"]
    save_weights(tmp_path / "a.safetensors", state, contract)
    plan = plan_charset_move(
        tmp_path / "a.safetensors", "nordic-ext", tmp_path / "b.safetensors"
    )
    with pytest.raises(ArtifactError, match=r"1 missing: norm\.weight"):
        move_charset(plan)
    assert not (tmp_path / "b.safetensors").exists()
