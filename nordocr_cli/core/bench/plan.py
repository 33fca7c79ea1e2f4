"""What a bench will do: the request, checked before anything is timed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nordocr_cli.atomic import refuse_inputs
from nordocr_cli.core.bench.external import parse_command
from nordocr_cli.core.bench.result import BenchResult, read_bench
from nordocr_cli.core.bench.widths import read_widths, require_ctc_networks
from nordocr_cli.data.layouts.layout import Layout
from nordocr_cli.data.regions import read_regions
from nordocr_cli.errors import UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.runtime.device import parse_device
from nordocr_cli.runtime.specs import parse_spec

NETWORK_RESULT = "svtrv2_result.json"
TESSERACT_RESULT = "tess_result.json"
DOCUMENTS = (".tif", ".tiff", ".pdf")
DEFAULT_MODELS = ("nordocr-default", "tesseract")


def models_and_document(
    names: Sequence[str], document: Path | None, regions: Path | None
) -> tuple[list[str], Path | None, Path | None]:
    """Return models, document and regions. A document may be among the models, and its regions may
    be in the JSON file of the same name in its folder. DEFAULT_MODELS read a document given without
    a model. Raises UsageError for two documents and without any model.
    """
    documents = [Path(name) for name in names if Path(name).suffix.lower() in DOCUMENTS]
    if document:
        documents.append(document)
    if len(documents) > 1:
        raise UsageError(f"one document at a time, not {', '.join(map(str, documents))}")
    models = [name for name in names if Path(name).suffix.lower() not in DOCUMENTS]
    if not models and not documents:
        raise UsageError(
            "name a model: nordocr bench runs/a model.onnx tesseract --lines STORE"
        )
    found = documents[0] if documents else None
    if found and not regions:
        same_name = found.with_suffix(".json")
        if same_name.is_file():
            regions = same_name
    return models or list(DEFAULT_MODELS), found, regions


def parse_grid(text: str) -> tuple[list[int], list[int]]:
    """Return batch sizes and widths of `1,8,32x128,320`. Raises UsageError."""
    try:
        batches, widths = [
            [int(number) for number in side.split(",")] for side in text.split("x")
        ]
    except ValueError:
        raise UsageError(
            f"grid {text!r}: write batch sizes, x, widths in px, e.g. 1,8,32x128,320,768"
        ) from None
    if min(*batches, *widths) < 1:
        raise UsageError(f"grid {text!r}: sizes start at 1")
    return batches, widths


@dataclass(frozen=True)
class BenchRequest:
    """What to time, and how.

    `models` are paths or `tesseract`. They read the lines of a store (`lines`), or the regions of a
    `document`; without `regions` the line finder finds them. With `widths` (see read_widths)
    networks are timed over lines of random pixels with such widths, and the texts are not compared.
    `lines_per_page` gives the pages per second to expect. `limit` is the number of lines to take,
    evenly spread. `grid` (batch sizes, widths in px) times the networks alone at every shape.
    `external` is a command with `{page}` in it that reads complete pages. `baseline` is an earlier
    result with which each case is compared, `plot` the path of a picture to write.
    """

    models: tuple[str, ...]
    lines: Path | None = None
    document: Path | None = None
    regions: Path | None = None
    widths: Path | None = None
    lines_per_page: float | None = None
    output: Path | None = None
    device: str = "auto"
    threads: int | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    rounds: int = 3
    single_lines: int = 32
    limit: int | None = None
    grid: tuple[Sequence[int], Sequence[int]] | None = None
    external: str | None = None
    baseline: Path | None = None
    plot: Path | None = None
    command: Sequence[str] = ()


@dataclass(frozen=True)
class BenchPlan:
    """A request that was checked, and what was read to check it: the regions of the document, the
    number of lines of each width with the first model's geometry, and the earlier result.
    """

    request: BenchRequest
    regions: Layout | None = None
    widths: dict[int, int] | None = None
    geometry: Geometry | None = None
    baseline: BenchResult | None = None

    @property
    def measured(self) -> str:
        """What is read, as results name it."""
        request = self.request
        if request.widths:
            return f"widths of {request.widths}"
        return str(request.lines or request.document)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        request = self.request
        value: dict[str, Any] = {
            "models": {model: parse_spec(model).backend for model in request.models},
            "device": request.device,
        }
        if request.baseline:
            value["baseline"] = str(request.baseline)
        if request.lines:
            value["lines"] = str(request.lines)
        if self.widths is not None:
            value["widths"] = str(request.widths)
            value["lines_counted"] = sum(self.widths.values())
        if request.document:
            value["doc"] = str(request.document)
            value["regions"] = str(request.regions or "found by the line finder")
        if self.regions:
            value["lines_given"] = self.regions.num_regions
        if request.external is not None:
            value["external"] = parse_command(request.external)
        return value


def plan(request: BenchRequest) -> BenchPlan:
    """Check a request. No image and no network is opened.

    Raises UsageError for options that do not go together, an unknown device, a missing model or
    file, and an output that is also an input; DataError for damaged regions and widths.
    """
    _require_options_fit(request)
    parse_device(request.device)
    for model in request.models:
        parse_spec(model)
    if request.external is not None:
        parse_command(request.external)
    _require_new_outputs(request)

    baseline = read_bench(request.baseline) if request.baseline else None
    if request.lines and not request.lines.exists():
        raise UsageError(f"no line store {request.lines}")
    if request.widths:
        geometry = require_ctc_networks(request.models).geometry
        widths = read_widths(request.widths)
        return BenchPlan(request, widths=widths, geometry=geometry, baseline=baseline)

    document = request.document
    regions = None
    if document:
        if not document.is_file():
            raise UsageError(f"no document {document}")
        if request.regions:
            regions = read_regions(request.regions, document)
    return BenchPlan(request, regions=regions, baseline=baseline)


def _require_options_fit(request: BenchRequest) -> None:
    document = request.document
    sources = [request.lines, document, request.widths]
    given = [source for source in sources if source is not None]
    if len(given) != 1 or (request.regions and not document):
        raise UsageError(
            "give --lines STORE, --widths TABLE, or a document, with --regions JSON where its lines"
            " are known"
        )
    if request.external is not None and document is None:
        raise UsageError("--external reads pages: give --doc PAGES")
    if request.lines_per_page is not None and document is not None:
        raise UsageError(
            "--lines-per-page is for --lines and --widths; a document has its pages"
        )


def _require_new_outputs(request: BenchRequest) -> None:
    """Raise UsageError when a file to write is also an input."""
    outputs = [request.output, request.plot]
    if request.document and request.output:
        names = (NETWORK_RESULT, TESSERACT_RESULT)
        outputs += [request.output.with_name(name) for name in names]
    sources = [request.lines, request.document, request.widths]
    files = [*sources, request.regions, request.baseline]
    inputs = [*map(Path, request.models), *filter(None, files)]
    for path in filter(None, outputs):
        refuse_inputs(path, inputs)
