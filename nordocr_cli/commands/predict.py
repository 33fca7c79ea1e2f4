"""`nordocr predict`: read line images or the regions of a document."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from nordocr_cli import options
from nordocr_cli.console import Console
from nordocr_cli.errors import UsageError


def predict(
    inputs: Annotated[list[Path], typer.Argument(metavar="IMAGE|DIR|TIFF", help="Line images, or one document.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Run folder, .safetensors, .onnx, or tesseract[:swe].")],
    regions: Annotated[
        Path | None, typer.Option("--regions", metavar="FILE", help="Where the lines are: JSON, ALTO, PAGE, hOCR or TSV.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--format", metavar="text|json|jsonl|tsv|alto|hocr", help="Form of the result. Default: text.")
    ] = None,
    output: options.OptionalOutput = None,
    decoder: options.Decoder = "greedy",
    beam_width: Annotated[int, typer.Option("--beam-width", min=1, help="Texts that --decoder beam keeps.")] = 10,
    wide: Annotated[
        str, typer.Option("--wide", metavar="split|squash", help="What is done with lines wider than the model takes.")
    ] = "split",
    language: Annotated[str, typer.Option("--language", help="Language of the lines, for Tesseract: sv, no, da, is.")] = "",
    device: options.Device = "auto",
    threads: options.Threads = None,
    bf16: options.Bf16 = False,
    as_json: options.Json = False,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Write one JSON object a line of text to stdout.")] = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Read line images (one line of text each), or with --regions the lines of a document's pages.

    With --regions, --json has the shape of the pipeline's results. What cannot be read is named, the rest is read, and the exit
    code is 3. Results are written as they come; with -o the file appears whole at the end.

    Example: nordocr predict line.png --model runs/demo
    """
    from nordocr_cli.core import predict as core

    asked = {name for name, given in (("json", as_json), ("jsonl", as_jsonl), (kind or "", kind is not None)) if given}
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(sorted(asked))} are shapes of the same result; choose one")
    kind = core.require_format(asked.pop() if asked else "text")
    if kind == "alto" and (len(inputs) > 1 or inputs[0].is_dir()):
        raise UsageError("an ALTO file describes one image or document; use --format hocr, jsonl or tsv for many")
    precision: Literal["fp32", "bf16"] = "bf16" if bf16 else "fp32"
    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    plan = core.plan_predict(
        inputs,
        model,
        regions=regions,
        device=device,
        precision=precision,
        decoder=decoder,
        beam_width=beam_width,
        wide=wide,
        output=output,
    )
    if dry_run:
        written = {"format": kind} | ({"output": str(output)} if output else {})
        options.show_plan(console, plan | written)
        return
    prediction = core.predict(
        inputs,
        model,
        regions=regions,
        device=device,
        threads=threads,
        precision=precision,
        language=language,
        decoder=decoder,
        beam_width=beam_width,
        wide=wide,
        progress=console,
    )
    if output:
        from nordocr_cli.atomic import replacing

        with replacing(output) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(prediction.write(kind))
        console.note(f"{output}: {prediction.counts.read} lines")
    else:
        sys.stdout.writelines(prediction.write(kind))
    prediction.counts.require_all()
    console.next("nordocr", *(("eval", model, "STORE") if regions is None else ("compare3way", "--help")))
