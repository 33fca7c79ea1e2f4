"""What became of the rows that prep read: counts, the list of rejected rows, and the messages about
them.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nordocr_cli import atomic
from nordocr_cli.charset import CHARSETS, Charset, describe_character
from nordocr_cli.core.prep.charsets import profiles_by_charset
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
    "too-small",
    "taller-than-wide",
    "no-ink",
    "ctc-infeasible",
    "too-long",
    "duplicate",
    "in-other-store",
]
# Reasons that the user requested: counted, but not listed.
_FILTERED = ("other-language", "other-subset")
# Reasons that --on-bad decides about.
BAD = (
    *("bad-row", "empty-text", "missing-image", "unreadable-image"),
    *("too-small", "taller-than-wide", "no-ink", "ctc-infeasible", "too-long"),
)
# Reasons that lie with the geometry or the charset: evaluations of the store count these rows.
NOT_IN_STORE = ("oov", "ctc-infeasible", "too-long")

# What each reason is called in messages.
_IN_WORDS = {
    "bad-row": "rows cannot be read",
    "empty-text": "rows have no text",
    "missing-image": "rows have no image",
    "unreadable-image": "rows have an image that cannot be read",
    "too-small": "rows have an image too small to be read",
    "taller-than-wide": "rows have an image taller than wide",
    "no-ink": "rows have an image without ink, or with hardly any contrast",
    "ctc-infeasible": "rows have more text than their width can hold (CTC)",
    "too-long": "rows have more text than the network can write",
    "illegible": "rows are marked as illegible",
}
_NAMED_ROWS = 3
_SHOWN_CHARACTERS = 12
_KEPT_KEYS = 10_000


@dataclass(frozen=True)
class WidthStats:
    """Widths of the kept lines, in pixels at the geometry's height."""

    min: int
    median: int
    p95: int
    max: int


@dataclass(frozen=True)
class LeftOut:
    """Why a row is not in the store; `oov` counts the characters for which it is rejected."""

    reason: Reason
    problem: str
    oov: Mapping[str, int] = field(default_factory=dict)


