"""PARSeq: a vision transformer reads the line, one decoder layer writes it (Bautista and Atienza
2022, arXiv 2207.06966).

The decoder learns to predict each character from any set of others, so one network writes left to
right, all at once, and corrects what it has written. Names and shapes of the weights are those of
the authors' checkpoints.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nordocr_cli.charset import Charset
from nordocr_cli.decode.autoregressive import decode_tokens
from nordocr_cli.models.base import LineNetwork
from nordocr_cli.models.parseq.permutations import (
    _END,
    additive,
    causal_mask,
    cloze_mask,
    draw_orders,
    order_masks,
    to_tokens,
)
from nordocr_cli.records import Recognition
from nordocr_cli.settings import ParseqModel

PATCH = (4, 8)  # [height, width]
_ENCODER_DEPTH = 12
_MLP_RATIO = 4
_CERTAIN = 20.0  # logit of the end in every position behind the end


class ParseqSize(NamedTuple):
    """Width of a network and the heads of its attentions."""

    dim: int
    encoder_heads: int
    decoder_heads: int


PARSEQ_SIZES = {"tiny": ParseqSize(192, 3, 6), "small": ParseqSize(384, 6, 12)}


class Parseq(LineNetwork):
    """Encoder, decoder and head; logits (N, T + 1, C) for T = max_label_length and C classes, of
    which 0 ends a line.
    """

    classifier_name = "head"
    # A row for each class, then the beginning and padding.
    class_embedding = "text_embed.embedding.weight"
    options: ParseqModel
    causal: Tensor
    cloze: Tensor
    behind: Tensor

    def __init__(self, model: ParseqModel, num_classes: int) -> None:
        super().__init__(model)
        size = PARSEQ_SIZES[model.size]
        self.num_classes = num_classes
        self.positions = model.max_label_length + 1
        self.encoder = PatchEncoder(size, model.height // PATCH[0], model.width // PATCH[1])
        self.decoder = ParseqDecoder(size, model.dropout)
        self.head = nn.Linear(size.dim, num_classes)
        self.text_embed = TokenEmbedding(num_classes + 2, size.dim)
        self.pos_queries = nn.Parameter(torch.empty(1, self.positions, size.dim))
        self.dropout = nn.Dropout(model.dropout)
        self.register_buffer(
            "causal", additive(causal_mask(self.positions)), persistent=False
        )
        self.register_buffer(
            "cloze", additive(cloze_mask(self.positions)), persistent=False
        )
        self.register_buffer(
            "behind", torch.ones(self.positions, self.positions).triu(), persistent=False
        )
        self.apply(_init)
        for parameter in (self.pos_queries, self.encoder.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        for learned in (
            self.pos_queries,
            self.encoder.pos_embed,
            self.text_embed.embedding.weight,
        ):
            learned.no_decay = True  # type: ignore[attr-defined]

    def forward(self, images: Tensor, widths: Tensor | None = None) -> Tensor:
        """Return logits (N, T + 1, C) for normalized images (N, 3, H, W); see `encode` for
        `widths`.
        """
        memory = self.encode(images, widths)
        if self.options.decode == "ar":
            logits = self._left_to_right(memory)
        else:
            logits = self._at_once(memory)
        for _ in range(self.options.refine):
            logits = self._refined(logits, memory)
        return logits

    def encode(self, images: Tensor, widths: Tensor | None) -> Tensor:
        """Return the tokens (N, rows * columns, dim) that the decoder looks at.

        Each line is stretched from its own `widths` int64 (N,), or from W without them, to the
        width that the network has positions for: so padding is never seen where the widths are
        given.
        """
        return self.encoder(stretched_columns(images, widths, self.options.width))

    def read(
        self, images: Tensor, widths: Tensor, charset: Charset
    ) -> Sequence[Recognition]:
        """Return the text of each line; see `LineNetwork.read`."""
        logits = self(images, widths).float().cpu().numpy()  # (N, T + 1, C)
        positions = torch.full_like(widths, logits.shape[1]).cpu().numpy()  # (N,)
        return decode_tokens(logits, positions, charset)

    def set_decoding(self, order: str, refine: int) -> None:
        """Decode `order` (ar: left to right, nar: all positions at once) and refine so often."""
        self.options = self.options.model_copy(update={"decode": order, "refine": refine})

    def loss(
        self,
        images: Tensor,
        widths: Tensor | None,
        targets: Tensor,
        lengths: Tensor,
        masked: bool = True,
    ) -> Tensor:
        """Return the loss (), in nats a token, over several orders of the batch's labels; see
        `LineNetwork.loss`. Padding is always masked.

        Every order counts by the tokens that it predicts; the end is learned in the first two only.
        As the decoder has one layer, its content does not depend on the order: all orders are
        queries of one pass.
        """
        memory = self.encode(images, widths)
        tokens = to_tokens(targets, lengths, self.num_classes)  # (N, L + 1)
        # (N, L): the shift by one between what is read and what is expected
        given = tokens[:, :-1]
        expected = tokens[:, 1:]
        orders = draw_orders(given.shape[1] - 1, self.options.permutations)  # (K, L + 1)
        masks = additive(order_masks(orders)).to(images.device)  # (K, L, L)
        count, length = masks.shape[:2]
        finished = (given == _END) | (given == self.num_classes + 1)  # (N, L)
        queries = self._positions(length).repeat(1, count, 1)  # (1, K L, dim)
        # (N, K L, C)
        logits = self._decode(
            given, memory, queries, masks.flatten(0, 1), additive(finished)
        )
        without_end = expected.masked_fill(expected == _END, self.num_classes + 1)
        # (N, K, L)
        answers = torch.stack([expected if k < 2 else without_end for k in range(count)], 1)
        return F.cross_entropy(
            logits.float().flatten(0, 1),
            answers.flatten(),
            ignore_index=self.num_classes + 1,
        )

    def _positions(self, length: int) -> Tensor:
        if self.options.scale_positions:
            scale = math.sqrt(self.pos_queries.shape[-1])
        else:
            scale = 1.0
        return self.pos_queries[:, :length] * scale

    def _decode(
        self,
        tokens: Tensor,
        memory: Tensor,
        queries: Tensor,
        mask: Tensor,
        padding: Tensor | None = None,
    ) -> Tensor:
        """Return logits (N, Q, C) of `queries` (1, Q, dim) over input `tokens` (N, L), which begin
        with the beginning.

        `mask` (Q, L) and `padding` (N, L) are added to the scores.
        """
        embedded = self.text_embed(tokens)  # (N, L, dim)
        behind_begin = (
            embedded[:, 1:] + self._positions(self.positions)[:, : tokens.shape[1] - 1]
        )
        content = self.dropout(torch.cat([embedded[:, :1], behind_begin], 1))
        # (1 or N, 1, Q, L)
        if padding is None:
            mask = mask[None, None]
        else:
            mask = mask[None, None] + padding[:, None, None]
        return self.head(
            self.decoder(
                self.dropout(queries.expand(tokens.shape[0], -1, -1)), content, memory, mask
            )
        )

    def _begin(self, memory: Tensor) -> Tensor:
        return torch.full(
            (memory.shape[0], 1), self.num_classes, dtype=torch.int64, device=memory.device
        )

    def _at_once(self, memory: Tensor) -> Tensor:
        """Every position by itself, from the beginning alone."""
        return self._decode(
            self._begin(memory),
            memory,
            self._positions(self.positions),
            self.causal[:, :1] * 0,
        )

    def _left_to_right(self, memory: Tensor) -> Tensor:
        """One position after the other, each from those before it.

        Stops when every line has ended, but not in a trace: there the example's length would be
        frozen into the graph. Behind its end every line says END for certain, so that no line
        depends on when the others end.
        """
        tokens = [self._begin(memory)]
        logits: list[Tensor] = []
        ended = torch.zeros_like(tokens[0])  # (N, 1), 1 behind the end
        # (N, 1, C)
        end = (
            F.one_hot(torch.zeros_like(ended), self.num_classes).to(memory.dtype) * _CERTAIN
        )
        queries = self._positions(self.positions)
        for i in range(self.positions):
            # (N, 1, C)
            step = self._decode(
                torch.cat(tokens, 1),
                memory,
                queries[:, i : i + 1],
                self.causal[i : i + 1, : i + 1],
            )
            alive = (1 - ended)[..., None].to(step.dtype)
            logits.append(step * alive + end.to(step.dtype) * (1 - alive))
            tokens.append(logits[-1].argmax(-1))
            ended = torch.maximum(ended, (tokens[-1] == _END).long())
            if not torch.jit._trace.is_tracing() and bool(ended.all()):
                break
        return torch.cat(
            [*logits, *[end.to(logits[0].dtype)] * (self.positions - len(logits))], 1
        )

    def _refined(self, logits: Tensor, memory: Tensor) -> Tensor:
        """Every position again, from all that was written but its own token and what stands at or
        behind the end.
        """
        tokens = torch.cat(
            [self._begin(memory), logits[:, :-1].argmax(-1)], 1
        )  # (N, T + 1)
        # (N, T + 1): ends up to here, as a sum that every graph has
        ends = (tokens == _END).to(self.behind.dtype) @ self.behind
        return self._decode(
            tokens,
            memory,
            self._positions(self.positions),
            self.cloze,
            additive(ends.clamp(max=1)),
        )


def stretched_columns(images: Tensor, widths: Tensor | None, width: int) -> Tensor:
    """Stretch the first `widths` columns int64 (N,), or all W, of images (N, 3, H, W) to `width`:
    linear between the centres of columns, as cv2.INTER_LINEAR enlarges.
    """
    columns = torch.arange(images.shape[3], device=images.device)  # (W,)
    own = (
        columns.new_full((1,), 1) * images.shape[3] if widths is None else widths
    )  # (1,) or (N,)
    own = own.float()[:, None]
    # (N, width): where each column is taken from
    at = (torch.arange(width, device=images.device) + 0.5) * (own / width) - 0.5
    at = torch.minimum(at.clamp(min=0), own - 1)
    share = (1 - (columns[None, :, None] - at[:, None, :]).abs()).clamp(
        min=0
    )  # (N, W, width)
    return images @ share[:, None].to(images.dtype)


class PatchEncoder(nn.Module):
    """A vision transformer over patches of 4x8 pixels without class token; every token is
    returned.
    """

    def __init__(self, size: ParseqSize, rows: int, columns: int) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(size.dim)
        self.pos_embed = nn.Parameter(torch.empty(1, rows * columns, size.dim))
        self.blocks = nn.ModuleList(
            EncoderBlock(size.dim, size.encoder_heads) for _ in range(_ENCODER_DEPTH)
        )
        self.norm = nn.LayerNorm(size.dim, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, H / 4 * W / 8, dim), row by row."""
        x = self.patch_embed(images) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class PatchEmbedding(nn.Module):
    """One token a patch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, H / 4 * W / 8, dim)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class EncoderBlock(nn.Module):
    """Pre-norm self-attention and MLP."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = EncoderAttention(dim, heads)
        self.mlp = EncoderMlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, dim) to (N, L, dim)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class EncoderAttention(nn.Module):
    """Attention of all tokens to all."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, dim) to (N, L, dim)."""
        # (N, heads, L, dim / heads)
        q, k, v = (_split(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        return self.proj(
            F.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5)
            .transpose(1, 2)
            .flatten(2)
        )


class EncoderMlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, _MLP_RATIO * dim)
        self.fc2 = nn.Linear(_MLP_RATIO * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, dim) to (…, dim)."""
        return self.fc2(F.gelu(self.fc1(x)))


class ParseqDecoder(nn.Module):
    """One layer and a final norm."""

    def __init__(self, size: ParseqSize, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList([DecoderLayer(size.dim, size.decoder_heads, dropout)])
        self.norm = nn.LayerNorm(size.dim)

    def forward(
        self, queries: Tensor, content: Tensor, memory: Tensor, mask: Tensor
    ) -> Tensor:
        """Map queries (N, Q, dim) over content (N, L, dim) and memory (N, M, dim) to (N, Q,
        dim).
        """
        return self.norm(self.layers[0](queries, content, memory, mask))


class DecoderLayer(nn.Module):
    """Queries look at the content, then at the image. The content itself is not updated: no layer
    follows.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads, dropout)
        self.cross_attn = Attention(dim, heads, dropout)
        self.linear1 = nn.Linear(dim, _MLP_RATIO * dim)
        self.linear2 = nn.Linear(_MLP_RATIO * dim, dim)
        self.norm1, self.norm2, self.norm_q, self.norm_c = (
            nn.LayerNorm(dim) for _ in range(4)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, queries: Tensor, content: Tensor, memory: Tensor, mask: Tensor
    ) -> Tensor:
        """Map queries (N, Q, dim) to (N, Q, dim); `mask`, (1 or N, 1, Q, L), is added to the scores
        over the content.
        """
        x = queries + self.dropout(
            self.self_attn(self.norm_q(queries), self.norm_c(content), mask)
        )
        x = x + self.dropout(self.cross_attn(self.norm1(x), memory))
        return x + self.dropout(
            self.linear2(self.dropout(F.gelu(self.linear1(self.norm2(x)))))
        )


