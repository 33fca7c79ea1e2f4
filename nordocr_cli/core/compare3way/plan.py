"""What a comparison will do: the request, checked before a page is decoded."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from nordocr_cli.atomic import refuse_inputs
from nordocr_cli.compare.adjudication import read_decisions
from nordocr_cli.compare.endpoint import Endpoint
from nordocr_cli.core.compare3way.files import Outputs
from nordocr_cli.core.compare3way.readings import (
    ReadingSource,
    count_lines,
    find_regions,
    recorded_layout,
)
from nordocr_cli.data.layouts.layout import Layout
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.errors import UsageError, nearest

ENGINES = ("SVTRv2", "Tesseract")
REPORT_CROPS = 1000  # pictures in the report

ReferenceKind = Literal["truth", "vlm", "consensus", "none"]
REFERENCES: tuple[str, ...] = get_args(ReferenceKind)


@dataclass(frozen=True)
class ReferenceSource:
    """What the readings are compared with: `truth` (a region file); a VLM, its recorded `answers`
    and, where `server` is given, new ones, which are added to `answers`; the consensus of the two
    engines and a third reader (a VLM, or the engine `third`); or nothing but each other.

    `kind` is one of REFERENCES; left out, the strongest that there is. With `offline` every answer
    must be recorded. `decided` is a table of lines that a person has decided. Raises UsageError
    when `kind` needs what is not given.
    """

    truth: Path | None = None
    answers: Path | None = None
    model: str | None = None
    server: Endpoint | None = None
    offline: bool = False
    kind: str | None = None
    decided: Path | None = None
    third: ReadingSource | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in REFERENCES:
            raise UsageError(f"--reference {self.kind!r}: {nearest(self.kind, REFERENCES)}")
        if self.kind == "truth" and self.truth is None:
            raise UsageError("--reference truth needs --truth REGIONS.json")
        if self.kind == "vlm" and self.answers is None:
            raise UsageError(
                "--reference vlm needs a VLM: --vlm-cache ANSWERS.jsonl and/or --vlm-url URL"
            )
        if self.kind == "consensus" and self.answers is None and self.third is None:
            raise UsageError(
                "--reference consensus needs a third reader: --third ENGINE, --vlm-cache"
                " ANSWERS.jsonl and/or --vlm-url URL"
            )
        if self.answers is not None and self.third is not None:
            raise UsageError("a VLM and --third are both a third reader: give one of them")
        if self.offline and (self.answers is None or self.server is not None):
            raise UsageError(
                "--offline takes every answer from --vlm-cache ANSWERS.jsonl; leave --vlm-url out"
            )

    @property
    def reference(self) -> str:
        """The kind of reference in force."""
        if self.kind:
            return self.kind
        if self.truth:
            return "truth"
        if self.answers:
            return "vlm"
        if self.third:
            return "consensus"
        return "none"


@dataclass(frozen=True)
class CompareRequest:
    """Two engines' readings of a document, what they are compared with, and what to write."""

    document: Path
    first: ReadingSource
    second: ReadingSource
    reference: ReferenceSource
    engines: tuple[str, str] = ENGINES
    regions: Path | None = None
    language: str = ""
    threads: int | None = None
    outputs: Outputs = field(default_factory=Outputs)
    crops: int = REPORT_CROPS
    command: tuple[str, ...] = ()  # the command line, which the result carries

    @property
    def sources(self) -> tuple[ReadingSource, ...]:
        """The sources of all engines, the third one if there is one."""
        third = self.reference.third
        return (self.first, self.second, *([third] if third else []))


@dataclass(frozen=True)
class ComparePlan:
    """A request that was checked: where the lines are, how many each side has, and the files to
    write. `layouts` holds the recorded readings of each source (None: a model reads now), and
    `truth` the ground truth.
    """

    request: CompareRequest
    regions: Path | None
    lines: dict[str, int]
    recorded_answers: int | None
    writes: tuple[Path, ...]
    layouts: tuple[Layout | None, ...] = field(repr=False, default=())
    truth: Layout | None = field(repr=False, default=None)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        request = self.request
        reference = self.request.reference
        value: dict[str, Any] = {
            "document": str(request.document),
            "svtrv2": str(request.first),
            "tess": str(request.second),
        }
        for name, given in (
            ("third", reference.third),
            ("truth", reference.truth),
            ("decided", reference.decided),
            ("regions", self.regions),
        ):
            if given:
                value[name] = str(given)
        value |= {"lines": self.lines, "reference": reference.reference}
        if reference.answers:
            server = reference.server
            value |= {
                "answers": str(reference.answers),
                "answers_recorded": self.recorded_answers,
                "crops_about": max(self.lines.values()),
                "asks": f"{server.model} at {server.url}" if server else "nobody",
            }
        return value | {"writes": [str(path) for path in self.writes]}


def plan(request: CompareRequest) -> ComparePlan:
    """Check a request; no page is decoded and no server contacted.

    Raises UsageError for a missing file and an output that is an input, DataError for readings or
    regions that are damaged.
    """
    reference = request.reference
    outputs = request.outputs
    if not request.document.is_file():
        raise UsageError(f"no document {request.document}")
    answers = reference.answers
    if answers and not reference.server and not answers.is_file():
        raise UsageError(f"no recorded answers {answers}, and no --vlm-url to ask for them")

    regions = find_regions(request.regions, reference.truth, request.sources)
    writes = _writes(request)
    _require_new_files(request, regions, writes)
    if len({os.path.realpath(path) for path in outputs.paths()}) < len(outputs.paths()):
        raise UsageError(
            "-o, --report and --adjudicate name the same file; give each its own"
        )

    recorded = None
    if answers:
        if answers.is_file():
            recorded = len(answers.read_bytes().splitlines())
        else:
            recorded = 0
    layouts = tuple(map(recorded_layout, request.sources))
    if reference.truth:
        truth = read_layout(reference.truth)
    else:
        truth = None
    return ComparePlan(
        request=request,
        regions=regions,
        lines=_count_lines(request, regions, layouts, truth),
        recorded_answers=recorded,
        writes=writes,
        layouts=layouts,
        truth=truth,
    )


def _count_lines(
    request: CompareRequest,
    regions: Path | None,
    layouts: Sequence[Layout | None],
    truth: Layout | None,
) -> dict[str, int]:
    lines: dict[str, int] = {}
    names = ("svtrv2", "tess", "third")
    for name, source, layout in zip(names, request.sources, layouts, strict=False):
        if layout is None:
            lines[name] = count_lines(source, request.document, regions)
        else:
            lines[name] = layout.num_regions
    if truth is not None:
        lines["truth"] = truth.num_regions
    if request.reference.decided:
        lines["decided"] = len(read_decisions(request.reference.decided)[0])
    return lines


def _writes(request: CompareRequest) -> tuple[Path, ...]:
    made = [
        request.outputs.made(number)
        for number, source in enumerate(request.sources)
        if source.model
    ]
    return tuple(path for path in (*made, *request.outputs.paths()) if path)


def _require_new_files(
    request: CompareRequest, regions: Path | None, writes: tuple[Path, ...]
) -> None:
    """Raise UsageError when an output is an input."""
    reference = request.reference
    inputs = [
        request.document,
        *(source.path for source in request.sources),
        regions,
        reference.truth,
        reference.answers,
        reference.decided,
    ]
    for path in writes:
        refuse_inputs(path, filter(None, inputs))
