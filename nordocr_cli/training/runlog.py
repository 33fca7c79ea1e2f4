"""The folder of a run and the files in it: run.json, metrics.jsonl, worst.tsv, TensorBoard, W&B.

`best.safetensors` and `last.safetensors` carry the contract and are what every other command reads;
`state.pt` is for `--resume` alone. No torch at module level: a plan names these files too.
"""

import errno
import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from nordocr_cli import __version__
from nordocr_cli.atomic import write_json, write_text
from nordocr_cli.errors import ArtifactError, DataError, UsageError
from nordocr_cli.limits import parse_json, read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BEST = "best.safetensors"
LAST = "last.safetensors"
BEST_FP16 = "best.fp16.safetensors"
STATE_FILE = "state.pt"
STATE_SHA256 = "state.pt.sha256"
RUN_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
WORST_FILE = "worst.tsv"
CURVES_FILE = "curves.png"
BOARD_FOLDER = "tensorboard"
_VERSIONS_OF = (
    "torch",
    "numpy",
    "opencv-python-headless",
    "lmdb",
    "safetensors",
    "rapidfuzz",
    "tensorboard",
)


class LogError(DataError):
    """The log of a run cannot be written, usually because the disk is full."""


def new_run_folder(requested: Path | None, name: str) -> Path:
    """Make and return the folder of a new run: `requested`, or `runs/<name>-<n>` with the next
    free n.

    Raises UsageError when `requested` is a file or holds a run already, DataError when no folder
    can be made there.
    """
    if requested is not None:
        if requested.is_file():
            raise UsageError(f"{requested} is a file, not a folder; name another --run-dir")
        if requested.is_dir() and any(requested.iterdir()):
            raise UsageError(
                f"{requested} exists and is not empty; continue it with --resume {requested},"
                " or name another --run-dir"
            )
        return _made(requested)
    runs = Path("runs")
    named = re.compile(re.escape(name) + r"-(\d+)")
    names = [path.name for path in runs.iterdir()] if runs.is_dir() else []
    matches = [named.fullmatch(name) for name in names]
    taken = [int(match[1]) for match in matches if match]
    number = max(taken, default=0) + 1
    while True:
        try:
            return _made(runs / f"{name}-{number}", exist_ok=False)
        except FileExistsError:  # a run that began in the same moment has it
            number += 1


def _made(folder: Path, *, exist_ok: bool = True) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        if isinstance(error, FileExistsError) and not exist_ok:
            raise
        raise DataError(
            f"cannot make the run folder {folder}: {error.strerror or error}; name another"
            " --run-dir"
        ) from error
    return folder


def require_run_folder(folder: Path) -> Path:
    """Return `folder` when it holds a run to resume. Raises UsageError otherwise: never a silent
    fresh start.
    """
    if not folder.is_dir():
        raise UsageError(
            f"--resume {folder}: no such run folder (to start from weights in a new run use --load"
            " FILE)"
        )
    if not (folder / STATE_FILE).is_file():
        if not (folder / LAST).is_file() and not (folder / BEST).is_file():
            raise UsageError(
                f"--resume {folder}: nothing was saved there yet; start it again, in another folder"
            )
        raise UsageError(
            f"--resume {folder}: holds no {STATE_FILE}; it cannot be resumed. Start a new run with"
            f" --load {folder}"
        )
    return folder


