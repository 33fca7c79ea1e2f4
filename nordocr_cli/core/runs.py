"""runs: the training runs of a folder, and how the configurations of two of them differ."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.profile import flatten
from nordocr_cli.training.runlog import BEST, METRICS_FILE, RUN_FILE, STATE_FILE, read_run

_ACTIVE_S = (
    120.0  # metrics.jsonl was written at most this long ago: the run is still going on
)
_MISSING = "–"


@dataclass(frozen=True)
class RunSummary:
    """One run. `state` is finished, running, stopped (it can be resumed), ended (it cannot) or
    damaged; rates are 0…1 and None before the first evaluation. `val` names the validation stores
    and `val_sha256` their content: only runs with the same content can be compared. `problem` says
    why a run cannot be read.
    """

    path: Path
    state: str
    profile: str = ""
    experiment: str = ""
    model: str = ""
    started: str = ""
    steps: int | None = None
    minutes: float | None = None
    best_step: int | None = None
    best_cer: float | None = None
    best_exact: float | None = None
    val: str = ""
    val_sha256: str = ""
    commit: str = ""
    dirty: bool = False
    device: str = ""
    seed: int | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain JSON values."""
        return {**asdict(self), "path": str(self.path)}


def find_runs(root: Path) -> list[Path]:
    """Return the run folders in `root`, or `root` itself when it is one, sorted by name. Links are
    not followed. Raises UsageError when the folder does not exist.
    """
    if not root.is_dir():
        raise UsageError(
            f"no folder {root}; `nordocr train` makes runs in runs/, or name the folder that holds"
            " them"
        )
    return sorted(_walk(root))


def _walk(folder: Path) -> Iterator[Path]:
    if (folder / RUN_FILE).is_file():
        yield folder
        return
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
            yield from _walk(child)


def list_runs(root: Path) -> list[RunSummary]:
    """Return the runs in `root`, the latest first. A run with a damaged run.json is included, with
    its problem.
    """
    return sorted(
        (summarize(folder) for folder in find_runs(root)),
        key=lambda run: run.started,
        reverse=True,
    )


def summarize(folder: Path) -> RunSummary:
    """Summarize one run from run.json and its other files."""
    try:
        facts = read_run(folder)
        return _summary(folder, facts)
    except (
        ArtifactError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        ValueError,
    ) as error:
        return RunSummary(folder, "damaged", problem=f"{type(error).__name__}: {error}")


def _summary(folder: Path, facts: dict[str, Any]) -> RunSummary:
    best = facts.get("best") or {}
    position = facts.get("position") or {}
    result = facts.get("result") or {}
    git = facts["environment"].get("git") or {}
    return RunSummary(
        path=folder,
        state=_state(folder, facts),
        profile=str(facts["profile"]["name"]),
        experiment=str(facts["profile"].get("experiment", "")),
        model=str(facts["profile"]["model"]["name"]),
        started=str(facts["sessions"][0]["started"]),
        steps=result.get("steps") or position.get("step"),
        minutes=result.get("minutes") or (position["elapsed_s"] / 60 if position else None),
        best_step=best.get("step"),
        best_cer=best.get("cer"),
        best_exact=best.get("exact"),
        val=", ".join(Path(store["path"]).name for store in facts["val"]),
        val_sha256=" ".join(store["content_sha256"] for store in facts["val"]),
        commit=str(git.get("commit") or ""),
        dirty=bool(git.get("dirty")),
        device=str(facts["device"]),
        seed=facts["profile"]["train"]["seed"],
    )


def _state(folder: Path, facts: dict[str, Any]) -> str:
    if "result" in facts:
        return "finished"
    metrics = folder / METRICS_FILE
    if (
        "ended" not in facts["sessions"][-1]
        and metrics.is_file()
        and time.time() - metrics.stat().st_mtime < _ACTIVE_S
    ):
        return "running"
    if (folder / STATE_FILE).is_file():
        return "stopped"
    return "ended"


def is_finished(folder: Path) -> bool:
    """Return whether the run finished and has its best weights."""
    return summarize(folder).state == "finished" and (folder / BEST).is_file()


def is_running(folder: Path) -> bool:
    """Return whether the run still writes, or cannot be read, so that nobody can tell."""
    return summarize(folder).state in ("running", "damaged")


def differences_of(one: Path, other: Path) -> list[tuple[str, Any, Any]]:
    """Return (dotted key, value in `one`, value in `other`) for each key in which the
    configurations of two runs differ: profile, stores, length, device, code. Raises UsageError
    when a folder holds no run, ArtifactError for a damaged run.json.
    """
    first, second = (_configuration(folder) for folder in (one, other))
    return [
        (key, first.get(key, _MISSING), second.get(key, _MISSING))
        for key in sorted(first.keys() | second.keys())
        if first.get(key, _MISSING) != second.get(key, _MISSING)
    ]


def _configuration(folder: Path) -> dict[str, Any]:
    if not (folder / RUN_FILE).is_file():
        raise UsageError(f"{folder} holds no {RUN_FILE}; is it the folder of a run?")
    facts = read_run(folder)
    names = ("profile", "request", "device", "precision", "threads", "loaded")
    given = {name: facts[name] for name in names if name in facts}
    for role in ("train", "val"):
        given[f"{role}_lines"] = [
            f"{store['lines']:,} lines, {store['content_sha256'][:12]}"
            for store in facts.get(role, ())
        ]
    environment = facts.get("environment") or {}
    given["code"] = {
        "nordocr": environment.get("nordocr"),
        "git": environment.get("git") or {},
        **environment.get("versions", {}),
    }
    return flatten(given)
