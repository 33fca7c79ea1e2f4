"""The result of a fine-tuning: each set before and after, and whether the new recognizer is
accepted.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HELD_OUT = "held-out"


@dataclass(frozen=True)
class SetResult:
    """One set of lines read before and after. Rates are 0…1 (CER is None without characters);
    `verdict` is that of the comparison by document, see `metrics.significance.Comparison`.
    """

    name: str
    lines: int
    cer_before: float | None
    cer_after: float | None
    exact_before: float | None
    exact_after: float | None
    verdict: str

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table."""
        return (
            self.name,
            f"{self.lines:,}",
            _percent(self.cer_before),
            _percent(self.cer_after),
            _percent(self.exact_before),
            _percent(self.exact_after),
            self.verdict,
        )

    @property
    def is_worse(self) -> bool:
        """Whether the recognizer must not replace the one before: it is worse beyond chance, or has
        a higher CER on too few documents to tell.
        """
        if self.verdict == "worse":
            return True
        if self.verdict != "too few documents" or self.cer_before is None:
            return False
        return self.cer_after is not None and self.cer_after > self.cer_before


COMPARISON_COLUMNS = (
    "lines of",
    "lines",
    "CER before",
    "after",
    "exact before",
    "after",
    "verdict",
)


@dataclass(frozen=True)
class FinetuneResult:
    """A finished fine-tuning. `files` are the final models. If `accepted` is false there are none,
    and `problem` gives the reason.
    """

    run_dir: Path
    sets: tuple[SetResult, ...]
    steps: int
    minutes: float
    temperature: float | None
    files: tuple[Path, ...]
    problem: str = ""
    share: float = 1.0

    @property
    def accepted(self) -> bool:
        """Whether the recognizer got its final names."""
        return not self.problem

    @staticmethod
    def from_json(saved: dict[str, Any]) -> "FinetuneResult":
        """Return the result that `to_json` made. Raises KeyError and TypeError for other values."""
        return FinetuneResult(
            run_dir=Path(saved["run_dir"]),
            sets=tuple(SetResult(**one) for one in saved["sets"]),
            steps=saved["steps"],
            minutes=saved["minutes"],
            temperature=saved["temperature"],
            files=tuple(Path(file) for file in saved["files"]),
            problem=saved["problem"],
            share=saved.get("share", 1.0),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            **asdict(self),
            "run_dir": str(self.run_dir),
            "sets": [asdict(one) for one in self.sets],
            "files": [str(path) for path in self.files],
            "accepted": self.accepted,
        }


def replacement_problem(sets: tuple[SetResult, ...], certain_labels: bool = True) -> str:
    """Return why a recognizer must not replace the one before: "" when no set got worse.

    Without `certain_labels` the held-out lines count only where they are worse beyond chance: their
    labels are readings of engines, with errors that a better recognizer no longer makes.
    """
    worse = []
    for one in sets:
        is_certain = certain_labels or one.name != HELD_OUT
        if one.verdict == "worse" or (is_certain and one.is_worse):
            worse.append(one)
    if not worse:
        return ""
    names = " and ".join(one.name for one in worse)
    rates = ", ".join(
        f"CER {_percent(one.cer_before)} to {_percent(one.cer_after)}" for one in worse
    )
    advice = "Look at the labels with `nordocr data view`, or raise --rendered"
    if any(one.verdict == "too few documents" for one in worse):
        advice = f"With so few documents it may be chance: add some. {advice}"
    return (
        f"the recognizer reads {names} worse than before ({rates}); nothing was written under the"
        f" final name. {advice}"
    )


def _percent(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}"
