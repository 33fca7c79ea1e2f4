"""leaderboard: the results of several evaluations as one Markdown table for each line store."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli import atomic
from nordocr_cli.core.eval.files import recorded_files
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import read_json

if TYPE_CHECKING:
    from nordocr_cli.metrics.report import Report


@dataclass(frozen=True)
class Entry:
    """One result: where it was read from, what was evaluated, and on which lines (`store` is a
    name, "" where there was none; `lines_sha256` tells whether two results are of the same
    lines).
    """

    path: str
    name: str
    store: str
    lines_sha256: str
    report: "Report"
    ece: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the result and its main figures as plain JSON values."""
        report = self.report
        return {
            "path": self.path,
            "name": self.name,
            "store": self.store,
            "lines_sha256": self.lines_sha256,
            "lines": report.total.lines,
            "rates": report.total.rates(),
            "cer_by_language": {
                name: group.rates()["cer"] for name, group in report.by_language.items()
            },
            "ece": self.ece,
        }


@dataclass(frozen=True)
class Leaderboard:
    """Results in groups that read the same lines, each group from the lowest CER to the highest."""

    groups: tuple[tuple[Entry, ...], ...]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the entries in order, each with its rank within the results on the same lines."""
        return [
            entry.to_json() | {"rank": rank}
            for group in self.groups
            for rank, entry in enumerate(group, start=1)
        ]

    def to_markdown(self) -> str:
        """Return one table for each group."""
        return "\n".join(_table(group) for group in self.groups)


def leaderboard(results: Sequence[Path], output: Path | None = None) -> Leaderboard:
    """Read results of `nordocr eval -o` (FILE.json or its folder) and rank them by CER; write the
    Markdown to `output`.

    Results are only ranked against those on the same lines. Raises UsageError for a file that is
    not there and for an output that is an input, DataError for a file that is not such a result.
    """
    if output:
        atomic.refuse_inputs(output, [file for path in results for file in recorded_files(path)])
    entries = [_read(path) for path in results]
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.lines_sha256, []).append(entry)
    board = Leaderboard(tuple(tuple(sorted(group, key=_cer)) for group in groups.values()))
    if output:
        atomic.write_text(output, board.to_markdown())
    return board


def _cer(entry: Entry) -> tuple[bool, float]:
    return entry.report.cer is None, entry.report.cer or 0.0


def _read(path: Path) -> Entry:
    from nordocr_cli.core.eval.run import SCHEMA
    from nordocr_cli.metrics.report import report_from_json

    file = path / "eval.json" if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"no result {file}; make one with `nordocr eval MODEL LINES.lmdb -o {path}`"
        )
    try:
        value = read_json(file, "result")
        if value["schema"] != SCHEMA:
            raise DataError(f"{file}: schema {value['schema']!r}; this nordocr reads {SCHEMA!r}")
        store, calibration = value["store"] or {}, value.get("calibration") or {}
        return Entry(
            path=str(path),
            name=_name(value["model"]),
            store=Path(store["path"]).name if store else "",
            lines_sha256=store["content_sha256"] if store else _hash_of_lines(file),
            report=report_from_json(value["report"], str(file)),
            ece=calibration.get("ece"),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} is not a result of `nordocr eval -o` ({type(error).__name__}: {error})"
        ) from error


def _hash_of_lines(result: Path) -> str:
    """Of a recording without a store: a hash of what its lines are called and of what stands
    there.
    """
    from nordocr_cli.metrics.recorded import find_recorded, read_recorded

    lines = sorted(
        (line.result.id, line.result.reference) for line in read_recorded(find_recorded(result))
    )
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def _name(model: dict[str, Any]) -> str:
    """The folder of a run says more than best.safetensors."""
    path = Path(model.get("path") or model["name"])
    return (
        path.parent.name
        if path.name in ("best.safetensors", "last.safetensors", "lines.jsonl")
        else str(model["name"])
    )


def _table(group: Sequence[Entry]) -> str:
    from nordocr_cli.metrics.tables import percent

    first = group[0]
    languages = sorted({name for entry in group for name in entry.report.by_language})
    head = [
        "",
        "result",
        "exact",
        "95 %",
        "spaces aside",
        "CER",
        "95 %",
        "WER",
        *(f"CER {name}" for name in languages),
        "ECE",
    ]
    rows = []
    for rank, entry in enumerate(group, start=1):
        report, rates = entry.report, entry.report.total.rates()
        by_language = (report.by_language.get(name) for name in languages)
        rows.append(
            [
                str(rank),
                f"{entry.name} ({entry.path})",
                percent(rates["exact"], 1),
                _interval(report.exact_interval, 1),
                percent(rates["space_insensitive"], 1),
                percent(rates["cer"]),
                _interval(report.cer_interval, 2),
                percent(rates["wer"]),
                *(
                    percent(language.rates()["cer"]) if language else "–"
                    for language in by_language
                ),
                percent(entry.ece, 1),
            ]
        )
    where = f"`{_cell(first.store)}`" if first.store else "recorded lines"
    lines = [f"## {where}: {first.report.total.lines:,} lines", ""]
    lines += [_row(head), _row(["--:", ":--", *["--:"] * (len(head) - 2)]), *map(_row, rows)]
    return "\n".join(lines) + "\n"


def _interval(interval: Any, digits: int) -> str:
    return (
        "–"
        if interval is None
        else f"{100 * interval.low:.{digits}f} – {100 * interval.high:.{digits}f}"
    )


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    """A cell's text as Markdown shows it: no bar ends the cell, no tag starts, nothing turns the
    line around.
    """
    from nordocr_cli.metrics.text import visible

    return (
        visible(text)
        .replace("\\", "\\\\")
        .replace("|", "\\|")
        .replace("<", "&lt;")
        .replace("`", "'")
    )
