"""Networks by name: the one place that knows which class stands behind a profile's `model.name`."""

from pathlib import Path
from typing import assert_never

from torch import nn

from nordocr_cli.charset import Charset
from nordocr_cli.progress import Progress
from nordocr_cli.settings import (
    MambaModel,
    Model,
    ParseqModel,
    SvtrModel,
    SvtrV2Model,
    SvtrV2NanoModel,
    TrocrModel,
)


def build_model(
    model: Model, num_classes: int, charset: Charset | None = None, beside: Path | None = None
) -> nn.Module:
    """Return the network of a profile's model table with fresh weights, in training mode.

    Its forward takes (images float (N, 3, H, W) normalized, widths int64 (N,) or None) and returns
    logits (N, T, C) with T = geometry.out_length(W), in training and evaluation alike. With the
    widths given a line's logits are those of the line alone; without, padding is seen as pixels.
    PARSeq writes tokens, not frames: T is its longest text and the end, whatever W. TrOCR has its
    pretrained weights from the start, and a forward of its own; it alone needs the `charset` of its
    labels, and may need the folder `beside` which the weights lie.
    """
    match model:
        case SvtrV2NanoModel():
            from nordocr_cli.models.svtrv2_nano import SvtrV2Nano

            return SvtrV2Nano(model, num_classes)
        case SvtrV2Model():
            from nordocr_cli.models.svtrv2 import SvtrV2

            return SvtrV2(model, num_classes)
        case SvtrModel():
            from nordocr_cli.models.svtr import Svtr

            return Svtr(model, num_classes)
        case MambaModel():
            from nordocr_cli.models.mamba import MambaOcr

            return MambaOcr(model, num_classes)
        case ParseqModel():
            from nordocr_cli.models.parseq.network import Parseq

            return Parseq(model, num_classes)
        case TrocrModel():
            from nordocr_cli.models.trocr.network import TrOcr

            if charset is None:
                raise ValueError(
                    "TrOCR writes with a tokenizer of its own: give the charset of its labels"
                )
            return TrOcr(model, charset, beside)
    assert_never(model)


def load_pretrained(network: nn.Module, progress: Progress) -> None:
    """Give a fresh network the weights files that its profile names, and warn where one that
    matters is not named.

    Apart from `build_model`, because a trained network is built on machines that do not have those
    files. Raises UsageError for a file that is not there and ArtifactError for one that does not
    fit.
    """
    from nordocr_cli.models.mamba import MambaOcr
    from nordocr_cli.models.trocr.network import TrOcr

    if isinstance(network, MambaOcr):
        network.load_pretrained(progress)
    if isinstance(network, TrOcr):
        network.tell(progress)
