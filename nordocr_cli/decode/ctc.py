"""Greedy CTC decoding: the best class of each frame, repeats collapsed, blanks dropped.

Every line is decoded over its own frames only. The output at the batch's padding is arbitrary and
never becomes text: decoding the full length of the batch once appended garbage to 91 lines of one
document.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact.contract import OutputActivation
from nordocr_cli.charset import BLANK, Charset
from nordocr_cli.errors import ArtifactError
from nordocr_cli.records import Recognition

_BLOCK_FRAMES = 512


class Readings(Sequence[Recognition]):
    """The decoded texts of the N lines of a batch. Confidences are computed for the complete batch
    when the first of them is requested. A line's Recognition, with its spans, is computed when that
    line is requested.
    """

    def __init__(
        self,
        texts: list[str],
        classes: NDArray[np.unsignedinteger],
        peaks: NDArray[np.float32],
        logits: NDArray[np.float32] | None = None,
        temperature: float = 1.0,
    ) -> None:
        """`classes` (N, T + 1) are those of the frames, blank in the padding and at the end of each
        line. `peaks` (N, T) is the output at the best class of each frame. `logits` (N, T, C) is
        the output, None when it holds probabilities.
        """
        self.texts = texts
        self._classes = classes
        self._peaks = peaks
        self._logits = logits
        self._temperature = temperature

    @cached_property
    def confidences(self) -> list[float]:
        """The confidence of each line: the geometric mean over its characters, 0.0 for an empty
        text.
        """
        counts = np.diff(self._bounds)
        line_of = np.repeat(np.arange(len(counts)), counts)
        mean_log = np.bincount(
            line_of, weights=np.log(self._of_characters), minlength=len(counts)
        ) / np.maximum(counts, 1)
        return list(np.where(counts > 0, np.exp(mean_log), 0.0).tolist())

    @cached_property
    def _bounds(self) -> list[int]:
        """The index of each line's first character among those of the batch, and the end of the
        last line.
        """
        return [0, *accumulate(map(len, self.texts))]

    @cached_property
    def _spoken(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The F frames that are not blank, as indices into the flat classes, and which of them
        begin one of the K runs.
        """
        flat = self._classes.ravel()
        frames = np.flatnonzero(flat)  # (F,); the blank is class 0
        begins = np.ones(len(frames), dtype=bool)
        begins[1:] = (np.diff(frames) > 1) | (np.diff(flat[frames]) != 0)
        return frames, np.flatnonzero(begins)

    @cached_property
    def _of_characters(self) -> NDArray[np.float32]:
        """The confidence of each character of the batch (K,): the maximum probability among the
        frames of its run.
        """
        frames, starts = self._spoken
        padded = self._classes.shape[1]
        frames = frames - frames // padded  # counted without the blank behind each line
        probability = self._peaks.ravel()[frames]  # (F,)
        if self._logits is not None:
            probability = _softmax_at(self._logits, frames, probability, self._temperature)
        if len(starts) < len(frames):
            return np.maximum.reduceat(probability, starts)
        return probability

    @cached_property
    def _details(self) -> tuple[list[float], list[tuple[int, int]]]:
        """Confidence and span of each character of the batch."""
        frames, starts = self._spoken
        ends = np.append(starts[1:], len(frames))
        first = frames[starts] % self._classes.shape[1]
        last = first + (ends - starts)
        return self._of_characters.tolist(), list(
            zip(first.tolist(), last.tolist(), strict=True)
        )

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, index: int) -> Recognition: ...
    @overload
    def __getitem__(self, index: slice) -> list[Recognition]: ...
    def __getitem__(self, index: int | slice) -> Recognition | list[Recognition]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        text = self.texts[index]
        confidence = self.confidences[index]
        first = self._bounds[index if index >= 0 else len(self) + index]
        inside = slice(first, first + len(text))
        confidences, spans = self._details
        return Recognition(
            text, confidence, tuple(confidences[inside]), tuple(spans[inside])
        )


def decode_greedy(
    logits: NDArray[np.floating],
    frames: NDArray[np.integer],
    charset: Charset,
    activation: OutputActivation = "logits",
    temperature: float = 1.0,
) -> Readings:
    """Return the text of each line of a batch. `logits` are float (N, T, C). `frames` int (N,) is
    the number of frames that belong to each line, 0…T: out_length of its own width. With
    `activation="softmax"` the values are probabilities and used unchanged. With `argmax+confidence`
    they are (N, T, 2), each frame's best class and its probability. Logits are divided by
    `temperature` before they become probabilities; no text depends on it.

    A character's confidence is the highest softmax probability among the frames of its run: CTC
    outputs spikes, and the length of a run means little. A line's confidence is the geometric mean
    of them, 0.0 for an empty text. Spans are [first, last + 1) frames. The output must not change
    until the last confidence was requested. Raises ArtifactError when the shapes do not fit the
    charset or each other, when a line's own frames hold NaN or infinity, and when declared
    probabilities lie outside 0…1.
    """
    logits = np.asarray(logits, dtype=np.float32)
    frames = np.asarray(frames)
    require_shapes(logits, frames, charset, activation)
    n, length, _ = logits.shape
    best, peaks = best_and_peaks(logits, charset, activation)  # (N, T) each
    own = np.arange(length) < frames[:, None]  # (N, T)
    require_sane(peaks, own, activation)

    # One row of frames with a blank after each line, so that no run continues in the next line.
    # Padding counts as blank.
    classes = np.zeros(
        (n, length + 1), dtype=np.uint16 if charset.num_classes < 1 << 16 else np.uint32
    )
    classes[:, :length] = best
    if not own.all():
        classes[:, :length][~own] = BLANK
    flat = classes.ravel()  # (N (T + 1),)
    begins = flat != BLANK
    begins[1:] &= flat[1:] != flat[:-1]  # a run begins where the class changes
    starts = np.flatnonzero(begins)  # (K,), K characters in the complete batch
    code_points = np.frombuffer(
        ("\0" + charset.characters).encode("utf-32-le"), dtype="<u4"
    )
    text = code_points[flat[starts]].tobytes().decode("utf-32-le")
    bounds = np.searchsorted(starts, np.arange(n + 1) * (length + 1)).tolist()
    texts = [text[first:last] for first, last in pairwise(bounds)]
    return Readings(
        texts, classes, peaks, logits if activation == "logits" else None, temperature
    )


