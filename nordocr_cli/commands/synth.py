"""`nordocr synth`: render lines of Nordic business documents."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nordocr_cli import options
from nordocr_cli.console import Console
from nordocr_cli.limits import MAX_INTEGER

if TYPE_CHECKING:
    from nordocr_cli.core.synth.run import Job


def synth(
    output: options.Output,
    profile: options.Profile,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="How many lines.")
    ] = 1000,
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, max=MAX_INTEGER, help="Seed of everything random."),
    ] = 1,
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            metavar="DIR",
            help="LANGUAGE.NAME.txt, one phrase a line. Default: built-in texts.",
        ),
    ] = None,
    fonts: Annotated[
        Path | None,
        typer.Option(
            "--fonts",
            metavar="DIR|TSV",
            help="Folder or list of fonts. Default: the system's.",
        ),
    ] = None,
    look: Annotated[
        list[str] | None,
        typer.Option(
            "--look",
            metavar="NAME[=WEIGHT]",
            help="Kinds of paper: office, typewriter, book, receipt, figures. Default: all."
            " Repeatable.",
        ),
    ] = None,
    blank: Annotated[
        float,
        typer.Option(
            "--blank",
            min=0,
            max=1,
            help="Share of the lines without text, labelled as empty.",
        ),
    ] = 0.0,
    damage: Annotated[
        list[str] | None,
        typer.Option(
            "--damage",
            metavar="NAME[=WEIGHT]",
            help="Kinds of scan to imitate. Default: all. Repeatable.",
        ),
    ] = None,
    often: Annotated[
        list[str] | None,
        typer.Option(
            "--often",
            metavar="NAME=FACTOR",
            help="A damage of --preview: 2 = twice as often, 0 = never. Repeatable.",
        ),
    ] = None,
    strength: Annotated[
        float,
        typer.Option(
            "--strength",
            min=0,
            max=2,
            help="Scales how often each kind of damage is applied.",
        ),
    ] = 1.0,
    mix_resamplers: Annotated[
        bool,
        typer.Option(help="Scale lines with several resamplers, not the profile's alone."),
    ] = True,
    workers: Annotated[
        int,
        typer.Option("--workers", min=1, help="Processes.", callback=options.check_workers),
    ] = 2,
    sheet: Annotated[
        bool,
        typer.Option(
            "--preview",
            help="Write one PNG: every damage with its strength, and the first lines.",
        ),
    ] = False,
    max_characters: Annotated[
        int | None,
        typer.Option(
            "--max-characters", min=1, help="Longest text of a line, in characters."
        ),
    ] = None,
    min_characters: Annotated[
        int,
        typer.Option(
            "--min-characters", min=1, help="Shortest text of a line, in characters."
        ),
    ] = 1,
    coloured: Annotated[
        float,
        typer.Option(
            "--coloured", min=0, max=1, help="Share of the lines on coloured paper."
        ),
    ] = 0.0,
    max_skew: Annotated[
        float | None,
        typer.Option(
            "--max-skew",
            min=0,
            max=10,
            metavar="DEGREES",
            help="Rotate each line by up to this angle, to either side. Default: as on scans.",
        ),
    ] = None,
    texts_only: Annotated[
        bool,
        typer.Option(
            "--texts-only",
            help="Write the texts alone to FILE.jsonl, to draw them yourself.",
        ),
    ] = False,
    sets: options.Set = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Render lines of Nordic business documents, damaged as scans are, for training.

    OUTPUT is a line store when its name ends in .lmdb, else a folder of images with labels.tsv;
    with --preview a PNG, with --texts-only a .jsonl file.

    Example: nordocr synth -o train.lmdb --count 100000 -p svtrv2-1024 --texts corpus/ --fonts
    fonts.tsv --workers 8
    """
    from nordocr_cli.profile import load_profile

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    resolved = load_profile(profile, sets or ()).profile
    charset = resolved.load_charset()
    geometry = resolved.geometry
    if dry_run:
        plan: dict[str, Any] = {
            "output": str(output),
            "form": _form(output, sheet),
            "count": count,
            "seed": seed,
            "texts": str(texts or "built in"),
            "fonts": str(fonts or "the system's"),
            **_choices(look, damage, often),
            "blank": blank,
            "strength": strength,
            "mix_resamplers": mix_resamplers,
            "workers": workers,
            "characters": [min_characters, max_characters],
            "coloured": coloured,
            "max_skew_deg": max_skew,
            "charset": charset.name,
            "geometry": geometry.to_json(),
        }
        options.show_plan(console, plan)
        return

    if texts_only:
        _write_texts(
            console,
            output,
            count,
            seed,
            charset=charset,
            texts=texts,
            max_characters=max_characters,
            min_characters=min_characters,
            looks=look or (),
        )
        return

    from nordocr_cli.core.synth.run import RESAMPLERS, prepare_job, read_style

    style = read_style(strength, damage or (), often or (), look or (), blank)
    style = replace(style, coloured=coloured, max_skew_deg=max_skew)
    mix = RESAMPLERS if mix_resamplers else None
    job, left_out = prepare_job(
        geometry,
        charset,
        seed=seed,
        texts=texts,
        fonts=fonts,
        style=style,
        resamplers=mix,
        progress=console,
    )
    job = replace(job, max_characters=max_characters, min_characters=min_characters)
    _print_left_out(console, left_out)
    if sheet:
        _write_sheet(console, output, job, count, profile)
        return
    _render(console, output, job, count, workers, left_out, profile)


