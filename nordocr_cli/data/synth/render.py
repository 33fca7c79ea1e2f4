"""Draws one line of text as a scanner would have seen it, and cuts it out as a line detector would.

The line is drawn in full size, scaled to its size on a page at 150-300 dpi, set between its
neighbours, rules and the mirrored text of the other side, damaged (damage.py), and cropped: tight
to the ink, to the font's box, or with a margin. Everything follows from the random generator of the
line, so a line depends on (seed, index) alone.
"""

import colorsys
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nordocr_cli.data.synth.blank import blank_page
from nordocr_cli.data.synth.damage import RECIPES, DamageRecipe, Gray
from nordocr_cli.data.synth.fonts import EM_PX, FontFace, FontPicker, open_face, open_font
from nordocr_cli.data.synth.looks import LOOKS, Look
from nordocr_cli.data.synth.setting import LineSetting, letter_advance
from nordocr_cli.data.synth.texts import Text, TextSource
from nordocr_cli.errors import DataError, UsageError, nearest
from nordocr_cli.geometry import Geometry, frames_needed

# The drawing area above and below the baseline, in em: room for rings on capitals, descenders and a
# share of the neighbours.
_ABOVE_EM = 1.5
_BELOW_EM = 1.0
_SIDE_EM = 0.7

# A line whose picture shows less of its ink is drawn again: nobody could read it, and its label
# would teach guessing.
_MINIMUM_CORRELATION = 0.6
_MINIMUM_LOCAL_INK = 0.35
_MINIMUM_CONTRAST = 45  # gray levels between paper and ink
# Share of the lines with show-through that have a stretch of blank page next to them.
_BLANK_BESIDE = 0.4
_MAXIMUM_BLANK_EM = 9.0
_MAXIMUM_SQUASH = 1.05  # a crop wider than the network reads would lose its proportions
_NEEDS_INK = ("threshold_otsu", "threshold_adaptive")

_DPI = ((100, 0.02), (120, 0.05), (150, 0.14), (200, 0.42), (240, 0.08), (300, 0.29))
_POINTS = (
    (6.0, 7.5, 0.10),
    (7.5, 9.5, 0.45),
    (9.5, 11.5, 0.33),
    (11.5, 14.0, 0.09),
    (14.0, 22.0, 0.03),
)
# How far a crop reaches beyond the ink or the font's box, in em, above and below.
_REACH_EM = {
    "ink": (-0.02, 0.12),
    "font": (-0.02, 0.1),
    "margin": (0.05, 0.4),
    "cut": (-0.08, 0.05),
    "box": (0.1, 0.65),
}


# A zero with a digit, or a digit and a decimal sign, on at least one side.
_ZERO_IN_NUMBER = re.compile(r"(?<=[0-9])0|(?<=[0-9][.,])0|0(?=[0-9])|0(?=[.,][0-9])")
_COLOURED_INK = 0.3  # of the lines on coloured paper


@dataclass(frozen=True)
class Style:
    """What may vary from line to line. `strength` scales the probability of every damage; `recipes`
    their weights.
    """

    strength: float = 1.0
    recipes: Mapping[str, float] | None = None  # None: each look's own
    looks: Mapping[str, float] = field(
        default_factory=lambda: {name: look.weight for name, look in LOOKS.items()}
    )
    # operation → factor of its probability in every recipe
    often: Mapping[str, float] = field(default_factory=dict)
    neighbours: float = 0.3  # probability of a line above, and of one below
    columns: float = 0.02  # probability of a sliver of the next column at an end
    rules: float = 0.08  # probability of a table rule or underline
    pen: float = 0.015  # probability of a pen stroke across
    curl: float = (
        0.06  # probability of a line that is not straight, as near the spine of a book
    )
    inverse: float = 0.01  # probability of light text on dark ground
    blank: float = (
        0.0  # probability of a box in which nothing is written, with an empty text
    )
    coloured: float = 0.0  # probability of coloured paper, and of coloured ink on it
    # lines are turned by up to so many degrees; None: by as much as pages of the scan are
    max_skew_deg: float | None = None
    # probability of letters set on a coarse grid, with uneven gaps between and within words
    coarse: float = 0.2


