"""Two results of the same lines: an evaluation against a recorded one, and one decoder against
another.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nordocr_cli.core.eval.result import Ablation, Against
from nordocr_cli.errors import DataError
from nordocr_cli.metrics.group import GroupedLines
from nordocr_cli.metrics.recorded import RecordedLine, find_recorded, read_recorded
from nordocr_cli.metrics.score import HEADLINE, LineScore, documents_of, score_lines
from nordocr_cli.metrics.significance import Comparison, compare_pairs
from nordocr_cli.metrics.text import canonical
from nordocr_cli.progress import Progress


def compare_decoders(
    decoder: str, first: Sequence[LineScore], other: Sequence[LineScore]
) -> Ablation:
    """Compare what `decoder` made of the lines with what the first one did; both in the same
    order.
    """
    differing = sum(
        a.result.hypothesis != b.result.hypothesis
        for a, b in zip(first, other, strict=True)
    )
    return Ablation(
        decoder=decoder,
        total=GroupedLines(other).total(intervals=True),
        comparison=compare_scores(first, other),
        differing=differing,
    )


def compare_scores(a: Sequence[LineScore], b: Sequence[LineScore]) -> Comparison:
    """Compare two results of the same lines, in the same order."""
    return compare_pairs(
        edits_a=[score.edits[HEADLINE].distance for score in a],
        edits_b=[score.edits[HEADLINE].distance for score in b],
        lengths=[score.edits[HEADLINE].reference_length for score in b],
        exact_a=[score.exact for score in a],
        exact_b=[score.exact for score in b],
        clusters=documents_of(b),
    )


def compare_with(other: Path, scores: Sequence[LineScore], progress: Progress) -> Against:
    """Compare line by line with a recorded result, by id; both must have the same reference.

    Raises DataError when the two results have no line in common.
    """
    path = find_recorded(other)
    recorded = {line.result.id: line for line in read_recorded(path)}
    here = {score.result.id for score in scores}

    partners = [score for score in scores if score.result.id in recorded]
    differ = [
        score for score in partners if _other_reference(score, recorded[score.result.id])
    ]
    left_out = {score.result.id for score in differ}
    partners = [score for score in partners if score.result.id not in left_out]
    if not partners:
        raise DataError(
            f"{path} and this result have no line in common (by id and reference)"
        )

    others = score_lines(
        [
            replace(recorded[score.result.id].result, reference=score.result.reference)
            for score in partners
        ]
    )
    only_here = len(here - recorded.keys())
    only_there = len(recorded.keys() - here)
    if only_here or only_there or differ:
        progress.warn(
            f"{path}: {len(partners)} lines compared; left out {only_here} only here, {only_there}"
            f" only there, {len(differ)} with another reference"
        )
    pairs = list(zip(others, partners, strict=True))
    return Against(
        other=str(path),
        comparison=compare_scores(others, partners),
        only_here=only_here,
        only_there=only_there,
        references_differ=len(differ),
        gained=tuple(b.result.id for a, b in pairs if b.exact and not a.exact),
        lost=tuple(b.result.id for a, b in pairs if a.exact and not b.exact),
    )


def _other_reference(score: LineScore, line: RecordedLine) -> bool:
    if not line.has_reference:
        return False
    return canonical(line.result.reference) != canonical(score.result.reference)
