"""The options that several commands share, declared once.

Options with a fixed set of values are `Literal` types, so that the parser checks and lists them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from nordocr_cli.console import Console
from nordocr_cli.cores import usable_cores
from nordocr_cli.errors import UsageError
from nordocr_cli.limits import MAX_INTEGER
from nordocr_cli.variables import PROFILES, THREADS

# Completion of values
# ----------------------------------------


def _starting_with(incomplete: str, values: Iterable[str]) -> list[str]:
    return [value for value in values if value.startswith(incomplete)]


def _entries(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    """Return folders, and files with one of the suffixes, that continue a path being typed."""
    if Path(incomplete).name:
        folder = Path(incomplete).parent
    else:
        folder = Path(incomplete or ".")
    if incomplete.endswith("/"):
        folder = Path(incomplete)
    if not folder.is_dir():
        return []
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and entry.suffix not in suffixes:
            found.append(f"{entry}/")
        elif entry.suffix in suffixes:
            found.append(str(entry))
    return _starting_with(incomplete, found)


def complete_profile(incomplete: str) -> list[str]:
    """Complete the name of a profile, or the path of a TOML file."""
    from nordocr_cli.profile import profile_names

    return _starting_with(incomplete, profile_names()) + _entries(incomplete, (".toml",))


def complete_model(incomplete: str) -> list[str]:
    """Complete a recognizer: a shipped name, tesseract, or the path of weights or a model."""
    from nordocr_cli.core.model_files import named_models

    names = [*(model.name for model in named_models()), "tesseract"]
    return _starting_with(incomplete, names) + _entries(
        incomplete, (".safetensors", ".onnx", ".engine")
    )


def complete_store(incomplete: str) -> list[str]:
    """Complete the path of a line store."""
    return _entries(incomplete, (".lmdb",))


def complete_charset(incomplete: str) -> list[str]:
    """Complete the name of a charset, or the path of a dictionary or charset.rs."""
    names = ("nordic", "nordic-ext", "alphanumeric")
    return _starting_with(incomplete, names) + _entries(incomplete, (".txt", ".rs"))


# Checks of values
# ----------------------------------------


def _check_threads(threads: int | None) -> int | None:
    """Warn if there are more threads than cores, which slows the work down. Raises UsageError when
    there are so many that the machine would do little else than switch between them.
    """
    cores = usable_cores()
    _require_at_most("--threads", threads, max(64, 4 * cores), cores)
    if threads and threads > cores:
        Console().warn(
            f"--threads {threads}: there are {cores} cores here, and more threads than cores are"
            " slower, not faster"
        )
    return threads


def check_workers(workers: int) -> int:
    """Raise UsageError for so many processes that they would fill the memory."""
    cores = usable_cores()
    _require_at_most("--workers", workers, max(16, 4 * cores), cores)
    return workers


def _require_at_most(option: str, count: int | None, maximum: int, cores: int) -> None:
    if count and count > maximum:
        raise UsageError(
            f"{option} {count}: there are {cores} cores here; give at most {maximum}"
        )


# Profiles
# ----------------------------------------

_PROFILE_OPTION = typer.Option(
    "--profile",
    "-p",
    metavar="NAME|PATH",
    help=f"Profile by name or TOML file. Your own folder of profiles: {PROFILES.name}.",
    autocompletion=complete_profile,
)
Profile = Annotated[str, _PROFILE_OPTION]
OptionalProfile = Annotated[str | None, _PROFILE_OPTION]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one profile value, e.g. --set train.lr=3e-4. Repeatable.",
    ),
]

# Results
# ----------------------------------------


def _require_name(output: Path | None) -> Path | None:
    """Refuse an output such as `/` or `.`, next to which no temporary file can have a name."""
    if output is not None and not output.name:
        raise UsageError(
            f"--output {str(output)!r} has no file name; give the name of a file"
        )
    return output


_OUTPUT_OPTION = typer.Option(
    "--output",
    "-o",
    metavar="PATH",
    help="Where the result is written.",
    callback=_require_name,
)
Output = Annotated[Path, _OUTPUT_OPTION]
OptionalOutput = Annotated[Path | None, _OUTPUT_OPTION]
Json = Annotated[
    bool, typer.Option("--json", help="Write the result, or the error, as JSON to stdout.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan; touch nothing.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only warnings and errors.")
]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Print more. Repeatable.")
]

# What recognizes, and on what
# ----------------------------------------

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help="Run folder, .safetensors, .onnx, .engine, or tesseract[:swe].",
        autocompletion=complete_model,
    ),
]
StartModel = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help="Recognizer to start from.",
        autocompletion=complete_model,
    ),
]
OptionalModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help="Recognizer. Default: the one that ships.",
        autocompletion=complete_model,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda[:N]",
        help="Where the network runs; for ONNX models also tensorrt[:N].",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        envvar=THREADS.name,
        help="CPU threads. Default: all cores.",
        callback=_check_threads,
    ),
]
Bf16 = Annotated[
    bool,
    typer.Option(
        "--bf16", help="Compute in bf16 with torch: faster, logits differ by 0.01."
    ),
]
Decoder = Annotated[
    str,
    typer.Option(
        "--decoder",
        metavar="NAME",
        help="auto (as the contract says), greedy, language, beam; PARSeq: ar, nar, ar+1.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", metavar="N", min=0, max=MAX_INTEGER, help="Seed of everything random."
    ),
]


def show_plan(console: Console, plan: dict[str, Any]) -> None:
    """Print what a command would do: JSON with --json, else one `key: value` per line."""
    if console.as_json:
        console.json(plan)
        return
    from nordocr_cli.profile import flatten

    for key, value in flatten(plan).items():
        console.line(f"{key}: {_plain(value)}")


def _plain(value: object) -> str:
    """Return a value of a plan as text: `a, b` for a list, `path a, lines 3` for a table in a list,
    `none` for nothing, `yes` or `no`.
    """
    if value is None or value in ("", [], ()):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        sign = "; " if any(isinstance(inner, dict) for inner in value) else ", "
        return sign.join(map(_plain, value))
    return str(value)
