"""Where a benchmark writes its result, and whether it ran with the settings of saved results."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nordocr_cli import atomic

RESULTS = Path(__file__).parent / "results"


def has_defaults(
    parser: argparse.ArgumentParser, args: argparse.Namespace, *names: str
) -> bool:
    """Whether these options have the values that saved results are measured with."""
    return all(getattr(args, name) == parser.get_default(name) for name in names)


def save(
    result: Mapping[str, Any], output: Path | None, name: str, *, is_standard: bool
) -> None:
    """Write a result to `output`. Without it, a run with the standard settings replaces the saved
    result of that name, and any other run writes nothing.
    """
    target = output
    if target is None and is_standard:
        target = RESULTS / name
    if target is not None:
        atomic.write_json(target, result)
        print(f"saved {target}")
