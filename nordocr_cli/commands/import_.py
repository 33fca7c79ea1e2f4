"""`nordocr import`: another program's checkpoint → weights."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def import_(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="OpenOCR's best.pth, PARSeq's .pt, or .safetensors."
        ),
    ],
    output: options.Output,
    charset: Annotated[
        str | None,
        typer.Option(
            "--charset",
            metavar="NAME|FILE",
            autocompletion=options.complete_charset,
            help="The characters it was trained with, e.g. its dictionary .txt.",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            "-p",
            metavar="NAME|FILE.toml",
            help="Profile that it was trained with: its widths, charset and [engine.*] are used.",
        ),
    ] = None,
    sets: options.Set = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Import a checkpoint of OpenOCR's SVTR or SVTRv2, or of PARSeq.

    Nothing in the checkpoint is executed. `charset move` then moves the head to another charset.

    Example: nordocr import best.pth --charset EN_symbol_dict.txt -o svtrv2.safetensors
    """
    from nordocr_cli.charset import NORDIC
    from nordocr_cli.core.import_ import import_checkpoint, plan_import

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    plan = plan_import(checkpoint, charset, output, profile=profile, sets=sets or ())
    if dry_run:
        options.show_plan(console, plan.to_json())
        return
    result = import_checkpoint(plan, console)
    if as_json:
        console.json(result.to_json())
        return
    rows = [
        *((key, str(value)) for key, value in result.model.items()),
        ("classes", str(result.num_classes)),
        ("parameters", f"{result.parameters:,} in {result.tensors} tensors"),
        *(
            (f"left out: {what}", f"{count} tensors")
            for what, count in result.dropped.items()
        ),
    ]
    console.table(str(output), ("what", "found"), rows)
    if plan.charset.sha256 == NORDIC.sha256:
        console.next("nordocr", "export", output)
    else:
        console.next(
            *("nordocr", "charset", "move", output),
            *("--to", "nordic", "-o", "nordic.safetensors"),
        )
