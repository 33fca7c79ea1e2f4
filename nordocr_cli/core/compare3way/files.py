"""The files that compare3way writes: the result, the table of lines to decide, the report with
crops.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.atomic import sha256_of, write_json, write_text
from nordocr_cli.compare.adjudication import OpenLine, to_tsv
from nordocr_cli.compare.verdict import ComparedLine, Verdict

if TYPE_CHECKING:
    from nordocr_cli.data.documents import Document


@dataclass(frozen=True)
class Outputs:
    """Files to write: the `result` (JSON), the HTML `report`, and a table of the lines to decide
    (`open_lines`).
    """

    result: Path | None = None
    report: Path | None = None
    open_lines: Path | None = None

    def made(self, number: int) -> Path | None:
        """The files of readings made now, next to the result."""
        if self.result:
            return self.result.with_name(
                f"{self.result.stem}.{('svtrv2', 'tess', 'third')[number]}.json"
            )
        return None

    def paths(self) -> tuple[Path, ...]:
        """The files that are written at the end."""
        return tuple(path for path in (self.result, self.report, self.open_lines) if path)


def write_outputs(
    outputs: Outputs,
    result: Mapping[str, Any],
    verdict: Verdict,
    document: Path,
    pages: "Document",
    crops: int,
) -> None:
    """Write the requested files: `result` as JSON, the table of open lines, the report with at most
    `crops` pictures.
    """
    if outputs.result:
        write_json(outputs.result, result)
    if outputs.open_lines:
        write_text(
            outputs.open_lines,
            to_tsv(
                [_open_line(line, verdict) for line in verdict.lines if not line.settled]
            ),
        )
    if outputs.report:
        from nordocr_cli.compare.page import comparison_page
        from nordocr_cli.metrics.html_report import render_page

        page = comparison_page(verdict, document.name, _pictures(verdict, pages), crops)
        page = replace(page, made_from=_made_from(outputs, result))
        write_text(outputs.report, render_page(page))


def _made_from(outputs: Outputs, result: Mapping[str, Any]) -> dict[str, str]:
    """Return the hash of the saved result, or else those of the readings that it compares."""
    if outputs.result:
        return {"result": sha256_of(outputs.result)}
    inputs = result["inputs"]
    return {
        f"inputs.{name}": each["sha256"]
        for name, each in inputs.items()
        if isinstance(each, Mapping) and each.get("sha256")
    }


def _open_line(line: ComparedLine, verdict: Verdict) -> OpenLine:
    shown = {
        f"read by {name}": text
        for name, text in zip(verdict.readers, line.readings, strict=True)
    }
    shown["reference"] = line.reference
    return OpenLine(
        line.page_index,
        line.box,
        {name: "∅" if text is None else text for name, text in shown.items()},
    )


def _pictures(verdict: Verdict, pages: "Document") -> Callable[[ComparedLine], bytes]:
    """Return what gives a line's crop as PNG; one page is held at a time."""
    from nordocr_cli.compare.answers import question
    from nordocr_cli.data.documents import crop_box

    held: dict[int, Any] = {}

    def picture(line: ComparedLine) -> bytes:
        if line.page_index not in held:
            held.clear()
            held[line.page_index] = pages[line.page_index]
        return question(
            crop_box(held[line.page_index], line.box), line.page_index, line.box
        ).png

    return picture
