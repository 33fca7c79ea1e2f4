"""What became of the rows that prep read: counts, the list of those left out, and what is to be
said about them.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nordocr_cli import atomic
from nordocr_cli.charset import CHARSETS, Charset, describe_character
from nordocr_cli.data.entry import Entry, has_surrogate
from nordocr_cli.data.notes import mapped_characters, squash_ratio, was_cropped
from nordocr_cli.progress import Progress
from nordocr_cli.records import LineRow

Policy = Literal["error", "skip"]
OovPolicy = Literal["error", "skip", "map"]

# Why a row is not in the store. A row has one reason, the first that was found.
Reason = Literal[
    "other-language",
    "other-subset",
    "bad-row",
    "illegible",
    "empty-text",
    "oov",
    "missing-image",
    "unreadable-image",
    "ctc-infeasible",
    "too-long",
    "duplicate",
    "in-other-store",
]
# Reasons that the user asked for: counted, but not listed.
_FILTERED = ("other-language", "other-subset")
# Reasons that a policy may object to; no row with another one is at fault.
_BAD = ("bad-row", "empty-text", "missing-image", "unreadable-image")

_NAMED_ROWS = 3


@dataclass(frozen=True)
class WidthStats:
    """Widths of the kept lines, in pixels at the geometry's height."""

    min: int
    median: int
    p95: int
    max: int


@dataclass(frozen=True)
class LeftOut:
    """Why a row is not in the store; `oov` counts the characters for which it is not, where it is
    for those.
    """

    reason: Reason
    problem: str
    oov: Mapping[str, int] = field(default_factory=dict)


class Tally:
    """Counts what became of the rows, and remembers those left out."""

    def __init__(self) -> None:
        self.widths: list[int] = []
        self.left_out: Counter[str] = Counter()
        self.oov: Counter[str] = Counter()
        self.mapped: Counter[str] = Counter()
        self.renormalized = self.over_wide = self.cropped = self.duplicates = self.contradicting = 0
        self.worst_ratio = 1.0
        self._listed: list[str] = []
        self._first: dict[str, list[str]] = {}

    @property
    def read(self) -> int:
        """Number of rows so far."""
        return len(self.widths) + self.left_out.total()

    def keep(self, row: LineRow, width: int, entry: Entry) -> None:
        """Count a line that is in a store, `width` pixels wide."""
        self.widths.append(width)
        self.renormalized += entry.renormalized
        if row.extra:  # where prep's notes are
            self.over_wide += squash_ratio(row) > 1
            self.cropped += was_cropped(row)
            self.worst_ratio = max(self.worst_ratio, squash_ratio(row))
            self.mapped.update(mapped_characters(row))

    def contradict(self, entry: Entry, problem: str) -> None:
        """Count a kept line that says something else than an earlier one with the same picture."""
        self.contradicting += 1
        self._name("contradicting", entry, problem)

    def leave_out(self, left_out: LeftOut, entry: Entry) -> None:
        """Count a row that is in no store, and list it unless the user did not want it."""
        self.left_out[left_out.reason] += 1
        if left_out.reason in _FILTERED:
            return
        self.oov.update(left_out.oov)
        self._name(left_out.reason, entry, left_out.problem)
        row = entry.row.to_json() if entry.row else {}
        record = {
            "reason": left_out.reason,
            "problem": left_out.problem,
            "where": entry.where,
            "row": row,
        }
        listed = json.dumps(record, ensure_ascii=False)
        # What is no character (in a file's name, say) can be written as an escape alone.
        self._listed.append((json.dumps(record) if has_surrogate(listed) else listed) + "\n")

    def _name(self, what: str, entry: Entry, problem: str) -> None:
        """Remember the first few rows of a kind, to be named in a message."""
        named = self._first.setdefault(what, [])
        if len(named) < _NAMED_ROWS:
            named.append(f"{entry.where}: {problem}")

    def write_list(self, path: Path) -> Path | None:
        """Write the rows left out to `path`, one JSON object a line; without any, remove an earlier
        run's list.
        """
        if not self._listed:
            path.unlink(missing_ok=True)
            return None
        atomic.write_text(path, "".join(self._listed))
        return path

    def width_stats(self) -> WidthStats:
        """Return the widths of the kept lines; there must be one."""
        ordered = sorted(self.widths)
        return WidthStats(
            ordered[0],
            ordered[len(ordered) // 2],
            ordered[int(0.95 * (len(ordered) - 1))],
            ordered[-1],
        )

    def problem(
        self, oov: OovPolicy, on_bad: Policy, charset: Charset, listed: Path | None
    ) -> str | None:
        """Say which rows the policies do not let pass, where the first stand, and how to go on;
        None when all is well.
        """
        refused = (*(("oov",) if oov != "skip" else ()), *(_BAD if on_bad == "error" else ()))
        blocking = {reason: count for reason, count in self.left_out.items() if reason in refused}
        if not blocking:
            return None
        lines = [
            f"{sum(blocking.values())} of {self.read} rows were left out ({_counts(blocking)}):"
        ]
        for reason in blocking:
            lines += self._first[reason]
        ways = []
        if "oov" in blocking:
            shown = ", ".join(
                f"{describe_character(c)} {count} times" for c, count in self.oov.most_common()
            )
            lines.append(
                f"not in charset {charset.name!r}{' nor mapped' if oov == 'map' else ''}: {shown}"
            )
            wider = [
                name
                for name, other in CHARSETS.items()
                if all(c in other.class_of for c in self.oov)
            ]
            mapping = "more lines in the --oov-map file" if oov == "map" else "--oov map"
            ways.append(
                " or ".join(["--oov skip", mapping] + [f"--set charset={name}" for name in wider])
            )
        if set(blocking) - {"oov"}:
            ways.append("--on-bad skip")
        lines.append(
            f"{f'all of them are in {listed}; ' if listed else ''}mend them, or go on with"
            f" {' and '.join(ways)}"
        )
        return "\n".join(lines)

    def nothing_kept(self, stores: Sequence[Path], charset: Charset, oov: OovPolicy) -> str:
        """Say why there is no line for `stores`."""
        # Whatever the policies let pass, here it is what is wrong.
        problem = self.problem("map" if oov == "map" else "error", "error", charset, None)
        problem = problem or f"every row was left out ({_counts(self.left_out)})"
        return f"no line for {', '.join(map(str, stores))}, nothing was written: {problem}"

    def say_what_stands_out(self, progress: Progress) -> None:
        """Warn of lines that are kept, or left out without being at fault, and that the user may
        not expect.
        """
        if count := self.left_out["ctc-infeasible"]:
            shown = "; ".join(self._first["ctc-infeasible"])
            progress.warn(f"{count} rows have more text than their width can hold (CTC): {shown}")
        if count := self.left_out["too-long"]:
            progress.warn(
                f"{count} rows have more text than the network can write:"
                f" {'; '.join(self._first['too-long'])}"
            )
        if self.cropped:
            progress.warn(
                f"{self.cropped} lines were cropped: their texts say more than is left in the"
                " picture"
            )
        if self.contradicting:
            shown = "; ".join(self._first["contradicting"])
            progress.warn(
                f"{self.contradicting} rows say something else than an earlier row with the same"
                f" picture: {shown}"
            )
        if self.renormalized:
            progress.note(f"{self.renormalized} texts were not in NFC and are stored in NFC")


def _counts(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items())
