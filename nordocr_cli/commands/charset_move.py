"""`nordocr charset move`: weights → weights that read another charset."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def move(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="WEIGHTS|RUN", help="Weights (.safetensors) or a run's folder."
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="NAME|FILE", help="The charset that the new weights read."
        ),
    ],
    output: options.Output,
    new: Annotated[
        str,
        typer.Option(
            "--new",
            metavar="base|fresh",
            help="How new characters start: from their base letter, or fresh.",
        ),
    ] = "base",
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Write weights whose CTC head reads another charset: rows move by character, nothing else
    changes.

    Example: nordocr charset move runs/a --to nordic -o nordic.safetensors
    """
    from nordocr_cli.core.move_head import move_charset, plan_charset_move

    console = Console(quiet=quiet, as_json=as_json)
    plan = plan_charset_move(weights, to, output, new)
    if not dry_run:
        move_charset(plan)
    if as_json:
        console.json(plan.to_json())
    else:
        report = plan.report
        title = f"{plan.weights} ({report.from_charset}) → {output} ({report.to_charset})"
        console.table(title, ("rows", "characters"), plan.report.rows())
    if not dry_run:
        console.next("nordocr", "contract", "show", output)
