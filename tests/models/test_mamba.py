"""ResNet34 and the Mamba blocks must be transformers' (and so torchvision's and the authors'); the
whole must fit our chain.

golden/mamba.json was made by transformers 5.23 (ResNetModel of resnet-34's sizes with strides (2,
1), MambaModel with 2 blocks of 32 channels) on the weights that `filled` of conftest.py gives: a
few channels of every frame, and the names of all weights.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import NORDIC
from nordocr_cli.core.export.plan import ExportOptions, plan_export
from nordocr_cli.core.export.run import export
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.geometry import out_length
from nordocr_cli.models import mamba, resnet
from nordocr_cli.models.lora import merge_lora
from nordocr_cli.models.mamba import MambaEncoder, MambaMixer, reverse
from nordocr_cli.models.registry import build_model
from nordocr_cli.models.resnet import ResNet34
from nordocr_cli.models.weights import load_model, save_weights
from nordocr_cli.profile import load_profile, profile_to_json
from nordocr_cli.settings import MambaModel
from nordocr_cli.training.freezing import freeze
from nordocr_cli.training.schedule import build_optimizer

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "mamba.json").read_text())
PLAIN = {"bidirectional": False, "use_lora": False}


def options(**more):
    return MambaModel(name="mamba", **more)


def build(**more):
    return build_model(
        options(
            **{"features": 32, "layers": 2, "d_state": 8, "adapter_rank": 4, "lora_rank": 4}
            | more
        ),
        126,
    )


def awake():
    """A small network; every adapter, norm and bias does something."""
    torch.manual_seed(3)
    network = build(layers=1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1 or "adapter.up" in name or "lora_b" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in network.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return awake()


def test_number_of_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in ResNet34(adapter_rank=0).parameters()) == 21_284_672
        assert (
            sum(p.numel() for p in MambaEncoder(options(**PLAIN)).parameters())
            == 4 * 1_695_232 + 512
        )
        both = sum(p.numel() for p in MambaEncoder(options(use_lora=False)).parameters())
    assert both == 4 * (2 * (1_695_232 - 512) + 512) + 512


def test_features_are_those_of_resnet34(filled, image):
    with torch.no_grad():
        features = filled(ResNet34(adapter_rank=0)).eval()(image(37))
    assert features.shape == (1, 512, 1, 10)
    assert torch.allclose(features[0, :4, 0], torch.tensor(GOLDEN["resnet34"]), atol=1e-4)


def test_blocks_are_those_of_mamba(filled):
    x = torch.from_numpy(np.random.RandomState(37).uniform(-1, 1, (1, 37, 32))).float()
    with torch.no_grad():
        y = filled(MambaEncoder(options(features=32, layers=2, **PLAIN)))(x, None)
    assert torch.allclose(y[0, :, :4], torch.tensor(GOLDEN["mamba"]), atol=1e-5)


def test_starts_as_the_document_says():
    """S4D-real, step sizes from 1e-3 to 1e-1 through softplus, rank of the step sizes
    ceil(d / 16).
    """
    mixer = MambaMixer(options(features=40))
    assert torch.allclose(mixer.A_log.exp(), torch.arange(1.0, 17).expand(80, 16))
    delta = torch.nn.functional.softplus(mixer.dt_proj.bias)
    assert delta.min() >= 1e-3 * 0.999
    assert delta.max() <= 1e-1 * 1.001
    assert mixer.dt_proj.weight.shape == (80, 3)
    assert mixer.D.eq(1).all()


def test_no_weight_decay_on_a_and_d():
    network = build()
    decayed, free = build_optimizer(network, 1e-3, 0.05).param_groups
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert not [
        names[id(p)]
        for p in decayed["params"]
        if names[id(p)].endswith((".A_log", ".D", "dt_proj.bias"))
    ]
    assert sum(names[id(p)].endswith(".A_log") for p in free["params"]) == 4


@pytest.mark.parametrize("height", [32, 48])
def test_frames_at_any_width(network, height):
    with torch.no_grad():
        for width in (1, 2, 3, 4, 5, 127, 320, 1792):
            images = torch.zeros(1, 3, height, width)
            assert network.features(images).shape == (1, 32, 1, out_length(width))
            assert network(images).shape == (1, out_length(width), 126)


def test_the_profiles_network():
    profile = load_profile("mamba-320").profile
    network = build_model(profile.model, profile.load_charset().num_classes).eval()
    with torch.no_grad():
        assert network.features(torch.zeros(1, 3, 32, 320)).shape == (
            1,
            512,
            1,
            80,
        )
        assert network(torch.zeros(1, 3, 32, 320)).shape == (1, 80, 126)


def test_reverse_by_hand():
    x = torch.arange(8.0).reshape(2, 4, 1)
    assert reverse(x, None)[..., 0].tolist() == [[3, 2, 1, 0], [7, 6, 5, 4]]
    assert reverse(x, torch.tensor([3, 1]))[..., 0].tolist() == [[2, 1, 0, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_reads_in_both_directions(bidirectional):
    torch.manual_seed(0)
    encoder, x = (
        MambaEncoder(options(features=32, layers=1, bidirectional=bidirectional)),
        torch.randn(1, 9, 32),
    )
    later = x.clone()
    later[:, -1] += 1
    with torch.no_grad():
        changed = (encoder(x, None) - encoder(later, None)).abs().amax(-1)[0] > 1e-6
    assert changed.tolist() == [bidirectional] * 8 + [True]


@pytest.mark.parametrize("widths", [None, [64, 30]])
@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_reach_every_parameter(network, widths, bf16):
    """From the second step on: adapters and LoRA begin with zeros, behind which nothing learns in
    the first.
    """
    awake = build(layers=1)
    awake.load_state_dict(network.state_dict())
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = awake(
            torch.randn(2, 3, 32, 64), None if widths is None else torch.tensor(widths)
        )
    logits.float().log_softmax(2)[..., ::7].sum().backward()
    idle = [
        key
        for key, p in awake.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert not idle


def test_adapters_and_lora_begin_as_nothing():
    torch.manual_seed(0)
    tuned = build().eval()
    plain = build(adapter_rank=0, use_lora=False).eval()
    plain.load_state_dict(
        {
            k: v
            for k, v in tuned.state_dict().items()
            if "adapter" not in k and "lora" not in k
        }
    )
    with torch.no_grad():
        assert torch.equal(tuned(torch.ones(1, 3, 32, 40)), plain(torch.ones(1, 3, 32, 40)))


def test_learns_eight_lines():
    """Through adapters and Mamba, on a backbone that stays as it is."""
    torch.manual_seed(1)
    network = build(features=64, d_state=16)
    freeze(network, ["adapter", "last_conv", "mamba", "classifier"])
    optimizer = build_optimizer(network, 3e-3, 0.0)
    images, targets = torch.randn(8, 3, 32, 16), torch.randint(1, 126, (8, 2))
    frames, lengths = torch.full((8,), 4), torch.full((8,), 2)
    targets[:, 1] = targets[:, 0] % 125 + 1  # two equal characters would want more frames
    for step in range(50):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 10)
        loss = torch.nn.functional.ctc_loss(
            network(images).log_softmax(2).transpose(0, 1), targets, frames, lengths
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(
            [p for p in network.parameters() if p.requires_grad], 2.0
        )
        optimizer.step()
    assert (
        loss < 1
    )  # a character: 4.8 is chance among all classes, 2.8 among those that occur


def test_round_trip_and_export(tmp_path, monkeypatch):
    """One file for any batch and width, LoRA merged into it, in fp16 too. Of the backbone one block
    of each layer, and few channels: all that it can do, without its 21 million weights.
    """
    channels = (8, 16, 24, 32)
    monkeypatch.setattr(resnet, "_DEPTHS", (1, 1, 1, 1))
    monkeypatch.setattr(resnet, "CHANNELS", channels)
    monkeypatch.setattr(mamba, "CHANNELS", channels)
    network = awake()
    profile = load_profile("mamba-320").profile.model_copy(
        update={"model": network.options}
    )
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
        plan_export(tmp_path, tmp_path / "m.onnx", ExportOptions(simplify=False)),
        shapes=((1, 32), (3, 128), (1, 300)),
    )
    single, half = export(plan).files
    assert single.parity.worst.max_diff < 1e-4
    assert half.file.precision == "fp16"
    with torch.no_grad():
        before = network(torch.ones(1, 3, 32, 40))
        assert torch.allclose(
            merge_lora(loaded)(torch.ones(1, 3, 32, 40)), before, atol=1e-5
        )


def backbone_state(naming):
    """Weights of a ResNet34 as torchvision (with `fc`) and transformers name them, and as we do."""
    torch.manual_seed(8)
    ours = {
        key: tensor
        for key, tensor in ResNet34(adapter_rank=0).state_dict().items()
        if not key.endswith("tracked")
    }
    if naming == "torchvision":
        return ours | {
            "fc.weight": torch.zeros(1000, 512),
            "fc.bias": torch.zeros(1000),
        }, ours
    keys = [key for key in GOLDEN["resnet34_keys"] if not key.endswith("tracked")]
    short = {"convolution": "conv1", "normalization": "bn1"}
    named = {}
    for key in keys:
        part = key.split(".")
        if part[0] == "embedder":
            own = f"{short[part[2]]}.{part[-1]}"
        elif "shortcut" in part:
            index = int(part[6] == "normalization")
            own = f"layer{int(part[2]) + 1}.{part[4]}.downsample.{index}.{part[-1]}"
        else:
            layer = part[7][:4].replace("norm", "bn")
            own = f"layer{int(part[2]) + 1}.{part[4]}.{layer}{int(part[6]) + 1}.{part[-1]}"
        named["resnet." + key] = ours[own]
    return named | {"classifier.1.weight": torch.zeros(1000, 512)}, ours


@pytest.mark.parametrize("naming", ["torchvision", "transformers"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_imagenet_weights_load(naming, suffix, tmp_path, heard):
    state, ours = backbone_state(naming)
    path = tmp_path / f"resnet34{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(
        {"state_dict": state}, path
    )
    network = build(backbone_weights=str(path))
    network.load_pretrained(heard)
    assert all(
        torch.equal(network.backbone.state_dict()[key], tensor)
        for key, tensor in ours.items()
    )
    assert "resnet34" in heard.notes[0]
    assert not heard.warnings


def test_random_weights_are_never_silent(heard):
    build().load_pretrained(heard)
    assert "RANDOM" in heard.warnings[0]


def test_mamba_weights_load(filled, tmp_path, heard):
    """The first blocks of a file that has more; the reading from right to left begins as a copy."""
    theirs = filled(
        MambaEncoder(options(features=32, layers=3, d_state=8, **PLAIN))
    ).state_dict()
    save_file(
        {f"backbone.{k}": t for k, t in theirs.items()}
        | {"lm_head.weight": torch.zeros(9, 32)},
        tmp_path / "m.safetensors",
    )
    network = build(pretrained=str(tmp_path / "m.safetensors"))
    network.load_pretrained(heard)
    state = network.mamba.state_dict()
    for index in range(2):
        for key in ("in_proj.weight", "A_log", "conv1d.bias"):
            for mixer in ("mixer", "mixer_reverse"):
                assert torch.equal(
                    state[f"layers.{index}.{mixer}.{key}"],
                    theirs[f"layers.{index}.mixer.{key}"],
                )
    assert state["norm_f.weight"].eq(1).all()
    assert "first 2 of 3 blocks" in heard.notes[0]
    with pytest.raises(
        ArtifactError,
        match="model.pretrained.*other model options.*features=32, d_state=8, d_conv=4, expand=2",
    ):
        build(pretrained=str(tmp_path / "m.safetensors"), d_state=16).load_pretrained(heard)
    with pytest.raises(
        ArtifactError,
        match=r"has 3 Mamba blocks, model\.layers asks for 4: --set model\.layers=3",
    ):
        build(pretrained=str(tmp_path / "m.safetensors"), layers=4).load_pretrained(heard)
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "r.safetensors")
    with pytest.raises(ArtifactError, match="holds no Mamba blocks"):
        build(pretrained=str(tmp_path / "r.safetensors")).load_pretrained(heard)


@pytest.mark.parametrize(
    ("patterns", "warnings"),
    [((), 0), (["mamba", "classifier"], 0), (["mamba.*.in_proj", "classifier"], 1)],
)
def test_random_blocks_that_are_frozen_are_never_silent(patterns, warnings, heard):
    network = build()
    freeze(network, patterns)
    network.warn_of_frozen(heard)
    assert [
        warning for warning in heard.warnings if "stay RANDOM" in warning
    ] == heard.warnings
    assert len(heard.warnings) == warnings


def test_the_names_are_transformers():
    own = MambaEncoder(options(features=32, layers=2, **PLAIN)).state_dict()
    assert set(own) == {
        key for key in GOLDEN["mamba_keys"] if not key.startswith("embeddings")
    }


class Code:
    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (None, UsageError, "no file"),
        ({"conv1.weight": Code()}, ArtifactError, "refused"),
        ({"conv1.weight": torch.zeros(3)}, ArtifactError, "another network"),
        (torch.zeros(3), ArtifactError, "holds a Tensor"),
        ({"epoch": 3}, ArtifactError, "no tensors"),
        (b"hello there", ArtifactError, "weights"),
    ],
)
def test_a_bad_file_is_refused(content, error, words, tmp_path, heard, capsys):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(error, match=f"model.backbone_weights.*{words}"):
        build(backbone_weights=str(path)).load_pretrained(heard)
    assert "never be printed" not in capsys.readouterr().out
