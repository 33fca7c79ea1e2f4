"""What printers, scanners and faxes do to a line: small seeded operations on a gray page patch, and
recipes of them.

Each operation takes an image uint8 (h, w), a strength, and the generator, and returns an image of
the same size. A recipe is the list of operations of one kind of scan, each with the probability and
the range of its strength.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[Any]  # uint8 (h, w); OpenCV's own types say no more than "an array"
Operation = Callable[[Gray, float, random.Random], Gray]

# One fixed field of unit noise; a line takes a window of it at a random place: the same look as
# fresh noise, at no cost.
_NOISE_H = 512
_NOISE_W = 4096


@lru_cache(maxsize=1)
def _noise_field() -> NDArray[np.int8]:
    field = np.random.default_rng(20_240_101).standard_normal(
        (_NOISE_H, _NOISE_W), dtype=np.float32
    )
    return np.clip(field * 32, -127, 127).astype(np.int8)  # 32 = one standard deviation


@lru_cache(maxsize=1)
def _cloud_field() -> Gray:
    """Low-frequency noise around 128, for uneven ink and stains; a texture of about 24 px."""
    coarse = (
        np.random.default_rng(20_240_102)
        .uniform(0, 255, (_NOISE_H // 12, _NOISE_W // 12))
        .astype(np.float32)
    )
    smooth = cv2.resize(
        cv2.GaussianBlur(coarse, (0, 0), 0.8),
        (_NOISE_W, _NOISE_H),
        interpolation=cv2.INTER_CUBIC,
    )
    return np.clip(smooth, 0, 255).astype(np.uint8)


def _window(field: NDArray, shape: tuple[int, int], rng: random.Random) -> NDArray:
    """A (h, w) window of a noise field at a random place; beyond its size the field repeats."""
    height, width = shape
    if height > _NOISE_H or width > _NOISE_W:
        field = np.tile(field, (-(-height // _NOISE_H), -(-width // _NOISE_W)))
    top = rng.randint(0, field.shape[0] - height)
    left = rng.randint(0, field.shape[1] - width)
    return field[top : top + height, left : left + width]


# On the ink (0 = none … 255 = full coverage)
# ----------------------------------------


def ink_gain(ink: Gray, strength: float, rng: random.Random) -> Gray:
    """Spread (strength > 0) or thin (< 0) the ink; 1 is about half a pixel on each side."""
    soft = cv2.GaussianBlur(ink, (0, 0), 0.6 + 0.3 * abs(strength))
    # the coverage that becomes half ink; none stays none, all stays all
    edge = min(0.85, max(0.15, 0.5 - 0.25 * strength))
    gain = max(2.0, 0.5 / edge, 0.5 / (1 - edge))
    curve = np.clip(((np.arange(256) / 255 - edge) * gain + 0.5) * 255, 0, 255)
    return cv2.LUT(soft, curve.astype(np.uint8))


def uneven_ink(ink: Gray, strength: float, rng: random.Random) -> Gray:
    """Let the ink fade in patches, as a worn ribbon or toner does; 1 takes up to all of it away."""
    clouds = _window(_cloud_field(), ink.shape, rng)
    curve = np.clip(
        255 - strength * 1.6 * np.maximum(np.arange(256) - 100, 0), 0, 255
    ).astype(np.uint8)
    return cv2.multiply(ink, cv2.LUT(clouds, curve), scale=1 / 255)


def dots(ink: Gray, strength: float, rng: random.Random) -> Gray:
    """Build the letters of dots, as needle printers do; strength is the dot pitch in pixels."""
    pitch = max(1.5, strength)
    height, width = ink.shape
    columns = max(1, round(width / pitch))
    rows = max(1, round(height / pitch))
    needles = cv2.resize(ink, (columns, rows), interpolation=cv2.INTER_AREA)
    # A needle that would hit a third of a stroke strikes: thin strokes must not fall between two
    # rows of dots.
    _, needles = cv2.threshold(needles, 80, 255, cv2.THRESH_BINARY)
    spread = cv2.resize(needles, (width, height), interpolation=cv2.INTER_NEAREST)
    y = 0.55 - 0.45 * np.cos(2 * math.pi * (np.arange(height) + 0.5) * rows / height)
    x = 0.55 - 0.45 * np.cos(2 * math.pi * (np.arange(width) + 0.5) * columns / width)
    profile = np.minimum(np.outer(y, x) * 1.7, 1.0) * 255
    dotted = cv2.multiply(spread, profile.astype(np.uint8), scale=1 / 255)
    return cv2.GaussianBlur(dotted, (0, 0), 0.35 + 0.12 * pitch)


def ribbon(ink: Gray, strength: float, rng: random.Random) -> Gray:
    """Ink as a cloth ribbon leaves it: its weave and its dry places show in every stroke; 1 takes
    up to all of it away.
    """
    weave: NDArray[Any] = _window(_noise_field(), ink.shape, rng).astype(np.int16)
    if rng.random() < 0.7:
        weave = cv2.GaussianBlur(weave, (0, 0), rng.uniform(0.5, 0.9)) * 2
    kept = np.clip(255 - strength * (90 + 2.2 * weave), 0, 255).astype(np.uint8)
    return cv2.multiply(ink, kept, scale=1 / 255)


def breaks(ink: Gray, strength: float, rng: random.Random) -> Gray:
    """Strokes with gaps, as worn type and faint copies have; strength is the share of the places
    that lose their ink.
    """
    grains = cv2.GaussianBlur(
        _window(_noise_field(), ink.shape, rng).astype(np.float32),
        (0, 0),
        rng.uniform(0.8, 1.6),
    )
    limit = float(
        np.quantile(grains[:, :: max(1, grains.shape[1] // 256)], 1 - min(0.5, strength))
    )
    soft = np.clip((limit - grains) * 24 + 128, 0, 255).astype(np.uint8)
    return cv2.multiply(ink, soft, scale=1 / 255)


def clog(ink: Gray, strength: float, rng: random.Random) -> Gray:
    """Ink that fills narrow places, as dirty type does with the eyes of e and a; strength is their
    width in pixels.
    """
    side = max(2, round(strength))
    filled = cv2.morphologyEx(
        ink, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    )
    return cv2.addWeighted(ink, 0.3, filled, 0.7, 0)


def raster(ink: Gray, strength: float, rng: random.Random) -> Gray:
    """Letters of square dots without gaps, as thermal printers draw them; strength is the size of a
    dot in pixels.
    """
    size = max(1.0, strength)
    height, width = ink.shape
    small = cv2.resize(
        ink,
        (max(1, round(width / size)), max(1, round(height / size))),
        interpolation=cv2.INTER_AREA,
    )
    _, small = cv2.threshold(small, rng.randint(70, 120), 255, cv2.THRESH_BINARY)
    return cv2.GaussianBlur(
        cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST),
        (0, 0),
        0.25 + 0.3 * rng.random(),
    )


def head_faults(ink: Gray, strength: float, rng: random.Random) -> Gray:
    """Heat that a thermal print head lacks: rows of dead dots, and ends that fade; 1 takes up to
    all of the ink away.
    """
    height, width = ink.shape
    across = np.full(height, 255.0)
    if rng.random() < 0.5:
        for _ in range(rng.randint(1, 2)):
            across[rng.randrange(height)] *= 1 - strength
    along = np.full(width, 255.0)
    if rng.random() < 0.7:
        start, end = sorted((rng.uniform(-0.3, 1.0), rng.uniform(0.2, 1.6)))
        fade = (
            np.clip((np.linspace(0, 1, width) - start) / max(0.05, end - start), 0, 1)
            * 0.85
            * strength
        )
        along *= 1 - (fade if rng.random() < 0.6 else fade[::-1])
    kept = np.outer(across, along) / 255
    return cv2.multiply(ink, kept.astype(np.uint8), scale=1 / 255)


def weak_bars(ink: Gray, strength: float, rng: random.Random) -> Gray:
    """Horizontal strokes that print weakly while vertical ones stay, so that T looks like I and O
    like U: a thermal head that cools between rows. 1 takes up to all of their ink away. The loss
    is strongest at the top, in the middle or at the foot of the line, or the same everywhere.
    """
    rows = np.flatnonzero(ink.max(axis=1) > 96)
    if len(rows) < 8:
        return ink

    top = int(rows[0])
    height = int(rows[-1] - rows[0]) + 1
    length = max(3, round(height * rng.uniform(0.14, 0.24)))
    bars = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((1, length), np.uint8))
    stems = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((length, 1), np.uint8))
    alone = cv2.subtract(bars, stems).astype(np.float32)

    position = (np.arange(ink.shape[0], dtype=np.float32) - top) / height  # 0 top, 1 foot
    centre = rng.choice((0.0, 0.0, 0.5, 1.0, None))
    if centre is None:
        profile = np.ones_like(position)
    else:
        profile = np.clip(1.25 - 1.6 * np.abs(position - centre), 0, 1)
    loss = alone * (strength * profile)[:, None]
    return np.clip(ink - loss, 0, 255).astype(np.uint8)


# On the page (0 = black … 255 = white)
# ----------------------------------------


def shade(page: Gray, strength: float, rng: random.Random) -> Gray:
    """Uneven light: a slope along the line and across it; strength is the darkening at the dark
    end, in gray levels.
    """
    height, width = page.shape
    along = np.linspace(0, 1, width, dtype=np.float32)
    if rng.random() < 0.5:
        along = along[::-1]
    if rng.random() < 0.4:
        along = np.abs(along - rng.random())
    across = np.linspace(0, rng.uniform(-0.3, 0.3), height, dtype=np.float32)
    factor = 255 - strength * np.clip(along[None, :] + across[:, None], 0, 1)
    return cv2.multiply(page, factor.astype(np.uint8), scale=1 / 255)


def grain(page: Gray, strength: float, rng: random.Random) -> Gray:
    """Sensor noise; strength is its standard deviation in gray levels."""
    noise = _window(_noise_field(), page.shape, rng).astype(np.int16)
    return cv2.addWeighted(
        page.astype(np.int16), 1.0, noise, strength / 32, 0, dtype=cv2.CV_8U
    )


def stains(page: Gray, strength: float, rng: random.Random) -> Gray:
    """Paper that is not evenly white; strength in gray levels."""
    clouds = _window(_cloud_field(), page.shape, rng)
    return cv2.subtract(page, cv2.convertScaleAbs(clouds, alpha=strength / 255))


def mottle(page: Gray, strength: float, rng: random.Random) -> Gray:
    """Coarse paper: spots of two to four pixels; strength is their standard deviation in gray
    levels.
    """
    noise = _window(_noise_field(), page.shape, rng).astype(np.int16)
    spread = rng.uniform(0.7, 1.6)
    spots = cv2.GaussianBlur(noise * 4, (0, 0), spread)
    # Blurring takes the deviation of white noise down to 1 / (2 sqrt(pi) spread) of what it was.
    gain = strength / 32 * 2 * math.sqrt(math.pi) * spread / 4
    return cv2.addWeighted(page.astype(np.int16), 1.0, spots, gain, 0, dtype=cv2.CV_8U)


def blur(page: Gray, strength: float, rng: random.Random) -> Gray:
    """Gaussian blur; strength is sigma in pixels."""
    return cv2.GaussianBlur(page, (0, 0), max(0.1, strength))


def sharpen(page: Gray, strength: float, rng: random.Random) -> Gray:
    """Unsharp mask, as scanners' own software applies it; strength is the weight of the detail that
    is added.
    """
    return cv2.addWeighted(
        page, 1 + strength, cv2.GaussianBlur(page, (0, 0), 1.2), -strength, 0
    )


def screen(page: Gray, strength: float, rng: random.Random) -> Gray:
    """A shaded field as one-bit scans and printers show it: dots in a grid; strength is the share
    of the ground they darken.
    """
    height, width = page.shape
    pitch = rng.choice((3, 4, 4, 5, 6))
    side = max(1, round(pitch * math.sqrt(strength)))
    tile = np.full((2 * pitch, 2 * pitch), 255, np.uint8)
    tile[:side, :side] = tile[pitch : pitch + side, pitch : pitch + side] = rng.randint(
        0, 120
    )
    if rng.random() < 0.5:  # a straight grid instead of a diagonal one
        tile[:side, pitch : pitch + side] = tile[pitch : pitch + side, :side] = tile[0, 0]
    dots_there = np.tile(tile, (-(-height // len(tile)), -(-width // len(tile))))[
        :height, :width
    ]
    return cv2.min(page, dots_there)


def motion(page: Gray, strength: float, rng: random.Random) -> Gray:
    """Motion blur along or across the line; strength is its length in pixels."""
    length = max(2, round(strength))
    # Not cv2.blur: OpenCV 5.0.0 writes black for white at the right end where the kernel is two
    # pixels.
    kernel = np.full(
        (1, length) if rng.random() < 0.5 else (length, 1), 1 / length, np.float32
    )
    return cv2.filter2D(page, -1, kernel)


def low_resolution(page: Gray, strength: float, rng: random.Random) -> Gray:
    """Lose detail as a fax in standard mode or a shrunk scan does; strength is the share of the
    pixels kept a side.
    """
    height, width = page.shape
    across = strength if rng.random() < 0.6 else min(1.0, strength * 1.5)
    small = cv2.resize(
        page,
        (max(2, round(width * across)), max(2, round(height * strength))),
        interpolation=cv2.INTER_AREA,
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def jpeg(page: Gray, strength: float, rng: random.Random) -> Gray:
    """JPEG at quality `strength`."""
    done, data = cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, round(strength)])
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


def threshold_fixed(page: Gray, strength: float, rng: random.Random) -> Gray:
    """One bit a pixel: black below the gray level `strength`."""
    return cv2.threshold(page, round(strength), 255, cv2.THRESH_BINARY)[1]


def threshold_otsu(page: Gray, strength: float, rng: random.Random) -> Gray:
    """One bit a pixel at Otsu's level, moved by `strength` gray levels."""
    level, _ = cv2.threshold(page, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return threshold_fixed(page, level + strength, rng)


def threshold_adaptive(page: Gray, strength: float, rng: random.Random) -> Gray:
    """One bit a pixel, black where darker than the surroundings by `strength` gray levels."""
    block = 2 * max(7, page.shape[0] // 4) + 1
    return cv2.adaptiveThreshold(
        page, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, block, strength
    )


def speckle(page: Gray, strength: float, rng: random.Random) -> Gray:
    """Salt and pepper; strength is the share of the pixels in thousandths. Some grains are two
    pixels wide.
    """
    field = _window(_noise_field(), page.shape, rng)
    # Upper tail of the normal distribution, in steps of 1/32 standard deviation.
    share = min(0.2, strength / 1000)
    limit = round(32 * math.sqrt(max(0.0, -2 * math.log(max(1e-6, share * 2.5)))))
    pepper: Gray = (field > min(126, limit)).astype(np.uint8)
    salt = field < -min(126, limit)
    if rng.random() < 0.5:
        pepper = cv2.dilate(
            pepper, np.ones((rng.randint(1, 2), rng.randint(1, 2)), np.uint8)
        )
    return np.where(
        pepper > 0, np.uint8(rng.randint(0, 60)), np.where(salt, np.uint8(255), page)
    ).astype(np.uint8)


def g4_speckle(page: Gray, strength: float, rng: random.Random) -> Gray:
    """Specks of a one-bit page as CCITT G4 keeps them: all black or all white, singly or in clumps
    of two to four, and letters with eaten edges; strength is the share of such pixels in
    thousandths.
    """
    page = page.copy()
    height, width = page.shape
    black = int(page.min())
    white = int(page.max())
    draws = np.random.default_rng(rng.getrandbits(32))
    count = max(1, round(strength / 1000 * page.size / 2))
    y = draws.integers(0, height, count)
    x = draws.integers(0, width, count)
    # White specks are seen in letters alone, where a quarter of the ink may be: as many of them as
    # of black ones.
    level = np.where(draws.random(count) < 0.5, black, white).astype(np.uint8)
    page[y, x] = level
    for down, right, share in ((0, 1, 0.4), (1, 0, 0.4), (1, 1, 0.15)):
        there = draws.random(count) < share
        page[
            np.minimum(y[there] + down, height - 1), np.minimum(x[there] + right, width - 1)
        ] = level[there]
    edge = np.flatnonzero(
        cv2.morphologyEx(page, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    )
    flipped = edge[draws.random(len(edge)) < min(0.25, strength / 60)]
    page.reshape(-1)[flipped] = np.where(
        page.reshape(-1)[flipped] > (black + white) // 2, black, white
    )
    return page


def dirt(page: Gray, strength: float, rng: random.Random) -> Gray:
    """Specks, hairs and streaks of a copier's glass; strength is their number per 1000 pixels of
    width.
    """
    page = page.copy()
    height, width = page.shape
    for _ in range(max(1, round(strength * width / 1000 * rng.uniform(0.5, 1.5)))):
        x = rng.randrange(width)
        y = rng.randrange(height)
        level = rng.randint(0, 110)
        draw = rng.random()
        if draw < 0.75:
            cv2.circle(page, (x, y), rng.choice((0, 0, 1, 1, 2)), level, -1)
        elif draw < 0.95:
            cv2.line(
                page, (x, y), (x + rng.randint(-12, 12), y + rng.randint(-6, 6)), level, 1
            )
        else:
            cv2.line(page, (x, 0), (x + rng.randint(-2, 2), height), 255 - level, 1)
    return page


# Recipes
# ----------------------------------------


# Operations whose strength is a length on the page.
_IN_PIXELS = {ink_gain, dots, clog, raster, blur, motion}


@dataclass(frozen=True)
class DamageStep:
    """An operation, how often it is done (0…1), and the range of its strength."""

    operation: Operation
    probability: float
    low: float
    high: float

    @property
    def name(self) -> str:
        """The operation's."""
        return self.operation.__name__

    def apply(self, image: Gray, rng: random.Random, em_px: float, scale: float) -> Gray:
        """Do it or not. Both random numbers are drawn either way, so that one step never shifts the
        next one's.

        `em_px` is the size of the letters: strengths in pixels are for 30, and smaller letters get
        less. `scale` multiplies the probability.
        """
        chance = rng.random()
        strength = rng.uniform(self.low, self.high)
        if chance >= self.probability * scale:
            return image
        if self.operation in _IN_PIXELS:
            strength *= min(1.4, max(0.45, em_px / 30))
        return self.operation(image, strength, rng)


@dataclass(frozen=True)
class DamageRecipe:
    """One kind of scan. Gray levels of paper and ink, skew in degrees, steps on the ink, steps on
    the page.
    """

    weight: float
    paper: tuple[int, int]
    ink: tuple[int, int]
    skew_deg: float
    ink_steps: tuple[DamageStep, ...]
    page_steps: tuple[DamageStep, ...]


_BITONAL_INK = (
    DamageStep(ink_gain, 0.7, -0.7, 1.3),
    DamageStep(uneven_ink, 0.06, 0.1, 0.5),
)

RECIPES: Mapping[str, DamageRecipe] = {
    "clean": DamageRecipe(0.05, (255, 255), (0, 30), 0.0, (), ()),
    "gray": DamageRecipe(
        0.11,
        (205, 252),
        (10, 90),
        0.5,
        (DamageStep(ink_gain, 0.4, -0.5, 0.8), DamageStep(uneven_ink, 0.1, 0.1, 0.5)),
        (
            DamageStep(stains, 0.3, 4, 20),
            DamageStep(shade, 0.4, 5, 40),
            DamageStep(blur, 0.8, 0.3, 1.0),
            DamageStep(grain, 0.8, 1, 7),
            DamageStep(sharpen, 0.15, 0.3, 1.2),
            DamageStep(jpeg, 0.7, 40, 92),
        ),
    ),
    "bilevel": DamageRecipe(
        0.19,
        (235, 255),
        (0, 60),
        0.5,
        _BITONAL_INK,
        (
            DamageStep(screen, 0.04, 0.04, 0.2),
            DamageStep(blur, 0.6, 0.3, 0.8),
            DamageStep(grain, 0.7, 2, 12),
            DamageStep(threshold_otsu, 0.85, -25, 30),
            DamageStep(threshold_fixed, 1.0, 100, 190),
            DamageStep(g4_speckle, 0.12, 0.2, 2),
        ),
    ),
    "bilevel_noisy": DamageRecipe(
        0.09,
        (210, 245),
        (10, 80),
        0.6,
        _BITONAL_INK,
        (
            DamageStep(stains, 0.4, 5, 30),
            DamageStep(blur, 0.7, 0.3, 1.1),
            DamageStep(grain, 1.0, 8, 28),
            DamageStep(threshold_adaptive, 0.15, 15, 40),
            DamageStep(threshold_otsu, 1.0, -30, 25),
            DamageStep(g4_speckle, 0.8, 0.5, 9),
            DamageStep(dirt, 0.4, 2, 12),
        ),
    ),
    "fax": DamageRecipe(
        0.05,
        (240, 255),
        (0, 50),
        0.6,
        _BITONAL_INK,
        (
            DamageStep(low_resolution, 0.8, 0.5, 0.85),
            DamageStep(grain, 0.6, 3, 15),
            DamageStep(threshold_otsu, 0.8, -25, 25),
            DamageStep(threshold_fixed, 1.0, 110, 190),
            DamageStep(g4_speckle, 0.3, 0.3, 4),
        ),
    ),
    "faded": DamageRecipe(
        0.06,
        (205, 250),
        (105, 185),
        0.5,
        (DamageStep(ink_gain, 0.5, -0.7, 0.3), DamageStep(uneven_ink, 0.3, 0.1, 0.5)),
        (
            DamageStep(stains, 0.3, 4, 15),
            DamageStep(shade, 0.5, 5, 30),
            DamageStep(blur, 0.8, 0.3, 0.9),
            DamageStep(grain, 0.9, 1, 7),
            DamageStep(jpeg, 0.7, 45, 90),
        ),
    ),
    "photocopy": DamageRecipe(
        0.08,
        (225, 255),
        (0, 50),
        0.6,
        (DamageStep(ink_gain, 1.0, 0.2, 1.6), DamageStep(uneven_ink, 0.25, 0.1, 0.5)),
        (
            DamageStep(blur, 0.9, 0.4, 1.2),
            DamageStep(grain, 0.7, 2, 14),
            DamageStep(dirt, 0.8, 2, 20),
            DamageStep(threshold_otsu, 0.75, -20, 40),
            DamageStep(speckle, 0.5, 0.2, 3),
        ),
    ),
    # typewritten pages and their copies: soft, filled-in letters on old paper
    "carbon": DamageRecipe(
        0.05,
        (185, 245),
        (20, 110),
        0.6,
        (DamageStep(ink_gain, 0.7, -0.2, 1.5), DamageStep(uneven_ink, 0.8, 0.1, 0.6)),
        (
            DamageStep(stains, 0.7, 5, 40),
            DamageStep(shade, 0.4, 5, 40),
            DamageStep(blur, 0.9, 0.4, 1.3),
            DamageStep(grain, 0.9, 2, 12),
            DamageStep(dirt, 0.2, 1, 8),
            DamageStep(threshold_otsu, 0.35, -20, 25),
            DamageStep(speckle, 0.15, 0.2, 3),
            DamageStep(jpeg, 0.6, 40, 92),
        ),
    ),
    "showthrough": DamageRecipe(
        0.06,
        (205, 250),
        (10, 80),
        0.5,
        (DamageStep(ink_gain, 0.3, -0.4, 0.7),),
        (
            DamageStep(shade, 0.3, 5, 30),
            DamageStep(blur, 0.7, 0.3, 0.8),
            DamageStep(grain, 0.9, 1, 7),
            DamageStep(threshold_adaptive, 0.06, 15, 30),
            DamageStep(jpeg, 0.7, 45, 90),
        ),
    ),
    "dotmatrix": DamageRecipe(
        0.05,
        (205, 252),
        (10, 110),
        0.5,
        (
            DamageStep(dots, 0.75, 1.3, 2.3),
            DamageStep(weak_bars, 0.08, 0.3, 0.9),
            DamageStep(uneven_ink, 0.6, 0.1, 0.7),
            DamageStep(ink_gain, 0.3, -0.3, 0.8),
        ),
        (
            DamageStep(blur, 0.8, 0.3, 0.9),
            DamageStep(grain, 0.9, 2, 9),
            DamageStep(threshold_otsu, 0.2, 0, 40),
            DamageStep(jpeg, 0.6, 45, 90),
        ),
    ),
    "jpeg": DamageRecipe(
        0.06,
        (225, 255),
        (0, 70),
        0.5,
        (DamageStep(ink_gain, 0.3, -0.4, 0.6),),
        (
            DamageStep(blur, 0.7, 0.3, 0.9),
            DamageStep(grain, 0.5, 1, 6),
            DamageStep(sharpen, 0.15, 0.3, 1.2),
            DamageStep(jpeg, 1.0, 12, 45),
        ),
    ),
    "photo": DamageRecipe(
        0.04,
        (150, 235),
        (15, 80),
        1.2,
        (DamageStep(ink_gain, 0.3, -0.4, 0.6),),
        (
            DamageStep(shade, 1.0, 20, 110),
            DamageStep(stains, 0.4, 4, 25),
            DamageStep(blur, 0.9, 0.4, 1.2),
            DamageStep(motion, 0.2, 2, 4),
            DamageStep(grain, 0.9, 1, 8),
            DamageStep(jpeg, 0.9, 45, 90),
        ),
    ),
    "typewriter": DamageRecipe(  # ribbon ink on paper that has aged
        0.03,
        (150, 253),
        (10, 130),
        0.6,
        (
            DamageStep(ribbon, 0.7, 0.1, 0.75),
            DamageStep(uneven_ink, 0.5, 0.1, 0.6),
            DamageStep(clog, 0.25, 1.5, 3.2),
            DamageStep(breaks, 0.25, 0.02, 0.14),
            DamageStep(ink_gain, 0.6, -0.5, 1.5),
        ),
        (
            DamageStep(stains, 0.4, 4, 35),
            DamageStep(shade, 0.4, 5, 40),
            DamageStep(mottle, 0.4, 1, 7),
            DamageStep(blur, 0.9, 0.4, 1.4),
            DamageStep(grain, 0.7, 1, 8),
            DamageStep(dirt, 0.15, 1, 8),
            DamageStep(sharpen, 0.15, 0.3, 1.2),
            DamageStep(threshold_otsu, 0.2, -25, 25),
            DamageStep(jpeg, 0.6, 35, 92),
        ),
    ),
    "letterpress": DamageRecipe(  # books and catalogues: squeezed ink, worn and broken type
        0.03,
        (205, 255),
        (0, 80),
        0.5,
        (
            DamageStep(clog, 0.15, 1.5, 2.6),
            DamageStep(breaks, 0.3, 0.01, 0.1),
            DamageStep(ink_gain, 0.85, -0.5, 1.6),
            DamageStep(uneven_ink, 0.3, 0.1, 0.5),
        ),
        (
            DamageStep(stains, 0.3, 4, 25),
            DamageStep(shade, 0.3, 5, 35),
            DamageStep(blur, 0.9, 0.3, 1.2),
            DamageStep(grain, 0.6, 1, 8),
            DamageStep(sharpen, 0.2, 0.3, 1.2),
            DamageStep(threshold_otsu, 0.3, -25, 30),
            DamageStep(g4_speckle, 0.1, 0.2, 2),
            DamageStep(jpeg, 0.6, 35, 92),
        ),
    ),
    "dark": DamageRecipe(  # microfilm and brown paper: little contrast, noisy ground
        0.02,
        (95, 175),
        (10, 70),
        0.6,
        (
            DamageStep(clog, 0.2, 1.5, 3),
            DamageStep(ink_gain, 0.7, -0.2, 1.5),
            DamageStep(uneven_ink, 0.4, 0.1, 0.5),
        ),
        (
            DamageStep(stains, 0.5, 4, 30),
            DamageStep(shade, 0.5, 5, 40),
            DamageStep(mottle, 0.7, 2, 9),
            DamageStep(blur, 0.8, 0.4, 1.3),
            DamageStep(grain, 0.9, 2, 12),
            DamageStep(screen, 0.1, 0.04, 0.15),
            DamageStep(jpeg, 0.7, 35, 90),
        ),
    ),
    "thermal": DamageRecipe(  # receipts
        0.03,
        (210, 255),
        (10, 175),
        0.6,
        (
            DamageStep(raster, 0.5, 1.2, 2.6),
            DamageStep(dots, 0.15, 1.3, 2.3),
            DamageStep(head_faults, 0.35, 0.3, 1.0),
            DamageStep(weak_bars, 0.3, 0.4, 1.0),
            DamageStep(uneven_ink, 0.3, 0.1, 0.5),
            DamageStep(ink_gain, 0.6, -0.8, 1.2),
        ),
        (
            DamageStep(mottle, 0.4, 1, 8),
            DamageStep(blur, 0.7, 0.3, 1.1),
            DamageStep(grain, 0.8, 1, 10),
            DamageStep(sharpen, 0.3, 0.3, 1.4),
            DamageStep(threshold_adaptive, 0.12, 10, 30),
            DamageStep(threshold_otsu, 0.15, -20, 30),
            DamageStep(jpeg, 0.8, 25, 90),
        ),
    ),
}


def strength_ranges() -> list[tuple[Operation, bool, float, float]]:
    """Every operation that a recipe has, once: whether it is done to the ink, and its minimum
    and maximum strength anywhere.
    """
    found: dict[Operation, tuple[bool, float, float]] = {}
    for recipe in RECIPES.values():
        for on_ink, steps in ((True, recipe.ink_steps), (False, recipe.page_steps)):
            for step in steps:
                _, low, high = found.get(step.operation, (on_ink, step.low, step.high))
                found[step.operation] = on_ink, min(low, step.low), max(high, step.high)
    return [(operation, *rest) for operation, rest in found.items()]
