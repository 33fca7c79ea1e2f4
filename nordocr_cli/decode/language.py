"""Language models that help decoding: character n-grams, and a list of words for the beam.

N-grams ship with the package, or are counted in a text of one's own; words are a file with one a
line. Nothing in them is ever executed.
"""

import re
import string
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact.shipped import SHIPPED
from nordocr_cli.charset import BLANK, Charset, to_nfc
from nordocr_cli.decode.ngrams import (
    LARGEST_ORDER,
    LINE_END,
    CharacterNgrams,
    count_ngrams,
    read_ngrams,
)
from nordocr_cli.errors import ArtifactError, DataError, UsageError
from nordocr_cli.limits import read_text

# The language model that ships; the file is NAME.ngrams.npz.
SHIPPED_MODEL = "nordic"
_SUFFIX = ".ngrams.npz"
_NAME = re.compile(r"[\w-]{1,64}")

# Weight of a language model relative to the network, chosen on development lines (docs/recipe.md).
WEIGHT = 0.25

ORDER = 5  # of the n-grams that are counted in a text of one's own
_LETTERS_WITH_STROKES = {"ø": "o", "Ø": "O", "ð": "d", "Ð": "D"}  # not decomposed by NFD
_WORD = re.compile(r"[^\W\d_]+$")


class LanguageModel:
    """Character n-grams in the classes of one charset, times a weight.

    `digits` are the classes of 0-9, `zero` and `letter_o` those of 0 and O; `letter_o` is None
    where the charset lacks either.
    """

    def __init__(
        self, ngrams: CharacterNgrams, charset: Charset, weight: float = WEIGHT
    ) -> None:
        self._ngrams = ngrams
        self._weight = weight
        self._numbers = [LINE_END, *(ngrams.number_of(c) for c in charset.characters)]
        # the letter without its mark, of each class that has one: å, a
        self._unmarked = _unmarked_letters(charset)
        self.digits = _classes_of(charset, string.digits)
        self._kept = self.digits | _classes_of(charset, ".,:;")
        self.zero = charset.class_of.get("0")
        self.letter_o = charset.class_of.get("O") if self.zero else None

    @property
    def beginning(self) -> int:
        """The context at the beginning of a line."""
        return self._ngrams.beginning

    def extended(self, context: int, character: int) -> int:
        """Return the context after a class that is not the blank."""
        return self._ngrams.extended(context, self._numbers[character])

    def score(self, context: int, character: int) -> float:
        """Return the weighted bonus, in nats, of a class after a context."""
        return self._weight * self._ngrams.score(context, self._numbers[character])

    def end(self, context: int) -> float:
        """Return the weighted bonus, in nats, of the line's end after a context."""
        return self._weight * self._ngrams.score(context, LINE_END)

    def may_replace(self, character: int, other: int) -> bool:
        """Whether the language model may put a class, or the blank, in another's place. It never
        takes the mark off a letter: a ring that the network saw is ink, and a name may well be
        spelt with it. It never removes a digit or a punctuation mark either.
        """
        if other == BLANK:
            return character not in self._kept
        return self._unmarked.get(character) != other

    def may_add(self, character: int) -> bool:
        """Whether the language model may put a class where the network saw none best. It never
        adds a digit.
        """
        return character not in self.digits


def _classes_of(charset: Charset, characters: str) -> set[int]:
    return {charset.class_of[c] for c in characters if c in charset.class_of}


def _unmarked_letters(charset: Charset) -> dict[int, int]:
    found = {}
    for at, character in enumerate(charset.characters, start=1):
        letter = _LETTERS_WITH_STROKES.get(character)
        letter = letter or unicodedata.normalize("NFD", character)[0]
        if letter != character and letter in charset.class_of:
            found[at] = charset.class_of[letter]
    return found


def shipped_language_model(name: str, charset: Charset) -> LanguageModel:
    """Return a language model that ships with the package. Raises ArtifactError when there is none
    of that name.
    """
    path = SHIPPED / f"{name}{_SUFFIX}"
    # A name with slashes would lead to a file that does not ship.
    if not _NAME.fullmatch(name) or not path.is_file():
        raise ArtifactError(
            f"the contract names the language model {name!r}, which this version does not have;"
            " read without one: --decoder greedy"
        )
    return LanguageModel(_read_once(path), charset)


@lru_cache(maxsize=2)
def _read_once(path: Path) -> CharacterNgrams:
    return read_ngrams(path)


def read_character_ngrams(path: Path, charset: Charset) -> CharacterNgrams:
    """Count the characters of a text file, or read what `CharacterNgrams.save` wrote (`.npz`).

    Raises UsageError when there is no such file, ArtifactError or DataError when it is damaged,
    empty or no text.
    """
    if path.suffix == ".npz":
        return read_ngrams(path)
    lines = [to_nfc(line.strip()) for line in _read(path, "--char-lm").splitlines()]
    written = [line for line in lines if line]
    if not written:
        raise DataError(
            f"--char-lm: {path} is empty; give a text such as the lines that are read"
        )
    return count_ngrams(written, charset.characters, (1,) * ORDER)


