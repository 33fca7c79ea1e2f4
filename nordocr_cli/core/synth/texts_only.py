"""`nordocr synth --texts-only`: the texts alone, for authors who draw their own lines."""

import json
import random
from collections.abc import Mapping
from pathlib import Path

from nordocr_cli import atomic
from nordocr_cli.charset import Charset
from nordocr_cli.data.synth.looks import LOOKS
from nordocr_cli.data.synth.texts import Corpus, Text, TextSource, read_corpus
from nordocr_cli.errors import DataError, UsageError

# A line of a table or of running text is seldom longer.
DEFAULT_MAX_CHARACTERS = 150


def write_texts(
    output: Path,
    charset: Charset,
    count: int,
    *,
    seed: int,
    texts: Path | None = None,
    max_characters: int | None = None,
    min_characters: int = 1,
    looks: Mapping[str, float] | None = None,
) -> int:
    """Write `count` texts to `output`, a JSON object a line: `id`, `language`, `kind` (of text),
    `look` and `text` of `min_characters` to `max_characters`. `looks` are weights of the sorts of
    paper whose texts are written, by default those of rendered lines. Returns the number of texts.

    Text `index` of `seed` is the same whatever `count` is. Raises UsageError unless `output` is a
    .jsonl file and the maximum is not below the minimum.
    """
    if output.suffix != ".jsonl":
        raise UsageError(f"{output}: --texts-only writes JSON Lines; give -o FILE.jsonl")
    corpus = read_corpus(texts, charset) if texts else Corpus()
    longest = max_characters or max(DEFAULT_MAX_CHARACTERS, 2 * min_characters)
    if longest < min_characters:
        raise UsageError(
            f"--min-characters {min_characters} is above --max-characters {longest}"
        )
    source = TextSource(charset, corpus.phrases, longest, min_characters)
    weights = looks or {name: look.weight for name, look in LOOKS.items()}
    with (
        atomic.replacing(output) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        for index in range(count):
            rng = random.Random(f"{seed}:{index}")
            name, text = _draw(rng, source, weights)
            row = {
                "id": f"text-{seed}-{index:07d}",
                "language": text.language,
                "kind": text.kind,
                "look": name,
            }
            file.write(json.dumps(row | {"text": text.label}, ensure_ascii=False) + "\n")
    return count


def _draw(
    rng: random.Random, source: TextSource, weights: Mapping[str, float]
) -> tuple[str, Text]:
    """Return a look and a text of it. A look whose texts are all too short or too foreign, as those
    of single figures are for 40 characters, is drawn again among the others.

    Raises DataError when no look has such a text.
    """
    left = {name: weight for name, weight in weights.items() if weight > 0}
    while True:
        name = rng.choices(list(left), list(left.values()))[0]
        try:
            return name, source.draw(rng, LOOKS[name].kinds, LOOKS[name].foreign)
        except DataError:
            del left[name]
            if not left:
                raise
