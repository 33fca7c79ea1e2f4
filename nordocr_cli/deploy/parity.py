"""Parity: whether the exported file, run by ONNX Runtime, gives the output of the network, at many
widths and batch sizes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact.contract import Contract, OutputActivation
from nordocr_cli.errors import ArtifactError
from nordocr_cli.progress import SILENT, Progress

# Seen on SVTRv2-B: fp32 differs by 2e-6. Numbers of 16 bits round relative to the value (fp16: 1e-3
# in the end; bf16, with three bits less, eight times that), so their bound grows with the logits.
FP32_TOLERANCE = 1e-4
FP16_TOLERANCE = 2e-2
BF16_TOLERANCE = 1.6e-1
# Share of the decided frames in which file and network must have the same best class.
AGREEMENT = {"fp32": 1.0, "fp16": 0.995, "bf16": 0.98}
# A frame whose best class leads by less than this share of the maximum output is not compared: its
# best class is undecided.
_TIE = 5e-3
_WIDTHS = (32, 128, 320, 768, 1024, 1792)
# always tried; batches of wider lines take seconds and are tried within the time limit
_BATCHED_UP_TO_PX = 320
_BATCHES = (1, 2, 5)
_SEED = 17
BUDGET_S = 30.0  # for the network's own run over the shapes

# images (N, 3, height, W) → (N, T, C)
RunNetwork = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class ParityPoint:
    """The difference between file and network at one input shape. `max_diff` is absolute. `decided`
    is the number of frames in which the network has a clear best class, `agreement` the share of
    them in which the file has the same. `tolerance` is the allowed difference; `content` names the
    pixels: noise, white or black.
    """

    batch: int
    width: int
    decided: int
    max_diff: float
    agreement: float
    tolerance: float
    content: str = "noise"

    def __str__(self) -> str:
        return f"{self.batch}x{self.width} px" + (
            f" ({self.content})" if self.content != "noise" else ""
        )


@dataclass(frozen=True)
class Parity:
    """All tested points."""

    points: tuple[ParityPoint, ...]

    @property
    def worst(self) -> ParityPoint:
        """The point with the maximum difference relative to its tolerance."""
        return max(self.points, key=lambda point: point.max_diff / point.tolerance)

    @property
    def agreement(self) -> float:
        """The share of all decided frames in which file and network have the same best class; 1
        when none is decided.
        """
        decided = sum(point.decided for point in self.points)
        if decided:
            return sum(point.agreement * point.decided for point in self.points) / decided
        return 1.0

    def to_json(self) -> dict[str, Any]:
        """Return the points and the verdict's numbers as plain JSON values."""
        return {
            "points": [vars(point) for point in self.points],
            "worst": vars(self.worst),
            "agreement": self.agreement,
        }


def shapes_to_try(max_width: int) -> tuple[tuple[int, int], ...]:
    """Return the (batch, width) pairs to try for lines up to `max_width` pixels: first those that
    are always tried, then the wide batches, the cheapest first.
    """
    widths = sorted({width for width in _WIDTHS if width < max_width} | {max_width})
    pairs = [(batch, width) for width in widths for batch in _BATCHES]
    return tuple(
        sorted(
            pairs,
            key=lambda pair: (
                not _always(*pair),
                pair[0] * pair[1] if not _always(*pair) else 0,
            ),
        )
    )


def _always(batch: int, width: int) -> bool:
    return batch == 1 or width <= _BATCHED_UP_TO_PX


@dataclass(frozen=True)
class Case:
    """Images uint8 (N, 3, height, W) and the logits that the network gives for them in fp32, (N, T,
    C).
    """

    images: NDArray[np.uint8]
    reference: NDArray[np.float32]
    content: str = "noise"


