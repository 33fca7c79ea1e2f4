"""A result as one HTML file that needs nothing else: figures, tables, curves, and a gallery of the
lines that were read wrong.

The page is made of parts that know nothing about evaluations (`Page`, `Table`, `Chart`,
`GalleryRow`); `evaluation_page` puts them together for one. Every text in it may be hostile: Jinja
escapes all, the gallery's data is JSON without a `<`, the script writes text nodes only, and the
content security policy allows exactly the style and the script that stand in the template.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from nordocr_cli import __version__
from nordocr_cli.metrics import tables
from nordocr_cli.metrics.calibration import Calibration
from nordocr_cli.metrics.characters import CharacterReport
from nordocr_cli.metrics.group import Group
from nordocr_cli.metrics.report import Report
from nordocr_cli.metrics.score import HEADLINE, LineScore, squash_band, width_band, worst
from nordocr_cli.metrics.significance import Comparison, Interval
from nordocr_cli.metrics.taxonomy import FAILURES, MEANING, TAXONOMY_VERSION
from nordocr_cli.metrics.text import canonical, rate, visible


@dataclass(frozen=True)
class Figure:
    """One of the numbers that the page opens with."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class ReportTable:
    """Rows of strings. The columns numbered in `right` are right-aligned; `bars` (0…1, one a row)
    are drawn behind the rows; with `facet`, the first cell of a row shows the gallery's rows of
    that value.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[int] = ()
    bars: Sequence[float] = ()
    facet: str = ""
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Chart:
    """A curve through `points`, each (x 0…1, y 0…y_max, size 0…1, what it says); `diagonal` draws y
    = x.
    """

    title: str
    x_label: str
    y_label: str
    points: Sequence[tuple[float, float, float, str]]
    y_max: float = 1.0
    diagonal: bool = False
    note: str = ""


@dataclass(frozen=True)
class GalleryRow:
    """One line of the gallery: the reference, the hypotheses (by name of the reader), and a PNG
    of the crop if there is one.

    `facets` are what the gallery can be filtered by (name → values), `detail` a few words next to
    them; `manifest` is the row that "accept reading" exports with the reading as its text.
    """

    id: str
    reference: str
    readings: Mapping[str, str]
    facets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    detail: str = ""
    crop_png: bytes | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportPage:
    """A complete page. `subtitle` says what was measured on what, `footer` how to do it again.
    `made_from` holds the SHA-256 of the files behind it by what they are, e.g. `result`, for
    `nordocr lineage`.
    """

    title: str
    subtitle: str
    figures: Sequence[Figure] = ()
    note: str = ""
    sections: Sequence[ReportTable | Chart] = ()
    gallery: Sequence[GalleryRow] = ()
    gallery_note: str = ""
    footer: str = ""
    made_from: Mapping[str, str] = field(default_factory=dict)
    # what a facet is called where it is not by its name
    facet_labels: Mapping[str, str] = field(default_factory=dict)


def _visible_text(value: Any) -> Any:
    """Return what the template prints for a value: text with its controls made visible, markup as
    it is.
    """
    from markupsafe import Markup

    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def render_page(page: ReportPage) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Every text that the template prints goes through here, so that no label can turn the page
        # around.
        finalize=_visible_text,
    )
    environment.filters |= {"csp_hash": _csp_hash, "visible": visible}
    environment.tests["chart"] = lambda section: isinstance(section, Chart)
    facets = _facets(page.gallery)
    # A row a line: the script reads a row when it draws its card, and filters by the numbers of
    # rows in `facets`.
    rows = ",\n".join(_island(_row_to_json(row)) for row in page.gallery)
    return (
        environment.get_template("report.html.j2")
        .render(
            page=page,
            facets=facets,
            index=Markup(_island(facets)),
            rows=Markup(rows),
            version=__version__,
        )
        .lstrip()
    )


def _facets(gallery: Sequence[GalleryRow]) -> dict[str, dict[str, list[int]]]:
    """The numbers of the rows by facet and value; 'width <=320' before 'width <=1024'."""
    found: dict[str, dict[str, list[int]]] = {}
    for number, row in enumerate(gallery):
        for name, values in row.facets.items():
            for value in filter(None, values):
                found.setdefault(name, {}).setdefault(visible(value), []).append(number)
    return {
        name: dict(sorted(values.items(), key=lambda item: _natural(item[0])))
        for name, values in found.items()
    }


def _natural(text: str) -> list[str | int]:
    """Sort <=320 before <=1024."""
    return [
        int(part) if index % 2 else part
        for index, part in enumerate(re.split("([0-9]+)", text))
    ]


def _island(value: Any) -> str:
    """JSON in ASCII, on one line, without the characters that mean something in HTML."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _csp_hash(content: str) -> str:
    return (
        "'sha256-"
        + base64.b64encode(hashlib.sha256(str(content).encode()).digest()).decode()
        + "'"
    )


