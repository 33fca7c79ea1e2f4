"""SGM: guidance by context for the training of SVTRv2, after its paper; inference has no part of
it.

A character is to be found in the image from the five characters next to it: a learned token asks
their embeddings what to look for, and the answer looks at the features. So the encoder, not only
the CTC head behind it, learns which characters follow each other. It reads both ways: from the five
characters on the left to the next one, from the five on the right to the one before.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nordocr_cli.charset import BLANK
from nordocr_cli.models.base import AuxiliaryBranch, LineNetwork, ctc_loss, frames_of
from nordocr_cli.models.kernels.attention import attention
from nordocr_cli.models.layers import init_weights
from nordocr_cli.models.masking import valid_keys
from nordocr_cli.models.svtrv2 import SvtrV2

CTC_WEIGHT = 0.1  # of the CTC loss, added to that of the guidance, as its authors train
_CONTEXT = 5  # characters
_END = BLANK  # the context before the first character and after the last
# a question that is none: behind the end of a shorter text, or a copy that was not made
_IGNORED = -100
_CONTEXT_HEAD = 32  # channels of a head that reads the context
_IMAGE_HEADS = 2
_EPS = 1e-6


@dataclass(frozen=True)
class Questions:
    """Contexts int64 (N, K, 5) and the class that each leads to, int64 (N, K); the first half asks
    for the next character, the second for the one before. Beside characters a context holds C (left
    of the text) and C + 1 (right of it).
    """

    contexts: Tensor
    answers: Tensor


def questions(targets: Tensor, lengths: Tensor, num_classes: int) -> Questions:
    """Return every question about the texts of a batch: `targets` int64 (sum of lengths,),
    `lengths` int64 (N,).

    A context of five real characters is used twice, each time with one of them replaced by a random
    one, so that the answer cannot be memorized; one that touches the end of a text is asked once,
    as it is.
    """
    left = num_classes
    right = num_classes + 1
    device = targets.device
    longest = int(lengths.max())
    index = torch.arange(longest + 1, device=device)  # (L + 1,)
    text = torch.full((len(lengths), longest), right, device=device)
    text[index[:-1] < lengths[:, None]] = targets  # (N, L), row after row
    # (N, L + 6, 5)
    windows = F.pad(
        F.pad(text, (_CONTEXT, 0), value=left), (0, _CONTEXT), value=right
    ).unfold(1, _CONTEXT, 1)
    within = index <= lengths[:, None]  # (N, L + 1)
    following = F.pad(text, (0, 1), value=_END).masked_fill(index == lengths[:, None], _END)
    before = F.pad(text, (1, 0), value=_END)
    contexts = []
    answers = []
    for context, answer, full in (
        (windows[:, : longest + 1], following, index.expand_as(within) >= _CONTEXT),
        (windows[:, _CONTEXT:], before, index + _CONTEXT <= lengths[:, None]),
    ):
        answer = answer.masked_fill(~within, _IGNORED)
        replace = full & within
        contexts += [
            _one_replaced(context, replace, num_classes),
            _one_replaced(context, replace, num_classes),
        ]
        answers += [answer, answer.masked_fill(~replace, _IGNORED)]
    return Questions(torch.cat(contexts, dim=1), torch.cat(answers, dim=1))


def _one_replaced(context: Tensor, where: Tensor, num_classes: int) -> Tensor:
    """Replace one character of each context (N, K, 5) by a random one where bool (N, K) is true."""
    place = torch.randint(_CONTEXT, where.shape, device=context.device)  # (N, K)
    # (N, K, 5)
    replaced = (torch.arange(_CONTEXT, device=context.device) == place[..., None]) & where[
        ..., None
    ]
    random = torch.randint(1, num_classes, where.shape, device=context.device)  # (N, K)
    return torch.where(replaced, random[..., None], context)


class CrossAttention(nn.Module):
    """Attention of some tokens to others."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, seen: Tensor, keys: Tensor | None) -> Tensor:
        """Map (N, L, C), looking at `seen` (N, L', C), to (N, L, C); `keys` is bool (N, 1, 1, L')
        or None.
        """
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, heads, L, d)
        # (N, heads, L', d) each
        k, v = (
            self.kv(seen)
            .unflatten(-1, (2, self.heads, -1))
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        return self.proj(attention(q, k, v, keys).transpose(1, 2).flatten(2))


class Guidance(AuxiliaryBranch):
    """The branch that guides SVTRv2; see the module."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        # classes, the two borders, and the authors' padding
        self.embedding = nn.Embedding(num_classes + 3, dim)
        # what asks for the next character, and for the one before
        self.tokens = nn.Parameter(torch.empty(2, 1, dim))
        # a slot that is always seen, and the places
        self.prompts = nn.Parameter(torch.empty(2, _CONTEXT + 1, dim))
        self.token_norm = nn.LayerNorm(dim, eps=_EPS)
        self.context_norm = nn.LayerNorm(dim, eps=_EPS)
        self.to_context = CrossAttention(dim, dim // _CONTEXT_HEAD)
        self.query_norm = nn.LayerNorm(dim, eps=_EPS)
        self.image_norm = nn.LayerNorm(dim, eps=_EPS)
        self.to_image = CrossAttention(dim, _IMAGE_HEADS)
        self.answer_norm = nn.LayerNorm(dim, eps=_EPS)
        self.classifier = nn.Linear(dim, num_classes)
        self.apply(init_weights)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        for learned in (self.tokens, self.prompts):
            nn.init.trunc_normal_(learned, std=0.02)
        for kept in (self.tokens, self.embedding.weight):
            kept.no_decay = True  # type: ignore[attr-defined]

    @classmethod
    def create(cls, network: LineNetwork, num_classes: int) -> "Guidance":
        """Build the branch for SVTRv2 with the RCTC head. Raises TypeError for any other network,
        which the check of the profile reports first.
        """
        if not isinstance(network, SvtrV2):
            raise TypeError(f"no guidance for {type(network).__name__}")
        return cls(network.dim, num_classes)

    def forward(
        self,
        network: SvtrV2,
        images: Tensor,
        widths: Tensor | None,
        targets: Tensor,
        lengths: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the network's logits (N, T, C) and the guidance loss, float32 (), for a batch as
        `SvtrV2.forward` takes it and its texts: `targets` int64 (sum of lengths,), `lengths` int64
        (N,).
        """
        features, valid = network.encoder(images, widths)  # (N, H, T, C), (N, T)
        return network.decoder(features, valid), self.answer_loss(
            features, valid, questions(targets, lengths, self.num_classes)
        )

    def compiled_part(
        self,
        network: LineNetwork,
        images: Tensor,
        widths: Tensor,
        targets: Tensor,
        lengths: Tensor,
        masked: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Return the network's logits (N, T, C) and the guidance loss ()."""
        assert isinstance(network, SvtrV2)
        logits, guided = self(network, images, widths if masked else None, targets, lengths)
        return logits, guided

    def loss_from(
        self, part: tuple[Tensor, Tensor], widths: Tensor, targets: Tensor, lengths: Tensor
    ) -> Tensor:
        """Return the weighted sum of CTC and guidance loss ()."""
        logits, guided = part
        return CTC_WEIGHT * ctc_loss(logits, frames_of(widths), targets, lengths) + guided

    def answer_loss(
        self, features: Tensor, valid: Tensor | None, questions: Questions
    ) -> Tensor:
        """Return the mean cross entropy of the answers, float32 ()."""
        n, count, _ = questions.contexts.shape
        ways = questions.contexts.unflatten(1, (2, -1)).transpose(0, 1)  # (2, N, K / 2, 5)
        places = (
            self.embedding(ways) * self.embedding.embedding_dim**0.5
            + self.prompts[:, None, None, 1:]
        )
        slot = self.prompts[:, None, None, :1].expand(-1, n, count // 2, -1, -1)
        context = torch.cat([slot, places], dim=3).flatten(0, 2)  # (2 N K/2, 6, C)
        border = torch.tensor([self.num_classes, self.num_classes + 1], device=ways.device)
        # (2 N K/2, 6)
        keys = F.pad(ways != border[:, None, None, None], (1, 0), value=True).flatten(0, 2)
        token = self.tokens.repeat_interleave(n * count // 2, dim=0)  # (2 N K/2, 1, C)
        query = token + self.to_context(
            self.token_norm(token), self.context_norm(context), keys[:, None, None, :]
        )
        query = (
            query.unflatten(0, (2, n, -1)).transpose(0, 1).reshape(n, count, -1)
        )  # (N, K, C)
        image = self.image_norm(features.flatten(1, 2))  # (N, H T, C)
        found = self.to_image(
            self.query_norm(query), image, valid_keys(valid, features.shape[1])
        )
        logits = self.classifier(self.answer_norm(found)).float()  # (N, K, classes)
        return F.cross_entropy(
            logits.flatten(0, 1), questions.answers.flatten(), ignore_index=_IGNORED
        )
