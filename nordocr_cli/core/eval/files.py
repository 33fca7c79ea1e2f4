"""The files of an evaluation: the report, its lines, and the page."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nordocr_cli import atomic
from nordocr_cli.errors import UsageError

if TYPE_CHECKING:
    from nordocr_cli.core.eval.result import EvalResult
    from nordocr_cli.metrics.html_report import GalleryRow


def output_files(output: Path) -> tuple[Path, Path]:
    """The report's file and the lines' file: inside a folder, or FILE.json and FILE.lines.jsonl."""
    if output.suffix == ".json":
        return output, output.with_suffix(".lines.jsonl")
    if output.suffix == ".jsonl":
        raise UsageError(
            f"{output}: give a folder or FILE.json; the lines are written next to the report"
        )
    return output / "eval.json", output / "lines.jsonl"


def recorded_files(path: Path) -> tuple[Path, ...]:
    """The files that a recorded result may be: what was named, and the pair that eval writes."""
    if path.suffix == ".jsonl":
        return (path,)
    return (path, *output_files(path))


def write_eval_result(result: "EvalResult", output: Path) -> "EvalResult":
    """Write lines, then the report with their hash: a reader sees a pair that belongs together, or
    an error.
    """
    from nordocr_cli.core.eval.result import LinesFile

    report_file, lines_file = output_files(output)
    rows = (
        json.dumps(score.to_json() | others, ensure_ascii=False, allow_nan=False) + "\n"
        for score, others in zip(result.scores, result.other_readings(), strict=True)
    )
    atomic.write_text(lines_file, "".join(rows))
    named = LinesFile(file=lines_file.name, sha256=atomic.sha256_of(lines_file))
    atomic.write_json(report_file, result.to_file(named).to_json())
    return replace(result, files=(str(report_file), str(lines_file)))


def write_page(
    result: "EvalResult", store_path: Path | None, page: Path, crops: int
) -> "EvalResult":
    """Write the HTML page; its pictures and manifest rows are those of the store, where there is
    one.
    """
    from nordocr_cli.metrics.html_report import evaluation_page, render_page

    reader = result.model["name"]
    total = result.report.total
    where = f"{total.lines:,} recorded lines"
    if store_path:
        where = f"{total.lines:,} lines of {store_path}"
    languages = ", ".join(
        f"{name} {group.lines:,}" for name, group in result.report.by_language.items()
    )
    against = None
    if result.against:
        against = (result.against.other, result.against.comparison)
    content = evaluation_page(
        result.report,
        _gallery(result, store_path, crops),
        title=f"{reader} on {store_path.name}" if store_path else reader,
        subtitle=f"{where} ({languages})" if languages else where,
        subset_key=result.subset_key,
        characters=result.characters,
        calibration=result.calibration,
        against=against,
    )
    footer = f"Made by: {shlex.join(result.command)}" if result.command else ""
    content = replace(content, footer=footer, made_from=_made_from(result))
    atomic.write_text(page, render_page(content))
    return replace(result, files=(*result.files, str(page)))


def _made_from(result: "EvalResult") -> dict[str, str]:
    """Return the hash of the saved result, or else that of the model, where there is one."""
    saved = [Path(name) for name in result.files if name.endswith(".json")]
    if saved:
        return {"result": atomic.sha256_of(saved[0])}
    model = result.model.get("sha256")
    return {"model": str(model)} if model else {}


def _gallery(
    result: "EvalResult", store_path: Path | None, crops: int
) -> "Sequence[GalleryRow]":
    from nordocr_cli.core.eval.lines import open_lines
    from nordocr_cli.data.line_record import encode_line
    from nordocr_cli.metrics.html_report import gallery_rows

    lost = result.against.lost if result.against else ()
    reader = result.model["name"]
    if store_path is None:
        return gallery_rows(result.scores, reader=reader, lost=lost)

    with open_lines(store_path, None, None) as lines:
        stored = len(lines)
        return gallery_rows(
            result.scores,
            reader=reader,
            crop_png=lambda i: encode_line(lines.image(i)).png if i < stored else None,
            manifest=lambda i: lines.row(i).to_json() if i < stored else {},
            crops=crops,
            lost=lost,
        )
