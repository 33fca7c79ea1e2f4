"""The figures that fill business documents: amounts, dates, company and account numbers, as each
country writes them.
"""

import random
from dataclasses import dataclass

from nordocr_cli.data.synth.vocabulary import Vocabulary


@dataclass(frozen=True)
class AmountStyle:
    """How one document writes its amounts: group mark, decimals, sign and currency stay the same
    along a row.
    """

    group: str
    decimals: int
    decimal: str
    negative: str
    currency: str
    digits: int

    @classmethod
    def draw(cls, rng: random.Random, v: Vocabulary) -> "AmountStyle":
        """Draw the style of one document."""
        decimals = rng.choice((0, 0, 0, 2, 2, 2, 1))
        negative = rng.choices(("-", "–", "()", "- ", "trailing"), (8, 3, 2, 1, 1))[0]
        currency = rng.choice(v.currency) if rng.random() < 0.12 else ""
        decimal = v.decimal if rng.random() < 0.95 else "."
        group = rng.choice(v.thousands)
        return cls(
            "," if decimal == "." and group else group,
            decimals,
            decimal,
            negative,
            currency,
            rng.randint(3, 9),
        )

    def write(self, rng: random.Random) -> str:
        """Write one amount in this style; now and then a zero or a dash."""
        if rng.random() < 0.06:
            return rng.choice(("0", "-", "–", "0,00", "—"))
        value = int(10 ** rng.uniform(min(1.5, self.digits - 1), self.digits))
        text = f"{value:,}".replace(",", self.group)
        if self.decimals:
            fraction = rng.randrange(10**self.decimals)
            text += f"{self.decimal}{fraction:0{self.decimals}d}"
        if rng.random() < 0.22:
            match self.negative:
                case "()":
                    text = f"({text})"
                case "trailing":
                    text = f"{text}-"
                case sign:
                    text = sign + text
        if self.currency:
            if self.currency in ("€", "EUR", "NOK", "DKK", "kr.") and rng.random() < 0.5:
                text = f"{self.currency} {text}"
            else:
                text = f"{text} {self.currency}"
        return text.replace(" :-", ":-").replace(" ,-", ",-")


def amount(rng: random.Random, v: Vocabulary) -> str:
    """An amount as the language writes it: `1 234 567,89`, `-12 345`, `(1 234)`, `1.234,50 kr.`."""
    return AmountStyle.draw(rng, v).write(rng)


def written_percent(rng: random.Random) -> str:
    """`25 %`, `12,5%`, `-3,2 %`."""
    value = rng.choice(
        (
            str(rng.randint(0, 100)),
            f"{rng.randint(0, 99)},{rng.randint(0, 9)}",
            f"{rng.randint(0, 20)},{rng.randint(0, 99):02d}",
        )
    )
    return f"{'-' if rng.random() < 0.12 else ''}{value}{rng.choice((' ', ' ', ''))}%"


def date(rng: random.Random, v: Vocabulary) -> str:
    """A date as the country writes it: `2024-03-01`, `01.03.2024`, `1. mars 2024`, `31/12-2024`."""
    year = rng.randint(1985, 2030)
    month = rng.randint(1, 12)
    day = rng.randint(1, 28 if rng.random() < 0.8 else 31)
    name = rng.choice(v.months)
    forms = [
        f"{day:02d}.{month:02d}.{year}",
        f"{day:02d}-{month:02d}-{year}",
        f"{day}.{month}.{year}",
        f"{day}. {name} {year}",
        f"{day:02d}.{month:02d}.{year % 100:02d}",
    ]
    if v.language == "sv":
        forms = [f"{year}-{month:02d}-{day:02d}"] * 3 + [
            f"{day} {name} {year}",
            f"{year % 100:02d}{month:02d}{day:02d}",
            f"{year}{month:02d}{day:02d}",
            forms[0],
        ]
    forms += [
        f"{day}/{month} {year}",
        f"{day}/{month}-{year % 100:02d}",
        f"{name} {year}",
        f"{year}/{(year + 1) % 100:02d}",
        str(year),
    ]
    return rng.choice(forms)


def digits(rng: random.Random, count: int) -> str:
    """Return `count` digits."""
    return "".join(rng.choices("0123456789", k=count))


