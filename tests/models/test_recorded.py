"""SVTR, SVTRv2 and the guidance branch give the recorded answers of their authors' code (OpenOCR
ae934e5).

golden/openocr.json holds, for the weights and images that `filled` and `image` of conftest.py make
anywhere, the first classes of every third frame. So equality is seen where OpenOCR is not
installed. With NORDOCR_OPENOCR=FOLDER, a checkout of github.com/Topdu/OpenOCR with its
requirements, its code answers again and must say the same; with NORDOCR_RECORD=1 beside it the file
is written again:

    NORDOCR_OPENOCR=../OpenOCR NORDOCR_RECORD=1 python -m pytest tests/models/test_recorded.py
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from nordocr_cli.models.guidance import Guidance, Questions
from nordocr_cli.models.registry import build_model
from nordocr_cli.settings import SvtrModel, SvtrV2Model

OPENOCR, RECORD = os.environ.get("NORDOCR_OPENOCR"), os.environ.get("NORDOCR_RECORD")
FILE = Path(__file__).parents[1] / "golden" / "openocr.json"
CLASSES, EVERY = 6, 3  # what is kept of an answer
WITHIN = 1e-5  # of the greatest number of an answer


def svtr(size, window, width, channels):
    return SvtrModel(
        name="svtr",
        size=size,
        local_window=window,
        positions=(8, width // 4),
        out_channels=channels,
    )


NETWORKS = {
    f"svtrv2 {size} {head} {width}": (
        SvtrV2Model(name="svtrv2", size=size, head=head),
        width,
    )
    for size, head, width in (
        ("tiny", "rctc", 64),
        ("tiny", "rctc", 131),
        ("tiny", "ctc", 64),
        ("tiny", "ctc", 131),
        ("small", "rctc", 64),
        ("base", "rctc", 64),
        ("base", "ctc", 64),
    )
} | {
    f"svtr {size} {window[0]}x{window[1]} {width}": (
        svtr(size, window, width, channels),
        width,
    )
    for size, window, width, channels in (
        ("tiny", (7, 11), 128, 192),
        ("tiny", (7, 7), 200, 192),
        ("small", (7, 11), 128, 192),
        ("base", (7, 11), 128, 256),
        ("large", (7, 11), 160, 384),
    )
}
# OpenOCR's svtr_base_ctc and svtr_base_rctc
NETWORKS |= {
    f"svtr base-conv {head} 128": (SvtrModel(name="svtr", size="base-conv", head=head), 128)
    for head in ("ctc", "rctc")
}
GUIDANCE = "guidance"

# Our names of the branch's tensors, and the authors'.
THEIRS = {
    "embedding": "char_embed.embedding",
    "token_norm": "cmff_decoder.0.normq1",
    "context_norm": "cmff_decoder.0.normkv1",
    "to_context": "cmff_decoder.0.images_to_question_cross_attn",
    "query_norm": "cmff_decoder.0.normq2",
    "image_norm": "cmff_decoder.0.normkv2",
    "to_image": "cmff_decoder.0.question_to_images_cross_attn",
    "answer_norm": "norm_pred",
    "classifier": "ques1_head",
}


@pytest.fixture(scope="module")
def recorded():
    return json.loads(FILE.read_text()) if FILE.is_file() else {}


def require_same(found, expected):
    """Compare nested lists of numbers by the greatest of them."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= WITHIN * max(1.0, np.abs(expected).max())


def kept(logits):
    """What is recorded of logits (1, T, C)."""
    return logits[0, ::EVERY, :CLASSES].tolist()


@pytest.fixture
def features_and_questions():
    """Features (2, 4, 10, 64) and questions about them, borders, ends and questions that are none
    among them.
    """
    random = np.random.RandomState(11)
    features = torch.from_numpy(random.standard_normal((2, 4, 10, 64))).float()
    contexts = random.randint(1, 126, (2, 12, 5))
    contexts[:, 0], contexts[:, 1, :3] = 126, 126  # left of the text
    contexts[:, 11], contexts[:, 10, 2:] = 127, 127  # right of it
    answers = random.randint(0, 126, (2, 12))
    answers[0, 3], answers[1, [2, 8, 9]] = -100, -100
    return features.requires_grad_(), Questions(
        torch.from_numpy(contexts), torch.from_numpy(answers)
    )


