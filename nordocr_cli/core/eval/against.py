"""Two readings of the same lines: an evaluation against a recorded one, and one decoder against
another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.errors import DataError
from nordocr_cli.progress import Progress
from nordocr_cli.records import LineResult

if TYPE_CHECKING:
    from nordocr_cli.metrics.group import Group
    from nordocr_cli.metrics.score import LineScore
    from nordocr_cli.metrics.significance import Comparison


@dataclass(frozen=True)
class Against:
    """The comparison with another result: `only_here` and `only_there` lines have no partner,
    `references_differ` were left out because the two results disagree on what stands there;
    `gained` and `lost` are ids of lines that became (in)exact.
    """

    other: str
    comparison: "Comparison"
    only_here: int
    only_there: int
    references_differ: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return dict(vars(self)) | {
            "comparison": self.comparison.to_json(),
            "gained": list(self.gained),
            "lost": list(self.lost),
        }


@dataclass(frozen=True)
class Ablation:
    """The same network's logits read by another decoder: its figures, the comparison with the first
    decoder (b is this one), and how many lines read differently.
    """

    decoder: str
    total: "Group"
    comparison: "Comparison"
    differing: int

    def to_json(self) -> dict[str, Any]:
        """Return the ablation as plain JSON values."""
        return dict(vars(self)) | {
            "total": self.total.to_json(),
            "comparison": self.comparison.to_json(),
        }


def compare_decoders(
    decoder: str, first: Sequence["LineScore"], other: Sequence["LineScore"]
) -> Ablation:
    """Compare what `decoder` made of the lines with what the first one did; both in the same
    order.
    """
    from nordocr_cli.metrics.group import Columns

    differing = sum(
        a.result.hypothesis != b.result.hypothesis for a, b in zip(first, other, strict=True)
    )
    return Ablation(
        decoder, Columns(other).total(intervals=True), compare_scores(first, other), differing
    )


def compare_scores(a: Sequence["LineScore"], b: Sequence["LineScore"]) -> "Comparison":
    """Compare two readings of the same lines, in the same order."""
    from nordocr_cli.metrics.score import HEADLINE, documents_of
    from nordocr_cli.metrics.significance import compare_pairs

    return compare_pairs(
        [score.edits[HEADLINE].distance for score in a],
        [score.edits[HEADLINE].distance for score in b],
        [score.edits[HEADLINE].reference_length for score in b],
        [score.exact for score in a],
        [score.exact for score in b],
        documents_of(b),
    )


def compare_with(other: Path, scores: Sequence["LineScore"], progress: Progress) -> Against:
    """Compare line by line with a recorded result, by id; both must agree on what stands there."""
    from nordocr_cli.metrics.recorded import find_recorded, read_recorded
    from nordocr_cli.metrics.score import score_lines
    from nordocr_cli.metrics.text import canonical

    path = find_recorded(other)
    recorded = read_recorded(path)
    there = {line.result.id: line for line in recorded}
    here = {score.result.id for score in scores}
    lines: list[LineResult] = []
    partners: list[LineScore] = []
    differ = 0
    for score in scores:
        line = there.get(score.result.id)
        if line is None:
            continue
        if line.has_reference and canonical(line.result.reference) != canonical(
            score.result.reference
        ):
            differ += 1
            continue
        lines.append(replace(line.result, reference=score.result.reference))
        partners.append(score)
    if not lines:
        raise DataError(f"{path} and this result have no line in common (by id and reference)")
    pairs = list(zip(score_lines(lines), partners, strict=True))
    only_here = sum(score.result.id not in there for score in scores)
    only_there = sum(identity not in here for identity in there)
    if only_here or only_there or differ:
        progress.warn(
            f"{path}: {len(pairs)} lines compared; left out {only_here} only here, {only_there}"
            f" only there, {differ} with another reference"
        )
    return Against(
        other=str(path),
        comparison=compare_scores([a for a, _ in pairs], [b for _, b in pairs]),
        only_here=only_here,
        only_there=only_there,
        references_differ=differ,
        gained=tuple(b.result.id for a, b in pairs if b.exact and not a.exact),
        lost=tuple(b.result.id for a, b in pairs if a.exact and not b.exact),
    )
