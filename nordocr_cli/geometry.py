"""Geometry: how a crop becomes a (height, width) input, and how many CTC frames that input gives.

These numbers are defined only here; prep, training, evaluation, export and the runners all use this
module.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, get_args

# `auto` occurs in profiles only: prep decides from the crop statistics and writes the decision into
# the store.
OverWidth = Literal["squash", "center-crop", "auto"]
Resampler = Literal["linear", "area", "cubic", "corner-bilinear"]
Normalization = Literal["symmetric", "imagenet"]

CTC_STRIDE = 4

# Channel mean and scale on the 0…255 range: normalized = (v - mean) / scale. Symmetric is v / 127.5
# - 1.
NORMALIZATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "symmetric": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}


@dataclass(frozen=True)
class Geometry:
    """The input contract of a line recognizer. Widths and heights are in pixels. Raises ValueError
    on impossible values.

    With `tighten` a crop is cut to its text before it is scaled: see data/text_band.py. Hosts that
    cut lines themselves do not do that, so it is off for the networks that they run.
    """

    # Used by pydantic for a Geometry in a profile: an unknown key is an error there.
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    height: int = 32
    max_width: int = 1024
    width_multiple: int = 4
    stride: int = CTC_STRIDE
    pad_value: int = 255
    over_width: OverWidth = "squash"
    resampler: Resampler = "linear"
    normalization: Normalization = "symmetric"
    tighten: bool = False

    def __post_init__(self) -> None:
        if self.height < 8 or self.max_width < self.width_multiple:
            raise ValueError(
                f"height {self.height} and max_width {self.max_width} are too small"
            )
        if self.width_multiple % self.stride:
            raise ValueError(
                f"width_multiple {self.width_multiple} must be a multiple of the stride"
                f" {self.stride}"
            )
        if self.max_width % self.width_multiple:
            raise ValueError(
                f"max_width {self.max_width} must be a multiple of {self.width_multiple}"
            )
        if not 0 <= self.pad_value <= 255:
            raise ValueError(f"pad_value {self.pad_value} is outside 0…255")
        if self.height == self.max_width:
            raise ValueError(
                f"a square {self.height}x{self.max_width} input wastes most of its pixels on a text"
                " line; use a rectangular one, e.g. height 32 and max_width 128"
            )
        for name, choices in (
            ("over_width", OverWidth),
            ("resampler", Resampler),
            ("normalization", Normalization),
        ):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is not one of {', '.join(get_args(choices))}"
                )

    def natural_width(self, height: int, width: int) -> int:
        """Width of a (height, width) crop scaled to `self.height`: rounded half up as the consumer
        does, floored to a multiple of `width_multiple`, at least one multiple, and not yet clamped
        to `max_width`.

        Raises ValueError when a side is not positive.
        """
        if height <= 0 or width <= 0:
            raise ValueError(f"a crop of height {height} and width {width} has no pixels")
        rounded = (2 * width * self.height + height) // (2 * height)
        return max(
            self.width_multiple, rounded // self.width_multiple * self.width_multiple
        )

    def line_width(self, height: int, width: int) -> int:
        """Width in [width_multiple, max_width] at which a (height, width) crop is stored."""
        return min(self.natural_width(height, width), self.max_width)

    def squash_ratio(self, height: int, width: int) -> float:
        """Return how many times wider a crop is than `max_width`; 1.0 when it fits."""
        return max(1.0, self.natural_width(height, width) / self.max_width)

    def out_length(self, width: int) -> int:
        """Number of CTC frames T of an input `width` pixels wide."""
        return out_length(width, self.stride)

    def conflicts(self, other: "Geometry", *, ignore: tuple[str, ...] = ()) -> list[str]:
        """Return `field: mine / theirs` for every field that differs, except those in `ignore`."""
        mine = asdict(self)
        theirs = asdict(other)
        return [
            f"geometry.{k}: {v} / {theirs[k]}"
            for k, v in mine.items()
            if v != theirs[k] and k not in ignore
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values. `tighten` is included only when it is on, so that
        older contracts and stores keep their content and hash.
        """
        values = asdict(self)
        if not self.tighten:
            del values["tighten"]
        return values


def out_length(width: int, stride: int = CTC_STRIDE) -> int:
    """Number of CTC frames of an input `width` pixels wide: ceil(width / stride) = (width - 1) //
    stride + 1.
    """
    return (width - 1) // stride + 1


def frames_needed(classes: "list[int] | tuple[int, ...] | str") -> int:
    """Return the minimum number of frames in which CTC can write a sequence: its length plus one
    blank between equal neighbours.
    """
    return len(classes) + sum(1 for a, b in pairwise(classes) if a == b)
