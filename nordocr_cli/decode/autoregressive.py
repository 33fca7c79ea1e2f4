"""Decoding the output of an autoregressive network: the best class of each position up to the first
end.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact.contract import OutputActivation
from nordocr_cli.charset import Charset
from nordocr_cli.decode.ctc import (
    best_and_peaks,
    decode_greedy,
    require_sane,
    require_shapes,
)
from nordocr_cli.records import Recognition
from nordocr_cli.settings import Decoding

END = 0  # the class that ends a line, where CTC has its blank


def decode_tokens(
    logits: NDArray[np.floating],
    frames: NDArray[np.integer],
    charset: Charset,
    activation: OutputActivation = "logits",
    temperature: float = 1.0,
) -> list[Recognition]:
    """Return the text of each line of a batch. Arguments and errors are those of `decode_greedy`,
    with positions instead of frames. A character's confidence is its probability; a line's is the
    geometric mean of them, 0.0 for an empty text. The first end and everything after it are
    ignored. There are no spans, since a position in the text is not a place in the image.
    """
    logits = np.asarray(logits, dtype=np.float32)
    require_shapes(logits, frames, charset, activation)
    best, peaks = best_and_peaks(logits, charset, activation)  # (N, T) each
    own = np.arange(logits.shape[1]) < np.asarray(frames)[:, None]  # (N, T)
    require_sane(peaks, own, activation)
    written = own & ~np.maximum.accumulate(best == END, axis=1)
    if activation == "logits":
        spread = (logits - peaks[:, :, None]) / np.float32(temperature)
        peaks = 1 / np.exp(spread).sum(axis=2)  # softmax at its maximum: cannot overflow
    readings = []
    for classes, probabilities, read in zip(best, peaks, written, strict=True):
        confidences = probabilities[read].tolist()
        if confidences:
            confidence = float(np.exp(np.log(confidences).mean()))
        else:
            confidence = 0.0
        readings.append(
            Recognition(
                charset.decode(classes[read].tolist()), confidence, tuple(confidences)
            )
        )
    return readings


def greedy_decoder(decoding: Decoding) -> Callable[..., Sequence[Recognition]]:
    """Return the decoder for the best classes of an output: `decode_greedy` or `decode_tokens`."""
    if decoding == "autoregressive":
        return decode_tokens
    return decode_greedy
