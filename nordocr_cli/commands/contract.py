"""`nordocr contract`: what an artifact says of itself, whether two say the same, and what one is to
say.
"""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.commands import contract_calibrate, contract_seal
from nordocr_cli.console import Console

app = typer.Typer(
    help="Show and compare the contracts of models, engines and charset files.",
    no_args_is_help=True,
)
_KINDS = "A run, .safetensors, .onnx, .engine, its JSON, a dictionary .txt or a charset.rs."
A = Annotated[Path, typer.Argument(metavar="A", help=_KINDS)]
B = Annotated[Path, typer.Argument(metavar="B", help="Another one.")]


@app.command()
def show(file: A, as_json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Show the charset, geometry, network, output and parent of an artifact; with --json its
    complete profile too.

    Example: nordocr contract show recognize_svtrv2_1024.onnx
    """
    from nordocr_cli.core.contract import read_side

    console = Console(quiet=quiet, as_json=as_json)
    side = read_side(file)
    if as_json:
        console.json(side.to_json())
        return
    parent = side.contract.parent_sha256 if side.contract else None
    rows = [
        (
            "charset",
            (
                f"{side.charset.name}, {side.charset.num_classes} classes, sha256"
                f" {side.charset.sha256}"
            ),
        )
    ]
    hidden = ("charset", "schema", "profile")
    rows += [
        (key, str(value))
        for key, value in side.fields().items()
        if key.split(".")[0] not in hidden
    ]
    rows += [("parent_sha256", str(parent))] if side.contract else []
    console.table(str(side.path), ("field", "value"), rows)
    console.next("nordocr", "contract", "verify", file, "OTHER")


@app.command()
def verify(a: A, b: B, as_json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Compare two artifacts field by field, charsets class by class; exit 3 naming each difference.

    Precision, temperature (it changes confidences and no text), trained widths and the profile's
    training values may differ: they are shown and do not fail.

    Example: nordocr contract verify runs/svtrv2-1024 recognize_svtrv2_1024.onnx
    """
    from nordocr_cli.core.contract import compare_contracts
    from nordocr_cli.errors import ArtifactError

    console = Console(quiet=quiet, as_json=as_json)
    found = compare_contracts(a, b)
    if as_json:
        console.json(found.to_json())
    for line in found.own:
        console.note(f"of its own: {line}")
    if found.differences:
        shown = "\n  ".join(found.differences[:40])
        if len(found.differences) > 40:
            more = f"\n  and {len(found.differences) - 40} more"
        else:
            more = ""
        count = len(found.differences)
        points = "1 point" if count == 1 else f"{count} points"
        raise ArtifactError(f"{a} and {b} differ in {points} (A / B):\n  {shown}{more}")
    if not as_json:
        if found.a.contract and found.b.contract:
            what = "fields"
        else:
            what = "characters"
        console.line(f"{a} and {b} agree in {found.compared} {what}; {found.lineage}")
    console.next("nordocr", "contract", "show", b)


@app.command()
def attach(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL.onnx", help="An ONNX model without a contract.")
    ],
    contract: Annotated[
        Path,
        typer.Option(
            "--contract",
            metavar="FILE",
            help="What has the contract: a run, model or its JSON.",
        ),
    ],
    output: options.Output,
    activation: Annotated[
        str | None,
        typer.Option(
            "--output-activation",
            metavar="logits|softmax",
            help="What the model's output holds. Default: what the contract says.",
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Put the contract of one artifact into an ONNX model that has none, after checking that they
    fit.

    The model is run once on noise, unless it is bf16: its output must be what the contract says,
    logits or softmax. Whether it reads text is not checked: run `nordocr eval` on it.

    Example: nordocr contract attach foreign.onnx --contract runs/svtrv2-1024 -o model.onnx
    """
    from nordocr_cli.core.contract import attach_contract

    console = Console(quiet=quiet, as_json=as_json)
    file = attach_contract(model, contract, output, activation)
    if as_json:
        console.json(file.sidecar())
    else:
        console.line(
            f"{output}: {file.nodes} nodes, opset {file.opset}, {file.precision}, contract of"
            f" {contract}"
        )
    console.next("nordocr", "eval", output, "LINES.lmdb")


# Commands of this group that have a module of their own.
app.command("calibrate")(contract_calibrate.calibrate)
app.command("seal")(contract_seal.seal)
