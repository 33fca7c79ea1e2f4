"""From line results to a report: counts first, every rate derived from them, in total and by language, subset and width.

LineResult ─score_line─▶ LineScore ─build_report─▶ Report ─to_json─▶ eval.json
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nordocr_cli.charset import Charset
from nordocr_cli.errors import DataError
from nordocr_cli.geometry import frames_needed
from nordocr_cli.metrics import significance, taxonomy
from nordocr_cli.metrics.significance import Interval
from nordocr_cli.metrics.taxonomy import FAILURES, FLAGS, MEANING, SPACE_KINDS, ErrorClass
from nordocr_cli.metrics.text import VIEWS, Edits, canonical, confusions, count_edits, describe, rate, word_edits
from nordocr_cli.records import LineResult

SCHEMA = "nordocr.report/1"
HEADLINE = "canonical"
TOP_CONFUSIONS = 30

# Upper ends of the width bands, in pixels at the geometry's height before squashing.
WIDTH_BANDS = (320, 768, 1024, 1792)

# Letters that a recognizer of Nordic text takes for one another; a substitution within a family is counted on its own.
_LOWER_FAMILIES = ("aåäáàæ", "oöøóò", "eéèêæ", "uüúù", "iíì", "yýÿ", "dð", "pþ")
_FAMILIES = (*_LOWER_FAMILIES, *(family.upper() for family in _LOWER_FAMILIES))


@dataclass(frozen=True, slots=True)
class LineScore:
    """One line, scored: its class, its flags, and its edits in each view and in words."""

    result: LineResult
    error_class: ErrorClass
    space_kind: str
    flags: tuple[str, ...]
    edits: Mapping[str, Edits]
    words: Edits

    @property
    def exact(self) -> bool:
        """Equal in the canonical view."""
        return self.error_class is ErrorClass.EXACT

    @property
    def has_reference(self) -> bool:
        """Whether the canonical reference has a character; only then the line has a character error rate."""
        return self.edits[HEADLINE].reference_length > 0

    def to_json(self) -> dict[str, Any]:
        """Return the line result with class, flags and edits (canonical view) as one JSON object."""
        edits = self.edits[HEADLINE]
        scored = {"class": self.error_class.value, "space_kind": self.space_kind, "flags": list(self.flags)}
        return (
            self.result.to_json()
            | {key: value for key, value in scored.items() if value}
            | {"edits": edits.distance, "characters": edits.reference_length}
        )


@dataclass(frozen=True)
class ViewScore:
    """Counts of one view over a group's lines. Lines whose reference is empty in that view are in `exact` alone."""

    lines: int
    exact: int
    substitutions: int
    insertions: int
    deletions: int
    reference_characters: int
    cer_sum: float  # sum of the lines' own character error rates
    ned_sum: float  # sum of the lines' normalized edit distances

    @property
    def edits(self) -> int:
        """Character edits in all."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def cer_micro(self) -> float | None:
        """Edits over reference characters, of all lines together."""
        return rate(self.edits, self.reference_characters)

    @property
    def cer_macro(self) -> float | None:
        """Mean of the lines' own character error rates."""
        return rate(self.cer_sum, self.lines)