@dataclass(frozen=True, slots=True)
class RenderedLine:
    """A line's crop, uint8 (h, w, 3) RGB, its text, and how it was made. The three channels are
    equal unless the paper is coloured.
    """

    crop: NDArray[Any]
    text: Text
    made: Mapping[str, Any]


def render_line(
    rng: random.Random,
    texts: TextSource,
    fonts: FontPicker,
    geometry: Geometry,
    style: Style | None = None,
) -> RenderedLine:
    """Draw one line. Its width at the geometry's height stays within `max_width`.

    Raises DataError when no font at hand can write what the texts say.
    """
    style = style or Style()
    for _ in range(100):
        if rng.random() < style.blank:
            return _render_blank(rng, geometry, style)
        name = rng.choices(list(style.looks), list(style.looks.values()))[0]
        look = LOOKS[name]
        text = texts.draw(rng, look.kinds, look.foreign)
        face = fonts.draw(rng, text.label, look.categories)
        if face is None:
            continue
        if face.caps_only:
            text = Text(
                tuple(cell.upper() for cell in text.cells), text.language, text.kind
            )
            if not set(text.label) - {" "} <= face.characters:
                continue
        rendered = _render(rng, text, face, geometry, style, look)
        if rendered is not None:
            if style.coloured and rng.random() < style.coloured:
                rendered = replace(rendered, crop=_on_coloured_paper(rng, rendered.crop))
            return replace(rendered, made={**rendered.made, "look": name})
    raise DataError(
        "100 texts in a row could not be drawn: the fonts lack too many characters of the charset;"
        " give other --fonts"
    )


def _render(
    rng: random.Random,
    text: Text,
    face: FontFace,
    geometry: Geometry,
    style: Style,
    look: Look,
) -> RenderedLine | None:
    """Draw `text` once; None when nothing of it fits or can be read."""
    font = open_face(face)
    recipes = look.recipes if style.recipes is None else style.recipes
    name = rng.choices(list(recipes), list(recipes.values()))[0]
    recipe = RECIPES[name]
    dpi, points = _size(rng)
    em_px = points * dpi / 72
    stretch = _stretch(rng, look)
    angle = _angle(rng, recipe, style.max_skew_deg)

    drawn = _draw_cells(rng, face, text, geometry, stretch, style, look.round_zeros)
    if drawn is None:
        return None
    text, ink = drawn

    scale_y = em_px / EM_PX
    own = _scaled(ink, scale_y * stretch, scale_y)
    beside = 0
    if name == "showthrough" and rng.random() < _BLANK_BESIDE:
        own, beside = _with_blank(rng, own, em_px, geometry)
    others = _surroundings(rng, own, em_px, style, look)
    slivers = _slivers(rng, own, em_px) if rng.random() < style.columns else None
    if slivers is not None:
        others = slivers if others is None else cv2.max(others, slivers)
    if rng.random() < style.curl:
        bend = _bend(rng, own.shape, em_px)
        own, others = bend(own), _applied(bend, others)
    if angle:
        turn = partial(_rotated, angle=angle)
        own, others = turn(own), _applied(turn, others)

    box = _crop_box(rng, own, font, em_px, scale_y, angle, look.crops)
    if box is None:
        return None
    crop_mode, (top, bottom, left, right) = box
    left, right = max(0, left + min(beside, 0)), min(own.shape[1], right + max(beside, 0))
    left, right = _with_slivers(left, right, slivers)
    if geometry.squash_ratio(bottom - top, right - left) > _MAXIMUM_SQUASH:
        return None

    page = _damaged_page(rng, own, others, name, em_px, style)
    crop = page[top:bottom, left:right]
    if not _is_legible(crop, own[top:bottom, left:right], em_px):
        return None
    frames = geometry.out_length(geometry.line_width(*crop.shape[:2]))
    if frames_needed(text.label) > frames:
        return None  # CTC could not write it
    if rng.random() < style.inverse:
        crop = 255 - crop
    made = {
        "damage": name,
        "font": face.name,
        "dpi": dpi,
        "points": points,
        "crop": crop_mode,
        "kind": text.kind,
    }
    pixels = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_GRAY2RGB)
    return RenderedLine(pixels, text, made)


