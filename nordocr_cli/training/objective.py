"""The objective of a network by its decoding, in fp32, in nats a character.

CTC: each line with its own number of frames. A network that writes tokens has its own loss, over
the orders that it learns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nordocr_cli.artifact.contract import Decoding
from nordocr_cli.charset import BLANK
from nordocr_cli.geometry import Geometry
from nordocr_cli.models.parseq.network import Parseq
from nordocr_cli.models.trocr.network import TrOcr


def frames_of(widths: Tensor, geometry: Geometry) -> Tensor:
    """Return the number of CTC frames int64 (N,) of lines `widths` pixels wide, as
    `Geometry.out_length` counts them.
    """
    return torch.div(widths - 1, geometry.stride, rounding_mode="floor") + 1


def ctc_loss(
    logits: Tensor,
    frames: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    characters: int | None = None,
) -> Tensor:
    """Return the loss of a batch: the sum over its lines divided by its number of characters,
    float32 ().

    `characters` is the number to divide by when the batch is a part of a step: that of the whole
    step.

    `logits` (N, T, C); `frames` int64 (N,): line i is read from its own first frames[i] ≤ T frames,
    masked or not, because that is what serving decodes; `targets` int64 (sum of target_lengths,).
    Batches hold about as many pixels each, hence about as many characters, so this weighs every
    character of an epoch alike, whatever the width of its line.

    A line whose target does not fit its frames gives infinity. It is not zeroed: the loop names the
    rows.
    """
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)  # (T, N, C)
    total = F.ctc_loss(log_probs, targets, frames, target_lengths, blank=BLANK, reduction="sum")
    return total / (target_lengths.sum().clamp(min=1) if characters is None else max(1, characters))


def decoding_of(model: nn.Module) -> Decoding:
    """Return how a network's output is read."""
    return (
        "autoregressive"
        if isinstance(model, Parseq)
        else "seq2seq"
        if isinstance(model, TrOcr)
        else "ctc"
    )


def batch_loss(
    model: nn.Module,
    images: Tensor,
    widths: Tensor,
    geometry: Geometry,
    targets: Tensor,
    target_lengths: Tensor,
) -> Tensor:
    """Return the loss () of a batch with its padding masked: normalized images (N, 3, H, W), widths
    int64 (N,).
    """
    if isinstance(model, Parseq):
        return model.permuted_loss(images, widths, targets, target_lengths)
    if isinstance(model, TrOcr):
        return model.token_loss(images, widths, targets, target_lengths)
    return ctc_loss(model(images, widths), frames_of(widths, geometry), targets, target_lengths)
