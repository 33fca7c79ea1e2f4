"""`nordocr recipe`: the stages of a project, from data to a promoted model, as one command."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def recipe(
    file: Annotated[
        Path, typer.Argument(metavar="RECIPE.toml", help="The stages, in order.")
    ],
    restart_from: Annotated[
        str,
        typer.Option(
            "--restart-from",
            metavar="STAGE",
            help="Run this stage and all later ones again.",
        ),
    ] = "",
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Run the stages of a recipe that are not done yet.

    A recipe lists nordocr commands: download, prepare, train, evaluate, promote. A stage is done
    when it succeeded and neither its command nor an earlier stage changed. Ctrl-C stops the stage
    safely; the same command continues. The checklist is written next to the results.

    Example: nordocr recipe samples/recipe.toml --dry-run
    """
    from nordocr_cli.core.recipe.plan import plan
    from nordocr_cli.core.recipe.run import run

    console = Console(quiet=quiet, as_json=as_json)
    planned = plan(file, restart_from=restart_from)
    if dry_run:
        if as_json:
            console.json(planned.to_json())
            return
        stages = [
            (stage.stage.name, stage.decision, " ".join(stage.command))
            for stage in planned.stages
        ]
        console.table(str(file), ("stage", "decision", "nordocr command"), stages)
        return

    results = run(planned, console, stages_print_to_stderr=as_json)
    if as_json:
        document = planned.to_json() | {"results": [result.to_json() for result in results]}
        console.json(document)
        return
    rows = [
        (
            result.name,
            "done earlier" if result.exit_code is None else f"{result.seconds:.0f} s",
        )
        for result in results
    ]
    console.table(str(file), ("stage", "took"), rows, right=(1,))
    console.next(f"read the checklist {planned.report_file}")
