"""`nordocr report limitations`: pages for people, from saved results."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

_HELP = "Write pages about a model from saved results."
app = typer.Typer(help=_HELP, no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Write pages about a model from saved results."""


@app.command()
def limitations(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT...", help="JSON files or folders of `nordocr eval`."
        ),
    ],
    output: options.OptionalOutput = None,
    as_json: options.Json = False,
) -> None:
    """List what a recognizer reads badly, by language, subset and width.

    Example: nordocr report limitations runs/a/eval -o limitations.md
    """
    from nordocr_cli.core.limitations import to_markdown, write_limitations

    console = Console(as_json=as_json)
    found = write_limitations(results, output)
    if as_json:
        console.json([result.to_json() for result in found])
        return
    if output is None:
        console.line(to_markdown(found).rstrip())
        return
    weak = sum(
        group.is_weak and not group.is_small for result in found for group in result.groups
    )
    console.note(f"{output}: {len(found)} results, {weak} weak groups")
