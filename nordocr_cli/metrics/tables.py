"""Rows of the tables that show a report: plain strings, for a terminal or a document."""

from collections.abc import Mapping, Sequence

from nordocr_cli.metrics.calibration import Calibration
from nordocr_cli.metrics.characters import CharacterScore
from nordocr_cli.metrics.group import Group
from nordocr_cli.metrics.registry import BY_NAME, METRICS
from nordocr_cli.metrics.report import Confusion, Report
from nordocr_cli.metrics.score import HEADLINE, LineScore
from nordocr_cli.metrics.significance import (
    ALPHA,
    FEW_DOCUMENTS,
    MIN_DOCUMENTS,
    POWER,
    Comparison,
    Interval,
)
from nordocr_cli.metrics.taxonomy import FAILURES, MEANING, SPACE_KINDS, ErrorClass
from nordocr_cli.metrics.text import code_points, marked_difference, rate
from nordocr_cli.metrics.tokens import TokenReport

TableRow = tuple[str, ...]
_LONGEST_SHOWN = 500  # characters of a line on the terminal

# Metrics that are shown only where they differ from another one.
_REPEATS = {"cer_raw": "cer", "cer_jiwer": "cer", "wer_jiwer": "wer"}
GROUP_METRICS = ("exact", "space_insensitive", "cer", "cer_macro", "wer")


def percent(share: float | None, digits: int = 2) -> str:
    """Return e.g. `1.87 %`, and `–` where there is nothing to divide by."""
    if share is None:
        return "–"
    return f"{100 * share:.{digits}f} %"


def _count_and_share(count: int, of: int) -> TableRow:
    return f"{count:,}", percent(rate(count, of), 1)


def spread(interval: Interval | None, digits: int, sign: str = "", unit: str = "%") -> str:
    """Return e.g. `1.20 – 2.40 %`, and an empty text without an interval."""
    if interval is None:
        return ""
    low, high = (f"{100 * end:{sign}.{digits}f}" for end in (interval.low, interval.high))
    return f"{low} – {high} {unit}"


def metric_value(group: Group, name: str) -> str:
    """Return a metric of a group with the metric's own number of decimals."""
    return percent(group.value(name), BY_NAME[name].digits)


def headline(report: Report) -> list[TableRow]:
    """Return (figure, count, rate, 95 % interval) of the total: every metric of the registry that
    has something to count.
    """
    total = report.total
    rows: list[TableRow] = [("lines", f"{total.lines:,}", "", "")]
    shown = [metric.name for metric in METRICS if _worth_a_row(total, metric.name)]
    rows += [_metric_row(total, name) for name in shown]
    if total.empty_references:
        read = f"{total.empty_reference_insertions} characters read"
        rows.append(("empty references", f"{total.empty_references:,}", "", read))
    for flag, label in (
        ("oov_ref", "outside the charset"),
        ("ctc_infeasible", "too few CTC frames"),
    ):
        if total.flags[flag]:
            rows.append((label, *_count_and_share(total.flags[flag], total.lines), ""))
    return rows


def _metric_row(group: Group, name: str) -> TableRow:
    metric = BY_NAME[name]
    sums = group.metrics[name]
    if metric.reduction == "mean of lines" or name == "ned":
        counts = ""
    elif metric.denominator is BY_NAME["exact"].denominator:
        counts = f"{sums.numerator:,.0f}"
    else:
        counts = f"{sums.numerator:,.0f}/{sums.denominator:,.0f}"
    interval = spread(group.intervals.get(name), metric.digits)
    return metric.title, counts, metric_value(group, name), interval


def _worth_a_row(group: Group, name: str) -> bool:
    """Leave out metrics that have nothing to count, and details that repeat another metric."""
    sums = group.metrics.get(name)
    if sums is None or not sums.denominator:
        return False
    if name in ("over_wide", "edge_spaces"):
        return sums.numerator > 0
    if name == "exact_ceiling":
        return sums.numerator < sums.denominator
    if name in _REPEATS:
        return group.value(name) != group.value(_REPEATS[name])
    return True


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
    if interval.units < FEW_DOCUMENTS:
        few = "; few, so take them as rough"
    else:
        few = ""
    return f"95 % intervals: bootstrap by source document ({interval.units}{few})"


