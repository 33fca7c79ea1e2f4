"""The rows of every source: what each names, where it stands, and why one cannot be used.

A row that cannot be used becomes an Entry with its problem, so that the caller can count it; it is
never skipped.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nordocr_cli.charset import to_nfc
from nordocr_cli.data.layouts.layout import (
    ILLEGIBLE_TEXTS,
    MAX_COORDINATE,
    box_from_json,
    box_of_points,
    language_code,
    points_from_json,
)
from nordocr_cli.data.notes import check_notes
from nordocr_cli.errors import DataError
from nordocr_cli.limits import require_line_length
from nordocr_cli.pages.outline import Outline, outline_of
from nordocr_cli.records import Box, LineRow

_OWN_KEYS = frozenset({"id", "image", "text", "language", "subset", "split", "source"})
# What other tools call these, in the order in which they are looked for.
OTHER_NAMES = {
    "image": (
        *("filename", "file_name", "path", "image_path", "img_path", "file", "filepath"),
        *("image_file", "image_name", "img", "imagefile", "image_id", "line_image"),
    ),
    "text": (
        *("words", "label", "transcription", "transcript", "gt", "ground_truth", "text_gt"),
        *("sentence", "utf8_string", "annotation", "reference"),
    ),
    "language": ("lang",),
}
IMAGE_NAMES, TEXT_NAMES = ({name, *OTHER_NAMES[name]} for name in ("image", "text"))
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where on a page image a line is: page index from 0, its outline in pixels, and the page's
    (height, width) where known.
    """

    page: int
    outline: Outline
    page_size: tuple[int, int] | None = None

    @property
    def box(self) -> Box:
        """The upright box around the line."""
        return self.outline.box


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a source: `row`, or the `problem` for which there is none.

    `where` is file:line or the key in an LMDB; `key` finds the image in its source, and `place` the
    line on it when the image is a page; `renormalized` says that the text was not in NFC;
    `illegible` that somebody marked the line as one that cannot be read, which is no fault of the
    row; `is_named_by_file` that the row's `source` is a file's name, which other folders may hold
    too; `trimmed` that its text had spaces at the ends; `part` numbers the source where several are
    read as one.
    """

    where: str
    key: str = ""
    row: LineRow | None = None
    problem: str = ""
    renormalized: bool = False
    place: Place | None = None
    illegible: bool = False
    is_named_by_file: bool = False
    trimmed: bool = False
    part: int = 0


def make_entry(value: Mapping[str, Any], where: str, key: str | None = None) -> Entry:
    """Check a row's values and return its Entry, the text in NFC. `id` is the image's name when
    left out.

    Raises ValueError naming the key that is missing or wrong.
    """
    fields: dict[str, str] = {}
    extra: dict[str, Any] = {}
    # Other tools' names are looked up only where the row's own is missing: this runs for every
    # row.
    own = {}
    for name in OTHER_NAMES:
        if value.get(name) is not None:
            continue
        other = _other_name(name, value)
        if other:
            own[other] = name
    for written, item in value.items():
        name = own.get(written, written)
        if name not in _OWN_KEYS:
            extra[written] = item
            continue
        if item is None:
            continue
        fields[name] = _string(name, written, item)
    for name in ("image", "text"):
        if name not in fields:
            raise ValueError(_missing(name, value))
    if not fields["image"]:
        raise ValueError("'image' is empty")
    text = to_nfc(fields["text"])
    require_line_length(text)
    if extra:
        _check_extra(extra)
    if "lang" in own:
        fields["language"] = language_code(fields["language"])
    row = LineRow(
        **{**fields, "id": fields.get("id") or fields["image"], "text": text}, extra=extra
    )
    return Entry(
        where,
        key if key is not None else row.image,
        row,
        renormalized=text != fields["text"],
    )


def region_entry(value: Mapping[str, Any], place: Place, where: str) -> Entry:
    """Return the entry of a line at `place` on a page; `value` gives image, text and a number.

    Its id is `image:rN`, and its document the image. Raises ValueError as `make_entry` does.
    """
    name = f"{value['image']}:r{value['number']}"
    row = {key: item for key, item in value.items() if key != "number"}
    entry = make_entry({"source": name, **row, "id": name}, where)
    if value.get("text") in ILLEGIBLE_TEXTS:
        problem = f"region {value['number']} is marked as illegible"
        return Entry(where, entry.key, problem=problem, illegible=True)
    return replace(entry, place=place, is_named_by_file="source" not in row)


def place_of_points(
    points: Any, page_size: tuple[int, int] | None = None, text: str = ""
) -> Place:
    """Return the place of a polygon on an image's only page; four points are read as a
    quadrilateral from the top left corner of the text; see Outline.of_quad for `text`.

    Raises ValueError when it is no polygon or has no area.
    """
    try:
        corners = points_from_json(points)
        box_of_points(corners, "region")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"no outline in points {points!r}: {error}") from None
    except DataError:
        raise ValueError(f"no area in points {points!r}") from None
    if len(corners) == 4:
        return Place(0, Outline.of_quad(corners, text), page_size)
    if len(corners) < 3:
        return Place(0, Outline.of_box(box_of_points(corners, "region")), page_size)
    return Place(0, Outline.of_polygon(corners), page_size)


def place_of_box(x: float, y: float, width: float, height: float) -> Place:
    """Return the place of an upright box on an image's only page. Raises ValueError when it has no
    area.
    """
    is_near = all(abs(edge) <= MAX_COORDINATE for edge in (x, y, width, height))
    if not is_near or width <= 0 or height <= 0:  # NaN is not near either
        raise ValueError(f"no area in box {[x, y, width, height]}")
    return Place(0, Outline.of_box(Box(x, y, width, height)))


def place_in_row(value: Mapping[str, Any], where: str) -> Place | None:
    """Return the place that a row of `predict` gives with `page_index` and `bbox`; None where it
    gives none.

    Raises ValueError when it is damaged.
    """
    index = value.get("page_index")
    if index is None or "bbox" not in value:
        return None
    if not isinstance(index, int) or index < 0:
        raise ValueError(f"page_index {index!r} is not a number from 0 on")
    try:
        box = box_from_json(value["bbox"], where)
        polygon = points_from_json(value.get("polygon"))
        baseline = points_from_json(value.get("baseline"))
        return Place(
            index, outline_of(box, polygon, baseline, str(value.get("text") or ""))
        )
    except DataError as error:
        raise ValueError(str(error).removeprefix(f"{where}: ")) from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"polygon and baseline are lists of points: {error!r}") from None


def has_surrogate(text: str) -> bool:
    """Whether `text` holds half a surrogate pair: JSON can escape it and file names can, but it is
    no character.
    """
    return not text.isascii() and _SURROGATE.search(text) is not None


def _check_extra(extra: Mapping[str, Any]) -> None:
    check_notes(extra)
    if has_surrogate(json.dumps(extra, ensure_ascii=False)):
        raise ValueError(
            f"one of {', '.join(map(repr, extra))} holds half a surrogate pair, which is no"
            " character"
        )


def _string(name: str, written: str, item: Any) -> str:
    """The value of our key `name`, which the row calls `written`. Raises ValueError."""
    if name == "image" and isinstance(item, dict):
        item = item.get("path") or item.get("file_name") or item
    if name == "text" and written == "ground_truth":
        item = _text_of_donut(item)
    if not isinstance(item, str):
        raise ValueError(_not_a_string(name, written, item))
    if has_surrogate(item):
        raise ValueError(
            f"{name!r} holds half a surrogate pair, which is no character: {item!r}"
        )
    return item


def _not_a_string(name: str, written: str, item: Any) -> str:
    problem = f"{name!r} must be a string, not {type(item).__name__} {item!r:.80}"
    if name in ("image", "text") and isinstance(item, dict) and item:
        problem += (
            f"; name the key inside, such as --{name}-key {written}.{next(iter(item))}"
        )
    return problem


def _text_of_donut(item: Any) -> Any:
    """The text of a `ground_truth` as Donut's data sets write it, JSON within JSON; anything else
    as it is. Raises ValueError when it holds fields instead of a text.
    """
    if not isinstance(item, str) or not item.startswith('{"gt_parse'):
        return item
    try:
        text = json.loads(item)["gt_parse"]["text_sequence"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            "'ground_truth' is JSON of Donut without a text_sequence; only texts of lines are read"
        ) from None
    return text


def _missing(name: str, value: Mapping[str, Any]) -> str:
    keys = ", ".join(map(str, value)) or "no keys"
    return f"no {name!r}; the row has {keys}"


def _other_name(name: str, value: Mapping[str, Any]) -> str | None:
    """The key under which `value` holds `name` as other tools call it."""
    return next((key for key in OTHER_NAMES[name] if value.get(key) is not None), None)


def _at(value: Mapping[str, Any], key: str) -> Any:
    """The value under a dotted key, as in `image.path`; None when there is none."""
    found: Any = value
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def named_keys(
    value: Mapping[str, Any], image_key: str, text_key: str, names: Sequence[str] = ()
) -> Mapping[str, Any]:
    """Return a row with the keys that the user named (`--image-key`, `--text-key`) under ours.

    Raises ValueError when a row does not have them.
    """
    if not image_key and not text_key:
        return value
    renamed = dict(value)
    for ours, theirs in (("image", image_key), ("text", text_key)):
        if not theirs:
            continue
        if theirs not in value:
            found = _at(value, theirs)
            if found is not None:
                renamed[ours] = found
                continue
            raise ValueError(
                f"no {theirs!r}; the row has {', '.join(map(str, names or value))}"
            )
        renamed = {
            key: item for key, item in renamed.items() if key != ours or ours == theirs
        }
        renamed[ours] = value[theirs]
        if theirs != ours:
            renamed.pop(theirs)
    return renamed
