"""COCO-Text and TextOCR: images and annotations with boxes, and a text for each.

COCO-Text has maps `imgs` and `anns`, COCO lists `images` and `annotations`. The text is under
`utf8_string`, or under the names of other tools; a polygon under `mask`, `points` or
`segmentation`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from nordocr_cli.data.entry import (
    TEXT_NAMES,
    Entry,
    place_of_box,
    place_of_points,
    region_entry,
)
from nordocr_cli.data.labels.label_file import LabelFile, bad_entry, is_mapping_with

_TEXT_KEYS = ("utf8_string", *sorted(TEXT_NAMES - {"utf8_string"}))
# TextOCR marks what nobody could read with a dot.
_ILLEGIBLE = (".", "###", "")


def sniff(file: LabelFile) -> bool:
    """Whether it has images and annotations."""
    value = file.json
    return is_mapping_with(value, "imgs", "anns") or is_mapping_with(
        value, "images", "annotations"
    )


def read(file: LabelFile) -> Iterator[Entry]:
    """Yield an entry per annotation."""
    value = file.json
    images = _by_id(value.get("imgs") or value.get("images"))
    annotations = value.get("anns") or value.get("annotations")
    if isinstance(annotations, dict):
        listed = list(annotations.values())
    else:
        listed = annotations or []
    for number, annotation in enumerate(listed, start=1):
        where = f"{file.path}: annotation {number}"
        try:
            yield _entry(annotation, images, number, where)
        except (ValueError, OverflowError, TypeError, AttributeError) as error:
            yield bad_entry(where, error)


def _by_id(images: Any) -> dict[str, Mapping[str, Any]]:
    if isinstance(images, dict):
        return {str(name): image for name, image in images.items()}
    return {
        str(image.get("id")): image for image in images or [] if isinstance(image, dict)
    }


def _entry(
    annotation: Mapping[str, Any],
    images: Mapping[str, Mapping[str, Any]],
    number: int,
    where: str,
) -> Entry:
    image = images.get(str(annotation.get("image_id")))
    if image is None:
        raise ValueError(f"no image with id {annotation.get('image_id')!r}")
    name = next((annotation[key] for key in ("id", "ann_id") if key in annotation), number)
    text = _text(annotation)
    place = _place(annotation)
    value = {"image": image.get("file_name"), "text": text or "", "number": name}
    language = annotation.get("language")
    if language:
        value["language"] = {"english": "en"}.get(str(language), "")
    if text in _ILLEGIBLE or annotation.get("legibility") == "illegible":
        problem = f"annotation {name} is marked as illegible"
        return Entry(where, str(value["image"]), problem=problem, illegible=True)
    if text is None:
        keys = ", ".join(map(str, annotation))
        raise ValueError(f"annotation {name} has no text; its keys are {keys}")
    return replace(region_entry(value, place, where), where=where)


def _text(annotation: Mapping[str, Any]) -> Any:
    described = {**(annotation.get("attributes") or {}), **annotation}
    for key in _TEXT_KEYS:
        if described.get(key) is not None:
            return described[key]
    return None


def _place(annotation: Mapping[str, Any]) -> Any:
    polygon = (
        annotation.get("mask") or annotation.get("points") or annotation.get("segmentation")
    )
    if isinstance(polygon, list) and polygon and isinstance(polygon[0], list):
        polygon = polygon[0] if len(polygon[0]) > 2 else polygon
    if isinstance(polygon, list) and len(polygon) > 4:
        return place_of_points(polygon, text=str(_text(annotation)))
    edges = [float(edge) for edge in annotation["bbox"]]
    if len(edges) != 4:
        raise ValueError(
            f"bbox has {len(edges)} numbers instead of 4; export a rotated box with its corners"
            " as `segmentation`"
        )
    x, y, width, height = edges
    rotation = float((annotation.get("attributes") or {}).get("rotation") or 0)
    if rotation % 360 == 0:
        return place_of_box(x, y, width, height)
    return place_of_points(_rotated_corners(x, y, width, height, rotation))


def _rotated_corners(
    x: float, y: float, width: float, height: float, degrees: float
) -> list[tuple[float, float]]:
    """The corners of a box that is turned clockwise about its centre, as CVAT exports it."""
    turned = math.radians(degrees)
    cosine = math.cos(turned)
    sine = math.sin(turned)
    centre_x = x + width / 2
    centre_y = y + height / 2
    corners = []
    for side, level in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        across = side * width / 2
        down = level * height / 2
        corners.append(
            (
                centre_x + across * cosine - down * sine,
                centre_y + across * sine + down * cosine,
            )
        )
    return corners
