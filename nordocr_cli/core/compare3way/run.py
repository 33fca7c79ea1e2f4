"""Compare two engines' readings of a document, line by line, against ground truth, a VLM's answers,
or only each other.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from nordocr_cli.atomic import refuse_inputs, sha256_of
from nordocr_cli.compare.adjudication import Decision, match, read_decisions
from nordocr_cli.compare.agreement import consensus
from nordocr_cli.compare.align import Group, align
from nordocr_cli.compare.answers import PROMPT, PROMPT_SHA256, AnswerFile
from nordocr_cli.compare.verdict import OUTCOMES, ComparedLine, Verdict
from nordocr_cli.compare.vlm import Endpoint
from nordocr_cli.core.compare3way.files import Outputs, write_outputs
from nordocr_cli.core.compare3way.readings import Source, count_lines, find_regions, readings
from nordocr_cli.core.compare3way.vlm import ask_missing, questions_of, with_answers
from nordocr_cli.data.layouts.layout import Layout
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.data.layouts.result_json import write_result
from nordocr_cli.errors import DataError, UsageError, nearest
from nordocr_cli.metrics.text import canonical, count_edits
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import Region

if TYPE_CHECKING:
    from nordocr_cli.data.documents import Document

ENGINES = ("SVTRv2", "Tesseract")
Reference = Literal["truth", "vlm", "consensus", "none"]
REFERENCES: tuple[str, ...] = get_args(Reference)


@dataclass(frozen=True)
class Referee:
    """What the readings are held against: `truth` (a region file); a VLM, its recorded `answers`
    and, where `server` is given, new ones, which are added to `answers`; what most of them read; or
    nothing but each other.

    `kind` is one of REFERENCES; left out, the strongest that there is. `offline` wants every answer
    to be recorded. `decided` is a table of lines that a person has decided. Raises UsageError when
    `kind` needs what is not given.
    """

    truth: Path | None = None
    answers: Path | None = None
    model: str | None = None
    server: Endpoint | None = None
    offline: bool = False
    kind: str | None = None
    decided: Path | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in REFERENCES:
            raise UsageError(f"--reference {self.kind!r}: {nearest(self.kind, REFERENCES)}")
        if self.kind == "truth" and self.truth is None:
            raise UsageError("--reference truth needs --truth REGIONS.json")
        if self.kind in ("vlm", "consensus") and self.answers is None:
            raise UsageError(
                f"--reference {self.kind} needs a third reader: --vlm-cache ANSWERS.jsonl and/or"
                " --vlm-url URL"
            )
        if self.offline and (self.answers is None or self.server is not None):
            raise UsageError(
                "--offline takes every answer from --vlm-cache ANSWERS.jsonl; leave --vlm-url out"
            )

    @property
    def reference(self) -> str:
        """The reference in force."""
        return self.kind or ("truth" if self.truth else "vlm" if self.answers else "none")


@dataclass(frozen=True)
class Missing:
    """Pages of the document (from 0) that an engine's result does not have, and the lines there
    that another side has.
    """

    engine: str
    pages: tuple[int, ...]
    lines: int


@dataclass(frozen=True)
class Decided:
    """What a person's decisions did: `lines` have one, `changed` of these say something else than
    the reference did (`edits` characters of it), `new` had no reference; `open` rows were left
    empty, `stray` ones are of no line here.
    """

    lines: int
    changed: int
    edits: int
    new: int
    open: int
    stray: int


@dataclass(frozen=True)
class Comparison:
    """The verdict and what it was made from: each input file with its SHA-256, what the engines'
    results lack, what a person decided, and the files written.
    """

    verdict: Verdict
    inputs: dict[str, dict[str, str]]
    missing: tuple[Missing, Missing]
    decided: Decided | None = None
    asked_with: dict[str, Any] | None = None
    written: tuple[Path, ...] = field(default=(), compare=False)

    def remarks(self) -> list[str]:
        """Return what the tables do not say."""
        verdict = self.verdict
        outcomes = zip(
            ("both right", *(f"only {name} right" for name in verdict.engines), "both wrong"),
            OUTCOMES,
            strict=True,
        )
        said = (
            [", ".join(f"{name} {verdict.outcomes[o]}" for name, o in outcomes)]
            if verdict.scored
            else []
        )
        if score := verdict.third_score:
            said.append(
                f"{score.engine}: {score.exact} of the {score.lines} lines that it read are exact"
            )
        if decided := self.decided:
            said.append(
                f"decided by hand: {decided.lines} lines, {decided.changed} otherwise than before"
                f" ({decided.edits} edits), {decided.new} that had none; {decided.open} rows still"
                " open"
            )
        return said

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON. Nothing in it depends on when or in what order the VLM
        answered.
        """
        value = self.verdict.to_json()
        lines = value.pop("lines")
        value |= {"missing": [asdict(engine) for engine in self.missing], "inputs": self.inputs}
        value |= {"decided": asdict(self.decided) if self.decided else None, "vlm": self.asked_with}
        return value | {"lines": lines}


