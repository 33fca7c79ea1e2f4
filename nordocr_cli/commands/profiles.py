"""`nordocr profiles list|show|check`: look at profiles."""

from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

app = typer.Typer(help="List, show and check profiles.", no_args_is_help=True)


@app.command("list")
def list_(as_json: options.Json = False) -> None:
    """List the profiles that `--profile` finds by name.

    Example: nordocr profiles list
    """
    from nordocr_cli.profile import load_profile, profile_names

    console = Console(as_json=as_json)
    profiles = [load_profile(name) for name in profile_names()]
    if as_json:
        console.json(
            [
                {
                    "name": p.profile.name,
                    "description": p.profile.description,
                    "path": str(p.path),
                }
                for p in profiles
            ]
        )
        return
    rows = [
        (
            p.profile.name,
            p.profile.model.name,
            f"{p.profile.geometry.height}x{p.profile.geometry.max_width}",
            p.profile.description,
        )
        for p in profiles
    ]
    console.table("profiles", ("name", "model", "input (h x w)", "description"), rows)
    console.next("nordocr profiles show svtrv2-1024 --resolved")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Profile by name or TOML file.")],
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Every value, and where it came from.")
    ] = False,
    sets: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Show a profile's file, or with --resolved every value and its origin.

    Example: nordocr profiles show svtrv2-1024 --resolved --set train.lr=3e-4
    """
    from nordocr_cli.core.pixel_waste import (
        REFERENCE_HEIGHT_PX,
        REFERENCE_WIDTHS_PX,
        SQUARE_PX,
        pixel_waste,
    )
    from nordocr_cli.profile import flatten, load_profile

    console = Console(as_json=as_json)
    found = load_profile(name, sets or ())
    waste = pixel_waste(REFERENCE_WIDTHS_PX, REFERENCE_HEIGHT_PX, found.profile.geometry)
    if as_json:
        document = {"profile": found.to_json(), "origins": dict(found.origins)}
        console.json(document | {"pixel_waste": waste.to_json()})
    elif resolved or sets:
        rows = [
            (key, value, found.origins[key])
            for key, value in flatten(found.to_json()).items()
        ]
        console.table(
            f"{found.profile.name} ({found.path})", ("key", "value", "from"), rows
        )
    else:
        console.line(found.path.read_text(encoding="utf-8").rstrip())
    if not as_json:
        console.note(
            f"lines of business documents, each padded to {found.profile.geometry.max_width} px,"
            f" waste {waste.fixed:.0%} of the pixels (batches of similar widths waste far fewer);"
            f" a square of {SQUARE_PX} x {SQUARE_PX} would waste {waste.square:.0%};"
            f" {waste.squashed:.0%} of the lines are wider than the profile takes"
        )


@app.command()
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Profiles by name or TOML file; all when left out."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Check profiles strictly; exit 2 naming each wrong key.

    Example: nordocr profiles check my-profile.toml
    """
    from nordocr_cli.errors import UsageError
    from nordocr_cli.profile import load_profile, profile_names

    console = Console(as_json=as_json)
    problems: dict[str, str | None] = {}
    for name in names or profile_names():
        try:
            load_profile(name)
            problems[name] = None
        except UsageError as error:
            problems[name] = str(error)
    if as_json:
        console.json(
            {
                name: {"ok": problem is None, "problem": problem}
                for name, problem in problems.items()
            }
        )
    for name, problem in problems.items():
        if problem is None and not as_json:
            console.line(f"{name}: ok")
    bad = [problem for problem in problems.values() if problem]
    if bad:
        raise UsageError("\n".join(bad))
