"""How likely a network finds a given text: the CTC forward algorithm (Graves et al. 2006, section
4.1) in logarithms.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.charset import BLANK

_NEVER = -1e30  # the logarithm of 0, without the NaN that infinities make of differences


def ctc_log_likelihood(
    log_probabilities: NDArray[np.floating], labels: Sequence[int]
) -> float:
    """Return ln P(labels) under log-probabilities (T, C); `labels` are classes without blanks.

    It is -1e30 or less for a text that needs more frames than there are.
    """
    frames = np.asarray(log_probabilities, np.float64)
    # blank, first, blank, second, …, blank: (S,), S = 2 · labels + 1
    states = np.full(2 * len(labels) + 1, BLANK)
    states[1::2] = labels
    emissions = frames[:, states]  # (T, S)

    # A letter may follow the one before it directly unless both are the same.
    can_skip = np.zeros(len(states), bool)
    can_skip[3::2] = states[3::2] != states[1:-2:2]

    forward = np.full(len(states), _NEVER)
    forward[:2] = emissions[0, :2]
    for emission in emissions[1:]:
        stay = forward
        step = np.concatenate(([_NEVER], forward[:-1]))
        skip = np.concatenate(([_NEVER, _NEVER], forward[:-2]))[: len(states)]
        skip = np.where(can_skip, skip, _NEVER)
        forward = np.logaddexp(np.logaddexp(stay, step), skip) + emission
    return float(np.logaddexp.reduce(forward[-2:]))


def log_softmax(
    logits: NDArray[np.floating], temperature: float = 1.0
) -> NDArray[np.float64]:
    """Return log-probabilities of logits (T, C)."""
    scaled = np.asarray(logits, np.float64) / temperature
    shifted = scaled - scaled.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
