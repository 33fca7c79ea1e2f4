"""The result of bench; docs/bench.schema.json is its JSON Schema. Fields are only added, so that
older files stay readable.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import read_json
from nordocr_cli.metrics.significance import Comparison

BENCH_SCHEMA = "nordocr.bench/1"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Stages(_Record):
    """Seconds of one pass over all lines, by stage; `network` includes moving data to the device
    and back.
    """

    read: float
    resize: float
    network: float
    decode: float


class Row(_Record):
    """One recognizer over all lines (offline) and over single lines. An unknown value is null,
    never 0.
    """

    name: str
    backend: str
    device: str
    precision: str
    load_s: float
    first_call_s: float | None = None
    lines: int
    lines_per_s: float = Field(
        description="median over the rounds, all lines handed over at once"
    )
    pages_per_s: float | None = Field(
        None, description="of a document, reading its pages included"
    )
    expected_pages_per_s: float | None = Field(
        None,
        description="lines_per_s over the lines of a page; without reading pages and finding lines",
    )
    chars_per_s: float | None = Field(
        None, description="characters that were read, at lines_per_s"
    )
    latency_p50_ms: float | None = Field(
        description="of single lines, resize and decoding included; a line counts with its median"
    )
    latency_p90_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = Field(
        None, description="over all single calls, from 1,000 of them on"
    )
    runs_s: tuple[float, ...] = Field(
        description="seconds for all lines, one value a round"
    )
    single_runs_ms: tuple[float, ...] = Field(
        (), description="median of the single lines, one value a round"
    )
    stages_s: Stages | None = None
    padding_waste: float | None = Field(
        None, description="padded columns over the lines' own columns, less 1"
    )
    peak_memory_mb: float | None = Field(
        None, description="largest resident memory of the process while it read all lines"
    )
    flops: float | None = Field(
        None,
        description=(
            "floating-point operations of products and convolutions, all lines, padding included"
        ),
    )
    roofline_share: float | None = Field(
        None, description="operations a second in the network over the measured peak"
    )
    same_text: int | None = Field(
        description="lines that read as with the reference; null for lines of random pixels"
    )
    same_weights: bool | None = Field(
        None,
        description="whether it is a form of the reference's weights, as the hashes tell",
    )
    exact: int | None = Field(description="lines that read as the truth")
    compared: int | None = Field(
        None,
        description="lines of the truth that exact is of, where the program reads others too",
    )
    sha256: str | None = Field(None, description="of the model's file")


class Cell(_Record):
    """A network at one batch size and width: milliseconds of a call, the median of each round."""

    name: str
    backend: str
    precision: str
    batch: int
    width_px: int
    runs_ms: tuple[float, ...]
    median_ms: float
    lines_per_s: float
    pixels_per_s: float
    roofline_share: float | None = None


class CaseVerdict(_Record):
    """One case compared with the same case of the baseline. `change` is the relative change of the
    median time (positive: slower).
    """

    case: str
    verdict: Literal["slower", "faster", "no difference shown", "inconclusive"]
    change: float
    p: float | None
    threshold: float


class Accuracy(_Record):
    """The recognizer `name` compared with the recognizer `other` on the lines whose text is known,
    by document.
    """

    name: str
    other: str
    comparison: Comparison


class BenchResult(_Record):
    """The recognizers in the requested order, the grid, what was skipped and why, and where it was
    measured.
    """

    schema_: Literal["nordocr.bench/1"] = Field("nordocr.bench/1", alias="schema")
    source: str
    lines_per_page: float | None = Field(
        None, description="as requested, for expected_pages_per_s"
    )
    rounds: int
    reference: str | None = Field(
        None, description="the recognizer whose texts the others are compared with"
    )
    rows: tuple[Row, ...]
    grid: tuple[Cell, ...] = ()
    peak_gflops: float | None = Field(
        None, description="of a matrix product on the same device and threads, fp32"
    )
    peaks_gflops: dict[str, float] = Field(
        default_factory=dict,
        description="the same in each number format that a network has",
    )
    command: tuple[str, ...] = ()
    skipped: dict[str, str]
    environment: dict[str, Any]
    written: tuple[str, ...] = ()
    written_sha256: dict[str, str] = Field(
        default_factory=dict, description="hashes of the readings, by file name"
    )
    baseline: str | None = None
    verdicts: tuple[CaseVerdict, ...] = ()
    accuracy: tuple[Accuracy, ...] = Field(
        (), description="who reads better than the reference, where the texts are known"
    )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return self.model_dump(mode="json", by_alias=True)


def read_bench(path: Path) -> BenchResult:
    """Read a result. Raises UsageError when the file does not exist, DataError when it is not a
    bench result.
    """
    if not path.is_file():
        raise UsageError(f"no bench result {path}")
    try:
        return BenchResult.model_validate(read_json(path, "bench result"))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        where = ": ".join(filter(None, (key, problem["msg"])))
        raise DataError(
            f"{path} is not a result of `nordocr bench -o` ({where})"
        ) from error
