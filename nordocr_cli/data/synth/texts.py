"""What the rendered lines say: corpus phrases and built-in generators of business text.

A line is a row of cells. Within a cell words are set apart by a space; between cells the renderer draws a wide gap, and the
label has ONE space for it, as every reader of a scanned table row writes it.
"""

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nordocr_cli.charset import Charset, to_nfc
from nordocr_cli.data.synth.vocabulary import ICELANDIC, NYNORSK_WORDS, VOCABULARIES, Vocabulary
from nordocr_cli.errors import DataError

# Share of the lines by language; those without corpus and vocabulary are left out and the rest scaled.
LANGUAGE_WEIGHTS: dict[str, float] = {"sv": 0.46, "no": 0.18, "nn": 0.04, "da": 0.18, "is": 0.14}

# Characters whose look decides a word or an amount and that running text shows too seldom.
_CONFUSABLE_WORDS = [
    "0",
    "O",
    "0O",
    "O0",
    "1",
    "l",
    "I",
    "1l",
    "l1",
    "I1",
    "Il",
    "lI",
    "5",
    "S",
    "8",
    "B",
    "2",
    "Z",
    "6",
    "G",
    "7",
    "1",
    "rn",
    "m",
    "cl",
    "d",
    "vv",
    "w",
    "ri",
    "n",
    ".",
    ",",
    ":",
    ";",
    "'",
    '"',
    "-",
    "–",
    "—",
    "_",
    "|",
    "/",
    "\\",
    "(",
    "[",
    "{",
    "}",
    "]",
    ")",
    "°",
    "o",
    "×",
    "x",
    "±",
    "+",
    "*",
    "§",
    "$",
    "£",
    "€",
    "«",
    "»",
    "“",
    "”",
    "‘",
    "’",
    "Å",
    "Ä",
    "Ö",
    "Ø",
    "Æ",
    "Ð",
    "Þ",
    "Ü",
    "å",
    "ä",
    "ö",
    "ø",
    "æ",
    "ð",
    "þ",
    "ü",
    "A",
    "a",
    "O",
    "o",
    "u",
]
_DASHES = "-–—"
_QUOTES = (
    ("\u201d", "\u201d"),
    ("\u201c", "\u201d"),
    ('"', '"'),
    ("»", "«"),
    ("«", "»"),
    ("\u2019", "\u2019"),
    ("\u2018", "\u2019"),
    ("'", "'"),
)


@dataclass(frozen=True, slots=True)
class Text:
    """One line's text as cells (left to right), with its language and the generator that made it."""

    cells: tuple[str, ...]
    language: str
    kind: str

    @property
    def label(self) -> str:
        """The line's label: cells joined by one space."""
        return " ".join(self.cells)


@dataclass
class Corpus:
    """Phrases by language, with counts of what reading them kept, cut and dropped.

    A phrase with words outside the charset is cut into the pieces between those words; one that leaves no piece is dropped.
    """

    phrases: dict[str, list[str]] = field(default_factory=dict)
    read: int = 0
    kept: int = 0
    cut: int = 0
    dropped: int = 0


def read_corpus(folder: Path, charset: Charset) -> Corpus:
    """Read every `LANGUAGE.*.txt` of `folder`, one phrase a line. Raises DataError when there is none or one is unreadable."""
    files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    if not files:
        raise DataError(f"--texts {folder}: no LANGUAGE.NAME.txt files there (e.g. sv.laws.txt, one phrase a line)")
    foreign = re.compile(rf"\S*[^{re.escape(charset.characters)}]\S*")
    corpus = Corpus()
    for file in files:
        language = file.name.partition(".")[0]
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read texts {file}: {error}") from error
        phrases = corpus.phrases.setdefault(language, [])
        for line in lines:
            phrase = " ".join(to_nfc(line).split())
            if not phrase:
                continue
            corpus.read += 1
            pieces = [piece for piece in (p.strip() for p in foreign.split(phrase)) if len(piece) > 1]
            if pieces == [phrase]:
                corpus.kept += 1
            elif pieces:
                corpus.cut += 1
            else:
                corpus.dropped += 1
            phrases.extend(pieces)
    corpus.phrases = {language: phrases for language, phrases in corpus.phrases.items() if phrases}
    return corpus


