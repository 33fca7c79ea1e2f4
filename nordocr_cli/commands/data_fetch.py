"""`nordocr data sets` and `nordocr data fetch`: public data sets."""

from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def sets(as_json: options.Json = False) -> None:
    """List public data sets with licence, size and the command that fetches each.

    Example: nordocr data sets
    """
    from nordocr_cli.data.public.catalogue import public_sets

    console = Console(as_json=as_json)
    entries = list(public_sets().values())
    if as_json:
        console.json([entry.to_json() for entry in entries])
        return
    rows = [
        (
            entry.name,
            entry.languages,
            entry.licence,
            f"{entry.size_mb:g}",
            entry.description,
        )
        for entry in entries
    ]
    heads = ("name", "languages", "licence", "about MB", "description")
    console.table("public data sets", heads, rows, right=(3,))
    console.next(f"nordocr data fetch {entries[0].name} -o data --dry-run")


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="See `nordocr data sets`.")],
    output: options.Output,
    url: Annotated[
        str,
        typer.Option("--url", metavar="URL", help="A mirror, instead of the publisher."),
    ] = "",
    sha256: Annotated[
        str,
        typer.Option(
            "--sha256", metavar="HEX", help="The checksum that the file must have."
        ),
    ] = "",
    token_env: Annotated[
        str,
        typer.Option(
            "--token-env", metavar="NAME", help="Environment variable with an access token."
        ),
    ] = "",
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Download a public data set, verify its checksum and unpack it.

    Nothing is sent before this command runs; --dry-run shows the address, licence and size. An
    interrupted download continues where it stopped.

    Example: nordocr data fetch tapuscorpus -o data --dry-run
    """
    from nordocr_cli.core.fetch import fetch as run
    from nordocr_cli.core.fetch import plan_fetch

    console = Console(quiet=quiet, as_json=as_json)
    plan = plan_fetch(name, output, url=url, sha256=sha256, token_env=token_env)
    if dry_run:
        options.show_plan(console, plan.to_json())
        return

    record = run(plan, console)
    if as_json:
        console.json(record)
        return
    console.note(f"{output / name}: {record['files']} files, sha256 {record['sha256']}")
    console.next("nordocr", "prep", output / name, "-o", f"{name}.lmdb", "-p", "default")