def _row_to_json(row: GalleryRow) -> dict[str, Any]:
    return {
        "id": visible(row.id),
        "detail": visible(row.detail),
        "png": base64.b64encode(row.crop_png).decode() if row.crop_png else None,
        "readings": [
            {"name": visible(name), "text": text, "pieces": _pieces(row.reference, text)}
            for name, text in row.readings.items()
        ],
        "manifest": (
            {key: value for key, value in row.manifest.items() if key != "text"}
            | {"corrected_from": row.reference}
        ),
    }


def _pieces(reference: str, reading: str) -> list[list[str]]:
    """The canonical texts in pieces: [equal], or [reference, hypothesis] where they differ, spaces
    there as ␣.
    """
    a = canonical(reference)
    b = canonical(reading)
    pieces = []
    for op in Levenshtein.opcodes(a, b):
        expected = visible(a[op.src_start : op.src_end])
        found = visible(b[op.dest_start : op.dest_end])
        if op.tag == "equal":
            pieces.append([expected])
        else:
            pieces.append([expected.replace(" ", "␣"), found.replace(" ", "␣")])
    return pieces


def gallery_rows(
    scores: Sequence[LineScore],
    *,
    reader: str = "reading",
    crop_png: Callable[[int], bytes | None] | None = None,
    manifest: Callable[[int], Mapping[str, Any]] | None = None,
    crops: int = 0,
    lost: Sequence[str] = (),
) -> list[GalleryRow]:
    """Return the lines that were not read exactly, worst first; the first `crops` of them get their
    picture.

    `crop_png` and `manifest` are called with the line's number in `scores`. `lost` are ids of lines
    that the other reading of a comparison had right.
    """
    number = {score.result.id: index for index, score in enumerate(scores)}
    had_right = set(lost)
    rows = []
    for rank, score in enumerate(worst(scores, len(scores))):
        result = score.result
        index = number[score.result.id]
        edits = score.edits[HEADLINE].distance
        detail = [f"{edits} edit{'s' * (edits != 1)}"]
        detail += [] if result.width is None else [f"{result.width} px"]
        detail += (
            [] if result.confidence is None else [f"confidence {result.confidence:.2f}"]
        )
        facets = {
            "class": [score.error_class.value],
            "subset": [result.subset],
            "language": [result.language],
            "width": [width_band(result)],
            "squash": [squash_band(result)] if result.squash_ratio > 1 else [],
            "flag": list(score.flags),
        }
        if lost:
            facets["against"] = ["lost" if result.id in had_right else "wrong before too"]
        row = manifest(index) if manifest else {"id": result.id, "image": result.id}
        rows.append(
            GalleryRow(
                id=result.id,
                reference=result.reference,
                readings={reader: result.hypothesis},
                facets=facets,
                detail=" · ".join(detail),
                crop_png=crop_png(index) if crop_png and rank < crops else None,
                manifest=row,
            )
        )
    return rows


def evaluation_page(
    report: Report,
    gallery: Sequence[GalleryRow],
    *,
    title: str,
    subtitle: str,
    subset_key: str = "subset",
    characters: CharacterReport | None = None,
    calibration: Calibration | None = None,
    against: tuple[str, Comparison] | None = None,
) -> ReportPage:
    """Put together the page of one evaluation. `against` is the other result's name and the
    comparison with it.
    """
    sections: list[ReportTable | Chart] = []
    if against:
        sections.append(_against_table(*against))
    sections.append(_classes(report))
    sections.append(
        ReportTable(
            "All metrics", ("", "count", "rate", "95 %"), tables.headline(report), (1, 2, 3)
        )
    )
    sections += _tables_by_group(report, subset_key)
    if characters:
        sections += _character_tables(characters)
    sections += _confusion_tables(report)
    if calibration:
        sections += _calibration(calibration)

    return ReportPage(
        title=title,
        subtitle=subtitle,
        figures=_headline_figures(report),
        note=tables.interval_note(report),
        sections=sections,
        gallery=gallery,
        gallery_note=_gallery_note(gallery, report.total.lines),
        facet_labels={"subset": subset_key},
    )


def _headline_figures(report: Report) -> list[Figure]:
    total = report.total
    squeezed = total.metrics["space_insensitive"]
    words = total.metrics["wer"]
    return [
        Figure(
            "read exactly",
            tables.metric_value(total, "exact"),
            _interval(report.exact_interval, 1),
        ),
        Figure(
            "exact without spaces",
            tables.metric_value(total, "space_insensitive"),
            f"{squeezed.numerator:,.0f} lines",
        ),
        Figure(
            "character error rate",
            tables.metric_value(total, "cer"),
            _interval(report.cer_interval, 2),
        ),
        Figure(
            "word error rate",
            tables.metric_value(total, "wer"),
            f"{words.numerator:,.0f} of {words.denominator:,.0f} words",
        ),
    ]


def _against_table(name: str, comparison: Comparison) -> ReportTable:
    notes = (tables.verdict_note(comparison), f"{tables.smallest_note(comparison)}.")
    return ReportTable(
        title=f"Against {name}",
        columns=("", "other", "this", "difference", "verdict"),
        rows=tables.comparison(comparison),
        note=" ".join(notes),
        wide=True,
    )


