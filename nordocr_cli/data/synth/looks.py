"""Sorts of paper: which texts stand on it, in which faces they are set, and what happened to it
before it was scanned.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nordocr_cli.data.synth.damage import RECIPES
from nordocr_cli.data.synth.fonts import CATEGORY_WEIGHTS
from nordocr_cli.data.synth.texts import KIND_WEIGHTS

# How a line is cut from its page: tight to its ink, to the font's box, with a margin, a little too
# tight, or as a plain box that also holds parts of the lines above and below.
_CROPS = {"ink": 0.47, "font": 0.36, "margin": 0.12, "cut": 0.05}
_CROPS_WITH_NEIGHBOURS = {
    "ink": 0.35,
    "font": 0.25,
    "margin": 0.12,
    "cut": 0.03,
    "box": 0.25,
}


@dataclass(frozen=True)
class Look:
    """One sort of paper. Weights of text kinds, font categories, damages and crops; `foreign`
    multiplies how often texts of languages without a vocabulary come, `neighbours` and `rules` how
    often lines and rules stand around; `stretch` is the range of a face's width, and the share of
    the lines that have another than the face's own. `round_zeros` is the share of the lines whose
    zeros next to other digits are drawn as the letter O, as many tills and needle printers draw
    both alike.
    """

    weight: float
    kinds: Mapping[str, float] = field(default_factory=lambda: KIND_WEIGHTS)
    categories: Mapping[str, float] = field(default_factory=lambda: CATEGORY_WEIGHTS)
    recipes: Mapping[str, float] = field(
        default_factory=lambda: {name: recipe.weight for name, recipe in RECIPES.items()}
    )
    crops: Mapping[str, float] = field(default_factory=lambda: _CROPS)
    foreign: float = 1.0
    neighbours: float = 1.0
    rules: float = 1.0
    stretch: tuple[float, float, float] = (0.76, 1.16, 0.3)
    round_zeros: float = 0.0


LOOKS: Mapping[str, Look] = {
    "office": Look(0.53),
    "typewriter": Look(
        0.17,
        kinds={
            "running": 0.62,
            "phrase": 0.16,
            "number": 0.06,
            "row": 0.04,
            "labelled": 0.03,
            "business": 0.05,
            "short": 0.01,
            "swapped": 0.03,
        },
        categories={"typewriter": 0.72, "mono": 0.28},
        recipes={
            "typewriter": 0.5,
            "carbon": 0.22,
            "dark": 0.1,
            "faded": 0.06,
            "gray": 0.05,
            "bilevel_noisy": 0.04,
            "photocopy": 0.03,
        },
        crops=_CROPS_WITH_NEIGHBOURS,
        foreign=14.0,
        neighbours=1.8,
        stretch=(0.85, 1.2, 0.3),
    ),
    "book": Look(
        0.13,
        kinds={
            "running": 0.66,
            "phrase": 0.18,
            "number": 0.04,
            "row": 0.04,
            "business": 0.04,
            "short": 0.01,
            "swapped": 0.03,
        },
        categories={"serif": 0.86, "condensed": 0.06, "sans": 0.08},
        recipes={
            "letterpress": 0.55,
            "gray": 0.12,
            "dark": 0.1,
            "bilevel": 0.08,
            "showthrough": 0.08,
            "photocopy": 0.04,
            "jpeg": 0.03,
        },
        crops=_CROPS_WITH_NEIGHBOURS,
        foreign=14.0,
        neighbours=1.8,
    ),
    "receipt": Look(
        0.13,
        kinds={"receipt": 0.8, "number": 0.08, "cell": 0.12},
        categories={
            "mono": 0.3,
            "dotmatrix_like": 0.22,
            "sans": 0.28,
            "condensed": 0.14,
            "typewriter": 0.06,
        },
        recipes={
            "thermal": 0.6,
            "dotmatrix": 0.1,
            "gray": 0.1,
            "jpeg": 0.07,
            "photo": 0.03,
            "faded": 0.05,
            "bilevel": 0.05,
        },
        crops={"ink": 0.62, "font": 0.25, "margin": 0.08, "cut": 0.05},
        neighbours=0.6,
        stretch=(0.55, 1.5, 0.6),
        round_zeros=0.45,
    ),
    "figures": Look(
        0.04,
        kinds={"cell": 0.75, "number": 0.25},
        rules=2.0,
    ),
}
