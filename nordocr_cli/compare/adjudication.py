"""Lines for a person to decide, as a table out and in again.

Tab-separated, as spreadsheets read and write it: CSV quoting, a byte order mark (Excel takes the
file for something else without), tabs, line ends and backslashes inside a cell as backslash
escapes, and an apostrophe before what a spreadsheet would compute (`=1+1`, `-12 345`). The person
fills the column `text`: the printed text, or `<EMPTY>` when there is none; an empty cell leaves the
line open. The boxes identify the line of a row, so the decisions also apply to other engines'
results for the document.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.charset import to_nfc
from nordocr_cli.compare.align import align
from nordocr_cli.compare.reply import EMPTY
from nordocr_cli.data.layouts.layout import box_from_json
from nordocr_cli.errors import DataError
from nordocr_cli.limits import parse_json, read_text
from nordocr_cli.records import Box, Region

TEXT = "text"
_BOX = ("left", "top", "width", "height")
_FIXED = ("page", *_BOX)
_COMPUTED = ("=", "+", "-", "@", "'")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True)
class OpenLine:
    """A line to decide: its position (page from 0), and what may help, by column."""

    page_index: int
    box: Box
    shown: Mapping[str, str]


@dataclass(frozen=True)
class Decision:
    """What a person found on a line; `text` is "" when nothing is printed."""

    page_index: int
    box: Box
    text: str


def to_tsv(lines: Sequence[OpenLine]) -> str:
    """Return the table of `lines`; all of them show the same columns. The last column, `text`, is
    empty.
    """
    written = io.StringIO()
    writer = csv.writer(written, "excel-tab", lineterminator="\n")
    shown = list(lines[0].shown) if lines else []
    writer.writerow([*_FIXED, *map(_cell, shown), TEXT])
    for line in lines:
        box = (line.box.x, line.box.y, line.box.width, line.box.height)
        writer.writerow(
            [
                line.page_index + 1,
                *(f"{edge:.12g}" for edge in box),
                *(_cell(line.shown[name]) for name in shown),
                "",
            ]
        )
    return "\ufeff" + written.getvalue()


def read_decisions(path: Path) -> tuple[list[Decision], int]:
    """Read the decisions of a table, or of the corrected.jsonl that the report saves; and how many
    lines were left open.

    Raises UsageError when there is no such file, DataError naming the row that is wrong.
    """
    text = read_text(path, "decisions")
    if text.lstrip().startswith("{"):
        return _from_jsonl(text, path), 0
    rows = csv.reader(io.StringIO(text, newline=""), "excel-tab", strict=True)
    decisions = []
    left_open = 0
    try:
        header = next(rows, [])
        missing = [name for name in (*_FIXED, TEXT) if name not in header]
        if missing:
            raise DataError(
                f"{path}: no column {', '.join(missing)}; the table of --adjudicate has tabs"
                " between its columns"
            )
        for cells in rows:
            where = f"{path}:{rows.line_num}"
            if not any(cells):
                continue
            if len(cells) != len(header):
                raise DataError(f"{where}: {len(cells)} cells under {len(header)} columns")
            row = dict(zip(header, cells, strict=True))
            if row[TEXT].strip():
                decisions.append(_decision(row, where))
            else:
                left_open += 1
    except csv.Error as error:
        raise DataError(
            f"{path}:{rows.line_num}: {error}; a cell that begins with a quote needs one at its end"
        ) from None
    return decisions, left_open


def _from_jsonl(text: str, path: Path) -> list[Decision]:
    decisions = []
    # a text may hold what splitlines() takes for a line's end
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = parse_json(line)
            page = row["page"]
            found = row[TEXT]
            if not isinstance(page, int) or page < 1 or not isinstance(found, str):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(
                f'{where}: expected {{"page": 1, "bbox": …, "text": "…"}} as the report of'
                " compare3way saves it"
            ) from None
        decisions.append(
            Decision(page - 1, box_from_json(row.get("bbox"), where), to_nfc(found))
        )
    return decisions


def _decision(row: Mapping[str, str], where: str) -> Decision:
    try:
        page = int(row["page"])
        # a Nordic spreadsheet's decimal comma
        left, top, width, height = (float(row[name].replace(",", ".")) for name in _BOX)
    except ValueError:
        raise DataError(
            f"{where}: page, {', '.join(_BOX)} must stay as they were written"
        ) from None
    if page < 1:
        raise DataError(f"{where}: pages count from 1")
    text = _text(row[TEXT])
    return Decision(
        page - 1,
        box_from_json([left, top, left + width, top + height], where),
        "" if text == EMPTY else to_nfc(text),
    )


def _cell(text: str) -> str:
    escaped = "".join(_ESCAPES.get(character, character) for character in text)
    if escaped.startswith(_COMPUTED):
        return f"'{escaped}"
    return escaped


def _text(cell: str) -> str:
    """What `_cell` made the cell of; a cell typed without its apostrophe is fine too."""
    plain = cell.strip()
    if plain.startswith("'") and plain[1:].startswith(_COMPUTED):
        plain = plain[1:]
    known: dict[str, Any] = {escape[1]: character for character, escape in _ESCAPES.items()}
    return _ESCAPED.sub(lambda found: known.get(found[1], found[0]), plain)


def match(
    decisions: Sequence[Decision], lines: Sequence[tuple[int, Box]]
) -> tuple[dict[int, str], list[Decision]]:
    """Return the decided texts by the number of the line in `lines` (page, box), and the decisions
    that mean no single line.
    """
    texts: dict[int, str] = {}
    stray = []
    for page in sorted({decision.page_index for decision in decisions}):
        # The text carries the number through the alignment.
        ours = [
            Region(box, str(number))
            for number, (index, box) in enumerate(lines)
            if index == page
        ]
        theirs = [
            Region(decision.box, str(n))
            for n, decision in enumerate(decisions)
            if decision.page_index == page
        ]
        for group in align(ours, theirs):
            line, decided = group.members
            if len(line) == 1 and len(decided) == 1:
                texts[int(line[0].text)] = decisions[int(decided[0].text)].text
            else:
                stray += [decisions[int(region.text)] for region in decided]
    return texts, stray
