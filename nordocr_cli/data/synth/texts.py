"""What the rendered lines say: corpus phrases and built-in generators of business text.

A line is a row of cells. Within a cell words are set apart by a space; between cells the renderer
draws a wide gap, and the label has ONE space for it, as every reader of a scanned table row writes
it.
"""

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nordocr_cli.charset import Charset, to_nfc
from nordocr_cli.data.synth.figures import AmountStyle, code, date, number, written_percent
from nordocr_cli.data.synth.phrases import (
    business,
    labelled,
    quote_or_number,
    sentence,
    short,
    vary_case,
)
from nordocr_cli.data.synth.receipts import receipt
from nordocr_cli.data.synth.single_cells import single_cell
from nordocr_cli.data.synth.vocabulary import NYNORSK_WORDS, VOCABULARIES, Vocabulary
from nordocr_cli.errors import DataError
from nordocr_cli.limits import read_text

# Share of the lines by language; those without corpus and vocabulary are left out and the rest
# scaled.
LANGUAGE_WEIGHTS: dict[str, float] = {
    "sv": 0.46,
    "no": 0.18,
    "nn": 0.04,
    "da": 0.18,
    "is": 0.14,
}

# Languages of which there is a corpus but no vocabulary of business words: running text and phrases
# alone.
FOREIGN_WEIGHT = 0.01

# How often each kind of text comes in documents of offices.
KIND_WEIGHTS: dict[str, float] = {
    "running": 0.31,
    "phrase": 0.10,
    "row": 0.15,
    "number": 0.12,
    "labelled": 0.07,
    "business": 0.06,
    "pairs": 0.02,
    "swapped": 0.05,
    "rare": 0.05,
    "short": 0.02,
    "cell": 0.05,
}
_FOREIGN_KINDS = ("running", "phrase", "swapped")

# Letters that differ by a ring, a stroke, two dots, or a gap of a hair's breadth; each stands for
# any other of its group.
_ALIKE = tuple(
    group.split()
    for group in (
        "a å ä",
        "o ø ö",
        "A Å Ä",
        "O Ø Ö",
        "m rn",
        "d cl",
        "n ri",
        "i í",
        "e é",
        "l i",
        "t tt",
        "c e",
    )
)


