"""JSON Lines: a JSON object per line, with `image` and `text`, or what other tools call them.

If known also `id`, `language`, `subset`, `split`, `source`; other keys are kept. Rows of `predict`
that give `page_index` and `bbox` are lines on pages.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from nordocr_cli.data.entry import Entry, make_entry, named_keys, place_in_row
from nordocr_cli.data.labels.label_file import LabelFile, bad_entry


def sniff(file: LabelFile) -> bool:
    """Whether it is JSON Lines, by its name or its first lines."""
    return file.path.suffix in (".jsonl", ".ndjson") or file.is_json_lines()


def read(file: LabelFile) -> Iterator[Entry]:
    """Yield an entry per line that is not blank; of MMOCR's lines one per instance."""
    for where, text, problem in file.text_lines():
        if problem:
            yield bad_entry(where, problem)
            continue
        try:
            value = named_keys(_parse(text), file.columns.image, file.columns.text)
            yield row_entry(value, where)
        except ValueError as error:
            yield bad_entry(where, error)


def row_entry(value: Mapping[str, Any], where: str) -> Entry:
    """Return the entry of a row: of a line image, or of a line on a page. Raises ValueError."""
    place = place_in_row(value, where)
    if place is None:
        if "error" in value and "text" not in value:
            raise ValueError(f"predict could not read this image: {value['error']}")
        return make_entry(value, where)
    image = str(value.get("image", ""))
    index = value["page_index"]
    box = place.box
    name = f"{image}:p{index + 1}:x{box.x:g}y{box.y:g}"
    placed = {key: item for key, item in value.items() if key not in _PLACE_KEYS}
    entry = make_entry({"id": name, "source": f"{image}:p{index + 1}", **placed}, where)
    return replace(entry, place=place, is_named_by_file="source" not in value)


# What a row of predict says beyond its text: of no use once the line has been cut out.
_PLACE_KEYS = ("page_index", "bbox", "polygon", "baseline")


def _parse(text: str) -> Mapping[str, Any]:
    try:
        value = _JSON.decode(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(value, dict):
        raise ValueError(f"a row is a JSON object, not {type(value).__name__}")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)
