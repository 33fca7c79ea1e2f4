"""TrOCR on a tiny random network: what goes in, what trains, what is saved, what is refused."""

import copy
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from nordocr_cli.charset import NORDIC
from nordocr_cli.core.train.plan import plan_train
from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.data.batches import Batch
from nordocr_cli.errors import ArtifactError, MissingBackendError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.models.registry import build_model
from nordocr_cli.models.trocr.folder import read_folder
from nordocr_cli.models.trocr.network import difference, match_layers, stretched_lines
from nordocr_cli.profile import load_profile
from nordocr_cli.settings import Train, TrocrModel
from nordocr_cli.training.step import Stepper, checkpoint_blocks

TEXTS = ("Öre 12", "å")


def table(folder, **changes):
    lengths = {"max_target_length": 64, "generation_max_length": 24}
    return TrocrModel(name="trocr", pretrained=str(folder), **{**lengths, **changes})


def build(folder, **changes):
    torch.manual_seed(3)
    return build_model(table(folder, **changes), NORDIC.num_classes, NORDIC)


@pytest.fixture
def images():
    """Two lines in one batch (2, 3, 32, 120), the second 48 px wide."""
    images = torch.rand(2, 3, 32, 120, generator=torch.Generator().manual_seed(1)) * 2 - 1
    images[1, :, :, 48:] = 1.0
    return images, torch.tensor([120, 48])


def targets(texts=TEXTS):
    classes = [NORDIC.encode(text) for text in texts]
    return torch.tensor([c for own in classes for c in own]), torch.tensor(
        [len(own) for own in classes]
    )


