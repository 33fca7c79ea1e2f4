"""`nordocr merge-lora`: a fine-tuned TrOCR → a folder that transformers reads."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def merge_lora(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="WEIGHTS|RUN", help="A run of trocr-lora, or its best.safetensors."
        ),
    ],
    output: options.Output,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Merge a TrOCR's adapters into its weights, and write one folder.

    transformers can load the folder, and so can every command that reads lines. The outputs of both
    forms are compared before the folder is written. The run's folder `adapter` holds the adapters
    alone, in the format of peft.

    Example: nordocr merge-lora runs/trocr-lora-1 -o trocr-nordic
    """
    from nordocr_cli.core.merge_lora import merge_adapters, plan_merge

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    plan = plan_merge(weights, output)
    if dry_run:
        options.show_plan(console, plan.to_json())
        return
    result = merge_adapters(plan, console)
    if as_json:
        console.json(result.to_json())
    else:
        rows = [
            ("parameters", f"{result.parameters:,}"),
            ("logits differ by", f"{result.max_diff:.1e} at most"),
        ]
        console.table(
            str(output), ("what", "found"), [*rows, ("files", ", ".join(result.files))]
        )
    console.next("nordocr", "eval", output, "LINES.lmdb")