@dataclass(frozen=True)
class Group:
    """Counts over a group of lines, and the rates that follow from them (None where there is nothing to divide by)."""

    lines: int
    empty_references: int
    empty_reference_insertions: int  # characters read where the reference has none; in no error rate
    views: Mapping[str, ViewScore]
    word_edits: int
    reference_words: int
    case_insensitive_exact: int
    lines_with_digits: int
    digits_exact: int  # of the lines with digits in the reference, those whose digits in order are right
    classes: Mapping[str, int]
    space_kinds: Mapping[str, int]
    flags: Mapping[str, int]

    @property
    def exact(self) -> int:
        """Lines equal in the canonical view."""
        return self.views["canonical"].exact

    @property
    def space_insensitive(self) -> int:
        """Lines equal once all spaces are taken out."""
        return self.views["squeezed"].exact

    @property
    def failures(self) -> int:
        """Lines not exact."""
        return self.lines - self.exact

    def rates(self) -> dict[str, float | None]:
        """Return every rate by name; these are the names that a quality gate may use."""
        headline = self.views[HEADLINE]
        return {
            "exact": rate(self.exact, self.lines),
            "space_insensitive": rate(self.space_insensitive, self.lines),
            "case_insensitive": rate(self.case_insensitive_exact, self.lines),
            "digits_exact": rate(self.digits_exact, self.lines_with_digits),
            "cer": headline.cer_micro,
            "cer_macro": headline.cer_macro,
            "cer_raw": self.views["raw"].cer_micro,
            "cer_squeezed": self.views["squeezed"].cer_micro,
            "wer": rate(self.word_edits, self.reference_words),
            "ned": rate(headline.ned_sum, self.lines),
            "over_wide": rate(self.flags["over_wide"], self.lines),
        }

    def to_json(self) -> dict[str, Any]:
        """Return counts and rates as plain JSON values."""
        return {
            "lines": self.lines,
            "failures": self.failures,
            "empty_references": self.empty_references,
            "empty_reference_insertions": self.empty_reference_insertions,
            "views": {name: dict(vars(view)) for name, view in self.views.items()},
            "word_edits": self.word_edits,
            "reference_words": self.reference_words,
            "case_insensitive_exact": self.case_insensitive_exact,
            "lines_with_digits": self.lines_with_digits,
            "digits_exact": self.digits_exact,
            "classes": dict(self.classes),
            "space_kinds": dict(self.space_kinds),
            "flags": dict(self.flags),
            "rates": self.rates(),
        }


@dataclass(frozen=True)
class Confusion:
    """`wanted` was read as `found` `count` times; "" is nothing. `of` is how often `wanted` stands in the references."""

    wanted: str
    found: str
    count: int
    of: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the pair with code points."""
        return {"wanted": describe(self.wanted), "found": describe(self.found), "count": self.count, "of": self.of}


@dataclass(frozen=True)
class Report:
    """What an evaluation found. `cer_interval` and `exact_interval` are bootstrap intervals of the canonical view."""

    total: Group
    by_language: Mapping[str, Group] = field(default_factory=dict)
    by_subset: Mapping[str, Group] = field(default_factory=dict)
    by_width: Mapping[str, Group] = field(default_factory=dict)
    cer_interval: Interval | None = None
    exact_interval: Interval | None = None
    confusions: tuple[Confusion, ...] = ()
    nordic_pairs: tuple[Confusion, ...] = ()

    @property
    def cer(self) -> float | None:
        """The headline: CER micro in the canonical view; None when no line has a reference."""
        return self.total.views[HEADLINE].cer_micro

    @property
    def exact_rate(self) -> float | None:
        """Share of lines read exactly (canonical view); None when there are no lines."""
        return rate(self.total.exact, self.total.lines)

    def group(self, kind: str, name: str) -> Group | None:
        """Return the group `name` of kind `language`, `subset` or `width`, None when it is not there."""
        groups: Mapping[str, Group] = getattr(self, f"by_{kind}")
        return groups.get(name)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values, without NaN or infinity."""
        return {
            "schema": SCHEMA,
            "headline_view": HEADLINE,
            "thresholds": taxonomy.thresholds(),
            "classes": {
                c.value: {"definition": MEANING[c].definition, "actionable": MEANING[c].actionable, "advice": MEANING[c].advice}
                for c in FAILURES
            },
            "flags": dict(FLAGS),
            "total": self.total.to_json(),
            "intervals": {
                "cer": self.cer_interval.to_json() if self.cer_interval else None,
                "exact": self.exact_interval.to_json() if self.exact_interval else None,
            },
            "by_language": {name: group.to_json() for name, group in self.by_language.items()},
            "by_subset": {name: group.to_json() for name, group in self.by_subset.items()},
            "by_width": {name: group.to_json() for name, group in self.by_width.items()},
            "confusions": [confusion.to_json() for confusion in self.confusions],
            "nordic_pairs": [confusion.to_json() for confusion in self.nordic_pairs],
        }