def _choices(
    look: list[str] | None, damage: list[str] | None, often: list[str] | None
) -> dict[str, list[str]]:
    """Return what was chosen of looks and damages, for --dry-run."""
    return {
        "look": list(look or ["all"]),
        "damage": list(damage or ["all"]),
        "often": list(often or []),
    }


def _form(output: Path, sheet: bool) -> str:
    """Return what is written: a preview sheet, a line store, or a folder of images."""
    if sheet:
        return "sheet"
    if output.suffix == ".lmdb":
        return "store"
    return "folder"


def _print_left_out(console: Console, left_out: Sequence[str]) -> None:
    """Print the fonts that are not used and why, with -v."""
    for line in left_out:
        console.detail(f"left out: {line}")


def _render(
    console: Console,
    output: Path,
    job: "Job",
    count: int,
    workers: int,
    left_out: Sequence[str],
    profile: str,
) -> None:
    """Render `count` lines, print what was made and the next command."""
    from nordocr_cli.core.synth.run import synthesize

    result = synthesize(
        output, job, count, workers=workers, left_out=left_out, progress=console
    )
    if console.as_json:
        console.json(result.to_json())
        return

    _print_result(console, result.to_json())
    if output.suffix == ".lmdb":
        console.next(
            "nordocr", "train", "-p", profile, "--train", output, "--val", "VAL.lmdb"
        )
        return
    console.next("nordocr", "prep", output, "-o", "lines.lmdb", "-p", profile)


def _write_texts(
    console: Console, output: Path, count: int, seed: int, **texts: Any
) -> None:
    """Write the texts alone, without pictures."""
    from nordocr_cli.core.synth.texts_only import write_texts
    from nordocr_cli.data.synth.render import look_weights

    looks = look_weights(texts.pop("looks"))
    written = write_texts(output, count=count, seed=seed, looks=looks, **texts)
    if console.as_json:
        console.json({"output": str(output), "texts": written, "seed": seed})
        return
    console.line(f"{output}: {written} texts")


def _write_sheet(
    console: Console, output: Path, job: "Job", count: int, profile: str
) -> None:
    """Write the sheet of samples, and report it."""
    from nordocr_cli import atomic
    from nordocr_cli.core.synth.preview import preview

    atomic.write_bytes(output, preview(job, count))
    if console.as_json:
        console.json({"output": str(output), "lines": count, "seed": job.seed})
    else:
        console.line(f"{output}: {count} lines")
    console.next("nordocr", "synth", "-o", "lines.lmdb", "--count", 100000, "-p", profile)


def _print_result(console: Console, result: dict[str, Any]) -> None:
    """Print what was rendered; a figure by name becomes one cell."""
    rows = []
    for key, value in result.items():
        if key == "fonts_left_out":
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{name} {count}" for name, count in value.items())
        rows.append((key, value))
    console.table("synth", ("what", "value"), rows)
