"""Language model of the beam for the next character: n-grams of characters, and a list of words.
Both are made from plain text and stored as plain text (JSON, or one word per line). Nothing in them
is ever executed.
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.atomic import write_text
from nordocr_cli.charset import Charset, to_nfc
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import parse_json, read_text

SCHEMA = "nordocr.char-lm/1"
ORDER = 5
# weight of the language model relative to the network; the best value depends on the lines, see
# --lm-weight
WEIGHT = 0.3
_BEGIN = "\n"  # precedes the first character of a line
_WORD = re.compile(r"[^\W\d_]+$")


class Language(Protocol):
    """The interface of the beam: natural logarithms that are added to the score of a prefix."""

    def scores(self, prefix: str) -> NDArray[np.float64]:
        """Return the bonus of each class (C,) after `prefix`; that of the blank is 0."""

    def end(self, prefix: str) -> float:
        """Return the bonus of `prefix` as a complete line."""


@dataclass(frozen=True)
class CharLm:
    """Character n-grams: `counts` holds how often each character followed each context of up to
    `order` - 1 characters.
    """

    order: int
    counts: Mapping[str, Mapping[str, int]]

    def probability(self, context: str, character: str, alphabet: int) -> float:
        """P(character | context) by Witten and Bell's interpolation, down to 1 / `alphabet` for
        what was never seen.

        What follows a context n times in t different ways keeps a share of t / (n + t) for the
        shorter context (Witten and Bell 1991, method C).
        """
        context = context[-(self.order - 1) :] if self.order > 1 else ""
        chain = [context[i:] for i in range(len(context), -1, -1)]  # the shortest first
        share = 1 / alphabet
        for history in chain:
            if followers := self.counts.get(history):
                total, kinds = sum(followers.values()), len(followers)
                share = (followers.get(character, 0) + kinds * share) / (total + kinds)
        return share

    def save(self, path: Path) -> None:
        """Write it as JSON. Raises DataError when the disk is full."""
        write_text(
            path,
            json.dumps(
                {"schema": SCHEMA, "order": self.order, "counts": self.counts},
                ensure_ascii=False,
            ),
        )


def count_characters(lines: Iterable[str], order: int = ORDER) -> CharLm:
    """Count the n-grams of lines of text. Raises UsageError for an order below 1, DataError when
    there is no text.
    """
    if order < 1:
        raise UsageError(f"an order of {order} is too small; the usual one is {ORDER}")
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        text = _BEGIN + to_nfc(line.strip())
        for at in range(1, len(text)):
            for length in range(min(order, at + 1)):
                counts[text[at - length : at]][text[at]] += 1
    if not counts:
        raise DataError("no text to count characters in")
    return CharLm(
        order, {context: dict(followers) for context, followers in counts.items()}
    )


def read_char_lm(path: Path) -> CharLm:
    """Read what `CharLm.save` wrote, or count the lines of a text file.

    Raises UsageError when there is no such file, DataError when it is damaged, empty or no text.
    """
    text = _read(path, "--char-lm")
    if path.suffix != ".json":
        if not text.strip():
            raise DataError(
                f"--char-lm: {path} is empty; give a text such as the lines that are read"
            )
        return count_characters(text.splitlines())
    try:
        value = parse_json(text)
        if value["schema"] != SCHEMA or not value["counts"]:
            raise ValueError(f"schema {value['schema']!r}, {len(value['counts'])} contexts")
        counts = {
            str(h): {str(c): int(n) for c, n in followers.items()}
            for h, followers in value["counts"].items()
        }
        return CharLm(int(value["order"]), counts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} holds no character n-grams ({type(error).__name__}: {error}); make it from a"
            f" text again"
        ) from error


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


class Beside:
    """A Language of n-grams, words, or both, for one charset. Scores are cached by the part of the
    prefix that they depend on.
    """

    def __init__(
        self,
        charset: Charset,
        ngrams: CharLm | None = None,
        words: frozenset[str] = frozenset(),
        weight: float = WEIGHT,
    ) -> None:
        self._charset, self._ngrams, self._words, self._weight = (
            charset,
            ngrams,
            words,
            weight,
        )
        self._by_context: dict[str, NDArray[np.float64]] = {}
        # (C,)
        self._ends_word = np.array(
            [False, *(not character.isalpha() for character in charset.characters)]
        )

    def scores(self, prefix: str) -> NDArray[np.float64]:
        """The bonus of each class; see Language."""
        found = np.zeros(self._charset.num_classes)
        if self._ngrams:
            found = found + self._ngram_scores(
                (_BEGIN + prefix)[-max(1, self._ngrams.order - 1) :]
            )
        if bonus := self._word(prefix):
            found = found + bonus * self._ends_word
        return found

    def end(self, prefix: str) -> float:
        """Return the bonus of a complete line; see Language."""
        return self._word(prefix)

    def _ngram_scores(self, context: str) -> NDArray[np.float64]:
        assert self._ngrams is not None
        if context not in self._by_context:
            size = len(self._charset.characters)
            shares = [
                self._ngrams.probability(context, character, size)
                for character in self._charset.characters
            ]
            # Relative to a uniform language model, so that long texts are not penalized for their
            # length.
            self._by_context[context] = self._weight * np.array(
                [0.0, *(math.log(share * size) for share in shares)]
            )
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

    def open(self, charset: Charset) -> Beside | None:
        """Read the files, if there are any. Raises UsageError and DataError."""
        if not self:
            return None
        ngrams = read_char_lm(self.char_lm) if self.char_lm else None
        return Beside(
            charset,
            ngrams,
            read_words(self.lexicon) if self.lexicon else frozenset(),
            self.weight,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the files and the weight as plain JSON values; nothing without files."""
        files = {"char_lm": self.char_lm, "lexicon": self.lexicon}
        named: dict[str, Any] = {name: str(path) for name, path in files.items() if path}
        if named:
            return named | {"lm_weight": self.weight}
        return {}
