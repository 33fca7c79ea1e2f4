"""Character n-grams of a large text, packed: how likely a character is after those before it.

Probabilities are those of Witten and Bell (1991, method C), interpolated: what follows a context n
times in t different ways keeps a share of t / (n + t) for the shorter context. They are stored as
in the ARPA format of language models: the logarithm of the probability of each n-gram that was
counted, and of each context the logarithm of the share that it keeps ("backoff").

All digits count as one, which then stands for each of the ten with the same probability. So the
model knows where a figure is likely, but never prefers one figure to another: the amounts of a
document are not guessed from other documents. Dashes count as one too, and so do quotation marks:
which of them a document has is a matter of its typesetting.
"""

import math
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.atomic import write_bytes
from nordocr_cli.errors import ArtifactError, DataError, UsageError
from nordocr_cli.limits import open_regular

NGRAMS_SCHEMA = "nordocr.ngrams/1"
LINE_END = 0  # the class that ends a line
_UNKNOWN = 254  # a character that is not in the alphabet
_BEGIN = 255  # precedes the first character of a line
_LARGEST_ALPHABET = 250
LARGEST_ORDER = 7  # 7 characters of 8 bits fit a key of 64 bits

# Steps of the stored logarithms in nats: 8 bits reach 21 nats, and 16 for the backoffs.
_STEPS_PER_NAT = 12
_BACKOFF_STEPS_PER_NAT = 16
_LARGEST_STEP = 255

_LARGEST_FILE = 64 << 20
# What NumPy and zipfile raise on damaged and hostile files.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
_CACHED = 200_000  # scores kept; the cache starts again when it holds more
_COUNTED_AS_ONE = str.maketrans("123456789–—’‘”“„", "0" * 9 + '--\'\'"""')


@dataclass(frozen=True)
class Level:
    """The n-grams of one order, sorted by their characters.

    - `keys` uint64 (K,): the characters' numbers, 8 bits each, the last one lowest
    - `log_probability` uint8 (K,): -ln P(last character | those before), in steps
    - `backoff` uint8 (K,): -ln of the share that the n-gram keeps as a context, in steps
    """

    keys: NDArray[np.uint64]
    log_probability: NDArray[np.uint8]
    backoff: NDArray[np.uint8]

    def find(self, key: int) -> int:
        """Return the index of a key, -1 where it was not counted."""
        at = int(self.keys.searchsorted(np.uint64(key)))
        if at < len(self.keys) and int(self.keys[at]) == key:
            return at
        return -1


class CharacterNgrams:
    """P(character | context) relative to a uniform choice, as natural logarithms.

    A context is a number: the characters before, 8 bits each, at most `order` - 1 of them, led by
    that of the line's beginning where the line is shorter.
    """

    beginning = _BEGIN

    def __init__(self, alphabet: str, levels: Sequence[Level]) -> None:
        self.alphabet = alphabet
        self.levels = tuple(levels)
        self.order = len(self.levels)
        self._context_mask = (1 << 8 * (self.order - 1)) - 1
        self._scores: dict[int, float] = {}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {character: at for at, character in enumerate(self.alphabet, start=1)}

    def number_of(self, character: str) -> int:
        """Return the number of a character. Digits have the same one, dashes, and quotes."""
        return self._numbers.get(character.translate(_COUNTED_AS_ONE), _UNKNOWN)

    def extended(self, context: int, number: int) -> int:
        """Return the context after one more character."""
        return (context << 8 | number) & self._context_mask

    def score(self, context: int, number: int) -> float:
        """Return ln P(character | context) minus that of a uniform choice of the alphabet."""
        question = context << 8 | number
        known = self._scores.get(question)
        if known is not None:
            return known

        score = self._log_probability(context, number) + math.log(len(self.alphabet))
        if number == self._digit:
            score -= math.log(10)
        if len(self._scores) >= _CACHED:
            self._scores.clear()
        self._scores[question] = score
        return score

    @cached_property
    def _digit(self) -> int:
        return self._numbers.get("0", -1)

    def _log_probability(self, context: int, number: int) -> float:
        """Return ln P by the longest context that was counted with this character."""
        backoff = 0.0
        for length in range(_length_of(context), -1, -1):
            history = context & ((1 << 8 * length) - 1)
            level = self.levels[length]
            at = level.find(history << 8 | number)
            if at >= 0:
                return backoff - int(level.log_probability[at]) / _STEPS_PER_NAT
            if length:
                shorter = self.levels[length - 1]
                seen = shorter.find(history)
                if seen >= 0:
                    backoff -= int(shorter.backoff[seen]) / _BACKOFF_STEPS_PER_NAT
        return backoff - _LARGEST_STEP / _STEPS_PER_NAT

    def save(self, path: Path) -> None:
        """Write the model as `.npz`. Raises DataError when the disk is full."""
        arrays: dict[str, NDArray[np.generic]] = {
            "schema": np.array(NGRAMS_SCHEMA),
            "alphabet": np.array(self.alphabet),
        }
        before = np.zeros(1, dtype=np.uint64)
        for order, level in enumerate(self.levels, start=1):
            followers = np.searchsorted(before, level.keys >> np.uint64(8))
            # how many n-grams begin with each one of the order below: (K of that order,)
            arrays[f"followers_{order}"] = np.bincount(
                followers, minlength=len(before)
            ).astype(np.uint8)
            arrays[f"last_{order}"] = (level.keys & np.uint64(255)).astype(np.uint8)
            arrays[f"log_probability_{order}"] = level.log_probability
            arrays[f"backoff_{order}"] = level.backoff
            before = level.keys
        written = BytesIO()
        np.savez_compressed(written, **arrays)  # type: ignore[arg-type]
        write_bytes(path, written.getvalue())


