"""The branch that guides SVTRv2's training, and the questions that it answers.

With NORDOCR_OPENOCR=FOLDER, a checkout of github.com/Topdu/OpenOCR, its loss is compared with that
of the authors' code.
"""

import os

import pytest
import torch

from nordocr_cli.charset import NORDIC
from nordocr_cli.errors import UsageError
from nordocr_cli.models.guidance import Guidance, questions
from nordocr_cli.models.registry import build_model
from nordocr_cli.profile import load_profile
from nordocr_cli.settings import SvtrV2Model

OPENOCR = os.environ.get("NORDOCR_OPENOCR")
TEXTS = ["ab", "kvittering", "konto 7"]


def batch(texts):
    return torch.tensor([c for text in texts for c in NORDIC.encode(text)]), torch.tensor(
        [len(text) for text in texts]
    )


def shown(context):
    """A context as text: ‹ and › are the borders."""
    return "".join({126: "‹", 127: "›"}.get(c) or NORDIC.characters[c - 1] for c in context)


def contexts(texts):
    """(context, answer) of each question about the first text, by direction; the answer · is the
    end of the text.
    """
    torch.manual_seed(4)
    found = questions(*batch(texts), 126)
    pairs = [
        (shown(c), NORDIC.characters[a - 1] if a else "·") if a != -100 else None
        for c, a in zip(found.contexts[0].tolist(), found.answers[0].tolist(), strict=True)
    ]
    half = len(pairs) // 2
    return [p for p in pairs[:half] if p], [p for p in pairs[half:] if p]


def test_short_texts_are_asked_as_they_are():
    following, before = contexts(TEXTS)
    assert following == [("‹‹‹‹‹", "a"), ("‹‹‹‹a", "b"), ("‹‹‹ab", "·")]
    assert before == [("ab›››", "·"), ("b››››", "a"), ("›››››", "b")]


def test_full_contexts_are_asked_twice_with_one_character_replaced():
    text = "kvittering"
    following, before = contexts([text, "ab"])
    padded = "‹" * 5 + text
    assert following[:5] == [(padded[i : i + 5], text[i]) for i in range(5)]
    for half, context_of in (
        (following, lambda i: text[i - 5 : i]),
        (before, lambda i: text[i : i + 5]),
    ):
        answer_of = (
            (lambda i: (text + "·")[i])
            if half is following
            else (lambda i: ("·" + text)[i])
        )
        places = range(5, 11) if half is following else range(6)
        expected = sorted((context_of(i), answer_of(i)) for i in places for _ in range(2))
        full = [pair for pair in half if "‹" not in pair[0] and "›" not in pair[0]]
        assert len(full) == len(expected)
        for context, answer in full:
            near = [
                w
                for w, a in expected
                if a == answer and sum(x != y for x, y in zip(w, context, strict=True)) <= 1
            ]
            assert near, (context, answer)
    assert len({context for context, _ in following[5:]}) > 6  # the two copies differ


def test_number_of_parameters():
    assert sum(p.numel() for p in Guidance(384, 126).parameters()) == 1_289_982


@pytest.fixture(scope="module")
def guided():
    torch.manual_seed(1)
    network = build_model(SvtrV2Model(name="svtrv2", size="tiny", drop_path=0), 126)
    return network, Guidance.create(network, 126)


def test_gradient_reaches_every_parameter(guided):
    network, guidance = guided
    targets, lengths = batch(TEXTS)
    logits, loss = guidance(
        network, torch.rand(3, 3, 32, 96), torch.tensor([40, 96, 80]), targets, lengths
    )
    assert logits.shape == (3, 24, 126)
    (loss + logits.sum()).backward()
    silent = [
        name
        for module in guided
        for name, p in module.named_parameters()
        if p.grad is None or not p.grad.abs().sum()
    ]
    assert silent == []


def test_padding_does_not_change_the_loss(guided):
    network, guidance = guided
    network.eval()
    image, (targets, lengths) = torch.rand(1, 3, 32, 64), batch(["konto"])
    with torch.no_grad():
        torch.manual_seed(3)
        alone = guidance(network, image, torch.tensor([64]), targets, lengths)[1]
        torch.manual_seed(3)
        padded = guidance(
            network,
            torch.nn.functional.pad(image, (0, 64), value=1.0),
            torch.tensor([64]),
            targets,
            lengths,
        )[1]
    network.train()
    assert torch.allclose(alone, padded, atol=1e-5)


@pytest.mark.parametrize(
    ("profile", "sets"), [("svtrv2-1024", ["model.head=ctc"]), ("svtr-32x128", [])]
)
def test_only_svtrv2_with_rows_is_guided(profile, sets):
    with pytest.raises(UsageError, match=r"train\.guidance = 'smtr' is for"):
        load_profile(profile, ["train.guidance=smtr", *sets])
    with pytest.raises(TypeError, match="no guidance for Linear"):
        Guidance.create(torch.nn.Linear(1, 1), 126)


THEIRS = {
    "char_embed.embedding": "embedding",
    "cmff_decoder.0.normq1": "token_norm",
    "cmff_decoder.0.normkv1": "context_norm",
    "cmff_decoder.0.images_to_question_cross_attn": "to_context",
    "cmff_decoder.0.normq2": "query_norm",
    "cmff_decoder.0.normkv2": "image_norm",
    "cmff_decoder.0.question_to_images_cross_attn": "to_image",
    "norm_pred": "answer_norm",
    "ques1_head": "classifier",
}


@pytest.mark.skipif(
    not OPENOCR, reason="NORDOCR_OPENOCR names no checkout of Topdu/OpenOCR"
)
def test_the_loss_is_the_authors(monkeypatch):
    monkeypatch.syspath_prepend(OPENOCR)
    from openrec.modeling.decoders.smtr_decoder import SMTRDecoder

    torch.manual_seed(8)
    theirs = SMTRDecoder(
        in_channels=64, out_channels=129, num_layer=1, ds=True, sub_str_len=5
    )
    ours = Guidance(64, 126)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.2)
    state = {}
    for name, tensor in theirs.state_dict().items():
        for prefix, mine in THEIRS.items():
            if name.startswith(prefix + "."):
                state[mine + name.removeprefix(prefix)] = tensor
    named = theirs.state_dict()
    state["tokens"] = torch.cat([named["next_token"], named["pre_token"]])[:, 0]
    state["prompts"] = torch.cat([named["prompt_next_embed"], named["prompt_pre_embed"]])[
        :, 0
    ]
    ours.load_state_dict(state)
    found = questions(*batch(TEXTS), 126)
    features = torch.randn(3, 4, 10, 64)  # (N, H, T, C)
    (next_subs, pre_subs), (next_label, pre_label) = (
        found.contexts.chunk(2, 1),
        found.answers.chunk(2, 1),
    )
    count = torch.tensor([next_subs.shape[1]])

    def ignore(label):
        return label.masked_fill(label == -100, 128)

    expected = theirs.train()(
        features.flatten(1, 2),
        [None, next_subs, ignore(next_label), count, pre_subs, ignore(pre_label), count],
    )[0]["loss"]
    assert torch.allclose(ours.answer_loss(features, None, found), expected, atol=1e-5)
