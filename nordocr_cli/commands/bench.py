"""`nordocr bench`: how fast recognizers read the same lines, side by side."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

if TYPE_CHECKING:
    from nordocr_cli.core.bench.plan import BenchRequest
    from nordocr_cli.core.bench.result import BenchResult


MIN_SAME = 0.99


def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]… [DOC.tif]",
            help="Run folder, .safetensors, .onnx, .engine, tesseract[:swe]; or a document.",
        ),
    ] = None,
    lines: Annotated[
        Path | None,
        typer.Option(
            "--lines",
            metavar="SOURCE",
            help="Read the lines of this store, or of anything else that prep reads.",
        ),
    ] = None,
    doc: Annotated[
        Path | None,
        typer.Option("--doc", metavar="TIFF", help="Read the regions of this document."),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(
            "--regions",
            metavar="FILE",
            help="Regions of --doc. Default: DOC.json next to it, else the line finder.",
        ),
    ] = None,
    widths: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE|FILE",
            help="Time networks on lines of these widths: a store, a JSON file of `data stats`, or"
            " a table `width count`.",
        ),
    ] = None,
    lines_per_page: Annotated[
        float | None,
        typer.Option(
            min=0.1, metavar="N", help="Lines on a page, for the pages/s to expect."
        ),
    ] = None,
    external: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Also run this program as an engine; {page} stands for a page's image.",
        ),
    ] = None,
    output: options.OptionalOutput = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Timed runs of each, taken in turns.")
    ] = 3,
    single_lines: Annotated[
        int,
        typer.Option(
            "--single-lines",
            min=1,
            help="Lines timed one by one, for p50, p90 (p99 from 1,000).",
        ),
    ] = 32,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Read only N lines, evenly spread."),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            metavar="BATCHESxWIDTHS", help="Networks alone, e.g. 1,8,32x128,320,768."
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD.json", help="Exit 4 if a case is slower than in this result."
        ),
    ] = None,
    min_same: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Exit 4 if a network agrees with the reference on fewer lines than this. Default:"
            f" {MIN_SAME} for forms of its weights; a given value applies to every network.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the result (needs matplotlib)."),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    bf16: options.Bf16 = False,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Time recognizers side by side over the same lines, and count the lines that they read alike.

    With a document and -o, the readings are written next to OUTPUT for compare3way:
    svtrv2_result.json, tess_result.json. Without a model, a document is read by nordocr-default and
    tesseract.

    Example: nordocr bench runs/demo model.onnx tesseract --doc doc.tif --regions doc.json -o
    bench.json
    """
    from nordocr_cli.core.bench import run as core
    from nordocr_cli.core.bench.plan import (
        BenchRequest,
        models_and_document,
        parse_grid,
        plan,
    )
    from nordocr_cli.core.bench.verdict import require_gates

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    chosen, doc, regions = models_and_document(models or [], doc, regions)
    request = BenchRequest(
        tuple(chosen),
        lines=lines,
        document=doc,
        regions=regions,
        widths=widths,
        lines_per_page=lines_per_page,
        output=output,
        device=device,
        threads=threads,
        precision="bf16" if bf16 else "fp32",
        rounds=rounds,
        single_lines=single_lines,
        limit=limit,
        grid=parse_grid(grid) if grid else None,
        external=external,
        baseline=baseline,
        plot=plot,
        command=sys.argv,
    )
    planned = plan(request)
    if dry_run:
        options.show_plan(console, planned.to_json() | _requested(request))
        return
    result = core.run(planned, console)
    if as_json:
        console.json(result.to_json())
    else:
        _show(console, result)
    require_gates(result, baseline, min_same, MIN_SAME)
    ran = next(model for model in chosen if model not in result.skipped)
    console.next(*_next_command(result.written, doc, regions, ran, lines))


def _requested(request: "BenchRequest") -> dict[str, object]:
    """The options of a dry run that the plan does not hold; those not given are left out."""
    given = {
        "output": str(request.output) if request.output else None,
        "limit": request.limit,
        "threads": request.threads,
        "lines_per_page": request.lines_per_page,
        "grid": request.grid,
        "rounds": request.rounds,
        "single_lines": request.single_lines,
    }
    return {name: value for name, value in given.items() if value is not None}


def _next_command(
    written: Sequence[str],
    doc: Path | None,
    regions: Path | None,
    model: str,
    lines: Path | None,
) -> tuple[object, ...]:
    """Compare the readings of a document where both were written, else evaluate a model."""
    found = {Path(path).name: path for path in written}
    network = found.get("svtrv2_result.json")
    tesseract = found.get("tess_result.json")
    if doc is None or network is None or tesseract is None:
        return "nordocr", "eval", model, lines or "STORE"
    sides = ("--svtrv2", network, "--tess", tesseract)
    truth = ("--truth", regions) if regions else ()
    return "nordocr", "compare3way", doc, *sides, *truth


def _show(console: Console, result: "BenchResult") -> None:
    from nordocr_cli.core.bench.tables import (
        ACCURACY_HEADS,
        GRID_HEADS,
        ROW_HEADS,
        STAGE_HEADS,
        VERDICT_HEADS,
        accuracy_rows,
        grid,
        rows,
        stages,
        verdicts,
    )
    from nordocr_cli.metrics.tables import verdict_note

    console.table(
        f"{result.source}: median of {result.rounds} rounds",
        ROW_HEADS,
        rows(result),
        right=range(2, 11),
    )
    if result.accuracy:
        title = f"accuracy, compared with {result.accuracy[0].other}"
        console.table(title, ACCURACY_HEADS, accuracy_rows(result), right=range(1, 6))
        unit = "pages" if result.rows[0].pages_per_s else "documents"
        console.note(verdict_note(result.accuracy[0].comparison, unit))
    parts = stages(result)
    if parts:
        console.table(
            "one pass, by stage",
            STAGE_HEADS,
            parts,
            right=range(1, 10),
        )
    if result.grid:
        console.table("networks alone", GRID_HEADS, grid(result), right=range(1, 7))
    if result.verdicts:
        console.table(
            f"against {result.baseline}", VERDICT_HEADS, verdicts(result), right=(1, 2, 3)
        )
    load = result.environment["load_average"]
    shown_load = load[0] if load else "unknown"
    console.line(
        f"{result.environment['cores']} cores, load {shown_load}; p50 and p90 are of single lines"
    )
    version = result.environment["versions"].get("tesseract")
    if version:
        if "tesserocr" in version:
            startup = ""
        else:
            startup = ": its single lines include starting the program"
        console.line(f"{version}{startup}")
    if result.lines_per_page is not None:
        console.line(
            f"pages/s: expected for {result.lines_per_page:g} lines a page; opening the pages and"
            " finding their lines is not included"
        )
    for path in result.written:
        console.line(f"readings: {path}")
