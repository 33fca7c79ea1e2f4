"""Label files: the registry of their forms, and the one reader for all of them.

A form is a module in data/labels with `sniff` and `read`; to add one, write it and add it to
`FORMS`. The first form whose `sniff` accepts a file reads it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nordocr_cli.data.entry import Entry
from nordocr_cli.data.labels import coco_text, iam, json, jsonl, label_studio, paddle, table
from nordocr_cli.data.labels.label_file import NO_COLUMNS, Columns, LabelFile
from nordocr_cli.errors import DataError


@dataclass(frozen=True)
class LabelForm:
    """A form of label files: `sniff` tells whether a file has it, `read` yields its entries.

    `is_plain_text` says that `sniff` accepts nearly any text, so that a JSON file is never of it.
    """

    name: str
    sniff: Callable[[LabelFile], bool]
    read: Callable[[LabelFile], Iterator[Entry]]
    is_plain_text: bool = False


FORMS = (
    LabelForm("csv", table.is_csv, table.read_csv),
    LabelForm("paddle", paddle.sniff, paddle.read),
    LabelForm("label-studio", label_studio.sniff, label_studio.read),
    LabelForm("coco-text", coco_text.sniff, coco_text.read),
    LabelForm("mmocr", json.is_mmocr, json.read_mmocr),
    LabelForm("json", json.is_array, json.read_array),
    LabelForm("json-map", json.is_map, json.read_map),
    LabelForm("jsonl", jsonl.sniff, jsonl.read),
    LabelForm("iam", iam.sniff, iam.read, is_plain_text=True),
    LabelForm("tsv", table.is_tsv, table.read_tsv, is_plain_text=True),
    LabelForm("labels", table.is_labels, table.read_labels, is_plain_text=True),
)
_FORM_OF = {form.name: form for form in FORMS}


def find_form(file: LabelFile) -> LabelForm | None:
    """Return the form of a label file, None when it has none of them. Raises DataError when it
    cannot be read.
    """
    if file.path.suffix == ".jsonl":  # its name says so, whatever its first lines are
        return _FORM_OF["jsonl"]
    found = next((form for form in FORMS if form.sniff(file)), None)
    is_json = file.path.suffix == ".json" or file.json is not None
    if is_json and found is not None and found.is_plain_text:
        return None
    return found


def manifest_kind(path: Path, columns: Columns = NO_COLUMNS) -> str:
    """Return a label file's form by its name, else by what its first lines look like: some of them
    may be damaged.

    Raises DataError when it is not UTF-8 text, is empty, or has no form that is known.
    """
    return _require_form(LabelFile(path, path.parent, columns)).name


def _require_form(file: LabelFile) -> LabelForm:
    form = find_form(file)
    if form is not None:
        return form
    if not file.sample:
        raise DataError(f"{file.path}: no line of text in it, so it is no manifest")
    raise DataError(
        f"{file.path}: JSON without images and texts; a label file has one JSON object a line (JSON"
        ' Lines), or is an array of {"image": …, "text": …} or a map of image names to texts'
    )


def iterate_manifest(
    path: Path,
    kind: str | None = None,
    root: Path | None = None,
    columns: Columns = NO_COLUMNS,
) -> Iterator[Entry]:
    """Yield an Entry for each row. Raises DataError when the file cannot be read or is not text.

    A row with the id of an earlier one is a problem: each line is named by its id.
    """
    file = LabelFile(path, root or path.parent, columns)
    yield from iterate_entries(file, kind)


def iterate_entries(file: LabelFile, kind: str | None = None) -> Iterator[Entry]:
    """Yield an Entry for each row of a label file; see `iterate_manifest`."""
    form = _FORM_OF[kind] if kind else _require_form(file)
    seen: dict[str, str] = {}
    for entry in form.read(file):
        if entry.row is None:
            yield entry
            continue
        first = seen.get(entry.row.id)
        if first is not None:
            problem = (
                f"id {entry.row.id!r} is already that of {_line_name(first, file.path)}"
            )
            yield Entry(entry.where, entry.key, problem=problem)
            continue
        seen[entry.row.id] = entry.where
        yield entry


def _line_name(where: str, path: Path) -> str:
    place = where.removeprefix(str(path)).lstrip(": ")
    if place.isdecimal():
        return f"line {place}"
    return place
