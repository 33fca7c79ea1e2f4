"""`nordocr contract seal`: models of an older schema → the same models with complete digests."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

_SHOWN_DIGITS = 12


def seal(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            help="Weights, runs, ONNX models and engines; written in place.",
        ),
    ],
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Rewrite models of an older nordocr with digests over everything in them.

    Tensors, graph and contract stay the same. Give a model and what was made from it together, so
    that parents are still recognized by their new hashes.

    Example: nordocr contract seal best.safetensors best.onnx best.int8.onnx
    """
    from nordocr_cli.core.seal import plan_seal, seal

    console = Console(quiet=quiet, as_json=as_json)
    paths = plan_seal(models)
    if dry_run:
        options.show_plan(console, {"models": [str(path) for path in paths]})
        return
    sealed = seal(paths)
    if as_json:
        console.json([file.to_json() for file in sealed])
    else:
        rows = [
            (str(file.path), file.before[:_SHOWN_DIGITS], file.after[:_SHOWN_DIGITS])
            for file in sealed
        ]
        console.table("sealed", ("file", "sha256 before", "sha256 after"), rows)
    console.next("nordocr", "contract", "show", sealed[0].path)
