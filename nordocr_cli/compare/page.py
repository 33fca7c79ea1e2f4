"""The report of a comparison as one HTML file: tables, and every line on which not all agree, with
its crop.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from nordocr_cli.compare.agreement import ASSUMPTION
from nordocr_cli.compare.verdict import OUTCOMES, ComparedLine, EngineScore, Verdict
from nordocr_cli.data.layouts.result_json import box_to_json
from nordocr_cli.metrics import tables
from nordocr_cli.metrics.html_report import Figure, GalleryRow, ReportPage, ReportTable
from nordocr_cli.metrics.text import rate

# What is worth a look comes first: the lines on which the first engine loses, then those that both
# lose.
_ORDER = {OUTCOMES[2]: 0, OUTCOMES[3]: 1, OUTCOMES[1]: 2, OUTCOMES[0]: 3}


def comparison_page(
    verdict: Verdict, document: str, picture: Callable[[ComparedLine], bytes], crops: int
) -> ReportPage:
    """Put together the page of one comparison; the first `crops` lines of the gallery get their
    `picture`.
    """
    shown = sorted((line for line in verdict.lines if not line.settled), key=_rank)
    # Pictures are cut page by page, so that a page is decoded once.
    pictured = sorted(shown[:crops], key=lambda line: line.page_index)
    pngs = {id(line): picture(line) for line in pictured}
    title = f"{document}: {' and '.join(verdict.readers[:2])}"
    note = ""
    if verdict.third:
        title += f", with {verdict.third}"
        note = "Wherever the reference is another reader, figures are agreement with that reader."
    return ReportPage(
        title=title,
        subtitle=verdict.reference,
        figures=_figures(verdict),
        note=note,
        sections=[
            replace(table, wide=len(table.columns) > 4) for table in result_tables(verdict)
        ],
        gallery=[
            _row(line, number, verdict, pngs.get(id(line)))
            for number, line in enumerate(shown, start=1)
        ],
        gallery_note=_gallery_note(verdict, len(shown), crops),
        footer="Give the corrected.jsonl that this page saves to compare3way with --decided.",
        facet_labels={"class": "who is right" if verdict.scored else "who agrees"},
    )


def _gallery_note(verdict: Verdict, shown: int, crops: int) -> str:
    note = f"{shown:,} of {len(verdict.lines):,} lines are not the same for all."
    if crops < shown:
        note += f" Pictures: the first {crops:,}."
    if verdict.scored and verdict.excluded:
        note += " Lines without a reference show the first reading instead."
    return note


def _rank(line: ComparedLine) -> tuple[int, int]:
    if line.reference is None:
        return 2, -sum(len(text or "") for text in line.readings)
    return _ORDER[line.outcome], -max(line.distances[:2])


def _figures(verdict: Verdict) -> list[Figure]:
    if verdict.scored:
        return [figure for score in verdict.scores for figure in _score_figures(score)]
    figures = []
    for pair in verdict.agreement.pairs:
        share = tables.percent(rate(pair.same, pair.lines), 1)
        label = f"{' and '.join(pair.readers)}: same"
        figures.append(Figure(label, share, f"of {pair.lines:,} lines"))
    return figures


def _score_figures(score: EngineScore) -> list[Figure]:
    edits = score.metrics["cer"].numerator
    return [
        Figure(
            f"{score.engine}: exact",
            tables.metric_value(score, "exact"),
            f"{score.exact:,} of {score.lines:,} lines",
        ),
        Figure(
            f"{score.engine}: CER", tables.metric_value(score, "cer"), f"{edits:,.0f} edits"
        ),
    ]


def result_tables(verdict: Verdict) -> list[ReportTable]:
    """Return the tables of a comparison, for a page or a terminal."""
    found = _scored_tables(verdict) if verdict.scored else []
    found.append(
        ReportTable(
            title="who reads the same" if verdict.scored else verdict.reference,
            columns=("", "who agrees", "lines", "lines without spaces"),
            rows=verdict.agreement_table(),
            right=(2, 3),
            facet="agreement",
        )
    )
    if verdict.third:
        found.append(
            ReportTable(
                title="without ground truth",
                columns=(
                    "reader",
                    "reads as the others where these agree",
                    "estimated accuracy",
                ),
                rows=verdict.reader_table(),
                right=(1, 2),
                note=f"The estimate is the square root of P12·P13/P23: it holds {ASSUMPTION}.",
            )
        )
    if verdict.excluded and verdict.scored:
        left_out = [(reason, str(count)) for reason, count in verdict.excluded.items()]
        found.append(
            ReportTable("left out of every figure", ("why", "lines"), left_out, (1,))
        )
    if verdict.uneven:
        shapes = [(shape, str(count)) for shape, count in verdict.uneven.items()]
        title = "lines that are not one region on each side"
        found.append(ReportTable(title, ("regions", "lines"), shapes, (1,)))
    return found


def _scored_tables(verdict: Verdict) -> list[ReportTable]:
    """The tables that need a reference."""
    first, second = verdict.engines
    heads = ("", first, second, "gap", "actionable")
    found = [ReportTable(verdict.reference, heads, verdict.table(), (1, 2, 3))]
    if verdict.comparison:
        found.append(
            ReportTable(
                title="is it chance?",
                columns=("", first, second, "difference", f"{second} is"),
                rows=tables.comparison(verdict.comparison, unit="pages"),
                note=tables.verdict_note(verdict.comparison, unit="pages"),
            )
        )
    found.append(
        ReportTable(
            title="right truncation by width",
            columns=("width in px at height 32", "lines", first, second),
            rows=verdict.truncation_table(),
            right=(1, 2, 3),
        )
    )
    outcomes = ("both right", f"only {first}", f"only {second}", "both wrong")
    found.append(
        ReportTable(
            title="by page",
            columns=("page", "lines", *outcomes, "gap", "left out"),
            rows=verdict.page_table(),
            right=range(8),
            facet="page",
        )
    )
    return found


def _row(
    line: ComparedLine, number: int, verdict: Verdict, png: bytes | None
) -> GalleryRow:
    named = dict(zip(verdict.readers, line.readings, strict=True))
    known = {name: text for name, text in named.items() if text is not None}
    absent = [name for name, text in named.items() if text is None]
    page = str(line.page_index + 1)
    facets = {
        "class": [_title(line, verdict)],
        "page": [page],
        "agreement": [verdict.pattern_of(line)],
    }
    if line.reference is not None:
        for side, name in enumerate(verdict.engines):
            facets[f"class of {name}"] = [line.classes[side].value]
    facets["note"] = _notes(line, absent)
    if line.reference is not None:
        reference = line.reference
    else:
        reference = next(iter(known.values()), "")
    place = f"page {page}, x {line.box.x:g}, y {line.box.y:g}"
    return GalleryRow(
        id=place,
        reference=reference,
        readings=known or {"nobody": ""},
        facets=facets,
        detail=f"line {number}",
        crop_png=png,
        manifest={"page": line.page_index + 1, "bbox": box_to_json(line.box)},
    )


def _title(line: ComparedLine, verdict: Verdict) -> str:
    if line.reference is None:
        return line.excluded or "no reference"
    first, second = verdict.engines
    names = dict(
        zip(
            OUTCOMES,
            ("both right", f"only {first}", f"only {second}", "both wrong"),
            strict=True,
        )
    )
    return names[line.outcome]


def _notes(line: ComparedLine, absent: Sequence[str]) -> list[str]:
    notes = [f"no reading of {name}" for name in absent]
    if line.decided:
        notes.append("decided by hand")
    if line.vlm:
        status, reason = line.vlm[:2]
        if reason and status != "unanswered":
            notes.append(f"VLM: {reason}")
    if set(line.shape.split(":")) != {"1"}:
        notes.append(f"regions {line.shape}")
    return notes