def _softmax_at(
    logits: NDArray[np.float32],
    frames: NDArray[np.intp],
    peaks: NDArray[np.float32],
    temperature: float,
) -> NDArray[np.float32]:
    """Return softmax at its maximum (F,) of F frames of (N, T, C) logits whose maxima are given, by
    blocks that fit the cache.
    """
    rows = logits.reshape(-1, logits.shape[2])
    total = np.empty(len(frames), dtype=np.float32)
    for start in range(0, len(frames), _BLOCK_FRAMES):
        block = slice(start, start + _BLOCK_FRAMES)
        spread = rows.take(frames[block], axis=0)  # (F, C)
        spread -= peaks[block, None]  # cannot overflow
        if temperature != 1.0:
            spread /= np.float32(temperature)
        np.exp(spread, out=spread)
        # Four times as fast as sum(axis=1), and unlike a product with ones it adds up a row the
        # same way in any batch.
        np.einsum("fc->f", spread, out=total[block])
    return np.reciprocal(total)


def best_and_peaks(
    logits: NDArray[np.float32], charset: Charset, activation: OutputActivation
) -> tuple[NDArray[np.integer], NDArray[np.float32]]:
    """Return the best class of each frame and its value, (N, T) each; the value is NaN wherever a
    frame holds one.
    """
    if activation == "argmax+confidence":
        # contiguous memory makes every step faster
        return _classes(logits[:, :, 0].copy(), charset), logits[:, :, 1].copy()
    n, length, channels = logits.shape
    at = logits.argmax(axis=2)  # (N, T)
    best = at.astype(np.int32)
    # In place, as fresh memory costs more than the arithmetic; half the time of take_along_axis.
    at += np.arange(n)[:, None] * (length * channels)
    at += np.arange(length) * channels
    return best, logits.reshape(-1).take(at)


def _classes(numbers: NDArray[np.float32], charset: Charset) -> NDArray[np.integer]:
    """Return the classes (N, T) that a network gave as floats. Raises ArtifactError for one that
    the charset does not have.
    """
    with np.errstate(invalid="ignore"):  # NaN becomes some number, which is not the NaN
        classes = numbers.astype(np.int32)
    # negative ones are large as unsigned
    wrong = (classes != numbers) | (classes.view(np.uint32) >= charset.num_classes)
    if wrong.any():
        line, frame = np.argwhere(wrong)[0].tolist()
        raise ArtifactError(
            f"the output holds class {numbers[line, frame]} at line {line}, frame {frame} of a"
            f" batch; charset {charset.name!r} has 0…{charset.num_classes - 1}: does the contract"
            f" match the model's output?"
        )
    return classes


def require_shapes(
    logits: NDArray[np.float32],
    frames: NDArray[np.integer],
    charset: Charset,
    activation: OutputActivation,
) -> None:
    """Raise ArtifactError unless the output (N, T, C) fits the charset and the frame counts
    (N,).
    """
    if activation == "argmax+confidence":
        channels = 2
    else:
        channels = charset.num_classes
    if logits.ndim != 3 or logits.shape[2] != channels:
        raise ArtifactError(
            f"an output of shape {logits.shape} cannot be read with charset {charset.name!r}, which"
            f" needs (N, T, {channels})"
        )
    n, length, _ = logits.shape
    if frames.shape != (n,) or (n and not 0 <= frames.min() <= frames.max() <= length):
        raise ArtifactError(
            f"frame counts {frames.tolist()} do not fit an output of {n} lines and {length} frames"
        )


def require_sane(
    peaks: NDArray[np.float32], own: NDArray[np.bool_], activation: OutputActivation
) -> None:
    """Raise ArtifactError unless the maximum output of each line's own frames, (N, T), is finite
    and agrees with the activation.
    """
    bad = own & ~np.isfinite(peaks)
    if bad.any():
        line, frame = np.argwhere(bad)[0].tolist()
        raise ArtifactError(
            f"the output is NaN or infinite at line {line}, frame {frame} of a batch: "
            "its training diverged (lower train.lr), or fp16 overflowed (use fp32)"
        )
    # 1.001: fp16 rounds
    if activation != "logits" and (own & ((peaks <= 0) | (peaks > 1.001))).any():
        raise ArtifactError(
            "this model's output is probabilities according to its contract, but values are"
            " outside 0…1; export it again with output_activation logits"
        )
