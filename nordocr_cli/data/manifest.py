"""Manifests: text files that name line images and their texts, one a line.

| kind | a line |
|---|---|
| `jsonl` | a JSON object: `image`, `text`, and if known `id`, `language`, `subset`, `split`, `source`; other keys are kept |
| `tsv` | image, one tab, text; nothing is quoted or escaped: further tabs, quotes and braces belong to the text |
| `labels` | image, one space, text |

A line that cannot be used becomes an Entry with its problem, so that the caller can count it; it is never passed over.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

from nordocr_cli.charset import to_nfc
from nordocr_cli.errors import DataError
from nordocr_cli.records import LineRow

ManifestKind = Literal["jsonl", "tsv", "labels"]

_MAX_LINE_BYTES = 1 << 20
_TEXT_KEYS = ("id", "image", "text", "language", "subset", "split", "source")
# Opened on Windows, these names are devices whatever their folder and suffix.
_WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a source: `row`, or the `problem` for which there is none.

    `where` is file:line or the key in an LMDB; `key` finds the image in its source; `renormalized` says that the text was
    not in NFC as it stood.
    """

    where: str
    key: str = ""
    row: LineRow | None = None
    problem: str = ""
    renormalized: bool = False


def manifest_kind(path: Path) -> ManifestKind:
    """Tell a manifest's kind by its name, else by its first line. Raises DataError when it is not UTF-8 text or is empty."""
    if path.suffix == ".jsonl":
        return "jsonl"
    if path.suffix == ".tsv":
        return "tsv"
    for _, line in _lines(path):
        text = line.decode("utf-8", errors="replace").strip()
        if text == "[":
            raise DataError(f"{path}: a JSON array; a manifest has one JSON object a line (JSON Lines)")
        if text:
            return "jsonl" if text.startswith("{") else "tsv" if "\t" in text else "labels"
    raise DataError(f"{path}: the manifest is empty")


def iterate_manifest(path: Path, kind: ManifestKind | None = None) -> Iterator[Entry]:
    """Yield an Entry for each line that is not blank. Raises DataError when the file cannot be read or is not text."""
    kind = kind or manifest_kind(path)
    seen: dict[str, int] = {}
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            yield Entry(
                where, problem=f"byte {line[error.start]:#04x} at column {error.start + 1} is not UTF-8; save it as UTF-8"
            )
            continue
        if not text.strip() or (kind == "tsv" and number == 1 and text.split("\t") in (["image", "text"], ["image", "label"])):
            continue
        try:
            value = _parse_json(text) if kind == "jsonl" else _split(text, "\t" if kind == "tsv" else " ")
            entry = make_entry(value, where)
        except ValueError as error:
            yield Entry(where, problem=str(error))
            continue
        assert entry.row is not None
        if first := seen.get(entry.row.id):
            yield Entry(where, entry.key, problem=f"id {entry.row.id!r} is already that of line {first}")
            continue
        seen[entry.row.id] = number
        yield entry


def read_manifest(path: Path) -> list[LineRow]:
    """Return all rows of a manifest. Raises DataError naming file:line of the first rows that cannot be used."""
    entries = list(iterate_manifest(path))
    problems = [f"{entry.where}: {entry.problem}" for entry in entries if entry.row is None]
    if problems:
        more = f"\n… and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError("\n".join(problems[:5]) + more)
    return [entry.row for entry in entries if entry.row is not None]


def make_entry(value: Mapping[str, Any], where: str, key: str | None = None) -> Entry:
    """Check a row's values and return its Entry, the text in NFC. `id` is the image's name when left out.

    Raises ValueError naming the key that is missing or wrong.
    """
    fields: dict[str, str] = {}
    for name in _TEXT_KEYS:
        item = value.get(name)
        if item is None:
            continue
        if not isinstance(item, str):
            raise ValueError(f"{name!r} must be a string, not {type(item).__name__} {item!r}")
        try:
            item.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"{name!r} holds half a surrogate pair, which is no character: {item!r}") from None
        fields[name] = item
    for name in ("image", "text"):
        if name not in fields:
            raise ValueError(f"no {name!r}; the row has {', '.join(map(str, value)) or 'no keys'}")
    if not fields["image"]:
        raise ValueError("'image' is empty")
    text = to_nfc(fields["text"])
    row = LineRow(
        **{**fields, "id": fields.get("id") or fields["image"], "text": text},
        extra={name: item for name, item in value.items() if name not in _TEXT_KEYS},
    )
    return Entry(where, key if key is not None else row.image, row, renormalized=text != fields["text"])


def resolve_image(root: Path, image: str) -> Path:
    """Return the path of `image` inside `root`.

    Raises DataError for a path that leaves the root (absolute, `..`, a drive, a symlink out), holds NUL, or names a device.
    """
    windows = PureWindowsPath(image)
    if not image or "\0" in image:
        raise DataError(f"image path {image!r} is empty or holds NUL")
    if windows.drive or windows.root or PurePosixPath(image).is_absolute() or ".." in windows.parts:
        raise DataError(f"image path {image!r} leaves the manifest's folder; use paths relative to {root}")
    if any(part.split(".")[0].rstrip(" ").upper() in _WINDOWS_DEVICES for part in windows.parts):
        raise DataError(f"image path {image!r} names a device on Windows")
    path = root / image
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise DataError(f"image path {image!r} leads through a symlink out of {root}; copy the images there")
    return path


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line without its end). Only \\n and \\r\\n end a line: U+2028 and the like are text."""
    try:
        with open(path, "rb") as file:
            number = 0
            while line := file.readline(_MAX_LINE_BYTES):
                number += 1
                if number == 1:
                    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                        raise DataError(f"{path}: the file is UTF-16; save it as UTF-8")
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if len(line) >= _MAX_LINE_BYTES or b"\0" in line:
                    raise DataError(f"{path}:{number}: not a line of text (NUL byte, or over 1 MiB); is this a manifest?")
                yield number, line.removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _parse_json(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(value, dict):
        raise ValueError(f"a row is a JSON object, not {type(value).__name__}")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _split(text: str, separator: str) -> Mapping[str, Any]:
    image, found, label = text.partition(separator)
    if not found:
        raise ValueError(f"expected image, one {'tab' if separator == chr(9) else 'space'}, text; found {text[:60]!r}")
    return {"image": image, "text": label}
