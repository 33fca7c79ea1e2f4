"""Weights between those of a start and those trained from it (M. Wortsman et al., "Robust
fine-tuning of zero-shot models", 2022). Part of the way keeps most of what was learned, and more of
what was known before.
"""

from pathlib import Path

import torch

from nordocr_cli.models.weights import load_weights, save_weights


def blend_weights(start: Path, trained: Path, share: float, output: Path) -> None:
    """Write the weights that are the `share` (0…1) of the way from `start` to `trained`, with the
    contract of `trained`. Both have the same network.

    Raises what `load_weights` and `save_weights` raise.
    """
    before, _ = load_weights(start)
    after, contract = load_weights(trained)
    blended = {}
    for name, tensor in after.items():
        if tensor.is_floating_point():
            blended[name] = torch.lerp(before[name], tensor, share)
        else:
            blended[name] = tensor
    save_weights(output, blended, contract)
