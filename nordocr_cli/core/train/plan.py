"""What is asked of a training run: the request, what a resumed run takes from the one before, and
the plan. No torch.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.charset import Charset, differences
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.profile import Profile, ResolvedProfile, profile_from_json
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.settings import MambaModel, Model, TrocrModel

if TYPE_CHECKING:
    from nordocr_cli.data.store import LineStore

OVERFIT_STEPS = 500
_MAKERS = "`nordocr prep` and `nordocr synth` make line stores"
# Of a model table: what training alone knows of, and where the fresh weights came from.
_TRAINING_ONLY = (
    "drop_path",
    "dropout",
    "permutations",
    "decode",
    "refine",
    "backbone_weights",
    "pretrained",
    "pretrained_sha256",
)
_PLAN_WIDTHS = (128, 320, 768, 1024, 1792)


@dataclass(frozen=True)
class TrainRequest:
    """What the user asked for beside the profile. `resume` names a run folder, `load` weights that
    a new run starts from (with `move_head` also weights of another charset); steps and minutes,
    where given, replace the profile's epochs; `overfit` trains on that many lines and is judged on
    them, `max_train_samples` trains on that many and `max_val_samples` judges by that many; `check`
    trains that many steps and judges how they went. `wandb` names a Weights & Biases project to log
    to as well. `batch_size` stands for the profile's, "auto" for what fits the memory.
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


