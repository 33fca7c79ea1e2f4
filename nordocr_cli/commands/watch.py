"""`nordocr watch`: read every document that appears in a folder."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console
from nordocr_cli.errors import DataError
from nordocr_cli.printable import printable

if TYPE_CHECKING:
    from nordocr.watching import Outcome

# Typer takes lists of enumerations, not of literals.
Format = StrEnum("Format", ["text", "json", "jsonl", "tsv", "alto", "hocr", "pdf"])


def watch(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder to watch.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the results.")],
    formats: Annotated[
        list[Format] | None,
        typer.Option("--format", help="Format of the results. Repeatable. Default: text."),
    ] = None,
    model: options.OptionalModel = None,
    interval_s: Annotated[
        float,
        typer.Option(
            "--interval",
            metavar="SECONDS",
            min=0.1,
            help="Time between two scans of the folder.",
        ),
    ] = 2.0,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help="Read the documents that are there and end; exit 3 if anything failed.",
        ),
    ] = False,
    language: Annotated[
        str,
        typer.Option(
            "--language", metavar="LANG", help="Language of the lines, for Tesseract."
        ),
    ] = "",
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Read every document that appears in a folder into another folder.

    Results are named after the documents (scan.pdf.txt) and appear complete. A document that cannot
    be read leaves scan.pdf.error.txt. Only documents that are newer than their results are read, so
    the command can be stopped and started again. Ctrl-C ends it.

    Example: nordocr watch scans/ texts/ --format pdf --format text
    """
    from nordocr.reading import Reader
    from nordocr.watching import Watcher

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    chosen = [kind.value for kind in formats or [Format("text")]]
    if dry_run:
        plan = {
            "source": str(source),
            "target": str(target),
            "formats": chosen,
            "model": model or "nordocr-default",
            "interval_s": interval_s,
            "once": once,
        }
        options.show_plan(console, plan)
        return

    reader = Reader(model, language=language, device=device, threads=threads)
    watcher = Watcher(reader, source, target, chosen, progress=console)
    if not once:
        console.note(f"watching {source}; Ctrl-C ends it")
        for outcome in watcher.run(interval_s, stopped=lambda: False):
            _show(console, outcome)
        return

    outcomes: list[Outcome] = []
    for outcome in watcher.pass_over(settled=False):
        _show(console, outcome)
        outcomes.append(outcome)
    failed = [outcome for outcome in outcomes if outcome.error]
    if as_json:
        console.json({"read": len(outcomes) - len(failed), "failed": len(failed)})
    if failed:
        raise DataError(
            f"{len(failed)} of {len(outcomes)} documents could not be read; the first:"
            f" {printable(str(failed[0].source))}: {failed[0].error}"
        )


def _show(console: Console, outcome: "Outcome") -> None:
    if not outcome.error:
        console.note(f"{printable(str(outcome.source))}: {outcome.lines} lines")
