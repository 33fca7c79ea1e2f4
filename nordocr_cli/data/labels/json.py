"""JSON files of image names and texts.

| form | content |
|---|---|
| array | `[{"image": …, "text": …}, …]` |
| map (docTR) | `{"img_0.jpg": "text", …}`, or `{"img_0.jpg": {"text": …}, …}` |
| MMOCR | `{"metainfo": …, "data_list": [{"img_path": …, "instances": [{"text": …}]}]}` |

An instance of MMOCR with a polygon or a box is a line on its image.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from nordocr_cli.data.entry import (
    IMAGE_NAMES,
    TEXT_NAMES,
    Entry,
    make_entry,
    named_keys,
    place_of_points,
    region_entry,
)
from nordocr_cli.data.labels.jsonl import row_entry
from nordocr_cli.data.labels.label_file import LabelFile, bad_entry, is_mapping_with

_IMAGE = re.compile(r".+\.(?:png|jpe?g|tiff?|bmp|webp|gif)", re.IGNORECASE)


def is_array(file: LabelFile) -> bool:
    """Whether it is an array of objects with an image and a text."""
    value = file.json
    if not isinstance(value, list):
        return False
    return not value or any(isinstance(row, dict) and _is_row(row, file) for row in value)


def is_map(file: LabelFile) -> bool:
    """Whether it is a map from image names to texts, or to objects with a text."""
    value = file.json
    if not isinstance(value, dict) or not value:
        return False
    if not any(_IMAGE.fullmatch(name) for name in value):
        return False
    return all(isinstance(text, str) or _has_text(text, file) for text in value.values())


def is_mmocr(file: LabelFile) -> bool:
    """Whether it is MMOCR's format for text recognition, detection and spotting."""
    return is_mapping_with(file.json, "data_list")


def read_array(file: LabelFile) -> Iterator[Entry]:
    """Yield an entry per object."""
    for number, row in enumerate(file.json, start=1):
        where = f"{file.path}: row {number}"
        if not isinstance(row, dict):
            yield bad_entry(where, f"a row is a JSON object, not {type(row).__name__}")
            continue
        try:
            yield row_entry(named_keys(row, file.columns.image, file.columns.text), where)
        except ValueError as error:
            yield bad_entry(where, error)


def read_map(file: LabelFile) -> Iterator[Entry]:
    """Yield an entry per image."""
    for image, value in file.json.items():
        where = f"{file.path}: {image!r}"
        row = {"text": value} if isinstance(value, str) else value
        try:
            named = named_keys(row, "", file.columns.text)
            yield make_entry({**named, "image": image}, where)
        except ValueError as error:
            yield bad_entry(where, error)


def read_mmocr(file: LabelFile) -> Iterator[Entry]:
    """Yield an entry per instance."""
    for number, item in enumerate(file.json["data_list"], start=1):
        where = f"{file.path}: data_list {number}"
        if not is_mapping_with(item, "img_path", "instances"):
            yield bad_entry(where, "expected an object with img_path and instances")
            continue
        for index, instance in enumerate(item["instances"], start=1):
            try:
                yield _instance_entry(item, index, instance, where)
            except (ValueError, OverflowError, TypeError, AttributeError) as error:
                yield bad_entry(f"{where}, instance {index}", error)


def _instance_entry(
    item: Mapping[str, Any], number: int, instance: Mapping[str, Any], where: str
) -> Entry:
    image = item["img_path"]
    text = instance.get("text")
    points = instance.get("polygon") or _corners(instance.get("bbox"))
    if not points:
        name = image if len(item["instances"]) == 1 else f"{image}:{number}"
        return make_entry({"id": name, "image": image, "text": text}, where)
    value = {"image": image, "text": text, "number": number}
    entry = region_entry(value, place_of_points(points, text=str(text or "")), where)
    if instance.get("ignore"):
        return replace(
            entry, row=None, illegible=True, problem=f"instance {number} is ignored"
        )
    return entry


def _corners(box: Any) -> list[tuple[float, float]]:
    """MMOCR's box: x0, y0, x1, y1."""
    if not box:
        return []
    left, top, right, bottom = box
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _is_row(row: Mapping[str, Any], file: LabelFile) -> bool:
    return bool({*IMAGE_NAMES, file.columns.image} & row.keys()) and _has_text(row, file)


def _has_text(value: Any, file: LabelFile) -> bool:
    return isinstance(value, dict) and bool({*TEXT_NAMES, file.columns.text} & value.keys())
