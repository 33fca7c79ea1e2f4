"""Greedy CTC decoding: the best class of each frame, repeats collapsed, blanks dropped.

Every line is read over its own frames only. Frames that belong to the batch's padding may say anything and never become
text: reading the whole batch's length once put garbage behind 91 lines of one document.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact import OutputActivation
from nordocr_cli.charset import BLANK, Charset
from nordocr_cli.errors import ArtifactError
from nordocr_cli.records import Recognition


def decode_greedy(
    logits: NDArray[np.floating], frames: NDArray[np.integer], charset: Charset, activation: OutputActivation = "logits"
) -> list[Recognition]:
    """Return what each line of a batch says.

    `logits` are float (N, T, C); `frames` int (N,), the number of frames that belong to each line, 0…T: out_length of its
    own width. With `activation="softmax"` they are probabilities already and are taken as they are; with `argmax+confidence`
    they are (N, T, 2), each frame's best class and its probability.

    A character's confidence is the highest softmax probability among the frames of its run: CTC spikes, and how long a run
    lingers says little. A line's confidence is the geometric mean of them, 0.0 for an empty reading. Spans are
    [first, last + 1) frames. Raises ArtifactError when the shapes do not fit the charset or each other, when a line's own
    frames hold NaN or infinity, and when declared probabilities lie outside 0…1.
    """
    logits = np.asarray(logits, dtype=np.float32)
    frames = np.asarray(frames)
    require_shapes(logits, frames, charset, activation)
    n, length, _ = logits.shape

    best, peaks = best_and_peaks(logits, charset, activation)  # (N, T) each
    own = np.arange(length) < frames[:, None]  # (N, T)
    require_sane(peaks, own, activation)

    # One row of frames, a blank behind each line, so that no run reaches into the next line; padding says nothing.
    flat = np.full((n, length + 1), BLANK)
    flat[:, :length] = np.where(own, best, BLANK)
    flat = flat.ravel()  # (N (T + 1),)
    starts = np.flatnonzero(np.diff(flat, prepend=BLANK))  # a run begins where the class changes; leading blanks have no start
    ends = np.append(starts[1:], flat.size)
    spoken = flat[starts] != BLANK
    starts, ends = starts[spoken], ends[spoken]  # (K,), K characters in the whole batch
    line_of, first = np.divmod(starts, length + 1)
    last = first + (ends - starts)

    says = own & (best != BLANK)  # (N, T), F frames that say something
    probability = peaks[says]  # (F,), run after run
    if activation == "logits":
        spread = logits[says]  # (F, C)
        spread -= probability[:, None]  # softmax at its maximum: cannot overflow
        np.exp(spread, out=spread)
        probability = 1 / spread.sum(axis=1)  # a product with ones would be faster, and depend on how many lines there are
    run_starts = np.cumsum(ends - starts) - (ends - starts)
    confidence = np.maximum.reduceat(probability, run_starts) if starts.size else probability  # (K,)

    counts = np.bincount(line_of, minlength=n)  # (N,) characters of each line
    mean_log = np.bincount(line_of, weights=np.log(confidence), minlength=n) / np.maximum(counts, 1)
    line_confidence = np.where(counts > 0, np.exp(mean_log), 0.0).tolist()
    characters = np.array(list(charset.characters))  # each a code point of four bytes
    text = "".join(characters[flat[starts] - 1].tolist())
    confidences, spans = confidence.tolist(), list(zip(first.tolist(), last.tolist(), strict=True))
    bounds = [0, *np.cumsum(counts).tolist()]
    return [
        Recognition(text[a:b], line_confidence[i], tuple(confidences[a:b]), tuple(spans[a:b]))
        for i, (a, b) in enumerate(pairwise(bounds))
    ]


def best_and_peaks(
    logits: NDArray[np.float32], charset: Charset, activation: OutputActivation
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the best class of each frame and its value, (N, T) each; the value is NaN wherever a frame holds one."""
    if activation == "argmax+confidence":
        return _classes(logits[:, :, 0], charset), logits[:, :, 1]
    best = logits.argmax(axis=2)
    return best, np.take_along_axis(logits, best[:, :, None], axis=2)[:, :, 0]


def _classes(numbers: NDArray[np.float32], charset: Charset) -> NDArray[np.intp]:
    """Return the classes (N, T) that a network gave as floats. Raises ArtifactError for one that the charset does not have."""
    with np.errstate(invalid="ignore"):  # NaN becomes some number, which is not the NaN
        classes = numbers.astype(np.intp)
    wrong = (classes != numbers) | (classes < 0) | (classes >= charset.num_classes)
    if wrong.any():
        line, frame = np.argwhere(wrong)[0].tolist()
        raise ArtifactError(
            f"the output says class {numbers[line, frame]} at line {line}, frame {frame} of a batch; charset {charset.name!r} "
            f"has 0…{charset.num_classes - 1}: does the contract say what the model gives?"
        )
    return classes


def require_shapes(
    logits: NDArray[np.float32], frames: NDArray[np.integer], charset: Charset, activation: OutputActivation
) -> None:
    """Raise ArtifactError unless the output (N, T, C) fits the charset and the frame counts (N,)."""
    channels = 2 if activation == "argmax+confidence" else charset.num_classes
    if logits.ndim != 3 or logits.shape[2] != channels:
        wanted = f"(N, T, {channels})"
        raise ArtifactError(
            f"an output of shape {logits.shape} cannot be read with charset {charset.name!r}, which wants {wanted}"
        )
    n, length, _ = logits.shape
    if frames.shape != (n,) or (n and not 0 <= frames.min() <= frames.max() <= length):
        raise ArtifactError(f"frame counts {frames.tolist()} do not fit an output of {n} lines and {length} frames")


def require_sane(peaks: NDArray[np.float32], own: NDArray[np.bool_], activation: OutputActivation) -> None:
    """Raise ArtifactError unless the greatest output of each own frame, (N, T), is finite and may be what it is said to be."""
    bad = own & ~np.isfinite(peaks)
    if bad.any():
        line, frame = np.argwhere(bad)[0].tolist()
        raise ArtifactError(
            f"the output is NaN or infinite at line {line}, frame {frame} of a batch: "
            "its training diverged (lower train.lr), or fp16 overflowed (use fp32)"
        )
    if activation != "logits" and ((peaks[own] <= 0) | (peaks[own] > 1.001)).any():  # 1.001: fp16 rounds
        raise ArtifactError(
            "the contract says that this model gives probabilities, but its output goes outside 0…1; "
            "export it again with output_activation logits"
        )