def stirred(network):
    """The network with adapters that change something: they begin as nothing."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return network


def stepper_of(network):
    return Stepper(
        network,
        None,
        Geometry(),
        Train(lr=0.02, weight_decay=0.0),
        torch.device("cpu"),
        "fp32",
    )


def test_a_label_begins_with_the_end_token_and_ends_with_it(tiny_trocr):
    network = build(tiny_trocr)
    given, expected = network.shifted(TEXTS)
    start, pad, end = network.pieces.start, network.pieces.pad, network.pieces.end
    assert (start, pad, end) == (
        2,
        1,
        2,
    )  # not <s>, 0: the released networks begin with </s>
    first = network.pieces.encode(TEXTS)[0]
    assert expected[0].tolist() == first
    assert first[-1] == end
    assert 0 not in first
    assert given[0].tolist() == [start, *first[:-1]]
    short = len(network.pieces.encode(TEXTS)[1])
    assert expected[1, short:].tolist() == [-100] * (len(first) - short)
    assert -100 not in given


def test_the_loss_is_transformers_own(tiny_trocr, images):
    network = build(tiny_trocr).eval()
    squares = stretched_lines(*images, (32, 32))
    theirs = network.network(pixel_values=squares, labels=network.shifted(TEXTS)[1]).loss
    assert network.loss(*images, *targets()).item() == pytest.approx(
        theirs.item(), rel=1e-5
    )


@pytest.mark.parametrize("width", [20, 33, 100])
def test_a_line_is_stretched_as_torch_and_pillow_do(width):
    image = torch.from_numpy(
        np.random.default_rng(1).integers(0, 256, (1, 3, 40, 100), np.uint8)
    ).float()
    mine = stretched_lines(image, torch.tensor([width]), (32, 32))
    torch.testing.assert_close(
        mine, F.interpolate(image[..., :width], (32, 32), mode="bilinear", antialias=True)
    )
    pixels = image[0, :, :, :width].permute(1, 2, 0).byte().numpy()
    pillow = np.asarray(
        Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR), np.float32
    )
    # Pillow rounds to whole levels, twice
    assert np.abs(mine[0].permute(1, 2, 0).numpy() - pillow).max() < 1.01


def test_neither_padding_nor_neighbours_change_a_line(tiny_trocr, images):
    network = stirred(build(tiny_trocr)).eval()
    pixels, widths = images
    alone = network.read(pixels[1:, :, :, :48], torch.tensor([48]))[0]
    together = network.read(pixels, widths)[1]
    assert together.text == alone.text
    assert together.confidence == pytest.approx(alone.confidence, rel=1e-4)
    tokens = network.shifted(("abc", "abc"))[0]
    torch.testing.assert_close(
        network(pixels, widths, tokens)[1:],
        network(pixels[1:, :, :, :48], None, tokens[1:]),
    )


def test_the_table_counts_each_layer_once(tiny_trocr):
    plain = build(tiny_trocr, lora_rank=0).network
    model = table(
        tiny_trocr,
        lora_rank=4,
        lora_target_modules=["decoder.*.q_proj", "q_proj", "out_proj"],
    )
    rows, names = match_layers(plain, model)
    assert [(row.encoder, row.decoder) for row in rows] == [(0, 4), (2, 0), (0, 4)]
    assert [row.parameters for row in rows] == [4 * 4 * 64, 2 * 4 * 64, 4 * 4 * 64]
    assert len(names) == len(set(names)) == 10
    network = build(tiny_trocr, lora_rank=4, lora_target_modules=model.lora_target_modules)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == sum(
        row.parameters for row in rows
    )
    assert "0 layers of the encoder,    4 of the decoder" in network.lines()[0]


@pytest.mark.parametrize("pattern", ["query", "layernorm_embedding", "output_projection"])
def test_a_target_that_matches_nothing_is_refused(tiny_trocr, pattern):
    with pytest.raises(
        UsageError,
        match=rf"'{pattern}' matches no linear layer.*encoder has .*o_proj.*decoder .*out_proj",
    ):
        build(tiny_trocr, lora_target_modules=["q_proj", pattern])


def test_only_the_adapters_are_saved_and_they_bring_the_outputs_back(tiny_trocr, images):
    network = stirred(build(tiny_trocr)).eval()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert all(".lora_" in name for name in state)
    # as an average of weights is saved
    assert copy.deepcopy(network).requires_grad_(False).state_dict().keys() == state.keys()
    torch.manual_seed(9)
    again = build(tiny_trocr).eval()
    tokens = network.shifted(TEXTS)[0]
    assert not torch.equal(again(*images, tokens), network(*images, tokens))
    again.load_state_dict(state)
    assert torch.equal(again(*images, tokens), network(*images, tokens))
    with pytest.raises(RuntimeError, match="Missing key"):
        again.load_state_dict(dict(list(state.items())[1:]))


def test_rank_0_trains_and_saves_everything_once(tiny_trocr):
    network = build(tiny_trocr, lora_rank=0)
    state = network.state_dict()
    assert sum(t.numel() for t in state.values()) == sum(
        p.numel() for p in network.parameters() if p.requires_grad
    )
    # the head shares the embeddings' weights
    assert len({t.data_ptr() for t in state.values()}) == len(state)
    network.load_state_dict(state)


def batch(images, texts=TEXTS):
    pixels, widths = images
    classes, lengths = targets(texts)
    return Batch(
        images=((pixels + 1) * 127.5).byte(),
        widths=widths,
        targets=classes,
        target_lengths=lengths,
        counts=torch.ones(2, dtype=torch.int64),
        read_rows=tuple,
        shared_lines=2,
        shared_characters=int(lengths.sum()),
    )


def test_training_changes_the_adapters_alone_and_the_loss_falls(tiny_trocr, images):
    network = build(
        tiny_trocr,
        lora_rank=8,
        lora_dropout=0.0,
        lora_target_modules=["encoder", "decoder"],
    ).train()
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    stepper = stepper_of(network)
    losses = [stepper.step([batch(images)], 0.02).loss for _ in range(30)]
    assert (
        losses[-1] < 0.92 * losses[0]
    )  # the frozen head of a random network allows no more
    changed = {
        name
        for name, parameter in network.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    assert changed == network.own
    assert all(".lora_" in name for name in changed)


@pytest.mark.parametrize("rank", [0, 8])
def test_checkpointing_gives_the_same_gradients(tiny_trocr, images, rank):
    plain = stirred(build(tiny_trocr, lora_rank=rank, lora_dropout=0.0)).train()
    again = copy.deepcopy(plain)
    assert checkpoint_blocks(again) == 4  # two layers of the encoder and two of the decoder
    for network in (plain, again):
        network.loss(*images, *targets()).backward()
    for (name, one), (_, other) in zip(
        plain.named_parameters(), again.named_parameters(), strict=True
    ):
        if one.requires_grad:
            assert one.grad is not None, name
            torch.testing.assert_close(other.grad, one.grad)


def test_merged_it_computes_the_same(tiny_trocr):
    network = stirred(build(tiny_trocr)).eval()
    merged = network.merged()
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert difference(network, merged) < 1e-5
    untouched = build(tiny_trocr, lora_rank=0).network
    assert difference(network, untouched) > 0.01


def test_a_reading_is_the_best_token_each_time_and_its_confidence_their_mean(
    tiny_trocr, images
):
    network = stirred(build(tiny_trocr, generation_max_length=8)).eval()
    tokens, chances = [network.pieces.start], []
    with torch.no_grad():
        while len(tokens) < 8 and (len(tokens) == 1 or tokens[-1] != network.pieces.end):
            best = (
                network(images[0][:1], images[1][:1], torch.tensor([tokens]))[0, -1]
                .softmax(0)
                .max(0)
            )
            tokens, chances = [*tokens, int(best.indices)], [*chances, float(best.values)]
    reading = network.read(*images)[0]
    assert reading.text == network.pieces.decode(tokens[1:])
    assert reading.confidence == pytest.approx(
        np.exp(np.mean(np.log(chances))) if reading.text else 0.0, rel=1e-4
    )


def test_a_beam_is_scored_as_transformers_scores_it(tiny_trocr, images):
    from transformers import GenerationConfig

    network = stirred(build(tiny_trocr)).eval()
    settings = GenerationConfig(
        max_length=24,
        num_beams=4,
        output_scores=True,
        return_dict_in_generate=True,
        decoder_start_token_id=2,
        pad_token_id=1,
        eos_token_id=2,
    )
    theirs = network.network.generate(
        pixel_values=stretched_lines(*images, (32, 32)), generation_config=settings
    )
    mine = network.read(*images, beam_width=4)
    assert [line.text for line in mine] == [
        network.pieces.decode(ids.tolist()) for ids in theirs.sequences
    ]
    assert [line.confidence for line in mine] == pytest.approx(
        theirs.sequences_scores.exp().tolist(), rel=1e-3
    )


def test_the_folders_own_settings_for_generation_are_not_used(tiny_trocr, images, tmp_path):
    folder = shutil.copytree(tiny_trocr, tmp_path / "trocr")
    settings = json.loads((folder / "generation_config.json").read_text())
    settings |= {
        "no_repeat_ngram_size": 2,
        "max_length": 5,
        "num_beams": 3,
        "length_penalty": 2.0,
    }
    (folder / "generation_config.json").write_text(json.dumps(settings))
    assert build(folder).eval().read(*images) == build(tiny_trocr).eval().read(*images)


def test_what_is_loaded_is_said(tiny_trocr, heard):
    build(tiny_trocr).load_pretrained(heard)
    said = "\n".join(heard.notes)
    assert "lines become 32x32 px, at most 64 tokens; begin 2, pad 1, end 2" in said
    assert "writes all 125 characters of charset 'nordic'" in said
    assert "LoRA q_proj      2 layers of the encoder,    4 of the decoder" in said
    assert not heard.warnings


def test_characters_that_the_tokenizer_loses_are_counted_and_named(
    tiny_trocr, tmp_path, heard
):
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    folder = shutil.copytree(tiny_trocr, tmp_path / "trocr")
    characters = NORDIC.characters[:62] + " "
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3} | {
        c: 4 + i for i, c in enumerate(characters)
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.decoder = normalizers.NFKC(), decoders.Fuse()
    special = {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    network = build(folder)
    network.load_pretrained(heard)
    assert "CANNOT write 62 of the 125 characters" in heard.warnings[0]
    assert "'Å' (U+00C5 LATIN CAPITAL LETTER A WITH RING ABOVE)" in heard.warnings[0]
    assert "cannot be written" in network.label_problem("År")
    assert not build(tiny_trocr).label_problem("År")
    assert "needs 11 tokens, model.max_target_length is 8" in build(
        tiny_trocr, max_target_length=8
    ).label_problem("1234567890")


def damaged(folder, tmp_path, how):
    from transformers import AutoTokenizer

    copied = shutil.copytree(folder, tmp_path / "damaged")
    config = json.loads((copied / "config.json").read_text())
    match how:
        case "no config":
            (copied / "config.json").unlink()
        case "no weights":
            (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
        case "bert":
            config = {"model_type": "bert"}
        case "donut":
            config["encoder"]["model_type"] = "donut-swin"
        case "tensor missing":
            config["decoder"]["decoder_layers"] = 3
        case "layer too many":
            config["decoder"]["decoder_layers"] = 1
        case "another shape":
            config["decoder"]["decoder_ffn_dim"] = 48
        case "large tokenizer":
            tokenizer = AutoTokenizer.from_pretrained(copied)
            tokenizer.add_tokens(["<extra>"])
            tokenizer.save_pretrained(copied)
        case "no tokenizer":
            (copied / "tokenizer.json").unlink()
        case "no processor":
            (copied / "preprocessor_config.json").unlink()
        case "cut short":
            (copied / "model.safetensors").write_bytes(
                (copied / "model.safetensors").read_bytes()[:5000]
            )
    if how != "no config":
        (copied / "config.json").write_text(json.dumps(config))
    return copied


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no config", "no config.json"),
        (
            "no weights",
            "pytorch_model.bin is a pickle, which can run code, and is not read",
        ),
        ("bert", r"holds another network \('bert'\)"),
        ("donut", r"another network \('donut-swin with trocr'\)"),
        ("tensor missing", r"26 tensors are missing, e.g. decoder.model.decoder.layers.2"),
        ("layer too many", r"26 tensors are of layers that config.json does not have"),
        (
            "another shape",
            r"6 tensors are of another shape, e.g. decoder.model.decoder.layers.0.fc1.bias",
        ),
        ("large tokenizer", "tokenizer has 281 tokens, the decoder 280"),
        ("no tokenizer", "no readable tokenizer"),
        ("no processor", "no preprocessor_config.json"),
        ("cut short", "cannot be loaded"),
    ],
)
def test_a_folder_that_is_no_whole_trocr_is_refused(tiny_trocr, tmp_path, how, says):
    with pytest.raises(ArtifactError, match=says):
        build(damaged(tiny_trocr, tmp_path, how))


def test_what_is_not_there_is_refused(tiny_trocr):
    with pytest.raises(UsageError, match=r"no folder .*nowhere, and no name on the hub"):
        build("/nowhere")
    with pytest.raises(UsageError, match="is empty"):
        build("")
    with pytest.raises(
        MissingBackendError, match=r"hf download nobody/nothing --local-dir trocr"
    ):
        build("nobody/nothing")
    with pytest.raises(ArtifactError, match="another pretrained network"):
        build(tiny_trocr, pretrained_sha256="0" * 64)


@pytest.mark.parametrize("key", ["max_target_length", "generation_max_length"])
def test_lengths_beyond_the_positions_are_refused(tiny_trocr, key):
    with pytest.raises(UsageError, match=rf"model.{key} 65 is beyond the 64 positions"):
        build(tiny_trocr, **{key: 65})


def test_another_normalization_is_refused(tiny_trocr):
    read_folder(tiny_trocr).require_geometry(Geometry())
    with pytest.raises(UsageError, match="normalized as 'symmetric'"):
        read_folder(tiny_trocr).require_geometry(Geometry(normalization="imagenet"))


@pytest.mark.parametrize("library", ["transformers", "peft"])
def test_without_the_extra_the_install_line_is_said(tiny_trocr, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingBackendError, match=r"pip install .*\[trocr\]") as caught:
        build(tiny_trocr)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("train.trainable=['decoder']", "train.trainable must be empty"),
        ("augment.join=0.1", "augment.join must be 0"),
        ("model.lora_target_modules=[]", "lora_target_modules is empty"),
        ("model.lora_rnk=4", "did you mean 'lora_rank'"),
    ],
)
def test_profiles_that_cannot_be_are_refused(change, says):
    with pytest.raises(UsageError, match=says):
        load_profile("trocr-lora", [change])


@pytest.fixture
def with_cuda(monkeypatch):
    """Let quantized networks be built here: bitsandbytes has CPU kernels for tests like these."""
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(
        "nordocr_cli.models.trocr.network.require_quantization", lambda _: None
    )


@pytest.mark.parametrize(("load_in", "bytes_each"), [("8bit", 1.0), ("4bit", 0.5)])
def test_quantized_weights_stay_and_the_adapters_on_them_learn(
    tiny_trocr, images, with_cuda, load_in, bytes_each
):
    network = build(tiny_trocr, load_in=load_in, lora_rank=4, lora_dropout=0.0).train()
    frozen = {
        name: parameter.data.clone()
        for name, parameter in network.named_parameters()
        if not parameter.requires_grad
    }
    packed = dict(network.named_parameters())[
        "network.base_model.model.decoder.model.decoder.layers.0.fc1.weight"
    ]
    assert packed.numel() * packed.element_size() == 64 * 32 * bytes_each
    plain = build(tiny_trocr, lora_rank=4)
    assert network.lines() == plain.lines()  # parameters are counted, not their bytes
    stepper = stepper_of(network)

    losses = [stepper.step([batch(images)], 0.02).loss for _ in range(20)]

    assert losses[-1] < 0.97 * losses[0]
    after = dict(network.named_parameters())
    assert all(torch.equal(after[name].data, before) for name, before in frozen.items())
    assert all(".lora_" in name for name in network.state_dict())


def test_adapters_of_a_quantized_training_are_read_in_full_precision(
    tiny_trocr, images, with_cuda
):
    trained = stirred(build(tiny_trocr, load_in="4bit"))
    reader = build_model(trained.options, NORDIC.num_classes, NORDIC, tiny_trocr)

    reader.load_state_dict(trained.state_dict())

    full = build(tiny_trocr)
    full.load_state_dict(trained.state_dict())
    tokens = full.shifted(TEXTS)[0]
    with torch.no_grad():
        assert torch.equal(reader.eval()(*images, tokens), full.eval()(*images, tokens))


def test_quantized_weights_are_refused_without_cuda_and_without_adapters(tiny_trocr):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(MissingBackendError, match=r"no CUDA device.*load_in=fp32"):
        build(tiny_trocr, load_in="4bit")
    resolved = load_profile(
        "trocr-lora", ["model.load_in=8bit", "model.pretrained=microsoft/trocr-x"]
    )
    with pytest.raises(UsageError, match=r"--device cpu: model\.load_in = '8bit'"):
        plan_train(resolved, TrainRequest(device="cpu"))
    with pytest.raises(UsageError, match="needs model.lora_rank above 0"):
        load_profile("trocr-lora", ["model.load_in=4bit", "model.lora_rank=0"])
