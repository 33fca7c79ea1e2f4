"""The tables of permutation language modelling (Bautista and Atienza 2022, arXiv 2207.06966):
orders in which a label is learned, the attention mask of each, and labels as tokens.

Tokens: 0 ends a line, 1…C are the charset's characters (as in CTC, where 0 is the blank), C + 1
begins, C + 2 pads. A network predicts 0…C only. Token i of a label is predicted at position i from
the tokens before it in the order, position 0 being the first character; as input the same token
stands at i + 1, behind the beginning.
"""

import itertools
import math

import torch
from torch import Tensor

_END = 0
# One of each order of four and its mirror image, so that none is drawn twice (from the authors'
# code).
_FOUR = (0, 3, 4, 6, 9, 10, 12, 16, 17, 18, 19, 21)
# added to a score: nothing is left of it, and unlike -inf it is a number in fp16 and in every graph
BLOCKED = -1e4


def to_tokens(targets: Tensor, lengths: Tensor, num_classes: int) -> Tensor:
    """Return labels as tokens int64 (N, longest + 2): beginning, characters, end, padding.

    `targets` int64 (sum of lengths,) are classes 1…C; `num_classes` is C + 1, the end counted.
    """
    longest = int(lengths.max())
    tokens = torch.full(
        (len(lengths), longest + 2),
        num_classes + 1,
        dtype=torch.int64,
        device=targets.device,
    )
    tokens[:, 0] = num_classes
    place = torch.arange(longest, device=targets.device) < lengths[:, None]  # (N, longest)
    tokens[:, 1:-1][place] = targets
    return tokens.scatter_(1, lengths[:, None] + 1, _END)


def draw_orders(characters: int, count: int) -> Tensor:
    """Return orders int64 (K, characters + 2) of 0 the beginning, the characters, and characters +
    1 the end; drawn with torch's global generator.

    The first is left to right. Orders come in pairs with their mirror images, up to `count` of
    them; the second is the whole label backwards from the end, which teaches the end without
    context. One character has one order.
    """
    if characters < 2:
        return torch.arange(characters + 2)[None]
    pairs = max(1, min(count // 2, math.factorial(characters) // 2))
    forward = torch.arange(characters)[None]
    if characters < 5:
        every = torch.tensor(list(itertools.permutations(range(characters))))
        if characters == 4:
            pool = every[list(_FOUR)]
        else:
            pool = every[: len(every) // 2]
        drawn = pool[1:][torch.randperm(len(pool) - 1)[: pairs - 1]]
    else:
        if pairs > 1:
            drawn = torch.stack([torch.randperm(characters) for _ in range(pairs - 1)])
        else:
            drawn = forward[:0]
    half = torch.cat([forward, drawn])  # (pairs, characters)
    both = torch.stack([half, half.flip(-1)], 1).flatten(0, 1)  # (K, characters)
    ends = both.new_zeros(len(both), 1)
    orders = torch.cat([ends, both + 1, ends + characters + 1], 1)
    orders[1, 1:] = torch.arange(characters + 1, 0, -1)
    return orders


def order_masks(orders: Tensor) -> Tensor:
    """Return for each order who may not look at whom: bool (K, L, L) for orders (K, L + 1), True is
    blocked.

    Row q is the position that predicts token q (0 the first character), column k the input token k
    (0 the beginning). It sees what comes before its own token in the order, not that token itself.
    """
    rank = orders.argsort(-1)  # when each token's turn comes
    return (rank[:, None, :] >= rank[:, :, None])[:, 1:, :-1]


def causal_mask(length: int) -> Tensor:
    """Return the mask bool (length, length) of reading left to right: what predicts token q sees
    the input tokens 0…q.
    """
    return torch.ones(length, length, dtype=torch.bool).triu(1)


def cloze_mask(length: int) -> Tensor:
    """Return the mask bool (length, length) of refinement: what predicts token q sees every input
    token but its own, q + 1.
    """
    return torch.eye(length + 1, dtype=torch.bool)[1:, :-1]


def additive(mask: Tensor) -> Tensor:
    """Return a mask as floats to be added to scores: 0, and BLOCKED where True."""
    return mask.float() * BLOCKED
