#!/usr/bin/env python3
"""From texts to the language model that ships: character n-grams of a corpus, and of the business
lines and receipts that `nordocr synth` writes.

python scripts/language_model.py --texts corpus -o nordocr_cli/weights/nordic.ngrams.npz
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

from nordocr_cli.charset import Charset, load_charset
from nordocr_cli.data.synth.texts import KIND_WEIGHTS, TextSource, read_corpus
from nordocr_cli.decode.ngrams import count_ngrams

CHARSET = "nordic-ext"
OFFICE_LINES = 300_000
RECEIPT_LINES = 300_000
# Texts with letters exchanged on purpose would teach the model that wrong words are right.
WRONG_ON_PURPOSE = ("swapped", "pairs")
LONGEST_PHRASE = 400  # characters of one line of the corpus that are counted
CAPITALS_SHARE = 0.1  # of the corpus, counted once more in capitals, as headings are set

# How often an n-gram of each order must occur to be kept: 1.6 million of them, 2.9 MB.
MINIMUM_COUNTS = (1, 2, 3, 6, 8, 10)


def lines(phrases: dict[str, list[str]], charset: Charset, seed: int) -> Iterator[str]:
    """Yield the lines to count: the corpus, a tenth of it in capitals, Danish also in the spelling
    before 1948, and lines as `synth` writes them.
    """
    rng = random.Random(seed)
    for language, of_language in phrases.items():
        for phrase in of_language:
            shown = phrase[:LONGEST_PHRASE]
            yield shown
            if rng.random() < CAPITALS_SHARE:
                yield shown.upper()
            if language == "da" and "å" in shown.lower():
                yield shown.replace("å", "aa").replace("Å", "Aa")

    source = TextSource(charset, phrases)
    office = {
        kind: weight
        for kind, weight in KIND_WEIGHTS.items()
        if kind not in WRONG_ON_PURPOSE
    }
    for kinds, count in ((office, OFFICE_LINES), ({"receipt": 1.0}, RECEIPT_LINES)):
        for _ in range(count):
            yield source.draw(rng, kinds).label


def main() -> None:
    """Count the n-grams and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--texts", type=Path, required=True, help="folder of LANGUAGE.NAME.txt"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="FILE.ngrams.npz")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()

    charset = load_charset(CHARSET)
    corpus = read_corpus(given.texts, charset)
    ngrams = count_ngrams(
        lines(corpus.phrases, charset, given.seed), charset.characters, MINIMUM_COUNTS
    )
    ngrams.save(given.output)
    kept = ", ".join(f"{len(level.keys):,}" for level in ngrams.levels)
    size = given.output.stat().st_size / 1e6
    print(f"{given.output}: n-grams of order 1 to {ngrams.order}: {kept}; {size:.1f} MB")


if __name__ == "__main__":
    main()