def answer_of(loss, features):
    """What is recorded of a guidance loss: itself, and how it depends on some of the features."""
    (slope,) = torch.autograd.grad(loss, features)
    # numbers of one size
    return [
        [float(loss.detach())],
        (slope[:, :, ::EVERY, :CLASSES].flatten() * 1e4).tolist(),
    ]


@pytest.mark.parametrize("case", NETWORKS)
def test_logits_are_those_recorded_of_the_authors_code(case, recorded, filled, image):
    model, width = NETWORKS[case]
    with torch.no_grad():
        require_same(
            kept(filled(build_model(model, 126)).eval()(image(width))), recorded[case]
        )


def test_the_guidance_loss_is_that_recorded_of_the_authors_code(
    recorded, filled, features_and_questions
):
    with torch.no_grad():
        ours = filled(Guidance(64, 126))
    features, questions = features_and_questions
    for found, expected in zip(
        answer_of(ours.answer_loss(features, None, questions), features),
        recorded[GUIDANCE],
        strict=True,
    ):
        require_same(found, expected)


@pytest.mark.skipif(
    not OPENOCR, reason="NORDOCR_OPENOCR names no checkout of Topdu/OpenOCR"
)
def test_the_authors_code_says_what_is_recorded(
    recorded, filled, image, features_and_questions, monkeypatch
):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    monkeypatch.syspath_prepend(OPENOCR)
    from openrec.modeling.decoders.smtr_decoder import SMTRDecoder
    from reference_models import openocr_network

    answers = {}
    for case, (model, width) in NETWORKS.items():
        theirs = openocr_network(model, 126, width).eval()
        with torch.no_grad():
            masks = {
                name: t
                for name, t in theirs.state_dict().items()
                if name.endswith("mixer.mask")
            }
            theirs.load_state_dict(
                dict(filled(build_model(model, 126)).state_dict()) | masks
            )
            theirs.decoder.train()  # in evaluation it gives probabilities
            answers[case] = kept(theirs(image(width)))
    theirs = SMTRDecoder(
        in_channels=64, out_channels=129, num_layer=1, ds=True, sub_str_len=5
    )
    with torch.no_grad():
        theirs.load_state_dict(guidance_state(filled(Guidance(64, 126))))
    features, questions = features_and_questions
    (next_subs, pre_subs), (next_label, pre_label) = (
        questions.contexts.chunk(2, 1),
        questions.answers.chunk(2, 1),
    )
    count = torch.tensor([next_subs.shape[1]])
    ignored = [label.masked_fill(label == -100, 128) for label in (next_label, pre_label)]
    loss = theirs.train()(
        features.flatten(1, 2),
        [None, next_subs, ignored[0], count, pre_subs, ignored[1], count],
    )[0]["loss"]
    answers[GUIDANCE] = answer_of(loss, features)
    if RECORD:
        rows = {
            case: [[float(f"{x:.7g}") for x in row] for row in answer]
            for case, answer in answers.items()
        }
        FILE.write_text(
            "{\n"
            + ",\n".join(f'"{case}": {json.dumps(row)}' for case, row in rows.items())
            + "\n}\n"
        )
        return
    assert answers.keys() == recorded.keys()
    for case, answer in answers.items():
        for found, expected in zip(answer, recorded[case], strict=True):
            require_same(found, expected)


def guidance_state(ours):
    """The state of our branch under the authors' names."""
    state = {}
    for name, tensor in ours.state_dict().items():
        part, _, rest = name.partition(".")
        if part in THEIRS:
            state[f"{THEIRS[part]}.{rest}"] = tensor
    state["next_token"], state["pre_token"] = ours.tokens[:, None, None].unbind()
    state["prompt_next_embed"], state["prompt_pre_embed"] = ours.prompts[
        :, None, None
    ].unbind()
    return state