def score_line(result: LineResult, charset: Charset | None = None) -> LineScore:
    """Score one line. `charset` decides the flag oov_ref; without it nothing is out of vocabulary."""
    texts = {name: (view(result.reference), view(result.hypothesis)) for name, view in VIEWS.items()}
    error_class = taxonomy.classify(result.reference, result.hypothesis)
    reference = texts[HEADLINE][0]
    about_line = {
        "oov_ref": charset is not None and bool(charset.missing(reference)),
        "over_wide": result.squash_ratio > 1.0,
        "ctc_infeasible": result.frames is not None and frames_needed(reference) > result.frames,
    }
    return LineScore(
        result=result,
        error_class=error_class,
        space_kind=(taxonomy.space_kind(result.reference, result.hypothesis) if error_class is ErrorClass.SPACE_ONLY else ""),
        flags=(
            *taxonomy.text_flags(result.reference, result.hypothesis),
            *(flag for flag, holds in about_line.items() if holds),
        ),
        edits={name: count_edits(*pair) for name, pair in texts.items()},
        words=word_edits(result.reference, result.hypothesis),
    )


def build_report(results: Sequence[LineResult], charset: Charset | None = None, *, intervals: bool = True) -> Report:
    """Score `results` and sum them up; `intervals=False` leaves out the bootstrap (during training)."""
    return report_of([score_line(result, charset) for result in results], intervals=intervals)


def report_of(scores: Sequence[LineScore], *, intervals: bool = True) -> Report:
    """Sum up lines that are already scored."""
    cer_interval, exact_interval = bootstrap(scores) if intervals else (None, None)
    pairs: Counter[tuple[str, str]] = Counter()
    occurrences: Counter[str] = Counter()
    for score in scores:
        occurrences.update(canonical(score.result.reference))
        if not score.exact:
            pairs.update(confusions(score.result.reference, score.result.hypothesis))
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    every = [Confusion(wanted, found, n, occurrences[wanted] if wanted else None) for (wanted, found), n in ranked]
    return Report(
        total=_group(scores),
        by_language=_groups(scores, lambda s: s.result.language),
        by_subset=_groups(scores, lambda s: s.result.subset),
        by_width=_groups(scores, lambda s: width_band(s.result), order=[*_BAND_NAMES, _UNKNOWN_BAND]),
        cer_interval=cer_interval,
        exact_interval=exact_interval,
        confusions=tuple(every[:TOP_CONFUSIONS]),
        nordic_pairs=tuple(c for c in every if _same_family(c.wanted, c.found)),
    )


_BAND_NAMES = [f"<={end}" for end in WIDTH_BANDS] + [f">{WIDTH_BANDS[-1]}"]
_UNKNOWN_BAND = "unknown"


def width_band(result: LineResult) -> str:
    """Return the band of a line's width before squashing: `<=320`, … `>1792`, or `unknown`."""
    if result.width is None:
        return _UNKNOWN_BAND
    natural = round(result.width * result.squash_ratio)
    return next((name for name, end in zip(_BAND_NAMES, WIDTH_BANDS, strict=False) if natural <= end), _BAND_NAMES[-1])


def document_of(source: str) -> str:
    """Return the document of a source `document`, `document:page` or `document:page:row`."""
    return source.split(":", 1)[0]


def bootstrap(scores: Sequence[LineScore]) -> tuple[Interval | None, Interval | None]:
    """Return the intervals of CER micro and of the exact share, resampled by source document where every line has one."""
    rows = [(s.edits[HEADLINE].distance, s.edits[HEADLINE].reference_length, 1) if s.has_reference else (0, 0, 1) for s in scores]
    columns = [(*row, int(score.exact)) for row, score in zip(rows, scores, strict=True)]
    cer, exact = significance.ratio_intervals(columns, [(0, 1), (3, 2)], clusters_of(scores))
    return cer, exact


def clusters_of(scores: Sequence[LineScore]) -> list[str] | None:
    """Return the source document of each line, None when one of them is not known."""
    documents = [document_of(score.result.source) for score in scores]
    return documents if documents and all(documents) else None


def worst(scores: Iterable[LineScore], count: int) -> list[LineScore]:
    """Return the `count` failures with the most edits (then the highest share of wrong characters), worst first."""

    def badness(score: LineScore) -> tuple[int, float]:
        edits = score.edits[HEADLINE]
        return edits.distance, edits.distance / max(1, edits.reference_length)

    return sorted((score for score in scores if not score.exact), key=badness, reverse=True)[:count]


