"""`nordocr clean`: delete what a folder of runs can do without."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console
from nordocr_cli.errors import UsageError


def clean(
    root: Annotated[
        Path, typer.Argument(metavar="[ROOT]", help="Folder that holds the runs.")
    ] = Path("runs"),
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="states, temporaries, caches (these by default), checkpoints, data or labels."
            " Repeatable.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Delete without asking.")
    ] = False,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """List and delete what finished runs no longer need, by kind.

    Without --kind: states and last weights of finished runs, temporaries and caches. Only --kind
    checkpoints, data and labels delete weights, line stores and files of labels. Links are not
    followed; nothing outside ROOT is touched.

    Example: nordocr clean runs --kind states --kind data --dry-run
    """
    from nordocr_cli.core import clean as core

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    waste = core.find_waste(root, core.parse_kinds(kind))
    size = f"{sum(found.size for found in waste) / 1e6:,.1f} MB"
    if not as_json:
        rows = [
            (found.kind, found.path, f"{found.size / 1e6:,.1f}", found.why)
            for found in waste
        ]
        console.table(
            f"{len(waste)} files in {root} can be deleted: {size}",
            ("kind", "file", "MB", "why"),
            rows,
            right=(2,),
        )
    delete = bool(waste) and not dry_run and (yes or _agreed(console, len(waste)))
    if delete:
        core.delete(root, waste)
        console.note(f"{size} freed")
    if as_json:
        console.json({"deleted": delete, "files": [found.to_json() for found in waste]})
    console.next("nordocr", "runs", root)


def _agreed(console: Console, files: int) -> bool:
    if console.as_json or not sys.stdin.isatty():
        raise UsageError(
            "nothing was deleted: there is no terminal to confirm on. Give --yes, or --dry-run to"
            " list the files"
        )
    return typer.confirm(f"Delete these {files} files?", err=True)
