"""The options that several commands share, declared once, and the small frame that every command
runs in.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from nordocr_cli.console import Console


def _complete_profile(incomplete: str) -> list[str]:
    from nordocr_cli.profile import profile_names

    return [name for name in profile_names() if name.startswith(incomplete)]


def _count_cores(threads: int | None) -> int | None:
    """Warn of more threads than cores: they wait for each other."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if threads and threads > cores:
        Console().warn(
            f"--threads {threads}: there are {cores} cores here, and more threads than cores are"
            " slower, not faster"
        )
    return threads


Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        "-p",
        metavar="NAME|PATH",
        help="Profile by name or TOML file.",
        autocompletion=_complete_profile,
    ),
]
OptionalProfile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        metavar="NAME|PATH",
        help="Profile by name or TOML file.",
        autocompletion=_complete_profile,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one profile value, e.g. --set train.lr=3e-4. Repeatable.",
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="PATH", help="Where the result is written.")
]
OptionalOutput = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="PATH", help="Where the result is written.")
]
Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON to stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan; touch nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only warnings and errors.")]
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more. Repeatable.")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda[:N]",
        help="Where the network runs; of ONNX models also tensorrt[:N].",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="CPU threads. Default: all cores.", callback=_count_cores
    ),
]
Bf16 = Annotated[
    bool, typer.Option("--bf16", help="Let torch compute in bf16: faster, logits differ by 0.01.")
]
Decoder = Annotated[
    str,
    typer.Option("--decoder", metavar="NAME", help="greedy, beam; of PARSeq also ar, nar, ar+1, …"),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything random.")]


def show_plan(console: Console, plan: dict[str, Any]) -> None:
    """Print what a command would do: JSON with --json, else one `key: value` a line."""
    if console.as_json:
        console.json(plan)
        return
    from nordocr_cli.profile import flatten

    for key, value in flatten(plan).items():
        console.line(f"{key}: {value}")
