"""Line widths of the documents that a model will read, and lines drawn from them for bench: the
speed to expect of documents that are not at hand.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.core.bench.lines import Lines
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.limits import MAX_PAGE_SIDE, read_json, read_text
from nordocr_cli.runtime.specs import parse_spec

DEFAULT_LINES = 448  # drawn from a histogram: a few pages
_STATISTICS_KEY = "natural_widths"  # of `nordocr data stats --json`
_ROW = re.compile(r"\s*(\d+)[\s,;]+(\d+)\s*")


def require_ctc_networks(models: Sequence[str]) -> Contract:
    """Return the contract of the first model. Raises UsageError when a model is no CTC network: the
    time of the others depends on what is written in a line.
    """
    contracts = []
    for model in models:
        path = parse_spec(model).path
        contract = read_contract(path) if path else None
        if contract is None or contract.decoding != "ctc":
            raise UsageError(
                f"--widths times CTC networks; the time of {model} depends on the text of a line:"
                " give --lines or a document"
            )
        contracts.append(contract)
    return contracts[0]


def read_widths(path: Path) -> dict[int, int]:
    """Return the number of lines of each width in pixels, at the network's height. `path` is a line
    store, the output of `nordocr data stats --json`, a JSON object `{"320": 12, …}`, or a text file
    with rows `width count`.

    Raises UsageError when it does not exist, DataError when it is none of these or has no lines.
    """
    if not path.exists():
        raise UsageError(f"no line store and no table of widths {path}")
    if path.is_dir():
        counts = _widths_of_store(path)
    elif path.suffix == ".json":
        counts = _widths_of_json(read_json(path, "table of widths"), path)
    else:
        counts = _widths_of_text(read_text(path, "table of widths"), path)
    if not sum(counts.values()):
        raise DataError(f"{path} holds no lines")
    return counts


def _widths_of_store(path: Path) -> dict[int, int]:
    from nordocr_cli.data.store import LineStore

    with LineStore(path) as store:
        widths, counts = np.unique(np.asarray(store.widths), return_counts=True)
    return {int(width): int(count) for width, count in zip(widths, counts, strict=True)}


def _widths_of_json(content: Any, path: Path) -> dict[int, int]:
    if isinstance(content, Mapping) and _STATISTICS_KEY in content:
        content = content[_STATISTICS_KEY]
    if not isinstance(content, Mapping):
        raise DataError(f'{path}: expected {{"width in px": lines, …}}')
    counts: dict[int, int] = {}
    for width, count in content.items():
        is_count = isinstance(count, int) and not isinstance(count, bool) and count >= 0
        if not (str(width).isdecimal() and is_count):
            raise DataError(
                f"{path}: {width!r}: {count!r} is not a width in px and a number of lines"
            )
        _count(counts, int(width), count, f"{path}: {width!r}")
    return counts


def _widths_of_text(text: str, path: Path) -> dict[int, int]:
    counts: dict[int, int] = {}
    for number, row in enumerate(text.splitlines(), start=1):
        if not row.strip() or row.lstrip().startswith("#"):
            continue
        found = _ROW.fullmatch(row)
        if found is None:
            raise DataError(
                f"{path}:{number}: {row[:40]!r} is not a width in px and a number of lines"
            )
        _count(counts, int(found[1]), int(found[2]), f"{path}:{number}")
    return counts


def _count(counts: dict[int, int], width: int, count: int, where: str) -> None:
    if not 1 <= width <= MAX_PAGE_SIDE:
        raise DataError(f"{where}: a line of {width} px; 1 to {MAX_PAGE_SIDE} are possible")
    counts[width] = counts.get(width, 0) + count


def spread_widths(counts: Mapping[int, int], number: int) -> list[int]:
    """Return `number` widths that are distributed as `counts`: the quantiles at the middle of
    `number` equal parts.
    """
    widths = sorted(counts)
    reached = list(accumulate(counts[width] for width in widths))
    total = reached[-1]
    places = (np.arange(number) + 0.5) * total / number
    indices = np.searchsorted(reached, places, side="right")
    return [widths[int(index)] for index in indices]


def draw_lines(
    counts: Mapping[int, int], geometry: Geometry, source: str, limit: int | None
) -> Lines:
    """Return lines of random pixels in the height of `geometry`. Their widths are distributed as in
    `counts`, which come from `source`; their number is `limit`, or DEFAULT_LINES.
    """
    height = geometry.height
    widths = spread_widths(counts, limit or DEFAULT_LINES)
    rng = np.random.default_rng(0)
    crops = [
        rng.integers(0, 256, (height, geometry.line_width(height, width), 3), np.uint8)
        for width in widths
    ]
    nothing = ("",) * len(crops)
    return Lines(
        source,
        crops,
        languages=nothing,
        texts=nothing,
        documents=nothing,
        readable=False,
    )