class RunLog:
    """The log of one run, opened again by each session that works on it.

    `facts` are what is known at the start (profile, data, device, …). Lines of metrics.jsonl after
    `step` are dropped: a session that was killed wrote them after its last saved state, and they
    will be written again. Raises UsageError when another process works on the run; every method
    raises LogError when the disk is full.
    """

    def __init__(
        self, folder: Path, facts: Mapping[str, Any], step: int, wandb_project: str = ""
    ) -> None:
        from nordocr_cli.training.board import Board
        from nordocr_cli.training.wandb_board import WandbBoard

        self.folder = folder
        self._held = _hold(folder)
        earlier = read_run(folder) if (folder / RUN_FILE).is_file() else {}
        sessions = [
            *earlier.get("sessions", []),
            {"started": _now(), "argv": sys.argv[1:], "from_step": step},
        ]
        # It is there again when this session has come to the end.
        earlier.pop("result", None)
        self.facts = {**earlier, **facts, "sessions": sessions}
        if wandb_project:
            self.facts["wandb"] = {
                "id": uuid4().hex,
                **earlier.get("wandb", {}),
                "project": wandb_project,
            }
        write_json(folder / RUN_FILE, self.facts)
        metrics = folder / METRICS_FILE
        if metrics.exists():
            kept = [line for line in _lines(metrics) if _step_of(line) <= step]
            write_text(metrics, "".join(line + "\n" for line in kept))
        with self._reporting_full_disk():
            self._metrics = open(metrics, "ab", buffering=0)  # noqa: SIM115 - closed in close()
            self._board = Board(
                folder / BOARD_FOLDER, purge_step=step + 1 if step else None
            )
        self._wandb: WandbBoard | None = None
        if wandb_project:
            self._wandb = WandbBoard(
                folder, wandb_project, self.facts["wandb"]["id"], self.facts["profile"]
            )

    def scalars(self, step: int, kind: str, **values: float) -> None:
        """Append one line {"step", "kind", …} to metrics.jsonl and the values to TensorBoard as
        `kind/name`.
        """
        self.event(
            step,
            kind,
            **{
                name: value if math.isfinite(value) else None
                for name, value in values.items()
            },
        )
        with self._reporting_full_disk():
            for name, value in values.items():
                self._board.scalar(f"{kind}/{name}", value, step)
        if self._wandb:
            self._wandb.scalars(
                step, {f"{kind}/{name}": value for name, value in values.items()}
            )

    def event(self, step: int, kind: str, **values: Any) -> None:
        """Append one line to metrics.jsonl alone."""
        line = (
            json.dumps({"step": step, "kind": kind, **values}, ensure_ascii=False) + "\n"
        ).encode()
        with self._reporting_full_disk():
            # what fits is written; the rest of a line would be the next one's start
            if self._metrics.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def samples(
        self, step: int, pairs: Sequence[tuple[str, str]], sheet: "NDArray[np.uint8]"
    ) -> None:
        """Show a few (reference, hypothesis) pairs in TensorBoard, and the `sample_sheet` of
        them.
        """
        table = "\n".join(
            f"    {reference}\n    {hypothesis}\n" for reference, hypothesis in pairs
        )
        with self._reporting_full_disk():
            self._board.text("reference over hypothesis", table, step)
            self._board.image("lines and readings", sheet, step)
        if self._wandb:
            self._wandb.samples(step, pairs)

    def figures(self, name: str) -> list[float]:
        """Return one figure of each report of training so far; NaN where it was not finite."""
        rows = read_metrics(self.folder)
        return [
            math.nan if row[name] is None else row[name]
            for row in rows
            if row["kind"] == "train"
        ]

    @contextmanager
    def _reporting_full_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LogError(
                f"cannot write the log of {self.folder}: {error.strerror or error}"
            ) from error

    def update(self, **facts: Any) -> None:
        """Put facts into run.json now."""
        self.facts |= facts
        write_json(self.folder / RUN_FILE, self.facts)

    def close(self) -> None:
        """Close the files, and note in run.json that this session has ended."""
        self._metrics.close()
        self._board.close()
        if self._wandb:
            self._wandb.close()
        self.facts["sessions"][-1]["ended"] = _now()
        with suppress(DataError):  # the full disk that ended the run is reported already
            write_json(self.folder / RUN_FILE, self.facts)
        if self._held is not None:
            os.close(self._held)


def _hold(folder: Path) -> int | None:
    """Lock a run's folder until the descriptor is closed or the process has ended, however it does.
    Two sessions on one run would overwrite each other's states. None where folders cannot be locked
    (Windows, some network file systems).

    Raises UsageError when another process has it locked.
    """
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise UsageError(
                f"{folder}: another process is training this run; stop that one first (Ctrl-C"
                " saves)"
            ) from None
        return None
    return descriptor


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl, those of its current session completely."""
    return [parse_json(line) for line in _lines(folder / METRICS_FILE)]


def _lines(metrics: Path) -> list[str]:
    """The lines of metrics.jsonl. Only \\n ends a line: row ids may hold U+2028."""
    if metrics.stat().st_size:
        return metrics.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return []


def read_run(folder: Path) -> dict[str, Any]:
    """Read run.json. Raises ArtifactError when it is missing or damaged."""
    try:
        facts = read_json(folder / RUN_FILE, "record of a run")
        if not isinstance(facts, dict):
            raise ValueError("not a JSON object")
        return facts
    except (UsageError, DataError, ValueError) as error:
        raise ArtifactError(
            f"{folder / RUN_FILE} is not readable ({error}); start a new run with --load {folder}"
        ) from error


def run_environment() -> dict[str, Any]:
    """Return what the results of a run depend on besides its profile: code, versions, machine."""
    return {
        "nordocr": __version__,
        "git": _git_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {
            name: metadata.version(name) for name in _VERSIONS_OF if _installed(name)
        },
    }


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _git_state() -> dict[str, Any] | None:
    """Commit and dirtiness of the checkout that this code runs from; None for an installed
    package.
    """
    package = Path(__file__).resolve().parents[1]
    if not (package.parent / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--", str(package))),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _step_of(line: str) -> int:
    try:
        return int(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize  # a line that a kill cut short


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
