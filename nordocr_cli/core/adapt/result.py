"""The result of an adaptation."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.core.finetune.result import FinetuneResult


@dataclass(frozen=True)
class AdaptResult:
    """What came of the scans: `lines` found, `labels` taken from agreement, `asked` lines for a
    person in `ask_file`. `estimated_cer` is the CER of our recognizer before each round, estimated
    without labels; `shares` gives each watched character class's share in all lines and in the
    labels; of the classes `unconfirmed` other engines confirm hardly any. The last round's
    `finetuned` is the judgement.
    """

    run_dir: Path
    lines: int
    labels: int
    dropped: int
    asked: int
    ask_file: Path
    agreement: Mapping[str, Any]
    estimated_cer: tuple[float | None, ...]
    shares: Mapping[str, tuple[float, float]]
    drifting: tuple[str, ...]
    unconfirmed: tuple[str, ...]
    finetuned: FinetuneResult

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "run_dir": str(self.run_dir),
            "lines": self.lines,
            "labels": self.labels,
            "dropped": self.dropped,
            "asked": self.asked,
            "ask_file": str(self.ask_file),
            "agreement": dict(self.agreement),
            "estimated_cer": list(self.estimated_cer),
            "shares": {name: list(pair) for name, pair in self.shares.items()},
            "drifting": list(self.drifting),
            "unconfirmed": list(self.unconfirmed),
            "finetune": self.finetuned.to_json(),
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return what was done as (name, value) pairs for a table."""
        share = self.labels / max(1, self.lines)
        rows = [
            ("lines found", f"{self.lines:,}"),
            (
                "labels by agreement",
                f"{self.labels:,} ({share:.0%}), {self.dropped} left out",
            ),
            ("lines to read by a person", f"{self.asked} in {self.ask_file}"),
        ]
        for number, estimated in enumerate(self.estimated_cer, start=1):
            if estimated is not None:
                what = f"CER before round {number}, estimated without labels"
                rows.append((what, f"{estimated:.1%}"))
        for name, (expected, found) in self.shares.items():
            if expected:
                rows.append(
                    (f"share of {name}", f"{expected:.2%} read, {found:.2%} in labels")
                )
        return rows
