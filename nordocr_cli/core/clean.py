"""clean: what a folder of runs can do without, by kind. It is listed first, and nothing outside
that folder is ever touched.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from nordocr_cli.atomic import is_abandoned, is_temporary
from nordocr_cli.core.runs import find_runs, is_finished, is_running
from nordocr_cli.data.store import LineStore
from nordocr_cli.errors import DataError, NordocrError, UsageError, nearest
from nordocr_cli.training.runlog import LAST, STATE_FILE, STATE_SHA256

FileKind = Literal["states", "temporaries", "caches", "checkpoints", "data", "labels"]
# Nothing of these is needed to read, evaluate or resume.
DEFAULT_KINDS: tuple[FileKind, ...] = ("states", "temporaries", "caches")

_STORE_FILES = ("data.mdb", "lock.mdb")
_LABEL_FILES = {
    f"{name}.{suffix}"
    for name in ("labels", "manifest")
    for suffix in ("jsonl", "json", "tsv", "csv", "txt")
}


@dataclass(frozen=True)
class Waste:
    """One file that can go: its kind, why, and its size in bytes."""

    path: Path
    kind: FileKind
    why: str
    size: int

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "why": self.why,
            "bytes": self.size,
        }


def parse_kinds(names: Sequence[str] | None) -> tuple[FileKind, ...]:
    """Return the kinds of these names, the default ones without any. Raises UsageError for an
    unknown name.
    """
    if not names:
        return DEFAULT_KINDS
    known = get_args(FileKind)
    for name in names:
        if name not in known:
            raise UsageError(f"--kind {name}: {nearest(name, list(known))}")
    return tuple(kind for kind in known if kind in names)


def find_waste(root: Path, kinds: Sequence[FileKind] = DEFAULT_KINDS) -> list[Waste]:
    """Return the files below `root` of the given kinds, sorted by kind and path:

    - states: states and last weights of finished runs, which keep their best ones
    - temporaries: what killed writers left in the runs
    - caches: compiled Python files (`__pycache__/*.pyc`)
    - checkpoints: all weights and states of runs that are not running, the best ones too
    - data: line stores, as `prep` and `synth` write them
    - labels: files of labels (`labels.jsonl`, `manifest.jsonl`, …)

    Links are neither followed nor listed. Raises UsageError when `root` holds no run.
    """
    runs = find_runs(root)
    if not runs:
        raise UsageError(
            f"{root} holds no run (no run.json below it); name the folder that holds the runs"
        )
    found = [*_of_runs(runs, kinds), *_of_folders(root, kinds)]
    files = {waste.path: waste for waste in found if waste is not None}
    order = get_args(FileKind)
    return sorted(files.values(), key=lambda waste: (order.index(waste.kind), waste.path))


def _of_runs(runs: Sequence[Path], kinds: Sequence[FileKind]) -> Iterator[Waste | None]:
    for run in runs:
        if "checkpoints" in kinds and not is_running(run):
            for path in sorted(
                (*run.glob("*.safetensors"), run / STATE_FILE, run / STATE_SHA256)
            ):
                yield _waste(path, "checkpoints", "weights or state of a run")
        if "states" in kinds and is_finished(run):
            for name in (STATE_FILE, STATE_SHA256):
                yield _waste(run / name, "states", "state of a finished run")
            reason = "last weights of a finished run; its best ones stay"
            yield _waste(run / LAST, "states", reason)
        if "temporaries" in kinds:
            for path in sorted(run.iterdir()):
                if _is_stale(path):
                    yield _waste(path, "temporaries", "left by a writer that was killed")


def _of_folders(root: Path, kinds: Sequence[FileKind]) -> Iterator[Waste | None]:
    for folder, _, names in os.walk(root):  # follows no link
        inside = Path(folder)
        if "caches" in kinds and inside.name == "__pycache__":
            for name in sorted(names):
                if name.endswith(".pyc"):
                    yield _waste(inside / name, "caches", "compiled Python")
        if "data" in kinds and _is_line_store(inside):
            for name in _STORE_FILES:
                yield _waste(inside / name, "data", f"line store {inside.name}")
        if "labels" in kinds:
            for name in sorted(_LABEL_FILES.intersection(names)):
                yield _waste(inside / name, "labels", "labels of lines")


def _is_line_store(folder: Path) -> bool:
    """Whether this is an undamaged line store of ours; any other database stays."""
    if not (folder / "data.mdb").is_file():
        return False
    try:
        with LineStore(folder):
            return True
    except NordocrError:
        return False


def _waste(path: Path, kind: FileKind, why: str) -> Waste | None:
    if path.is_file() and not path.is_symlink():
        return Waste(path, kind, why, path.lstat().st_size)
    return None


def _is_stale(path: Path) -> bool:
    return is_temporary(path) and is_abandoned(path)


def delete(root: Path, waste: list[Waste]) -> int:
    """Delete what `find_waste(root)` listed; return the bytes that are free now.

    Each folder is looked at again at the last moment: a file whose folder leads out of `root` by
    now, through a link, stops everything. Raises DataError for that and for a file that cannot be
    deleted.
    """
    home = Path(os.path.realpath(root))
    freed = 0
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
