"""PaddleOCR's detection labels: page image, one tab, a JSON list of regions.

A region is `{"transcription": …, "points": [[x, y], …]}`; four points go clockwise from the top
left of the text. `###`, `*` and `"difficult": true` mark regions that nobody could read.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from nordocr_cli.data.entry import Entry, place_of_points, region_entry
from nordocr_cli.data.labels.label_file import LabelFile, bad_entry
from nordocr_cli.limits import parse_json


def sniff(file: LabelFile) -> bool:
    """Whether one of the first lines is of this form: nothing else looks like it."""
    return any(_regions(line) is not None for line in file.sample)


def read(file: LabelFile) -> Iterator[Entry]:
    """Yield an entry per region, and one per line that is of another form."""
    for where, text, problem in file.text_lines():
        if problem:
            yield bad_entry(where, problem)
            continue
        image, found, label = text.partition("\t")
        if found and label.strip() == "[]":
            continue  # a page without regions
        regions = _regions(text)
        if regions is None:
            yield bad_entry(
                where,
                "expected image, one tab, a JSON list of transcription and points; found"
                f" {text[:60]!r}",
            )
            continue
        for number, region in enumerate(regions, start=1):
            yield _entry(image, number, region, where)


def _regions(line: str) -> list[Mapping[str, Any]] | None:
    """The regions of a line; None when it is something else."""
    _, _, label = line.partition("\t")
    if not label.startswith("[{"):
        return None
    try:
        found = parse_json(label)
    except ValueError:
        # Numbers too long for JSON of others are still Paddle's: the region is refused later.
        return _with_odd_numbers(label)
    if _are_regions(found):
        return found
    return None


def _with_odd_numbers(label: str) -> list[Mapping[str, Any]] | None:
    import json

    try:
        found = json.loads(label)
    except (ValueError, RecursionError):
        return None
    if _are_regions(found):
        return found
    return None


def _are_regions(found: Any) -> bool:
    return isinstance(found, list) and all(
        isinstance(region, dict) and {"transcription", "points"} <= region.keys()
        for region in found
    )


def _entry(image: str, number: int, region: Mapping[str, Any], where: str) -> Entry:
    try:
        place = place_of_points(region["points"], text=str(region["transcription"]))
        value = {"image": image, "text": region["transcription"], "number": number}
        entry = region_entry(value, place, where)
    except ValueError as error:
        return bad_entry(where, f"region {number}: {error}", image)
    if region.get("difficult") and not entry.illegible:
        problem = f"region {number} is marked as illegible"
        return Entry(where, image, problem=problem, illegible=True)
    return entry