def _size(rng: random.Random) -> tuple[int, float]:
    """A resolution in dpi, and a size of the letters in points."""
    dpi = rng.choices([dpi for dpi, _ in _DPI], [weight for _, weight in _DPI])[0]
    low, high, _ = rng.choices(_POINTS, [weight for *_, weight in _POINTS])[0]
    return dpi, round(rng.uniform(low, high) * 2) / 2


def _stretch(rng: random.Random, look: Look) -> float:
    """How much wider than drawn the letters are."""
    narrowest, widest, share = look.stretch
    if rng.random() >= share:
        return 1.0
    return math.exp(rng.uniform(math.log(narrowest), math.log(widest)))


def _with_slivers(left: int, right: int, slivers: Gray | None) -> tuple[int, int]:
    """The sides of the crop, moved to the page's edges where a neighbouring column shows."""
    if slivers is None:
        return left, right
    if slivers[:, 0].any():
        left = 0
    if slivers[:, -1].any():
        right = slivers.shape[1]
    return left, right


def _applied(change: Callable[[Gray], Gray], ink: Gray | None) -> Gray | None:
    if ink is None:
        return None
    return change(ink)


def _damaged_page(
    rng: random.Random,
    own: Gray,
    others: Gray | None,
    name: str,
    em_px: float,
    style: Style,
) -> Gray:
    """Put the ink of a line and of what surrounds it on paper, with the damage `name`."""
    recipe = RECIPES[name]
    ink = own if others is None else cv2.max(own, others)
    for step in recipe.ink_steps:
        strength = style.strength * style.often.get(step.name, 1.0)
        ink = step.apply(ink, rng, em_px, strength)
    page = _on_paper(rng, ink, recipe)
    if name == "showthrough":
        page = _show_through(rng, page, own)
    for step in recipe.page_steps:
        strength = style.strength * style.often.get(step.name, 1.0)
        page = step.apply(page, rng, em_px, strength)
    return page


# Drawing
# ----------------------------------------


def _draw_cells(
    rng: random.Random,
    face: FontFace,
    text: Text,
    geometry: Geometry,
    stretch: float,
    style: Style,
    round_zeros: float,
) -> tuple[Text, Gray] | None:
    """Draw the cells at EM_PX pixels an em; return the text that was drawn and its ink, uint8 (h,
    w).

    What does not fit the geometry's width is left out: first the gaps shrink, then words go.
    `round_zeros` is the probability that zeros next to other digits are drawn as the letter O.
    """
    alike = round_zeros > 0 and rng.random() < round_zeros and _zero_is_as_wide_as_o(face)
    letters = [*text.cells, "O"] if alike else text.cells
    setting = LineSetting.draw(rng, face, letters, style.coarse)
    # Rows come as wide as tables are: near their words, or across the page.
    wide = rng.random() ** 1.3
    shares = [rng.random() ** 2 + 0.05 for _ in text.cells]
    cells = list(text.cells)
    while cells:
        widths = [setting.length(cell) for cell in cells]
        min_gap = (1.0 + 0.6 * shares[0]) * EM_PX
        gaps = len(cells) - 1
        room = _room(face, "".join(cells), geometry, stretch)
        spare = room - sum(widths) - gaps * min_gap
        if spare >= 0:
            break
        head, blank, _ = cells[-1].rpartition(" ")
        if blank and rng.random() < 0.9:
            cells[-1] = head
        else:
            cells.pop()
    else:
        return None
    total_gap = gaps * min_gap + (wide * spare if gaps else 0.0)
    total = sum(shares[:gaps]) or 1.0
    side = round(_SIDE_EM * EM_PX)
    width = math.ceil(sum(widths) + total_gap) + 2 * side
    image = Image.new("L", (width, math.ceil((_ABOVE_EM + _BELOW_EM) * EM_PX)))
    draw = ImageDraw.Draw(image)
    x = side + rng.random()
    baseline = _ABOVE_EM * EM_PX
    for index, (cell, advance) in enumerate(zip(cells, widths, strict=True)):
        shown = _ZERO_IN_NUMBER.sub("O", cell) if alike else cell
        setting.put(draw, x, baseline, shown)
        x += advance
        if index < gaps:
            x += min_gap + (total_gap - gaps * min_gap) * shares[index] / total
    return Text(tuple(cells), text.language, text.kind), np.asarray(image)


