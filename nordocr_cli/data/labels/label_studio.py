"""Label Studio's exports of OCR projects: JSON, and JSON-MIN.

Boxes are in percent of the image, rotated about their top left corner. A region and its text have
the same id in JSON, and the same position in their lists in JSON-MIN.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from nordocr_cli.data.entry import Entry, Place, place_of_points, region_entry
from nordocr_cli.data.labels.label_file import LabelFile, bad_entry, is_mapping_with

_SHAPES = ("bbox", "label", "rectangle", "poly", "polygon")
# Uploaded files get these characters in front of their name.
_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(.+)")


def sniff(file: LabelFile) -> bool:
    """Whether it is one of the two exports."""
    value = file.json
    if not isinstance(value, list) or not value:
        return False
    task = value[0]
    if is_mapping_with(task, "data", "annotations"):
        return True
    return is_mapping_with(task, "transcription") and isinstance(
        task["transcription"], list | str
    )


def read(file: LabelFile) -> Iterator[Entry]:
    """Yield an entry per region with a text."""
    for number, task in enumerate(file.json, start=1):
        where = f"{file.path}: task {number}"
        try:
            regions = _regions(task)
            image = _image_name(_image_of(task), file.root)
        except (ValueError, OverflowError, TypeError, AttributeError, KeyError) as error:
            yield bad_entry(where, error)
            continue
        for index, (shape, text) in enumerate(regions, start=1):
            try:
                value = {"image": image, "text": text, "number": index}
                yield region_entry(value, _place(shape), where)
            except (ValueError, OverflowError, TypeError, KeyError) as error:
                yield bad_entry(f"{where}, region {index}", error)


def _image_of(task: Mapping[str, Any]) -> str:
    data = task.get("data", task)
    for key in ("ocr", "image", "captioning", "img", "url"):
        if isinstance(data.get(key), str):
            return str(data[key])
    raise ValueError(f"no image; the task has {', '.join(map(str, data))}")


def _image_name(address: str, root: Path) -> str:
    """The image's path as the label file means it, of an address of Label Studio's server."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    if local:  # /data/local-files/?d=folder/name.png
        return local[0].lstrip("/")
    name = unquote(parts.path).rsplit("/", 1)[-1]
    uploaded = _UPLOAD_PREFIX.fullmatch(name)
    if uploaded and not (root / name).exists():
        candidates = [root / uploaded[1], root / "images" / uploaded[1]]
        if any(candidate.exists() for candidate in candidates):
            return uploaded[1]
    if parts.scheme or parts.path.startswith("/data/"):
        return name
    return unquote(parts.path)


def _regions(task: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], str]]:
    """Pairs of a shape and its text."""
    if "annotations" not in task:
        return _from_minimal(task)
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for annotation in task["annotations"]:
        if annotation.get("was_cancelled"):
            continue
        for item in annotation.get("result") or ():
            shape, texts = found.setdefault(str(item.get("id")), ({}, []))
            value = dict(item.get("value") or {})
            texts += _texts(value.pop("text", None))
            sizes = {
                key: item[key]
                for key in ("original_width", "original_height")
                if key in item
            }
            shape |= value | sizes
    return [(shape, " ".join(texts)) for shape, texts in found.values() if texts]


def _from_minimal(task: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], str]]:
    texts = _texts(task.get("transcription"))
    shapes: list[Any] = next(
        (task[key] for key in _SHAPES if isinstance(task.get(key), list)), []
    )
    if len(texts) != len(shapes):
        raise ValueError(f"{len(shapes)} boxes, but {len(texts)} transcriptions")
    return list(zip(shapes, texts, strict=True))


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    return [str(text) for text in value]


def _place(shape: Mapping[str, Any]) -> Place:
    """Where a shape is. Raises ValueError or KeyError for one without a size or position."""
    if "original_width" not in shape:
        raise ValueError(
            "no original_width and original_height; export the regions with them"
        )
    page_width = float(shape["original_width"])
    page_height = float(shape["original_height"])
    points = shape.get("points")
    if points:
        corners = [(x * page_width / 100, y * page_height / 100) for x, y in points]
        return place_of_points(corners, (round(page_height), round(page_width)))
    x = shape["x"] * page_width / 100
    y = shape["y"] * page_height / 100
    width = shape["width"] * page_width / 100
    height = shape["height"] * page_height / 100
    angle = math.radians(float(shape.get("rotation") or 0))
    cos = math.cos(angle)
    sin = math.sin(angle)
    corners = [
        (x + dx * cos - dy * sin, y + dx * sin + dy * cos)
        for dx, dy in ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
    ]
    return place_of_points(corners, (round(page_height), round(page_width)))
