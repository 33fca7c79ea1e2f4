"""The result of a training run."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainResult:
    """A finished run. Rates are 0…1; `lines` counts the lines seen, those of every epoch.
    `batches_per_s` are the batches of one process, `memory_gb` its maximum memory at the reports:
    the GPU's, or on a CPU that of the process; None where it is not known. `verdict` is that of an
    overfit check or of `--check`, which also has `samples`, a few (reference, hypothesis).
    """

    run_dir: Path
    steps: int
    lines: int
    minutes: float
    lines_per_s: float
    batches_per_s: float
    skipped: int
    best_step: int
    best_cer: float
    best_exact: float
    files: tuple[Path, ...]
    memory_gb: float | None = None
    verdict: str = ""
    samples: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            **asdict(self),
            "run_dir": str(self.run_dir),
            "files": [str(path) for path in self.files],
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return the result as (name, value) pairs for a table."""
        skipped = f" ({self.skipped} skipped)" if self.skipped else ""
        speed = (
            f"{_shown(self.lines_per_s)} lines/s, {_shown(self.batches_per_s)} batches/s"
        )
        rows = [
            ("steps", f"{self.steps:,}{skipped}"),
            ("lines seen", f"{self.lines:,} in {self.minutes:.1f} min, {speed}"),
            (
                "best",
                f"CER {self.best_cer:.2%}, exact {self.best_exact:.1%} at step {self.best_step:,}",
            ),
        ]
        rows += [("file", str(path)) for path in self.files]
        rows += [("reads", f"{reading!r} for {text!r}") for text, reading in self.samples]
        if self.verdict:
            rows.append(("verdict", self.verdict))
        return rows


def _shown(rate: float) -> str:
    """Return a rate in digits that never show a slow one as 0."""
    if rate >= 10:
        return f"{rate:,.0f}"
    return f"{rate:.2g}"