def _tables_by_group(report: Report, subset_key: str) -> list[ReportTable]:
    found = []
    by_class = tables.class_groups(report, subset_key)
    for label, facet, by_name in (*by_class, ("language", "language", report.by_language)):
        if by_name:
            found.append(_group_table(f"By {label}", label, facet, by_name))

    classes = [c.value.replace("_", " ") for c in FAILURES]
    for label, facet, by_name in by_class:
        found.append(
            ReportTable(
                title=f"Error classes by {label}",
                columns=(label, "lines", *classes),
                rows=tables.classes_by(by_name),
                right=range(1, 2 + len(FAILURES)),
                facet=facet,
            )
        )
    return found


def _character_tables(characters: CharacterReport) -> list[ReportTable]:
    heads = ("characters", "occurrences", "precision", "recall", "F1")
    weakest = [score for score in characters.each if score.missed + score.invented][:15]
    right = range(1, 5)
    return [
        ReportTable(
            "By kind of character", heads, tables.characters(characters.kinds), right
        ),
        ReportTable(
            "Characters with the most mistakes", heads, tables.characters(weakest), right
        ),
    ]


def _confusion_tables(report: Report) -> list[ReportTable]:
    """Both tables' bars have one scale, so that they can be compared."""
    frequent = report.confusions[:15]
    nordic = report.nordic_pairs[:15]
    largest = max((c.count for c in (*frequent, *nordic)), default=1)
    heads = ("reference", "hypothesis", "times")
    found = []
    for label, confusions in (
        ("Most frequent confusions", frequent),
        ("Nordic letters", nordic),
    ):
        if confusions:
            bars = [c.count / largest for c in confusions]
            found.append(
                ReportTable(label, heads, tables.confusion_rows(confusions), (2,), bars)
            )
    return found


def _gallery_note(gallery: Sequence[GalleryRow], lines: int) -> str:
    pictures = sum(row.crop_png is not None for row in gallery)
    note = f"{len(gallery):,} of {lines:,} lines are not exact, the worst first."
    if pictures == len(gallery):
        return note
    if not pictures:
        return f"{note} Without a line store there are no pictures."
    return f"{note} Pictures: the worst {pictures:,}."


def _interval(interval: Interval | None, digits: int) -> str:
    if interval:
        return f"95 %: {tables.spread(interval, digits)}"
    return ""


def _classes(report: Report) -> ReportTable:
    total = report.total
    counts = [total.classes[c.value] for c in FAILURES]
    rows = [
        (
            c.value,
            f"{count:,}",
            tables.percent(rate(count, total.failures), 1),
            MEANING[c].definition,
        )
        for c, count in zip(FAILURES, counts, strict=True)
    ]
    largest = max(1, *counts)
    return ReportTable(
        title="Errors by class",
        columns=("class", "lines", "of errors", "means"),
        rows=rows,
        right=(1, 2),
        bars=[count / largest for count in counts],
        facet="class",
        note=(
            f"Taxonomy {TAXONOMY_VERSION}: each wrong line has exactly one class. Flags:"
            f" {tables.flags(report)}."
        ),
    )


def _group_table(
    title: str, label: str, facet: str, by_name: Mapping[str, Group]
) -> ReportTable:
    cers = [group.value("cer") or 0.0 for group in by_name.values()]
    bars = [cer / (max(cers) or 1) for cer in cers]
    return ReportTable(
        title,
        (label, *tables.GROUP_HEADS),
        tables.groups(by_name),
        range(1, 9),
        bars,
        facet,
        "Bars: CER.",
        wide=True,
    )


def _calibration(calibration: Calibration) -> list[ReportTable | Chart]:
    used = [
        (b, b.confidence, b.exact_rate)
        for b in calibration.bins
        if b.confidence is not None and b.exact_rate is not None
    ]
    largest = max(b.lines for b, _, _ in used)
    if calibration.without:
        without = f" {calibration.without:,} lines have no confidence."
    else:
        without = ""
    reliability = Chart(
        title="Calibration",
        x_label="confidence",
        y_label="read exactly",
        points=[
            (
                promised,
                found,
                (b.lines / largest) ** 0.5,
                f"{b.lines:,} lines, mean confidence {promised:.3f}, exact {found:.3f}",
            )
            for b, promised, found in used
        ],
        diagonal=True,
        note=(
            f"Expected calibration error {tables.percent(calibration.ece, 1)}. On the dashed line,"
            f" confidence is the share of exact lines.{without}"
        ),
    )
    coverage = Chart(
        title="Coverage and risk",
        x_label="share of lines accepted, most confident first",
        y_label="wrong among them",
        points=[
            (
                p.lines / calibration.lines,
                p.risk,
                0.0,
                f"confidence ≥ {p.threshold:.3f}: {p.lines:,} lines, {p.wrong:,} wrong",
            )
            for p in calibration.curve
        ],
        y_max=_round_up(max(p.risk for p in calibration.curve)),
        note=tables.coverage_note(calibration),
    )
    return [reliability, coverage]


def _round_up(value: float) -> float:
    """The smallest of a few round shares that is not below `value`."""
    return next(
        (share for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if value <= share), 1.0
    )
