"""PARSeq must be the authors' network: its sizes, its keys, and the numbers of its parts."""

import copy
import math
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import NORDIC
from nordocr_cli.core.export.plan import plan_export
from nordocr_cli.core.export.run import export
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.models.checkpoints.fit import require_same_tensors
from nordocr_cli.models.parseq.network import Attention, stretched_columns
from nordocr_cli.models.parseq.permutations import (
    additive,
    causal_mask,
    draw_orders,
    order_masks,
    to_tokens,
)
from nordocr_cli.models.registry import build_model
from nordocr_cli.models.weights import load_model, save_weights
from nordocr_cli.profile import load_profile, profile_to_json
from nordocr_cli.runtime.recognizers import open_recognizer
from nordocr_cli.settings import ParseqModel

# Measured on the authors' code: (classes, options) → parameters.
PARAMETERS = [
    (95, {"width": 128, "max_label_length": 25}, 23_832_671),
    (95, {"size": "tiny", "width": 128, "max_label_length": 25}, 6_018_143),
    (126, {"width": 128, "max_label_length": 25}, 23_856_510),
    (126, {}, 23_994_366),
    (126, {"width": 1024, "max_label_length": 256}, 24_289_278),
    (126, {"size": "tiny"}, 6_099_006),
]
SMALL = {"size": "tiny", "width": 16, "max_label_length": 5}


def build(num_classes=126, **options):
    return build_model(ParseqModel(name="parseq", **options), num_classes)