class TextSource:
    """Draws line texts. `max_characters` bounds a line's length, so that its width fits the profile's `max_width`.

    The text depends on the given random generator alone, never on earlier calls.
    """

    def __init__(self, charset: Charset, phrases: Mapping[str, Sequence[str]] | None = None, max_characters: int = 150) -> None:
        self.charset = charset
        self.phrases = dict(phrases or {})
        self.max_characters = max_characters
        known = [language for language in {**LANGUAGE_WEIGHTS, **self.phrases} if language in self.phrases or language != "nn"]
        self._languages = known
        self._language_weights = [LANGUAGE_WEIGHTS.get(language, 0.05) for language in known]
        self._foreign = re.compile(rf"[^{re.escape(charset.characters)}]")
        # Common small letters need no help.
        self._rare = [c for c in charset.characters if c not in "abdefghiklmnoprstuvy "]
        self._generators: list[tuple[str, float, Callable[[random.Random, Vocabulary], tuple[str, ...]]]] = [
            ("running", 0.36, self._running),
            ("phrase", 0.12, self._phrase),
            ("row", 0.16, self._row),
            ("number", 0.13, lambda rng, v: (number(rng, v),)),
            ("labelled", 0.07, _labelled),
            ("business", 0.06, _business),
            ("pairs", 0.02, self._pairs),
            ("rare", 0.05, self._rare_characters),
            ("short", 0.03, _short),
        ]

    def draw(self, rng: random.Random) -> Text:
        """Return one line. A text with a character outside the charset is drawn anew; the charset bounds what can be written."""
        for _ in range(100):
            language = rng.choices(self._languages, self._language_weights)[0]
            kind, _, generate = rng.choices(self._generators, [weight for _, weight, _ in self._generators])[0]
            vocabulary = VOCABULARIES.get({"nn": "no"}.get(language, language), VOCABULARIES["sv"])
            self._language = language
            cells = self._fit(_vary_case(rng, generate(rng, vocabulary)))
            if cells and not any(self._foreign.search(cell) for cell in cells):
                return Text(cells, language, kind)
        raise DataError(f"charset {self.charset.name!r} can hardly write any line: 100 texts in a row had characters outside it")

    def _fit(self, cells: Sequence[str]) -> tuple[str, ...]:
        """Collapse blanks and drop what is longer than `max_characters`: whole words first, then characters."""
        budget, fitted = self.max_characters, []
        for cell in (" ".join(cell.split()) for cell in cells):
            if not cell or budget < 1:
                continue
            if len(cell) > budget:
                cell = cell[: budget + 1].rpartition(" ")[0] or cell[:budget]
                cell = cell.strip()
            if cell:
                fitted.append(cell)
            budget -= len(cell) + 1
        return tuple(fitted)

    def _words(self, rng: random.Random, vocabulary: Vocabulary) -> str:
        """One phrase: from the corpus of the language where there is one, else made from the vocabulary."""
        phrases = self.phrases.get(self._language)
        if phrases and rng.random() < 0.9:
            return phrases[int(rng.random() * len(phrases))]
        return _sentence(rng, vocabulary, self._language)

    def _running(self, rng: random.Random, vocabulary: Vocabulary) -> tuple[str, ...]:
        # Half of the lines of running text are full lines of a page, the rest anything down to one word.
        full = rng.random() < 0.36
        length = rng.randint(60, 170) if full else int(math.exp(rng.uniform(math.log(6), math.log(90))))
        length = min(length, self.max_characters)
        text = self._words(rng, vocabulary)
        while len(text) < length:
            more = self._words(rng, vocabulary)
            text = f"{text} {more}"
            if rng.random() < 0.15:
                text = f"{text} {number(rng, vocabulary)}"
        if len(text) > length:
            # A line of a paragraph may begin anywhere in it.
            words = text.split(" ")
            start = rng.randrange(len(words)) if rng.random() < 0.6 else 0
            rest = " ".join(words[start:])
            text = rest if len(rest) >= length * 0.6 else text
            cut = text[: length + 1]
            head, _, tail = cut.rpartition(" ")
            text = head or cut
            if len(tail) > 4 and tail.isalpha() and rng.random() < 0.12:
                text = f"{head} {tail[: rng.randint(2, len(tail) - 2)]}-".strip()
        return (_quote_or_number(rng, text, vocabulary),)

    def _phrase(self, rng: random.Random, vocabulary: Vocabulary) -> tuple[str, ...]:
        if self.phrases.get(self._language) and rng.random() < 0.5:
            words = self._words(rng, vocabulary).split(" ")
            start = rng.randrange(len(words))
            return (" ".join(words[start : start + rng.randint(1, 4)]),)
        v = vocabulary
        pool = rng.choice((v.headings, v.accounts, v.labels, v.items, v.companies, v.people, v.places))
        return (rng.choice(pool),)

    def _row(self, rng: random.Random, vocabulary: Vocabulary) -> tuple[str, ...]:
        v, draw = vocabulary, rng.random()
        if draw < 0.4:  # account line
            name = rng.choice(v.accounts) if rng.random() < 0.7 else self._words(rng, v)[: rng.randint(12, 50)].rpartition(" ")[0]
            cells = [name or rng.choice(v.accounts)]
            if rng.random() < 0.25:
                cells.insert(0, str(rng.randint(1000, 8999)))
            if rng.random() < 0.3:
                cells.append(str(rng.randint(1, 30)))
            style = _AmountStyle.draw(rng, v)
            cells += [style.write(rng) for _ in range(rng.choice((1, 2, 2, 3, 4)))]
            return tuple(cells)
        if draw < 0.7:  # invoice line
            style = _AmountStyle.draw(rng, v)
            cells = [
                rng.choice(v.items) if rng.random() < 0.8 else self._words(rng, v)[:30].rpartition(" ")[0] or rng.choice(v.items)
            ]
            if rng.random() < 0.6:
                cells.insert(0, _code(rng))
            if rng.random() < 0.3:
                cells.insert(rng.randrange(2), date(rng, v))
            amount = f"{rng.randint(1, 200)}{rng.choice(('', ',5', ',25', ',00'))}"
            cells += [f"{amount} {rng.choice(v.units)}"] if rng.random() < 0.6 else [amount, rng.choice(v.units)]
            cells.append(style.write(rng))
            if rng.random() < 0.4:
                cells.append(percent(rng))
            cells.append(style.write(rng))
            return tuple(cells)
        if draw < 0.85:  # bank line
            style = _AmountStyle.draw(rng, v)
            cells = [date(rng, v), rng.choice((*v.companies, *v.people, *v.labels)), style.write(rng), style.write(rng)]
            return tuple(cells[: rng.randint(2, 4)])
        if draw < 0.93:  # header row
            return tuple(rng.sample(v.labels, rng.randint(2, 6)))
        return tuple(number(rng, v) for _ in range(rng.randint(2, 6)))

    def _pairs(self, rng: random.Random, vocabulary: Vocabulary) -> tuple[str, ...]:
        words = NYNORSK_WORDS if self._language == "nn" and rng.random() < 0.5 else vocabulary.pairs
        return (" ".join(rng.choice(words) for _ in range(rng.randint(1, 6))),)

    def _rare_characters(self, rng: random.Random, vocabulary: Vocabulary) -> tuple[str, ...]:
        """Words that hold the characters that running text shows too seldom, each as often as any other."""
        words = []
        for _ in range(rng.randint(1, 6)):
            rare = rng.choice(self._rare)
            draw = rng.random()
            if draw < 0.35:
                word = rng.choice(vocabulary.pairs + vocabulary.units)
                place = rng.randint(0, len(word))
                words.append(word[:place] + rare + word[place:])
            elif draw < 0.6:
                figures = str(rng.randint(0, 99999))
                words.append(rare + figures if rng.random() < 0.5 else figures + rare)
            elif draw < 0.8:
                words.append("".join(rng.choice(self._rare) for _ in range(rng.randint(1, 8))))
            else:
                words.append(rare)
        return (" ".join(words),)


