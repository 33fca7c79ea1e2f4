"""`nordocr lineage`: which file was made from which, by hashes."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console


def lineage(
    artifacts: Annotated[
        list[Path],
        typer.Argument(
            metavar="ARTIFACT…",
            help="Checkpoints, weights, ONNX models, engines, results, reports, or their folders.",
        ),
    ],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Follow checkpoint, weights, ONNX, engine, result and report from hashes alone.

    Each file is listed under the one that it was made from. Parents that are not among the files
    are listed as missing. A file that does not match its hash is reported as broken (exit code 3).

    Example: nordocr lineage best_model.pth models/ results/
    """
    from nordocr_cli.core.lineage import trace
    from nordocr_cli.errors import ArtifactError

    console = Console(quiet=quiet, as_json=as_json)
    found = trace(artifacts)
    if as_json:
        console.json(found.to_json())
    else:
        for line in found.lines():
            console.line(line)
    for line in found.missing_lines():
        console.warn(f"missing: {line}")
    if found.broken:
        raise ArtifactError("broken: " + "\n  ".join(found.broken))
    console.note(f"{len(found.nodes)} files, {len(found.steps)} steps, none broken")
