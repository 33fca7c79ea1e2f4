"""`nordocr prep`: labelled line images to a line store."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

Policy = Literal["error", "skip"]


def prep(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE", help="Manifest (JSONL, TSV, labels.txt), a folder with one, or an LMDB.")
    ],
    output: options.Output,
    profile: options.Profile,
    sets: options.Set = None,
    oov: Annotated[Policy, typer.Option("--oov", help="Rows with characters outside the charset: fail, or go on.")] = "error",
    on_bad: Annotated[Policy, typer.Option("--on-bad", help="Damaged rows and images: fail, or go on.")] = "error",
    val_split: Annotated[float, typer.Option("--val-split", help="Share of lines, by document, for NAME_val.lmdb.")] = 0.0,
    seed: options.Seed = None,
    threads: options.Threads = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Scale labelled line images once and write them to a line store.

    Rows that cannot be used are never kept: they are counted, and listed with the reason in STORE.quarantine.jsonl. The store
    is complete without them; the exit code is 3 if there were any, unless --oov skip or --on-bad skip lets them pass.

    Example: nordocr prep samples/lines -o lines.lmdb --profile svtrv2-1024
    """
    from nordocr_cli.core import prep as core
    from nordocr_cli.errors import DataError
    from nordocr_cli.profile import load_profile

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    resolved = load_profile(profile, sets or ()).profile
    if dry_run:
        options.show_plan(console, core.plan_prep(sources, output, resolved, val_split=val_split))
        return
    result = core.prep(
        sources,
        output,
        resolved,
        oov=oov,
        on_bad=on_bad,
        val_split=val_split,
        seed=resolved.train.seed if seed is None else seed,
        threads=threads,
        progress=console,
    )
    if as_json:
        console.json(result.to_json())
    else:
        widths = result.widths
        rows: list[tuple[str, object]] = [("read", result.read), ("kept", result.kept), *result.left_out.items()]
        rows += [("of the kept, in the validation store", result.kept_val)] if result.val_output else []
        rows += [("texts brought to NFC", result.renormalized)] if result.renormalized else []
        rows += [("width px (min / median / p95 / max)", f"{widths.min} / {widths.median} / {widths.p95} / {widths.max}")]
        worst = f", the worst {result.worst_squash_ratio:.2f} times" if result.over_wide else ""
        rows += [(f"too wide ({result.over_width})", f"{result.over_wide}{worst}")]
        rows += [("seconds", f"{result.seconds:.1f}")]
        console.table(f"prep → {result.output}", ("rows", "count"), rows, right=(1,))
    if result.problem:
        raise DataError(f"{result.output} holds {result.kept - result.kept_val} lines, but {result.problem}")
    val = f" --val {result.val_output}" if result.val_output else ""
    console.next(f"nordocr train --profile {profile} --train {result.output}{val}")
