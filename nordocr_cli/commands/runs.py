"""`nordocr runs`: the training runs of a folder, and how two of them differ."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

if TYPE_CHECKING:
    from nordocr_cli.core.runs import RunSummary


def runs(
    root: Annotated[
        Path, typer.Argument(metavar="[ROOT]", help="Folder that holds the runs.")
    ] = Path("runs"),
    diff: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--diff",
            metavar="RUN RUN",
            help="Show how the configurations of two runs differ.",
        ),
    ] = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """List the runs below ROOT with their best CER, or show how two configurations differ.

    Example: nordocr runs --diff runs/a runs/b
    """
    from nordocr_cli.core import runs as core

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    if dry_run:
        options.show_plan(
            console,
            {"reads": [str(path) for path in diff or core.find_runs(root)], "writes": []},
        )
    elif diff:
        found = core.differences_of(*diff)
        if as_json:
            console.json(
                [{"key": key, "one": one, "other": other} for key, one, other in found]
            )
        elif found:
            console.table("differences", ("key", *map(str, diff)), found)
        else:
            console.line("the two runs have the same configuration")
        console.next("nordocr", "runs", root)
    else:
        listed = core.list_runs(root)
        if as_json:
            console.json([run.to_json() for run in listed])
        else:
            rows = [
                _row(run, root, len({other.val_sha256 for other in listed}) > 1)
                for run in listed
            ]
            columns = (
                "run",
                "state",
                "model",
                "steps",
                "min",
                "CER",
                "exact",
                "at step",
                "val",
                "started",
                "code",
            )
            console.table(
                f"{len(listed)} runs in {root}", columns, rows, right=(3, 4, 5, 6, 7)
            )
        for run in listed:
            if run.problem:
                console.warn(f"{run.path}: {run.problem}")
        if len(listed) > 1:
            console.next("nordocr", "runs", "--diff", listed[1].path, listed[0].path)
        else:
            console.next("nordocr train -p PROFILE --train STORE --val STORE")


def _row(run: "RunSummary", root: Path, several_stores: bool) -> tuple[object, ...]:
    """Return a table's row. The experiment follows the folder unless it is part of its name. Where
    the runs were judged on several stores, the start of the hash shows which of them agree.
    """
    named = str(run.path.relative_to(root))
    if run.experiment not in named:
        named = f"{named} ({run.experiment})"
    return (
        named,
        run.state,
        run.model,
        _shown(run.steps, ",d"),
        _shown(run.minutes, ",.1f"),
        _shown(run.best_cer, ".2%"),
        _shown(run.best_exact, ".1%"),
        _shown(run.best_step, ",d"),
        f"{run.val} {run.val_sha256[:6]}" if several_stores else run.val,
        run.started[:16].replace("T", " "),
        run.commit[:8] + ("+" if run.dirty else ""),
    )


def _shown(value: float | None, form: str) -> str:
    if value is None:
        return "–"
    return format(value, form)
