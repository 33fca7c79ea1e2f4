"""The records that the parts exchange: torch-free, frozen, with their JSON forms.

files ─▶ LineRow ─▶ line store ─▶ logits ─▶ Recognition ─▶ LineResult ─▶ report document ─▶ Region /
Page (the consumer's result JSON)
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STDIN = Path("-")  # as an input: standard input
Point = tuple[float, float]  # (x, y) in pixels of the page


@dataclass(frozen=True, slots=True)
class LineRow:
    """One row of a manifest: one line image and its text.

    `id` is unique in its manifest; `image` a path relative to the manifest's root (or a key of a
    foreign LMDB); `text` is NFC; `source` names the document that the line was cut from (splits go
    by it); `extra` keeps every other key of the row.
    """

    id: str
    image: str
    text: str
    language: str = ""
    subset: str = ""
    split: str = ""
    source: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the row as one flat JSON object, empty fields left out."""
        names = ("id", "image", "text", "language", "subset", "split", "source")
        fields = {name: getattr(self, name) for name in names}
        row = {name: value for name, value in fields.items() if value != ""}
        # `extra` never replaces a field of the row, not even an empty one.
        extra = {key: value for key, value in self.extra.items() if key not in names}
        return {"text": self.text, **row, **extra}


@dataclass(frozen=True, slots=True)
class Recognition:
    """The text that a recognizer read on one line.

    `confidence` is the geometric mean of `char_confidences` (0…1; 0.0 for an empty text, None where
    an engine gives none). `spans` are the [first, last + 1) CTC frames of each character. Both
    tuples are as long as `text`, or empty where an engine has no such values. `read_height` is the
    height in px of the part of the crop that was read; None means the complete crop.
    """

    text: str
    confidence: float | None = None
    char_confidences: tuple[float, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    read_height: int | None = None


@dataclass(frozen=True, slots=True)
class LineResult:
    """One line in an evaluation. `width` is the stored width in pixels at the geometry's height.
    `squash_ratio` is how many times the crop was too wide, whether it was squeezed or cropped (1.0
    = fits). `frames` is its number of CTC frames (None where not known). `oov` means that the
    reference holds characters outside the recognizer's charset (None where not known).
    """

    id: str
    reference: str
    hypothesis: str
    confidence: float | None = None
    language: str = ""
    subset: str = ""
    source: str = ""
    width: int | None = None
    squash_ratio: float = 1.0
    frames: int | None = None
    oov: bool | None = None
    # True: the line did not fit its store, so no recognizer read it
    not_in_store: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as one JSON object, unknown fields left out."""
        return {k: v for k, v in asdict(self).items() if v is not None and v != ""} | {
            "reference": self.reference,
            "hypothesis": self.hypothesis,
        }


def finite(confidence: float | None) -> float | None:
    """Return a confidence, or None when it is NaN or infinite, which JSON does not have."""
    if confidence is not None and math.isfinite(confidence):
        return confidence
    return None


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-parallel box on a page, in pixels of that page; `x`, `y` is the top left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """x of the right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """y of the bottom edge."""
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class Region:
    """One text line on a page: its position and, when it was read, its text.

    `polygon` holds the corners (x, y) of a line whose outline is known, `baseline` the points under
    its letters, in reading direction; both are empty when unknown. `box` is the axis-parallel box
    around the line.
    """

    box: Box
    text: str = ""
    confidence: float | None = None
    char_confidences: tuple[float, ...] = ()
    polygon: tuple[tuple[float, float], ...] = ()
    baseline: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a document; `index` counts from 0, as the consumer's JSON does."""

    index: int
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Resolution:
    """Dots per inch of a page, which differ across and down in fax pages."""

    x_dpi: float
    y_dpi: float