# Generators that need nothing but a vocabulary ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _AmountStyle:
    """How one document writes its amounts: group mark, decimals, sign and currency stay the same along a row."""

    group: str
    decimals: int
    decimal: str
    negative: str
    currency: str
    digits: int

    @classmethod
    def draw(cls, rng: random.Random, v: Vocabulary) -> "_AmountStyle":
        decimals = rng.choice((0, 0, 0, 2, 2, 2, 1))
        negative = rng.choices(("-", "–", "()", "- ", "trailing"), (8, 3, 2, 1, 1))[0]
        currency = rng.choice(v.currency) if rng.random() < 0.12 else ""
        decimal = v.decimal if rng.random() < 0.95 else "."
        group = rng.choice(v.thousands)
        return cls("," if decimal == "." and group else group, decimals, decimal, negative, currency, rng.randint(3, 9))

    def write(self, rng: random.Random) -> str:
        if rng.random() < 0.06:
            return rng.choice(("0", "-", "–", "0,00", "—"))
        value = int(10 ** rng.uniform(min(1.5, self.digits - 1), self.digits))
        groups = f"{value:,}".replace(",", self.group)
        text = groups + (self.decimal + f"{rng.randrange(10**self.decimals):0{self.decimals}d}" if self.decimals else "")
        if rng.random() < 0.22:
            match self.negative:
                case "()":
                    text = f"({text})"
                case "trailing":
                    text = f"{text}-"
                case sign:
                    text = sign + text
        if self.currency:
            text = (
                f"{self.currency} {text}"
                if self.currency in ("€", "EUR", "NOK", "DKK", "kr.") and rng.random() < 0.5
                else f"{text} {self.currency}"
            )
        return text.replace(" :-", ":-").replace(" ,-", ",-")


