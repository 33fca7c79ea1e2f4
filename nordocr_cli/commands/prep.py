"""`nordocr prep`: labelled line images to a line store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

if TYPE_CHECKING:
    from nordocr_cli.core.prep.run import PrepResult

# The profile of the recognizer that ships. The training on a store with it starts from the shipped
# weights, unless the store holds as many lines as a training from nothing needs.
_OF_SHIPPED = "default"
_FEW_LINES = 100_000
Policy = Literal["error", "skip"]
_SOURCES = (
    "Label file (JSONL, TSV, CSV, JSON, text), pages with ALTO, PAGE, hOCR or JSON, images with"
    " NAME.gt.txt, table (Parquet), LMDB, zip, tar, or a folder of these."
)


def prep(
    sources: Annotated[
        list[str], typer.Argument(metavar="[NAME=]SOURCE[:ROOT]...", help=_SOURCES)
    ],
    output: options.Output,
    profile: options.Profile,
    sets: options.Set = None,
    languages: Annotated[
        list[str] | None,
        typer.Option(
            "--include-language",
            metavar="LANG",
            help="Use only rows of this language. Repeatable.",
        ),
    ] = None,
    subsets: Annotated[
        list[str] | None,
        typer.Option(
            "--include-subset",
            metavar="NAME",
            help="Use only rows of this subset. Repeatable.",
        ),
    ] = None,
    oov: Annotated[
        Literal["error", "skip", "map"],
        typer.Option(
            "--oov",
            help="Rows with characters outside the charset: fail, skip them, or map.",
        ),
    ] = "error",
    oov_map: Annotated[
        Path | None,
        typer.Option(
            "--oov-map",
            metavar="FILE|none",
            help="For --oov map: lines of character, tab, replacement. `none` turns off the"
            " default replacement of no-break spaces and zero-width characters.",
        ),
    ] = None,
    on_bad: Annotated[
        Policy,
        typer.Option(
            "--on-bad", help="Rows and images that cannot be used: fail, or skip."
        ),
    ] = "error",
    image_key: Annotated[
        str,
        typer.Option("--image-key", metavar="NAME", help="Column that names the image."),
    ] = "",
    text_key: Annotated[
        str, typer.Option("--text-key", metavar="NAME", help="Column that holds the text.")
    ] = "",
    keep_empty: Annotated[
        bool,
        typer.Option(
            "--keep-empty", help="Keep rows with an empty text: pictures without writing."
        ),
    ] = False,
    drop_duplicates: Annotated[
        bool,
        typer.Option(
            "--drop-duplicates",
            help="Leave out lines with picture and text of an earlier one.",
        ),
    ] = False,
    val_split: Annotated[
        float,
        typer.Option("--val-split", help="Share of lines, by document, for NAME_val.lmdb."),
    ] = 0.0,
    folds: Annotated[
        int,
        typer.Option(
            "--folds",
            metavar="K",
            help="Split by document into K stores: NAME_fold1.lmdb and so on.",
        ),
    ] = 0,
    seed: options.Seed = None,
    threads: options.Threads = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            "--engine",
            help="Read images in threads here, or on a Ray cluster (extra `ray`).",
        ),
    ] = "local",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run of this command.")
    ] = False,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Scale labelled line images once and write them to a line store.

    Rows that cannot be used are never kept: they are counted, and listed with the reason in
    STORE.quarantine.jsonl. The store is complete without them; the exit code is 3 if there were
    any, unless --oov skip or --on-bad skip accepts them.

    NAME becomes the subset of rows that have none; image names start from ROOT (for pages, ROOT
    may be the image file itself). docs/data.md lists all supported inputs.

    Example: nordocr prep samples/lines legal=crops.csv:images -o lines.lmdb --profile svtrv2-1024
    """
    from nordocr_cli.core.prep import run as core
    from nordocr_cli.core.prep.lines import Selection
    from nordocr_cli.data.labels.label_file import Columns
    from nordocr_cli.data.split import Split
    from nordocr_cli.errors import DataError
    from nordocr_cli.profile import load_profile
    from nordocr_cli.variables import INCLUDE_LANGUAGES, listed

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    resolved = load_profile(profile, sets or ()).profile
    columns = Columns(image_key, text_key)
    turns_map_off = oov_map == Path("none")
    split = Split(val_split, folds, resolved.train.seed if seed is None else seed)
    from_environment = {}
    if not languages and listed(INCLUDE_LANGUAGES):
        languages = listed(INCLUDE_LANGUAGES)
        shown = f"{', '.join(languages)} (from {INCLUDE_LANGUAGES.name})"
        from_environment = {"--include-language": shown}
        console.note(f"--include-language: {shown}")
    if dry_run:
        plan = core.plan_prep(
            sources, output, resolved, split=split, columns=columns, progress=console
        )
        options.show_plan(console, {**plan, "from_environment": from_environment})
        return
    result = core.prep(
        sources,
        output,
        resolved,
        select=Selection(tuple(languages or ()), tuple(subsets or ()), keep_empty),
        split=split,
        oov=oov,
        oov_map=None if turns_map_off else oov_map,
        default_map=not turns_map_off,
        on_bad=on_bad,
        drop_duplicates=drop_duplicates,
        threads=threads,
        engine=engine,
        resume=resume,
        columns=columns,
        progress=console,
    )
    if as_json:
        console.json(result.to_json())
    else:
        console.table(f"prep → {output}", ("rows", "count"), _table(result), right=(1,))
    if result.problem:
        raise DataError(f"{output} holds {result.kept} lines, but {result.problem}")
    first, *others = result.stores
    train = [
        word for store in (others if folds else [first]) for word in ("--train", store)
    ]
    val = first if folds else "VAL.lmdb"
    if others and not folds:
        val = others[0]
    if profile == _OF_SHIPPED and result.kept < _FEW_LINES:
        from nordocr_cli.artifact.shipped import DEFAULT_MODEL

        start = ["--profile", "finetune", "--load", f"{DEFAULT_MODEL}-ext"]
    else:
        start = ["--profile", profile]
    console.next("nordocr", "train", *start, *train, "--val", val)


def _table(result: "PrepResult") -> list[tuple[str, object]]:
    """The rows of the table that shows what prep did."""
    rows: list[tuple[str, object]] = [("read", result.read), ("kept", result.kept)]
    rows += result.left_out.items()
    if len(result.stores) > 1:
        rows += [(f"in {store}", lines) for store, lines in result.stores.items()]
    counts = {
        "resumed from the interrupted run": result.resumed,
        "texts brought to NFC": result.renormalized,
        "texts with spaces at their ends, removed": result.trimmed,
        "characters mapped": sum(result.mapped.values()),
        "kept twice (same picture and text)": result.duplicates,
        "contradicting (same picture, other text)": result.contradicting,
    }
    rows += [(what, count) for what, count in counts.items() if count]
    widths = result.widths
    shown = f"{widths.min} / {widths.median} / {widths.p95} / {widths.max}"
    rows.append(("width px (min / median / p95 / max)", shown))
    if result.over_wide:
        worst = f", the worst {result.worst_squash_ratio:.2f} times"
    else:
        worst = ""
    rows.append((f"too wide ({result.over_width})", f"{result.over_wide}{worst}"))
    rows.append(("seconds", f"{result.seconds:.1f}"))
    return rows
