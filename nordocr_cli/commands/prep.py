"""`nordocr prep`: labelled line images to a line store."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

Policy = Literal["error", "skip"]
_SOURCES = (
    "Manifest (JSONL, TSV, CSV, labels.txt), pages with ALTO, PAGE or JSON, a folder of these, or"
    " an LMDB."
)


def prep(
    sources: Annotated[list[str], typer.Argument(metavar="[NAME=]SOURCE[:ROOT]...", help=_SOURCES)],
    output: options.Output,
    profile: options.Profile,
    sets: options.Set = None,
    languages: Annotated[
        list[str] | None,
        typer.Option(
            "--include-language",
            metavar="LANG",
            help="Take only rows of this language. Repeatable.",
        ),
    ] = None,
    subsets: Annotated[
        list[str] | None,
        typer.Option(
            "--include-subset", metavar="NAME", help="Take only rows of this subset. Repeatable."
        ),
    ] = None,
    oov: Annotated[
        Literal["error", "skip", "map"],
        typer.Option("--oov", help="Rows with characters outside the charset: fail, go on, map."),
    ] = "error",
    oov_map: Annotated[
        Path | None,
        typer.Option(
            "--oov-map", metavar="FILE", help="For --oov map: lines of character, tab, replacement."
        ),
    ] = None,
    on_bad: Annotated[
        Policy, typer.Option("--on-bad", help="Damaged rows and images: fail, or go on.")
    ] = "error",
    keep_empty: Annotated[
        bool,
        typer.Option(
            "--keep-empty", help="Keep rows with an empty text: pictures without writing."
        ),
    ] = False,
    drop_duplicates: Annotated[
        bool,
        typer.Option(
            "--drop-duplicates", help="Leave out lines with picture and text of an earlier one."
        ),
    ] = False,
    val_split: Annotated[
        float, typer.Option("--val-split", help="Share of lines, by document, for NAME_val.lmdb.")
    ] = 0.0,
    folds: Annotated[
        int,
        typer.Option(
            "--folds", metavar="K", help="Write K stores by document, NAME_fold1.lmdb on."
        ),
    ] = 0,
    seed: options.Seed = None,
    threads: options.Threads = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            "--engine", help="Read images in threads here, or on a Ray cluster (extra `ray`)."
        ),
    ] = "local",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from a run of this command that was stopped.")
    ] = False,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Scale labelled line images once and write them to a line store.

    Rows that cannot be used are never kept: they are counted, and listed with the reason in
    STORE.quarantine.jsonl. The store is complete without them; the exit code is 3 if there were
    any, unless --oov skip or --on-bad skip lets them pass.

    NAME becomes the subset of rows that have none; image names start from ROOT (of pages, also the
    image file itself).

    Example: nordocr prep samples/lines legal=crops.csv:images -o lines.lmdb --profile svtrv2-1024
    """
    from nordocr_cli.core.prep import run as core
    from nordocr_cli.core.prep.lines import Selection
    from nordocr_cli.data.split import Split
    from nordocr_cli.errors import DataError
    from nordocr_cli.profile import load_profile

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    resolved = load_profile(profile, sets or ()).profile
    split = Split(val_split, folds, resolved.train.seed if seed is None else seed)
    if dry_run:
        options.show_plan(
            console, core.plan_prep(sources, output, resolved, split=split, progress=console)
        )
        return
    result = core.prep(
        sources,
        output,
        resolved,
        select=Selection(tuple(languages or ()), tuple(subsets or ()), keep_empty),
        split=split,
        oov=oov,
        oov_map=oov_map,
        on_bad=on_bad,
        drop_duplicates=drop_duplicates,
        threads=threads,
        engine=engine,
        resume=resume,
        progress=console,
    )
    if as_json:
        console.json(result.to_json())
    else:
        widths = result.widths
        rows: list[tuple[str, object]] = [
            ("read", result.read),
            ("kept", result.kept),
            *result.left_out.items(),
        ]
        rows += [
            (f"in {store}", lines)
            for store, lines in result.stores.items()
            if len(result.stores) > 1
        ]
        told = {"taken over from the stopped run": result.resumed}
        told |= {
            "texts brought to NFC": result.renormalized,
            "characters mapped": sum(result.mapped.values()),
        }
        told |= {"kept twice (same picture and text)": result.duplicates}
        told |= {"contradicting (same picture, other text)": result.contradicting}
        rows += [(what, count) for what, count in told.items() if count]
        rows += [
            (
                "width px (min / median / p95 / max)",
                f"{widths.min} / {widths.median} / {widths.p95} / {widths.max}",
            )
        ]
        worst = f", the worst {result.worst_squash_ratio:.2f} times" if result.over_wide else ""
        rows += [(f"too wide ({result.over_width})", f"{result.over_wide}{worst}")]
        rows += [("seconds", f"{result.seconds:.1f}")]
        console.table(f"prep → {output}", ("rows", "count"), rows, right=(1,))
    if result.problem:
        raise DataError(f"{output} holds {result.kept} lines, but {result.problem}")
    first, *others = result.stores
    train = [word for store in (others if folds else [first]) for word in ("--train", store)]
    val = ["--val", first if folds else others[0]] if others else []
    console.next("nordocr", "train", "--profile", profile, *train, *val)
