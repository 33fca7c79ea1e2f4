"""`nordocr promote`: give the best weights of a run their place, when they are good enough."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def promote(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    expect: Annotated[
        Path,
        typer.Option("--expect", metavar="FILE.toml", help="Gates: METRIC = [least, greatest]."),
    ],
    output: options.OptionalOutput = None,
    on: Annotated[
        list[Path] | None,
        typer.Option("--on", metavar="STORE", help="Judge by this store. Repeatable."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="PATH", help="Another result, for against.cer."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace other weights of that name.")
    ] = False,
    allow_leakage: Annotated[
        bool,
        typer.Option(
            "--allow-leakage", help="Promote though the stores hold lines that were trained on."
        ),
    ] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Copy the best weights of a run to promoted/RUN.safetensors (or -o) when every gate holds;
    else exit 4 with what missed.

    Beside them FILE.promotion.json keeps the gates, the evaluation and the run's own run.json.

    Example: nordocr promote runs/a --expect targets.toml -o models/recognize.safetensors
    """
    from nordocr_cli.core import promote as core

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    if dry_run:
        options.show_plan(
            console, core.plan_promotion(run, expect, output, on or (), replace=replace)
        )
        return
    done = core.promote(
        run,
        expect,
        output,
        on or (),
        against=against,
        replace=replace,
        allow_leakage=allow_leakage,
        device=device,
        threads=threads,
        command=sys.argv,
        progress=console,
    )
    if as_json:
        console.json(done.to_json())
    else:
        figures = [(result.report.total.rates, result.store or {}) for result in done.results]
        rows = [
            *(
                (
                    f"on {store.get('path', '')}",
                    f"CER {rates['cer']:.2%}, exact {rates['exact']:.1%}",
                )
                for rates, store in figures
            ),
            # a gate's text says when it fails
            *(("holds", gate.replace("<", " ≥ ").replace(">", " ≤ ")) for gate in done.gates),
            ("weights", done.weights),
            ("record", done.record),
        ]
        console.table(f"{run} promoted", ("what", "value"), rows)
    console.next("nordocr", "export", done.weights)
