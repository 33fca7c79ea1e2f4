"""Compare two engines' readings of a document, line by line, against ground truth or the answers of a VLM."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.atomic import refuse_inputs, sha256_of, write_json
from nordocr_cli.compare.align import Group, align
from nordocr_cli.compare.verdict import ComparedLine, Verdict
from nordocr_cli.compare.vlm import PROMPT, AnswerFile, Endpoint, Question, ask
from nordocr_cli.data.layout import Layout
from nordocr_cli.data.layouts import read_layout
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import Region

if TYPE_CHECKING:
    from nordocr_cli.data.documents import Document

ENGINES = ("SVTRv2", "Tesseract")


@dataclass(frozen=True)
class Referee:
    """What the readings are held against: `truth` (a region file), or a VLM: recorded `answers` and, where `server` is given,
    new ones, which are added to `answers`."""

    truth: Path | None = None
    answers: Path | None = None
    model: str | None = None
    server: Endpoint | None = None

    def __post_init__(self) -> None:
        if (self.truth is None) == (self.answers is None):
            raise UsageError("name one reference: --truth REGIONS.json, or --vlm-cache ANSWERS.jsonl and/or --vlm-url URL")


@dataclass(frozen=True)
class Missing:
    """Pages of the document (from 0) that an engine's result does not have, and the lines there that another side has."""

    engine: str
    pages: tuple[int, ...]
    lines: int


@dataclass(frozen=True)
class Comparison:
    """The verdict and what it was made from: each input file with its SHA-256, and what the engines' results lack."""

    verdict: Verdict
    inputs: dict[str, dict[str, str]]
    prompt: str | None
    missing: tuple[Missing, Missing]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        missing = [asdict(engine) for engine in self.missing]
        return {**self.verdict.to_json(), "missing": missing, "inputs": self.inputs, "vlm_prompt": self.prompt}


def plan_compare3way(document: Path, first: Path, second: Path, referee: Referee, output: Path | None = None) -> dict[str, Any]:
    """Return what `compare3way` would do; no page is decoded and nobody is asked.

    Raises UsageError for a missing file and an output that is an input, DataError for readings or regions that are damaged.
    """
    if not document.is_file():
        raise UsageError(f"no document {document}")
    if referee.answers and not referee.server and not referee.answers.is_file():
        raise UsageError(f"no recorded answers {referee.answers}, and no --vlm-url to ask for them")
    sides = {"svtrv2": first, "tess": second} | ({"truth": referee.truth} if referee.truth else {})
    lines = {side: read_layout(path).num_regions for side, path in sides.items()}
    paths = {"document": document, **sides} | ({"answers": referee.answers} if referee.answers else {})
    if output:
        refuse_inputs(output, paths.values())
    asked = f"{referee.server.model} at {referee.server.url}" if referee.server else "nobody"
    return {key: str(path) for key, path in paths.items()} | {"lines": lines, "asks": asked}


