"""How a line's letters are set one after another: kerned words, letters spaced out, a typewriter's
strikes, or a coarse grid.

Where letters stand decides where a reader sees a space. Programs that lay a page out for a screen
round each letter's width to whole pixels of some 10 to 20 an em: printed, `s` may stand apart from
its word while two words nearly touch.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import ImageDraw, ImageFont

from nordocr_cli.data.synth.fonts import EM_PX, FontFace, open_font, open_shaped_font

# OpenType features of words set whole; alternates and discretionary ligatures would show other
# signs than the label has.
_LIGATURES = ["kern", "liga", "-calt", "-clig", "-dlig"]
_NO_LIGATURES = ["kern", "-liga", "-calt", "-clig", "-dlig"]


@dataclass(frozen=True)
class LineSetting:
    """How one line is set. Lengths are pixels at EM_PX an em.

    `shaping`: OpenType features to switch, None for plain letter after letter. `advances`: width of
    each letter and of the space on a coarse grid, None for the font's own. `strike`: varies height
    and darkness of every letter, as a typewriter does. `loose`: how far each letter stands aside
    and above its place, the same way each time: a type bar that is bent.
    """

    face: FontFace
    spacing: float = 0.0
    word_gap: float = 0.0
    shaping: list[str] | None = None
    advances: Mapping[str, float] | None = None
    strike: random.Random | None = None
    loose: Mapping[str, tuple[float, float]] | None = None

    @classmethod
    def draw(
        cls, rng: random.Random, face: FontFace, cells: Sequence[str], coarse: float
    ) -> "LineSetting":
        """Draw the setting of a line of `cells`; `coarse` is the probability of a coarse grid."""
        spacing = (
            rng.choices(
                (0.0, rng.uniform(-0.015, 0.03), rng.uniform(0.03, 0.15)), (0.82, 0.1, 0.08)
            )[0]
            * EM_PX
        )
        word_gap = (
            rng.choices(
                (0.0, rng.uniform(-0.06, 0.12), rng.uniform(0.0, 0.35)), (0.7, 0.15, 0.15)
            )[0]
            * EM_PX
        )
        fixed = face.category in ("typewriter", "mono")
        if not fixed and rng.random() < coarse:
            return cls(face, advances=_on_grid(rng, face, sorted({*"".join(cells), " "})))
        if fixed and rng.random() < (0.85 if face.category == "typewriter" else 0.4):
            strike = rng
        else:
            strike = None
        # Programs set about half of what they print with ligatures, nearly all of it with kerning.
        if fixed:
            shaping = None
        else:
            shaping = _LIGATURES if rng.random() < 0.5 else _NO_LIGATURES
        loose = None
        if strike and rng.random() < 0.6:
            letters = sorted(set("".join(cells)))
            loose = {
                letter: (rng.gauss(0, 0.012) * EM_PX, rng.gauss(0, 0.022) * EM_PX)
                for letter in letters
            }
        return cls(face, spacing, word_gap, shaping, None, strike, loose)

    def length(self, cell: str) -> float:
        """How far the pen moves along `cell`."""
        if self._by_letter:  # without kerning, as it will be drawn
            length = sum(self._letter(letter) for letter in cell)
        else:
            length = self._font.getlength(cell, features=self.shaping)
        return length + self.spacing * len(cell) + self.word_gap * cell.count(" ")

    def put(self, draw: ImageDraw.ImageDraw, x: float, y: float, cell: str) -> None:
        """Draw `cell` from pen position x on baseline y: whole where nothing is spaced out, else
        word by word or by letter.
        """
        font = self._font
        if not (self._by_letter or self.word_gap):
            draw.text((x, y), cell, 255, font=font, anchor="ls", features=self.shaping)
            return
        space = self._letter(" ") + self.spacing + self.word_gap
        for word in cell.split(" "):
            if not self._by_letter:
                draw.text((x, y), word, 255, font=font, anchor="ls", features=self.shaping)
                x += font.getlength(word, features=self.shaping) + space
                continue
            for letter in word:
                aside = 0.0
                height = 0.0
                force = 255
                if self.strike:
                    aside, height = (
                        self.strike.gauss(0, spread) * EM_PX for spread in (0.01, 0.014)
                    )
                    force = self.strike.randint(140, 255)
                if self.loose:
                    aside, height = (
                        aside + self.loose[letter][0],
                        height + self.loose[letter][1],
                    )
                draw.text((x + aside, y + height), letter, force, font=font, anchor="ls")
                x += self._letter(letter) + self.spacing
            x += space

    @property
    def _by_letter(self) -> bool:
        return bool(self.spacing or self.strike or self.advances)

    @property
    def _font(self) -> ImageFont.FreeTypeFont:
        opened = open_font if self.shaping is None else open_shaped_font
        return opened(self.face.path, self.face.index, self.face.instance)

    def _letter(self, letter: str) -> float:
        if self.advances:
            return self.advances[letter]
        return letter_advance(self.face, letter)


def letter_advance(face: FontFace, letter: str) -> float:
    """How far the pen moves along one letter, in pixels at EM_PX an em."""
    return _letter_advance(face.path, face.index, face.instance, letter)


@lru_cache(maxsize=200_000)
def _letter_advance(path: str, index: int, instance: str, letter: str) -> float:
    return open_font(path, index, instance).getlength(letter)


def _on_grid(
    rng: random.Random, face: FontFace, letters: Sequence[str]
) -> dict[str, float]:
    """Widths in whole steps of 9 to 22 an em. Hinting may round a letter's either way, but the same
    way each time.
    """
    step = EM_PX / rng.randint(9, 22)
    return {
        letter: max(
            1, round(letter_advance(face, letter) / step + rng.uniform(-0.35, 0.35))
        )
        * step
        for letter in letters
    }