def amount(rng: random.Random, v: Vocabulary) -> str:
    """An amount as the language writes it: `1 234 567,89`, `-12 345`, `(1 234)`, `1.234,50 kr.`."""
    return _AmountStyle.draw(rng, v).write(rng)


def percent(rng: random.Random) -> str:
    """`25 %`, `12,5%`, `-3,2 %`."""
    value = rng.choice(
        (str(rng.randint(0, 100)), f"{rng.randint(0, 99)},{rng.randint(0, 9)}", f"{rng.randint(0, 20)},{rng.randint(0, 99):02d}")
    )
    return f"{'-' if rng.random() < 0.12 else ''}{value}{rng.choice((' ', ' ', ''))}%"


def date(rng: random.Random, v: Vocabulary) -> str:
    """A date as the country writes it: `2024-03-01`, `01.03.2024`, `1. mars 2024`, `31/12-2024`."""
    year, month, day = rng.randint(1985, 2030), rng.randint(1, 12), rng.randint(1, 28 if rng.random() < 0.8 else 31)
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


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("0123456789", k=count))


def organisation_number(rng: random.Random, v: Vocabulary) -> str:
    """The country's company number: Swedish org.nr, Norwegian org.nr, CVR, kennitala."""
    match v.language:
        case "sv":
            return rng.choice(
                (f"55{_digits(rng, 4)}-{_digits(rng, 4)}", f"7{_digits(rng, 5)}-{_digits(rng, 4)}", f"SE{_digits(rng, 10)}01")
            )
        case "no":
            number = f"{rng.choice('89')}{_digits(rng, 8)}"
            spaced = f"{number[:3]} {number[3:6]} {number[6:]}"
            return rng.choice((number, spaced, f"NO {spaced} MVA", f"{spaced} MVA"))
        case "da":
            number = _digits(rng, 8)
            return rng.choice((number, f"DK{number}", f"{number[:2]} {number[2:4]} {number[4:6]} {number[6:]}", f"DK-{number}"))
        case _:
            return rng.choice(
                (
                    f"{rng.randint(1, 71):02d}{rng.randint(1, 12):02d}{_digits(rng, 2)}-{_digits(rng, 4)}",
                    _digits(rng, 10),
                    f"{_digits(rng, 5)}",
                )
            )


def iban(rng: random.Random, v: Vocabulary) -> str:
    """An IBAN-like number in groups of four, or without the spaces."""
    country, digits = {"sv": ("SE", 22), "no": ("NO", 13), "da": ("DK", 16), "is": ("IS", 24)}[v.language]
    number = country + _digits(rng, digits)
    return " ".join(number[i : i + 4] for i in range(0, len(number), 4)) if rng.random() < 0.8 else number


def phone(rng: random.Random, v: Vocabulary) -> str:
    """A telephone number."""
    match v.language:
        case "sv":
            forms = (
                f"0{rng.randint(8, 980)}-{_digits(rng, 3)} {_digits(rng, 2)} {_digits(rng, 2)}",
                f"+46 7{_digits(rng, 1)} {_digits(rng, 3)} {_digits(rng, 2)} {_digits(rng, 2)}",
                f"070-{_digits(rng, 7)}",
            )
        case "no":
            forms = (
                " ".join(_digits(rng, 2) for _ in range(4)),
                f"+47 {_digits(rng, 3)} {_digits(rng, 2)} {_digits(rng, 3)}",
                _digits(rng, 8),
            )
        case "da":
            forms = (" ".join(_digits(rng, 2) for _ in range(4)), f"+45 {_digits(rng, 4)} {_digits(rng, 4)}", _digits(rng, 8))
        case _:
            forms = (
                f"{_digits(rng, 3)}-{_digits(rng, 4)}",
                f"{_digits(rng, 3)} {_digits(rng, 4)}",
                f"(+354) {_digits(rng, 3)} {_digits(rng, 4)}",
            )
    return rng.choice(forms)


