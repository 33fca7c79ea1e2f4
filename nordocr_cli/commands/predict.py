"""`nordocr predict`: read line images, pages and documents."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nordocr_cli import options
from nordocr_cli.atomic import is_stream
from nordocr_cli.console import Console
from nordocr_cli.errors import UsageError
from nordocr_cli.writers.registry import FORMATS

Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGE|DIR|TIFF|PDF|-", help="Pages or line images; - is standard input."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help="Run folder, .safetensors, .onnx, or tesseract[:swe]. Default: the one that ships.",
    ),
]
Regions = Annotated[
    Path | None,
    typer.Option(
        "--regions",
        metavar="FILE",
        help="Positions of the lines: JSON, ALTO, PAGE, hOCR or TSV.",
    ),
]
Layout = Annotated[
    str,
    typer.Option(
        "--layout",
        metavar="auto|line|page|tesseract",
        help="What an image holds: one line, or a page, whose lines nordocr or Tesseract finds.",
    ),
]
CropOption = Annotated[
    str,
    typer.Option(
        "--crop",
        metavar="outline|box",
        help="Cut lines along their outline, or the upright box around it, as the pipeline does.",
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="|".join(FORMATS),
        help="Format of the result. Default: what the suffix of -o stands for, else text.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Resume an interrupted --jsonl -o FILE of line images."),
]
BeamWidth = Annotated[
    int | None,
    typer.Option(
        "--beam-width", min=1, help="Texts that --decoder beam keeps. Default: 10."
    ),
]
CharLm = Annotated[
    Path | None,
    typer.Option(
        "--char-lm",
        metavar="FILE",
        help="Text from which --decoder language or beam learns likely characters.",
    ),
]
Lexicon = Annotated[
    Path | None,
    typer.Option(
        "--lexicon", metavar="FILE", help="Words that the beam prefers, one a line."
    ),
]
LmWeight = Annotated[
    float | None,
    typer.Option(
        "--lm-weight", min=0, help="Weight of either next to the network. Default: 0.3."
    ),
]
WideOption = Annotated[
    str,
    typer.Option(
        "--wide",
        metavar="split|squash",
        help="How to read lines that are wider than the model accepts.",
    ),
]
Language = Annotated[
    str,
    typer.Option(
        "--language",
        metavar="LANG",
        help="Language of the lines, for Tesseract: sv, no, da, is.",
    ),
]
Compiled = Annotated[
    bool,
    typer.Option(
        "--compile", help="Let torch compile the network: for many lines, on a GPU."
    ),
]
AsJsonl = Annotated[
    bool, typer.Option("--jsonl", help="Write one JSON object a line of text to stdout.")
]
FailIfDoubtful = Annotated[
    bool,
    typer.Option(
        "--fail-if-doubtful",
        help="Exit 4 when a page or an image is doubtful (see the warnings).",
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Height x width that a page may have. Default: 40 million.",
    ),
]
MaxPages = Annotated[
    int | None,
    typer.Option(
        "--max-pages", min=1, help="Pages that a document may have. Default: 10,000."
    ),
]


def predict(
    inputs: Inputs,
    model: Model = None,
    regions: Regions = None,
    layout: Layout = "auto",
    crop: CropOption = "outline",
    kind: FormatOption = None,
    output: options.OptionalOutput = None,
    resume: Resume = False,
    decoder: options.Decoder = "auto",
    beam_width: BeamWidth = None,
    char_lm: CharLm = None,
    lexicon: Lexicon = None,
    lm_weight: LmWeight = None,
    wide: WideOption = "split",
    language: Language = "",
    device: options.Device = "auto",
    threads: options.Threads = None,
    bf16: options.Bf16 = False,
    compiled: Compiled = False,
    fail_if_doubtful: FailIfDoubtful = False,
    max_pixels: MaxPixels = None,
    max_pages: MaxPages = None,
    as_json: options.Json = False,
    as_jsonl: AsJsonl = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Read pages (scans, photographs, TIFF, PDF), or images of one line of text.

    The shipped detector finds the lines of a page, whichever way it is turned; or --regions gives
    them. For pages, --json has the shape of the pipeline's results, and --format pdf is searchable.
    Inputs that cannot be read are reported, in JSON too; the others are read, and the exit code is
    3. Results are written as they come; with -o the file appears complete at the end.

    Example: nordocr predict scan.tif -o scan.pdf
    """
    from nordocr_cli.core.predict.plan import plan_predict

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    form = _format_name(kind, as_json=as_json, as_jsonl=as_jsonl, output=output)
    reading: dict[str, Any] = {
        "layout": layout,
        "crop": crop,
        "device": device,
        "threads": threads,
        "precision": "bf16" if bf16 else "fp32",
        "language": language,
        "decoder": decoder,
        "wide": wide,
        "compiled": compiled,
        **_beam(decoder, beam_width, char_lm, lexicon, lm_weight),
        "limits": _limits(max_pixels, max_pages),
    }
    plan = plan_predict(inputs, model, regions=regions, output=output, **reading)
    _check_format(form, plan, output)
    _check_resume(resume, form, plan, output)
    if language and plan.spec.backend != "tesseract" and plan.layout != "tesseract":
        console.warn(
            f"--language {language} has no effect: the network reads all its languages at once"
        )
    if dry_run:
        written = {"format": form} | ({"output": str(output)} if output else {})
        options.show_plan(console, plan.to_json() | written)
        return

    from nordocr_cli.core.predict.memory import return_large_blocks
    from nordocr_cli.core.predict.run import Reader

    return_large_blocks()
    counts = _write(
        Reader(plan.options, console), plan, form, output, resume=resume, console=console
    )
    counts.require_all()
    if fail_if_doubtful:
        counts.require_no_doubt()
    console.next(*_next_command(plan))