def compare3way(
    document: Path,
    first: Path,
    second: Path,
    referee: Referee,
    *,
    engines: tuple[str, str] = ENGINES,
    output: Path | None = None,
    progress: Progress = SILENT,
) -> Comparison:
    """Compare the result files `first` and `second` (the consumer's JSON) of `document`; write the JSON to `output`.

    Raises UsageError for a missing file, DataError for a damaged one, for readings of pages that the document does not have,
    and when not one line has a reference; and what `vlm.ask` raises.
    """
    from nordocr_cli.data.documents import read_pages

    plan_compare3way(document, first, second, referee, output)
    pages = read_pages(document)
    layouts = {"first": read_layout(first), "second": read_layout(second)}
    sources = {"document": document, "first": first, "second": second}
    if referee.truth:
        layouts["truth"] = read_layout(referee.truth)
        sources["truth"] = referee.truth
    for side, layout in layouts.items():
        _require_pages(layout, pages, sources[side])
    indices = sorted({page.index for layout in layouts.values() for page in layout.pages})
    groups = [(index, group) for index in indices for group in align(*(_regions(layout, index) for layout in layouts.values()))]

    missing = (
        _missing(engines[0], layouts["first"], groups, len(pages)),
        _missing(engines[1], layouts["second"], groups, len(pages)),
    )
    for lacking, path in zip(missing, (first, second), strict=True):
        if lacking.pages:
            progress.warn(
                f"{path}: {len(lacking.pages)} of {len(pages)} pages are not in it; {lacking.lines} lines there are not read "
                f"by {lacking.engine}"
            )
    if referee.truth:
        lines = [_against_truth(index, group) for index, group in groups]
        reference = f"accuracy against ground truth ({referee.truth.name})"
    else:
        assert referee.answers is not None
        answers = AnswerFile(referee.answers, referee.model)
        lines = _ask_about(groups, pages, answers, referee.server, progress)
        reference = f"agreement with the VLM {answers.model}, not accuracy"
        if referee.answers.exists():
            sources["answers"] = referee.answers
    if all(line.reference is None for line in lines):
        raise DataError(f"not one of {len(lines)} lines has a reference ({_reasons(lines)}); there is nothing to compare")
    inputs = {role: {"path": str(path), "sha256": sha256_of(path)} for role, path in sources.items()}
    comparison = Comparison(Verdict(engines, reference, tuple(lines)), inputs, None if referee.truth else PROMPT, missing)
    if output:
        write_json(output, comparison.to_json())
    return comparison


def _against_truth(index: int, group: Group) -> ComparedLine:
    """This compares how lines are read, not how they are found: a line that neither engine was given is left out, counted."""
    first, second, truth = group.members
    excluded = "not in ground truth" if not truth else "" if first or second else "given to neither engine"
    return _line(index, group, None if excluded else group.text(2), excluded)


def _ask_about(
    groups: Sequence[tuple[int, Group]], pages: "Document", answers: AnswerFile, server: Endpoint | None, progress: Progress
) -> list[ComparedLine]:
    from nordocr_cli.data.documents import crop_box

    questions = []
    for index in dict.fromkeys(index for index, _ in groups):
        page = pages[index]
        # A copy of the crop, so that not every page stays in memory.
        questions += [Question(crop_box(page, group.box).copy(), index, group.box) for i, group in groups if i == index]
    asked = ask(questions, answers, server, progress)
    lines = []
    for (index, group), answer in zip(groups, asked, strict=True):
        text = answer.text if answer.status == "ok" else None
        lines.append(_line(index, group, text, "" if answer.status == "ok" else answer.status))
    if left_out := _reasons(lines):
        progress.warn(f"lines without an answer are left out of every figure: {left_out}")
    return lines


def _line(index: int, group: Group, reference: str | None, excluded: str) -> ComparedLine:
    return ComparedLine(index, group.box, reference, (group.text(0), group.text(1)), group.shape, excluded)


def _reasons(lines: Sequence[ComparedLine]) -> str:
    counts: dict[str, int] = {}
    for line in lines:
        if line.excluded:
            counts[line.excluded] = counts.get(line.excluded, 0) + 1
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def _regions(layout: Layout, index: int) -> tuple[Region, ...]:
    return next((page.regions for page in layout.pages if page.index == index), ())


def _missing(engine: str, layout: Layout, groups: Sequence[tuple[int, Group]], num_pages: int) -> Missing:
    pages = set(range(num_pages)) - {page.index for page in layout.pages}
    return Missing(engine, tuple(sorted(pages)), sum(index in pages for index, _ in groups))


def _require_pages(layout: Layout, pages: "Document", path: Path) -> None:
    beyond = [page.index for page in layout.pages if page.index >= len(pages)]
    if beyond:
        raise DataError(f"{path}: page_index {beyond[0]}, but {pages.path} has {len(pages)} pages; is it another document's?")
