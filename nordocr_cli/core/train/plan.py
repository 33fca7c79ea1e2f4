"""The plan of a training run: everything that can be checked before torch is imported.

`plan_train` is what `--dry-run` prints, and what `run_train` runs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.charset import Charset, differences
from nordocr_cli.core.train.request import (
    TrainRequest,
    after_restart,
    length,
    resolve_request,
    store_and_ratio,
)
from nordocr_cli.errors import ArtifactError, DataError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.models.registry import check_files
from nordocr_cli.profile import Profile, ResolvedProfile
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.settings import MODEL_KINDS, Model, ModelTable, unused_options
from nordocr_cli.training.runlog import (
    BEST,
    BOARD_FOLDER,
    CURVES_FILE,
    LAST,
    METRICS_FILE,
    RUN_FILE,
    STATE_FILE,
    WORST_FILE,
    read_run,
)
from nordocr_cli.training.state import RunLimits, duration

if TYPE_CHECKING:
    from nordocr_cli.data.store import LineStore

_PLAN_WIDTHS = (128, 320, 768, 1024, 1792)
_FILES = (
    BEST,
    LAST,
    STATE_FILE,
    RUN_FILE,
    METRICS_FILE,
    CURVES_FILE,
    WORST_FILE,
    f"{BOARD_FOLDER}/",
)


@dataclass(frozen=True)
class StoreFacts:
    """What a plan records of a line store; `ratio` is its share in the mixture, where one is given.
    `pixels` is the sum of its lines' widths.
    """

    path: Path
    ratio: float | None
    lines: int
    widest_px: int
    pixels: int
    content_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain JSON values."""
        facts: dict[str, Any] = {
            "path": str(self.path),
            "lines": self.lines,
            "widest_px": self.widest_px,
            "content_sha256": self.content_sha256[:12],
        }
        if self.ratio is None:
            return facts
        return {**facts, "ratio": self.ratio}


_NOT_MEASURED = "not known before the first steps; `--check 10` measures it"


