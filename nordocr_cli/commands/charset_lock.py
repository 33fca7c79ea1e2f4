"""`nordocr charset lock`: fix a charset in one file, and check that everything agrees with it."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console
from nordocr_cli.errors import DataError, UsageError


def lock(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE", help="Charset name, dictionary .txt or charset.rs."
        ),
    ] = "nordic",
    output: options.OptionalOutput = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="LOCK", help="Compare files with this lock file."),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="With --check: a charset.rs, dictionary, line store or model. Repeatable.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Write a charset as a lock file, or compare files with one; exit 3 when they differ.

    Commit the lock file and run the check in CI: one character in another place makes a model
    misread text without any error.

    Example: nordocr charset lock --check charset.lock.json --file charset.rs --file model.onnx
    """
    from nordocr_cli.core.charset_lock import check_lock, write_lock

    console = Console(as_json=as_json)
    if check is None:
        if output is None or files:
            raise UsageError(
                "give -o FILE to write a lock, or --check LOCK --file FILE to compare"
            )
        charset = write_lock(name, output)
        if as_json:
            console.json(
                {"path": str(output), "charset": charset.name, "sha256": charset.sha256}
            )
            return
        console.note(f"{output}: {charset.num_classes} classes, sha256 {charset.sha256}")
        console.next(
            "nordocr", "charset", "lock", "--check", output, "--file", "charset.rs"
        )
        return

    if not files or output:
        raise UsageError(
            "--check compares files with a lock: give at least one --file, and no -o"
        )
    checks = check_lock(check, files)
    if as_json:
        console.json({"lock": str(check), "files": [found.to_json() for found in checks]})
    for found in checks:
        if not found.differences and not as_json:
            console.line(f"{found.path}: agrees with {check}")

    problems = [
        f"{found.path} differs from {check} in {len(found.differences)} classes: "
        f"{'; '.join(found.differences[:3])}"
        for found in checks
        if found.differences
    ]
    if problems:
        raise DataError("\n".join(problems))
