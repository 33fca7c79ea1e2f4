"""Readings that are wrong for a known cause: what the error classes are tested with, and what the metrics are timed on."""

import json
import random
from pathlib import Path

MANIFEST = Path(__file__).parents[1] / "samples" / "lines" / "manifest.jsonl"
CAUSES = ("space_only", "right_truncation", "leading_garbage", "trailing_garbage", "minor", "major")

_ALIKE = {
    "å": "a",
    "ä": "a",
    "ö": "o",
    "ø": "o",
    "é": "e",
    "l": "1",
    "O": "0",
    "0": "O",
    "1": "l",
    "5": "S",
    "e": "c",
    "n": "m",
    ",": ".",
}
_LETTERS = "abcdefghiklmnoprstuvyåäöæø0123456789"
_GARBAGE = "|Il1.:;-_—'[](){}/\\ "


def sample_texts(language: str = "", shortest: int = 1) -> list[str]:
    """Texts of the sample lines, of all languages or of one."""
    rows = map(json.loads, MANIFEST.read_text(encoding="utf-8").splitlines())
    return [row["text"] for row in rows if row["language"] == (language or row["language"]) and len(row["text"]) >= shortest]


def corrupt(text: str, cause: str, rng: random.Random) -> str:
    """Return `text` as a recognizer would read it that goes wrong for `cause`; like real readings, those that lost or won an end
    carry ordinary mistakes too (two in five), up to one in 10 characters. A cause that would change nothing is tried again."""
    while True:
        wrong = _once(text, cause, rng)
        if wrong != text:
            return wrong


def _once(text: str, cause: str, rng: random.Random) -> str:
    length = len(text)
    match cause:
        case "space_only":
            return _spaces(text, rng)
        case "right_truncation":
            return _ordinary(text[: rng.randint(max(1, round(0.3 * length)), max(1, length - 2))].rstrip(), rng)
        case "leading_garbage":
            return _ends(rng) + _ordinary(text, rng)
        case "trailing_garbage":
            return _ordinary(text, rng) + _ends(rng)[::-1]
        case "minor":
            return mistakes(text, rng.randint(1, max(1, min(2, length // 5))), rng)
        case _:
            return mistakes(text, max(3, round(rng.uniform(0.15, 0.7) * length)), rng) if rng.random() < 0.9 else ""


def mistakes(text: str, count: int, rng: random.Random) -> str:
    """Read `count` characters that are no spaces wrongly: most as one that looks like it, some left out, some twice."""
    letters = list(text)
    for place in rng.sample([i for i, c in enumerate(letters) if c != " "], min(count, len(text.replace(" ", "")))):
        kind, was = rng.random(), letters[place]
        if kind < 0.7:
            letters[place] = _ALIKE.get(was) or rng.choice([c for c in _LETTERS if c != was])
        else:
            letters[place] = "" if kind < 0.85 else was + rng.choice(_LETTERS)
    return "".join(letters)


def _ordinary(text: str, rng: random.Random) -> str:
    return mistakes(text, rng.randint(1, len(text) // 10), rng) if rng.random() < 0.4 and len(text) >= 10 else text


def _ends(rng: random.Random) -> str:
    """What the edge of a neighbour or of the paper is read as: some characters, or one that stands alone."""
    found = "".join(rng.choice(_GARBAGE) for _ in range(rng.randint(1, 6))).strip()
    return found if len(found) >= 2 else (found or "|") + " "


def _spaces(text: str, rng: random.Random) -> str:
    gaps = [i for i, c in enumerate(text) if c == " "]
    if gaps and rng.random() < 0.8:
        left_out = set(rng.sample(gaps, rng.randint(1, min(3, len(gaps)))))
        return "".join(c for i, c in enumerate(text) if i not in left_out)
    at = rng.randrange(1, max(2, len(text)))
    return f"{text[:at].rstrip()} {text[at:].lstrip()}"