def classes(report: Report) -> list[TableRow]:
    """Return (class, count, share of the failures, actionable, definition), the kinds of space_only
    indented below it.
    """
    rows: list[TableRow] = []
    total = report.total
    for error_class in FAILURES:
        meaning = MEANING[error_class]
        count = total.classes[error_class.value]
        actionable = f"{meaning.actionable}: {meaning.advice}"
        counts = _count_and_share(count, total.failures)
        rows.append((error_class.value, *counts, actionable, meaning.definition))
        if error_class is ErrorClass.SPACE_ONLY and count:
            for kind in SPACE_KINDS:
                counts = _count_and_share(total.space_kinds[kind], total.failures)
                rows.append((f"  {kind}", *counts, "", ""))
    return rows


def flags(report: Report) -> str:
    """Return the flags that occur and their numbers of lines as one line, most frequent first."""
    counts = [(count, flag) for flag, count in report.total.flags.items() if count]
    return (
        ", ".join(f"{flag} {count:,}" for count, flag in sorted(counts, reverse=True))
        or "none"
    )


GROUP_HEADS = (
    "lines",
    "exact",
    "95 %",
    "exact without spaces",
    "CER micro",
    "95 %",
    "CER macro",
    "WER",
)


def groups(by_name: Mapping[str, Group]) -> list[TableRow]:
    """Return (name, then the columns GROUP_HEADS) of each group."""
    rows: list[TableRow] = []
    for name, group in by_name.items():
        shown = {metric: metric_value(group, metric) for metric in GROUP_METRICS}
        rows.append(
            (
                name,
                f"{group.lines:,}",
                shown["exact"],
                spread(group.intervals.get("exact"), 1),
                shown["space_insensitive"],
                shown["cer"],
                spread(group.intervals.get("cer"), 2),
                shown["cer_macro"],
                shown["wer"],
            )
        )
    return rows


def class_groups(
    report: Report, subset_key: str
) -> list[tuple[str, str, Mapping[str, Group]]]:
    """Return (title, kind of GROUPINGS, groups) of the tables that show every class by where a line
    belongs. Squash ratios are left out where all lines fit, or none was measured.
    """
    titles = {"width": "width in px", "squash": "squash ratio", "subset": subset_key}
    found = [(title, kind, report.groups(kind)) for kind, title in titles.items()]
    return [
        (title, kind, by_name)
        for title, kind, by_name in found
        if by_name and not (kind == "squash" and list(by_name) == ["fits"])
    ]


TOKEN_HEADS = ("lines", "exact", "tokens", "accuracy", "precision", "error rate")


def tokens(report: TokenReport) -> list[TableRow]:
    """Return (group, then the columns TOKEN_HEADS): all lines, languages, subsets."""
    groups = {"all": report.total, **report.by_language}
    groups |= {
        name: group for name, group in report.by_subset.items() if name not in groups
    }
    return [
        (
            name,
            f"{group.lines:,}",
            f"{group.exact:,}",
            f"{group.reference_tokens:,}",
            percent(group.accuracy),
            percent(group.precision),
            percent(group.error_rate),
        )
        for name, group in groups.items()
    ]


def classes_by(groups: Mapping[str, Group]) -> list[TableRow]:
    """Return (name, lines, then the count of each class) of each group."""
    return [
        (name, f"{group.lines:,}", *(str(group.classes[c.value]) for c in FAILURES))
        for name, group in groups.items()
    ]


def confusion_rows(found: Sequence[Confusion]) -> list[TableRow]:
    """Return (reference, hypothesis, times) of confusions, with code points."""
    rows: list[TableRow] = []
    for confusion in found:
        times = f"{confusion.count:,}"
        if confusion.of:
            times += f" of {confusion.of:,}"
        rows.append((_quoted(confusion.reference), _quoted(confusion.hypothesis), times))
    return rows


def _quoted(characters: str) -> str:
    if characters:
        return f"{characters!r} {code_points(characters)}"
    return "ε"


def characters(scores: Sequence[CharacterScore]) -> list[TableRow]:
    """Return (character or kind, occurrences in the references, precision, recall, F1)."""
    rows: list[TableRow] = []
    for score in scores:
        is_character = len(score.name) == 1
        if is_character:
            name = f"{score.name!r} U+{ord(score.name):04X}"
        else:
            name = score.name
        shares = (percent(share) for share in (score.precision, score.recall, score.f1))
        rows.append((name, f"{score.occurrences:,}", *shares))
    return rows


def coverage_note(found: Calibration) -> str:
    """Return one sentence: how many lines could be accepted unchecked."""
    kept = ", ".join(
        f"{percent(share, 1)} at ≤ {100 * risk:g} %"
        for risk, share in found.coverage_at.items()
    )
    return f"Lines that can be accepted unchecked, by the share of wrong ones among them: {kept}."


