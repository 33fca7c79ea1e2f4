"""Distinguishing logits from probabilities, and one softmax from two, by the output of a network. A
network exported by other programs may end in a softmax that its contract does not mention. The text
stays correct, but a second softmax gives confidences of at most e / (e + C - 1): 0.0213 for 126
classes.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.errors import ArtifactError

_SUM_TOLERANCE = 2e-3  # fp16 rounds each of 126 addends
_FEW = 3  # minimum number of confidences for a meaningful maximum
# No line of readable text has a confidence as low as this; two softmaxes have, from 89 classes on.
_TOO_LOW = 0.03
_ROUNDING = 2e-3  # of the logarithm of an fp16 probability


def second_softmax_ceiling(num_classes: int) -> float:
    """Return the maximum value of a softmax over probabilities: e / (e + C - 1)."""
    return math.e / (math.e + num_classes - 1)


def are_probabilities(output: NDArray[np.floating]) -> bool:
    """Return whether each frame of `output`, float (T, C), holds values from 0 to 1 that sum to 1.

    One-hot frames do not count: they are how examples write logits.
    """
    if not output.size or output.min() < 0 or output.max() > 1 + _SUM_TOLERANCE:
        return False
    sums = output.sum(axis=1, dtype=np.float64)
    is_one_hot = bool(np.isin(output, (0, 1)).all())
    return not is_one_hot and bool(np.abs(sums - 1).max() <= _SUM_TOLERANCE)


def is_second_softmax(output: NDArray[np.floating]) -> bool:
    """Return whether each frame of `output`, float (T, C), is a softmax of probabilities.

    A softmax is exp(p) / Z, so the logarithms of a frame are p - ln Z. Probabilities p sum to 1, so
    p = ln(output) - mean(ln(output)) + 1 / C. It is a second softmax when no p is below 0. Frames
    of equal values tell nothing and do not count.
    """
    if not are_probabilities(output) or output.min() <= 0:
        return False
    logarithms = np.log(output.astype(np.float64))
    means = logarithms.mean(axis=1, keepdims=True)
    before = logarithms - means + 1 / output.shape[1]  # (T, C): p
    is_constant = bool(np.ptp(before) < _ROUNDING)
    return not is_constant and bool(before.min() > -_ROUNDING)


def require_declared_activation(
    output: NDArray[np.floating], frames: int, contract: Contract, name: str
) -> None:
    """Check one line's output, float (T, C), of which `frames` are its own, against the contract's
    output activation. Raises ArtifactError naming both values and the step that fixes it.
    """
    if is_second_softmax(output[:frames]):
        raise ArtifactError(
            f"{name}: its output is a softmax of a softmax: no confidence can exceed"
            f" {second_softmax_ceiling(contract.charset.num_classes):.4f}. Export the network"
            " without its last softmax"
        )
    if contract.output_activation != "logits" or not are_probabilities(output[:frames]):
        return
    raise ArtifactError(
        f"{name}: output_activation is logits in its contract, and its output is softmax: each"
        " frame sums to 1. A softmax of it gives confidences of at most"
        f" {second_softmax_ceiling(contract.charset.num_classes):.4f}. Remove the network's last"
        " softmax, or attach the contract again with --output-activation softmax"
    )


def require_probabilities(
    output: NDArray[np.floating], contract: Contract, name: str
) -> None:
    """Check that one line's output, float (T, C), holds probabilities where its contract says so.
    Raises ArtifactError naming both values and the step that fixes it.
    """
    if contract.output_activation != "softmax" or are_probabilities(output):
        return
    sums = output.sum(axis=1, dtype=np.float64)
    raise ArtifactError(
        f"{name}: output_activation is softmax in its contract, but its output is not: frames sum"
        f" to {sums.min():.3g} … {sums.max():.3g} instead of 1. Attach the contract again with"
        " --output-activation logits"
    )


def second_softmax_note(confidences: Iterable[float | None], num_classes: int = 126) -> str:
    """Return a warning when recorded line confidences show a second softmax; "" when they may be
    right.
    """
    known = [value for value in confidences if value]
    ceiling = second_softmax_ceiling(num_classes)
    if len(known) < _FEW or max(known) > max(_TOO_LOW, ceiling * 1.01):
        return ""
    return (
        f"no confidence exceeds {max(known):.4f}; a softmax over probabilities gives at most"
        f" {ceiling:.4f} ({num_classes} classes): if the network is trained, it was exported with"
        " its softmax and the host applied a second one; export logits. The texts are not affected"
    )
