"""`nordocr models list|show|get`: the recognizers that are on this machine by name."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

app = typer.Typer(help="List, show and add recognizers by name.", no_args_is_help=True)


@app.command("list")
def list_(as_json: options.Json = False) -> None:
    """List the recognizers that -m takes by name.

    Example: nordocr models list
    """
    from nordocr_cli.core.model_files import named_models

    console = Console(as_json=as_json)
    models = named_models()
    if as_json:
        console.json([model.to_json() for model in models])
        return
    rows = [
        (
            model.name,
            "ships" if model.ships else "added",
            f"{model.megabytes:.1f}",
            ", ".join(path.name.removeprefix(model.name) for path in model.files),
        )
        for model in models
    ]
    console.table("recognizers", ("name", "", "MB", "files"), rows, right=(2,))
    console.next("nordocr", "models", "show", models[0].name)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a recognizer.")],
    as_json: options.Json = False,
) -> None:
    """Show what a recognizer reads and the checksums of its files.

    Example: nordocr models show nordocr-default
    """
    from nordocr_cli.core.model_files import describe_model, find_model

    console = Console(as_json=as_json)
    facts = describe_model(find_model(name))
    if as_json:
        console.json(facts)
        return
    options.show_plan(console, facts)


@app.command()
def get(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|FOLDER",
            help="Model files, or a folder with parts and SHA256SUMS.",
        ),
    ],
    as_json: options.Json = False,
) -> None:
    """Add recognizers from local files or from the parts of a release.

    The files are copied to the cache folder (NORDOCR_CACHE), where -m finds them by name. Nothing
    is downloaded: get the parts of a release with a browser, put them into one folder with their
    SHA256SUMS, and name that folder.

    Example: nordocr models get downloads/
    """
    from nordocr_cli.core.model_files import add_model

    console = Console(as_json=as_json)
    added = add_model(sources)
    if as_json:
        console.json({"added": [str(path) for path in added]})
        return
    for path in added:
        console.line(str(path))
    console.next("nordocr", "models", "list")
