"""What `nordocr eval` finds and writes: docs/eval.schema.json is generated from EvalFile."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from nordocr_cli import __version__
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import read_json
from nordocr_cli.metrics.calibration import Calibration
from nordocr_cli.metrics.characters import CharacterReport
from nordocr_cli.metrics.group import Group
from nordocr_cli.metrics.report import REPORT_SCHEMA, Report
from nordocr_cli.metrics.result_model import ResultModel
from nordocr_cli.metrics.score import LineScore
from nordocr_cli.metrics.significance import Comparison
from nordocr_cli.metrics.tokens import TokenReport

EVAL_SCHEMA = "nordocr.eval/2"


class Against(ResultModel):
    """The comparison with another result: `only_here` and `only_there` lines have no partner,
    `references_differ` were left out because the two results have different references; `gained`
    and `lost` are ids of lines that became (in)exact.
    """

    other: str
    comparison: Comparison
    only_here: int
    only_there: int
    references_differ: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]


class Ablation(ResultModel):
    """The same network's logits decoded in another way: its figures, the comparison with the first
    decoder (b is this one), and how many lines got another text.
    """

    decoder: str
    total: Group
    comparison: Comparison
    differing: int


class BatchCheck(ResultModel):
    """Whether a line's text depends on its batch: of `lines` lines, the ids of those whose text
    differs from the one they get alone, by what they were batched with.
    """

    lines: int
    differing: dict[str, tuple[str, ...]]

    @property
    def problem(self) -> str:
        """What differs, in words; empty when nothing does."""
        found = [
            f"{len(ids)} {batched}, e.g. {ids[0]!r}"
            for batched, ids in self.differing.items()
            if ids
        ]
        if not found:
            return ""
        return (
            f"of {self.lines} lines, these read differently than alone: {'; '.join(found)}"
        )


class LinesFile(ResultModel):
    """The file of the lines, next to the result, and its SHA-256."""

    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class EvalFile(ResultModel):
    """A result file of `nordocr eval`."""

    schema_: Literal["nordocr.eval/2"] = Field("nordocr.eval/2", alias="schema")
    nordocr: str = Field(__version__, description="version that wrote the result")
    command: tuple[str, ...] = ()
    model: dict[str, Any] = Field(
        description="what read the lines: kind, name, and where known path, sha256, contract"
    )
    store: dict[str, Any] | None = Field(
        description="what was read: path, content_sha256, …"
    )
    subset_key: str = Field(description="the row's key behind by_subset")
    matching: dict[str, int] | None = Field(
        None, description="of a recording: matched, missing, extra, references_differ"
    )
    report: Report
    characters: CharacterReport
    calibration: Calibration | None = Field(
        None, description="null where no line has a confidence between 0 and 1"
    )
    tokens: TokenReport | None = Field(None, description="only with --metric-tokenizer")
    against: Against | None = None
    ablations: tuple[Ablation, ...] = ()
    batch_check: BatchCheck | None = None
    lines: LinesFile | None = None

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return self.model_dump(mode="json", by_alias=True)


@dataclass(frozen=True)
class EvalResult:
    """An evaluation: the report, the scored lines in store order, and what was evaluated on
    what.
    """

    report: Report
    scores: tuple[LineScore, ...]
    model: dict[str, Any]
    store: dict[str, Any] | None
    subset_key: str
    characters: CharacterReport
    # of a recording: matched, missing, extra, references_differ
    matching: dict[str, int] | None = None
    against: Against | None = None
    ablations: tuple[Ablation, ...] = ()
    # of the ablations: what each decoder read, line by line
    readings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    batches: BatchCheck | None = None
    calibration: Calibration | None = None  # None where no line has a confidence
    tokens: TokenReport | None = None
    command: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def to_file(self, lines: LinesFile | None = None) -> EvalFile:
        """Return what is written: everything but the lines, which are in a file of their own."""
        return EvalFile(
            command=self.command,
            model=self.model,
            store=self.store,
            subset_key=self.subset_key,
            matching=self.matching,
            report=self.report,
            characters=self.characters,
            calibration=self.calibration,
            tokens=self.tokens,
            against=self.against,
            ablations=self.ablations,
            batch_check=self.batches,
            lines=lines,
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything but the lines as plain JSON values."""
        value = self.to_file().to_json()
        del value["lines"]
        return value

    def other_readings(self) -> Iterator[dict[str, Any]]:
        """Yield for each line what the other decoders read, as JSON values; nothing where there was
        one decoder.
        """
        for number in range(len(self.scores)):
            texts = {name: texts[number] for name, texts in self.readings.items()}
            yield {"readings": texts} if texts else {}


def find_result_file(path: Path) -> Path:
    """Return the file of a result: FILE.json, or the one in a folder. Raises UsageError when there
    is none.
    """
    file = path / "eval.json" if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"no result {file}; make one with `nordocr eval MODEL LINES.lmdb -o {path}`"
        )
    return file


def read_result(path: Path) -> EvalFile:
    """Read a result of `nordocr eval -o` (FILE.json or its folder).

    Raises UsageError when it is not there, DataError when it is damaged or of another version.
    """
    file = find_result_file(path)
    value = read_json(file, "result")
    try:
        schemas = value["schema"], value["report"]["schema"]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{file} is not a result of `nordocr eval -o` ({type(error).__name__}: {error})"
        ) from error

    if schemas != (EVAL_SCHEMA, REPORT_SCHEMA):
        raise DataError(
            f"{file} has the format {schemas[0]!r} with {schemas[1]!r}, this nordocr reads"
            f" {EVAL_SCHEMA!r} with {REPORT_SCHEMA!r}; score its lines again:"
            f" nordocr eval LINES.jsonl -o {path}"
        )
    try:
        return EvalFile.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise DataError(
            f"{file} is not a result of `nordocr eval -o` ({where}: {problem['msg']})"
        ) from error