def _zero_is_as_wide_as_o(face: FontFace) -> bool:
    """Whether the face's zero can be drawn as its O without moving what follows."""
    if "O" not in face.characters:
        return False
    zero = letter_advance(face, "0")
    letter = letter_advance(face, "O")
    return abs(zero - letter) < 0.02 * EM_PX


def _room(face: FontFace, label: str, geometry: Geometry, stretch: float) -> float:
    """How many pixels at EM_PX an em fit the geometry's width, if the crop is tight to the ink of
    `label`.
    """
    reaches = [
        _letter_reach(face.path, face.index, face.instance, letter)
        for letter in set(label) - {" "}
    ]
    height = max((below for _, below in reaches), default=0) - min(
        (above for above, _ in reaches), default=0
    )
    return (
        geometry.max_width / geometry.height * max(height, 0.5 * EM_PX) / stretch
        - 0.1 * EM_PX
    )


@lru_cache(maxsize=200_000)
def _letter_reach(path: str, index: int, instance: str, letter: str) -> tuple[float, float]:
    """Top and bottom of a letter's ink from the baseline, downwards."""
    _, top, _, bottom = open_font(path, index, instance).getbbox(letter, anchor="ls")
    return top, bottom


def _scaled(ink: Gray, scale_x: float, scale_y: float) -> Gray:
    height, width = ink.shape
    size = max(2, round(width * scale_x)), max(2, round(height * scale_y))
    return cv2.resize(
        ink, size, interpolation=cv2.INTER_AREA if scale_y < 1 else cv2.INTER_LINEAR
    )


def _on_coloured_paper(rng: random.Random, crop: NDArray[Any]) -> NDArray[Any]:
    """Map gray levels of a crop (h, w, 3) from black to a dark ink, and from white to a bright
    paper.
    """
    hue = rng.random()
    paper = np.array(
        colorsys.hsv_to_rgb(hue, rng.uniform(0.05, 0.4), rng.uniform(0.8, 1.0))
    )
    ink = np.zeros(3)
    if rng.random() < _COLOURED_INK:
        ink_hue = rng.random()
        ink = np.array(
            colorsys.hsv_to_rgb(ink_hue, rng.uniform(0.5, 1.0), rng.uniform(0.1, 0.3))
        )
    gray = crop[:, :, :1].astype(np.float32) / 255  # (h, w, 1)
    colours = ink + (paper - ink) * gray  # (h, w, 3)
    return np.asarray(np.round(255 * colours), dtype=np.uint8)


def _angle(rng: random.Random, recipe: DamageRecipe, maximum: float | None) -> float:
    """Skew in degrees: what is left after deskewing, now and then a page that was not deskewed; or
    any up to `maximum`.
    """
    if maximum is not None:
        return rng.uniform(-maximum, maximum)
    if not recipe.skew_deg:
        return 0.0
    if rng.random() < 0.15:
        return rng.uniform(-2.3, 2.3)
    return max(-0.6, min(0.6, rng.gauss(0, recipe.skew_deg / 2)))


def _rotated(ink: Gray, angle: float) -> Gray:
    """Rotate about the middle; the height grows so that the ends of a long line stay inside."""
    height, width = ink.shape
    tall = height + 2 * math.ceil(abs(math.tan(math.radians(angle))) * width / 2)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    matrix[1, 2] += (tall - height) / 2
    return cv2.warpAffine(ink, matrix, (width, tall), flags=cv2.INTER_LINEAR)