def make_cases(
    network: RunNetwork,
    height: int,
    shapes: Sequence[tuple[int, int]],
    *,
    budget_s: float = BUDGET_S,
    progress: Progress = SILENT,
) -> list[Case]:
    """Run `network` over noise at each (batch, width), and over white and black at the minimum and
    the maximum width. One list serves every file exported from that network. Wide batches that
    would exceed `budget_s` seconds are skipped with a note.
    """
    random = np.random.default_rng(_SEED)
    ends = sorted({min(width for _, width in shapes), max(width for _, width in shapes)})
    planned = [(batch, width, "noise") for batch, width in shapes]
    planned[:0] = [(1, width, content) for width in ends for content in ("white", "black")]
    cases = []
    left_out = []
    columns = 0
    began = time.monotonic()
    progress.start("torch, fp32", total=len(planned), unit="shapes")
    for batch, width, content in planned:
        spent = time.monotonic() - began
        if (
            not _always(batch, width)
            and spent * (1 + batch * width / max(columns, 1)) > budget_s
        ):
            left_out.append(f"{batch}x{width}")
            continue
        fill = {"white": 255, "black": 0}.get(content)
        size = (batch, 3, height, width)
        if fill is None:
            images = random.integers(0, 256, size, dtype=np.uint8)
        else:
            images = np.full(size, fill, np.uint8)
        cases.append(Case(images, np.asarray(network(images), dtype=np.float32), content))
        columns += batch * width
        progress.advance(shape=f"{batch}x{width}")
    progress.finish()
    if left_out:
        progress.note(
            f"parity: {', '.join(left_out)} px skipped, they would take the network more than"
            f" {budget_s:.0f} s"
        )
    return cases


def check_parity(
    run: RunNetwork,
    cases: Sequence[Case],
    contract: Contract,
    *,
    name: str,
    progress: Progress = SILENT,
) -> Parity:
    """Run a file, `name` in messages, over `cases` and compare. `run` returns the output that
    `contract` describes. Raises ArtifactError naming the worst shape when one fails: another number
    of frames, a value that is not finite, a difference beyond the tolerance (fp32: 1e-4; fp16:
    2e-2, bf16: 0.16 of the maximum logit) or another best class in more of the decided frames than
    the precision allows (fp32: none; fp16 0.5 %; bf16 2 %). For int8 only frames and finiteness are
    checked, since it is calibrated for lines, not for noise. For an autoregressive network in 16
    bits, differences are checked only in lines of equal text, and 2 % of other best classes are
    allowed, see `sixteen_bit_share`.
    """
    points = []
    progress.start(f"ONNX Runtime, {contract.precision}", total=len(cases), unit="shapes")
    for case in cases:
        points.append(_compare(run, case, contract, name))
        progress.advance(shape=str(points[-1]))
    progress.finish()
    parity = Parity(tuple(points))
    if contract.precision != "int8":
        _judge(parity, contract, name)
    return parity


