"""What compare3way finds, and what it writes: docs/compare3way.schema.json is generated from
Compare3wayFile.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from nordocr_cli.compare.verdict import OUTCOMES, Verdict, VerdictFile
from nordocr_cli.metrics.result_model import ResultModel


class Missing(ResultModel):
    """Pages of the document (from 0) that an engine's result does not have, and the lines there
    that another side has.
    """

    engine: str
    pages: tuple[int, ...]
    lines: int


class Decided(ResultModel):
    """What a person's decisions did: `lines` have one, `changed` of these differ from the reference
    before (`edits` characters of it), `new` had no reference; `open` rows were left empty, `stray`
    ones match no line here.
    """

    lines: int
    changed: int
    edits: int
    new: int
    open: int
    stray: int


class VlmInput(ResultModel):
    """The requests to the VLM, and the tokens that its answers report."""

    model: str
    prompt: str
    prompt_sha256: str
    answers: str
    answers_sha256: str
    tokens_in: int
    tokens_out: int
    tokens_told_by: int = Field(description="answers that report their tokens")


class Compare3wayFile(VerdictFile):
    """A result file of `nordocr compare3way`. Nothing in it depends on when or in what order the
    VLM answered.
    """

    missing: tuple[Missing, ...]
    inputs: dict[str, dict[str, str]] = Field(description="each input with its SHA-256")
    command: tuple[str, ...] = Field((), description="the command line that made this file")
    decided: Decided | None
    vlm: VlmInput | None

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON, the lines last."""
        value = self.model_dump(mode="json", by_alias=True)
        lines = value.pop("lines")
        return value | {"lines": lines}


@dataclass(frozen=True)
class Compare3wayResult:
    """The verdict and what it was made from: each input file with its SHA-256, what the engines'
    results lack, what a person decided, and the files written.
    """

    verdict: Verdict
    inputs: dict[str, dict[str, str]]
    missing: tuple[Missing, ...]
    decided: Decided | None = None
    vlm: VlmInput | None = None
    written: tuple[Path, ...] = field(default=(), compare=False)
    command: tuple[str, ...] = field(default=(), compare=False)

    def remarks(self) -> list[str]:
        """Return what the tables do not show."""
        verdict = self.verdict
        found = []
        if verdict.scored:
            first, second = verdict.engines
            names = (
                "both right",
                f"only {first} right",
                f"only {second} right",
                "both wrong",
            )
            counts = zip(names, OUTCOMES, strict=True)
            found.append(
                ", ".join(f"{name} {verdict.outcomes[key]}" for name, key in counts)
            )
        score = verdict.third_score
        if score:
            found.append(
                f"{score.engine}: {score.exact} of the {score.lines} lines that it read are exact"
            )
        decided = self.decided
        if decided:
            found.append(
                f"decided by hand: {decided.lines} lines, {decided.changed} of them changed"
                f" ({decided.edits} edits), {decided.new} had no reference before; {decided.open}"
                " rows still open"
            )
        return found

    def to_file(self) -> Compare3wayFile:
        """Return what is written."""
        return Compare3wayFile(
            **dict(self.verdict.to_file()),
            missing=self.missing,
            inputs=self.inputs,
            command=self.command,
            decided=self.decided,
            vlm=self.vlm,
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return self.to_file().to_json()
