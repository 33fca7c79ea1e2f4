"""Annotations that prep writes to a row's `extra` about what it did to the line, and their readers.

| keys | written for | values |
|---|---|---|
| `squash_ratio`, `over_width` | a crop that was too wide | how many times it was, 1 or more;
    `squash` or `center-crop` |
| `mapped`, `text_as_read` | a text with replaced characters | each character and how often it stood
    there; the text before |

They travel with the row: through another prep, a merge, an export. A manifest that has these keys
for something else is refused, instead of being read as if prep had written them.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nordocr_cli.errors import DataError
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import LineRow


def check_notes(extra: Mapping[str, Any]) -> None:
    """Raise ValueError naming the key when `extra` has one of prep's keys, but not as prep writes
    them.
    """
    for first, second in (("squash_ratio", "over_width"), ("mapped", "text_as_read")):
        for key, other in ((first, second), (second, first)):
            if key not in extra:
                continue
            if other not in extra or not _is_note(key, extra[key]):
                raise ValueError(
                    f"{key!r} is a key of prep's own, written together with {other!r}; this row has"
                    f" {extra[key]!r}: give your key another name"
                )


def _is_note(key: str, value: Any) -> bool:
    if key == "squash_ratio":
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and value >= 1
        )
    if key == "over_width":
        return value in ("squash", "center-crop")
    if key == "text_as_read":
        return isinstance(value, str)
    return isinstance(value, dict) and all(
        len(c) == 1 and type(n) is int and n > 0 for c, n in value.items()
    )


def note_over_wide(row: LineRow, ratio: float, geometry: Geometry) -> LineRow:
    """Return the row of a crop that is `ratio` times too wide for `geometry`; it may have been too
    wide for a store before.
    """
    total = round(ratio * squash_ratio(row), 4)
    return replace(
        row, extra={**row.extra, "squash_ratio": total, "over_width": geometry.over_width}
    )


def note_mapped(row: LineRow, text: str, characters: Mapping[str, int]) -> LineRow:
    """Return the row with `text`, in which `characters` have been replaced; what was read at first
    stays.
    """
    counts = dict(Counter(mapped_characters(row)) + Counter(characters))
    return replace(
        row, text=text, extra={"text_as_read": row.text, **row.extra, "mapped": counts}
    )


def squash_ratio(row: LineRow) -> float:
    """How many times the line's crop was too wide, over all stores that it went through; 1.0 where
    it fitted.

    Raises DataError when the row has something else under prep's key (a store of an earlier version
    may).
    """
    value = row.extra.get("squash_ratio", 1.0)
    if not _is_note("squash_ratio", value):
        raise DataError(
            f"row {row.id!r}: squash_ratio {value!r} is not a number from 1 on; make the store"
            " again with prep"
        )
    return float(value)


def was_cropped(row: LineRow) -> bool:
    """Whether prep cut the line to its middle, as it was too wide."""
    return row.extra.get("over_width") == "center-crop"


def mapped_characters(row: LineRow) -> Mapping[str, int]:
    """The characters that prep replaced in the row's text, and how often each stood there."""
    found: Mapping[str, int] = row.extra.get("mapped", {})
    return found
