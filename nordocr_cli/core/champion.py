"""The promoted model that a new one has to beat: compared on the same lines, by document, in total
and in each subset, language and Nordic letter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.core.eval.against import compare_scores
from nordocr_cli.core.eval.result import EvalResult
from nordocr_cli.errors import DataError
from nordocr_cli.metrics.characters import NORDIC_LETTERS, CharacterReport, CharacterScore
from nordocr_cli.metrics.gates import Gate
from nordocr_cli.metrics.result_model import ResultModel
from nordocr_cli.metrics.score import LineScore
from nordocr_cli.metrics.significance import Comparison

_GROUPED_BY = ("subset", "language")


class GroupVerdict(ResultModel):
    """The comparison of one subset or language."""

    kind: str
    name: str
    comparison: Comparison


class LetterChange(ResultModel):
    """How well a Nordic letter is read by the champion and by the challenger: recall."""

    letter: str
    occurrences: int
    champion: float | None
    challenger: float | None


class ChampionComparison(ResultModel):
    """A challenger against the champion on one store; in every comparison b is the challenger."""

    champion: str
    store: str
    total: Comparison
    groups: tuple[GroupVerdict, ...]
    letters: tuple[LetterChange, ...]

    def problem(self) -> str:
        """Why the challenger must not replace the champion, whatever the gates are, or ""."""
        if self.total.verdict != "worse":
            return ""
        return (
            f"worse than the champion {self.champion} on {self.store} (p = {self.total.p_exact:.2g}"
            f" for exact lines, {self.total.p_cer:.2g} for CER)"
        )


@dataclass(frozen=True)
class Judged:
    """A challenger's and the champion's evaluation of the same store."""

    store: Path
    challenger: EvalResult
    champion: EvalResult

    def compare(self) -> ChampionComparison:
        """Compare the lines that both have. Raises DataError when they have none in common."""
        before, after = self._partners()
        groups = [
            group for kind in _GROUPED_BY for group in _compare_groups(kind, before, after)
        ]
        letters = _compare_letters(self.champion.characters, self.challenger.characters)
        return ChampionComparison(
            champion=str(self.champion.model.get("path") or self.champion.model["name"]),
            store=str(self.store),
            total=compare_scores(before, after),
            groups=tuple(groups),
            letters=letters,
        )

    def missed(self, gate: Gate) -> str | None:
        """Return what was found if the challenger fails a gate; its bound may be the champion's
        value. Raises UsageError for a group or letter that the lines do not have.
        """
        found = _value(gate, self.challenger)
        bound = gate.bound
        if gate.relative:
            champion = _value(gate, self.champion)
            if champion is None:
                return f"{gate.text}: the champion has nothing to count"
            bound += champion
        return gate.judge(found, bound)

    def _partners(self) -> tuple[list[LineScore], list[LineScore]]:
        """The lines of both in the same order: the champion's, then the challenger's."""
        champion = {score.result.id: score for score in self.champion.scores}
        shared = [score for score in self.challenger.scores if score.result.id in champion]
        if not shared:
            raise DataError(
                f"{self.store}: the champion and the new model have no line in common (by id)"
            )
        return [champion[score.result.id] for score in shared], shared


def _compare_groups(
    kind: str, before: Sequence[LineScore], after: Sequence[LineScore]
) -> list[GroupVerdict]:
    """Compare the lines of each subset or language; none when all lines are in one."""
    names = [str(getattr(score.result, kind)) for score in after]
    if len(set(names)) < 2:
        return []
    found = []
    for name in sorted(set(names) - {""}):
        members = [index for index, other in enumerate(names) if other == name]
        comparison = compare_scores(
            [before[index] for index in members], [after[index] for index in members]
        )
        found.append(GroupVerdict(kind=kind, name=name, comparison=comparison))
    return found


def _compare_letters(
    champion: CharacterReport, challenger: CharacterReport
) -> tuple[LetterChange, ...]:
    before = _letters(champion)
    after = _letters(challenger)
    return tuple(
        LetterChange(
            letter=letter,
            occurrences=after[letter].occurrences,
            champion=before[letter].recall if letter in before else None,
            challenger=after[letter].recall,
        )
        for letter in sorted(after)
        if letter in NORDIC_LETTERS and after[letter].occurrences
    )


def _letters(report: CharacterReport) -> dict[str, CharacterScore]:
    return {score.name: score for score in report.each}


def _value(gate: Gate, result: EvalResult) -> float | None:
    """The figure that a gate names."""
    comparison = result.against.comparison if result.against else None
    return gate.value_of(result.report, comparison, result.characters)


def champion_rows(found: ChampionComparison) -> list[tuple[Any, ...]]:
    """Return (what, champion's CER or recall, challenger's, verdict) for a table."""
    rows = [_row("all lines", found.total)]
    rows += [_row(f"{group.kind} {group.name}", group.comparison) for group in found.groups]
    for letter in found.letters:
        if letter.champion != letter.challenger:
            name = f"letter {letter.letter} (recall)"
            rows.append((name, _percent(letter.champion), _percent(letter.challenger), ""))
    return rows


def _row(name: str, comparison: Comparison) -> tuple[str, str, str, str]:
    return name, _percent(comparison.cer_a), _percent(comparison.cer_b), comparison.verdict


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return f"{100 * share:.2f} %"
