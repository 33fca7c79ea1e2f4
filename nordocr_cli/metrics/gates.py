"""Quality gates: conditions under which an evaluation has failed, e.g. `cer>5%` or
`language:is.exact<0.9`.
"""

import operator
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from nordocr_cli.errors import UsageError, nearest
from nordocr_cli.limits import read_toml
from nordocr_cli.metrics.group import Group
from nordocr_cli.metrics.report import GROUPINGS, UNNAMED, Report, build_report
from nordocr_cli.metrics.significance import Comparison
from nordocr_cli.records import LineResult

_OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_GATE = re.compile(
    rf"\s*(?:(?P<kind>{'|'.join(GROUPINGS)}):(?P<group>.+)\.)?(?P<metric>[a-z_.]+)\s*(?P<sign>[<>]=?)\s*"
    r"(?P<bound>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(?P<percent>%)?\s*"
)
# Differences to the other reading of `--against`: this minus the other, so more CER and less exact
# are worse.
AGAINST = ("against.cer", "against.exact")


@dataclass(frozen=True)
class Gate:
    """Fails when `metric` of the total, or of one group, stands in the relation `sign` to
    `bound`.
    """

    text: str
    metric: str
    sign: str
    bound: float
    kind: str = ""
    group: str = ""

    def missed(self, report: Report, against: Comparison | None = None) -> str | None:
        """Return what was found if it fails the gate, else None.

        A rate that does not exist (no line to count) fails too. Raises UsageError for a group that
        is not in the report and for an `against.` metric without a comparison.
        """
        found = self._value(report, against)
        if found is None:
            return f"{self.text}: there is nothing to count"
        return (
            f"{self.text}: found {found:.6g}" if _OPERATORS[self.sign](found, self.bound) else None
        )

    def _value(self, report: Report, against: Comparison | None) -> float | None:
        if self.metric in AGAINST:
            if against is None:
                raise UsageError(
                    f"gate {self.text!r} compares two results: give the other one with --against"
                )
            if self.metric == "against.exact":
                return (against.only_b_exact - against.only_a_exact) / against.lines
            return (
                None
                if against.cer_a is None or against.cer_b is None
                else against.cer_b - against.cer_a
            )
        if not self.kind:
            return metrics_of(report.total)[self.metric]
        groups = report.groups(self.kind)
        _require_group(self, groups)
        return metrics_of(groups[self.group])[self.metric]


def metrics_of(group: Group) -> dict[str, float | None]:
    """Return every figure that a gate may name: the counts of classes and flags, and the rates."""
    counts = {
        "lines": group.lines,
        "failures": group.failures,
        "empty_references": group.empty_references,
    }
    return {**counts, **group.flags, **group.classes, **group.rates()}


def parse_gate(text: str) -> Gate:
    """Read `[language|subset|width|squash:NAME.]METRIC SIGN BOUND`, the bound with or without %.
    Raises UsageError.
    """
    match = _GATE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"gate {text!r}: write e.g. 'cer>5%', 'exact<0.8' or 'language:is.cer>0.02'"
        )
    return _checked(
        Gate(
            text=text.strip(),
            metric=match["metric"],
            sign=match["sign"],
            bound=float(match["bound"]) / (100 if match["percent"] else 1),
            kind=match["kind"] or "",
            group=match["group"] or "",
        )
    )


def require_countable(
    gates: Sequence[Gate], lines: Sequence[LineResult], *, compared: bool
) -> None:
    """Say before `lines` are read what `Gate.missed` would say afterwards; `compared` when there is
    an `--against`.

    Raises UsageError for a language or subset that no line has, a band of widths or squash ratios
    that there is not, and an `against.` metric without another result. A band in which no line lies
    is known only after the reading.
    """
    for gate in gates:
        if gate.metric in AGAINST and not compared:
            raise UsageError(
                f"gate {gate.text!r} compares two results: give the other one with --against"
            )
        if gate.kind:
            bands = GROUPINGS[gate.kind][1]
            _require_group(
                gate, bands or sorted({getattr(line, gate.kind) or UNNAMED for line in lines})
            )


def _require_group(gate: Gate, known: Collection[str]) -> None:
    if gate.group not in known:
        raise UsageError(
            f"gate {gate.text!r}: no {gate.kind} {gate.group!r} in this result;"
            f" {nearest(gate.group, known)}"
        )


def read_expectations(path: Path) -> list[Gate]:
    """Read a TOML file of `METRIC = [least, greatest]` (a group as in a gate, quoted:
    `"language:is.cer" = [0, 0.02]`).

    Raises UsageError naming the file and key.
    """
    table = read_toml(path, "file of expectations")
    if not table:
        raise UsageError(f"{path} asks for nothing; write e.g. cer = [0, 0.02]")
    gates = []
    for key, bounds in table.items():
        numbers = bounds if isinstance(bounds, list) else []
        if len(numbers) != 2 or not all(
            isinstance(n, int | float) and not isinstance(n, bool) for n in numbers
        ):
            raise UsageError(
                f"{path}: {key} must be [least, greatest], e.g. {key} = [0.79, 0.81]; got"
                f" {bounds!r}"
            )
        if not numbers[0] <= numbers[1]:
            raise UsageError(f"{path}: {key} = {bounds} can never be met: write [least, greatest]")
        for sign, bound in zip("<>", numbers, strict=True):
            try:
                gates.append(parse_gate(f"{key}{sign}{bound}"))
            except UsageError as error:
                raise UsageError(f"{path}: {error}") from None
    return gates


def _checked(gate: Gate) -> Gate:
    known = {**metrics_of(build_report([]).total), **dict.fromkeys(AGAINST, 0.0)}
    if gate.metric not in known:
        raise UsageError(
            f"gate {gate.text!r}: unknown metric {gate.metric!r};"
            f" {nearest(gate.metric, list(known))}"
        )
    is_rate = gate.metric in build_report([]).total.rates() or gate.metric in AGAINST
    if is_rate and abs(gate.bound) > 1 and "%" not in gate.text:
        raise UsageError(
            f"gate {gate.text!r}: {gate.metric} is a share (0…1); did you mean {gate.bound:g}%?"
        )
    return gate
