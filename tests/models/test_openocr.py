"""OpenOCR checkpoints become our weights.

With NORDOCR_OPENOCR=FOLDER, a checkout of github.com/Topdu/OpenOCR, the authors' own code makes the
checkpoints and its logits are compared with ours; without it the checkpoints are made of our
networks' tensors, and golden/ holds the authors' logits.
"""

import json
import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.charset import ALPHANUMERIC, NORDIC
from nordocr_cli.core.import_ import import_checkpoint, plan_import
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.models.registry import build_model
from nordocr_cli.models.weights import load_model, save_weights
from nordocr_cli.settings import SvtrModel, SvtrV2Model

GOLDEN = Path(__file__).parents[1] / "golden"
OPENOCR = os.environ.get("NORDOCR_OPENOCR")
TINY = SvtrV2Model(name="svtrv2", size="tiny")


def openocr_mask(rows, columns, window):
    """The buffer of a local mixer, (1, 1, L, L): 0 where a position may look, else -inf."""
    row, column = (
        torch.arange(rows).repeat_interleave(columns),
        torch.arange(columns).repeat(rows),
    )
    seen = ((row[:, None] - row).abs() <= window[0] // 2) & (
        (column[:, None] - column).abs() <= window[1] // 2
    )
    return torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))[None, None]


def bare(state):
    return state


def wrapped(state):
    return {
        "state_dict": state,
        "epoch": 3,
        "config": {"Global": {"use_amp": True}},
        "optimizer": None,
        "metrics": {"acc": 0.5},
    }


def parallel(state):
    return {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}


def guided(state):
    named = {
        name.replace("decoder.", "decoder.ctc_decoder.", 1): tensor
        for name, tensor in state.items()
    }
    return {
        "state_dict": (
            named
            | {
                "decoder.gtc_decoder.next_token": torch.zeros(1),
                "decoder.gtc_decoder.x": torch.zeros(1),
            }
        )
    }


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(2)
    return build_model(TINY, 126).eval()


@pytest.mark.parametrize(
    ("form", "dropped"),
    [(bare, {}), (wrapped, {}), (parallel, {}), (guided, {"guidance branch": 2})],
)
def test_every_form_of_a_checkpoint(tiny, form, dropped, tmp_path, image):
    torch.save(form(dict(tiny.state_dict())), tmp_path / "best.pth")
    result = import_checkpoint(
        plan_import(tmp_path / "best.pth", "nordic", tmp_path / "a.safetensors")
    )
    assert (result.dropped, result.parameters, result.num_classes) == (
        dropped,
        5_136_222,
        126,
    )
    network, contract = load_model(tmp_path / "a.safetensors")
    assert (contract.charset, contract.model) == (NORDIC, TINY.model_dump(mode="json"))
    with torch.no_grad():
        assert torch.equal(network(image(64)), tiny(image(64)))


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_an_imported_svtrv2_gives_the_authors_logits(size, tmp_path, filled, image):
    state = filled(build_model(SvtrV2Model(name="svtrv2", size=size), 126)).state_dict()
    save_file(dict(state), tmp_path / "best.safetensors")
    import_checkpoint(
        plan_import(tmp_path / "best.safetensors", "nordic", tmp_path / "a.safetensors")
    )
    # of every third frame
    expected = torch.tensor(
        json.loads((GOLDEN / "openocr.json").read_text())[f"svtrv2 {size} rctc 64"]
    )
    with torch.no_grad():
        assert torch.allclose(
            load_model(tmp_path / "a.safetensors")[0](image(64))[0, ::3, :6],
            expected,
            atol=2e-5,
        )


def test_plain_head(tmp_path):
    model = SvtrV2Model(name="svtrv2", size="base", head="ctc")
    network = build_model(model, 126)
    assert sum(p.numel() for p in network.parameters()) == 17_780_286
    assert network.state_dict()["encoder.stages.3.last_conv.weight"].shape == (256, 384)
    torch.save(network.state_dict(), tmp_path / "best.pth")
    assert (
        import_checkpoint(
            plan_import(tmp_path / "best.pth", "nordic", tmp_path / "a.safetensors")
        ).model["head"]
        == "ctc"
    )


