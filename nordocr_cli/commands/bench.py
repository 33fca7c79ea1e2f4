"""`nordocr bench`: how fast recognizers read the same lines, side by side."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def bench(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="Run folder, .safetensors, .onnx, tesseract[:swe].")],
    lines: Annotated[Path | None, typer.Option("--lines", metavar="STORE", help="Read the lines of this store.")] = None,
    doc: Annotated[Path | None, typer.Option("--doc", metavar="TIFF", help="Read the regions of this document.")] = None,
    regions: Annotated[Path | None, typer.Option("--regions", metavar="JSON", help="Regions of --doc.")] = None,
    output: options.OptionalOutput = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Timed runs of each, taken in turns.")] = 3,
    single_lines: Annotated[int, typer.Option("--single-lines", min=1, help="Lines timed one by one, for p50 and p95.")] = 32,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Read only so many lines, evenly spread.")] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    bf16: options.Bf16 = False,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Time recognizers side by side over the same lines, and count the lines that they read alike.

    With --doc and -o, the readings are written beside OUTPUT for compare3way: svtrv2_result.json, tess_result.json.

    Example: nordocr bench runs/demo model.onnx tesseract --doc doc.tif --regions doc.json -o bench.json
    """
    from nordocr_cli.core import bench as core

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    if dry_run:
        asked = {"output": str(output) if output else None, "limit": limit, "threads": threads}
        plan = core.plan_bench(models, lines, doc, regions, device, output) | {k: v for k, v in asked.items() if v is not None}
        options.show_plan(console, plan | {"rounds": rounds, "single_lines": single_lines})
        return
    result = core.bench(
        models,
        lines=lines,
        document=doc,
        regions=regions,
        output=output,
        device=device,
        threads=threads,
        precision="bf16" if bf16 else "fp32",
        rounds=rounds,
        single_lines=single_lines,
        limit=limit,
        progress=console,
    )
    if as_json:
        console.json(result.to_json())
        return
    columns = ("model", "backend", "lines/s", "p50 ms", "p95 ms", "load s", "same text", "exact")
    rows = [
        (
            row.name,
            " ".join(filter(None, (row.backend, row.precision, row.device))),
            f"{row.lines_per_s:.1f}",
            f"{row.latency_p50_ms:.1f}",
            f"{row.latency_p95_ms:.1f}",
            f"{row.load_s:.2f}",
            f"{row.same_text}/{row.lines}",
            "–" if row.exact is None else f"{row.exact}/{row.lines}",
        )
        for row in result.rows
    ]
    console.table(f"{result.source}: median of {rounds} rounds", columns, rows, right=range(2, 8))
    load = result.environment["load_average"]
    console.line(f"{result.environment['cores']} cores, load {load[0] if load else 'unknown'}; p50 and p95 are of single lines")
    if any(row.backend == "tesseract" for row in result.rows):
        console.line("tesseract's single lines include starting the program")
    for path in result.written:
        console.line(f"readings: {path}")
    found = {path.name: path for path in result.written}
    if {"svtrv2_result.json", "tess_result.json"} <= set(found):
        sides = ("--svtrv2", found["svtrv2_result.json"], "--tess", found["tess_result.json"])
        console.next("nordocr", "compare3way", doc, *sides, "--truth", regions)
    else:
        ran = next(model for model in models if model not in result.skipped)
        console.next("nordocr", "eval", ran, lines or "STORE")
