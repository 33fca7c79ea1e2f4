"""Rows of the tables that show a report: plain strings, for a terminal or a document."""

from collections.abc import Mapping, Sequence

from nordocr_cli.metrics.calibration import Calibration
from nordocr_cli.metrics.characters import CharacterScore
from nordocr_cli.metrics.group import Group
from nordocr_cli.metrics.report import Confusion, Report
from nordocr_cli.metrics.score import HEADLINE, LineScore
from nordocr_cli.metrics.significance import FEW_CLUSTERS, POWER, Comparison, Interval
from nordocr_cli.metrics.taxonomy import FAILURES, MEANING, SPACE_KINDS, ErrorClass
from nordocr_cli.metrics.text import code_points, marked_difference, rate

Row = tuple[str, ...]
_LONGEST_SHOWN = 500  # characters of a line on the terminal


def percent(share: float | None, digits: int = 2) -> str:
    """Return e.g. `1.87 %`, and `–` where there is nothing to divide by."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _of(count: int, of: int) -> Row:
    return f"{count:,}", percent(rate(count, of), 1)


def _spread(interval: Interval | None, digits: int, sign: str = "", unit: str = "%") -> str:
    if interval is None:
        return ""
    low, high = (f"{100 * end:{sign}.{digits}f}" for end in (interval.low, interval.high))
    return f"{low} – {high} {unit}"


def headline(report: Report) -> list[Row]:
    """Return (figure, count, rate, 95 % interval) of the whole."""
    total = report.total
    view, squeezed, rates = total.views[HEADLINE], total.views["squeezed"], total.rates()
    rows: list[Row] = [
        ("lines", f"{total.lines:,}", "", ""),
        ("exact", *_of(total.exact, total.lines), _spread(report.exact_interval, 1)),
        ("exact, spaces aside", *_of(total.space_insensitive, total.lines), ""),
        ("exact, case aside", *_of(total.case_insensitive_exact, total.lines), ""),
        ("digits exact", *_of(total.digits_exact, total.lines_with_digits), ""),
        (
            "CER micro",
            f"{view.edits:,}/{view.reference_characters:,}",
            percent(rates["cer"]),
            _spread(report.cer_interval, 2),
        ),
        ("CER macro", "", percent(rates["cer_macro"]), ""),
        ("NED", "", percent(rates["ned"]), ""),
        (
            "CER micro, spaces aside",
            f"{squeezed.edits:,}/{squeezed.reference_characters:,}",
            percent(rates["cer_squeezed"]),
            "",
        ),
        ("WER micro", f"{total.word_edits:,}/{total.reference_words:,}", percent(rates["wer"]), ""),
    ]
    if total.empty_references:
        rows.append(
            (
                "empty references",
                f"{total.empty_references:,}",
                "",
                f"{total.empty_reference_insertions} characters read",
            )
        )
    for flag, label in (
        ("over_wide", "too wide (squashed or cropped)"),
        ("oov_ref", "outside the charset"),
        ("ctc_infeasible", "too few CTC frames"),
    ):
        if total.flags[flag]:
            rows.append((label, *_of(total.flags[flag], total.lines), ""))
    if total.readable is not None and total.readable < total.lines:
        rows.append(("exact at best (charset, frames)", *_of(total.readable, total.lines), ""))
    return rows


def interval_note(report: Report) -> str:
    """Return one sentence about how the intervals were drawn."""
    interval = report.cer_interval or report.exact_interval
    if interval is None:
        return "no interval: it takes lines of two source documents"
    if interval.unit == "line":
        return (
            "95 % intervals: bootstrap by line, as the source documents are not known; they are"
            " narrower than the truth"
        )
    few = "; few, so take them as rough" if interval.units < FEW_CLUSTERS else ""
    return f"95 % intervals: bootstrap by source document ({interval.units}{few})"


def classes(report: Report) -> list[Row]:
    """Return (class, count, share of the failures, actionable, definition), the kinds of space_only
    indented below it.
    """
    rows: list[Row] = []
    total = report.total
    for error_class in FAILURES:
        meaning = MEANING[error_class]
        actionable = f"{meaning.actionable}: {meaning.advice}"
        rows.append(
            (
                error_class.value,
                *_of(total.classes[error_class.value], total.failures),
                actionable,
                meaning.definition,
            )
        )
        if error_class is ErrorClass.SPACE_ONLY and total.classes[error_class.value]:
            rows += [
                (f"  {kind}", *_of(total.space_kinds[kind], total.failures), "", "")
                for kind in SPACE_KINDS
            ]
    rows.append(("all failures", *_of(total.failures, total.failures), "", ""))
    return rows


def flags(report: Report) -> str:
    """Return the flags that occur and their numbers of lines as one line, most frequent first."""
    found = sorted(
        ((count, flag) for flag, count in report.total.flags.items() if count), reverse=True
    )
    return ", ".join(f"{flag} {count:,}" for count, flag in found) or "none"


GROUP_HEADS = ("lines", "exact", "95 %", "spaces aside", "CER micro", "95 %", "CER macro", "WER")


def groups(by_name: Mapping[str, Group]) -> list[Row]:
    """Return (name, then what GROUP_HEADS says) of each group."""
    return [
        (
            name,
            f"{group.lines:,}",
            *_rates(group, ("exact",), 1),
            _spread(group.exact_interval, 1),
            *_rates(group, ("space_insensitive",), 1),
            *_rates(group, ("cer",), 2),
            _spread(group.cer_interval, 2),
            *_rates(group, ("cer_macro", "wer"), 2),
        )
        for name, group in by_name.items()
    ]


def _rates(group: Group, names: Sequence[str], digits: int) -> list[str]:
    rates = group.rates()
    return [percent(rates[name], digits) for name in names]


def class_groups(report: Report, subset_key: str) -> list[tuple[str, str, Mapping[str, Group]]]:
    """Return (title, kind of GROUPINGS, groups) of the tables that show every class by where a line
    belongs. Squash ratios are left out where all lines fit, or none was measured.
    """
    titles = {"width": "width in px", "squash": "squash ratio", "subset": subset_key}
    found = [
        (title, kind, report.groups(kind)) for kind, title in titles.items() if report.groups(kind)
    ]
    return [item for item in found if item[1] != "squash" or list(item[2]) != ["fits"]]


def classes_by(groups: Mapping[str, Group]) -> list[Row]:
    """Return (name, lines, then the count of each class) of each group."""
    return [
        (name, f"{group.lines:,}", *(str(group.classes[c.value]) for c in FAILURES))
        for name, group in groups.items()
    ]


def confusions(found: Sequence[Confusion]) -> list[Row]:
    """Return (wanted, found, times) of confusions, with code points."""
    rows = []
    for confusion in found:
        sides = [
            f"{c!r} {code_points(c)}" if c else "ε" for c in (confusion.wanted, confusion.found)
        ]
        rows.append(
            (*sides, f"{confusion.count:,}" + (f" of {confusion.of:,}" if confusion.of else ""))
        )
    return rows


def characters(scores: Sequence[CharacterScore]) -> list[Row]:
    """Return (character or kind, times it stands there, precision, recall, F1)."""
    return [
        (
            f"{score.name!r} U+{ord(score.name):04X}" if len(score.name) == 1 else score.name,
            f"{score.wanted:,}",
            *(percent(share) for share in (score.precision, score.recall, score.f1)),
        )
        for score in scores
    ]


def coverage_note(found: Calibration) -> str:
    """Return one sentence: how many lines could be taken unchecked."""
    kept = ", ".join(
        f"{percent(share, 1)} at ≤ {100 * risk:g} %" for risk, share in found.coverage_at.items()
    )
    return f"Lines that can be taken unchecked, by the share of wrong ones among them: {kept}."


def worst_lines(scores: Sequence[LineScore]) -> list[Row]:
    """Return (id, class, edits, both texts with their differences marked) of lines."""
    return [
        (
            s.result.id,
            s.error_class.value,
            str(s.edits[HEADLINE].distance),
            _shortened(marked_difference(s.result.reference, s.result.hypothesis)),
        )
        for s in scores
    ]


def _shortened(text: str) -> str:
    """A text that would fill the terminal, cut off; the lines file and the report have it whole."""
    left_out = len(text) - _LONGEST_SHOWN
    return f"{text[:_LONGEST_SHOWN]}… (and {left_out:,} more characters)" if left_out > 0 else text


ABLATION_HEADS = (
    "decoder",
    "exact",
    "CER micro",
    "WER",
    "read otherwise",
    "gained",
    "lost",
    "CER difference",
    "verdict",
)


def ablations(
    first: str, total: Group, others: Sequence[tuple[str, Group, Comparison, int]]
) -> list[Row]:
    """Return what ABLATION_HEADS says of the first decoder and of (name, figures, comparison, lines
    that read otherwise) of the others.
    """
    rows: list[Row] = [
        (
            first,
            *_rates(total, ("exact",), 1),
            *_rates(total, ("cer", "wer"), 2),
            "",
            "",
            "",
            "",
            "",
        )
    ]
    for name, group, found, differing in others:
        rows.append(
            (
                name,
                *_rates(group, ("exact",), 1),
                *_rates(group, ("cer", "wer"), 2),
                f"{differing:,}",
                str(found.only_b_exact),
                str(found.only_a_exact),
                _spread(found.cer_difference, 2, "+", "pp"),
                found.cer_verdict,
            )
        )
    return rows


def smallest_note(found: Comparison) -> str:
    """Return one sentence: which differences these lines are too few to show."""
    cer = (
        ""
        if found.smallest_cer_gap is None
        else f" and {100 * found.smallest_cer_gap:.2f} pp of CER"
    )
    share = percent(rate(found.only_a_exact + found.only_b_exact, found.lines), 1)
    return (
        f"{found.lines:,} lines, {share} of them exact in one reading alone, show differences from"
        f" about {100 * found.smallest_exact_gap:.1f} pp of exact lines{cer} on (in"
        f" {100 * POWER:.0f} % of cases)"
    )


def comparison(found: Comparison) -> list[Row]:
    """Return (figure, other, this, difference, verdict) of a comparison."""
    a, b = found.both_exact + found.only_a_exact, found.both_exact + found.only_b_exact
    cer_gap = None if found.cer_a is None or found.cer_b is None else found.cer_b - found.cer_a
    spread = _spread(found.cer_difference, 2, "+", "pp")
    gap = "–" if cer_gap is None else f"{100 * cer_gap:+.2f} pp ({spread})"
    share = (
        ""
        if found.b_better_share is None
        else f"; lower in {100 * found.b_better_share:.1f} % of the resamples"
    )
    return [
        (
            "exact",
            f"{a:,}  {percent(rate(a, found.lines), 1)}",
            f"{b:,}  {percent(rate(b, found.lines), 1)}",
            f"{b - a:+,} ({found.only_b_exact} gained, {found.only_a_exact} lost)",
            f"{found.exact_verdict} (McNemar p = {found.mcnemar_p:.3g})",
        ),
        (
            "CER micro",
            percent(found.cer_a),
            percent(found.cer_b),
            gap,
            f"{found.cer_verdict}{share}",
        ),
    ]
