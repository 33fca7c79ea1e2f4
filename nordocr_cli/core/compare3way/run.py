"""Compare two engines' readings of a document, line by line, with ground truth, a VLM's answers, a
consensus, or only with each other.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.atomic import sha256_of
from nordocr_cli.compare.adjudication import Decision, match, read_decisions
from nordocr_cli.compare.agreement import consensus
from nordocr_cli.compare.align import RegionGroup, align
from nordocr_cli.compare.answers import PROMPT, PROMPT_SHA256, AnswerFile
from nordocr_cli.compare.verdict import ComparedLine, Verdict
from nordocr_cli.core.compare3way.files import write_outputs
from nordocr_cli.core.compare3way.plan import (
    ComparePlan,
    CompareRequest,
    ReferenceSource,
    plan,
)
from nordocr_cli.core.compare3way.readings import ReadingSource, readings
from nordocr_cli.core.compare3way.result import (
    Compare3wayResult,
    Decided,
    Missing,
    VlmInput,
)
from nordocr_cli.core.compare3way.vlm import ask_missing, questions_of, with_answers
from nordocr_cli.data.layouts.layout import Layout
from nordocr_cli.data.layouts.result_json import write_result
from nordocr_cli.decode.probabilities import second_softmax_note
from nordocr_cli.errors import DataError
from nordocr_cli.metrics.text import canonical, count_edits
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import Region

if TYPE_CHECKING:
    from nordocr_cli.data.documents import Document

_SIDES = ("first", "second", "third")
_Groups = Sequence[tuple[int, RegionGroup]]


def compare3way(
    document: Path,
    first: ReadingSource,
    second: ReadingSource,
    reference: ReferenceSource,
    *,
    progress: Progress = SILENT,
    **options: Any,
) -> Compare3wayResult:
    """Plan and run a comparison; `options` are the other fields of CompareRequest. Raises what
    `plan` and `run` raise.
    """
    return run(
        plan(CompareRequest(document, first, second, reference, **options)), progress
    )


def run(plan: ComparePlan, progress: Progress = SILENT) -> Compare3wayResult:
    """Compare two engines' readings of a document, and write the outputs.

    Raises DataError for a damaged file, for readings of pages that the document does not have, when
    not one line has the requested reference, and with `offline` when an answer is missing; and what
    `predict` and `vlm.ask` raise.
    """
    from nordocr_cli.data.documents import read_pages

    request = plan.request
    pages = read_pages(request.document)
    pages.page(0)  # a document that is no image is refused before anybody reads
    layouts, written = _read_layouts(plan, pages, progress)
    groups = _align(layouts)
    if not groups:
        raise DataError("neither result has a line; there is nothing to compare")

    missing = tuple(
        _missing(engine, layout, groups, len(pages))
        for engine, layout in zip(request.engines, layouts, strict=False)
    )
    _warn_of_missing(missing, request, len(pages), progress)
    _warn_of_confidences(layouts, request, progress)
    lines = _compared_lines(groups, request)
    third = _third_name(request)
    vlm = None
    if request.reference.answers:
        lines, third, vlm = _ask_vlm(lines, request, pages, progress)
    lines = [
        _with_reference(line, group, request.reference.reference, len(request.sources))
        for line, (_, group) in zip(lines, groups, strict=True)
    ]
    decided = None
    if request.reference.decided:
        lines, decided = _decide(
            lines, *read_decisions(request.reference.decided), progress
        )
    _require_a_reference(lines, request.reference)

    name = _reference_name(request.reference, (*request.engines, third), decided)
    verdict = Verdict(request.engines, name, tuple(lines), third)
    result = Compare3wayResult(
        verdict=verdict,
        inputs=_inputs(request),
        command=request.command,
        missing=missing,
        decided=decided,
        vlm=vlm,
        written=(*written, *request.outputs.paths()),
    )
    write_outputs(
        request.outputs, result.to_json(), verdict, request.document, pages, request.crops
    )
    return result


def _read_layouts(
    plan: ComparePlan, pages: "Document", progress: Progress
) -> tuple[list[Layout], list[Path]]:
    """The readings of every engine, then ground truth; and the files of readings made now."""
    request = plan.request
    layouts = []
    written = []
    for number, source in enumerate(request.sources):
        layout = plan.layouts[number]
        if layout is None:
            layout = readings(
                source,
                request.document,
                plan.regions,
                request.language,
                request.threads,
                progress,
            )
        kept = request.outputs.made(number) if source.model else None
        if kept:
            write_result(kept, layout.pages)
            written.append(kept)
        _require_pages(layout, pages, str(source))
        layouts.append(layout)

    if plan.truth is not None:
        _require_pages(plan.truth, pages, str(request.reference.truth))
        layouts.append(plan.truth)
    return layouts, written


def _align(layouts: Sequence[Layout]) -> _Groups:
    indices = sorted({page.index for layout in layouts for page in layout.pages})
    groups = []
    for index in indices:
        sides = [_regions(layout, index) for layout in layouts]
        groups += [(index, group) for group in align(*sides)]
    return groups


def _compared_lines(groups: _Groups, request: CompareRequest) -> list[ComparedLine]:
    sides = range(len(request.sources))
    return [
        ComparedLine(
            page_index=index,
            box=group.box,
            reference=None,
            readings=tuple(group.text(side) for side in sides),
            shape=group.shape,
        )
        for index, group in groups
    ]


def _third_name(request: CompareRequest) -> str | None:
    third = request.reference.third
    if third is None:
        return None
    name = third.model or (third.result.stem if third.result else "third")
    if name in request.engines:
        return f"{name} (third)"
    return name


def _ask_vlm(
    lines: Sequence[ComparedLine],
    request: CompareRequest,
    pages: "Document",
    progress: Progress,
) -> tuple[list[ComparedLine], str, VlmInput]:
    """Add the VLM's readings to the lines; return them, the VLM's name and the requests."""
    reference = request.reference
    assert reference.answers is not None
    answers = AnswerFile(reference.answers, reference.model)
    name = answers.model or "VLM"
    if name in request.engines:
        name = f"{name} (VLM)"

    questions = list(questions_of(lines, pages))
    outcome = ask_missing(questions, answers, reference.server, reference.offline, progress)
    counted, tokens_in, tokens_out = answers.tokens(questions)
    vlm = VlmInput(
        model=name,
        prompt=PROMPT,
        prompt_sha256=PROMPT_SHA256,
        answers=str(reference.answers),
        answers_sha256=answers.digest(questions),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        tokens_told_by=counted,
    )
    return with_answers(lines, outcome.answers, progress), name, vlm


def _with_reference(
    line: ComparedLine, group: RegionGroup, kind: str, engines: int
) -> ComparedLine:
    """Give the line its reference, or the reason why it has none."""
    if kind == "truth":
        # This compares how lines are read, not how they are found: a line that neither engine was
        # given is left out, and counted.
        truth = engines  # the side after the engines
        if not group.members[truth]:
            return replace(line, excluded="not in ground truth")
        if not group.members[0] and not group.members[1]:
            return replace(line, excluded="given to neither engine")
        return replace(line, reference=group.text(truth))
    if kind == "vlm":
        assert line.vlm is not None
        reading = line.readings[2]
        return replace(
            line, reference=reading, excluded="" if reading is not None else line.vlm[0]
        )
    if kind == "consensus":
        shared = consensus(line.readings)
        excluded = "no two read the same" if shared is None else ""
        return replace(line, reference=shared, excluded=excluded)
    return replace(line, excluded="no reference")


def _decide(
    lines: Sequence[ComparedLine],
    decisions: Sequence[Decision],
    left_open: int,
    progress: Progress,
) -> tuple[list[ComparedLine], Decided]:
    """Replace references by a person's decisions."""
    texts, stray = match(decisions, [(line.page_index, line.box) for line in lines])
    if stray:
        at = f"page {stray[0].page_index + 1}, x {stray[0].box.x:g}, y {stray[0].box.y:g}"
        progress.warn(
            f"{len(stray)} decisions match no unique line here, the first at {at}; ignored"
        )

    decided = list(lines)
    edits = []
    for number, text in texts.items():
        before = lines[number].reference
        decided[number] = replace(
            lines[number], reference=text, before=before, excluded="", decided=True
        )
        if before is not None:
            edits.append(count_edits(canonical(before), canonical(text)).distance)
    return decided, Decided(
        lines=len(texts),
        changed=sum(distance > 0 for distance in edits),
        edits=sum(edits),
        new=len(texts) - len(edits),
        open=left_open,
        stray=len(stray),
    )


