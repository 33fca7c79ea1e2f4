"""`nordocr compare3way`: two engines on a document, against ground truth or a VLM."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def compare3way(
    document: Annotated[Path, typer.Argument(metavar="DOCUMENT", help="The pages: a TIFF (also of many pages) or an image.")],
    svtrv2: Annotated[Path, typer.Option("--svtrv2", metavar="JSON", help="Result of the first engine.")],
    tess: Annotated[Path, typer.Option("--tess", metavar="JSON", help="Result of the second engine.")],
    truth: Annotated[Path | None, typer.Option("--truth", metavar="JSON", help="Ground truth with regions.")] = None,
    vlm_cache: Annotated[Path | None, typer.Option("--vlm-cache", metavar="JSONL", help="Recorded answers of a VLM.")] = None,
    vlm_url: Annotated[str | None, typer.Option("--vlm-url", metavar="URL", help="OpenAI-compatible server, up to /v1.")] = None,
    vlm_model: Annotated[str | None, typer.Option("--vlm-model", metavar="NAME", help="The model's name there.")] = None,
    vlm_key_env: Annotated[
        str | None, typer.Option("--vlm-key-env", metavar="NAME", help="Environment variable that holds the server's key.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Questions asked at a time.")] = 8,
    output: options.OptionalOutput = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Compare two engines on a document, line by line, against ground truth or a vision-language model's answers.

    Without --vlm-url nothing leaves this machine. Answers are kept in --vlm-cache; a run that was stopped asks only the rest.

    Example: nordocr compare3way doc.tif --svtrv2 svtrv2_result.json --tess tess_result.json --truth doc.json -o out.json
    """
    from nordocr_cli.compare.vlm import endpoint
    from nordocr_cli.core import compare3way as core

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    server = endpoint(vlm_url, vlm_model, vlm_key_env, workers) if vlm_url else None
    if server and vlm_cache is None:
        vlm_cache = (output.parent if output else Path()) / f"{document.stem}.vlm.jsonl"
    referee = core.Referee(truth, vlm_cache, vlm_model, server)
    if dry_run:
        plan = core.plan_compare3way(document, svtrv2, tess, referee, output)
        options.show_plan(console, plan | ({"output": str(output)} if output else {}))
        return
    comparison = core.compare3way(document, svtrv2, tess, referee, output=output, progress=console)
    if as_json:
        console.json(comparison.to_json())
        return
    verdict = comparison.verdict
    first, second = verdict.engines
    columns = ("", first, second, "gap", "actionable")
    console.table(f"{document.name}: {verdict.reference}", columns, verdict.table(), right=(1, 2, 3))
    columns = ("page", "lines", f"{first} exact", f"{second} exact", "gap")
    console.table("by page", columns, verdict.page_table(), right=(0, 1, 2, 3, 4))
    names = ("both right", f"only {first} right", f"only {second} right", "both wrong")
    console.line(", ".join(f"{name} {n}" for name, n in zip(names, verdict.outcomes.values(), strict=True)))
    if verdict.excluded:
        console.line("left out: " + ", ".join(f"{reason} {n}" for reason, n in verdict.excluded.items()))
    if verdict.uneven:
        shapes = ", ".join(f"{shape} ({count})" for shape, count in verdict.uneven.items())
        console.line(f"lines that are not one region on each side: {shapes}")
    shown = [(e.page_index + 1, e.reference, *("∅" if text is None else text for text in e.readings)) for e in verdict.examples()]
    console.table("examples", ("page", "reference", first, second), shown)
    console.next(f"open {output}" if output else "the same with -o out.json keeps every line")
