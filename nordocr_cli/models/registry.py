"""Networks by name: the one place that knows which class stands behind a profile's `model.name`."""

from torch import nn

from nordocr_cli.errors import UsageError
from nordocr_cli.profile import Model, SvtrModel, SvtrV2Model, SvtrV2NanoModel


def build_model(model: Model, num_classes: int) -> nn.Module:
    """Return the network of a profile's model table with fresh weights, in training mode.

    Its forward takes (images float (N, 3, H, W) normalized, widths int64 (N,) or None) and returns logits (N, T, C) with
    T = geometry.out_length(W), in training and evaluation alike. With the widths given a line's logits are those of the
    line alone; without, padding is seen as pixels. Raises UsageError for a network that this version does not have.
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
    raise UsageError(f"model.name {model.name!r} has no network in this version; use svtrv2, svtrv2-nano or svtr")