def worst_lines(scores: Sequence[LineScore]) -> list[TableRow]:
    """Return (id, class, edits, both texts with their differences marked) of lines."""
    rows: list[TableRow] = []
    for score in scores:
        difference = marked_difference(score.result.reference, score.result.hypothesis)
        edits = str(score.edits[HEADLINE].distance)
        rows.append(
            (score.result.id, score.error_class.value, edits, _shortened(difference))
        )
    return rows


def _shortened(text: str) -> str:
    """A text that would fill the terminal, cut off; the lines file and the report have all of
    it.
    """
    left_out = len(text) - _LONGEST_SHOWN
    if left_out <= 0:
        return text
    return f"{text[:_LONGEST_SHOWN]}… (and {left_out:,} more characters)"


ABLATION_HEADS = (
    "decoder",
    "exact",
    "CER micro",
    "WER",
    "other text",
    "gained",
    "lost",
    "CER difference",
    "verdict",
)


def ablations(
    first: str, total: Group, others: Sequence[tuple[str, Group, Comparison, int]]
) -> list[TableRow]:
    """Return the columns ABLATION_HEADS of the first decoder and of (name, figures, comparison,
    lines with another text) of the others.
    """
    rows: list[TableRow] = [(first, *_decoder_figures(total), "", "", "", "", "")]
    for name, group, found, differing in others:
        rows.append(
            (
                name,
                *_decoder_figures(group),
                f"{differing:,}",
                str(found.only_b_exact),
                str(found.only_a_exact),
                spread(found.cer_difference, 2, "+", "pp"),
                found.verdict,
            )
        )
    return rows


def _decoder_figures(group: Group) -> list[str]:
    return [metric_value(group, name) for name in ("exact", "cer", "wer")]


def smallest_note(found: Comparison) -> str:
    """Return one sentence: which differences these lines are too few to show."""
    smallest = found.smallest_detectable
    exact = smallest["exact"]
    cer = smallest["cer"]
    if exact is None:
        return f"{found.lines:,} lines of one document: no difference can be shown"
    gap = f"{100 * exact:.1f} pp of exact lines"
    if cer is not None:
        gap += f" and {100 * cer:.2f} pp of CER"
    if found.unit == "line":
        of = "lines"
    else:
        of = f"lines of {found.units} documents"
    return (
        f"{found.lines:,} {of} show differences from about {gap} on (in {100 * POWER:.0f} % of"
        " cases)"
    )


def comparison(found: Comparison, unit: str = "documents") -> list[TableRow]:
    """Return (figure, other, this, difference, verdict) of a comparison. `unit` is what the test
    goes by where that is not lines.
    """
    a = found.both_exact + found.only_a_exact
    b = found.both_exact + found.only_b_exact
    exact_spread = spread(found.exact_difference, 1, "+", "pp")
    exact_gap = f"{b - a:+,} ({found.only_b_exact} gained, {found.only_a_exact} lost)"
    return [
        (
            "exact",
            f"{a:,}  {percent(rate(a, found.lines), 1)}",
            f"{b:,}  {percent(rate(b, found.lines), 1)}",
            f"{exact_gap}; {exact_spread}" if exact_spread else exact_gap,
            f"p = {found.p_exact:.2g}",
        ),
        (
            "CER micro",
            percent(found.cer_a),
            percent(found.cer_b),
            _cer_gap(found),
            f"p = {found.p_cer:.2g}",
        ),
        (
            unit if found.unit == "source" else "lines",
            f"{found.documents_worse} with fewer edits",
            f"{found.documents_better} with fewer edits",
            f"of {found.units:,}",
            found.verdict,
        ),
    ]


def _cer_gap(found: Comparison) -> str:
    if found.cer_a is None or found.cer_b is None:
        return "–"
    gap = f"{100 * (found.cer_b - found.cer_a):+.2f} pp"
    interval = spread(found.cer_difference, 2, "+", "pp")
    if interval:
        return f"{gap} ({interval})"
    return gap


def verdict_note(found: Comparison, unit: str = "documents") -> str:
    """Return one sentence: what the verdict rests on."""
    if found.verdict == "too few documents":
        return (
            f"Too few {unit} to tell: {found.units}; a test by {unit} needs {MIN_DOCUMENTS} of them"
            f" to reach p < {ALPHA:g}."
        )
    if found.unit == "line":
        return (
            "The test takes lines as independent, as their documents are not known; lines of one"
            " document fail together, so the p values are too small."
        )
    return (
        f"Verdict by a paired permutation test over {found.units} {unit} ({found.test}, p <"
        f" {ALPHA:g}, adjusted for testing exact lines and CER together)."
    )
