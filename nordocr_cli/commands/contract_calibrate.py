"""`nordocr contract calibrate`: a model → the model with confidences that mean something."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def calibrate(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL|RUN",
            help="Weights, a run's folder, or an ONNX model with logits.",
        ),
    ],
    store: Annotated[
        Path,
        typer.Argument(
            metavar="STORE", help="Lines with their texts, such as the network will read."
        ),
    ],
    output: options.Output,
    lines: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Number of lines to sample, evenly spread."),
    ] = 2000,
    language_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|none",
            help="Language model to read with from now on, e.g. nordic. Default: no change.",
        ),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Fit the confidences of a network so that they tell how often its lines are exact, and write
    the model with them.

    Of lines with confidence 0.9, nine in ten should be right. Without --language-model the texts
    stay as they are; exports of calibrated weights inherit the calibration. Take lines that the
    network was not trained on.

    Example: nordocr contract calibrate runs/svtrv2-1024 val.lmdb -o calibrated.safetensors
    """
    from nordocr_cli.core.calibrate import calibrate_model, plan_calibration

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    plan = plan_calibration(model, store, output, lines, language_model)
    if dry_run:
        options.show_plan(console, plan.to_json())
        return
    found = calibrate_model(plan, device=device, threads=threads, progress=console)
    if as_json:
        console.json(found.to_json())
    else:
        sides = (
            ("as it was", plan.contract.temperature, found.before),
            ("calibrated", found.temperature, found.after),
        )
        rows = [
            (name, f"{at:g}", f"{side.ece:.2%}", f"{side.aurc:.2%}")
            for name, at, side in sides
        ]
        columns = (
            "",
            "temperature",
            "calibration error",
            "error rate, averaged over coverages",
        )
        console.table(
            f"{output}, measured on {found.before.lines} lines",
            columns,
            rows,
            right=(1, 2, 3),
        )
        console.note(
            "calibrated: each half of the lines is judged with the fit of the other half; at"
            f" {found.line_confidence.nats:.2f} nats half of the lines are exact"
        )
    if output.suffix == ".safetensors":
        console.next("nordocr", "export", output)
    else:
        console.next("nordocr", "eval", output, "LINES.lmdb")