@pytest.mark.parametrize(
    ("head", "parameters"), [("ctc", 18_098_494), ("rctc", 20_085_694)]
)
def test_an_imported_svtr_base_of_convolutions_gives_the_authors_logits(
    head, parameters, tmp_path, filled, image
):
    """OpenOCR's svtr_base_ctc.yml and svtr_base_rctc.yml; no weights of theirs are at hand, so the
    keys and the logits are those recorded of their code with weights that any program can make.
    """
    model = SvtrModel(name="svtr", size="base-conv", head=head)
    state = filled(build_model(model, 126)).state_dict()
    convolution = "encoder.blocks2.1.mixer.local_mixer.weight"
    assert state[convolution].shape == (256, 32, 5, 5)
    assert "encoder.norm.weight" not in state
    torch.save(wrapped(dict(state)), tmp_path / "best.pth")
    result = import_checkpoint(
        plan_import(tmp_path / "best.pth", "nordic", tmp_path / "a.safetensors")
    )
    assert (result.model, result.parameters) == (model.model_dump(mode="json"), parameters)
    recorded = json.loads((GOLDEN / "openocr.json").read_text())
    expected = torch.tensor(recorded[f"svtr base-conv {head} 128"])
    with torch.no_grad():
        found = load_model(tmp_path / "a.safetensors")[0](image(128))[0, ::3, :6]
    assert torch.allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("window", [(7, 7), (7, 11), None])
def test_svtr_masks_tell_the_window_and_are_left_out(window, tmp_path, heard):
    network = build_model(SvtrModel(name="svtr", positions=(8, 25), out_channels=192), 63)
    state = dict(network.state_dict())
    if window:
        state |= {
            f"encoder.blocks1.{i}.mixer.mask": openocr_mask(8, 25, window) for i in range(3)
        }
    torch.save({"state_dict": state}, tmp_path / "best.pth")
    result = import_checkpoint(
        plan_import(tmp_path / "best.pth", "alphanumeric", tmp_path / "a.safetensors"),
        heard,
    )
    assert result.dropped == ({"mask buffers": 3} if window else {})
    assert result.model["local_window"] == list(window or (7, 11))
    assert result.model["positions"] == [8, 25]
    assert heard.notes == [
        f"local attention of 7x{window[1] if window else 11}, taken from "
        + (
            "the mask buffers"
            if window
            else "the paper: the checkpoint has no masks that tell"
        )
    ]
    assert read_contract(tmp_path / "a.safetensors").charset == ALPHANUMERIC


class Code:
    def __reduce__(self):
        return (os.system, ("touch executed",))


