"""`nordocr data suspects`: lines of a store whose labels are probably wrong."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def suspects(
    store: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A line store, or anything else that prep reads."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="NAME|PATH", help="Recognizer that reads the lines."
        ),
    ] = None,
    second: Annotated[
        str | None,
        typer.Option(
            "--second",
            metavar="NAME|PATH",
            help="Second recognizer, e.g. tesseract or rapidocr.",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="Number of lines.")
    ] = 50,
    output: options.OptionalOutput = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet",
            metavar="FILE.png",
            help="Write a picture of the lines and both texts.",
        ),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Rank the lines of a store whose label and image disagree.

    -o writes a manifest with the label and a suggestion for each line: correct its `text` and give
    it to prep. The labels themselves are not changed.

    Example: nordocr data suspects train.lmdb -o suspects.jsonl --sheet suspects.png
    """
    from nordocr_cli.core import suspects as core

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    request = core.SuspectsRequest(
        store, model, second, limit, output, sheet, device, threads
    )
    if dry_run:
        options.show_plan(console, core.plan(request))
        return
    found = core.run(request, console)
    for path in found.written:
        console.note(f"wrote {path}")
    if as_json:
        console.json(found.to_json())
        return
    rows = [
        (
            suspect.row.id,
            f"{suspect.suspicion:.1f}",
            suspect.row.text,
            suspect.hypothesis,
            ", ".join(suspect.reasons),
        )
        for suspect in found.suspects
    ]
    console.table(
        f"{len(rows)} of {found.lines:,} lines, the likeliest wrong labels first",
        ("id", "suspicion", "label", "read as", "why"),
        rows,
        right=(1,),
    )
    if output:
        profile = found.profile or "PROFILE"
        corrected = f"{output}:{found.root or 'IMAGES'}"
        console.next("nordocr", "prep", corrected, "-o", "corrected.lmdb", "-p", profile)
    else:
        console.next("nordocr", "data", "suspects", store, "-o", "suspects.jsonl")