def _require_a_reference(lines: Sequence[ComparedLine], reference: ReferenceSource) -> None:
    if reference.reference == "none" or any(line.reference is not None for line in lines):
        return
    counts = Counter(line.excluded for line in lines if line.excluded)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    raise DataError(
        f"not one of {len(lines)} lines has a reference ({reasons}); there is nothing to compare"
    )


def _reference_name(
    reference: ReferenceSource, readers: tuple[str | None, ...], decided: Decided | None
) -> str:
    """What every table calls its reference."""
    names = [name for name in readers if name]
    first, second = names[:2]
    truth = reference.truth.name if reference.truth else ""
    name = {
        "truth": f"accuracy against ground truth ({truth})",
        "vlm": f"agreement with the VLM {names[-1]}, not accuracy",
        "consensus": (
            f"agreement with what two of {', '.join(names)} read, not accuracy: {first} and"
            f" {second} took part in it"
        ),
        "none": f"agreement of {first} and {second}, without a reference",
    }[reference.reference]
    if decided and decided.lines:
        name += f"; {decided.lines} lines decided by hand ({decided.changed} changed)"
    return name


def _inputs(request: CompareRequest) -> dict[str, dict[str, str]]:
    """Every input: a file with its SHA-256, or the recognizer that read the document."""
    files = {"document": request.document}
    for side, source in zip(_SIDES, request.sources, strict=False):
        if source.result:
            files[side] = source.result
    if request.reference.truth:
        files["truth"] = request.reference.truth
    if request.reference.decided:
        files["decided"] = request.reference.decided

    inputs = {
        role: {"path": str(path), "sha256": sha256_of(path)} for role, path in files.items()
    }
    for side, source in zip(_SIDES, request.sources, strict=False):
        if source.model:
            inputs[side] = source.read_with()
    return inputs


