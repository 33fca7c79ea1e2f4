"""SVTR must be the authors' network: its size here, its numbers in test_recorded.py."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import NORDIC
from nordocr_cli.core.export.plan import plan_export
from nordocr_cli.core.export.run import export
from nordocr_cli.geometry import out_length
from nordocr_cli.models.merging import SVTRMerging
from nordocr_cli.models.registry import build_model
from nordocr_cli.models.svtr import SVTR_SIZES, LocalMixer, SvtrSize, stretched_positions
from nordocr_cli.models.weights import load_model, save_weights
from nordocr_cli.profile import load_profile, profile_to_json
from nordocr_cli.settings import SvtrModel

PARAMETERS = {
    "tiny": (192, {128: 4_188_510, 320: 4_213_086, 1024: 4_303_198}),
    "small": (192, {128: 8_494_478, 320: 8_531_342, 1024: 8_666_510}),
    "base": (256, {128: 22_725_182, 320: 22_774_334, 1024: 22_954_558}),
    "large": (384, {128: 38_902_558, 320: 38_976_286, 1024: 39_246_622}),
}


def build(num_classes=126, **options):
    return build_model(SvtrModel(name="svtr", **options), num_classes)


def awake(network):
    """Biases, norms and running statistics all do something: fresh ones are zeros and ones and
    would hide a leak.
    """
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=generator)
                * (0.2 if parameter.ndim == 1 else 0.02)
            )
        for name, buffer in network.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 2, generator=generator)
    return network.eval()


@pytest.fixture
def shallow(monkeypatch):
    """One block or two in each stage, in half the channels, both kinds of mixing and both merges
    among them.
    """
    monkeypatch.setitem(SVTR_SIZES, "tiny", SvtrSize((32, 64, 128), (1, 2, 1), 2))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return awake(build())


@pytest.mark.parametrize("size", PARAMETERS)
def test_number_of_parameters(size):
    """The positions grow with the width that they were learnt at, nothing else does."""
    out_channels, expected = PARAMETERS[size]
    with torch.device("meta"):
        found = {
            width: sum(
                p.numel()
                for p in build(
                    size=size, out_channels=out_channels, positions=(8, width // 4)
                ).parameters()
            )
            for width in expected
        }
    assert found == expected


def test_features_of_the_document():
    """[B, 256, 1, 32] for 32x128; with the CTC head, 32 frames of logits."""
    profile = load_profile("svtr-32x128").profile
    network = build_model(profile.model, profile.load_charset().num_classes).eval()
    with torch.no_grad():
        features = network.encoder(torch.zeros(2, 3, 32, 128))
        assert features.shape == (2, 256, 1, 32)
        assert network.decoder(features).shape == (2, 32, 126)


def test_frames_at_any_width(network):
    with torch.no_grad():
        for width in (1, 2, 3, 4, 5, 63, 64, 65, 128, 1022, 1792):
            assert network(torch.zeros(1, 3, 32, width)).shape == (
                1,
                out_length(width),
                126,
            )
        assert network(torch.zeros(1, 3, 48, 64)).shape == (1, 16, 126)


def test_merging():
    merging = SVTRMerging(8, 5)
    x = torch.randn(2, 8, 4, 7)
    by_hand = torch.einsum("oc,ncw->now", merging.weight[:, :, 0, 0], x.mean(2))
    merged = merging.eval()(x)
    assert merged.shape == (2, 5, 1, 7)
    assert torch.allclose(
        merged[:, :, 0], torch.nn.functional.hardswish(by_hand), atol=1e-6
    )
    assert not torch.equal(merging.train()(x), merged)  # dropout


@pytest.mark.parametrize("window", [(3, 3), (7, 7), (7, 11), (3, 33)])
@pytest.mark.parametrize("width", [1, 15, 16, 33, 50])
def test_local_attention_is_a_window(window, width):
    """Against softmax over all pairs with a mask."""
    torch.manual_seed(1)
    mixer, x = LocalMixer(64, 2, window), torch.randn(2, 8, width, 64)
    row, column = torch.arange(8).repeat_interleave(width), torch.arange(width).repeat(8)
    seen = ((row[:, None] - row).abs() <= window[0] // 2) & (
        (column[:, None] - column).abs() <= window[1] // 2
    )
    q, k, v = mixer.qkv(x.flatten(1, 2)).reshape(2, -1, 3, 2, 32).permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(-2, -1) / 32**0.5).masked_fill(~seen, float("-inf"))
    expected = mixer.proj(
        (scores.softmax(-1) @ v).transpose(1, 2).reshape(2, 8 * width, 64)
    )
    assert torch.allclose(mixer(x).flatten(1, 2), expected, atol=1e-5)


def test_nothing_is_stored_but_weights_and_statistics(network):
    """No mask buffers: the authors' network carries 63 MB of them at 32x1024."""
    assert {name.split(".")[-1] for name, _ in network.named_buffers()} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_positions_of_narrow_and_wide_lines():
    # Positions 0, 10, 20, 30.
    grid, index = (torch.arange(4.0)[:, None, None] * 10, torch.arange(8))
    read = stretched_positions(grid, index, torch.tensor([[3], [4], [8]]))[:, :, 0, 0]
    assert read[0, :3].tolist() == [0, 10, 20]
    assert read[1, :4].tolist() == [0, 10, 20, 30]
    assert read[2].tolist() == [0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30]


@pytest.mark.parametrize("widths", [None, [64, 30]])
@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_reach_every_parameter(widths, bf16, without_gradient):
    torch.manual_seed(0)
    network = build(drop_path=0.0, positions=(8, 16))
    assert without_gradient(network, widths, bf16) == []


def test_learns_eight_lines(shallow):
    torch.manual_seed(1)
    network = build()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    images, targets = torch.randn(8, 3, 32, 32), torch.randint(1, 126, (8, 3))
    frames, lengths = torch.full((8,), 8), torch.full((8,), 3)
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 10)
        loss = torch.nn.functional.ctc_loss(
            network(images).log_softmax(2).transpose(0, 1), targets, frames, lengths
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
    assert (
        loss < 1
    )  # a character: 4.8 is chance among all classes, 3.2 among those that occur


def test_round_trip_and_export(shallow, tmp_path):
    """One file for any batch and width, wider than the learned positions too."""
    torch.manual_seed(3)
    network = awake(build())
    profile = load_profile("svtr-32x128").profile
    table = profile_to_json(profile)
    save_weights(
        tmp_path / "best.safetensors",
        network.state_dict(),
        Contract(NORDIC, profile.geometry, table["model"], table),
    )
    loaded, _ = load_model(tmp_path)
    assert all(
        torch.equal(loaded.state_dict()[key], tensor)
        for key, tensor in network.state_dict().items()
    )
    plan = replace(
        plan_export(tmp_path, tmp_path / "m.onnx"), shapes=((1, 32), (3, 128), (1, 300))
    )
    exported = export(plan)
    assert [
        file.parity.worst.max_diff < 1e-4
        for file in exported.files
        if file.file.precision == "fp32"
    ] == [True]


@pytest.mark.parametrize(
    "options", [{"local_window": (6, 7)}, {"local_window": (7, 35)}, {"positions": (0, 32)}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        SvtrModel(name="svtr", **options)