@dataclass(frozen=True, slots=True)
class Text:
    """One line's text as cells (left to right), with its language and the generator that made
    it.
    """

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

    A phrase with words outside the charset is cut into the pieces between those words; one that
    leaves no piece is dropped.
    """

    phrases: dict[str, list[str]] = field(default_factory=dict)
    read: int = 0
    kept: int = 0
    cut: int = 0
    dropped: int = 0


def read_corpus(folder: Path, charset: Charset) -> Corpus:
    """Read every `LANGUAGE.*.txt` of `folder`, one phrase a line. Raises DataError when there is
    none or one is unreadable.
    """
    files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    if not files:
        raise DataError(
            f"--texts {folder}: no LANGUAGE.NAME.txt files there (e.g. sv.laws.txt, one phrase a"
            " line)"
        )
    foreign = re.compile(rf"\S*[^{re.escape(charset.characters)}]\S*")
    corpus = Corpus()
    for file in files:
        language = file.name.partition(".")[0]
        lines = read_text(file, "texts").splitlines()
        phrases = corpus.phrases.setdefault(language, [])
        for line in lines:
            phrase = " ".join(to_nfc(line).split())
            if not phrase:
                continue
            corpus.read += 1
            pieces = [
                piece
                for piece in (p.strip() for p in foreign.split(phrase))
                if len(piece) > 1
            ]
            if pieces == [phrase]:
                corpus.kept += 1
            elif pieces:
                corpus.cut += 1
            else:
                corpus.dropped += 1
            phrases.extend(pieces)
    corpus.phrases = {
        language: phrases for language, phrases in corpus.phrases.items() if phrases
    }
    return corpus


# Long texts are rare among those of some kinds.
_TRIED_TEXTS = 1000


class TextSource:
    """Draws line texts of `min_characters` to `max_characters`, so that a line's width fits the
    profile's `max_width`.

    The text depends on the given random generator alone, never on earlier calls.
    """

    def __init__(
        self,
        charset: Charset,
        phrases: Mapping[str, Sequence[str]] | None = None,
        max_characters: int = 150,
        min_characters: int = 1,
    ) -> None:
        self.charset = charset
        self.min_characters = min_characters
        self.phrases = dict(phrases or {})
        self.max_characters = max_characters
        known = [
            language
            for language in {**LANGUAGE_WEIGHTS, **self.phrases}
            if language in self.phrases or language != "nn"
        ]
        self._known = known
        self._foreign = re.compile(rf"[^{re.escape(charset.characters)}]")
        # Common small letters need no help.
        self._rare = [c for c in charset.characters if c not in "abdefghiklmnoprstuvy "]
        self._generators: dict[
            str, Callable[[random.Random, str, Vocabulary], tuple[str, ...]]
        ] = {
            "running": self._running,
            "phrase": self._phrase,
            "row": self._row,
            "number": lambda rng, _, v: (number(rng, v),),
            "labelled": lambda rng, _, v: labelled(rng, v),
            "business": lambda rng, _, v: business(rng, v),
            "pairs": self._pairs,
            "swapped": self._swapped,
            "rare": self._rare_characters,
            "short": lambda rng, _, v: short(rng, v),
            "cell": lambda rng, _, v: (single_cell(rng, v),),
            "receipt": lambda rng, _, v: receipt(rng, v),
        }

    def draw(
        self,
        rng: random.Random,
        kinds: Mapping[str, float] | None = None,
        foreign: float = 1.0,
    ) -> Text:
        """Return one line. `kinds` are weights of the kinds of text, by default an office's;
        `foreign` multiplies how often languages without a vocabulary come. A text with a character
        outside the charset is drawn again.
        """
        kinds = KIND_WEIGHTS if kinds is None else kinds
        for _ in range(_TRIED_TEXTS):
            kind = rng.choices(list(kinds), list(kinds.values()))[0]
            language = self._draw_language(rng, foreign if kind in _FOREIGN_KINDS else 0.0)
            vocabulary = VOCABULARIES.get(
                {"nn": "no"}.get(language, language), VOCABULARIES["sv"]
            )
            cells = self._generators[kind](rng, language, vocabulary)
            cells = self._fit(cells if kind == "receipt" else vary_case(rng, cells))
            label = " ".join(cells)
            if len(label.strip()) >= self.min_characters and not self._foreign.search(
                label
            ):
                return Text(cells, language, kind)
        reason = f"had characters outside of charset {self.charset.name!r}"
        if self.min_characters > 1:
            reason += f" or fewer than {self.min_characters} characters"
        raise DataError(f"no line can be written: {_TRIED_TEXTS} texts in a row {reason}")

    def _draw_language(self, rng: random.Random, foreign: float) -> str:
        weights = [
            LANGUAGE_WEIGHTS.get(language, FOREIGN_WEIGHT * foreign)
            for language in self._known
        ]
        return rng.choices(self._known, weights)[0]

    def _fit(self, cells: Sequence[str]) -> tuple[str, ...]:
        """Collapse blanks and drop what is longer than `max_characters`: whole words first, then
        characters.
        """
        budget = self.max_characters
        fitted = []
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

    def _words(self, rng: random.Random, language: str, vocabulary: Vocabulary) -> str:
        """One phrase: from the corpus of the language where there is one, else made from the
        vocabulary.
        """
        phrases = self.phrases.get(language)
        if phrases and (language not in LANGUAGE_WEIGHTS or rng.random() < 0.9):
            return phrases[int(rng.random() * len(phrases))]
        return sentence(rng, vocabulary, language)

    def _running(
        self, rng: random.Random, language: str, vocabulary: Vocabulary
    ) -> tuple[str, ...]:
        # A third of the lines of running text are full lines of a page, the rest anything down to
        # one word.
        full = rng.random() < 0.36
        if full:
            length = rng.randint(60, 170)
        else:
            length = int(math.exp(rng.uniform(math.log(6), math.log(90))))
        length = min(length, self.max_characters)
        text = self._words(rng, language, vocabulary)
        while len(text) < length:
            more = self._words(rng, language, vocabulary)
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
        return (quote_or_number(rng, text, vocabulary),)

    def _phrase(
        self, rng: random.Random, language: str, vocabulary: Vocabulary
    ) -> tuple[str, ...]:
        if self.phrases.get(language) and (
            language not in LANGUAGE_WEIGHTS or rng.random() < 0.5
        ):
            words = self._words(rng, language, vocabulary).split(" ")
            start = rng.randrange(len(words))
            return (" ".join(words[start : start + rng.randint(1, 4)]),)
        v = vocabulary
        pool = rng.choice(
            (v.headings, v.accounts, v.labels, v.items, v.companies, v.people, v.places)
        )
        return (rng.choice(pool),)

    def _row(
        self, rng: random.Random, language: str, vocabulary: Vocabulary
    ) -> tuple[str, ...]:
        draw = rng.random()
        if draw < 0.4:
            return self._account_row(rng, language, vocabulary)
        if draw < 0.7:
            return self._invoice_row(rng, language, vocabulary)
        if draw < 0.85:
            return self._bank_row(rng, vocabulary)
        if draw < 0.93:  # header row
            return tuple(rng.sample(vocabulary.labels, rng.randint(2, 6)))
        return tuple(number(rng, vocabulary) for _ in range(rng.randint(2, 6)))

    def _account_row(
        self, rng: random.Random, language: str, vocabulary: Vocabulary
    ) -> tuple[str, ...]:
        """An account, perhaps its number and a note, and amounts of some years."""
        if rng.random() < 0.7:
            name = rng.choice(vocabulary.accounts)
        else:
            words = self._words(rng, language, vocabulary)[: rng.randint(12, 50)]
            name = words.rpartition(" ")[0]
        cells = [name or rng.choice(vocabulary.accounts)]
        if rng.random() < 0.25:
            cells.insert(0, str(rng.randint(1000, 8999)))
        if rng.random() < 0.3:
            cells.append(str(rng.randint(1, 30)))
        style = AmountStyle.draw(rng, vocabulary)
        cells += [style.write(rng) for _ in range(rng.choice((1, 2, 2, 3, 4)))]
        return tuple(cells)

    def _invoice_row(
        self, rng: random.Random, language: str, vocabulary: Vocabulary
    ) -> tuple[str, ...]:
        """An article with quantity, price, perhaps a rate, and amount."""
        style = AmountStyle.draw(rng, vocabulary)
        if rng.random() < 0.8:
            item = rng.choice(vocabulary.items)
        else:
            item = self._words(rng, language, vocabulary)[:30].rpartition(" ")[0]
        cells = [item or rng.choice(vocabulary.items)]
        if rng.random() < 0.6:
            cells.insert(0, code(rng))
        if rng.random() < 0.3:
            cells.insert(rng.randrange(2), date(rng, vocabulary))

        quantity = f"{rng.randint(1, 200)}{rng.choice(('', ',5', ',25', ',00'))}"
        if rng.random() < 0.6:
            cells.append(f"{quantity} {rng.choice(vocabulary.units)}")
        else:
            cells += [quantity, rng.choice(vocabulary.units)]
        cells.append(style.write(rng))
        if rng.random() < 0.4:
            cells.append(written_percent(rng))
        cells.append(style.write(rng))
        return tuple(cells)

    def _bank_row(self, rng: random.Random, vocabulary: Vocabulary) -> tuple[str, ...]:
        """A date, a party or purpose, and one or two amounts."""
        style = AmountStyle.draw(rng, vocabulary)
        parties = (*vocabulary.companies, *vocabulary.people, *vocabulary.labels)
        cells = [
            date(rng, vocabulary),
            rng.choice(parties),
            style.write(rng),
            style.write(rng),
        ]
        return tuple(cells[: rng.randint(2, 4)])

    def _pairs(
        self, rng: random.Random, language: str, vocabulary: Vocabulary
    ) -> tuple[str, ...]:
        if language == "nn" and rng.random() < 0.5:
            words = NYNORSK_WORDS
        else:
            words = vocabulary.pairs
        return (" ".join(rng.choice(words) for _ in range(rng.randint(1, 6))),)

    def _swapped(
        self, rng: random.Random, language: str, vocabulary: Vocabulary
    ) -> tuple[str, ...]:
        """Running text in which letters stand for others that look alike: what is printed counts,
        not what the word should be.
        """
        words = self._words(rng, language, vocabulary).split(" ")
        start = rng.randrange(len(words))
        return (
            " ".join(_swap(rng, word) for word in words[start : start + rng.randint(1, 8)]),
        )

    def _rare_characters(
        self, rng: random.Random, language: str, vocabulary: Vocabulary
    ) -> tuple[str, ...]:
        """Words that hold the characters that running text shows too seldom, each as often as any
        other.
        """
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
                words.append(
                    "".join(rng.choice(self._rare) for _ in range(rng.randint(1, 8)))
                )
            else:
                words.append(rare)
        return (" ".join(words),)


def _swap(rng: random.Random, word: str) -> str:
    """Exchange one group of letters of `word` for one that looks alike, if it has any."""
    found = [(letters, group) for group in _ALIKE for letters in group if letters in word]
    if not found:
        return word
    letters, group = rng.choice(found)
    return word.replace(
        letters,
        rng.choice([other for other in group if other != letters]),
        rng.randint(1, 2),
    )