class Language(Protocol):
    """The interface of the beam: natural logarithms that are added to the score of a prefix."""

    def scores(self, prefix: str) -> NDArray[np.float64]:
        """Return the bonus of each class (C,) after `prefix`; that of the blank is 0."""

    def end(self, prefix: str) -> float:
        """Return the bonus of `prefix` as a complete line."""


def read_words(path: Path) -> frozenset[str]:
    """Read a word list with one word per line (the part after a tab or a slash is ignored). Raises
    UsageError and DataError.
    """
    words = (
        re.split(r"[\t/]", line, maxsplit=1)[0].strip()
        for line in _read(path, "--lexicon").splitlines()
    )
    found = frozenset(to_nfc(word).casefold() for word in words if word)
    if not found:
        raise DataError(f"{path} holds no words; a lexicon has one word per line")
    return found


def _read(path: Path, flag: str) -> str:
    return read_text(path, f"file of {flag}")


class PrefixLanguage:
    """A Language of n-grams, words, or both, for one charset. Scores are cached by the part of the
    prefix that they depend on.
    """

    def __init__(
        self,
        charset: Charset,
        ngrams: CharacterNgrams | None = None,
        words: frozenset[str] = frozenset(),
        weight: float = WEIGHT,
    ) -> None:
        self._charset = charset
        self._words = words
        self._weight = weight
        self._model = LanguageModel(ngrams, charset, weight) if ngrams else None
        self._by_context: dict[int, NDArray[np.float64]] = {}
        # (C,)
        self._ends_word = np.array(
            [False, *(not character.isalpha() for character in charset.characters)]
        )

    def scores(self, prefix: str) -> NDArray[np.float64]:
        """The bonus of each class; see Language."""
        found = np.zeros(self._charset.num_classes)
        if self._model:
            found = found + self._ngram_scores(self._model, prefix)
        bonus = self._word(prefix)
        if bonus:
            found = found + bonus * self._ends_word
        return found

    def end(self, prefix: str) -> float:
        """Return the bonus of a complete line; see Language."""
        return self._word(prefix)

    def _ngram_scores(self, model: LanguageModel, prefix: str) -> NDArray[np.float64]:
        context = model.beginning
        for character in self._charset.encode(prefix[-LARGEST_ORDER:]):
            context = model.extended(context, character)
        if context not in self._by_context:
            bonuses = [model.score(context, c) for c in range(1, self._charset.num_classes)]
            self._by_context[context] = np.array([0.0, *bonuses])
        return self._by_context[context]

    def _word(self, prefix: str) -> float:
        """Return the bonus of a listed word at the end of `prefix`; longer words get more."""
        found = _WORD.search(prefix) if self._words else None
        if found and found[0].casefold() in self._words:
            return self._weight * len(found[0])
        return 0.0


@dataclass(frozen=True)
class LanguageFiles:
    """The files of a language model: a text or saved n-grams, a word list, and their weight
    relative to the network.
    """

    char_lm: Path | None = None
    lexicon: Path | None = None
    weight: float = WEIGHT

    def __bool__(self) -> bool:
        return bool(self.char_lm or self.lexicon)

    def require(self) -> None:
        """Raise UsageError when a file does not exist."""
        for flag, path in (("--char-lm", self.char_lm), ("--lexicon", self.lexicon)):
            if path and not path.is_file():
                raise UsageError(f"{flag}: no file {path}")

    def open(self, charset: Charset) -> PrefixLanguage | None:
        """Read the files for the beam, if there are any. Raises UsageError and DataError."""
        if not self:
            return None
        ngrams = read_character_ngrams(self.char_lm, charset) if self.char_lm else None
        words = read_words(self.lexicon) if self.lexicon else frozenset()
        return PrefixLanguage(charset, ngrams, words, self.weight)

    def open_model(self, charset: Charset) -> LanguageModel | None:
        """Read the n-grams for `--decoder language`, if there are any. Raises UsageError and
        DataError.
        """
        if self.char_lm is None:
            return None
        return LanguageModel(
            read_character_ngrams(self.char_lm, charset), charset, self.weight
        )

    def to_json(self) -> dict[str, Any]:
        """Return the files and the weight as plain JSON values; nothing without files."""
        files = {"char_lm": self.char_lm, "lexicon": self.lexicon}
        named: dict[str, Any] = {name: str(path) for name, path in files.items() if path}
        if named:
            return named | {"lm_weight": self.weight}
        return {}
