"""Texts that fill a table cell alone: one figure, a dash, a short code, an amount in brackets.

A reader of lines has no words around such a cell to tell 0 from O or 1 from l by: the shape alone
decides, and figures are far more often met than the letters that look like them.
"""

import random

from nordocr_cli.data.synth.figures import amount, code, date, digits, written_percent
from nordocr_cli.data.synth.vocabulary import Vocabulary

_DASHES = ("-", "–", "—")
# Figures and letters of like shape in one token, as serial numbers and article codes have them.
_MIXED = (
    "0O",
    "O0",
    "1I",
    "I1",
    "1l",
    "5S",
    "S5",
    "8B",
    "B8",
    "2Z",
    "Z2",
    "6G",
    "G6",
    "Q0",
    "D0",
    "7T",
    "4A",
)


def single_cell(rng: random.Random, v: Vocabulary) -> str:
    """Return the text of one cell."""
    makers = (
        _figure,
        _zero,
        _dash,
        _short_number,
        _signed,
        _code,
        _mixed,
        _letter,
        _amount,
    )
    return rng.choices(makers, (22, 12, 6, 14, 10, 8, 8, 6, 14))[0](rng, v)


def _figure(rng: random.Random, v: Vocabulary) -> str:
    return str(rng.randint(0, 9))


def _zero(rng: random.Random, v: Vocabulary) -> str:
    mark = v.decimal
    forms = (
        "0",
        "0",
        "0",
        "0",
        "00",
        f"0{mark}0",
        f"0{mark}00",
        "0 %",
        "0%",
        "-0",
        "000",
        f"0{mark}000",
        "(0)",
        "0 kr",
    )
    return rng.choice(forms)


def _dash(rng: random.Random, v: Vocabulary) -> str:
    return rng.choice(_DASHES)


def _short_number(rng: random.Random, v: Vocabulary) -> str:
    return str(rng.randint(10, 10 ** rng.randint(2, 4) - 1))


def _signed(rng: random.Random, v: Vocabulary) -> str:
    number = str(rng.randint(1, 10 ** rng.randint(1, 4)))
    return rng.choice(
        (
            f"-{number}",
            f"–{number}",
            f"- {number}",
            f"({number})",
            f"{number}-",
            f"+{number}",
            f"-{number}{v.decimal}{digits(rng, 2)}",
        )
    )


def _code(rng: random.Random, v: Vocabulary) -> str:
    return rng.choice(
        (code(rng), digits(rng, rng.randint(5, 14)), written_percent(rng), date(rng, v))
    )


def _mixed(rng: random.Random, v: Vocabulary) -> str:
    parts = [
        rng.choice(_MIXED) if rng.random() < 0.5 else digits(rng, rng.randint(1, 3))
        for _ in range(rng.randint(1, 4))
    ]
    return "".join(parts)


def _letter(rng: random.Random, v: Vocabulary) -> str:
    return rng.choice("OolIiSsBZzGgDQqTtAaÅåØøÖöÄäÆæUuVvXxKkCcEe")


def _amount(rng: random.Random, v: Vocabulary) -> str:
    return amount(rng, v)