def _bend(
    rng: random.Random, shape: tuple[int, int], em_px: float
) -> Callable[[Gray], Gray]:
    """Return what bends an image uint8 (h, w): columns move up and down along a slow wave, up to an
    eighth of an em.
    """
    height, width = shape
    wave = rng.uniform(0.4, 2.5) * math.pi / max(width, 8 * em_px)
    shift = (
        rng.uniform(0.04, 0.13)
        * em_px
        * np.sin(np.arange(width) * wave + rng.uniform(0, 2 * math.pi))
    )
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    rows += shift.astype(np.float32)
    return lambda image: cv2.remap(image, columns, rows, cv2.INTER_LINEAR)


def _slivers(rng: random.Random, own: Gray, em_px: float) -> Gray:
    """Ink like `own`, uint8 (h, w): slices of letters at one end or both, as where a box reaches
    into the next column.
    """
    width = own.shape[1]
    slivers = np.zeros_like(own)
    ends = rng.choice(("left", "right", "right", "both"))
    for end in ("left", "right"):
        if ends in (end, "both"):
            thick = max(1, round(rng.uniform(0.1, 0.25) * em_px))
            at = rng.randrange(max(1, width - thick))
            if end == "left":
                there = slice(0, thick)
            else:
                there = slice(width - thick, width)
            slivers[:, there] = own[:, at : at + thick]
    return slivers


def _surroundings(
    rng: random.Random, own: Gray, em_px: float, style: Style, look: Look
) -> Gray | None:
    """Ink that is not the line's own, uint8 like `own`: the lines above and below, rules. None when
    there is none.
    """
    chances = (
        style.neighbours * look.neighbours,
        style.neighbours * look.neighbours,
        style.rules * look.rules,
        style.pen,
    )
    above, below, ruled, pen = (rng.random() < chance for chance in chances)
    if not (above or below or ruled or pen):
        return None
    height, width = own.shape
    others = np.zeros_like(own)
    baseline = _ABOVE_EM * em_px
    pitch = rng.uniform(1.05, 1.5) * em_px
    for there, offset in ((above, -pitch), (below, pitch)):
        if there:
            # Only tails and tips of a neighbour come into a crop, so the line's own letters, moved
            # along, stand for its.
            beside = np.roll(own, rng.randrange(width), axis=1)
            shift = np.array([[1, 0, 0], [0, 1, offset]], dtype=np.float32)
            others = cv2.max(others, cv2.warpAffine(beside, shift, (width, height)))
    if ruled:
        thick = max(1, round(em_px * rng.uniform(0.02, 0.07)))
        level = rng.randint(120, 255)
        at = rng.choice(
            (
                baseline + rng.uniform(0.06, 0.35) * em_px,
                baseline - rng.uniform(0.85, 1.1) * em_px,
            )
        )
        left, right = (
            (0, width) if rng.random() < 0.6 else sorted(rng.sample(range(width), 2))
        )
        cv2.line(others, (left, round(at)), (right, round(at)), level, thick)
        if rng.random() < 0.3:  # the upright rules of a table, next to the text
            for x in (
                rng.uniform(0.1, 0.45) * em_px,
                width - rng.uniform(0.1, 0.45) * em_px,
            ):
                cv2.line(others, (round(x), 0), (round(x), height), level, thick)
    if pen:
        points = [
            (rng.uniform(0, width), rng.uniform(0, height))
            for _ in range(rng.randint(2, 4))
        ]
        thick = max(1, round(em_px * rng.uniform(0.03, 0.06)))
        cv2.polylines(
            others,
            [np.array(points, dtype=np.int32)],
            False,
            rng.randint(60, 170),
            thick,
            cv2.LINE_AA,
        )
    return others