def read_ngrams(path: Path) -> CharacterNgrams:
    """Read what `CharacterNgrams.save` wrote. Raises UsageError when there is no such file,
    ArtifactError when it is damaged or of another kind.
    """
    if not path.is_file():
        raise UsageError(f"no language model {path}")
    try:
        with open_regular(path, "language model") as file, zipfile.ZipFile(file) as members:
            _require_size(path, sum(info.file_size for info in members.infolist()))
        with np.load(path, allow_pickle=False) as arrays:
            _require_text(arrays, "schema", len(NGRAMS_SCHEMA))
            _require_text(arrays, "alphabet", _LARGEST_ALPHABET)
            if str(arrays["schema"]) != NGRAMS_SCHEMA:
                raise ValueError(
                    f"schema {arrays['schema']}, this version reads {NGRAMS_SCHEMA}"
                )
            return CharacterNgrams(str(arrays["alphabet"]), _levels(arrays))
    except _UNREADABLE as error:
        raise ArtifactError(
            f"{path} holds no character n-grams ({type(error).__name__}: {error}); copy it again,"
            " or give a text file"
        ) from error


def _require_size(path: Path, unpacked_bytes: int) -> None:
    """Raise ArtifactError for a file that unpacks to more than any of ours does."""
    if max(path.stat().st_size, unpacked_bytes) > _LARGEST_FILE:
        raise ArtifactError(
            f"{path}: a language model has at most {_LARGEST_FILE >> 20} MB, unpacked too; copy it"
            " again, or give a text file"
        )


def _array(arrays: "np.lib.npyio.NpzFile", name: str) -> NDArray[Any]:
    """Return an array of the file. NumPy gives the bytes of a member that is none."""
    found = arrays[name]
    if not isinstance(found, np.ndarray):
        raise ValueError(f"{name} is no array")
    return found


def _require_text(arrays: "np.lib.npyio.NpzFile", name: str, maximum: int) -> None:
    """Raise ValueError when an array is not one text of 1 to `maximum` characters."""
    found = _array(arrays, name)
    if found.ndim or found.dtype.kind != "U" or not 1 <= len(str(found)) <= maximum:
        raise ValueError(f"{name} is not a text of 1 to {maximum} characters")


def _levels(arrays: "np.lib.npyio.NpzFile") -> list[Level]:
    levels: list[Level] = []
    before = np.zeros(1, dtype=np.uint64)
    for order in range(1, LARGEST_ORDER + 1):
        if f"last_{order}" not in arrays:
            break
        columns = ("followers", "last", "log_probability", "backoff")
        followers, last, log_probability, backoff = (
            _column(arrays, f"{column}_{order}") for column in columns
        )
        counts = {len(last), len(log_probability), len(backoff), int(followers.sum())}
        if len(counts) > 1 or len(followers) != len(before):
            raise ValueError(
                f"the n-grams of order {order} have columns of different lengths"
            )
        keys = np.repeat(before, followers) << np.uint64(8) | last.astype(np.uint64)
        if np.any(keys[1:] <= keys[:-1]):
            raise ValueError(f"the n-grams of order {order} are not in order")
        levels.append(Level(keys, log_probability, backoff))
        before = keys
    if not levels:
        raise ValueError("no n-grams")
    return levels


def _column(arrays: "np.lib.npyio.NpzFile", name: str) -> NDArray[np.uint8]:
    column = _array(arrays, name)
    if column.ndim != 1 or column.dtype != np.uint8:
        raise ValueError(f"{name} is {column.dtype} {column.shape}, not a row of uint8")
    return column