def plan_compare3way(
    document: Path,
    first: Source,
    second: Source,
    referee: Referee,
    outputs: Outputs = Outputs(),
    regions: Path | None = None,
) -> dict[str, Any]:
    """Return what `compare3way` would do; no page is decoded and nobody is asked.

    Raises UsageError for a missing file and an output that is an input, DataError for readings or
    regions that are damaged.
    """
    if not document.is_file():
        raise UsageError(f"no document {document}")
    if referee.answers and not referee.server and not referee.answers.is_file():
        raise UsageError(f"no recorded answers {referee.answers}, and no --vlm-url to ask for them")
    regions = find_regions(regions, referee.truth, (first, second))
    plan: dict[str, Any] = {"document": str(document), "svtrv2": str(first), "tess": str(second)}
    lines = {
        "svtrv2": count_lines(first, document, regions),
        "tess": count_lines(second, document, regions),
    }
    if referee.truth:
        plan["truth"] = str(referee.truth)
        lines["truth"] = read_layout(referee.truth).num_regions
    if referee.decided:
        plan["decided"] = str(referee.decided)
        lines["decided"] = len(read_decisions(referee.decided)[0])
    inputs = [
        document,
        first.path,
        second.path,
        regions,
        referee.truth,
        referee.answers,
        referee.decided,
    ]
    made = [outputs.made(number) for number, source in enumerate((first, second)) if source.model]
    written = [path for path in (*made, *outputs.paths()) if path]
    for output in written:
        refuse_inputs(output, filter(None, inputs))
    if len({path.resolve() for path in outputs.paths()}) < len(outputs.paths()):
        raise UsageError("-o, --report and --adjudicate name the same file; give each its own")
    plan |= {"regions": str(regions)} if regions else {}
    plan |= {"lines": lines, "reference": referee.reference}
    if referee.answers:
        server, recorded = referee.server, referee.answers
        known = len(recorded.read_bytes().splitlines()) if recorded.is_file() else 0
        plan |= {
            "answers": str(recorded),
            "answers_recorded": known,
            "crops_about": max(lines.values()),
        }
        plan |= {"asks": f"{server.model} at {server.url}" if server else "nobody"}
    return plan | {"writes": [str(path) for path in written]}


def compare3way(
    document: Path,
    first: Source,
    second: Source,
    referee: Referee,
    *,
    engines: tuple[str, str] = ENGINES,
    regions: Path | None = None,
    language: str = "",
    threads: int | None = None,
    outputs: Outputs = Outputs(),
    crops: int = 1000,
    progress: Progress = SILENT,
) -> Comparison:
    """Compare two engines' readings of `document`; write `outputs`. The report shows at most
    `crops` pictures.

    Raises UsageError for a missing file, DataError for a damaged one, for readings of pages that
    the document does not have, when not one line has the reference asked for, and with `offline`
    when an answer is missing; and what `predict` and `vlm.ask` raise.
    """
    from nordocr_cli.data.documents import read_pages

    plan_compare3way(document, first, second, referee, outputs, regions)
    pages, sources = read_pages(document), (first, second)
    pages.page(0)  # no image is told before anybody reads
    where = find_regions(regions, referee.truth, sources)
    inputs, written = {"document": document}, []
    layouts: list[Layout] = []
    for number, (side, source) in enumerate(zip(("first", "second"), sources, strict=True)):
        layouts.append(readings(source, document, where, language, threads, progress))
        if source.result:
            inputs[side] = source.result
        elif kept := outputs.made(number):
            write_result(kept, layouts[-1].pages)
            written.append(kept)
        _require_pages(layouts[-1], pages, str(source))
    if referee.truth:
        layouts.append(read_layout(referee.truth))
        inputs["truth"] = referee.truth
        _require_pages(layouts[-1], pages, str(referee.truth))
    indices = sorted({page.index for layout in layouts for page in layout.pages})
    groups = [
        (index, group)
        for index in indices
        for group in align(*(_regions(layout, index) for layout in layouts))
    ]
    if not groups:
        raise DataError("neither result has a line; there is nothing to compare")

    missing = (
        _missing(engines[0], layouts[0], groups, len(pages)),
        _missing(engines[1], layouts[1], groups, len(pages)),
    )
    for lacking, source in zip(missing, sources, strict=True):
        if lacking.pages:
            progress.warn(
                f"{source}: {len(lacking.pages)} of {len(pages)} pages are not in it;"
                f" {lacking.lines} lines there are not read by {lacking.engine}"
            )
    lines = [
        ComparedLine(index, group.box, None, (group.text(0), group.text(1)), group.shape)
        for index, group in groups
    ]
    third, asked_with = None, None
    if referee.answers:
        answers = AnswerFile(referee.answers, referee.model)
        third = answers.model or "VLM"
        third = f"{third} (VLM)" if third in engines else third
        questions = list(questions_of(lines, pages))
        asked = ask_missing(questions, answers, referee.server, referee.offline, progress)
        lines = with_answers(lines, asked.answers, progress)
        told, into, out = answers.tokens(questions)
        asked_with = {
            "model": third,
            "prompt": PROMPT,
            "prompt_sha256": PROMPT_SHA256,
            "answers": str(referee.answers),
        }
        asked_with |= {
            "answers_sha256": answers.digest(questions),
            "tokens_in": into,
            "tokens_out": out,
            "tokens_told_by": told,
        }
    lines = [
        _against(line, group, referee.reference)
        for line, (_, group) in zip(lines, groups, strict=True)
    ]
    decided = None
    if referee.decided:
        inputs["decided"] = referee.decided
        lines, decided = _decide(lines, *read_decisions(referee.decided), progress)
    if referee.reference != "none" and all(line.reference is None for line in lines):
        raise DataError(
            f"not one of {len(lines)} lines has a reference ({_reasons(lines)}); there is nothing"
            " to compare"
        )
    verdict = Verdict(engines, _named(referee, (*engines, third), decided), tuple(lines), third)
    hashes = {role: {"path": str(path), "sha256": sha256_of(path)} for role, path in inputs.items()}
    hashes |= {
        side: s.read_with() for side, s in zip(("first", "second"), sources, strict=True) if s.model
    }
    comparison = Comparison(
        verdict, hashes, missing, decided, asked_with, (*written, *outputs.paths())
    )
    write_outputs(outputs, comparison.to_json(), verdict, document, pages, crops)
    return comparison