def report_from_json(value: Any, what: str = "report") -> Report:
    """Rebuild a report from `Report.to_json()`. Raises DataError naming `what` when it is damaged or too new."""
    try:
        if value["schema"] != SCHEMA:
            raise DataError(f"{what}: schema {value['schema']!r}; this nordocr reads {SCHEMA!r}")
        return Report(
            total=_group_from_json(value["total"]),
            by_language={name: _group_from_json(group) for name, group in value["by_language"].items()},
            by_subset={name: _group_from_json(group) for name, group in value["by_subset"].items()},
            by_width={name: _group_from_json(group) for name, group in value["by_width"].items()},
            cer_interval=significance.interval_from_json(value["intervals"]["cer"]),
            exact_interval=significance.interval_from_json(value["intervals"]["exact"]),
            confusions=tuple(_confusion_from_json(row) for row in value["confusions"]),
            nordic_pairs=tuple(_confusion_from_json(row) for row in value["nordic_pairs"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{what} is not a report ({type(error).__name__}: {error}); run `nordocr eval` again") from error


def _groups(scores: Sequence[LineScore], key: Callable[[LineScore], str], order: Sequence[str] = ()) -> dict[str, Group]:
    """Group by `key` in `order`, then by name; empty when no line has a name."""
    members: dict[str, list[LineScore]] = {}
    for score in scores:
        members.setdefault(key(score), []).append(score)
    if set(members) <= {""}:
        return {}
    names = [name for name in order if name in members] + sorted(set(members) - set(order))
    return {name or "(none)": _group(members[name]) for name in names}


def _group(scores: Sequence[LineScore]) -> Group:
    classes = Counter(score.error_class.value for score in scores)
    space_kinds = Counter(score.space_kind for score in scores)
    flags = Counter(flag for score in scores for flag in score.flags)
    without = [score for score in scores if not score.has_reference]
    with_words = [score.words for score in scores if score.has_reference]
    digits = [score for score in scores if any(c.isdigit() for c in score.result.reference)]
    return Group(
        lines=len(scores),
        empty_references=len(without),
        empty_reference_insertions=sum(score.edits[HEADLINE].insertions for score in without),
        views={name: _view_score([score.edits[name] for score in scores]) for name in VIEWS},
        word_edits=sum(words.distance for words in with_words),
        reference_words=sum(words.reference_length for words in with_words),
        case_insensitive_exact=sum(score.exact or _equal_without_case(score.result) for score in scores),
        lines_with_digits=len(digits),
        digits_exact=sum("digit_error" not in score.flags for score in digits),
        classes={c.value: classes[c.value] for c in ErrorClass},
        space_kinds={kind: space_kinds[kind] for kind in SPACE_KINDS},
        flags={flag: flags[flag] for flag in FLAGS},
    )


def _view_score(edits: Sequence[Edits]) -> ViewScore:
    counted = [e for e in edits if e.reference_length]
    return ViewScore(
        lines=len(counted),
        exact=sum(e.distance == 0 for e in edits),
        substitutions=sum(e.substitutions for e in counted),
        insertions=sum(e.insertions for e in counted),
        deletions=sum(e.deletions for e in counted),
        reference_characters=sum(e.reference_length for e in counted),
        cer_sum=sum(e.distance / e.reference_length for e in counted),
        ned_sum=sum(e.distance / max(e.reference_length, e.hypothesis_length) for e in edits if e.distance),
    )


def _equal_without_case(result: LineResult) -> bool:
    return canonical(result.reference).lower() == canonical(result.hypothesis).lower()


def _same_family(wanted: str, found: str) -> bool:
    return bool(wanted and found) and any(wanted in family and found in family for family in _FAMILIES)


def _group_from_json(value: Mapping[str, Any]) -> Group:
    fields = {key: value[key] for key in Group.__dataclass_fields__ if key != "views"}
    if missing := FLAGS.keys() - fields["flags"].keys():  # written by an earlier version
        raise ValueError(f"no flag {min(missing)!r}")
    return Group(views={name: ViewScore(**view) for name, view in value["views"].items()}, **fields)


def _confusion_from_json(row: Mapping[str, Any]) -> Confusion:
    wanted, found = ("" if side["code"] is None else str(side["char"]) for side in (row["wanted"], row["found"]))
    return Confusion(wanted, found, int(row["count"]), row["of"])
