"""What every CTC network has to pass, whatever is inside."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import NORDIC
from nordocr_cli.core.export.plan import ExportOptions, plan_export
from nordocr_cli.core.export.run import export
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.geometry import Geometry, out_length
from nordocr_cli.models import svtrv2
from nordocr_cli.models.base import ctc_loss
from nordocr_cli.models.registry import build_model
from nordocr_cli.models.weights import load_model, save_weights
from nordocr_cli.profile import load_profile, profile_to_json
from nordocr_cli.settings import (
    MODEL_KINDS,
    MambaModel,
    SvtrModel,
    SvtrV2Model,
    SvtrV2NanoModel,
)

NETWORKS = {
    "svtrv2-nano": SvtrV2NanoModel(name="svtrv2-nano", dims=(24, 48, 64), depths=(1, 1, 1)),
    "svtrv2-nano, 1 row": SvtrV2NanoModel(
        name="svtrv2-nano", dims=(24, 48, 64), depths=(1, 1, 1), attention_rows=1
    ),
    "svtrv2 rctc": SvtrV2Model(name="svtrv2", size="tiny", drop_path=0),
    "svtrv2 ctc": SvtrV2Model(name="svtrv2", size="tiny", head="ctc", drop_path=0),
    "svtr": SvtrModel(name="svtr", size="tiny", drop_path=0),
    "mamba": MambaModel(
        name="mamba", layers=1, features=64, adapter_rank=4, use_lora=False
    ),
}
# SVTR and Mamba learn at other rates: their own files have them memorize and export.
QUICK = [name for name, model in NETWORKS.items() if model.name not in ("svtr", "mamba")]
EIGHT = ["10", "29", "3", "47", "56", "60", "7", "81"]


def test_every_ctc_network_is_in_the_table():
    ctc = {name for name, kind in MODEL_KINDS.items() if kind.decoding == "ctc"}
    assert ctc == {model.name for model in NETWORKS.values()}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """A network that one training step has left awake: fresh biases and running statistics are
    zeros and ones.
    """
    torch.manual_seed(5)
    model = NETWORKS[request.param]
    built = build_model(model, NORDIC.num_classes)
    built(torch.rand(4, 3, 32, 64) * 2 - 1)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    built.model_options = model
    return built.eval()


@pytest.mark.parametrize("width", [4, 8, 60, 320, 1792])
def test_frames_at_every_width(network, width):
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 32, width)).shape == (
            1,
            out_length(width),
            NORDIC.num_classes,
        )


@pytest.mark.parametrize("widths", [[4, 130, 320], [17, 1, 66, 131], [128, 64]])
@pytest.mark.parametrize("padding", [1.0, 7.0])
def test_a_line_alone_is_the_line_in_any_batch(network, widths, padding):
    """The result depends neither on the other lines nor on the value of the padding."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(len(widths), 3, 32, max(widths), generator=generator) * 2 - 1
    for line, width in enumerate(widths):
        images[line, :, :, width:] = padding
    narrow = widths.index(min(widths))
    own = out_length(min(widths))

    with torch.no_grad():
        together = network(images, torch.tensor(widths))
        for line, width in enumerate(widths):
            crop = images[line : line + 1, :, :, :width]
            for given in (None, torch.tensor([width])):
                alone = network(crop, given)[0]
                assert torch.allclose(together[line, : out_length(width)], alone, atol=1e-4)
        without_widths = network(images)

    # Without widths the network sees the padding as pixels.
    differences = without_widths[narrow, :own] - together[narrow, :own]
    assert differences.abs().max() > 1e-3


def test_the_loss_reaches_every_parameter(network):
    network.train().zero_grad()
    logits = network(torch.rand(2, 3, 32, 64) * 2 - 1, torch.tensor([64, 40]))
    ctc_loss(
        logits, torch.tensor([16, 10]), torch.tensor([1, 2, 3]), torch.tensor([2, 1])
    ).backward()
    network.eval()
    # An adapter begins as a nought of two factors, of which only the one that is nought has a
    # gradient.
    silent = [
        name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()
    ]
    assert [name for name in silent if "adapter" not in name] == []


def test_round_trip(network, tmp_path):
    contract = Contract(NORDIC, Geometry(), network.model_options.model_dump(mode="json"))
    save_weights(tmp_path / "a.safetensors", network.state_dict(), contract)
    loaded, _ = load_model(tmp_path / "a.safetensors")
    image = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))


@pytest.fixture(params=QUICK)
def little(request, monkeypatch):
    """The options of a network of few channels and blocks, of every kind of block that the sizes
    have.
    """
    monkeypatch.setitem(
        svtrv2.SVTRV2_SIZES, "tiny", svtrv2.Svtrv2Size((32, 32, 64), ("C", "CFG", "G"))
    )
    return NETWORKS[request.param]


def test_eight_lines_are_memorized(little):
    torch.manual_seed(2)
    network = build_model(little, NORDIC.num_classes)
    images, frames = torch.rand(8, 3, 32, 32) * 2 - 1, torch.full((8,), 8)
    targets = torch.tensor([c for text in EIGHT for c in NORDIC.encode(text)])
    lengths = torch.tensor([len(text) for text in EIGHT])
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, fused=True)
    said: list[str] = []
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 20)
        loss = ctc_loss(network(images), frames, targets, lengths)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        if step % 10 == 9:
            with torch.no_grad():
                said = [
                    r.text
                    for r in decode_greedy(network(images).numpy(), frames.numpy(), NORDIC)
                ]
            if said == EIGHT:
                break
    assert said == EIGHT


def test_what_is_exported_computes_the_same(little, tmp_path):
    """At many widths and batches, by the check of the command itself."""
    torch.manual_seed(2)
    profile = load_profile("svtrv2-nano").profile.model_copy(update={"model": little})
    table = profile_to_json(profile)
    network = build_model(little, NORDIC.num_classes)
    save_weights(
        tmp_path / "best.safetensors",
        network.state_dict(),
        Contract(NORDIC, profile.geometry, table["model"], table),
    )
    shapes = ((1, 4), (3, 60), (2, 132), (1, 768))
    exported = export(
        replace(
            plan_export(tmp_path, tmp_path / "m.onnx", ExportOptions(simplify=False)),
            shapes=shapes,
        )
    )
    assert exported.files[0].parity.worst.max_diff < 1e-4
    assert exported.files[0].parity.agreement == 1
