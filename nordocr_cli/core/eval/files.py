"""The files of an evaluation: the report, its lines, and the page."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nordocr_cli import atomic
from nordocr_cli.core.eval.lines import open_lines
from nordocr_cli.errors import UsageError

if TYPE_CHECKING:
    from nordocr_cli.core.eval.run import EvalResult


def output_files(output: Path) -> tuple[Path, Path]:
    """The report's file and the lines' file: inside a folder, or FILE.json and FILE.lines.jsonl."""
    if output.suffix == ".json":
        return output, output.with_suffix(".lines.jsonl")
    if output.suffix == ".jsonl":
        raise UsageError(
            f"{output}: give a folder or FILE.json; the lines are written beside the report"
        )
    return output / "eval.json", output / "lines.jsonl"


def recorded_files(path: Path) -> tuple[Path, ...]:
    """The files that a recorded result may be: what was named, and the pair that eval writes."""
    return (path,) if path.suffix == ".jsonl" else (path, *output_files(path))


def write_result(result: "EvalResult", output: Path) -> "EvalResult":
    """Write lines, then the report with their hash: a reader sees a pair that belongs together, or
    an error.
    """
    report_file, lines_file = output_files(output)
    rows = (
        json.dumps(score.to_json() | others, ensure_ascii=False, allow_nan=False) + "\n"
        for score, others in zip(result.scores, result.other_readings(), strict=True)
    )
    atomic.write_text(lines_file, "".join(rows))
    named = {"file": lines_file.name, "sha256": atomic.sha256_of(lines_file)}
    atomic.write_json(report_file, result.to_json() | {"lines": named})
    return replace(result, files=(str(report_file), str(lines_file)))


def write_page(
    result: "EvalResult", store_path: Path | None, page: Path, crops: int
) -> "EvalResult":
    """Write the HTML page; its pictures and manifest rows are those of the store, where there is
    one.
    """
    from nordocr_cli.metrics.html_report import evaluation_page, gallery_rows, render_page

    reader, lost = result.model["name"], result.against.lost if result.against else ()
    if store_path is None:
        rows = gallery_rows(result.scores, reader=reader, lost=lost)
    else:
        from nordocr_cli.data.line_record import encode_line

        with open_lines(store_path, None, None) as lines:
            rows = gallery_rows(
                result.scores,
                reader=reader,
                crop_png=lambda i: encode_line(lines.image(i)).png,
                manifest=lambda i: lines.row(i).to_json(),
                crops=crops,
                lost=lost,
            )
    languages = ", ".join(
        f"{name} {group.lines:,}" for name, group in result.report.by_language.items()
    )
    where = (
        f"{result.report.total.lines:,} lines of {store_path}"
        if store_path
        else f"{result.report.total.lines:,} recorded lines"
    )
    content = evaluation_page(
        result.report,
        rows,
        title=f"{reader} on {store_path.name}" if store_path else reader,
        subtitle=f"{where} ({languages})" if languages else where,
        subset_key=result.subset_key,
        characters=result.characters,
        calibration=result.calibration,
        against=(result.against.other, result.against.comparison) if result.against else None,
        footer=f"Made by: {' '.join(map(shlex.quote, result.command))}" if result.command else "",
    )
    atomic.write_text(page, render_page(content))
    return replace(result, files=(*result.files, str(page)))