def _code(rng: random.Random) -> str:
    letters = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=rng.randint(0, 3)))
    return rng.choice(
        (
            f"{letters}{_digits(rng, rng.randint(2, 7))}",
            f"{letters or 'X'}-{_digits(rng, 4)}",
            f"{_digits(rng, 3)}.{_digits(rng, 3)}",
            f"{_digits(rng, 2)}/{_digits(rng, 3)}{letters}",
            _digits(rng, rng.randint(1, 13)),
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
        return percent(rng)
    if draw < 0.74:
        return organisation_number(rng, v)
    if draw < 0.78:
        return iban(rng, v)
    if draw < 0.83:
        return phone(rng, v)
    if draw < 0.87:
        return (
            f"{_digits(rng, rng.randint(3, 4))}-{_digits(rng, 4)}"
            if rng.random() < 0.5
            else f"{_digits(rng, 4)} {_digits(rng, 2)} {_digits(rng, 5)}"
        )
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
    if draw < 0.93:
        return rng.choice(
            (
                f"{rng.randint(1, 400)} × {rng.randint(1, 400)} mm",
                f"±{rng.randint(1, 9)},{rng.randint(0, 9)}",
                f"{rng.randint(-30, 90)} °C",
                f"{rng.randint(1, 23):02d}:{rng.randint(0, 59):02d}",
                f"{rng.randint(1, 20)}×{rng.randint(1, 9)},5",
            )
        )
    return _code(rng)


_LETTERS = str.maketrans(
    {
        "å": "a",
        "ä": "a",
        "ö": "o",
        "ø": "o",
        "æ": "a",
        "ð": "d",
        "þ": "t",
        "é": "e",
        "ü": "u",
        "á": "a",
        "í": "i",
        "ó": "o",
        "ú": "u",
        "ý": "y",
        " ": ".",
    }
)
_TOP_LEVEL = {"sv": "se", "no": "no", "da": "dk", "is": "is"}


def _address(rng: random.Random, v: Vocabulary) -> str:
    first = rng.choice((*v.people, "info", "faktura", "post", "order")).lower().translate(_LETTERS)
    domain = rng.choice(v.companies).lower().translate(_LETTERS).replace(".", rng.choice(("", "-")))
    draw = rng.random()
    if draw < 0.55:
        return f"{first}@{domain}.{_TOP_LEVEL[v.language]}"
    if draw < 0.85:
        return f"{rng.choice(('www.', 'https://', 'http://www.'))}{domain}.{rng.choice((_TOP_LEVEL[v.language], 'com'))}{rng.choice(('', '/faktura', '/kontakt?id=' + _digits(rng, 3), '/#a_b'))}"
    return rng.choice(
        (
            rf"C:\{domain}\{first}_{rng.randint(1990, 2030)}.pdf",
            f"~/{first}/{domain}",
            f"{{{domain}}}",
            f"[{first}]",
            f"{first}_{_digits(rng, 2)}.xlsx",
            f"<{first}>",
            f"${domain.upper()}",
            f"a^{rng.randint(2, 9)} = `{first[:4]}`",
        )
    )


def _labelled(rng: random.Random, v: Vocabulary) -> tuple[str, ...]:
    """`Label: value`, in one cell or with a gap between."""
    label, value = (
        rng.choice(v.labels),
        number(rng, v) if rng.random() < 0.75 else rng.choice((*v.people, *v.companies, *v.places)),
    )
    colon = rng.choice((":", ":", "", " :"))
    if rng.random() < 0.4:
        return (label + colon.strip(), value)
    return (f"{label}{colon} {value}",)


def _business(rng: random.Random, v: Vocabulary) -> tuple[str, ...]:
    """Addresses, companies, paragraphs, notes, headings with numbers."""
    draw = rng.random()
    if draw < 0.25:
        return (_address(rng, v),)
    if draw < 0.45:
        street = f"{rng.choice(v.streets)} {rng.randint(1, 199)}{rng.choice(('', '', ' B', 'A'))}"
        town = (
            f"{_digits(rng, 3)} {_digits(rng, 2)} {rng.choice(v.places)}"
            if v.language == "sv"
            else f"{_digits(rng, 3 if v is ICELANDIC else 4)} {rng.choice(v.places)}"
        )
        return (rng.choice((street, town, f"{street}, {town}")),)
    if draw < 0.65:
        return (f"{rng.choice(v.companies)} {rng.choice(v.forms)}",)
    if draw < 0.82:
        section = rng.choice(
            (
                f"{rng.randint(1, 40)} §",
                f"§ {rng.randint(1, 40)}",
                f"§ {rng.randint(1, 20)}-{rng.randint(1, 30)}",
                f"{rng.randint(1, 20)} kap. {rng.randint(1, 40)} §",
                f"{rng.randint(1, 9)}.{rng.randint(1, 9)}",
                f"{rng.randint(1, 20)})",
                f"{rng.choice('abcdef')})",
                f"Not {rng.randint(1, 30)}",
                "*",
                "#",
                "–",
            )
        )
        return (f"{section} {rng.choice((*v.headings, *v.accounts, *v.endings))}",)
    opening, closing = rng.choice(_QUOTES)
    word = rng.choice((*v.companies, *v.items, *v.headings))
    return (
        rng.choice(
            (
                f"{opening}{word}{closing}",
                f"({word})",
                f"[{word}]",
                f"{word} & {rng.choice(v.items)}",
                f"{word} / {rng.choice(v.units)}",
                f"{word}!",
                f"{word}?",
                f"{word}; {rng.choice(v.units)}",
                f"{word} + {rng.choice(v.items)}",
                f"{word} = {amount(rng, v)}",
                f"* {word}",
                f"{word} *)",
                f"{word} @ {amount(rng, v)}",
                f"{word} – {rng.choice(v.items)}",
                f"{word} — {date(rng, v)}",
            )
        ),
    )


def _short(rng: random.Random, v: Vocabulary) -> tuple[str, ...]:
    """One to three characters: `5`, `Kr`, `%`."""
    draw = rng.random()
    if draw < 0.4:
        return (str(rng.randint(0, 99)),)
    if draw < 0.6:
        return (
            rng.choice(
                (
                    *v.units,
                    "kr",
                    "Kr",
                    "SEK",
                    "%",
                    "§",
                    "Ja",
                    "Nej",
                    "x",
                    "X",
                    "A",
                    "B",
                    "1)",
                    "-",
                    "–",
                    "Nr",
                    "à",
                    "€",
                    "#",
                    "*",
                    "&",
                )
            ),
        )
    return (rng.choice(_CONFUSABLE_WORDS),)


def _sentence(rng: random.Random, v: Vocabulary, language: str) -> str:
    if language == "nn" and rng.random() < 0.6:
        return f"{rng.choice(NYNORSK_WORDS)} {rng.choice(v.endings)}{rng.choice('.,.;')}"
    draw = rng.random()
    if draw < 0.7:
        return f"{rng.choice(v.openings)} {rng.choice(v.verbs)} {rng.choice(v.endings)}."
    if draw < 0.85:
        return f"{rng.choice(v.accounts)} {rng.choice(('uppgick till', 'var', '=', ':', '–', '-')) if v.language == 'sv' else rng.choice(('var', '=', ':', '–', '-'))} {amount(rng, v)} ({amount(rng, v)})."
    return f"{rng.choice(v.labels)}: {number(rng, v)}, {rng.choice(v.items).lower()} {rng.randint(1, 90)} {rng.choice(v.units)}."


def _quote_or_number(rng: random.Random, text: str, v: Vocabulary) -> str:
    """Now and then number a line, bullet it, or quote a word of it."""
    draw = rng.random()
    if draw < 0.03:
        return f"{rng.randint(1, 99)}{rng.choice(('.', ')', ' §'))} {text}"
    if draw < 0.05:
        return f"{rng.choice(_DASHES + '*')} {text}"
    if draw < 0.09:
        words = text.split(" ")
        place = rng.randrange(len(words))
        opening, closing = rng.choice(_QUOTES)
        words[place] = f"{opening}{words[place]}{closing}"
        return " ".join(words)
    return text


def _vary_case(rng: random.Random, cells: tuple[str, ...]) -> tuple[str, ...]:
    draw = rng.random()
    if draw < 0.06:
        return tuple(cell.upper() for cell in cells)
    if draw < 0.08:
        return tuple(cell[:1].upper() + cell[1:] for cell in cells)
    return cells
