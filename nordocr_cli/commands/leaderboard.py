"""`nordocr leaderboard`: several evaluations as one Markdown table."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def leaderboard(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS...", help="What `nordocr eval -o` wrote."),
    ],
    bench: Annotated[
        list[Path] | None,
        typer.Option(
            "--bench",
            metavar="FILE.json",
            help="Result of nordocr bench: adds lines/s. Repeatable.",
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            metavar="RESULT",
            help="The result whose efficiency is 1. Default: the best with a speed.",
        ),
    ] = None,
    output: options.OptionalOutput = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Rank evaluations by CER, as Markdown, one table for each line store.

    The table has intervals, languages, the size of the model and, with --bench, its speed, the
    exact lines per second and the efficiency: exact lines per second and megabyte, relative to the
    baseline.

    Example: nordocr leaderboard runs/a/eval runs/b/eval tesseract.json -o leaderboard.md
    """
    from nordocr_cli.core.leaderboard import leaderboard as make

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    if dry_run:
        options.show_plan(
            console,
            {
                "results": [str(path) for path in results],
                "writes": [str(output)] if output else [],
            },
        )
        return
    board = make(results, output, bench or (), baseline)
    if as_json:
        console.json(board.to_json())
    else:
        console.line(board.to_markdown().rstrip())
    if output:
        console.note(f"wrote {output}")
    if len(board.groups) > 1:
        console.warn(
            f"these results are of {len(board.groups)} different sets of lines; only those of one"
            " set can be compared"
        )
    best = board.groups[0][0]
    console.next(
        "nordocr", "eval", "MODEL", best.store or "LINES.lmdb", "--against", best.path
    )
