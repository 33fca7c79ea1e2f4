#!/usr/bin/env python3
"""Readings that are wrong for a known cause: what the error classes are tested with, and what the
metrics are timed on.

    python benchmarks/corrupted.py                  18,000 readings, the saved result
    python benchmarks/corrupted.py --each 100       a first look, nothing saved

Saved is how often the class of a reading is the cause that it was made by, next to what a plain
comparison of beginnings and ends makes of the same readings.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from saving import save

from nordocr_cli.metrics.taxonomy import TAXONOMY_VERSION, classify
from nordocr_cli.metrics.text import count_edits, squeezed

MANIFEST = Path(__file__).parents[1] / "samples" / "lines" / "manifest.jsonl"
CAUSES = (
    "space_only",
    "right_truncation",
    "leading_garbage",
    "trailing_garbage",
    "minor",
    "major",
)

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
    return [
        row["text"]
        for row in rows
        if row["language"] == (language or row["language"]) and len(row["text"]) >= shortest
    ]


def corrupt(text: str, cause: str, rng: random.Random) -> str:
    """Return `text` as a recognizer would read it that goes wrong for `cause`; like real readings,
    those that lost or won an end carry ordinary mistakes too (two in five), up to one in 10
    characters. A cause that would change nothing is tried again.
    """
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
            return _ordinary(
                text[
                    : rng.randint(max(1, round(0.3 * length)), max(1, length - 2))
                ].rstrip(),
                rng,
            )
        case "leading_garbage":
            return _ends(rng) + _ordinary(text, rng)
        case "trailing_garbage":
            return _ordinary(text, rng) + _ends(rng)[::-1]
        case "minor":
            return mistakes(text, rng.randint(1, max(1, min(2, length // 5))), rng)
        case _:
            return (
                mistakes(text, max(3, round(rng.uniform(0.15, 0.7) * length)), rng)
                if rng.random() < 0.9
                else ""
            )


def mistakes(text: str, count: int, rng: random.Random) -> str:
    """Read `count` characters that are no spaces wrongly: most as one that looks like it, some left
    out, some twice.
    """
    letters = list(text)
    for place in rng.sample(
        [i for i, c in enumerate(letters) if c != " "],
        min(count, len(text.replace(" ", ""))),
    ):
        kind, was = rng.random(), letters[place]
        if kind < 0.7:
            letters[place] = _ALIKE.get(was) or rng.choice(
                [c for c in _LETTERS if c != was]
            )
        else:
            letters[place] = "" if kind < 0.85 else was + rng.choice(_LETTERS)
    return "".join(letters)


def _ordinary(text: str, rng: random.Random) -> str:
    return (
        mistakes(text, rng.randint(1, len(text) // 10), rng)
        if rng.random() < 0.4 and len(text) >= 10
        else text
    )


def _ends(rng: random.Random) -> str:
    """What the edge of a neighbour or of the paper is read as: some characters, or one that stands
    alone.
    """
    found = "".join(rng.choice(_GARBAGE) for _ in range(rng.randint(1, 6))).strip()
    return found if len(found) >= 2 else (found or "|") + " "


def _spaces(text: str, rng: random.Random) -> str:
    gaps = [i for i, c in enumerate(text) if c == " "]
    if gaps and rng.random() < 0.8:
        left_out = set(rng.sample(gaps, rng.randint(1, min(3, len(gaps)))))
        return "".join(c for i, c in enumerate(text) if i not in left_out)
    at = rng.randrange(1, max(2, len(text)))
    return f"{text[:at].rstrip()} {text[at:].lstrip()}"


def readings(each: int, seed: int = 7) -> dict[str, list[tuple[str, str]]]:
    """Return `each` pairs (text, reading) of Swedish sample lines for every cause."""
    rng, texts = random.Random(seed), sample_texts("sv", shortest=6)
    found: dict[str, list[tuple[str, str]]] = {}
    for cause in CAUSES:
        originals = [rng.choice(texts) for _ in range(each)]
        found[cause] = [(text, corrupt(text, cause, rng)) for text in originals]
    return found


def plain(reference: str, hypothesis: str) -> str:
    """Return the class by beginnings and ends that are equal to the letter: the taxonomy must do
    better.
    """
    a, b = squeezed(reference), squeezed(hypothesis)
    if a == b:
        return "space_only"
    if b and a.startswith(b):
        return "right_truncation"
    if a and b.endswith(a):
        return "leading_garbage"
    if a and b.startswith(a):
        return "trailing_garbage"
    return "minor" if count_edits(a, b).distance <= max(2, len(a) // 10) else "major"


def agreement(
    pairs: dict[str, list[tuple[str, str]]], judge: Callable[[str, str], str]
) -> dict[str, Any]:
    """Return how often `judge` names the cause, of all readings and by cause, and what it takes the
    others for.
    """
    named = {
        cause: Counter(str(judge(*pair)) for pair in of_cause)
        for cause, of_cause in pairs.items()
    }
    right, count = (
        sum(named[cause][cause] for cause in named),
        sum(map(len, pairs.values())),
    )
    by_cause = {
        cause: {"right": named[cause][cause], "named": dict(named[cause].most_common())}
        for cause in named
    }
    return {
        "readings": count,
        "right": right,
        "share": round(right / count, 4),
        "by_cause": by_cause,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--each", type=int, default=3_000, help="readings of each cause")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="default: results/corrupted.json for a full run, else nothing",
    )
    args = parser.parse_args()
    pairs = readings(args.each)
    found = {
        "taxonomy": TAXONOMY_VERSION,
        "goal": 0.93,
        "classes": agreement(pairs, classify),
        "plain": agreement(pairs, plain),
    }
    print(json.dumps(found, indent=2))
    save(found, args.output, "corrupted.json", is_standard=args.each >= 3_000)


if __name__ == "__main__":
    main()