def awake(network, seed=5):
    """Weights far enough from their start that positions, tokens and pixels all matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return awake(build(**SMALL))


def pixels(count, width, seed=1):
    return (
        torch.rand(count, 3, 32, width, generator=torch.Generator().manual_seed(seed)) * 2
        - 1
    )


@pytest.mark.parametrize(("classes", "options", "expected"), PARAMETERS)
def test_number_of_parameters(classes, options, expected):
    with torch.device("meta"):
        network = build(classes, **options)
    assert sum(p.numel() for p in network.parameters()) == expected
    assert len(network.state_dict()) == 175


def test_names_and_shapes_are_those_of_the_released_weights():
    with torch.device("meta"):
        found = {
            key: tuple(t.shape)
            for key, t in build(95, width=128, max_label_length=25).state_dict().items()
        }

    def linear(name, rows, columns):
        return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}

    def norm(name):
        return {f"{name}.weight": (384,), f"{name}.bias": (384,)}

    expected = {
        "pos_queries": (1, 26, 384),
        "encoder.pos_embed": (1, 128, 384),
        "encoder.patch_embed.proj.weight": (384, 3, 4, 8),
        "encoder.patch_embed.proj.bias": (384,),
        "text_embed.embedding.weight": (97, 384),
        **linear("head", 95, 384),
        **norm("encoder.norm"),
        **norm("decoder.norm"),
        **linear("decoder.layers.0.linear1", 1536, 384),
        **linear("decoder.layers.0.linear2", 384, 1536),
    }
    for i in range(12):
        expected |= norm(f"encoder.blocks.{i}.norm1") | norm(f"encoder.blocks.{i}.norm2")
        expected |= linear(f"encoder.blocks.{i}.attn.qkv", 1152, 384) | linear(
            f"encoder.blocks.{i}.attn.proj", 384, 384
        )
        expected |= linear(f"encoder.blocks.{i}.mlp.fc1", 1536, 384) | linear(
            f"encoder.blocks.{i}.mlp.fc2", 384, 1536
        )
    for attention in ("self_attn", "cross_attn"):
        name = f"decoder.layers.0.{attention}"
        expected |= {
            f"{name}.in_proj_weight": (1152, 384),
            f"{name}.in_proj_bias": (1152,),
        } | linear(f"{name}.out_proj", 384, 384)
    for name in ("norm1", "norm2", "norm_q", "norm_c"):
        expected |= norm(f"decoder.layers.0.{name}")
    assert found == expected


def test_classes_of_embedding_head_and_charset_belong_together(network):
    """C + 3 tokens go in, the beginning and padding among them; C + 1 come out. Others are
    refused before a step.
    """
    assert network.head.out_features == NORDIC.num_classes == 126
    assert network.text_embed.embedding.num_embeddings == 128
    with pytest.raises(ArtifactError, match="another charset"):
        require_same_tensors(
            network,
            build(95, **SMALL).state_dict(),
            "other.safetensors",
            "Take those of PARSeq",
        )
    contract = Contract(
        NORDIC,
        load_profile("parseq-32x384").profile.geometry,
        {"name": "parseq", "max_label_length": 128},
    )
    assert contract.decoding == "autoregressive"
    assert contract.out_length(4) == contract.out_length(384) == 129
    classes = contract.to_json()["charset"]
    assert [classes[key] for key in ("end", "begin", "padding", "num_classes")] == [
        0,
        126,
        127,
        126,
    ]


def test_one_token_a_patch_and_none_for_the_class(network):
    """A backbone with a class token has to drop it; this one has none."""
    assert network.encode(pixels(2, 32), None).shape == (2, 8 * 2, 192)


def test_attention_is_torch_s():
    torch.manual_seed(0)
    ours, theirs = (
        Attention(24, 3, 0.0).eval(),
        nn.MultiheadAttention(24, 3, batch_first=True).eval(),
    )
    theirs.load_state_dict(ours.state_dict())
    queries, content, mask = torch.randn(2, 4, 24), torch.randn(2, 4, 24), causal_mask(4)
    expected, _ = theirs(queries, content, content, attn_mask=mask)
    assert torch.allclose(ours(queries, content, additive(mask)), expected, atol=1e-6)


def test_encoder_block_is_torch_s_layer(network):
    block = network.encoder.blocks[0]
    layer = nn.TransformerEncoderLayer(
        192, 3, 768, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
    ).eval()
    ours = block.state_dict()
    names = {
        "self_attn.in_proj_": "attn.qkv.",
        "self_attn.out_proj": "attn.proj",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
    }

    def mine(key):
        return next(
            (key.replace(theirs, own) for theirs, own in names.items() if theirs in key),
            key,
        )

    layer.load_state_dict({key: ours[mine(key)] for key in layer.state_dict()})
    x = torch.randn(2, 7, 192, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(block(x), layer(x), atol=1e-4)


def test_loss_of_all_orders_is_that_of_one_after_the_other(network):
    """Against the definition: each order by itself, weighed by its tokens, the end left out from
    the third order on.
    """
    images, targets, lengths = (
        pixels(2, 32),
        torch.tensor([5, 6, 7, 8, 9, 1, 2]),
        torch.tensor([5, 2]),
    )
    torch.manual_seed(4)
    orders = draw_orders(5, 6)
    torch.manual_seed(4)
    with torch.no_grad():
        found = network.loss(images, None, targets, lengths)
        memory, tokens = network.encode(images, None), to_tokens(targets, lengths, 126)
        given, expected = tokens[:, :-1], tokens[:, 1:].clone()
        total = count = 0
        for number, mask in enumerate(order_masks(orders)):
            if number == 2:
                expected[expected == 0] = 127
            hidden = additive((given == 0) | (given == 127))
            logits = network._decode(
                given, memory, network.pos_queries[:, :6], additive(mask), hidden
            )
            is_target = expected != 127
            total += nn.functional.cross_entropy(
                logits[is_target], expected[is_target], reduction="sum"
            )
            count += int(is_target.sum())
    assert count == 2 * 9 + 4 * 7
    assert math.isclose(float(found), float(total / count), rel_tol=1e-5)


def test_a_position_never_sees_its_own_answer(network):
    """In no order does a changed character change what is predicted in its place."""
    torch.manual_seed(2)
    memory = network.encode(pixels(1, 32), None)
    given = torch.tensor([[126, 5, 6, 7, 8]])
    for mask in order_masks(draw_orders(4, 6)):
        with torch.no_grad():
            before = network._decode(
                given, memory, network.pos_queries[:, :5], additive(mask)
            )
            for place in range(1, 5):
                other = given.clone()
                other[0, place] = 99
                after = network._decode(
                    other, memory, network.pos_queries[:, :5], additive(mask)
                )
                assert torch.equal(before[0, place - 1], after[0, place - 1])
                assert torch.equal(before[0][mask[:, place]], after[0][mask[:, place]])
                assert mask[:, place].all() or not torch.equal(before, after)


@pytest.mark.parametrize("scaled", [False, True])
def test_positions_are_not_scaled_unless_asked(scaled):
    """The reference adds them as they are."""
    network = build(**SMALL, scale_positions=scaled)
    assert torch.allclose(
        network._positions(3),
        network.pos_queries[:, :3] * (math.sqrt(192) if scaled else 1.0),
    )


@pytest.mark.parametrize("decode", ["nar", "ar"])
def test_positions_at_any_width(decode):
    network = build(**SMALL, decode=decode).eval()
    with torch.no_grad():
        for width in (4, 8, 30, 32, 64, 1792):
            assert network(torch.zeros(1, 3, 32, width)).shape == (1, 6, 126)


def test_stretching_is_cv2_s():
    import cv2

    line = np.random.RandomState(1).uniform(-1, 1, (8, 13, 3)).astype(np.float32)
    expected = cv2.resize(line, (40, 8), interpolation=cv2.INTER_LINEAR)
    padded = torch.nn.functional.pad(
        torch.from_numpy(line).permute(2, 0, 1)[None], (0, 7), value=9.0
    )
    for found in (
        stretched_columns(padded[..., :13], None, 40),
        stretched_columns(padded, torch.tensor([13]), 40),
    ):
        assert np.allclose(found[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("decode", ["nar", "ar"])
@pytest.mark.parametrize("padding", [1.0, 7.0])
def test_a_line_reads_in_any_batch_as_alone(network, decode, padding, monkeypatch):
    monkeypatch.setattr(
        network, "options", network.options.model_copy(update={"decode": decode})
    )
    widths, images = [4, 17, 40], pixels(3, 40)
    for i, width in enumerate(widths):
        images[i, :, :, width:] = padding
    with torch.no_grad():
        batched = network(images, torch.tensor(widths))
        for i, width in enumerate(widths):
            assert torch.allclose(
                batched[i], network(images[i : i + 1, :, :, :width])[0], atol=1e-4
            )
        # without widths padding is pixels
        assert (network(images)[0] - batched[0]).abs().max() > 1e-3


@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_reach_every_parameter(bf16):
    torch.manual_seed(0)
    network = build(7, **SMALL)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = network.loss(
            pixels(2, 32),
            torch.tensor([32, 20]),
            torch.tensor([1, 2, 3, 4, 5, 6, 1]),
            torch.tensor([5, 2]),
        )
    loss.backward()
    idle = [
        key
        for key, p in network.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert not idle
    grads = network.text_embed.embedding.weight.grad
    assert grads[8].abs().max() == 0  # padding is hidden wherever it stands


def test_learns_eight_lines_and_reads_them_in_every_way(monkeypatch):
    """By heart: left to right, at once and read over must all write the same eight labels."""
    torch.manual_seed(1)
    network = build(9, **SMALL, dropout=0.0)
    images, lengths = pixels(8, 16), torch.tensor([5, 3, 1, 4, 2, 5, 3, 4])
    targets = torch.randint(1, 9, (int(lengths.sum()),))
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-4, weight_decay=0.0)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 5e-4 * min(1, (step + 1) / 10)
        loss = network.loss(images, None, targets, lengths)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 20.0)
        optimizer.step()
        if loss < 0.05:
            break
    expected = [labels.tolist() for labels in targets.split(lengths.tolist())]
    network.eval()
    for decode, refine in (("ar", 0), ("ar", 1), ("nar", 0), ("nar", 2)):
        monkeypatch.setattr(
            network,
            "options",
            network.options.model_copy(update={"decode": decode, "refine": refine}),
        )
        with torch.no_grad():
            best = network(images).argmax(-1).tolist()
        assert [row[: row.index(0)] if 0 in row else row for row in best] == expected, (
            decode,
            refine,
        )


def saved(network, folder, **sets):
    profile = load_profile(
        "parseq-32x384",
        [
            *(
                f"model.{key}={value!r}"
                if isinstance(value, str)
                else f"model.{key}={value}"
                for key, value in SMALL.items()
            ),
            "geometry.max_width=16",
            "augment.join=0",
            *(f"model.{key}={value!r}" for key, value in sets.items()),
        ],
    ).profile
    table = profile_to_json(profile)
    save_weights(
        folder / "best.safetensors",
        network.state_dict(),
        Contract(NORDIC, profile.geometry, table["model"], table),
    )
    return folder


def test_round_trip(network, tmp_path):
    loaded, _ = load_model(saved(network, tmp_path))
    assert all(
        torch.equal(loaded.state_dict()[key], tensor)
        for key, tensor in network.state_dict().items()
    )


def first_margins(network, crops):
    """By how much the end is behind the best character at the first position of each crop."""
    with torch.no_grad():
        images = [
            torch.from_numpy(crop / 127.5 - 1).float().permute(2, 0, 1)[None]
            for crop in crops
        ]
        logits = torch.cat([network(image)[:, 0] for image in images])  # (crops, C)
    return logits[:, 1:].max(-1).values - logits[:, 0]


@pytest.mark.parametrize(("decode", "refine"), [("nar", 2), ("ar", 0)])
def test_export_writes_as_many_positions_for_every_image(network, tmp_path, decode, refine):
    """F13: a trace of the loop that stops early writes as many characters for ever as the example's
    image had. Here some images end before others.
    """
    crops = [
        np.random.RandomState(seed).randint(0, 256, (32, 4 * seed, 3), np.uint8)
        for seed in (1, 2, 3, 4)
    ]
    if decode == "ar":
        network = copy.deepcopy(network)
        network.options = network.options.model_copy(
            update={"decode": decode, "refine": refine}
        )
        # Zeros, as the example of the trace.
        crops.append(np.full((32, 16, 3), 127, np.uint8))
        network.head.bias.data[0] += first_margins(network, crops).median() + 1e-3
        behind = first_margins(network, crops)
        assert behind.min() < 0 < behind.max()  # some lines end at once, others do not
    folder = saved(network, tmp_path, decode=decode, refine=refine)
    plan = replace(
        plan_export(folder, tmp_path / "m.onnx"), shapes=((1, 4), (2, 8), (5, 16))
    )
    exported = export(plan)
    assert {file.file.precision for file in exported.files} == {"fp32", "fp16"}
    assert all(
        file.file.opset == 17 and "→" in file.simplification for file in exported.files
    )
    assert exported.files[0].parity.worst.max_diff < 1e-4
    by_torch, by_onnx = (
        open_recognizer(path, device="cpu").recognize(crops)
        for path in (folder, tmp_path / "m.onnx")
    )
    assert [reading.text for reading in by_onnx] == [reading.text for reading in by_torch]
    assert (
        onnx.load(tmp_path / "m.onnx")
        .graph.output[0]
        .type.tensor_type.shape.dim[1]
        .dim_value
        == 6
    )


def test_beam_search_is_refused(network, tmp_path):
    with pytest.raises(UsageError, match="autoregressive"):
        open_recognizer(saved(network, tmp_path), device="cpu", decoder="beam")


def test_saved_weights_write_as_they_are_asked_to(network, tmp_path):
    """`decode` and `refine` are no part of the weights: each way gives the texts of a network that
    was built so.
    """
    folder, crops = (
        saved(network, tmp_path),
        [
            np.random.RandomState(seed).randint(0, 256, (32, 16, 3), np.uint8)
            for seed in range(9)
        ],
    )
    found = {}
    for decoder, order, refine in (
        ("nar", "nar", 0),
        ("nar+2", "nar", 2),
        ("ar", "ar", 0),
        ("ar+1", "ar", 1),
    ):
        built = copy.deepcopy(network)
        built.options = built.options.model_copy(update={"decode": order, "refine": refine})
        with torch.inference_mode():
            classes = (
                built(
                    torch.stack(
                        [torch.from_numpy(c).permute(2, 0, 1) / 127.5 - 1 for c in crops]
                    )
                )
                .argmax(-1)
                .tolist()
            )
        expected = [
            "".join(NORDIC.decode(row[: row.index(0)] if 0 in row else row))
            for row in classes
        ]
        found[decoder] = [
            reading.text
            for reading in open_recognizer(folder, device="cpu", decoder=decoder).recognize(
                crops
            )
        ]
        assert found[decoder] == expected
    assert len({tuple(texts) for texts in found.values()}) == 4
    with pytest.raises(UsageError, match=r"unknown decoder 'ar\+x': did you mean 'ar'"):
        open_recognizer(folder, device="cpu", decoder="ar+x")


def test_ways_of_writing_are_only_for_weights_of_parseq(tiny_checkpoint, tiny_onnx):
    with pytest.raises(
        UsageError,
        match=r"ar and nar are decoding modes of PARSeq, and this is svtrv2-nano",
    ):
        open_recognizer(tiny_checkpoint, device="cpu", decoder="ar")
    with pytest.raises(
        UsageError, match=r"was fixed at export; --decoder nar\+2 is for a run"
    ):
        open_recognizer(tiny_onnx, device="cpu", decoder="nar+2")
    with pytest.raises(UsageError, match="tesseract has its own decoding"):
        open_recognizer("tesseract", decoder="ar")


@pytest.mark.parametrize("options", [{"width": 100}, {"height": 30}, {"permutations": 5}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValidationError, match="multiples of 4, 8 and 2"):
        ParseqModel(name="parseq", **options)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["geometry.max_width=320"], "learned position"),
        (["model.max_label_length=20"], "augment.join"),
    ],
)
def test_profiles_that_contradict_themselves_are_refused(sets, words):
    with pytest.raises(UsageError, match=words):
        load_profile("parseq-32x384", sets)