class Attention(nn.Module):
    """torch.nn.MultiheadAttention by its names and numbers, without its many ways through."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.p = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(
        self, queries: Tensor, content: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Map queries (N, Q, dim) over content (N, L, dim) to (N, Q, dim); `mask` is added to the
        scores.
        """
        dim = queries.shape[-1]
        query = F.linear(queries, self.in_proj_weight[:dim], self.in_proj_bias[:dim])
        key, value = F.linear(
            content, self.in_proj_weight[dim:], self.in_proj_bias[dim:]
        ).chunk(2, -1)
        # (N, heads, Q or L, dim / heads)
        q, k, v = (_split(part, self.heads) for part in (query, key, value))
        added = None if mask is None else mask.to(q.dtype)
        dropped = self.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            q, k, v, added, dropped, scale=q.shape[-1] ** -0.5
        )
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class TokenEmbedding(nn.Module):
    """Tokens as vectors, scaled by the root of their size as in the paper on transformers."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (N, L) to (N, L, dim)."""
        return math.sqrt(self.embedding.embedding_dim) * self.embedding(tokens)


def _split(x: Tensor, heads: int) -> Tensor:
    # (N, heads, L, dim / heads)
    return x.unflatten(-1, (heads, x.shape[-1] // heads)).transpose(1, 2)


def _init(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
