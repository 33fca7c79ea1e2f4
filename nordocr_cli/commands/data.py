"""`nordocr data stats|view|verify|merge|export`: look into line stores, check, join and unpack
them.
"""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.commands import data_fetch, data_suspects
from nordocr_cli.console import Console

app = typer.Typer(
    help="Look into line stores, check, join and unpack them.", no_args_is_help=True
)

Store = Annotated[
    Path,
    typer.Argument(
        metavar="STORE",
        help="A line store that `nordocr prep` made.",
        autocompletion=options.complete_store,
    ),
]


@app.command()
def stats(
    store: Store,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE.png", help="Draw widths and characters (extra `train`)."
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Count a store's lines by width, language and subset, and its characters; show what
    other maximum widths would change.

    Example: nordocr data stats lines.lmdb --plot lines.png
    """
    from nordocr_cli.core import data as core

    console = Console(quiet=quiet, as_json=as_json)
    found = core.stats(store, console)
    if plot is not None:
        core.plot(found, plot, store)
    if as_json:
        console.json(found.to_json())
        return
    console.table(str(store), ("what", "value"), found.rows())
    console.next("nordocr", "data", "view", store)


@app.command()
def view(
    store: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A line store, or anything else that prep reads."
        ),
    ],
    first: Annotated[
        int, typer.Option("--first", min=0, help="Index of the first line shown.")
    ] = 0,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="Number of lines.")
    ] = 20,
    row_id: Annotated[
        str, typer.Option("--id", metavar="ID", help="Show the line with this id.")
    ] = "",
    output: options.OptionalOutput = None,
    as_json: options.Json = False,
) -> None:
    """Show some lines of a store or another source; with -o also their images, as one PNG.

    Example: nordocr data view lines.lmdb -n 10 -o lines.png
    """
    from nordocr_cli.core import data as core

    console = Console(as_json=as_json)
    lines = core.view(store, first=first, limit=limit, row_id=row_id, sheet=output)
    if as_json:
        console.json([line.to_json() for line in lines])
        return
    rows = [
        (line.index, line.id, line.width, line.language, line.subset, line.text)
        for line in lines
    ]
    console.table(
        str(store),
        ("index", "id", "width", "language", "subset", "text"),
        rows,
        right=(0, 2),
    )
    if (store / "data.mdb").is_file():
        console.next("nordocr", "data", "verify", store)
    else:
        console.next("nordocr", "prep", store, "-o", "lines.lmdb", "--profile", "PROFILE")


@app.command()
def verify(
    store: Store, as_json: options.Json = False, quiet: options.Quiet = False
) -> None:
    """Read every record of a store and check it; exit 3 naming the damaged ones.

    Example: nordocr data verify lines.lmdb
    """
    from nordocr_cli.core import data as core
    from nordocr_cli.errors import DataError

    console = Console(quiet=quiet, as_json=as_json)
    result = core.verify_store(store, console)
    if as_json:
        console.json(result.to_json())
    if result.damaged:
        if len(result.damaged) > 5:
            more = f"\n… and {len(result.damaged) - 5} more"
        else:
            more = ""
        raise DataError(
            "\n".join(result.damaged[:5])
            + more
            + "\nmake the store again with `nordocr prep`"
        )
    if not as_json:
        console.line(f"{store}: {result.lines} lines, all intact")
    console.next(
        *("nordocr", "train", "--profile", result.profile or "PROFILE"),
        *("--train", store, "--val", "VAL.lmdb"),
    )


@app.command()
def merge(
    stores: Annotated[
        list[Path],
        typer.Argument(metavar="STORE...", help="Line stores of one charset and geometry."),
    ],
    output: options.Output,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Join line stores into one; the lines are copied unchanged.

    Example: nordocr data merge scans.lmdb rendered.lmdb -o lines.lmdb
    """
    from nordocr_cli.core import data as core

    console = Console(quiet=quiet, as_json=as_json)
    result = core.merge_stores(stores, output, console)
    if as_json:
        console.json(result.to_json())
    else:
        if result.renamed:
            renamed = (
                "; two stores had an id in common, so each id got its store's name in front"
            )
        else:
            renamed = ""
        if result.duplicates:
            twice = f"; {result.duplicates} repeat the picture and text of an earlier one"
        else:
            twice = ""
        console.line(f"{result.output}: {result.lines} lines{renamed}{twice}")
    console.next("nordocr", "data", "stats", output)


@app.command()
def export(
    store: Store,
    output: options.Output,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a store's lines as PNG files with a manifest.jsonl to a new folder.

    Example: nordocr data export lines.lmdb -o lines
    """
    from nordocr_cli.core import data as core

    console = Console(quiet=quiet, as_json=as_json)
    result = core.export_store(store, output, console)
    if as_json:
        console.json(result.to_json())
    else:
        console.line(f"{result.manifest}: {result.lines} lines")
    console.next(
        "nordocr",
        "prep",
        output,
        "-o",
        "again.lmdb",
        "--profile",
        result.profile or "PROFILE",
    )


# Commands of this group that have a module of their own.
app.command("sets")(data_fetch.sets)
app.command("fetch")(data_fetch.fetch)
app.command("suspects")(data_suspects.suspects)