class PrepStats:
    """Counts what became of the rows, and remembers the rejected ones."""

    def __init__(self) -> None:
        self.widths: list[int] = []
        self.left_out: Counter[str] = Counter()
        self.oov: Counter[str] = Counter()
        self.mapped: Counter[str] = Counter()
        self.missing_images: list[str] = []
        self.renormalized = self.trimmed = self.over_wide = self.cropped = 0
        self.duplicates = self.contradicting = 0
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
        self.trimmed += entry.trimmed
        if row.extra:  # where prep's annotations are
            self.over_wide += squash_ratio(row) > 1
            self.cropped += was_cropped(row)
            self.worst_ratio = max(self.worst_ratio, squash_ratio(row))
            self.mapped.update(mapped_characters(row))

    def contradict(self, entry: Entry, problem: str) -> None:
        """Count a kept line with another text than an earlier one with the same picture."""
        self.contradicting += 1
        self._name("contradicting", entry, problem)

    def leave_out(self, left_out: LeftOut, entry: Entry) -> None:
        """Count a row that is in no store, and list it unless a filter rejected it."""
        self.left_out[left_out.reason] += 1
        if left_out.reason in _FILTERED:
            return
        self.oov.update(left_out.oov)
        if left_out.reason == "missing-image" and len(self.missing_images) < _KEPT_KEYS:
            self.missing_images.append(entry.key)
        self._name(left_out.reason, entry, left_out.problem)
        record = {
            "reason": left_out.reason,
            "problem": left_out.problem,
            "where": entry.where,
            "row": entry.row.to_json() if entry.row else {},
        }
        listed = json.dumps(record, ensure_ascii=False)
        if has_surrogate(listed):  # what is no character can be written as an escape alone
            listed = json.dumps(record)
        self._listed.append(listed + "\n")

    def _name(self, what: str, entry: Entry, problem: str) -> None:
        """Remember the first few rows of a kind, to be named in a message."""
        named = self._first.setdefault(what, [])
        if len(named) < _NAMED_ROWS:
            named.append(f"{entry.where}: {problem}")

    def write_list(self, path: Path) -> Path | None:
        """Write the rejected rows to `path`, one JSON object a line; without any, remove the list
        of an earlier run.
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
        self,
        oov: OovPolicy,
        on_bad: Policy,
        charset: Charset,
        listed: Path | None,
        hints: Sequence[str] = (),
    ) -> str | None:
        """Return which rows the policies do not accept, where the first are, and how to go on; None
        when all is well. `hints` says where missing images are.
        """
        refused = (
            *(("oov",) if oov != "skip" else ()),
            *(BAD if on_bad == "error" else ()),
        )
        blocking = {
            reason: count for reason, count in self.left_out.items() if reason in refused
        }
        if not blocking:
            return None
        lines = [
            f"{sum(blocking.values())} of {self.read} rows were left out ({_counts(blocking)}):"
        ]
        for reason, count in blocking.items():
            lines += self._examples(reason, count)
        lines += hints

        ways = []
        if "oov" in blocking:
            lines.append(
                f"not in charset {charset.name!r}{_nor_mapped(oov)}: {self._shown_oov()}"
            )
            ways.append(" or ".join(self._ways_with_oov(oov)))
        if set(blocking) - {"oov"}:
            ways.append("--on-bad skip")
        where = f"all of them are in {listed}; " if listed else ""
        lines.append(f"{where}fix them, or continue with {' and '.join(ways)}")
        return "\n".join(lines)

    def nothing_kept(
        self,
        stores: Sequence[Path],
        charset: Charset,
        oov: OovPolicy,
        hints: Sequence[str] = (),
    ) -> str:
        """Say why there is no line for `stores`; see `problem` for `hints`."""
        # Whatever the policies accept, here it is what is wrong.
        strict: OovPolicy = "map" if oov == "map" else "error"
        problem = self.problem(strict, "error", charset, None, hints)
        problem = problem or f"every row was left out ({_counts(self.left_out)})"
        return f"no line for {', '.join(map(str, stores))}, nothing was written: {problem}"

    def report(self, progress: Progress, policies: Sequence[str]) -> None:
        """Warn of lines that are kept, or left out by a policy, and that the user may not expect.

        `policies` names the reasons that a policy has accepted or that need none.
        """
        for reason, words in _IN_WORDS.items():
            count = self.left_out[reason]
            if count and reason in policies:
                progress.warn(f"{count} {words}: {'; '.join(self._first[reason])}")
        if self.oov and "oov" in policies:
            ways = " or ".join(self._charsets_for_oov())
            advice = f"; {ways} has them" if ways else ""
            progress.warn(
                f"{self.left_out['oov']} rows have characters outside the charset:"
                f" {self._shown_oov()}{advice}"
            )
        if self.cropped:
            progress.warn(
                f"{self.cropped} lines were cropped: their texts say more than is left in the"
                " picture"
            )
        if self.contradicting:
            progress.warn(
                f"{self.contradicting} rows have another text than an earlier row with the same"
                f" picture: {'; '.join(self._first['contradicting'])}"
            )
        if self.mapped:
            shown = _shown_characters(self.mapped)
            progress.note(f"characters replaced in the texts: {shown}")
        if self.trimmed:
            progress.note(
                f"{self.trimmed} texts had spaces at their ends, which were removed"
            )
        if self.renormalized:
            progress.note(
                f"{self.renormalized} texts were not in NFC and are stored in NFC"
            )

    def _examples(self, reason: str, count: int) -> list[str]:
        named = self._first[reason]
        if count == len(named):
            return named
        return [*named, f"… and {count - len(named)} more {reason}"]

    def _shown_oov(self) -> str:
        return _shown_characters(self.oov)

    def _ways_with_oov(self, oov: OovPolicy) -> list[str]:
        if oov == "map":
            mapping = "more lines in the --oov-map file"
        else:
            mapping = "--oov map"
        return ["--oov skip", mapping, *self._charsets_for_oov()]

    def _charsets_for_oov(self) -> list[str]:
        """The charsets that have every missing character, and the profiles that use them."""
        found: list[str] = []
        for name, other in CHARSETS.items():
            if all(character in other.class_of for character in self.oov):
                profiles = profiles_by_charset().get(name, ())
                if profiles:
                    of = f" (as in profile {', '.join(profiles)})"
                else:
                    of = ""
                found.append(f"--set charset={name}{of}")
        return found


def _shown_characters(counts: Counter[str]) -> str:
    """The most frequent characters with their counts, and how many others there are."""
    shown = [
        f"{describe_character(character)} {count} times"
        for character, count in counts.most_common(_SHOWN_CHARACTERS)
    ]
    hidden = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {hidden} others" if hidden > 0 else "")


def _nor_mapped(oov: OovPolicy) -> str:
    if oov == "map":
        return " nor mapped"
    return ""


def _counts(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items())
