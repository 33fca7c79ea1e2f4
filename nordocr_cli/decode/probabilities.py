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
_FEW = 20  # minimum number of confidences for a meaningful maximum


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


def require_declared_activation(
    output: NDArray[np.floating], frames: int, contract: Contract, name: str
) -> None:
    """Check one line's output, float (T, C), of which `frames` are its own, against the contract's
    output activation. Raises ArtifactError naming both values and the step that fixes it.
    """
    if contract.output_activation != "logits" or not are_probabilities(output[:frames]):
        return
    raise ArtifactError(
        f"{name}: output_activation is logits in its contract, and its output is softmax: each"
        " frame sums to 1. A softmax of it gives confidences of at most"
        f" {second_softmax_ceiling(contract.charset.num_classes):.4f}. Remove the network's last"
        " softmax, or attach the contract again with --output-activation softmax"
    )


def second_softmax_note(confidences: Iterable[float | None], num_classes: int = 126) -> str:
    """Return a warning when recorded line confidences show a second softmax; "" when they may be
    right.
    """
    known = [value for value in confidences if value]
    ceiling = second_softmax_ceiling(num_classes)
    if len(known) < _FEW or max(known) > ceiling * 1.01:
        return ""
    return (
        f"no confidence exceeds {max(known):.4f}, the maximum of a softmax over probabilities of"
        f" {num_classes} classes ({ceiling:.4f}): the network was exported with its softmax and"
        f" the host applied a second one; export logits. The texts are not affected"
    )
