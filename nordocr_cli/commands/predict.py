"""`nordocr predict`: read line images or the regions of a document."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nordocr_cli import options
from nordocr_cli.console import Console
from nordocr_cli.errors import UsageError


def predict(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="IMAGE|DIR|TIFF|PDF", help="Line images, or pages.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help=(
                "Run folder, .safetensors, .onnx, or tesseract[:swe]. Default: the one that ships."
            ),
        ),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(
            "--regions", metavar="FILE", help="Where the lines are: JSON, ALTO, PAGE, hOCR or TSV."
        ),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            metavar="auto|line|page",
            help="An image is one line, or a page on which Tesseract finds them.",
        ),
    ] = "auto",
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="text|json|jsonl|tsv|alto|hocr|pdf",
            help="Form of the result. Default: text.",
        ),
    ] = None,
    output: options.OptionalOutput = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the --jsonl -o FILE of a run that was stopped."),
    ] = False,
    decoder: options.Decoder = "greedy",
    beam_width: Annotated[
        int | None,
        typer.Option("--beam-width", min=1, help="Texts that --decoder beam keeps. Default: 10."),
    ] = None,
    char_lm: Annotated[
        Path | None,
        typer.Option(
            "--char-lm", metavar="FILE", help="A text whose character n-grams help the beam."
        ),
    ] = None,
    lexicon: Annotated[
        Path | None,
        typer.Option("--lexicon", metavar="FILE", help="Words that the beam prefers, one a line."),
    ] = None,
    lm_weight: Annotated[
        float | None,
        typer.Option(
            "--lm-weight", min=0, help="Weight of either beside the network. Default: 0.3."
        ),
    ] = None,
    wide: Annotated[
        str,
        typer.Option(
            "--wide",
            metavar="split|squash",
            help="What is done with lines wider than the model takes.",
        ),
    ] = "split",
    language: Annotated[
        str,
        typer.Option("--language", help="Language of the lines, for Tesseract: sv, no, da, is."),
    ] = "",
    device: options.Device = "auto",
    threads: options.Threads = None,
    bf16: options.Bf16 = False,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Let torch compile the network: for many lines, on a GPU."),
    ] = False,
    as_json: options.Json = False,
    as_jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Write one JSON object a line of text to stdout.")
    ] = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Read line images (one line of text each), or the lines of pages: where --regions says they
    are, or where Tesseract finds them.

    Of pages, --json has the shape of the pipeline's results and --format pdf is searchable. What
    cannot be read is named, in JSON too, the rest is read, and the exit code is 3. Results are
    written as they come; with -o the file appears whole at the end, and --jsonl keeps the lines of
    a run that was stopped for --resume.

    Example: nordocr predict scan.tif --format pdf -o scan.pdf
    """
    from nordocr_cli.core.predict import run as core
    from nordocr_cli.core.predict.journal import Journal
    from nordocr_cli.decode.beam import BEAM_WIDTH
    from nordocr_cli.decode.language import WEIGHT, LanguageFiles

    asked = {
        name
        for name, given in (("json", as_json), ("jsonl", as_jsonl), (kind or "", kind is not None))
        if given
    }
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(sorted(asked))} are shapes of the same result; choose one")
    kind = core.require_format(asked.pop() if asked else "text")
    if kind == "alto" and (len(inputs) > 1 or inputs[0].is_dir()):
        raise UsageError(
            "an ALTO file describes one image or document; use --format hocr, jsonl or tsv for many"
        )
    if kind == "pdf" and not output:
        raise UsageError("a PDF is written to a file: give -o FILE.pdf")
    if beam_width and decoder != "beam":
        raise UsageError("--beam-width is how many texts a beam keeps: say --decoder beam")
    if lm_weight is not None and not (char_lm or lexicon):
        raise UsageError("--lm-weight weighs what --char-lm or --lexicon says: give one of them")
    precision = "bf16" if bf16 else "fp32"
    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    lm = LanguageFiles(char_lm, lexicon, WEIGHT if lm_weight is None else lm_weight)
    reading: dict[str, Any] = {
        "regions": regions,
        "layout": layout,
        "device": device,
        "precision": precision,
        "decoder": decoder,
    }
    reading |= {
        "beam_width": beam_width or BEAM_WIDTH,
        "wide": wide,
        "compiled": compiled,
        "lm": lm,
    }
    plan = core.plan_predict(inputs, model, output=output, **reading)
    of_lines = plan.get("layout") == "line"
    if language and plan["backend"] != "tesseract" and plan.get("layout") != "page":
        console.warn(
            f"--language {language} is told to Tesseract, which takes no part here: a network reads"
            " all its languages"
        )
    if kind == "json" and plan.get("layout") == "page" and (len(inputs) > 1 or inputs[0].is_dir()):
        raise UsageError("the JSON of pages describes one document; use --jsonl for many")
    if resume and not (output and kind == "jsonl" and of_lines):
        raise UsageError(
            "--resume goes on with line images whose results go to a file as JSON lines: --jsonl -o"
            " FILE"
        )
    if dry_run:
        written = {"format": kind} | ({"output": str(output)} if output else {})
        options.show_plan(console, plan | written)
        return
    journal = (
        Journal(output, plan, resume=resume) if output and kind == "jsonl" and of_lines else None
    )
    prediction = core.predict(
        inputs,
        model,
        threads=threads,
        language=language,
        done=journal if journal else (),
        progress=console,
        **reading,
    )
    if journal:
        prediction.counts.read += journal.read
        try:
            journal.write(prediction.write(kind))
        finally:
            if not prediction.counts.read:
                journal.discard()
    elif output:
        prediction.save(kind, output)
    else:
        sys.stdout.writelines(prediction.write(kind))
    if output:
        console.note(f"{output}: {prediction.counts.read} lines")
    prediction.counts.require_all()
    console.next(
        "nordocr",
        *(("eval", plan["model"], "STORE") if regions is None else ("compare3way", "--help")),
    )