def _with_blank(
    rng: random.Random, own: Gray, em_px: float, geometry: Geometry
) -> tuple[Gray, int]:
    """The line with a blank stretch of page at one end, and its length in pixels: negative at the
    left end.
    """
    height, width = own.shape
    # The page is taller than the crop will be; half of it is about what a line takes.
    room = int(geometry.max_width / geometry.height * height * 0.35) - width
    length = min(room, round(rng.uniform(0.5, _MAXIMUM_BLANK_EM) * em_px))
    if length < 1:
        return own, 0
    if rng.random() < 0.35:
        return np.pad(own, ((0, 0), (length, 0))), -length
    return np.pad(own, ((0, 0), (0, length))), length


def _render_blank(rng: random.Random, geometry: Geometry, style: Style) -> RenderedLine:
    """A box in which nothing is written: paper, specks, rules, grids, shadows, the other side's
    text.
    """
    if style.recipes is None:
        recipes = LOOKS["office"].recipes
    else:
        recipes = style.recipes
    name = rng.choices(list(recipes), list(recipes.values()))[0]
    recipe = RECIPES[name]
    em_px = rng.uniform(14, 46)
    ink = blank_page(rng, em_px, geometry)
    for step in recipe.ink_steps:
        ink = step.apply(ink, rng, em_px, style.strength)
    page = _on_paper(rng, ink, recipe)
    for step in recipe.page_steps:
        if (
            step.name in _NEEDS_INK
            and int(page.max()) - int(page.min()) < _MINIMUM_CONTRAST
        ):
            continue  # Otsu's level would divide the noise
        page = step.apply(page, rng, em_px, style.strength)
    if rng.random() < 0.04:
        page = 255 - page
    made = {
        "damage": name,
        "font": "",
        "dpi": 0,
        "points": 0.0,
        "crop": "blank",
        "kind": "blank",
        "look": "blank",
    }
    return RenderedLine(
        cv2.cvtColor(np.ascontiguousarray(page), cv2.COLOR_GRAY2RGB),
        Text((), "", "blank"),
        made,
    )


# On paper
# ----------------------------------------


def _on_paper(rng: random.Random, ink: Gray, recipe: DamageRecipe) -> Gray:
    paper = rng.randint(*recipe.paper)
    black = max(0, min(rng.randint(*recipe.ink), paper - _MINIMUM_CONTRAST))
    curve = paper - (paper - black) * np.arange(256) / 255
    return cv2.LUT(ink, np.clip(curve, 0, 255).astype(np.uint8))


def _show_through(rng: random.Random, page: Gray, own: Gray) -> Gray:
    """Darken the page by the text of its other side: mirrored, soft and faint."""
    height, width = own.shape
    other_side = cv2.GaussianBlur(cv2.flip(own, 1), (0, 0), rng.uniform(0.6, 1.8))
    shift = np.array(
        [[1, 0, rng.uniform(-0.5, 0.5) * width], [0, 1, rng.uniform(-0.6, 0.6) * height]],
        dtype=np.float32,
    )
    other_side = cv2.warpAffine(
        other_side, shift, (width, height), borderMode=cv2.BORDER_WRAP
    )
    return cv2.subtract(page, cv2.convertScaleAbs(other_side, alpha=rng.uniform(0.06, 0.3)))