@dataclass(frozen=True)
class TrainPlan:
    """A checked training run. `request` is complete; `train` and `val` describe the line stores
    that are named so far, and `source` says where the profile came from.
    """

    profile: Profile
    request: TrainRequest
    charset: Charset
    source: str
    origins: Mapping[str, str] | None
    train: tuple[StoreFacts, ...]
    val: tuple[StoreFacts, ...]

    @property
    def limits(self) -> RunLimits:
        """When the run ends."""
        epochs = self.profile.train.epochs
        return RunLimits(**{"epochs": epochs, **length(self.request, epochs)})

    @property
    def steps(self) -> int | None:
        """About how many steps the run has; None when minutes end it, or without a store."""
        limits = self.limits
        if limits.max_steps:
            return limits.max_steps
        if limits.max_minutes or not self.train:
            return None
        settings = self.profile.train
        budget_px = settings.batch_size * settings.batch_width_px * settings.accumulate
        pixels = sum(store.pixels for store in self.train)
        lines = sum(store.lines for store in self.train)
        if self.request.max_train_samples and lines:
            pixels = pixels * min(lines, self.request.max_train_samples) // lines
        return max(1, -(-pixels // budget_px)) * limits.epochs

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        request = self.request
        settings = self.profile.train
        geometry = self.profile.geometry
        charset = self.charset
        train: dict[str, Any] = {
            "stores": _described(
                self.train, "--train STORE (or data.train in the profile)"
            ),
            "val": _described(self.val, "--val STORE (or data.val in the profile)"),
        }
        if request.max_train_samples:
            train["max_train_samples"] = request.max_train_samples
        train |= {
            "length": length(request, settings.epochs),
            "steps": self.steps,
            "time": self._expected_time(),
            "memory": self._expected_memory(),
            "lr": settings.lr,
            "precision": settings.precision,
            "ema_decay": settings.ema_decay,
            "seed": settings.seed,
            "start": _start(request),
        }
        return {
            "profile": self.source,
            "model": self.profile.model.model_dump(mode="json"),
            "charset": (
                f"{charset.name}, {charset.num_classes} classes, sha256 {charset.sha256[:12]}"
            ),
            "geometry": {
                **geometry.to_json(),
                "frames_at_max_width": geometry.out_length(geometry.max_width),
            },
            "train": train,
            "lines_a_batch": self._lines_per_batch(),
            "run_dir": str(
                request.resume
                or request.run_dir
                or Path("runs") / f"{self.profile.run_name}-<n>"
            ),
            "files": list(_FILES),
        }

    def _lines_per_batch(self) -> Any:
        """Lines of a batch by GPU and width."""
        if self.request.batch_size == "auto":
            return "as many as fit: measured at the start"
        settings = self.profile.train
        widest = self.profile.geometry.max_width
        if self.profile.model.fixed_input_size:
            widths = [settings.batch_width_px]
        else:
            widths = [*(width for width in _PLAN_WIDTHS if width < widest), widest]
        by_arch = {"any": settings.batch_size, **settings.batch_by_arch}
        lines_by_arch = {}
        for arch, lines in by_arch.items():
            pixels = lines * settings.batch_width_px
            lines_by_arch[arch] = {
                f"{width} px": max(1, pixels // width) for width in widths
            }
        return lines_by_arch

    def _expected_time(self) -> str:
        """The expected duration, by the speed of an earlier run of the same network here."""
        limits = self.limits
        if limits.max_minutes:
            return f"{duration(limits.max_minutes * 60)} at most"
        lines = self._lines_in_total()
        earlier = _earlier_run(self._folder_of_runs(), self.profile.model)
        if not earlier or not lines:
            return _NOT_MEASURED
        speed = earlier.lines_per_s
        return (
            f"about {duration(lines / speed)}, at the {speed:.1f} lines/s of {earlier.name}"
        )

    def _expected_memory(self) -> str:
        """The expected memory: what an earlier run of the same network took here."""
        earlier = _earlier_run(self._folder_of_runs(), self.profile.model)
        if not earlier or not earlier.memory_gb:
            return _NOT_MEASURED
        return (
            f"about {earlier.memory_gb:.1f} GB, as {earlier.name} took on {earlier.device} with"
            f" {earlier.batch_size} lines a batch"
        )

    def _folder_of_runs(self) -> Path:
        folder = self.request.resume or self.request.run_dir
        if folder:
            return folder.parent
        return Path("runs")

    def _lines_in_total(self) -> float | None:
        lines = sum(store.lines for store in self.train)
        if not lines:
            return None
        if self.limits.max_steps:
            settings = self.profile.train
            mean_px = sum(store.pixels for store in self.train) / lines
            budget_px = settings.batch_size * settings.batch_width_px * settings.accumulate
            return self.limits.max_steps * budget_px / mean_px
        return float(
            min(lines, self.request.max_train_samples or lines) * self.limits.epochs
        )


def plan_train(
    resolved: ResolvedProfile | None, request: TrainRequest, progress: Progress = SILENT
) -> TrainPlan:
    """Check a training run without torch: options, files that the profile names, weights to start
    from, charset and geometry of the line stores.

    Raises UsageError, ArtifactError and DataError. A store that is not named yet is no error here:
    the plan says what is missing.
    """
    given, request = request, after_restart(request)
    if request is not given and given.batch_size:
        resolved = None  # its batches were decided when it began
    profile, request = resolve_request(resolved, request, progress)
    if request.overfit:
        profile = _for_overfit(profile)
    elif request.check:
        profile = _for_check(profile)
    charset = profile.load_charset()
    check_files(profile.model, profile.geometry, fresh=not request.load)
    _check_device(profile.model, request.device)
    if request.load:
        _check_weights(request, profile, charset)

    train = request.train or tuple(map(Path, profile.data.train))
    if request.overfit:
        val = train
    else:
        val = request.val or tuple(map(Path, profile.data.val))
    return TrainPlan(
        profile=profile,
        request=replace(request, train=train, val=val),
        charset=charset,
        source=str(resolved.path) if resolved else f"of {request.resume}",
        origins=resolved.origins if resolved else None,
        train=tuple(_checked_store(path, charset, profile.geometry) for path in train),
        val=tuple(_checked_store(path, charset, profile.geometry) for path in val),
    )


def _check_device(model: ModelTable, device: str) -> None:
    """Refuse a named device on which the network cannot train. `auto` is decided when it starts."""
    kind = device.partition(":")[0]
    if model.required_device and kind not in ("auto", model.required_device):
        raise UsageError(f"--device {device}: {model.required_by}")


def _check_weights(request: TrainRequest, profile: Profile, charset: Charset) -> None:
    assert request.load is not None
    found = read_contract(find_weights(request.load))
    if found.model.get("name") != profile.model.name:
        raise ArtifactError(
            f"{request.load}: these are weights of another network."
            f" {other_options(found.model, profile.model)}"
        )
    if profile.model.decoding == "seq2seq":
        return  # its tokens do not depend on the charset of the labels
    changed = _changed_options(found.model, profile.model)
    if changed.keys() - set(profile.model.shapeless):
        raise ArtifactError(
            f"{request.load}: these weights were trained with other model options."
            f" {other_options(found.model, profile.model)}"
        )
    if not request.move_head:
        require_charset(found.charset, charset, request.load)
    Contract(charset, found.geometry, {}).require_readable_by(
        Contract(charset, profile.geometry, {}), str(request.load)
    )


def _checked_store(named: Path, charset: Charset, geometry: Geometry) -> StoreFacts:
    """Open a store, compare it with the profile, and return its facts."""
    path, ratio = store_and_ratio(named)
    with open_store(path) as store:
        store.header.require_charset(charset, str(path))
        store.header.require_geometry(geometry, str(path))
        widths = store.widths
        return StoreFacts(
            path=path,
            ratio=ratio,
            lines=len(store),
            widest_px=int(widths.max()) if len(store) else 0,
            pixels=int(widths.sum()),
            content_sha256=store.header.content_sha256,
        )


def open_store(path: Path) -> "LineStore":
    """Open a line store. Raises UsageError when there is none."""
    if not path.exists():
        raise UsageError(
            f"no line store {path}; make one with `nordocr prep` or `nordocr synth`"
        )
    from nordocr_cli.data.store import LineStore

    return LineStore(path)


def _described(stores: tuple[StoreFacts, ...], option: str) -> Any:
    return [store.to_json() for store in stores] or f"not given: {option}"


def _start(request: TrainRequest) -> str:
    if request.resume:
        return f"where {request.resume} stopped"
    if not request.load:
        return "fresh weights"
    if request.move_head:
        moved = ", the head moved to the profile's charset"
    else:
        moved = ""
    return f"weights of {request.load}{moved}"


@dataclass(frozen=True)
class _EarlierRun:
    """What an earlier run measured; `memory_gb` is None in runs of earlier versions."""

    name: str
    device: str
    batch_size: int
    lines_per_s: float
    memory_gb: float | None


def _earlier_run(runs: Path, model: ModelTable) -> _EarlierRun | None:
    """Return the newest finished run in `runs` of the same network; None where there is none."""
    table = model.model_dump(mode="json")
    if not runs.is_dir():
        return None
    files = [path for path in runs.glob(f"*/{RUN_FILE}") if path.is_file()]
    for file in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            facts = read_run(file.parent)
            result = facts["result"]
            profile = facts["profile"]
            if profile["model"] != table or result["lines_per_s"] <= 0:
                continue
            return _EarlierRun(
                name=str(file.parent),
                device=str(facts["device"]),
                batch_size=int(profile["train"]["batch_size"]),
                lines_per_s=float(result["lines_per_s"]),
                memory_gb=result.get("memory_gb"),
            )
        except (ArtifactError, DataError, KeyError, TypeError, ValueError):
            continue  # a damaged or unfinished run tells nothing
    return None


def other_options(found: Mapping[str, Any], expected: Model) -> str:
    """Return a sentence on how the profile's network `expected` must change for weights whose model
    table is `found`.
    """
    if found.get("name") != expected.name:
        return (
            f"They are of {found.get('name')}, the profile is for {expected.name}: take a profile"
            " of that network"
        )
    sets = []
    for key, value in _changed_options(found, expected).items():
        written = value if isinstance(value, str) else json.dumps(value)
        sets.append(f"--set 'model.{key}={written}'")
    if not sets:
        return "Use the profile that they were trained with"
    return f"They were trained with {' '.join(sets)}"


def _changed_options(found: Mapping[str, Any], expected: Model) -> dict[str, Any]:
    """Return the options, with the values in `found`, that differ from those of a profile's network
    of the same name. Those that only training reads and those without effect in the network of
    `found` are left out.
    """
    kind = MODEL_KINDS[expected.name]
    now = expected.model_dump(mode="json")
    # An option that is newer than the weights had its default when they were trained.
    before = kind.model_construct(**found).model_dump(mode="json", warnings=False)
    ignored = {*kind.training_only, *unused_options(found)}
    return {
        key: value
        for key, value in before.items()
        if key not in ignored and value != now.get(key)
    }


def require_charset(found: Charset, expected: Charset, load: Path) -> None:
    """Raise ArtifactError where weights were trained on another charset than the run's."""
    unlike = differences(found, expected)
    if unlike:
        raise ArtifactError(
            f"{load}: charset mismatch: {len(unlike)} classes differ, the first: {unlike[0]};"
            " --move-head moves the rows of its head by character"
        )


def _for_overfit(profile: Profile) -> Profile:
    """The profile without what keeps a network from memorizing lines: averaging, decay, dropped
    paths, unmasked padding.
    """
    train = profile.train.model_copy(
        update={"ema_decay": 0.0, "weight_decay": 0.0, "mask_share": 1.0}
    )
    if hasattr(profile.model, "drop_path"):
        drops = {"drop_path": 0.0}
    else:
        drops = {}
    model = profile.model.model_copy(update=drops)
    return profile.model_copy(update={"train": train, "model": model})


def _for_check(profile: Profile) -> Profile:
    """The profile with every step in the log and no evaluation before the end."""
    train = profile.train.model_copy(update={"log_every": 1, "eval_every": 1_000_000})
    return profile.model_copy(update={"train": train})
