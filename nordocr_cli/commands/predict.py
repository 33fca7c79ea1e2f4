"""`nordocr predict`: read line images or the regions of a document."""

import json
from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console
from nordocr_cli.errors import DataError, UsageError


def predict(
    inputs: Annotated[list[Path], typer.Argument(metavar="IMAGE|DIR|TIFF", help="Line images, or one document.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Run folder, .safetensors, .onnx, or tesseract[:swe].")],
    regions: Annotated[
        Path | None, typer.Option("--regions", metavar="JSON", help="Where the document's lines are: truth or a result.")
    ] = None,
    language: Annotated[str, typer.Option("--language", help="Language of the lines, for Tesseract: sv, no, da, is.")] = "",
    device: options.Device = "auto",
    threads: options.Threads = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Let torch compute in bf16: faster, logits differ by 0.01.")] = False,
    as_json: options.Json = False,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Write one JSON object a line of text to stdout.")] = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Read line images (one line of text each), or with --regions the lines of a document's pages.

    With --regions, --json has the shape of the pipeline's results. Exit 3 when an image could not be read; the rest is read.

    Example: nordocr predict line.png --model runs/demo
    """
    if as_json and as_jsonl:
        raise UsageError("--json and --jsonl are two shapes of the same result; choose one")
    console = Console(quiet=quiet, verbose=verbose, as_json=as_json or as_jsonl)
    if dry_run:
        plan = {"inputs": [str(path) for path in inputs], "model": model, "device": device}
        options.show_plan(console, plan | ({"regions": str(regions)} if regions else {}))
        return
    from nordocr_cli.core import predict as core

    prediction = core.predict(
        inputs,
        model,
        regions=regions,
        device=device,
        threads=threads,
        precision="bf16" if bf16 else "fp32",
        language=language,
        progress=console,
    )
    if as_json:
        console.json(prediction.to_json())
    elif as_jsonl:
        for record in prediction.records():
            console.line(json.dumps(record, ensure_ascii=False))
    else:
        for line in prediction.lines:
            console.line(line.reading.text if len(prediction.lines) == 1 else f"{line.path}\t{line.reading.text}")
        for page in prediction.pages:
            console.line("\n".join(region.text for region in page.regions))
    if prediction.failed:
        raise DataError(f"{len(prediction.failed)} of {len(prediction.failed) + len(prediction.lines)} images could not be read")
    console.next(f"nordocr eval {model} STORE" if prediction.lines else "nordocr compare3way --help")
