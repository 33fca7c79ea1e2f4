"""What the user requests of a training run, and what a resumed run takes from the one before. No
torch.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.profile import Profile, ResolvedProfile, profile_from_json
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.training.launcher_env import restarts
from nordocr_cli.training.runlog import RUN_FILE, STATE_FILE, read_run, require_run_folder

OVERFIT_STEPS = 500
_MAKERS = "`nordocr prep` and `nordocr synth` make line stores"


@dataclass(frozen=True)
class TrainRequest:
    """What the user requested in addition to the profile.

    `resume` names a run folder; `load` names weights that a new run starts from (with `move_head`
    also weights of another charset). Steps and minutes, where given, replace the profile's epochs.
    `overfit` trains on that many lines and is judged on them; `max_train_samples` trains on that
    many and `max_val_samples` evaluates on that many; `check` trains that many steps and judges how
    they went. `wandb` names a Weights & Biases project to log to as well. `batch_size` replaces the
    profile's; "auto" takes what fits the memory. `allow_leakage` trains without a warning when
    lines to validate on are among those to train on.
    """

    train: tuple[Path, ...] = ()
    val: tuple[Path, ...] = ()
    run_dir: Path | None = None
    load: Path | None = None
    move_head: bool = False
    resume: Path | None = None
    max_steps: int | None = None
    max_minutes: float | None = None
    overfit: int | None = None
    max_train_samples: int | None = None
    max_val_samples: int | None = None
    check: int | None = None
    device: str = "auto"
    threads: int | None = None
    save_fp16: bool = False
    wandb: str = ""
    batch_size: int | Literal["auto"] | None = None
    allow_leakage: bool = False


def resolve_request(
    resolved: ResolvedProfile | None, request: TrainRequest, progress: Progress = SILENT
) -> tuple[Profile, TrainRequest]:
    """Return the profile and the complete request. A resumed run takes what is not given from its
    run.json. Raises UsageError for options that contradict each other and ArtifactError for a
    damaged run.json.
    """
    if request.move_head and not request.load:
        raise UsageError(
            "--move-head moves the head of the weights that --load names; give --load WEIGHTS"
        )
    if request.resume is None:
        return _new_run(resolved, request)
    _refuse_with_resume(request)
    return _resumed_run(resolved, request, request.resume, progress)


def _new_run(
    resolved: ResolvedProfile | None, request: TrainRequest
) -> tuple[Profile, TrainRequest]:
    if resolved is None:
        raise UsageError(
            "give a profile: --profile NAME (`nordocr profiles list` shows them), or --resume RUN"
        )
    if request.check and (request.overfit or request.max_steps or request.max_minutes):
        raise UsageError(
            "--check N is a run of N steps; leave --max-steps, --max-minutes and --overfit out"
        )
    profile = resolved.profile
    if request.batch_size and request.batch_size != "auto":
        profile = with_batch_size(profile, request.batch_size)
    if request.check:
        request = replace(request, max_steps=request.check)
    return profile, request


def _refuse_with_resume(request: TrainRequest) -> None:
    if request.batch_size:
        raise UsageError("--resume keeps the batches of its run; leave --batch-size out")
    if request.check:
        raise UsageError(
            "--check is for a new run; leave --resume out, or start from its weights with --load"
        )
    if request.load:
        raise UsageError(
            "--resume continues a run, --load starts a new one from weights; give one of them"
        )
    if request.run_dir:
        raise UsageError(
            "--resume writes into the run that it continues; leave --run-dir out"
        )


def _resumed_run(
    resolved: ResolvedProfile | None,
    request: TrainRequest,
    folder: Path,
    progress: Progress,
) -> tuple[Profile, TrainRequest]:
    file = folder / RUN_FILE
    facts = read_run(require_run_folder(folder))
    saved = _saved_request(facts.get("request"), file)
    complete = replace(
        request,
        train=request.train or saved.train,
        val=request.val or saved.val,
        max_steps=request.max_steps or saved.max_steps,
        max_minutes=request.max_minutes or saved.max_minutes,
        overfit=request.overfit or saved.overfit,
        max_train_samples=request.max_train_samples or saved.max_train_samples,
    )
    if resolved is not None:
        profile = resolved.profile
    elif isinstance(facts.get("profile"), dict):
        profile = profile_from_json(facts["profile"], str(file))
    else:
        raise ArtifactError(
            f"{file} is damaged: it holds no profile; name it with --profile"
        )

    before, now = (length(one, profile.train.epochs) for one in (saved, complete))
    if before != now:
        progress.warn(
            f"--resume {folder}: the run was to last {_in_words(before)}, and now"
            f" {_in_words(now)}. The rest of the learning-rate schedule is spread over the rest of"
            " the run"
        )
    return profile, complete


def _saved_request(saved: Any, file: Path) -> TrainRequest:
    """Return the request that a run was started with. Raises ArtifactError when `file` does not
    hold it.
    """
    try:
        return TrainRequest(
            train=tuple(map(Path, saved["train"])),
            val=tuple(map(Path, saved["val"])),
            max_steps=saved["max_steps"] and int(saved["max_steps"]),
            max_minutes=saved["max_minutes"] and float(saved["max_minutes"]),
            overfit=saved["overfit"] and int(saved["overfit"]),
            max_train_samples=saved.get("max_train_samples")
            and int(saved["max_train_samples"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{file} is damaged: the key `request` is incomplete ({error!r}); start a new run with"
            f" --load {file.parent}"
        ) from None


def after_restart(request: TrainRequest) -> TrainRequest:
    """Turn the request into a resume where the launcher restarted the processes and the run saved
    something before. Raises UsageError without a run folder.
    """
    if not restarts() or request.resume:
        return request
    if request.run_dir is None:
        raise UsageError(
            "torchrun restarted the run, but without --run-dir it cannot be found again; give"
            " --run-dir"
        )
    if not (request.run_dir / STATE_FILE).is_file():
        return request
    return replace(
        request,
        resume=request.run_dir,
        run_dir=None,
        load=None,
        move_head=False,
        batch_size=None,
    )


def length(request: TrainRequest, epochs: int) -> dict[str, Any]:
    """Return what ends the run, by its name in `RunLimits`."""
    limits = {"max_steps": request.max_steps, "max_minutes": request.max_minutes}
    given = {key: value for key, value in limits.items() if value}
    if given:
        return given
    if request.overfit:
        return {"max_steps": OVERFIT_STEPS}
    return {"epochs": epochs}


def _in_words(length: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:,}" for key, value in length.items())


def parse_batch_size(given: str | None) -> int | Literal["auto"] | None:
    """Return what `--batch-size` requests. Raises UsageError for anything but a number of lines or
    "auto".
    """
    if given is None:
        return None
    if given == "auto":
        return "auto"
    if not given.isdecimal() or int(given) < 1:
        raise UsageError(
            f"--batch-size {given}: give a number of lines, or auto for as many as fit the memory"
        )
    return int(given)


def with_batch_size(profile: Profile, lines: int) -> Profile:
    """Return the profile with batches of `lines` lines on every device; its learning rate stays
    that of the batches it had.
    """
    train = profile.train
    changed = {
        "batch_size": lines,
        "batch_by_arch": {},
        "lr_batch": train.lr_batch or train.batch_size * train.accumulate,
    }
    return profile.model_copy(update={"train": train.model_copy(update=changed)})


def with_stores(profile: Profile, request: TrainRequest) -> TrainRequest:
    """Return the request with the profile's line stores where it names none. Raises UsageError when
    there are none at all.
    """
    train = train_stores(profile, request)
    if request.overfit:
        val = train
    else:
        val = request.val or tuple(map(Path, profile.data.val))
    if not val:
        raise UsageError(
            f"no data: give --val STORE (the best checkpoint is chosen on it); {_MAKERS}"
        )
    return replace(request, train=train, val=val)


def train_stores(profile: Profile, request: TrainRequest) -> tuple[Path, ...]:
    """Return the line stores to train on. Raises UsageError when neither the request nor the
    profile names one.
    """
    paths = request.train or tuple(map(Path, profile.data.train))
    if not paths:
        raise UsageError(f"no data: give --train STORE; {_MAKERS}")
    return paths


def store_and_ratio(named: Path) -> tuple[Path, float | None]:
    """Split `STORE=RATIO`, as a store to train on may be named; the ratio is None where none is
    given. Raises UsageError for a ratio that is not a positive number.
    """
    name, equals, ratio = named.name.rpartition("=")
    if not equals or named.exists():
        return named, None
    try:
        value = float(ratio)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise UsageError(
            f"--train {named}: the ratio after `=` must be a positive number, e.g. --train {name}=3"
        )
    return named.with_name(name), value
