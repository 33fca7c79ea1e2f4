"""Time recognizers side by side over the same lines, and check that they read the same."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from nordocr_cli.atomic import sha256_of, write_json
from nordocr_cli.core.bench.accuracy import compare_accuracy
from nordocr_cli.core.bench.external import (
    External,
    exact_regions,
    require_program,
    run_external,
)
from nordocr_cli.core.bench.lines import Lines, collect_lines, exact_lines, pages_read
from nordocr_cli.core.bench.models import Opened, open_models
from nordocr_cli.core.bench.plan import (
    NETWORK_RESULT,
    TESSERACT_RESULT,
    BenchPlan,
    BenchRequest,
    plan,
)
from nordocr_cli.core.bench.result import BenchResult, Cell, Row
from nordocr_cli.core.bench.verdict import busy, compare_results, require_comparable
from nordocr_cli.core.bench.widths import draw_lines
from nordocr_cli.data.layouts.result_json import write_result
from nordocr_cli.errors import UsageError
from nordocr_cli.extras import load_matplotlib
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import Page

if TYPE_CHECKING:
    from nordocr_cli.runtime.protocols import Recognizer
    from nordocr_cli.runtime.recognizers import RunnerRecognizer
    from nordocr_cli.runtime.stopwatch import Laps

# From this many single calls on, a 99th percentile is meaningful.
MANY_CALLS = 1000


@dataclass(frozen=True)
class _Timed:
    """The models that could be opened and their times; `reference` is the index of the model that
    the others are compared with.
    """

    opened: Sequence[Opened]
    skipped: dict[str, str]
    laps: "Sequence[Laps]"
    reference: int
    peaks: dict[str, float]
    rows: list[Row]
    cells: list[Cell]


def bench(
    models: Sequence[str], *, progress: Progress = SILENT, **options: Any
) -> BenchResult:
    """Plan and run a bench; `options` are the fields of BenchRequest. Raises what `plan` and `run`
    raise.
    """
    return run(plan(BenchRequest(tuple(models), **options)), progress)


def run(plan: BenchPlan, progress: Progress = SILENT) -> BenchResult:
    """Time models side by side.

    All lines are read at once, in their real widths (offline), then a sample one by one (single). A
    model whose backend is missing is skipped with a warning, unless it is the only one. For a
    document, the texts of each recognizer are written next to `output` in the consumer's format:
    svtrv2_result.json for the first network, tess_result.json for Tesseract.

    Raises ArtifactError for a store that was not made for a model, MissingBackendError when no
    model or program can run here, UsageError for a baseline of another machine, and what reading
    lines and models raises.
    """
    request = plan.request
    before = plan.baseline
    _require_this_machine_can(plan)
    opened, skipped = open_models(
        request.models, request.device, request.threads, request.precision, progress
    )
    source = _lines(plan, opened, progress)
    timed = _time(request, opened, skipped, source, progress)
    result = _result(request, source, timed, progress)

    # The result is saved first: minutes of timing are not lost when the comparison fails.
    _write(result, request.output)
    if before:
        result = _compared(before, result, str(request.baseline), progress)
        _write(result, request.output)
    if request.plot:
        from nordocr_cli.core.bench.plot import draw

        draw(result, request.plot)
    return result


def _require_this_machine_can(plan: BenchPlan) -> None:
    """Report what cannot work here before anything is timed."""
    from nordocr_cli.runtime.stopwatch import measurement_environment

    request = plan.request
    if request.plot:
        load_matplotlib("--plot")
    if request.external is not None:
        require_program(request.external)
    if plan.baseline is None:
        return
    here = measurement_environment(request.threads)
    require_comparable(plan.baseline, here, plan.measured, str(request.baseline))


def _lines(plan: BenchPlan, opened: Sequence[Opened], progress: Progress) -> Lines:
    """Return the lines that all models read."""
    from nordocr_cli.runtime.recognizers import contract_of

    request = plan.request
    if plan.widths is not None and plan.geometry is not None:
        return draw_lines(plan.widths, plan.geometry, plan.measured, request.limit)

    found = {model.spec: contract_of(model.recognizer) for model in opened}
    contracts = {spec: contract for spec, contract in found.items() if contract}
    return collect_lines(request, plan.regions, contracts, progress)


def _time(
    request: BenchRequest,
    opened: Sequence[Opened],
    skipped: dict[str, str],
    source: Lines,
    progress: Progress,
) -> _Timed:
    from nordocr_cli.runtime.stopwatch import time_side_by_side

    threads = request.threads
    grid = request.grid
    recognizers = [model.recognizer for model in opened]
    if grid:
        _require_widths(recognizers, grid[1])

    first_calls = [_seconds(recognizer, source) for recognizer in recognizers]
    laps = time_side_by_side(
        recognizers,
        source.crops,
        source.languages,
        rounds=request.rounds,
        single_lines=request.single_lines,
        progress=progress,
    )
    reference = _reference(recognizers)
    peaks = _peaks(recognizers, threads, progress)
    rows = [
        _with_pages(
            _row(source, model, opened[reference], first, lap, laps[reference], peaks),
            request.lines_per_page,
        )
        for model, first, lap in zip(opened, first_calls, laps, strict=True)
    ]
    cells = _grid(opened, grid, request.rounds, peaks, progress) if grid else []
    return _Timed(opened, skipped, laps, reference, peaks, rows, cells)


def _result(
    request: BenchRequest, source: Lines, timed: _Timed, progress: Progress
) -> BenchResult:
    """Add the external program, write the readings of a document, and put together the result."""
    rows = timed.rows
    readings: list[list[Page]] = []
    if source.pages:
        readings = [list(pages_read(source.pages, lap.readings)) for lap in timed.laps]
    if request.external is not None and request.document is not None:
        progress.note(f"reading {request.document} with {request.external}")
        found = run_external(request.external, request.document, request.rounds)
        rows = [*rows, _external_row(found, source)]
        readings.append(list(found.pages))

    written = _write_readings(request.output, rows, readings)
    recognizers = [model.recognizer for model in timed.opened]
    return BenchResult(
        source=source.source,
        lines_per_page=request.lines_per_page,
        rounds=request.rounds,
        reference=timed.opened[timed.reference].name,
        rows=tuple(rows),
        grid=tuple(timed.cells),
        peak_gflops=timed.peaks.get("fp32"),
        peaks_gflops=timed.peaks,
        command=tuple(request.command),
        skipped=timed.skipped,
        environment=_environment(recognizers, request.threads),
        accuracy=compare_accuracy(
            source,
            [model.name for model in timed.opened],
            [lap.readings for lap in timed.laps],
            timed.reference,
        ),
        written=written,
        written_sha256={Path(name).name: sha256_of(Path(name)) for name in written},
    )


def _write_readings(
    output: Path | None, rows: Sequence[Row], readings: Sequence[Sequence[Page]]
) -> tuple[str, ...]:
    """Write what each recognizer read of the document next to `output`; return the names."""
    if output is None:
        return ()
    written = []
    for name, pages in zip(_result_names(rows), readings, strict=False):
        path = output.parent / name
        write_result(path, pages)
        written.append(str(path))
    return tuple(written)


def _compared(
    before: BenchResult, result: BenchResult, baseline: str, progress: Progress
) -> BenchResult:
    """Add the verdicts against an earlier result; warn when either was measured under load."""
    verdicts = compare_results(before, result, baseline)
    load = busy(before, result)
    if load:
        progress.warn(
            f"measured {load}: other programs were running, which can look like a difference;"
            f" measure again without them"
        )
    return result.model_copy(update={"baseline": baseline, "verdicts": verdicts})


def _write(result: BenchResult, output: Path | None) -> None:
    if output:
        write_json(output, result.to_json())


def _environment(
    recognizers: "Sequence[Recognizer]", threads: int | None
) -> dict[str, Any]:
    from nordocr_cli.runtime.backends.tesseract.recognizer import TesseractRecognizer
    from nordocr_cli.runtime.stopwatch import measurement_environment

    measured_on = measurement_environment(threads)
    for recognizer in recognizers:
        if isinstance(recognizer, TesseractRecognizer):
            measured_on["versions"]["tesseract"] = recognizer.installed.version
    return measured_on


def _seconds(recognizer: "Recognizer", source: Lines) -> float:
    """Return the seconds of the first call, which builds kernels and allocates memory."""
    began = time.perf_counter()
    recognizer.recognize(source.crops[:1], source.languages[:1])
    return time.perf_counter() - began


def _reference(recognizers: "Sequence[Recognizer]") -> int:
    """Return the number of the recognizer with which the texts are compared: the first network in
    fp32, else the first of all.
    """
    from nordocr_cli.runtime.recognizers import RunnerRecognizer

    for number, recognizer in enumerate(recognizers):
        if (
            isinstance(recognizer, RunnerRecognizer)
            and getattr(recognizer.runner, "precision", "") == "fp32"
        ):
            return number
    return 0


def _peaks(
    recognizers: "Sequence[Recognizer]", threads: int | None, progress: Progress
) -> dict[str, float]:
    """Return the measured peak of the networks' device in fp32 and in each format that a network
    computes in; empty without a network or without torch.
    """
    from nordocr_cli.runtime.recognizers import RunnerRecognizer

    runners = [r.runner for r in recognizers if isinstance(r, RunnerRecognizer)]
    if not runners:
        return {}
    device = str(getattr(runners[0], "device", "cpu"))
    formats = {"fp32"} | {str(getattr(runner, "precision", "fp32")) for runner in runners}
    try:
        from nordocr_cli.core.bench.network import peak_gflops

        measured = sorted(formats & {"fp32", "fp16", "bf16"})
        return {name: peak_gflops(device, threads, name) for name in measured}
    except (ImportError, RuntimeError) as error:
        progress.warn(f"the machine's peak is not measured: {error}")
        return {}


def _row(
    source: Lines,
    model: Opened,
    reference: Opened,
    first: float,
    lap: "Laps",
    measure: "Laps",
    peaks: Mapping[str, float],
) -> Row:
    from nordocr_cli.runtime.recognizers import RunnerRecognizer

    recognizer = model.recognizer
    runner = None
    of_network: dict[str, Any] = {}
    if isinstance(recognizer, RunnerRecognizer):
        runner = recognizer.runner
        of_network = _network_figures(recognizer, source, peaks)
    runs_on = runner or recognizer

    median_s = median(lap.all_lines_s)
    count = len(source.crops)
    calls = sum(map(len, lap.single_line_ms))
    pages_per_s = None
    if source.pages:
        pages_per_s = len(source.pages) / (median_s + source.read_s)
    characters = sum(len(reading.text) for reading in lap.readings)
    pairs = zip(lap.readings, measure.readings, strict=True)
    same_text = sum(reading.text == reference.text for reading, reference in pairs)
    return Row(
        name=model.name,
        backend=str(getattr(runs_on, "backend", "tesseract")),
        device=str(getattr(runs_on, "device", "cpu")),
        precision=str(getattr(runs_on, "precision", "")),
        load_s=model.load_s,
        first_call_s=first,
        lines=count,
        lines_per_s=count / median_s,
        pages_per_s=pages_per_s,
        latency_p50_ms=lap.latency_ms(0.50),
        latency_p90_ms=lap.latency_ms(0.90),
        latency_p95_ms=lap.latency_ms(0.95),
        latency_p99_ms=lap.call_ms(0.99) if calls >= MANY_CALLS else None,
        runs_s=tuple(lap.all_lines_s),
        single_runs_ms=tuple(median(of_round) for of_round in lap.single_line_ms),
        chars_per_s=characters / median_s if source.readable else None,
        same_text=same_text if source.readable else None,
        same_weights=model.weights == reference.weights if runner else None,
        sha256=model.sha256 or None,
        exact=exact_lines(source.texts, lap.readings),
        **of_network,
    )


def _network_figures(
    recognizer: "RunnerRecognizer", source: Lines, peaks: Mapping[str, float]
) -> dict[str, Any]:
    """Return the fields of a row that only networks have: time by stage, wasted pixels, memory, and
    the share of the machine's peak.
    """
    from nordocr_cli.core.bench.network import (
        Operations,
        by_stages,
        peak_memory_mb,
        reset_peak_memory,
        share_of_peak,
    )

    measurable = reset_peak_memory()
    found = by_stages(recognizer, source.crops, source.read_s)
    figures: dict[str, Any] = {
        "stages_s": found.stages,
        "padding_waste": found.padding_waste,
        "peak_memory_mb": peak_memory_mb() if measurable else None,
    }
    if peaks:
        operations = Operations(recognizer.runner)
        flops = sum(operations.of(*shape) for shape in found.shapes)
        achieved = flops / found.stages.network / 1e9
        precision = str(getattr(recognizer.runner, "precision", ""))
        figures["flops"] = flops
        figures["roofline_share"] = share_of_peak(achieved, peaks, precision)
    return figures


def _with_pages(row: Row, lines_per_page: float | None) -> Row:
    """Add the pages per second to expect of documents with so many lines on a page."""
    if lines_per_page is None:
        return row
    return row.model_copy(update={"expected_pages_per_s": row.lines_per_s / lines_per_page})


def _external_row(found: External, source: Lines) -> Row:
    """Return the row of a program that finds its own lines. Their number may differ from the
    reference, whose lines are matched by position.
    """
    middle = median(found.runs_s)
    count = sum(len(page.regions) for page in found.pages)
    return Row(
        name=found.name,
        backend="external",
        device="",
        precision="",
        load_s=0.0,
        lines=count,
        lines_per_s=count / middle,
        pages_per_s=len(found.pages) / middle,
        latency_p50_ms=None,
        runs_s=found.runs_s,
        same_text=None,
        exact=exact_regions(source.pages, found.pages),
        compared=sum(len(page.regions) for page in source.pages),
    )


def _require_widths(recognizers: "Sequence[Recognizer]", widths: Sequence[int]) -> None:
    from nordocr_cli.runtime.recognizers import RunnerRecognizer

    found = [
        r.runner.contract.geometry.max_width
        for r in recognizers
        if isinstance(r, RunnerRecognizer)
    ]
    if not found:
        raise UsageError("--grid times networks alone; add a network to the models")
    odd = [width for width in widths if width % 4 or width > max(found)]
    if odd:
        raise UsageError(
            f"grid: widths must be multiples of 4 up to {max(found)} px, not"
            f" {', '.join(map(str, odd))}"
        )


def _grid(
    opened: Sequence[Opened],
    grid: tuple[Sequence[int], Sequence[int]],
    rounds: int,
    peaks: Mapping[str, float],
    progress: Progress,
) -> list[Cell]:
    from nordocr_cli.core.bench.network import Operations, share_of_peak, time_grid
    from nordocr_cli.runtime.recognizers import RunnerRecognizer

    runners = {
        m.name: m.recognizer.runner
        for m in opened
        if isinstance(m.recognizer, RunnerRecognizer)
    }
    batches, widths = grid
    progress.note(f"timing {', '.join(runners)} at {len(batches) * len(widths)} shapes")
    cells = time_grid(runners, batches, widths, rounds)
    if not peaks:
        return cells
    # the networks take turns in the cells
    counted = cycle([Operations(runner) for runner in runners.values()])
    shares = [
        share_of_peak(
            operations.of(cell.batch, cell.width_px) / cell.median_ms / 1e6,
            peaks,
            cell.precision,
        )
        for cell, operations in zip(cells, counted, strict=False)
    ]
    return [
        cell.model_copy(update={"roofline_share": share})
        for cell, share in zip(cells, shares, strict=True)
    ]


def _result_names(rows: Sequence[Row]) -> list[str]:
    """Return the file names that compare3way's examples and the consumer's scripts use. Further
    models are named after their file.
    """
    names: list[str] = []
    for number, row in enumerate(rows, start=1):
        if row.backend == "tesseract":
            usual_name = TESSERACT_RESULT
        else:
            usual_name = NETWORK_RESULT
        if usual_name not in names:
            name = usual_name
        else:
            name = f"{re.sub('[:/ ]', '_', row.name)}_result.json"
        names.append(name if name not in names else f"{number}_{name}")
    return names
