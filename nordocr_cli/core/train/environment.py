"""Environment variables that stand in for options of `nordocr train` that are not given."""

from dataclasses import replace
from pathlib import Path

from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.errors import UsageError
from nordocr_cli.profile import ResolvedProfile
from nordocr_cli.training.runlog import RUN_FILE
from nordocr_cli.variables import (
    PRECISION,
    RESUME_FROM,
    RUN_NAME,
    TRAIN_DATASETS,
    Variable,
    listed,
)

# Dotted keys of the profile that a variable sets.
PROFILE_VARIABLES: dict[str, Variable] = {"train.precision": PRECISION}


def apply_environment(request: TrainRequest) -> tuple[TrainRequest, dict[str, str]]:
    """Return the request with what variables say of options that are not given, and for each such
    option its value and the variable. Raises UsageError for a variable that cannot be used.
    """
    used: dict[str, str] = {}
    starts = (request.resume, request.load, request.run_dir, request.check, request.overfit)
    resumed = RESUME_FROM.get()
    if resumed and not any(starts):
        request = replace(request, resume=_run_of(Path(resumed)))
        used["--resume"] = _shown(request.resume, RESUME_FROM)

    name = RUN_NAME.get()
    if name and not request.resume and not request.run_dir:
        request = replace(request, run_dir=_named_run(name))
        used["--run-dir"] = _shown(request.run_dir, RUN_NAME)

    stores = listed(TRAIN_DATASETS)
    if stores and not request.resume and not request.train:
        request = replace(request, train=tuple(map(Path, stores)))
        used["--train"] = _shown(", ".join(stores), TRAIN_DATASETS)
    return request, used


def profile_values_used(resolved: ResolvedProfile) -> dict[str, str]:
    """Return for each key of the profile that a variable set its value and the variable."""
    return {
        key: _shown(variable.get(), variable)
        for key, variable in PROFILE_VARIABLES.items()
        if resolved.origins.get(key) == variable.name
    }


def _shown(value: object, variable: Variable) -> str:
    return f"{value} (from {variable.name})"


def _run_of(path: Path) -> Path:
    """The run folder that a path means: the folder itself, or the one that a file or folder in it
    lies in, such as RUN/checkpoint-1200.
    """
    if not (path / RUN_FILE).is_file() and (path.parent / RUN_FILE).is_file():
        return path.parent
    return path


def _named_run(name: str) -> Path:
    if name in (".", "..") or Path(name).name != name:
        raise UsageError(
            f"{RUN_NAME.name}={name}: give a name without folders, e.g. sv-2026; --run-dir takes"
            " a path"
        )
    return Path("runs") / name
