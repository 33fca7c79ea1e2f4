"""Reading lines as a host that pads each batch to its widest line.

`RunnerRecognizer` reads a line so that its text never depends on its neighbours. The Rust pipeline
does not: it uses another resampler, sorts lines by width, cuts them into batches and pads each with
white, which a network without a mask sees as paper. `as_served` reads exactly like that, which
shows how accurate a model is in the pipeline.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.data.resize import pad_batch, resize_line
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.decode.probabilities import require_declared_activation
from nordocr_cli.deploy.consumer import geometry_conflicts
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.geometry import Geometry, Resampler
from nordocr_cli.profile import profile_from_json
from nordocr_cli.records import Recognition
from nordocr_cli.runtime.protocols import Image, Runner

# decode_greedy, or a function with the same signature
DecodeFunction = Callable[..., Sequence[Recognition]]

HOST_RESAMPLER: Resampler = "corner-bilinear"
HOST_BATCH = 64  # lines per batch when the model's profile names no engine
HOST_GPU = "sm120"  # the production machine, whose engine determines batch and width


class PaddedRecognizer:
    """A network whose lines are padded to the widest of their batch; see Recognizer. Lines are
    sorted by width and cut into batches of `max_batch`. Even a network with a mask sees the padding
    as pixels, since the host passes no widths. With `host_decoding` the softmax is applied to the
    output without a temperature, and spaces at both ends are stripped.
    """

    def __init__(
        self,
        runner: Runner,
        geometry: Geometry,
        max_batch: int,
        *,
        host_decoding: bool = False,
        decode: DecodeFunction = decode_greedy,
    ) -> None:
        if runner.contract.decoding != "ctc":
            raise UsageError(
                f"{runner.name} decodes {runner.contract.decoding}; the host pads and decodes CTC"
                " networks only"
            )
        self.runner = runner
        self.geometry = geometry
        self.max_batch = max_batch
        self.host_decoding = host_decoding
        self.decode = decode
        self.name = runner.name

    def recognize(
        self, crops: Sequence[Image], languages: Sequence[str] = ()
    ) -> list[Recognition]:
        """Read the crops; see Recognizer. A line's text depends on the lines of its batch."""
        lines = [resize_line(crop, self.geometry) for crop in crops]  # (height, w, 3) each
        order = sorted(range(len(lines)), key=lambda index: lines[index].shape[1])
        readings = [Recognition("")] * len(lines)
        for start in range(0, len(order), self.max_batch):
            members = order[start : start + self.max_batch]
            found = self._read([lines[index] for index in members])
            for index, reading in zip(members, found, strict=True):
                readings[index] = reading
        return readings

    def _read(self, lines: Sequence[Image]) -> list[Recognition]:
        images, widths = pad_batch(list(lines), self.geometry)  # (N, 3, H, W), (N,)
        batch_width = np.full(len(lines), images.shape[3])
        logits = self.runner.run(images, batch_width)  # (N, T, C)
        frames = np.array([self.geometry.out_length(int(width)) for width in widths])
        return self._decode(logits, frames)

    def _decode(
        self, logits: NDArray[np.float32], frames: NDArray[np.int64]
    ) -> list[Recognition]:
        contract = self.runner.contract
        if not self.host_decoding:
            activation = contract.output_activation
            temperature = contract.temperature
            found = self.decode(logits, frames, contract.charset, activation, temperature)
            return list(found)
        require_declared_activation(logits[0], int(frames[0]), contract, self.name)
        found = decode_greedy(logits, frames, contract.charset, "logits")
        return [_stripped(reading) for reading in found]


def as_served(runner: Runner, max_batch: int | None = None) -> PaddedRecognizer:
    """Return a recognizer that reads lines as the Rust pipeline does: its resampler, white padding
    to the batch's width, batches of `max_batch` lines (default: that of the engine in the model's
    profile), item_width / 4 frames and its confidence. Raises DataError for a geometry that the
    pipeline does not support, UsageError for a network that it cannot decode.
    """
    contract = runner.contract
    conflicts = geometry_conflicts(contract)
    if conflicts:
        raise DataError(f"{runner.name} cannot be served: " + "; ".join(conflicts))
    if contract.output_activation == "argmax+confidence":
        raise UsageError(
            f"{runner.name} outputs class and confidence; the host needs logits for its softmax"
        )
    profile = profile_from_json(contract.profile, f"{runner.name}: embedded profile")
    engine = profile.engine.get(HOST_GPU)
    widest = engine.widest if engine else None
    width = max(contract.geometry.max_width, widest.max_width if widest else 0)
    geometry = replace(contract.geometry, resampler=HOST_RESAMPLER, max_width=width)
    batch = max_batch or (widest.max_batch if widest else HOST_BATCH)
    return PaddedRecognizer(runner, geometry, batch, host_decoding=True)


def padded(runner: Runner, decode: DecodeFunction = decode_greedy) -> PaddedRecognizer:
    """Return a recognizer that reads lines in padded batches of any size and otherwise follows the
    contract.
    """
    geometry = runner.contract.geometry
    return PaddedRecognizer(runner, geometry, max_batch=1 << 16, decode=decode)


def _stripped(reading: Recognition) -> Recognition:
    """Strip spaces at both ends. The line's confidence stays that of all characters."""
    text = reading.text
    first = len(text) - len(text.lstrip(" "))
    last = len(text.rstrip(" "))
    kept = slice(first, max(first, last))
    return replace(
        reading,
        text=text[kept],
        char_confidences=reading.char_confidences[kept],
        spans=reading.spans[kept],
    )
