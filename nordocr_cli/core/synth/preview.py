"""`nordocr synth --preview`: a labelled sheet of every damage with its strength, and of the lines
that a run would begin with.
"""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nordocr_cli.core.synth.run import Job
from nordocr_cli.data.resize import resize_line
from nordocr_cli.data.synth.damage import RECIPES, strength_ranges
from nordocr_cli.data.synth.fonts import FontPicker, label_font
from nordocr_cli.data.synth.looks import LOOKS
from nordocr_cli.data.synth.render import RenderedLine, Style, render_line
from nordocr_cli.data.synth.texts import Text

_SAMPLE = "Årets resultat 1 234 567,89 kr"
_LABEL_PX = 13
_MARGIN = 6
_COLUMNS = 3
_MAXIMUM_COLUMN_PX = 700
_ROW_GAP = _LABEL_PX + 2 * _MARGIN
_DESK = (255, 236, 214)
_LABEL_INK = (160, 0, 0)
_TITLE_INK = (0, 0, 0)

Picture = NDArray[Any]  # uint8 (h, w, 3)
PreviewRow = Sequence[tuple[str, Picture]]  # captions and pictures that stand side by side


def preview(job: Job, lines: int) -> bytes:
    """Return the sheet as PNG bytes: each damage alone at its minimum, middle and maximum strength,
    what may stand around a line, each kind of scan, then lines 0…lines-1 of `job` with their labels
    and how they were made. Lines are at the geometry's height.

    Raises UsageError when no font of the system draws the labels.
    """
    parts = [
        (
            "each damage alone, at its minimum, middle and maximum strength",
            _operations(job),
        ),
        *_kinds(job),
    ]
    parts.append((f"the first lines of seed {job.seed}", _lines(job, lines)))
    return _drawn(parts, job)


@dataclass(frozen=True)
class _OneText:
    """A source of one text."""

    text: Text

    def draw(self, rng: random.Random, *_: object) -> Text:
        return self.text


def _sample(job: Job, style: Style, seed: str) -> RenderedLine:
    """The sample text drawn with `style`, in a plain face."""
    label = _SAMPLE
    if job.charset.missing(_SAMPLE):
        label = job.source.draw(random.Random(0)).label
    text = Text((label,), "sv", "sample")
    able = [
        face for face in job.faces if set(text.label) - {" "} <= face.characters
    ] or job.faces
    plainest = min(
        able,
        key=lambda face: (face.category != "sans", "regular" not in face.style.lower()),
    )
    fonts = FontPicker([plainest])
    return render_line(random.Random(seed), _OneText(text), fonts, job.geometry, style)  # type: ignore[arg-type]


def _bare(**changes: float) -> Style:
    """A clean page on which nothing happens but `changes`."""
    nothing: dict[str, Any] = {
        field.name: 0.0
        for field in fields(Style)
        if isinstance(getattr(Style(), field.name), float)
    }
    look = {"office": 1.0}
    return Style(
        recipes={"clean": 1.0}, looks=look, **{**nothing, "strength": 1.0, **changes}
    )


def _operations(job: Job) -> list[PreviewRow]:
    clean = _sample(job, _bare(), "preview").crop[:, :, 0]
    rows: list[PreviewRow] = [[("undamaged", np.repeat(clean[:, :, None], 3, axis=2))]]
    for operation, on_ink, low, high in strength_ranges():
        row = []
        for strength in (low, (low + high) / 2, high):
            before = 255 - clean if on_ink else clean
            after = operation(
                before, strength, random.Random(f"preview {operation.__name__}")
            )
            after = 255 - after if on_ink else after
            row.append(
                (
                    f"{operation.__name__} {strength:.3g}",
                    np.repeat(after[:, :, None], 3, axis=2),
                )
            )
        rows.append(row)
    return rows


def _kinds(job: Job) -> list[tuple[str, list[PreviewRow]]]:
    """What may stand around a line, how it may be cut out, and the kinds of scan, three of each."""
    around = [
        name
        for name, value in vars(_bare()).items()
        if isinstance(value, float) and name != "strength"
    ]
    return [
        (
            "what may stand around a line, and how it is set",
            [_three(job, name, _bare(**{name: 1.0})) for name in around],
        ),
        ("how a detector cuts it out", [_cut(job, mode) for mode in LOOKS["office"].crops]),
        (
            "kinds of scan (--damage)",
            [_three(job, name, replace(_bare(), recipes={name: 1.0})) for name in RECIPES],
        ),
    ]


def _three(job: Job, name: str, style: Style) -> PreviewRow:
    return [
        (name, _sample(job, style, f"preview {name} {number}").crop)
        for number in range(_COLUMNS)
    ]


def _cut(job: Job, mode: str) -> PreviewRow:
    draws = (_sample(job, _bare(), f"preview crop {number}") for number in count(0))
    return [
        (mode, line.crop)
        for line in islice((line for line in draws if line.made["crop"] == mode), _COLUMNS)
    ]


def _lines(job: Job, lines: int) -> list[PreviewRow]:
    rows: list[PreviewRow] = []
    for index in range(lines):
        drawn, line = job.line(index)
        made = drawn.made
        how = (
            f"{line.language} {made['kind']}, {made['damage']}, {made['font']}, {made['points']:g}"
            f" pt, {made['dpi']} dpi"
        )
        rows.append([(f"{index} {line.text}   [{how}]", drawn.crop)])
    return rows


def _scaled_row(row: PreviewRow, job: Job) -> PreviewRow:
    return [(caption, resize_line(picture, job.geometry)) for caption, picture in row]


def _widest_picture(row: PreviewRow) -> int:
    """The width in pixels of the widest picture of a row."""
    return max(int(picture.shape[1]) for _, picture in row)


def _drawn(parts: Sequence[tuple[str, Sequence[PreviewRow]]], job: Job) -> bytes:
    font = label_font(job.charset, _LABEL_PX)
    height = job.geometry.height
    scaled = [(title, [_scaled_row(row, job) for row in rows]) for title, rows in parts]
    all_rows = [row for _, rows in scaled for row in rows]
    widest = max(map(_widest_picture, all_rows))
    widest_of_several = max(_widest_picture(row) for row in all_rows if len(row) > 1)
    column_px = min(widest_of_several + _MARGIN, _MAXIMUM_COLUMN_PX)
    row_px = height + _ROW_GAP
    tall = sum(_ROW_GAP + _MARGIN + row_px * len(rows) for _, rows in scaled) + _MARGIN
    sheet = Image.new("RGB", (max(widest, _COLUMNS * column_px) + 2 * _MARGIN, tall), _DESK)
    draw = ImageDraw.Draw(sheet)
    y = 0
    for title, rows in scaled:
        draw.text((_MARGIN, y + _MARGIN), title, fill=_TITLE_INK, font=font)
        y += _ROW_GAP + _MARGIN
        for row in rows:
            for column, (caption, picture) in enumerate(row):
                x = _MARGIN + column * column_px
                draw.text((x, y), caption, fill=_LABEL_INK, font=font)
                if len(row) == 1:
                    wide = picture
                else:
                    wide = picture[:, : column_px - _MARGIN]
                sheet.paste(
                    Image.fromarray(np.ascontiguousarray(wide)), (x, y + _LABEL_PX + 4)
                )
            y += row_px
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
