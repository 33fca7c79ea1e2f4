"""`nordocr consumer config|check`: the Rust pipeline's configuration for a model."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

app = typer.Typer(
    help="Write and check the Rust pipeline's configuration for a model.",
    no_args_is_help=True,
)
Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Engine, .onnx, .safetensors or run folder.")
]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch", metavar="sm86|sm120|…", help="GPU. Default: the engine's, else sm120."
    ),
]


@app.command()
def config(
    model: Model,
    arch: Arch = None,
    output: options.OptionalOutput = None,
    rust: Annotated[
        bool, typer.Option("--rust", help="Print the lines for config.rs instead.")
    ] = False,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Print (with -o: write) the JSON for the pipeline's --config, or the lines for config.rs.

    Example: nordocr consumer config recognize_svtrv2_1024.onnx --arch sm120 -o config_1024.json
    """
    from nordocr_cli.artifact.probing import read_contract
    from nordocr_cli.artifact.shipped import find_weights
    from nordocr_cli.core.consumer import consumer_config, write_consumer_config
    from nordocr_cli.deploy.consumer import pipeline_notes
    from nordocr_cli.errors import UsageError

    if rust and (output or as_json):
        raise UsageError(
            "--rust prints lines to paste into config.rs; leave out -o and --json"
        )
    console = Console(quiet=quiet, as_json=as_json)
    found = consumer_config(model, arch, console)
    for note in pipeline_notes(read_contract(find_weights(model))):
        console.note(note)
    if rust:
        console.line(found.to_rust().rstrip())
    elif output and not dry_run:
        write_consumer_config(found, output)
        console.note(
            f"{output}: {found.engine_path}, lines up to {found.max_width} px, {found.max_batch} at"
            " once"
        )
    if as_json or not (rust or output) or dry_run:
        console.json(found.to_json())
    console.next(
        "nordocr",
        "consumer",
        "check",
        output or "crates/nordocr-pipeline/src/config.rs",
        model,
    )


@app.command()
def check(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Config .json, config.rs, charset.rs or nordic_dict.txt."
        ),
    ],
    model: Model,
    arch: Arch = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The preset of config.rs to check. Default: each."
        ),
    ] = None,
    charset: Annotated[
        str | None,
        typer.Option(
            metavar="charset.rs",
            help="The pipeline's charset, where it is not nordic (125).",
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Report settings of the pipeline, and rules in its code, that do not match this model.

    Each preset of a config.rs that loads the model's engine must match; presets for other engines
    are listed, and so are those that are computed at run time where another one fits. When
    something differs, each point is shown with both values (exit code 3).

    Example: nordocr consumer check crates/nordocr-pipeline/src/config.rs recognize_svtrv2_1024.onnx
    --arch sm86
    """
    from nordocr_cli.core.consumer import check_consumer, require_agreement

    console = Console(quiet=quiet, as_json=as_json)
    found = check_consumer(
        file, model, arch, preset=preset, charset=charset, progress=console
    )
    if as_json:
        console.json(found.to_json())
    if len(found.presets) > 1 and not as_json:
        rows = [
            (each.name, str(each.line), each.arch, each.verdict, "; ".join(each.reasons))
            for each in found.presets
        ]
        console.table(str(file), ("preset", "line", "GPU", "verdict", "why"), rows)
    for note in found.notes:
        console.note(note)
    require_agreement(found, model)
    if not as_json:
        what = "settings" if found.presets else "characters"
        console.line(f"{file} fits {model}: {found.checked} {what} checked")
    console.next(
        "run the Rust pipeline with it: nordocr process page.png --format json --config config.json"
    )
