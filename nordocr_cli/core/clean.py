"""clean: what a folder of runs can do without. It is listed first, and nothing outside that folder
is ever touched.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import is_abandoned
from nordocr_cli.core.runs import find_runs, is_finished
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.training.runlog import LAST, STATE, STATE_SHA256

# What atomic.py calls its temporaries (`.NAME.xxxxxxxx.tmp`).
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp", re.DOTALL)


@dataclass(frozen=True)
class Waste:
    """One file that can go: why, and its size in bytes."""

    path: Path
    why: str
    size: int

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"path": str(self.path), "why": self.why, "bytes": self.size}


def find_waste(root: Path) -> list[Waste]:
    """Return what can go in the runs of `root`: states and last weights of finished runs, which
    keep their best ones, and temporaries that killed writers left. Links are neither followed nor
    listed.

    Raises UsageError when `root` holds no run.
    """
    runs = find_runs(root)
    if not runs:
        raise UsageError(
            f"{root} holds no run (no run.json below it); name the folder that holds the runs"
        )
    waste = []
    for run in runs:
        if is_finished(run):
            waste += [
                _waste(run / name, "state of a finished run")
                for name in (STATE, STATE_SHA256)
            ]
            waste.append(
                _waste(run / LAST, "last weights of a finished run; its best ones stay")
            )
        waste += [
            _waste(path, "left by a writer that was killed")
            for path in sorted(run.iterdir())
            if _is_stale(path)
        ]
    return [found for found in waste if found is not None]


def _waste(path: Path, why: str) -> Waste | None:
    if path.is_file() and not path.is_symlink():
        return Waste(path, why, path.lstat().st_size)
    return None


def _is_stale(path: Path) -> bool:
    return bool(_TEMPORARY.fullmatch(path.name)) and is_abandoned(path)


def delete(root: Path, waste: list[Waste]) -> int:
    """Delete what `find_waste(root)` listed; return the bytes that are free now.

    Each folder is looked at again at the last moment: a file whose folder leads out of `root` by
    now, through a link, stops everything. Raises DataError for that and for a file that cannot be
    deleted.
    """
    home, freed = Path(os.path.realpath(root)), 0
    for found in waste:
        folder = found.path.parent
        real_folder = Path(os.path.realpath(folder))
        if not real_folder.is_relative_to(home):
            raise DataError(
                f"{found.path} leads out of {root} ({real_folder}): nothing more is deleted;"
                " look at that link"
            )
        try:
            os.unlink(found.path)  # of a link, the link itself
        except OSError as error:
            raise DataError(
                f"cannot delete {found.path}: {error.strerror or error}"
            ) from error
        freed += found.size
    return freed
