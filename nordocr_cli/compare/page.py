"""The report of a comparison as one HTML file: tables, and every line on which not all agree, with
its crop.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from nordocr_cli.compare.agreement import ASSUMPTION
from nordocr_cli.compare.verdict import OUTCOMES, ComparedLine, Verdict
from nordocr_cli.data.layouts.result_json import box_to_json
from nordocr_cli.metrics import tables
from nordocr_cli.metrics.html_report import Figure, GalleryRow, Page, Table
from nordocr_cli.metrics.significance import FEW_CLUSTERS, Comparison
from nordocr_cli.metrics.text import rate

# What is worth a look comes first: the lines on which the first engine loses, then those that both
# lose.
_ORDER = {OUTCOMES[2]: 0, OUTCOMES[3]: 1, OUTCOMES[1]: 2, OUTCOMES[0]: 3}


def comparison_page(
    verdict: Verdict, document: str, picture: Callable[[ComparedLine], bytes], crops: int
) -> Page:
    """Put together the page of one comparison; the first `crops` lines of the gallery get their
    `picture`.
    """
    shown = sorted((line for line in verdict.lines if not line.settled), key=_rank)
    # Pictures are cut page by page, so that a page is decoded once.
    pictured = sorted(shown[:crops], key=lambda line: line.page_index)
    pngs = {id(line): picture(line) for line in pictured}
    note = f"{len(shown):,} of {len(verdict.lines):,} lines are not the same for all."
    note += f" Pictures: the first {crops:,}." if crops < len(shown) else ""
    if verdict.scored and verdict.excluded:
        note += " Where there is no reference, the first reading stands in its place."
    return Page(
        title=f"{document}: {' and '.join(verdict.readers[:2])}"
        + (f", beside {verdict.third}" if verdict.third else ""),
        subtitle=verdict.reference,
        figures=_figures(verdict),
        note=(
            "Wherever the reference is another reader, figures are agreement with that reader."
            if verdict.third
            else ""
        ),
        sections=[replace(table, wide=len(table.columns) > 4) for table in result_tables(verdict)],
        gallery=[
            _row(line, number, verdict, pngs.get(id(line)))
            for number, line in enumerate(shown, start=1)
        ],
        gallery_note=note,
        footer=(
            "The corrected.jsonl that this page saves can be given to compare3way with --decided."
        ),
        facet_labels={"class": "who is right"} if verdict.scored else {"class": "who agrees"},
    )


def _rank(line: ComparedLine) -> tuple[int, int]:
    if line.reference is None:
        return 2, -sum(len(text or "") for text in line.readings)
    return _ORDER[line.outcome], -max(edits.distance for edits in line.edits[:2])


def _figures(verdict: Verdict) -> list[Figure]:
    figures = []
    if verdict.scored:
        for score in verdict.scores:
            share = tables.percent(rate(score.exact, score.lines), 1)
            figures.append(
                Figure(f"{score.engine}: exact", share, f"{score.exact:,} of {score.lines:,} lines")
            )
            figures.append(
                Figure(
                    f"{score.engine}: CER",
                    tables.percent(score.cer_micro),
                    f"{score.edits:,} edits",
                )
            )
    else:
        for pair in verdict.agreement.pairs:
            names = " and ".join(verdict.readers[side] for side in (pair.first, pair.second))
            figures.append(
                Figure(
                    f"{names}: same",
                    tables.percent(rate(pair.same, pair.lines), 1),
                    f"of {pair.lines:,} lines",
                )
            )
    return figures


def result_tables(verdict: Verdict) -> list[Table]:
    """Return the tables of a comparison, for a page or a terminal."""
    first, second = verdict.engines
    found = []
    if verdict.scored:
        found.append(
            Table(
                verdict.reference,
                ("", first, second, "gap", "actionable"),
                verdict.table(),
                (1, 2, 3),
            )
        )
        if verdict.comparison:
            heads = ("", first, second, "difference", f"{second} is")
            found.append(
                Table(
                    "is it chance?",
                    heads,
                    tables.comparison(verdict.comparison),
                    note=_resampled(verdict.comparison),
                )
            )
        by_page = (
            "page",
            "lines",
            "both right",
            f"only {first}",
            f"only {second}",
            "both wrong",
            "gap",
            "left out",
        )
        found.append(Table("by page", by_page, verdict.page_table(), range(8), facet="page"))
    patterns = ("", "who agrees", "lines", "spaces aside")
    title = "who reads the same" if verdict.scored else verdict.reference
    found.append(Table(title, patterns, verdict.agreement_table(), (2, 3), facet="agreement"))
    if verdict.third:
        readers = ("reader", "reads as the others where these agree", "estimated accuracy")
        note = f"The estimate is the square root of P12·P13/P23: it holds {ASSUMPTION}."
        found.append(
            Table("without ground truth", readers, verdict.reader_table(), (1, 2), note=note)
        )
    if verdict.excluded and verdict.scored:
        left_out = [(reason, str(count)) for reason, count in verdict.excluded.items()]
        found.append(Table("left out of every figure", ("why", "lines"), left_out, (1,)))
    if verdict.uneven:
        shapes = [(shape, str(count)) for shape, count in verdict.uneven.items()]
        found.append(
            Table("lines that are not one region on each side", ("regions", "lines"), shapes, (1,))
        )
    return found


def _resampled(comparison: Comparison) -> str:
    drawn = comparison.cer_difference
    if drawn is None:
        return "No interval: not one line has characters to be read."
    if drawn.unit == "line":
        return (
            "The interval is a bootstrap by line: lines of one page share its scan, so it is"
            " narrower than the truth."
        )
    few = "; few, so take it as rough" if drawn.units < FEW_CLUSTERS else ""
    return (
        f"The interval is a bootstrap by page ({drawn.units}{few}); McNemar's p takes the lines as"
        " independent."
    )


def _row(line: ComparedLine, number: int, verdict: Verdict, png: bytes | None) -> GalleryRow:
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
    reference = line.reference if line.reference is not None else next(iter(known.values()), "")
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
        zip(OUTCOMES, ("both right", f"only {first}", f"only {second}", "both wrong"), strict=True)
    )
    return names[line.outcome]


def _notes(line: ComparedLine, absent: Sequence[str]) -> list[str]:
    notes = [f"no reading of {name}" for name in absent]
    notes += ["decided by hand"] if line.decided else []
    notes += (
        [f"VLM: {line.vlm[1]}"] if line.vlm and line.vlm[1] and line.vlm[0] != "unanswered" else []
    )
    return notes + ([f"regions {line.shape}"] if set(line.shape.split(":")) != {"1"} else [])
