"""Hypotheses in what `predict` writes, in any of its formats, and in layouts of other programs.

A line of a page is named `STEM:pN:rK`, by its number on its page, as the sources of prep name it;
the image of a line by its path.
"""

import json
from collections import Counter
from pathlib import Path, PureWindowsPath

from nordocr_cli.data.entry import Entry
from nordocr_cli.data.formats import open_source
from nordocr_cli.errors import DataError
from nordocr_cli.metrics.recorded import RecordedLine
from nordocr_cli.records import LineResult

SUFFIXES = (".tsv", ".xml", ".hocr", ".html")
_SHOWN_PROBLEMS = 3


def is_output(path: Path) -> bool:
    """Whether a file holds texts of lines, and not hypotheses as an evaluation records them."""
    if path.suffix in SUFFIXES:
        return True
    if path.suffix == ".jsonl":
        return _is_jsonl_of_texts(path)
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(65536)
    return b'"nordocr.eval' not in head and b'"schema"' not in head[:512]


def read_output(path: Path) -> list[RecordedLine]:
    """Return the texts of a file as hypotheses. Raises DataError naming what is wrong."""
    source = open_source(path)
    lines: list[RecordedLine] = []
    numbers: Counter[tuple[str, int]] = Counter()
    problems: list[str] = []
    try:
        for entry in source.entries():
            if entry.row is None:
                if not entry.illegible:
                    problems.append(f"{entry.where}: {entry.problem}")
                continue
            lines.append(_line(entry, numbers))
    finally:
        source.close()
    if problems:
        raise DataError("\n".join(problems[:_SHOWN_PROBLEMS]))
    if not lines:
        raise DataError(f"{path} holds no texts of lines")
    return lines


def _line(entry: Entry, numbers: Counter[tuple[str, int]]) -> RecordedLine:
    row = entry.row
    assert row is not None
    name = row.id
    if entry.place is not None:
        page = (PureWindowsPath(entry.key).stem, entry.place.page)
        numbers[page] += 1
        name = f"{page[0]}:p{page[1] + 1}:r{numbers[page]}"
    confidence = row.extra.get("confidence")
    known = isinstance(confidence, int | float) and 0 <= confidence <= 1
    result = LineResult(
        id=name,
        reference="",
        hypothesis=row.text,
        confidence=float(confidence) if known and confidence is not None else None,
    )
    return RecordedLine(f"{entry.where}: {name}", result, row.image, has_reference=False)


def _is_jsonl_of_texts(path: Path) -> bool:
    """Whether the first row has a text and no hypothesis."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(value, dict)
        and "text" in value
        and not {"hypothesis", "hyp"} & value.keys()
    )
