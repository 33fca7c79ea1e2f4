"""leaderboard: the results of several evaluations as one Markdown table for each line store."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli import atomic
from nordocr_cli.core.eval.files import recorded_files
from nordocr_cli.core.eval.result import EvalFile, find_result_file, read_result
from nordocr_cli.errors import UsageError
from nordocr_cli.metrics.registry import BY_NAME
from nordocr_cli.metrics.report import Report
from nordocr_cli.metrics.significance import Interval
from nordocr_cli.metrics.tables import percent, spread
from nordocr_cli.metrics.text import visible

if TYPE_CHECKING:
    from nordocr_cli.core.bench.result import BenchResult, Row

# The metrics of the table, in the order of its columns.
BOARD_COLUMNS = (
    "exact",
    "space_insensitive",
    "cer",
    "wer",
    "digits_exact",
    "amounts_exact",
)


@dataclass(frozen=True)
class Speed:
    """What a bench result says of the same model: lines per second on which machine, and the size
    of its file in MB (None where the file is not there).
    """

    lines_per_s: float
    device: str
    size_mb: float | None


@dataclass(frozen=True)
class LeaderboardEntry:
    """One result: where it was read from, what was evaluated, and on which lines (`store` is a
    name, "" where there was none; two results with the same `lines_sha256` are of the same lines).
    """

    path: str
    name: str
    store: str
    lines_sha256: str
    report: Report
    ece: float | None
    size_mb: float | None = None
    speed: Speed | None = None

    @property
    def exact_lines_per_s(self) -> float | None:
        """Speed times the share of lines that are exact."""
        exact = self.report.exact_rate
        if self.speed is None or exact is None:
            return None
        return self.speed.lines_per_s * exact

    @property
    def yield_per_cost(self) -> float | None:
        """Exact lines per second and megabyte of the model; None where one of them is unknown or
        zero.
        """
        if not self.exact_lines_per_s or not self.size_mb:
            return None
        return self.exact_lines_per_s / self.size_mb

    def to_json(self) -> dict[str, Any]:
        """Return the result and its main figures as plain JSON values."""
        report = self.report
        return {
            "path": self.path,
            "name": self.name,
            "store": self.store,
            "lines_sha256": self.lines_sha256,
            "lines": report.total.lines,
            "rates": report.total.rates,
            "cer_by_language": {
                name: group.value("cer") for name, group in report.by_language.items()
            },
            "ece": self.ece,
            "size_mb": self.size_mb,
            "lines_per_s": self.speed.lines_per_s if self.speed else None,
            "exact_lines_per_s": self.exact_lines_per_s,
        }


@dataclass(frozen=True)
class Leaderboard:
    """Results in groups of the same lines, each group from the lowest CER to the highest.

    `baseline` is the path of the result that efficiency is measured against; a group without it
    uses its first entry that has a speed and a size.
    """

    groups: tuple[tuple[LeaderboardEntry, ...], ...]
    baseline: str = ""

    def efficiency(
        self, entry: LeaderboardEntry, group: Sequence[LeaderboardEntry]
    ) -> float | None:
        """Return the efficiency score of an entry: its exact lines per second and megabyte,
        divided by the baseline's. 1 is the baseline; 2 reads twice as many lines exactly for the
        same time and size. None where speed or size of either is unknown.
        """
        known = [other for other in group if other.yield_per_cost]
        named = [other for other in known if other.path == self.baseline]
        if not known or entry.yield_per_cost is None:
            return None
        reference = (named or known)[0].yield_per_cost
        assert reference is not None
        return entry.yield_per_cost / reference

    def to_json(self) -> list[dict[str, Any]]:
        """Return the entries in order, each with its rank within the results on the same lines and
        its efficiency.
        """
        return [
            entry.to_json() | {"rank": rank, "efficiency": self.efficiency(entry, group)}
            for group in self.groups
            for rank, entry in enumerate(group, start=1)
        ]

    def to_markdown(self) -> str:
        """Return one table for each group."""
        return "\n".join(_table(group, self) for group in self.groups)


def leaderboard(
    results: Sequence[Path],
    output: Path | None = None,
    benches: Sequence[Path] = (),
    baseline: Path | None = None,
) -> Leaderboard:
    """Read results of `nordocr eval -o` (FILE.json or its folder) and rank them by CER; write the
    Markdown to `output`. `benches` are results of `nordocr bench -o`: they add lines per second and
    exact lines per second to the models that they timed (matched by the file's name), and the
    efficiency against `baseline`, one of the results; without it, against the first of a table.

    Results are only ranked against those on the same lines. Raises UsageError for a file that is
    not there, for an output that is an input and for a baseline that is no result, DataError for a
    file that is not such a result or has another format.
    """
    from nordocr_cli.core.bench.result import read_bench

    if output:
        inputs = [file for path in results for file in recorded_files(path)]
        atomic.refuse_inputs(output, [*inputs, *benches])
    if baseline and str(baseline) not in map(str, results):
        raise UsageError(f"--baseline {baseline} is not one of the results")
    timed = [read_bench(path) for path in benches]
    groups: dict[str, list[LeaderboardEntry]] = {}
    for path in results:
        entry = _entry(path, timed)
        groups.setdefault(entry.lines_sha256, []).append(entry)
    board = Leaderboard(
        groups=tuple(tuple(sorted(group, key=_cer)) for group in groups.values()),
        baseline=str(baseline) if baseline else "",
    )
    if output:
        atomic.write_text(output, board.to_markdown())
    return board


def _cer(entry: LeaderboardEntry) -> tuple[bool, float]:
    return entry.report.cer is None, entry.report.cer or 0.0


def _entry(path: Path, timed: Sequence["BenchResult"]) -> LeaderboardEntry:
    result = read_result(path)
    store = result.store or {}
    size_mb = _size_mb(result)
    return LeaderboardEntry(
        path=str(path),
        name=_name(result),
        store=Path(str(store["path"])).name if store else "",
        lines_sha256=str(
            store.get("content_sha256") or _hash_of_lines(find_result_file(path))
        ),
        report=result.report,
        ece=result.calibration.ece if result.calibration else None,
        size_mb=size_mb,
        speed=_speed(result, timed, size_mb),
    )


def _hash_of_lines(result: Path) -> str:
    """Of a recorded result without a store: a hash of the ids and references of its lines."""
    from nordocr_cli.metrics.recorded import find_recorded, read_recorded

    recorded = read_recorded(find_recorded(result))
    lines = sorted((line.result.id, line.result.reference) for line in recorded)
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def _name(result: EvalFile) -> str:
    """The folder of a run says more than best.safetensors."""
    path = Path(result.model.get("path") or result.model["name"])
    if path.name in ("best.safetensors", "last.safetensors", "lines.jsonl"):
        return path.parent.name
    return str(result.model["name"])


def _size_mb(result: EvalFile) -> float | None:
    path = Path(str(result.model.get("path") or ""))
    if result.model.get("kind") != "model" or not path.is_file():
        return None
    return path.stat().st_size / 1e6


def _speed(
    result: EvalFile, timed: Sequence["BenchResult"], size_mb: float | None
) -> Speed | None:
    """The speed of the same model; of several bench results the last one."""
    found: Speed | None = None
    for bench in timed:
        for row in bench.rows:
            if _is_same_model(row, result):
                found = Speed(row.lines_per_s, row.device, size_mb)
    return found


def _is_same_model(row: "Row", result: EvalFile) -> bool:
    if result.model.get("kind") != "model":
        return row.backend == result.model.get("kind")
    path = Path(str(result.model.get("path")))
    return row.name in (path.name, f"{path.parent.name}/{path.name}")


def _table(group: Sequence[LeaderboardEntry], board: Leaderboard) -> str:
    first = group[0]
    languages = sorted({name for entry in group for name in entry.report.by_language})
    has_speed = any(entry.speed for entry in group)
    head = ["", "result"]
    for name in BOARD_COLUMNS:
        metric = BY_NAME[name]
        head += [metric.title, "95 %"] if metric.interval else [metric.title]
    head += [f"CER {name}" for name in languages] + ["ECE", "MB"]
    if has_speed:
        head += ["lines/s", "exact lines/s", "efficiency"]

    rows = []
    for rank, entry in enumerate(group, start=1):
        row = [str(rank), f"{entry.name} ({entry.path})", *_metric_cells(entry.report)]
        for name in languages:
            language = entry.report.by_language.get(name)
            row.append(percent(language.value("cer")) if language else "–")
        row += [percent(entry.ece, 1), _number(entry.size_mb)]
        if has_speed:
            lines_per_s = entry.speed.lines_per_s if entry.speed else None
            efficiency = board.efficiency(entry, group)
            row += [_number(lines_per_s), _number(entry.exact_lines_per_s)]
            row.append("–" if efficiency is None else f"{efficiency:.2f}")
        rows.append(row)

    where = f"`{_cell(first.store)}`" if first.store else "recorded lines"
    lines = [f"## {where}: {first.report.total.lines:,} lines", ""]
    lines += [
        _row(head),
        _row(["--:", ":--", *["--:"] * (len(head) - 2)]),
        *map(_row, rows),
    ]
    return "\n".join(lines) + "\n"


def _metric_cells(report: Report) -> list[str]:
    cells = []
    for name in BOARD_COLUMNS:
        metric = BY_NAME[name]
        cells.append(percent(report.total.value(name), metric.digits))
        if metric.interval:
            cells.append(_interval(report.total.intervals.get(name), metric.digits))
    return cells


def _interval(interval: Interval | None, digits: int) -> str:
    return spread(interval, digits, unit="").strip() or "–"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.1f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    """A cell's text as Markdown shows it: no bar ends the cell, no tag starts, nothing turns the
    line around.
    """
    shown = visible(text).replace("\\", "\\\\").replace("|", "\\|")
    return shown.replace("<", "&lt;").replace("`", "'")
