"""`nordocr advise`: shape ranges of an engine from the widths of a store's lines."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def advise(
    store: Annotated[
        Path,
        typer.Argument(
            metavar="STORE", help="Line store with the widths of the lines to serve."
        ),
    ],
    profile: options.Profile = "svtrv2-1024",
    arch: Annotated[
        str, typer.Option(metavar="sm86|sm120|…", help="GPU whose batch sizes are used.")
    ] = "sm120",
    bands: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=6, help="Ranges of width in one engine, at most."
        ),
    ] = 3,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL.onnx", help="Predict each range's memory for this model."
        ),
    ] = None,
    output: options.OptionalOutput = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Propose an engine's batch sizes and widths from the widths of your lines.

    Prints a table and the TOML for the profile; -o writes the TOML.

    Example: nordocr advise lines.lmdb -p svtrv2-1024 --arch sm86
    """
    from nordocr_cli.errors import UsageError

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    if not (store / "data.mdb").is_file():
        raise UsageError(f"no line store {store}; make one with `nordocr prep`")
    if model and (model.suffix != ".onnx" or not model.is_file()):
        raise UsageError(f"--model {model}: no ONNX model; make one with `nordocr export`")
    if dry_run:
        plan = {
            "store": str(store),
            "profile": profile,
            "arch": arch,
            "bands": bands,
            "writes": [str(output)] if output else [],
        }
        options.show_plan(console, plan)
        return
    from nordocr_cli.core.advise import advise as run
    from nordocr_cli.core.advise import write_advice

    found = run(store, profile, arch, bands, model, console)
    if output:
        write_advice(found, output)
    if as_json:
        console.json(found.to_json())
    else:
        spread = ", ".join(f"{name} {width}" for name, width in found.quantiles.items())
        columns = ("", "min", "opt", "max", "lines", "padding", "memory")
        console.table(
            f"{found.lines} lines, widths in px: {spread}",
            columns,
            found.rows(),
            right=(1, 2, 3, 4, 5, 6),
        )
        if output:
            console.note(f"wrote {output}")
        else:
            console.line(found.to_toml().rstrip())
    band_options = [
        f"--band={band.opt_batch}x{band.opt_width}:{band.max_batch}x{band.max_width}"
        for band in found.bands.ranges
    ]
    console.next(
        "nordocr",
        "build-engine",
        "--arch",
        found.arch,
        *band_options,
        model or "MODEL.onnx",
    )
