"""Parity: does the exported file, run by ONNX Runtime, say what the network says, at many widths and batch sizes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.errors import ArtifactError
from nordocr_cli.geometry import Geometry
from nordocr_cli.progress import SILENT, Progress

# Seen on SVTRv2-B: fp32 differs by 2e-6. fp16 rounds to about 1e-3 of the value, so its bound grows with the logits.
FP32_TOLERANCE = 1e-4
FP16_TOLERANCE = 2e-2
FP16_AGREEMENT = 0.995
# A frame whose best class leads by less than this share of the greatest output has no best class to agree on.
_TIE = 5e-3
_WIDTHS = (32, 128, 320, 768, 1024, 1792)
_BATCHED_UP_TO_PX = 320  # wider lines are tried alone: they cost seconds and batch no differently
_BATCHES = (1, 2, 5)
_SEED = 17

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # (N, 3, height, W) → (N, T, C)


@dataclass(frozen=True)
class Point:
    """How far file and network are apart at one input shape. `max_diff` is absolute; `decided` the number of frames in which
    the network has a clear best class, `agreement` the share of them in which the file has the same; `tolerance` what was
    allowed there."""

    batch: int
    width: int
    decided: int
    max_diff: float
    agreement: float
    tolerance: float

    def __str__(self) -> str:
        return f"{self.batch}x{self.width} px"


@dataclass(frozen=True)
class Parity:
    """All points tried."""

    points: tuple[Point, ...]

    @property
    def worst(self) -> Point:
        """The point with the greatest difference in relation to what was allowed there."""
        return max(self.points, key=lambda point: point.max_diff / point.tolerance)

    @property
    def agreement(self) -> float:
        """Share of all decided frames in which file and network have the same best class; 1 where none is decided."""
        decided = sum(point.decided for point in self.points)
        return sum(point.agreement * point.decided for point in self.points) / decided if decided else 1.0

    def to_json(self) -> dict[str, Any]:
        """Return the points and the verdict's numbers as plain JSON values."""
        return {
            "points": [vars(point) for point in self.points],
            "worst": vars(self.worst),
            "agreement": self.agreement,
        }


def shapes_to_try(max_width: int) -> tuple[tuple[int, int], ...]:
    """Return the (batch, width) pairs tried for lines up to `max_width` pixels."""
    widths = sorted({width for width in _WIDTHS if width < max_width} | {max_width})
    return tuple((batch, width) for width in widths for batch in (_BATCHES if width <= _BATCHED_UP_TO_PX else (1,)))


@dataclass(frozen=True)
class Case:
    """Noise images (N, 3, height, W) in [-1, 1] and what the network makes of them in fp32, (N, T, C)."""

    images: NDArray[np.float32]
    wanted: NDArray[np.float32]


def make_cases(network: Network, height: int, shapes: Sequence[tuple[int, int]], progress: Progress = SILENT) -> list[Case]:
    """Run `network` over noise at each (batch, width); one list serves every file exported from that network."""
    random = np.random.default_rng(_SEED)
    cases = []
    progress.start("torch, fp32", total=len(shapes), unit="shapes")
    for batch, width in shapes:
        images = random.uniform(-1, 1, (batch, 3, height, width)).astype(np.float32)
        cases.append(Case(images, network(images)))
        progress.advance(shape=f"{batch}x{width}")
    progress.finish()
    return cases


def check_parity(
    path: Path, cases: Sequence[Case], geometry: Geometry, precision: str, *, name: str, progress: Progress = SILENT
) -> Parity:
    """Run the ONNX file `path`, `name` in messages, over `cases` and compare.

    Raises ArtifactError naming the worst shape when one fails: another number of frames, a value that is not finite, a
    difference beyond the tolerance (fp32: 1e-4; fp16: 2e-2 of the greatest logit) or, in fp16, another best class in more
    than 0.5 % of the decided frames.
    """
    session = _open(path, name)
    points = []
    progress.start(f"ONNX Runtime, {precision}", total=len(cases), unit="shapes")
    for case in cases:
        points.append(_compare(session, case, geometry.out_length(case.images.shape[3]), precision, name))
        progress.advance(shape=str(points[-1]))
    progress.finish()
    parity = Parity(tuple(points))
    _judge(parity, precision, name)
    return parity


def _open(path: Path, what: str) -> Any:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: fp16 on a CPU warns at every node that is cast
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (state.Fail, state.InvalidGraph, state.NotImplemented, state.InvalidArgument, state.InvalidProtobuf) as error:
        raise ArtifactError(f"{what}: ONNX Runtime does not load it: {str(error).splitlines()[0]}") from error


def _compare(session: Any, case: Case, frames: int, precision: str, what: str) -> Point:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    images, wanted = case.images, case.wanted
    batch, width = images.shape[0], images.shape[3]
    try:
        got: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images})[0]  # (N, T, C)
    except (state.Fail, state.RuntimeException, state.InvalidArgument) as error:
        raise ArtifactError(f"{what}: fails at {batch}x{width} px: {str(error).splitlines()[0]}") from error
    if not got.shape == wanted.shape == (batch, frames, wanted.shape[2]):
        raise ArtifactError(
            f"{what}: at {batch}x{width} px the file gives {got.shape}, the network {wanted.shape}; "
            f"{frames} frames were due: an axis was frozen to the example's size"
        )
    if not np.isfinite(got).all():
        raise ArtifactError(f"{what}: NaN or infinity in the output at {batch}x{width} px (the network overflows in {precision})")
    greatest = float(np.abs(wanted).max())
    tolerance = FP32_TOLERANCE if precision == "fp32" else FP16_TOLERANCE * max(1.0, greatest)
    second, best = np.moveaxis(np.partition(wanted, -2, axis=-1)[..., -2:], -1, 0)  # (N, T) each
    decided = best - second > _TIE * greatest
    same = (got.argmax(-1) == wanted.argmax(-1))[decided]
    agreement = float(same.mean()) if same.size else 1.0
    return Point(batch, width, int(same.size), float(np.abs(got - wanted).max()), agreement, tolerance)


def _judge(parity: Parity, precision: str, what: str) -> None:
    worst = parity.worst
    if not worst.max_diff < worst.tolerance:
        raise ArtifactError(
            f"{what}: does not compute what the network computes: differs by {worst.max_diff:.2g} at {worst} "
            f"({worst.tolerance:.2g} allowed in {precision}); nothing was written"
        )
    if precision == "fp16" and parity.agreement < FP16_AGREEMENT:
        least = min(parity.points, key=lambda point: point.agreement)
        raise ArtifactError(
            f"{what}: the best class differs in {1 - parity.agreement:.2%} of the decided frames, most at {least} "
            f"({1 - FP16_AGREEMENT:.1%} allowed in fp16); nothing was written"
        )