def open_file(path: Path, contract: Contract, what: str, threads: int = 0) -> RunNetwork:
    """Return a function that runs an ONNX file in ONNX Runtime on the CPU (`threads` 0: all cores).
    Unlike a Runner it does not check the contract. Raises ArtifactError when the file cannot be
    loaded; the function raises ArtifactError when it fails.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    from nordocr_cli.data.resize import network_input
    from nordocr_cli.deploy.onnx_bounds import WATCH, bounded_session

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = (
        3  # errors only: fp16 on a CPU warns at every node that is cast
    )
    try:
        session = bounded_session(str(path), options)
    except (
        state.Fail,
        state.InvalidGraph,
        state.NotImplemented,
        state.InvalidArgument,
        state.InvalidProtobuf,
    ) as error:
        raise ArtifactError(
            f"{what}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}"
        ) from error

    def run(images: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        feed = {
            session.get_inputs()[0].name: network_input(
                images, contract.geometry, contract.input_type
            )
        }
        try:
            with WATCH.call() as run_options:
                output: NDArray[np.floating[Any]] = session.run(None, feed, run_options)[0]
        except (state.Fail, state.RuntimeException, state.InvalidArgument) as error:
            shape = f"{images.shape[0]}x{images.shape[3]} px"
            raise ArtifactError(
                f"{what}: fails at {shape}: {str(error).splitlines()[0]}"
            ) from error
        return output

    return run


def best_classes(
    output: NDArray[np.floating[Any]], activation: OutputActivation
) -> NDArray[np.intp]:
    """Return the best class of each frame, (N, T), of a finite output (N, T, C)."""
    if activation == "argmax+confidence":
        return output[..., 0].astype(np.intp)
    return output.argmax(-1)


def _values(logits: NDArray[np.float32], contract: Contract) -> NDArray[np.float32]:
    """Return the values with which a file's output is compared: logits, probabilities, or the
    probability of the best class.
    """
    activation = contract.output_activation
    if activation == "logits":
        return logits
    powers = np.exp(
        (logits - logits.max(-1, keepdims=True)) / np.float32(contract.temperature)
    )
    probabilities: NDArray[np.float32] = powers / powers.sum(-1, keepdims=True)
    if activation == "softmax":
        return probabilities
    return probabilities.max(-1)


def _compare(run: RunNetwork, case: Case, contract: Contract, what: str) -> ParityPoint:
    images = case.images
    reference = case.reference
    activation = contract.output_activation
    batch = images.shape[0]
    width = images.shape[3]
    got = run(images)  # (N, T, C)
    frames = contract.out_length(width)
    if got.shape != (batch, frames, contract.output_channels) or reference.shape[:2] != (
        batch,
        frames,
    ):
        raise ArtifactError(
            f"{what}: at {batch}x{width} px the file gives {got.shape}, the network"
            f" {reference.shape};"
            f" {frames} frames were expected: an axis was frozen to the example's size"
        )
    if not np.isfinite(got).all():
        where = f"{batch}x{width} px" + (
            f" of {case.content}" if case.content != "noise" else ""
        )
        raise ArtifactError(
            f"{what}: NaN or infinity in the output at {where} (the network overflows in"
            f" {contract.precision})"
        )
    values = _values(reference, contract)
    tolerance = _tolerance(contract, float(np.abs(values).max()))
    second, best = np.moveaxis(
        np.partition(reference, -2, axis=-1)[..., -2:], -1, 0
    )  # (N, T) each
    decided = best - second > _TIE * np.abs(reference).max()
    same = best_classes(got, activation) == reference.argmax(-1)  # (N, T)
    numbers = got[..., 1] if activation == "argmax+confidence" else got
    differences = (
        np.abs(numbers.astype(np.float32) - values).reshape(batch, -1).max(1)
    )  # (N,)
    if contract.decoding == "autoregressive" and _rounding(contract) != "fp32":
        # When rounding decides a tie differently, all later tokens may change: such a line is
        # compared up to there.
        differences = differences[same.all(1)]
        decided &= ~np.maximum.accumulate(~same & ~decided, axis=1)
    same = same[decided]
    agreement = float(same.mean()) if same.size else 1.0
    difference = float(differences.max(initial=0.0))
    return ParityPoint(
        batch, width, int(same.size), difference, agreement, tolerance, case.content
    )


def _rounding(contract: Contract) -> str:
    """Return the coarsest number format between input and output: a file with fp16 tensors rounds,
    even if it computes in another format.
    """
    sixteen_bit = "float16" in (contract.input_type, contract.output_type)
    if contract.precision == "fp32" and sixteen_bit:
        return "fp16"
    return contract.precision


def _tolerance(contract: Contract, max_logit: float) -> float:
    rounding = _rounding(contract)
    if rounding == "fp32":
        return FP32_TOLERANCE
    return sixteen_bit_share(contract, rounding) * max(1.0, max_logit)


def sixteen_bit_share(contract: Contract, rounding: str) -> float:
    """Return the share of the maximum logit by which a file of 16 bits may differ. An
    autoregressive network refines its own text. A tie that is decided differently in between
    changes its logits, even if the final text is the same: it gets bf16's share.
    """
    if rounding == "fp16" and contract.decoding == "ctc":
        return FP16_TOLERANCE
    return BF16_TOLERANCE


def _judge(parity: Parity, contract: Contract, what: str) -> None:
    worst = parity.worst
    precision = contract.precision
    if not worst.max_diff < worst.tolerance:
        raise ArtifactError(
            f"{what}: does not compute the same as the network: differs by {worst.max_diff:.2g}"
            f" at {worst} ({worst.tolerance:.2g} allowed in {precision}); nothing was written"
        )
    rounding = _rounding(contract)
    required = AGREEMENT[
        "bf16" if rounding == "fp16" and contract.decoding == "autoregressive" else rounding
    ]
    if parity.agreement < required:
        worst_point = min(parity.points, key=lambda point: point.agreement)
        raise ArtifactError(
            f"{what}: the best class differs in {1 - parity.agreement:.2%} of the decided frames,"
            f" most at {worst_point} ({1 - required:.1%} allowed in {precision}); nothing was"
            f" written"
        )