def _regions(layout: Layout, index: int) -> tuple[Region, ...]:
    return next((page.regions for page in layout.pages if page.index == index), ())


def _missing(engine: str, layout: Layout, groups: _Groups, num_pages: int) -> Missing:
    pages = set(range(num_pages)) - {page.index for page in layout.pages}
    lines = sum(index in pages for index, _ in groups)
    return Missing(engine=engine, pages=tuple(sorted(pages)), lines=lines)


def _warn_of_missing(
    missing: Sequence[Missing], request: CompareRequest, num_pages: int, progress: Progress
) -> None:
    for lacking, source in zip(missing, request.sources, strict=False):
        if lacking.pages:
            progress.warn(
                f"{source}: {len(lacking.pages)} of {num_pages} pages are not in it;"
                f" {lacking.lines} lines there are not read by {lacking.engine}"
            )


def _warn_of_confidences(
    layouts: Sequence[Layout], request: CompareRequest, progress: Progress
) -> None:
    """Warn of recorded readings whose confidences show a second softmax."""
    for layout, source in zip(layouts, request.sources, strict=False):
        regions = [region for page in layout.pages for region in page.regions]
        note = second_softmax_note(region.confidence for region in regions)
        if note:
            progress.warn(f"{source}: {note}")


def _require_pages(layout: Layout, pages: "Document", name: str) -> None:
    beyond = [page.index for page in layout.pages if page.index >= len(pages)]
    if beyond:
        raise DataError(
            f"{name}: page_index {beyond[0]}, but {pages.path} has {len(pages)} pages; does it"
            " belong to another document?"
        )
