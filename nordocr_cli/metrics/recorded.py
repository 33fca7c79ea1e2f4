"""Recorded readings: JSON Lines with one line each, ours (`lines.jsonl` of an evaluation) or those
of another program.

| key | meaning |
|---|---|
| `id`, or `image` | which line it is |
| `hypothesis`, or `hyp` | what was read |
| `reference`, or `ref` | what stands there; only needed when no line store says so |
| `confidence` (0…1), or `conf` (0…100) | optional |
| `language`, `subset`, `source`, `width` (or `width32`), `squash_ratio`, `frames` | optional |
| `flags` | optional; only `oov_ref` and `not_in_store` are used, the others follow from the texts |
| `readings` | optional: what other decoders read, by name |
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import sha256_of
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import parse_json, read_json, read_text, require_line_length
from nordocr_cli.records import LineResult, finite


@dataclass(frozen=True, slots=True)
class RecordedLine:
    """One recorded reading. `result.reference` is "" when `has_reference` is False; `where` is
    file:line; `readings` are those of other decoders, by name.
    """

    where: str
    result: LineResult
    image: str
    has_reference: bool
    readings: Mapping[str, str] = field(default_factory=dict)


def find_recorded(path: Path) -> Path:
    """Return the JSON Lines file that `path` means: itself, or the one that an evaluation's folder
    or JSON names.

    Raises UsageError when there is none and DataError when the two files of an evaluation do not
    belong together.
    """
    if path.is_dir():
        path = path / "eval.json"
    if not path.is_file():
        raise UsageError(f"no recorded result {path}")
    if path.suffix != ".json":
        return path
    try:
        named = read_json(path, "result")["lines"]
        lines = path.parent / Path(named["file"]).name
        sha256 = named["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not a result of `nordocr eval -o` ({type(error).__name__}: {error})"
        ) from error
    if sha256_of(lines) != sha256:
        raise DataError(
            f"{lines} is not the file that {path.name} was written with; run that evaluation again"
        )
    return lines


def read_recorded(path: Path, subset_key: str = "subset") -> list[RecordedLine]:
    """Read all lines of a recorded result. `subset_key` is the key that holds a line's subset.

    Raises DataError naming file:line for a line that is not one, and for an id that stands twice.
    """
    recorded: list[RecordedLine] = []
    seen: dict[str, str] = {}
    lines = read_text(path, "recording").split("\n")
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        line = _parse(text, f"{path}:{number}", subset_key)
        first = seen.get(line.result.id)
        if first:
            raise DataError(
                f"{line.where}: {line.result.id!r} was already read in {first}; keep one of them"
            )
        seen[line.result.id] = line.where
        recorded.append(line)
    if not recorded:
        raise DataError(f"{path} holds no readings")
    return recorded


def _parse(text: str, where: str, subset_key: str) -> RecordedLine:
    try:
        value = parse_json(text, allow_nan=True)
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        identity = value.get("id", value.get("image"))
        hypothesis = value.get("hypothesis", value.get("hyp"))
        reference = value.get("reference", value.get("ref"))
        if not isinstance(identity, str):
            raise ValueError(f"id (or image) must be a string, not {identity!r}")
        if not isinstance(hypothesis, str):
            raise ValueError(f"hypothesis (or hyp) must be a string, not {hypothesis!r}")
        if reference is not None and not isinstance(reference, str):
            raise ValueError(f"reference must be a string, not {reference!r}")
        require_line_length(hypothesis)
        require_line_length(reference or "")
        flags = value.get("flags", ())
        if not isinstance(flags, list | tuple):
            raise ValueError(f"flags must be a list, not {flags!r}")
        readings = value.get("readings", {})
        if not isinstance(readings, dict) or not all(
            isinstance(text, str) for text in readings.values()
        ):
            raise ValueError(f"readings must be texts by decoder, not {readings!r}")
        width = value.get("width32", value.get("width"))
        frames = value.get("frames")
        squash_ratio = float(value.get("squash_ratio", 1.0))
        if not 0 < squash_ratio < math.inf:
            raise ValueError(f"squash_ratio must be a number above 0, not {squash_ratio}")
        result = LineResult(
            id=identity,
            reference=reference or "",
            hypothesis=hypothesis,
            confidence=_confidence(value),
            language=str(value.get("language", "")),
            subset=str(value.get(subset_key, "")),
            source=str(value.get("source", "")),
            width=None if width is None else int(width),
            squash_ratio=squash_ratio,
            frames=None if frames is None else int(frames),
            oov="oov_ref" in flags or None,
            not_in_store="not_in_store" in flags or None,
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{where}: not a recorded reading: {error}") from error
    return RecordedLine(
        where, result, str(value.get("image", "")), reference is not None, dict(readings)
    )


def _confidence(value: Mapping[str, Any]) -> float | None:
    if value.get("confidence") is not None:
        return finite(float(value["confidence"]))
    if value.get("conf") is None:
        return None
    return finite(float(value["conf"]) / 100)