def plan(
    resolved: ResolvedProfile | None, request: TrainRequest, progress: Progress = SILENT
) -> dict[str, Any]:
    """Return what `train` would do, without torch: network, geometry, batches by GPU, data, length,
    files.
    """
    profile, request = asked(resolved, request, progress)
    settings, geometry, charset = profile.train, profile.geometry, profile.load_charset()
    if isinstance(profile.model, TrocrModel) and Path(profile.model.pretrained).is_dir():
        require_trocr(profile, profile.model)
    if isinstance(profile.model, MambaModel) and not request.load:
        for key in ("backbone_weights", "pretrained"):
            if (named := getattr(profile.model, key)) and not Path(named).is_file():
                raise UsageError(
                    f"model.{key}: no file {named}; it must be on this machine: nothing is"
                    " downloaded"
                )
    if request.load:
        found = read_contract(find_weights(request.load))
        if found.model.get("name") != profile.model.name:
            told = other_options(found.model, profile.model)
            raise ArtifactError(f"{request.load}: these are weights of another network. {told}")
        if profile.model.name != "trocr" and not request.move_head:
            require_charset(found.charset, charset, request.load)
    squares = isinstance(profile.model, TrocrModel)  # every line costs the same
    widths = (
        [settings.batch_width_px]
        if squares
        else [w for w in _PLAN_WIDTHS if w < geometry.max_width] + [geometry.max_width]
    )
    batches = {
        arch: {f"{width} px": max(1, lines * settings.batch_width_px // width) for width in widths}
        for arch, lines in {"any": settings.batch_size, **settings.batch_by_arch}.items()
    }
    return {
        "profile": str(resolved.path) if resolved else f"of {request.resume}",
        "model": profile.model.model_dump(mode="json"),
        "charset": f"{charset.name}, {charset.num_classes} classes, sha256 {charset.sha256[:12]}",
        "geometry": {
            **geometry.to_json(),
            "frames_at_max_width": geometry.out_length(geometry.max_width),
        },
        "train": {
            "stores": (
                [_describe_store(path) for path in request.train or map(Path, profile.data.train)]
                or "not given: --train STORE (or data.train in the profile)"
            ),
            "val": (
                [_describe_store(path) for path in request.val or map(Path, profile.data.val)]
                or "not given: --val STORE (or data.val in the profile)"
            ),
            **(
                {"max_train_samples": request.max_train_samples}
                if request.max_train_samples
                else {}
            ),
            "length": length(request, settings.epochs),
            "lr": settings.lr,
            "precision": settings.precision,
            "ema_decay": settings.ema_decay,
            "seed": settings.seed,
            "start": _start(request),
        },
        "lines_a_batch": (
            "as many as fit: measured at the start" if request.batch_size == "auto" else batches
        ),
        "run_dir": str(request.resume or request.run_dir or Path("runs") / f"{profile.name}-<n>"),
        "files": [
            "best.safetensors",
            "last.safetensors",
            "state.pt",
            "run.json",
            "metrics.jsonl",
            "curves.png",
            "worst.tsv",
            "tensorboard/",
        ],
    }


def require_trocr(profile: Profile, model: TrocrModel) -> None:
    """Raise what speaks against the folder of a pretrained TrOCR, by its JSON files."""
    from nordocr_cli.models.trocr.folder import read_folder

    folder = read_folder(Path(model.pretrained))
    folder.require_lengths(model)
    folder.require_geometry(profile.geometry)


def other_options(found: Mapping[str, Any], wanted: Model) -> str:
    """Return, as a sentence, in what the network `wanted` is to be another for weights whose model
    table is `found`.
    """
    if found.get("name") != wanted.name:
        return (
            f"They are of {found.get('name')}, the profile is for {wanted.name}: take a profile of"
            " that network"
        )
    now = wanted.model_dump(mode="json")
    # An option that is younger than the weights had its default when they were trained.
    before = type(wanted).model_construct(**found).model_dump(mode="json", warnings=False)
    differing = {
        key: was for key, was in before.items() if key not in _TRAINING_ONLY and was != now.get(key)
    }
    sets = [
        f"--set 'model.{key}={was if isinstance(was, str) else json.dumps(was)}'"
        for key, was in differing.items()
    ]
    return (
        f"They were trained with {' '.join(sets)}"
        if sets
        else "Use the profile that they were trained with"
    )


def require_charset(found: Charset, wanted: Charset, load: Path) -> None:
    """Raise ArtifactError where weights read another charset than the one that is to be learnt."""
    if unlike := differences(found, wanted):
        raise ArtifactError(
            f"{load}: charset mismatch: {len(unlike)} classes differ, the first: {unlike[0]};"
            " --move-head moves the rows of its head by character"
        )


def _start(request: TrainRequest) -> str:
    if request.resume:
        return f"where {request.resume} stopped"
    moved = ", the head moved to the profile's charset" if request.move_head else ""
    return f"weights of {request.load}{moved}" if request.load else "fresh weights"


def _describe_store(named: Path) -> dict[str, Any]:
    from nordocr_cli.data.store import LineStore

    path, ratio = store_and_ratio(named)
    with open_store(path, LineStore) as store:
        widest = int(store.widths.max()) if len(store) else 0
        return {
            "path": str(path),
            "lines": len(store),
            "widest_px": widest,
            "content_sha256": store.header.content_sha256[:12],
            **({"ratio": ratio} if ratio else {}),
        }


def asked(
    resolved: ResolvedProfile | None, request: TrainRequest, progress: Progress = SILENT
) -> tuple[Profile, TrainRequest]:
    """The profile and the whole request. Of a run to go on with, whatever is not given anew is
    taken from its run.json.
    """
    from nordocr_cli.training.runlog import RUN, read_run, require_run_folder

    if request.move_head and not request.load:
        raise UsageError(
            "--move-head moves the head of the weights that --load names; give --load WEIGHTS"
        )
    if request.resume is None:
        if resolved is None:
            raise UsageError(
                "give a profile: --profile NAME (`nordocr profiles list` shows them), or"
                " --resume RUN"
            )
        if request.check and (request.overfit or request.max_steps or request.max_minutes):
            raise UsageError(
                "--check N is a run of N steps; leave --max-steps, --max-minutes and --overfit out"
            )
        profile = resolved.profile
        if request.batch_size and request.batch_size != "auto":
            profile = with_batch_size(profile, request.batch_size)
        return profile, replace(request, max_steps=request.check) if request.check else request
    if request.batch_size:
        raise UsageError("--resume goes on with the batches of its run; leave --batch-size out")
    if request.check:
        raise UsageError(
            "--check is for a new run; leave --resume out, or start from its weights with --load"
        )
    if request.load:
        raise UsageError(
            "--resume goes on with a run, --load starts a new one from weights; give one of them"
        )
    if request.run_dir:
        raise UsageError("--resume writes into the run that it goes on with; leave --run-dir out")
    file, facts = request.resume / RUN, read_run(require_run_folder(request.resume))
    saved = _saved_request(facts.get("request"), file)
    whole = replace(
        request,
        train=request.train or saved.train,
        val=request.val or saved.val,
        max_steps=request.max_steps or saved.max_steps,
        max_minutes=request.max_minutes or saved.max_minutes,
        overfit=request.overfit or saved.overfit,
        max_train_samples=request.max_train_samples or saved.max_train_samples,
    )
    if resolved is None and not isinstance(facts.get("profile"), dict):
        raise ArtifactError(f"{file} is damaged: it holds no profile; name it with --profile")
    profile = resolved.profile if resolved else profile_from_json(facts["profile"], str(file))
    before, now = (length(one, profile.train.epochs) for one in (saved, whole))
    if before != now:
        lengths = [
            ", ".join(f"{key} {value:,}" for key, value in length.items())
            for length in (before, now)
        ]
        progress.warn(
            f"--resume {request.resume}: the run was to last {lengths[0]}, and now {lengths[1]}."
            " What was left of the learning rate's course is spread over what is left now"
        )
    return profile, whole


def lines_asked(given: str | None) -> int | Literal["auto"] | None:
    """What `--batch-size` asks for. Raises UsageError for anything but a number of lines or
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
    """The profile with batches of so many lines on every device; its learning rate stays meant for
    the batches it had.
    """
    train = profile.train
    changed = {
        "batch_size": lines,
        "batch_by_arch": {},
        "lr_batch": train.lr_batch or train.batch_size * train.accumulate,
    }
    return profile.model_copy(update={"train": train.model_copy(update=changed)})


def _saved_request(saved: Any, file: Path) -> TrainRequest:
    """The request that a run was started with. Raises ArtifactError when `file` does not hold
    it.
    """
    try:
        return TrainRequest(
            train=tuple(map(Path, saved["train"])),
            val=tuple(map(Path, saved["val"])),
            max_steps=saved["max_steps"] and int(saved["max_steps"]),
            max_minutes=saved["max_minutes"] and float(saved["max_minutes"]),
            overfit=saved["overfit"] and int(saved["overfit"]),
            max_train_samples=saved.get("max_train_samples") and int(saved["max_train_samples"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{file} is damaged: what was asked for (`request`) is not there whole ({error!r});"
            f" start a new run with --load {file.parent}"
        ) from None


def length(request: TrainRequest, epochs: int) -> dict[str, Any]:
    """What ends the run, by its name in `Limits`."""
    limits = {"max_steps": request.max_steps, "max_minutes": request.max_minutes}
    given = {key: value for key, value in limits.items() if value}
    return given or ({"max_steps": OVERFIT_STEPS} if request.overfit else {"epochs": epochs})


def with_stores(profile: Profile, request: TrainRequest) -> TrainRequest:
    """The request with the profile's line stores where it names none. Raises UsageError when there
    are none at all.
    """
    train_paths = train_stores(profile, request)
    val_paths = (
        train_paths if request.overfit else request.val or tuple(map(Path, profile.data.val))
    )
    if not val_paths:
        raise UsageError(
            f"no data: give --val STORE (the best checkpoint is chosen on it); {_MAKERS}"
        )
    return replace(request, train=train_paths, val=val_paths)


def train_stores(profile: Profile, request: TrainRequest) -> tuple[Path, ...]:
    """The line stores to train on. Raises UsageError when neither the request nor the profile names
    one.
    """
    if not (paths := request.train or tuple(map(Path, profile.data.train))):
        raise UsageError(f"no data: give --train STORE; {_MAKERS}")
    return paths


def store_and_ratio(named: Path) -> tuple[Path, float | None]:
    """Split `STORE=RATIO`, as a store to train on may be named; the ratio is None where none is
    given. Raises UsageError for a ratio that is no positive number.
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


def open_store(path: Path, kind: "type[LineStore]") -> "LineStore":
    """Open a line store. Raises UsageError when there is none."""
    if not path.exists():
        raise UsageError(f"no line store {path}; make one with `nordocr prep` or `nordocr synth`")
    return kind(path)