def _against(line: ComparedLine, group: Group, reference: str) -> ComparedLine:
    """Give the line its reference, or the reason why it has none."""
    if reference == "truth":
        # This compares how lines are read, not how they are found: a line that neither engine was
        # given is left out, counted.
        seen = group.members[0] or group.members[1]
        excluded = (
            "not in ground truth"
            if not group.members[2]
            else ""
            if seen
            else "given to neither engine"
        )
        return replace(line, reference=None if excluded else group.text(2), excluded=excluded)
    if reference == "vlm":
        assert line.vlm is not None
        return replace(
            line,
            reference=line.readings[2],
            excluded="" if line.readings[2] is not None else line.vlm[0],
        )
    if reference == "consensus":
        shared = consensus(line.readings)
        return replace(
            line, reference=shared, excluded="no two read the same" if shared is None else ""
        )
    return replace(line, excluded="no reference")


def _decide(
    lines: Sequence[ComparedLine], decisions: Sequence[Decision], left_open: int, progress: Progress
) -> tuple[list[ComparedLine], Decided]:
    """Put a person's decisions in the place of the reference."""
    texts, stray = match(decisions, [(line.page_index, line.box) for line in lines])
    if stray:
        at = f"page {stray[0].page_index + 1}, x {stray[0].box.x:g}, y {stray[0].box.y:g}"
        progress.warn(
            f"{len(stray)} decisions are of no single line here, the first at {at}; they are left"
            " aside"
        )
    decided = [
        (
            replace(line, reference=texts[number], before=line.reference, excluded="", decided=True)
            if number in texts
            else line
        )
        for number, line in enumerate(lines)
    ]
    edits = [
        count_edits(canonical(line.before), canonical(line.reference or "")).distance
        for line in decided
        if line.decided and line.before is not None
    ]
    changed = sum(distance > 0 for distance in edits)
    return decided, Decided(
        len(texts), changed, sum(edits), len(texts) - len(edits), left_open, len(stray)
    )


def _named(referee: Referee, readers: tuple[str | None, ...], decided: Decided | None) -> str:
    """What every table calls its reference."""
    names = [name for name in readers if name]
    first, second = names[:2]
    name = {
        "truth": f"accuracy against ground truth ({referee.truth.name if referee.truth else ''})",
        "vlm": f"agreement with the VLM {names[-1]}, not accuracy",
        "consensus": (
            f"agreement with what two of {', '.join(names)} read, not accuracy: {first} and"
            f" {second} took part in it"
        ),
        "none": f"agreement of {first} and {second}, without a reference",
    }[referee.reference]
    if decided and decided.lines:
        name += f"; {decided.lines} lines decided by hand ({decided.changed} otherwise than before)"
    return name


def _reasons(lines: Sequence[ComparedLine]) -> str:
    counts: dict[str, int] = {}
    for line in lines:
        if line.excluded:
            counts[line.excluded] = counts.get(line.excluded, 0) + 1
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def _regions(layout: Layout, index: int) -> tuple[Region, ...]:
    return next((page.regions for page in layout.pages if page.index == index), ())


def _missing(
    engine: str, layout: Layout, groups: Sequence[tuple[int, Group]], num_pages: int
) -> Missing:
    pages = set(range(num_pages)) - {page.index for page in layout.pages}
    return Missing(engine, tuple(sorted(pages)), sum(index in pages for index, _ in groups))


def _require_pages(layout: Layout, pages: "Document", name: str) -> None:
    beyond = [page.index for page in layout.pages if page.index >= len(pages)]
    if beyond:
        raise DataError(
            f"{name}: page_index {beyond[0]}, but {pages.path} has {len(pages)} pages; is it"
            " another document's?"
        )
