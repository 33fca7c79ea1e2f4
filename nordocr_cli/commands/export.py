"""`nordocr export`: trained weights → ONNX."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def export(
    weights: Annotated[
        Path | None,
        typer.Argument(
            metavar="CHECKPOINT|RUN",
            help="Weights (.safetensors), a run's folder, or another program's .pth.",
        ),
    ] = None,
    output: options.OptionalOutput = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same as the argument.")
    ] = None,
    profile: options.OptionalProfile = None,
    sets: options.Set = None,
    charset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            autocompletion=options.complete_charset,
            help="Characters of another program's .pth: its dictionary or charset.rs.",
        ),
    ] = None,
    simplified_copy: Annotated[
        bool | None,
        typer.Option(
            "--sim/--no-sim",
            help="Also write the simplified model as NAME_sim.onnx. Default: of a .pth.",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="fp32|fp16|bf16",
            help="Format of the weights. Default: fp32, and fp16 next to it for engines.",
        ),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(
            metavar="17-20|22",
            min=17,
            max=22,
            help="ONNX opset; bf16: 22. Default: the profile's, 17.",
        ),
    ] = None,
    simplify: Annotated[
        bool | None,
        typer.Option("--simplify/--no-simplify", help="Run onnxsim. Default: on."),
    ] = None,
    output_activation: Annotated[
        str | None,
        typer.Option(
            metavar="logits|softmax|argmax+confidence",
            help=(
                "What a frame of the output holds; with the last two numbers only. Default: the"
                " profile's, logits."
            ),
        ),
    ] = None,
    input_type: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="float|uint8",
            help="Normalized pixels, or pixels as they are: a quarter of the bytes.",
        ),
    ] = "float",
    io: Annotated[
        str,
        typer.Option(
            metavar="fp32|fp16", help="Floating-point format of input and output."
        ),
    ] = "fp32",
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Also write MODEL.int8.onnx for ONNX Runtime on CPUs, which reads line by line.",
        ),
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE|DIR",
            help="Lines that set the ranges of int8 convolutions. Default: these stay fp32.",
        ),
    ] = None,
    check_store: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE",
            help="Compare each file with the network on these lines: frames, texts, CER.",
        ),
    ] = None,
    check_lines: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of lines to sample.")
    ] = 500,
    max_cer_loss: Annotated[
        float,
        typer.Option(
            metavar="POINTS",
            min=0,
            help="Maximum loss of a file in percentage points of CER; else exit 4.",
        ),
    ] = 0.5,
    max_width: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            help="Widest line that the model must read. Default: the profile's.",
        ),
    ] = None,
    golden: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Also write N lines with tensors and texts, to test a host's own code.",
        ),
    ] = 0,
    golden_lines: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE|DIR",
            help="Store of the golden lines. Default: drawn lines of many sizes.",
        ),
    ] = None,
    consumer_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write the Rust pipeline's --config JSON for sm120."
        ),
    ] = None,
    check_consumer: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Report settings of the pipeline's file that do not match; exit 3.",
        ),
    ] = None,
    threads: options.Threads = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Export trained weights to ONNX, compared with torch at many widths and batch sizes.

    The model has one input [batch, 3, height, width] and no widths: it sees padding as pixels, as
    the pipeline feeds it. Another program's checkpoint (OpenOCR's .pth) is imported first: name its
    profile and characters.

    Example: nordocr export runs/svtrv2-1024 -o recognize_svtrv2_1024.onnx
    """
    from nordocr_cli.core.export.plan import ExportOptions, plan_export
    from nordocr_cli.core.export.run import export as run
    from nordocr_cli.errors import UsageError

    source = weights or checkpoint
    if source is None or (weights and checkpoint):
        raise UsageError("give one checkpoint: nordocr export RUN, or --checkpoint FILE")
    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    requested = ExportOptions(
        precision=precision,
        opset=opset,
        simplify=simplify,
        output_activation=output_activation,
        input_type=input_type,
        io=io,
        max_width=max_width,
        golden=golden,
        golden_lines=golden_lines,
        int8=int8,
        calibration=calibration,
        check_store=check_store,
        check_lines=check_lines,
        max_cer_loss=max_cer_loss,
        consumer_config=consumer_config,
        check_consumer=check_consumer,
        profile=profile,
        sets=tuple(sets or ()),
        charset=charset,
        simplified_copy=simplified_copy,
        threads=threads,
    )
    plan = plan_export(source, output, requested)
    if plan.imports and plan.imports.assumed:
        console.warn(
            f"{source} names no profile: assuming {plan.imports.require_profile().name} with"
            f" charset {plan.imports.charset_named}; name them with --profile and --charset"
        )
    if dry_run:
        options.show_plan(console, plan.to_json())
        return
    result = run(plan, console)
    if as_json:
        console.json(result.to_json())
        return
    for exported in result.files:
        title = f"{exported.file.path} ({exported.file.size_bytes / 1e6:.1f} MB)"
        console.table(
            title, ("", "check", "found"), [("✓", *check) for check in exported.checks]
        )
    if result.golden:
        console.line(
            f"{result.golden.folder}: {result.golden.lines} golden lines, read back and equal at"
            " every step"
        )
    if result.simplified_copy:
        console.line(
            f"{result.simplified_copy}: the same file under the name of its simplified form"
        )
    console.note(f"{result.parameters:,} parameters of {result.weights}")
    console.next("nordocr", "build-engine", "--arch", "sm120", result.files[0].file.path)
