"""The lines that a person should read: written as a table, and taken back."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from nordocr_cli.atomic import write_text
from nordocr_cli.charset import to_nfc
from nordocr_cli.core.adapt.agreement import LineReadings
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import read_text
from nordocr_cli.printable import printable

_ID = "id"
_IMAGE = "image"
_TEXT = "text"
# What a spreadsheet would compute gets an apostrophe in front.
_COMPUTED = ("=", "+", "-", "@", "'")


def write_questions(path: Path, lines: Sequence[LineReadings], count: int) -> int:
    """Write the `count` lines that our recognizer was least sure of, among those on which no
    engines agree, as tab-separated text with an empty column `text`; return how many.
    """
    unsure = sorted(lines, key=lambda line: line.confidence)[:count]
    engines = list(unsure[0].texts) if unsure else []
    written = io.StringIO()
    writer = csv.writer(written, "excel-tab", lineterminator="\n")
    writer.writerow([_ID, _IMAGE, *engines, _TEXT])
    for line in unsure:
        readings = [_cell(line.texts[engine]) for engine in engines]
        writer.writerow([line.id, line.image, *readings, ""])
    write_text(path, "\ufeff" + written.getvalue())
    return len(unsure)


def read_answers(path: Path) -> dict[str, str]:
    """Return the texts that a person wrote, by line id; rows without text are left open.

    Raises UsageError when there is no such file, and DataError naming the row that is wrong.
    """
    if not path.exists():
        raise UsageError(f"--answers {path}: no such file")
    rows = _rows(path, read_text(path, "file of --answers"))
    _, header = next(rows, (1, []))
    if not {_ID, _TEXT} <= set(header):
        raise DataError(
            f"{path}:1: the columns {_ID} and {_TEXT} are needed, separated by tabs"
        )
    answers: dict[str, str] = {}
    for line, cells in rows:
        row = dict(zip(header, cells, strict=False))
        written = row.get(_TEXT, "").strip()
        if not written:
            continue
        if not row[_ID]:
            raise DataError(f"{path}:{line}: a text without the id of its line")
        if written.startswith("'") and written[1:2] in _COMPUTED:
            written = written[1:]
        answers[row[_ID]] = to_nfc(written)
    return answers


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each row with the line on which it begins, from 1."""
    reader = csv.reader(io.StringIO(text, newline=""), dialect="excel-tab", strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}:{line}: not a row of a table ({error}); write a text that begins with a"
            ' quotation mark as """Hej"" sa han": in quotation marks, its own doubled'
        ) from error


def _cell(text: str) -> str:
    shown = printable(" ".join(text.split()))
    if shown.startswith(_COMPUTED):
        return f"'{shown}"
    return shown