def _is_legible(crop: Gray, ink: Gray, em_px: float) -> bool:
    """Whether what is dark is still what was printed: as a whole (correlation), and in every
    stretch as long as a letter.
    """
    dark = (255 - crop).astype(np.float32)
    printed = ink.astype(np.float32)
    (mean_d, spread_d), (mean_p, spread_p) = (
        (float(v[0, 0]) for v in cv2.meanStdDev(image)) for image in (dark, printed)
    )
    if not spread_d or not spread_p:
        return False
    both = cv2.multiply(dark, printed)
    if (cv2.mean(both)[0] - mean_d * mean_p) / (spread_d * spread_p) < _MINIMUM_CORRELATION:
        return False
    # Ink that shows, over ink that was printed, in windows of one em; those with a dot or less in
    # them prove nothing.
    window = (max(3, round(em_px)), 1)
    paper = float(np.median(dark[:, :: max(1, dark.shape[1] // 64)]))
    shown = cv2.reduce(both - paper * printed, 0, cv2.REDUCE_SUM)
    there = cv2.reduce(printed, 0, cv2.REDUCE_SUM)
    shown, there = cv2.blur(shown, window), cv2.blur(there, window)
    enough = there > 0.2 * there.max()
    share = shown[enough] / there[enough]
    return bool(share.min() > _MINIMUM_LOCAL_INK * np.median(share))


def _crop_box(
    rng: random.Random,
    own: Gray,
    font: ImageFont.FreeTypeFont,
    em_px: float,
    scale_y: float,
    angle: float,
    crops: Mapping[str, float],
) -> tuple[str, tuple[int, int, int, int]] | None:
    """Where the line is cut out: (mode, (top, bottom, left, right)) in pixels; None when it has no
    ink.
    """
    height, width = own.shape
    seen = own > 60
    rows = np.flatnonzero(seen.any(axis=1))
    columns = np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return None
    top = float(rows[0])
    bottom = float(rows[-1] + 1)
    left = float(columns[0])
    right = float(columns[-1] + 1)
    mode = rng.choices(list(crops), list(crops.values()))[0]
    # Detectors give a dash or a dot the height of its line, not that of its ink.
    flat = bottom - top < 0.5 * em_px
    if mode == "font" or flat:
        ascent, descent = font.getmetrics()
        middle = height / 2 + (_ABOVE_EM - _BELOW_EM) / 2 * em_px  # the baseline
        up, down = (
            min(a, 1.25 * EM_PX) * scale_y * rng.uniform(0.9, 1.05)
            for a in (ascent, descent)
        )
        if angle:
            drift = abs(math.tan(math.radians(angle))) * width / 2
        else:
            drift = 0.0
        top, bottom = (
            min(top, middle - up - drift * 0.6),
            max(bottom, middle + down + drift * 0.6),
        )
    reach = _REACH_EM[mode]
    size = em_px
    top -= rng.uniform(*reach) * size
    bottom += rng.uniform(*reach) * size
    # At the ends boxes are cut wider than above and below; nothing may be cut off a letter there.
    if mode in ("font", "margin") or rng.random() < 0.5:
        ends = (0.0, 0.45)
    else:
        ends = (-0.02, 0.12)
    left -= rng.uniform(*ends) * size
    right += rng.uniform(*ends) * size
    box = (
        max(0, round(top)),
        min(height, round(bottom)),
        max(0, round(left)),
        min(width, round(right)),
    )
    if box[1] - box[0] >= 4 and box[3] - box[2] >= 2:
        return (mode, box)
    return None


def recipe_weights(choices: Sequence[str]) -> dict[str, float]:
    """Read `NAME=WEIGHT` items of --damage. Raises UsageError naming the wrong one."""
    return _weights("--damage", "damage", choices, list(RECIPES))


def look_weights(choices: Sequence[str]) -> dict[str, float]:
    """Read `NAME=WEIGHT` items of --look. Raises UsageError naming the wrong one."""
    return _weights("--look", "look", choices, list(LOOKS))


def _weights(
    option: str, what: str, choices: Sequence[str], known: list[str]
) -> dict[str, float]:
    """Weights by name; a bare name has weight 1."""
    weights: dict[str, float] = {}
    for choice in choices:
        name, _, weight = choice.partition("=")
        if name not in known:
            raise UsageError(
                f"{option} {choice}: no {what} is called {name!r}; {nearest(name, known)}"
            )
        try:
            weights[name] = float(weight or 1)
        except ValueError:
            raise UsageError(
                f"{option} {choice}: {weight!r} is not a weight, e.g. {name}=0.3"
            ) from None
        if not 0 <= weights[name] < math.inf:
            raise UsageError(f"{option} {choice}: a weight is zero or more")
    if choices and not sum(weights.values()):
        raise UsageError(f"{option}: every weight is zero")
    return weights
