"""Quality gates: conditions under which an evaluation has failed, e.g. `cer>5%`,
`language:is.exact<0.9`, or relative to the champion `subset:fax.cer<=champion+0.3pp`.
"""

import operator
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.errors import UsageError, nearest
from nordocr_cli.limits import read_toml
from nordocr_cli.metrics.characters import CharacterReport
from nordocr_cli.metrics.group import Group, figures_of
from nordocr_cli.metrics.registry import BY_NAME
from nordocr_cli.metrics.report import GROUPINGS, UNNAMED, Report, build_report
from nordocr_cli.metrics.significance import Comparison
from nordocr_cli.records import LineResult

_OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_GATE = re.compile(
    rf"\s*(?:(?P<kind>{'|'.join(GROUPINGS)}|letter):(?P<group>.+)\.)?(?P<metric>[a-z_.]+)\s*"
    rf"(?P<sign>[<>]=?)\s*(?P<champion>champion)?\s*(?P<bound>{_NUMBER})?\s*(?P<unit>%|pp)?\s*"
)
# Differences to the other result of `--against`: this minus the other, so more CER and less exact
# are worse.
AGAINST = ("against.cer", "against.exact")
# Figures of a Nordic letter, e.g. `letter:å.recall`.
LETTER_FIGURES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Gate:
    """A condition on `metric` of the total, or of one group. With `relative` the bound is added to
    the champion's value.

    `required` is False for a condition under which the evaluation fails (`--fail-if 'cer>5%'`), and
    True for one that must hold (`--gate 'cer<=champion+0.3pp'`).
    """

    text: str
    metric: str
    sign: str
    bound: float
    kind: str = ""
    group: str = ""
    relative: bool = False
    required: bool = False

    def missed(
        self,
        report: Report,
        against: Comparison | None = None,
        characters: CharacterReport | None = None,
    ) -> str | None:
        """Return what was found if it fails the gate, else None.

        A rate that does not exist (no line to count) fails too. Raises UsageError for a group or
        letter that is not in the result, for an `against.` metric without a comparison, and for a
        gate relative to a champion.
        """
        if self.relative:
            raise UsageError(
                f"gate {self.text!r} needs a champion: it is for nordocr promote --champion"
            )
        return self.judge(self.value_of(report, against, characters), self.bound)

    def judge(self, found: float | None, bound: float) -> str | None:
        """Return what was found if `found` fails the gate with this bound, else None."""
        if found is None:
            return f"{self.text}: there is nothing to count"
        holds = _OPERATORS[self.sign](found, bound)
        if holds is self.required:
            return None
        limit = f", the limit is {bound:.6g}" if self.relative else ""
        return f"{self.text}: found {found:.6g}{limit}"

    def value_of(
        self,
        report: Report,
        against: Comparison | None = None,
        characters: CharacterReport | None = None,
    ) -> float | None:
        """Return the gate's figure in a result: `report`, its comparison with another result, and
        its figures of characters. Raises UsageError for a group or letter that is not there.
        """
        if self.kind == "letter":
            return self._letter_figure(characters)
        if self.metric in AGAINST:
            if against is None:
                raise UsageError(
                    f"gate {self.text!r} compares two results: give the other one with --against"
                )
            return _difference(self.metric, against)
        if not self.kind:
            return figures_of(report.total)[self.metric]

        groups = report.groups(self.kind)
        _require_group(self, groups)
        return figures_of(groups[self.group])[self.metric]

    def _letter_figure(self, characters: CharacterReport | None) -> float | None:
        letters = {score.name: score for score in characters.each} if characters else {}
        _require_group(self, letters)
        figure: float | None = getattr(letters[self.group], self.metric)
        return figure


def _difference(metric: str, against: Comparison) -> float | None:
    if metric == "against.exact":
        return (against.only_b_exact - against.only_a_exact) / against.lines
    if against.cer_a is None or against.cer_b is None:
        return None
    return against.cer_b - against.cer_a