def organisation_number(rng: random.Random, v: Vocabulary) -> str:
    """The country's company number: Swedish org.nr, Norwegian org.nr, CVR, kennitala."""
    match v.language:
        case "sv":
            return rng.choice(
                (
                    f"55{digits(rng, 4)}-{digits(rng, 4)}",
                    f"7{digits(rng, 5)}-{digits(rng, 4)}",
                    f"SE{digits(rng, 10)}01",
                )
            )
        case "no":
            number = f"{rng.choice('89')}{digits(rng, 8)}"
            spaced = f"{number[:3]} {number[3:6]} {number[6:]}"
            return rng.choice((number, spaced, f"NO {spaced} MVA", f"{spaced} MVA"))
        case "da":
            number = digits(rng, 8)
            return rng.choice(
                (
                    number,
                    f"DK{number}",
                    f"{number[:2]} {number[2:4]} {number[4:6]} {number[6:]}",
                    f"DK-{number}",
                )
            )
        case _:
            return rng.choice(
                (
                    (
                        f"{rng.randint(1, 71):02d}{rng.randint(1, 12):02d}{digits(rng, 2)}"
                        f"-{digits(rng, 4)}"
                    ),
                    digits(rng, 10),
                    f"{digits(rng, 5)}",
                )
            )


def iban(rng: random.Random, v: Vocabulary) -> str:
    """An IBAN-like number in groups of four, or without the spaces."""
    country, length = {
        "sv": ("SE", 22),
        "no": ("NO", 13),
        "da": ("DK", 16),
        "is": ("IS", 24),
    }[v.language]
    number = country + digits(rng, length)
    if rng.random() < 0.8:
        return " ".join(number[i : i + 4] for i in range(0, len(number), 4))
    return number


def phone(rng: random.Random, v: Vocabulary) -> str:
    """A telephone number."""
    match v.language:
        case "sv":
            forms = (
                f"0{rng.randint(8, 980)}-{digits(rng, 3)} {digits(rng, 2)} {digits(rng, 2)}",
                f"+46 7{digits(rng, 1)} {digits(rng, 3)} {digits(rng, 2)} {digits(rng, 2)}",
                f"070-{digits(rng, 7)}",
            )
        case "no":
            forms = (
                " ".join(digits(rng, 2) for _ in range(4)),
                f"+47 {digits(rng, 3)} {digits(rng, 2)} {digits(rng, 3)}",
                digits(rng, 8),
            )
        case "da":
            forms = (
                " ".join(digits(rng, 2) for _ in range(4)),
                f"+45 {digits(rng, 4)} {digits(rng, 4)}",
                digits(rng, 8),
            )
        case _:
            forms = (
                f"{digits(rng, 3)}-{digits(rng, 4)}",
                f"{digits(rng, 3)} {digits(rng, 4)}",
                f"(+354) {digits(rng, 3)} {digits(rng, 4)}",
            )
    return rng.choice(forms)


def code(rng: random.Random) -> str:
    """An article, order or reference number: `AB1234`, `X-0042`, `12/345C`."""
    letters = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=rng.randint(0, 3)))
    return rng.choice(
        (
            f"{letters}{digits(rng, rng.randint(2, 7))}",
            f"{letters or 'X'}-{digits(rng, 4)}",
            f"{digits(rng, 3)}.{digits(rng, 3)}",
            f"{digits(rng, 2)}/{digits(rng, 3)}{letters}",
            digits(rng, rng.randint(1, 13)),
        )
    )


def number(rng: random.Random, v: Vocabulary) -> str:
    """Any of the figures that fill business documents."""
    draw = rng.random()
    if draw < 0.45:
        return amount(rng, v)
    if draw < 0.60:
        return date(rng, v)
    if draw < 0.68:
        return written_percent(rng)
    if draw < 0.74:
        return organisation_number(rng, v)
    if draw < 0.78:
        return iban(rng, v)
    if draw < 0.83:
        return phone(rng, v)
    if draw < 0.87:
        if rng.random() < 0.5:
            return f"{digits(rng, rng.randint(3, 4))}-{digits(rng, 4)}"
        return f"{digits(rng, 4)} {digits(rng, 2)} {digits(rng, 5)}"
    if draw < 0.90:
        return rng.choice(
            (
                f"{rng.randint(1, 40)}",
                f"{rng.randint(1, 40)} ({rng.randint(1, 60)})",
                f"{v.page} {rng.randint(1, 40)} av {rng.randint(1, 60)}",
                f"{rng.randint(1, 20)}/{rng.randint(1, 20)}",
                f"- {rng.randint(1, 99)} -",
            )
        )
    if draw < 0.94:
        return rng.choice(
            (
                f"{rng.randint(1, 400)} × {rng.randint(1, 400)} mm",
                f"{rng.randint(1, 400)}×{rng.randint(1, 400)}{rng.choice(('', ' mm'))}",
                f"{rng.randint(1, 40)} {rng.choice(v.units)}",
                f"{rng.choice('<>~±')}{rng.choice(('', ' '))}{rng.randint(1, 500)}",
                f"±{rng.randint(1, 9)},{rng.randint(0, 9)}",
                f"{rng.randint(-30, 90)} °C",
                f"{rng.randint(1, 23):02d}:{rng.randint(0, 59):02d}",
                f"{rng.randint(1, 20)}×{rng.randint(1, 9)},5",
            )
        )
    return code(rng)