def corrupted(state, change):
    state = dict(state)
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda s: s.update({"decoder.svtr_encoder.conv1.weight": torch.zeros(1)}),
            "the Chinese SVTRv2",
        ),
        (
            lambda s: s.update({"encoder.pope.patch_embed.0.conv.bias": torch.zeros(32)}),
            "the Chinese SVTRv2",
        ),
        (
            lambda s: s.update(
                {"encoder.stages.0.blocks.0.mixer.0.weight": torch.zeros(64, 32, 5, 5)}
            ),
            r"convolutions of \(5, 5\)",
        ),
        (lambda s: s.update({"transform.x": torch.zeros(1)}), "rectifier"),
        (
            lambda s: s.update({"encoder.pos_embed": torch.zeros(1, 200, 64)}),
            "local attention without a last norm",
        ),
        (
            lambda s: s.update(
                {
                    "encoder.pos_embed": torch.zeros(1, 256, 64),
                    "encoder.blocks1.0.mixer.local_mixer.weight": torch.zeros(64, 32, 3, 3),
                }
            ),
            r"convolutions of \(3, 3\), not by the 5x5",
        ),
        (lambda s: s.pop("decoder.char_token"), r"1 missing: decoder\.char_token"),
        (
            lambda s: s.pop("decoder.fc.weight"),
            r"it has no decoder\.fc\.weight; its first keys are encoder\.pope",
        ),
        (
            lambda s: s.update(
                {"encoder.pope.patch_embed.1.conv.weight": torch.zeros(48, 32, 3, 3)}
            ),
            "SVTRv2 of 48 channels",
        ),
        (
            lambda s: s.update({"decoder.fc_kv.weight": torch.zeros(2, 2)}),
            r"decoder\.fc_kv\.weight \(2, 2\), not \(512, 256\)",
        ),
        (
            lambda s: s.update(
                {
                    "decoder.fc.weight": torch.zeros(63, 256),
                    "decoder.fc.bias": torch.zeros(63),
                }
            ),
            "has 63 classes",
        ),
        (lambda s: s.update(code=Code()), "could run code"),
    ],
)
def test_other_networks_are_refused(tiny, change, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(corrupted(tiny.state_dict(), change), tmp_path / "best.pth")
    plan = plan_import(tmp_path / "best.pth", "nordic", tmp_path / "a.safetensors")
    with pytest.raises(ArtifactError, match=said):
        import_checkpoint(plan)
    assert [path.name for path in tmp_path.iterdir()] == ["best.pth"]


def test_our_own_weights_need_no_import(tiny, tmp_path):
    save_weights(
        tmp_path / "a.safetensors",
        tiny.state_dict(),
        Contract(NORDIC, Geometry(), TINY.model_dump(mode="json")),
    )
    with pytest.raises(UsageError, match=r"is nordocr's own: use it as it is"):
        plan_import(tmp_path / "a.safetensors", "nordic", tmp_path / "b.safetensors")


def test_wrong_input(tmp_path):
    (tmp_path / "a.pth").write_bytes(pickle.dumps([1, 2], protocol=2))
    for checkpoint, output, said in (
        ("b.pth", "x.safetensors", "no checkpoint"),
        ("a.pth", "x.pt", "as .safetensors"),
    ):
        with pytest.raises(UsageError, match=said):
            plan_import(tmp_path / checkpoint, "nordic", tmp_path / output)
    with pytest.raises(ArtifactError, match=r"a\.pth"):
        import_checkpoint(
            plan_import(tmp_path / "a.pth", "nordic", tmp_path / "x.safetensors")
        )


def test_command(tiny, tmp_path):
    torch.save(wrapped(tiny.state_dict()), tmp_path / "best.pth")
    args = [
        "import",
        str(tmp_path / "best.pth"),
        "--charset",
        "nordic",
        "-o",
        str(tmp_path / "a.safetensors"),
    ]
    planned = CliRunner().invoke(app, [*args, "--dry-run", "--json"])
    assert json.loads(planned.stdout)["charset"].startswith("nordic, 126 classes")
    assert not (tmp_path / "a.safetensors").exists()
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0
    assert "5,136,222 in 180 tensors" in done.stdout


@pytest.mark.skipif(
    not OPENOCR, reason="NORDOCR_OPENOCR names no checkout of Topdu/OpenOCR"
)
@pytest.mark.parametrize(
    "model",
    [
        SvtrV2Model(name="svtrv2", size="tiny"),
        SvtrV2Model(name="svtrv2", size="base"),
        SvtrV2Model(name="svtrv2", size="base", head="ctc"),
        SvtrModel(
            name="svtr",
            size="tiny",
            local_window=(7, 11),
            positions=(8, 32),
            out_channels=192,
        ),
        SvtrModel(
            name="svtr",
            size="base",
            local_window=(7, 7),
            positions=(8, 32),
            out_channels=256,
        ),
        SvtrModel(name="svtr", size="base-conv"),
        SvtrModel(name="svtr", size="base-conv", head="rctc"),
    ],
    ids=lambda model: f"{model.name}-{model.size}-{getattr(model, 'head', '')}",
)
def test_the_authors_network_and_its_import_agree(model, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from reference_models import openocr_network

    monkeypatch.syspath_prepend(OPENOCR)
    torch.manual_seed(6)
    theirs = openocr_network(model, 126, width=128)
    for name, buffer in theirs.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    torch.save(wrapped(theirs.state_dict()), tmp_path / "best.pth")
    result = import_checkpoint(
        plan_import(tmp_path / "best.pth", "nordic", tmp_path / "a.safetensors")
    )
    assert result.model == model.model_dump(mode="json")
    ours = load_model(tmp_path / "a.safetensors")[0]
    lines = torch.rand(2, 3, 32, 128) * 2 - 1
    with torch.no_grad():
        expected = theirs.eval()(lines)  # probabilities
        assert torch.allclose(ours(lines).softmax(-1), expected, atol=1e-5)
    assert sys.modules["openrec"].__path__[0].startswith(OPENOCR)