def _format_name(
    kind: str | None, *, as_json: bool, as_jsonl: bool, output: Path | None
) -> str:
    """The format that was requested, or that the suffix of the output stands for."""
    from nordocr_cli.writers.registry import format_of_file, require_format

    requested = {"json": as_json, "jsonl": as_jsonl, kind or "": kind is not None}
    names = sorted(name for name, is_given in requested.items() if is_given)
    if len(names) > 1:
        raise UsageError(
            f"{' and '.join(names)} are formats of the same result; choose one"
        )
    if names:
        return require_format(names[0]).name
    of_file = format_of_file(output) if output else None
    if of_file:
        return of_file.name
    return "text"


def _beam(
    decoder: str,
    beam_width: int | None,
    char_lm: Path | None,
    lexicon: Path | None,
    lm_weight: float | None,
) -> dict[str, Any]:
    """The options of the beam."""
    from nordocr_cli.decode.beam import BEAM_WIDTH
    from nordocr_cli.decode.language import WEIGHT, LanguageFiles

    if beam_width and decoder != "beam":
        raise UsageError("--beam-width requires --decoder beam")
    if lm_weight is not None and not (char_lm or lexicon):
        raise UsageError("--lm-weight requires --char-lm or --lexicon")
    lm = LanguageFiles(char_lm, lexicon, WEIGHT if lm_weight is None else lm_weight)
    return {"beam_width": beam_width or BEAM_WIDTH, "lm": lm}


def _limits(max_pixels: int | None, max_pages: int | None) -> Any:
    from nordocr_cli.limits import Limits

    given = {"max_pixels": max_pixels, "max_pages": max_pages}
    return Limits(**{name: value for name, value in given.items() if value is not None})


def _check_format(form: str, plan: Any, output: Path | None) -> None:
    """Raise UsageError when the result does not fit the format."""
    is_one_document = len(plan.inputs) == 1 and not plan.inputs[0].is_dir()
    if FORMATS[form].of_one_document and not is_one_document:
        raise UsageError(
            f"a file in {form} describes one image or document; use --format hocr, jsonl or tsv for"
            " several"
        )
    if FORMATS[form].is_binary and not output:
        raise UsageError(f"--format {form} is written to a file: give -o FILE")
    if form == "json" and plan.layout in ("page", "tesseract") and not is_one_document:
        raise UsageError(
            "the JSON of pages describes one document; use --jsonl for several"
        )


def _check_resume(resume: bool, form: str, plan: Any, output: Path | None) -> None:
    if resume and not (output and form == "jsonl" and plan.layout == "line"):
        raise UsageError(
            "--resume continues line images whose results go to --jsonl -o FILE"
        )
    if resume and output and is_stream(output):
        raise UsageError(
            f"--resume continues an interrupted file; {output} is a device or a pipe"
        )


def _write(
    reader: Any,
    plan: Any,
    form: str,
    output: Path | None,
    *,
    resume: bool,
    console: Console,
) -> Any:
    """Read, write the result to where it belongs, and return the counts."""
    if output is None:
        prediction = reader.run(plan)
        sys.stdout.writelines(prediction.write(form))
        return prediction.counts
    if form == "jsonl" and plan.layout == "line" and not is_stream(output):
        return _write_journal(reader, plan, output, resume=resume, console=console)
    prediction = reader.run(plan)
    for path in prediction.save(form, output):
        console.note(f"{path}: {prediction.counts.read} lines")
    return prediction.counts


def _write_journal(
    reader: Any, plan: Any, output: Path, *, resume: bool, console: Console
) -> Any:
    """Write JSON lines as they come, so that an interrupted command can be resumed."""
    from nordocr_cli.core.predict.journal import PredictJournal

    journal = PredictJournal(output, plan.to_json(), resume=resume)
    prediction = reader.run(plan, done=journal)
    prediction.counts.read += journal.read
    try:
        journal.write(prediction.write("jsonl"))
    finally:
        if not prediction.counts.read:
            journal.discard()
    console.note(f"{output}: {prediction.counts.read} lines")
    return prediction.counts


def _next_command(plan: Any) -> tuple[str, ...]:
    """A command that runs as it stands: another form of the same result."""
    document = str(plan.inputs[0])
    if plan.regions_file is not None:
        regions = str(plan.regions_file)
        return "nordocr", "read", document, "--regions", regions, "-o", "read.pdf"
    if plan.layout == "line":
        return "nordocr", "read", document, "--jsonl", "-o", "lines.jsonl"
    return "nordocr", "read", document, "-o", "lines.png"