def count_ngrams(
    lines: Iterable[str], alphabet: str, minimum_counts: Sequence[int]
) -> CharacterNgrams:
    """Count the n-grams of lines of text: of order n those that occur at least
    `minimum_counts[n - 1]` times, of order 1 all. The counts must not fall, so that each n-gram's
    context is kept.

    Raises UsageError for counts that fall or too many of them, DataError when there is no text.
    """
    if list(minimum_counts) != sorted(minimum_counts) or not minimum_counts:
        raise UsageError(
            f"minimum counts {list(minimum_counts)} must rise from order to order"
        )
    if len(minimum_counts) > LARGEST_ORDER:
        raise UsageError(
            f"an order of {len(minimum_counts)}; the largest is {LARGEST_ORDER}"
        )
    alphabet = "".join(dict.fromkeys(alphabet.translate(_COUNTED_AS_ONE)))
    if len(alphabet) > _LARGEST_ALPHABET:
        raise UsageError(f"{len(alphabet)} characters; at most {_LARGEST_ALPHABET} fit")

    text = _numbered(lines, alphabet)  # (L,)
    if not len(text):
        raise DataError("no text to count n-grams in")
    counted = [_single_characters(text, len(alphabet))]
    for order, minimum in enumerate(minimum_counts[1:], start=2):
        counted.append(_counted(text, order, minimum))
    return CharacterNgrams(alphabet, _as_levels(counted, len(alphabet)))


# Keys and counts of one order, (K,) each.
NgramCounts = tuple[NDArray[np.uint64], NDArray[np.int64]]


def _numbered(lines: Iterable[str], alphabet: str) -> NDArray[np.uint64]:
    """The lines as numbers, each between its beginning and its end."""
    numbers = {character: at for at, character in enumerate(alphabet, start=1)}
    found = bytearray()
    for line in lines:
        found.append(_BEGIN)
        found.extend(numbers.get(c, _UNKNOWN) for c in line.translate(_COUNTED_AS_ONE))
        found.append(LINE_END)
    return np.frombuffer(bytes(found), dtype=np.uint8).astype(np.uint64)


def _single_characters(text: NDArray[np.uint64], alphabet: int) -> NgramCounts:
    """Count every character of the alphabet, those that never occur too: each has a probability."""
    counts = np.bincount(text.astype(np.int64), minlength=_BEGIN + 1)
    numbers = np.array([*range(alphabet + 1), _UNKNOWN, _BEGIN])
    return numbers.astype(np.uint64), counts[numbers]


def _counted(text: NDArray[np.uint64], order: int, minimum: int) -> NgramCounts:
    """Count the n-grams of one order that lie within a line."""
    count = len(text) - order + 1
    keys = np.zeros(count, dtype=np.uint64)
    inside = np.ones(count, dtype=bool)
    for place in range(order):
        character = text[place : place + count]
        keys = keys << np.uint64(8) | character
        if place > 0:
            inside &= character != _BEGIN
        if place < order - 1:
            inside &= character != LINE_END
    found, counts = np.unique(keys[inside], return_counts=True)
    kept = counts >= minimum
    return found[kept], counts[kept].astype(np.int64)


def _as_levels(counted: Sequence[NgramCounts], alphabet: int) -> list[Level]:
    """From counts to probabilities and backoffs, the shortest n-grams first."""
    levels: list[Level] = []
    shorter_keys = np.zeros(1, dtype=np.uint64)
    shorter = np.full(1, 1 / alphabet)  # P of the order below; a uniform choice below all
    kept = np.ones(1)
    for order, (keys, counts) in enumerate(counted, start=1):
        predicted = counts.astype(np.float64)
        if order == 1:
            predicted[keys == _BEGIN] = 0  # a line's beginning is context only
        context = np.searchsorted(shorter_keys, keys >> np.uint64(8))  # (K,)
        total = np.bincount(context, weights=predicted, minlength=len(shorter_keys))
        kinds = np.bincount(context, weights=predicted > 0, minlength=len(shorter_keys))
        if order == 1:
            below = np.full(len(keys), shorter[0])
        else:
            suffix = keys & np.uint64((1 << 8 * (order - 1)) - 1)
            below = shorter[np.searchsorted(shorter_keys, suffix)]
        probability = (predicted + kinds[context] * below) / (total + kinds)[context]
        with np.errstate(invalid="ignore"):
            kept = np.where(kinds > 0, kinds / (total + kinds), 1.0)
        if levels:
            levels[-1] = Level(
                levels[-1].keys,
                levels[-1].log_probability,
                _steps(kept, _BACKOFF_STEPS_PER_NAT),
            )
        unused = np.zeros(len(keys), dtype=np.uint8)
        levels.append(Level(keys, _steps(probability, _STEPS_PER_NAT), unused))
        shorter_keys = keys
        shorter = probability
    return levels


def _steps(probability: NDArray[np.float64], per_nat: int) -> NDArray[np.uint8]:
    """-ln of probabilities in whole steps, at most 255."""
    nats = -np.log(np.maximum(probability, 1e-300))
    return np.minimum(np.rint(nats * per_nat), _LARGEST_STEP).astype(np.uint8)


def _length_of(context: int) -> int:
    return (context.bit_length() + 7) // 8