def parse_gate(text: str, *, required: bool = False) -> Gate:
    """Read `[language|subset|width|squash:NAME.]METRIC SIGN BOUND`, or `letter:å.recall SIGN
    BOUND`. A bound is a number, with or without %, or `champion`, also with +0.3pp or -1%. Raises
    UsageError.
    """
    match = _GATE.fullmatch(text)
    if match is None or not (match["bound"] or match["champion"]):
        raise UsageError(
            f"gate {text!r}: write e.g. 'cer>5%', 'exact<0.8', 'language:is.cer>0.02' or"
            " 'subset:fax.cer<=champion+0.3pp'"
        )
    if match["unit"] == "pp" and not match["champion"]:
        raise UsageError(
            f"gate {text!r}: pp (percentage points) are for a bound relative to the champion"
        )

    scale = 100 if match["unit"] else 1
    gate = Gate(
        text=text.strip(),
        metric=match["metric"],
        sign=match["sign"],
        bound=float(match["bound"] or 0) / scale,
        kind=match["kind"] or "",
        group=match["group"] or "",
        relative=bool(match["champion"]),
        required=required,
    )
    _check_metric(gate)
    return gate


def require_countable(
    gates: Sequence[Gate], lines: Sequence[LineResult], *, compared: bool
) -> None:
    """Report before `lines` are read what `Gate.missed` would report afterwards; `compared` when
    there is an `--against`.

    Raises UsageError for a language or subset that no line has, a band of widths or squash ratios
    that does not exist, and an `against.` metric without another result. A band in which no line
    lies is known only after the reading.
    """
    for gate in gates:
        if gate.metric in AGAINST and not compared:
            raise UsageError(
                f"gate {gate.text!r} compares two results: give the other one with --against"
            )
        if gate.kind in GROUPINGS:
            bands = GROUPINGS[gate.kind][1]
            present = sorted({getattr(line, gate.kind, "") or UNNAMED for line in lines})
            _require_group(gate, bands or present)


def _require_group(gate: Gate, known: Collection[str]) -> None:
    if gate.group not in known:
        raise UsageError(
            f"gate {gate.text!r}: no {gate.kind} {gate.group!r} in this result;"
            f" {nearest(gate.group, known)}"
        )


def read_expectations(path: Path) -> list[Gate]:
    """Read a TOML file of `METRIC = [minimum, maximum]` (a group as in a gate, quoted:
    `"language:is.cer" = [0, 0.02]`), and conditions that must hold:
    `gates = ["cer<=champion+0.1pp"]`.

    Raises UsageError naming the file and key.
    """
    table = read_toml(path, "file of expectations")
    if not table:
        raise UsageError(f"{path} has no gates; write e.g. cer = [0, 0.02]")

    gates: list[Gate] = []
    for key, value in table.items():
        try:
            gates += _listed_gates(value) if key == "gates" else _range_gates(key, value)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
    return gates


def _listed_gates(value: Any) -> list[Gate]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise UsageError(f"gates must be a list of texts, e.g. ['cer<=2%']; got {value!r}")
    return [parse_gate(text, required=True) for text in value]


def _range_gates(key: str, bounds: Any) -> list[Gate]:
    numbers = bounds if isinstance(bounds, list) else []
    if len(numbers) != 2 or not all(map(_is_number, numbers)):
        raise UsageError(
            f"{key} must be [minimum, maximum], e.g. {key} = [0.79, 0.81]; got {bounds!r}"
        )
    minimum, maximum = numbers
    if not minimum <= maximum:
        raise UsageError(f"{key} = {bounds} can never be met: write [minimum, maximum]")
    return [parse_gate(f"{key}<{minimum}"), parse_gate(f"{key}>{maximum}")]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_metric(gate: Gate) -> None:
    """Raise UsageError for an unknown metric, and for a share above 1."""
    if gate.kind == "letter":
        known: Collection[str] = LETTER_FIGURES
    else:
        known = [*figures_of(_empty_group()), *AGAINST]
    if gate.metric not in known:
        raise UsageError(
            f"gate {gate.text!r}: unknown metric {gate.metric!r}; {nearest(gate.metric, known)}"
        )
    is_share = gate.metric in BY_NAME or gate.metric in AGAINST or gate.kind == "letter"
    if is_share and abs(gate.bound) > 1 and "%" not in gate.text:
        raise UsageError(
            f"gate {gate.text!r}: {gate.metric} is a share (0…1); did you mean {gate.bound:g}%?"
        )


def _empty_group() -> Group:
    return build_report([]).total
