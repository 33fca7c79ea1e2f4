"""Training: from profile and line stores to a run folder."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.artifact import Contract, contract_from_json, find_weights
from nordocr_cli.atomic import sha256_of
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import Profile, ResolvedProfile, profile_from_json, profile_to_json
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    import torch

    from nordocr_cli.charset import Charset
    from nordocr_cli.data.batches import LineBatches
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.training.freezing import Freezing

OVERFIT_STEPS = 500
# An overfit check passes when nearly every line is read exactly: a network that cannot learn a few lines by heart is broken.
OVERFIT_EXACT = 0.95
_PLAN_WIDTHS = (128, 320, 768, 1024, 1792)


@dataclass(frozen=True)
class TrainRequest:
    """What the user asked for beside the profile. `resume` names a run folder, `load` weights that a new run starts from;
    steps and minutes, where given, replace the profile's epochs; `overfit` trains on that many lines and nothing else."""

    train: tuple[Path, ...] = ()
    val: tuple[Path, ...] = ()
    run_dir: Path | None = None
    load: Path | None = None
    resume: Path | None = None
    max_steps: int | None = None
    max_minutes: float | None = None
    overfit: int | None = None
    device: str = "auto"
    threads: int | None = None
    save_fp16: bool = False


@dataclass(frozen=True)
class TrainResult:
    """What a finished run has to show. Rates are 0…1; `lines` counts lines seen, an epoch's anew each time."""

    run_dir: Path
    steps: int
    lines: int
    minutes: float
    lines_per_s: float
    skipped: int
    best_step: int
    best_cer: float
    best_exact: float
    files: tuple[Path, ...]
    verdict: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {**asdict(self), "run_dir": str(self.run_dir), "files": [str(path) for path in self.files]}


def plan(resolved: ResolvedProfile | None, request: TrainRequest, progress: Progress = SILENT) -> dict[str, Any]:
    """Return what `train` would do, without torch: network, geometry, batches by GPU, data, length, files."""
    profile, request = _asked(resolved, request, progress)
    settings, geometry, charset = profile.train, profile.geometry, profile.load_charset()
    widths = [w for w in _PLAN_WIDTHS if w < geometry.max_width] + [geometry.max_width]
    batches = {
        arch: {f"{width} px": max(1, lines * settings.batch_width_px // width) for width in widths}
        for arch, lines in {"any": settings.batch_size, **settings.batch_by_arch}.items()
    }
    return {
        "profile": str(resolved.path) if resolved else f"of {request.resume}",
        "model": profile.model.model_dump(mode="json"),
        "charset": f"{charset.name}, {charset.num_classes} classes, sha256 {charset.sha256[:12]}",
        "geometry": {**geometry.to_json(), "frames_at_max_width": geometry.out_length(geometry.max_width)},
        "train": {
            "stores": [_describe_store(path) for path in request.train or map(Path, profile.data.train)]
            or "not given: --train STORE (or data.train in the profile)",
            "val": [_describe_store(path) for path in request.val or map(Path, profile.data.val)]
            or "not given: --val STORE (or data.val in the profile)",
            "length": _length(request, settings.epochs),
            "lr": settings.lr,
            "precision": settings.precision,
            "ema_decay": settings.ema_decay,
            "seed": settings.seed,
            "start": _start(request),
        },
        "lines_a_batch": batches,
        "run_dir": str(request.resume or request.run_dir or Path("runs") / f"{profile.name}-<n>"),
        "files": ["best.safetensors", "last.safetensors", "state.pt", "run.json", "metrics.jsonl", "tensorboard/"],
    }


def _start(request: TrainRequest) -> str:
    if request.resume:
        return f"where {request.resume} stopped"
    return f"weights of {request.load}" if request.load else "fresh weights"


def _describe_store(path: Path) -> dict[str, Any]:
    from nordocr_cli.data.store import LineStore

    with _open_store(path, LineStore) as store:
        widest = int(store.widths.max()) if len(store) else 0
        return {"path": str(path), "lines": len(store), "widest_px": widest, "content_sha256": store.header.content_sha256[:12]}


def _asked(resolved: ResolvedProfile | None, request: TrainRequest, progress: Progress = SILENT) -> tuple[Profile, TrainRequest]:
    """The profile and the whole request. Of a run to go on with, whatever is not given anew is taken from its run.json."""
    from nordocr_cli.training.runlog import RUN, read_run, require_run_folder

    if request.resume is None:
        if resolved is None:
            raise UsageError("give a profile: --profile NAME (`nordocr profiles list` shows them), or --resume RUN")
        return resolved.profile, request
    if request.load:
        raise UsageError("--resume goes on with a run, --load starts a new one from weights; give one of them")
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
    )
    if resolved is None and not isinstance(facts.get("profile"), dict):
        raise ArtifactError(f"{file} is damaged: it holds no profile; name it with --profile")
    profile = resolved.profile if resolved else profile_from_json(facts["profile"], str(file))
    before, now = (_length(one, profile.train.epochs) for one in (saved, whole))
    if before != now:
        lengths = [", ".join(f"{key} {value:,}" for key, value in length.items()) for length in (before, now)]
        progress.warn(
            f"--resume {request.resume}: the run was to last {lengths[0]}, and now {lengths[1]}. The learning rate follows the "
            "length, so that it jumps here"
        )
    return profile, whole


def _saved_request(saved: Any, file: Path) -> TrainRequest:
    """The request that a run was started with. Raises ArtifactError when `file` does not hold it."""
    try:
        return TrainRequest(
            train=tuple(map(Path, saved["train"])),
            val=tuple(map(Path, saved["val"])),
            max_steps=saved["max_steps"] and int(saved["max_steps"]),
            max_minutes=saved["max_minutes"] and float(saved["max_minutes"]),
            overfit=saved["overfit"] and int(saved["overfit"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{file} is damaged: what was asked for (`request`) is not there whole ({error!r}); start a new run with "
            f"--load {file.parent}"
        ) from None


def _length(request: TrainRequest, epochs: int) -> dict[str, Any]:
    """What ends the run, by its name in `Limits`."""
    limits = {"max_steps": request.max_steps, "max_minutes": request.max_minutes}
    given = {key: value for key, value in limits.items() if value}
    return given or ({"max_steps": OVERFIT_STEPS} if request.overfit else {"epochs": epochs})


def train(
    resolved: ResolvedProfile | None,
    request: TrainRequest,
    *,
    progress: Progress = SILENT,
    stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train, or go on with a run (`request.resume`, where the profile may be left out), and return what came of it.

    `stop` is asked after each step; when it says so, everything is saved and Interrupted raised. Raises UsageError for a
    missing profile, store or run and for a resume that is not the same run, DataError for data that does not fit, and
    MissingBackendError for a device that is not here.
    """
    import torch

    from nordocr_cli.runtime.torch_runner import choose_device
    from nordocr_cli.training.checkpoint import Position
    from nordocr_cli.training.loop import Limits, Trainer
    from nordocr_cli.training.runlog import RunLog, new_run_folder

    profile, request = _asked(resolved, request, progress)
    profile = _for_overfit(profile) if request.overfit else profile
    request = _with_stores(profile, request)
    device = choose_device(request.device)
    if request.threads:
        torch.set_num_threads(request.threads)
    precision = _precision(profile, device, progress)
    with ExitStack() as stack:
        # Everything that can be refused is refused before a folder is made.
        data = _open_data(profile, request, device, stack)
        begun = _begin(profile, request, data, progress)
        folder = request.resume or new_run_folder(request.run_dir, profile.name)
        facts = {
            **_facts(profile, request, data, begun, device, precision),
            **({"origins": dict(resolved.origins)} if resolved else {}),
        }
        position = Position(**begun.state["position"]) if begun.state else Position()
        log = RunLog(folder, facts, position.step)
        stack.callback(log.close)
        progress.note(
            f"{folder}: {profile.model.name} with {facts['parameters']:,} parameters on {facts['device']} ({precision}), "
            f"{len(data.train):,} lines, {facts['padding_share']:.1%} padding"
            + (f", going on after step {position.step:,}" if begun.state else "")
        )
        for line in begun.freezing.lines() if begun.freezing else ():
            progress.note(line)
        trainer = Trainer(
            model=begun.model,
            train=data.train,
            val=data.val,
            charset=data.charset,
            contract=begun.contract,
            settings=profile.train,
            limits=Limits(**{"epochs": profile.train.epochs, **_length(request, profile.train.epochs)}),
            device=device,
            folder=folder,
            identity=data.identity,
            log=log,
            progress=progress,
            stop=stop,
            precision=precision,
        )
        if begun.state:
            trainer.restore(begun.state)
        position = trainer.run()
        result = TrainResult(
            run_dir=folder,
            steps=position.step,
            lines=position.lines,
            minutes=position.elapsed_s / 60,
            lines_per_s=position.lines / max(position.elapsed_s, 1e-9),
            skipped=position.skipped,
            best_step=position.best_step,
            best_cer=position.best_cer,
            best_exact=position.best_exact,
            files=_files(folder, request.save_fp16),
            verdict=_verdict(len(data.val), position.best_exact) if request.overfit else "",
        )
        log.update(result=result.to_json())
        return result


def _with_stores(profile: Profile, request: TrainRequest) -> TrainRequest:
    """The request with the profile's line stores where it names none. Raises UsageError when there are none at all."""
    train_paths = request.train or tuple(map(Path, profile.data.train))
    val_paths = train_paths if request.overfit else request.val or tuple(map(Path, profile.data.val))
    if not train_paths or not val_paths:
        missing = "--train STORE" if not train_paths else "--val STORE (the best checkpoint is chosen on it)"
        raise UsageError(f"no data: give {missing}; `nordocr prep` and `nordocr synth` make line stores")
    return replace(request, train=train_paths, val=val_paths)


def _precision(profile: Profile, device: "torch.device", progress: Progress) -> str:
    if profile.train.precision == "fp16" and device.type == "cpu":
        progress.warn("fp16 training needs a GPU; this run uses bf16 instead")
        return "bf16"
    return profile.train.precision


@dataclass(frozen=True)
class _Data:
    """The opened line stores, in batches. `identity` is all that makes a run this run: a resumed one must have the same."""

    charset: "Charset"
    geometry: Geometry
    train: "LineBatches"
    val: "LineBatches"
    identity: dict[str, Any]


def _open_data(profile: Profile, request: TrainRequest, device: "torch.device", stack: ExitStack) -> _Data:
    """Open the stores, which `stack` closes. Raises UsageError for a missing store, DataError for one that does not fit."""
    from nordocr_cli.data.batches import LineBatches
    from nordocr_cli.data.store import LineStore

    settings, charset, lines_a_batch = profile.train, profile.load_charset(), _lines_a_batch(profile, device)
    train_stores, val_stores = (
        [stack.enter_context(_open_store(path, LineStore)) for path in paths] for paths in (request.train, request.val)
    )
    geometry = _decided(profile.geometry, train_stores)
    common: dict[str, Any] = {
        "budget_px": lines_a_batch * settings.batch_width_px,
        "workers": profile.data.num_workers,
        "pin": device.type == "cuda",
        "only": _spread(sum(map(len, train_stores)), request.overfit) if request.overfit else None,
    }
    train_batches = LineBatches(
        train_stores,
        charset,
        geometry,
        seed=settings.seed,
        shuffle=True,
        augment=None if request.overfit else profile.augment,
        mask_share=settings.mask_share,
        **common,
    )
    identity = {
        "profile": profile_to_json(profile),
        "charset_sha256": charset.sha256,
        "geometry": geometry.to_json(),
        "train_content_sha256": [store.header.content_sha256 for store in train_stores],
        "val_content_sha256": [store.header.content_sha256 for store in val_stores],
        "lines_a_batch": lines_a_batch,
        "overfit": request.overfit,
    }
    return _Data(charset, geometry, train_batches, LineBatches(val_stores, charset, geometry, **common), identity)


@dataclass(frozen=True)
class _Begun:
    """What training goes on from: the network, its contract, and the saved `state` of a run that is resumed."""

    model: "torch.nn.Module"
    contract: Contract
    freezing: "Freezing | None"
    state: dict[str, Any] | None


def _begin(profile: Profile, request: TrainRequest, data: _Data, progress: Progress) -> _Begun:
    """Build the network: fresh, with the weights of `--load`, or to be resumed. Raises what does not fit."""
    import torch

    from nordocr_cli.models.registry import build_model, load_pretrained
    from nordocr_cli.models.weights import load_weights, require_fit
    from nordocr_cli.training.checkpoint import load_state, require_same_run
    from nordocr_cli.training.freezing import freeze

    torch.manual_seed(profile.train.seed)
    model = build_model(profile.model, data.charset.num_classes)
    if request.resume:
        state = load_state(request.resume)
        # Read again by this version, so that a key which the run's version did not have counts as its default.
        then = profile_to_json(profile_from_json(state["identity"]["profile"], str(request.resume)))
        require_same_run({**state["identity"], "profile": then}, data.identity, request.resume)
        contract = contract_from_json(state["contract"], str(request.resume))
        return _Begun(model, contract, freeze(model, profile.train.trainable), state)
    used = data.train.widths[data.train.members]
    seen, parent = [int(used.min()), int(used.max())], None
    if request.load:
        weights, found = load_weights(request.load)
        found.require_readable_by(Contract(data.charset, data.geometry, {}), str(request.load))
        require_fit(model, weights, str(request.load))
        model.load_state_dict(weights)
        parent = sha256_of(find_weights(request.load))
        seen += found.trained_widths or ()  # what a network learnt before it was loaded it still reads
    else:
        load_pretrained(model, progress)
    contract = Contract(
        charset=data.charset,
        geometry=data.geometry,
        model=profile.model.model_dump(mode="json"),
        profile=profile_to_json(profile),
        trained_widths=(min(seen), max(seen)),
        parent_sha256=parent,
    )
    return _Begun(model, contract, freeze(model, profile.train.trainable), None)


def _facts(
    profile: Profile, request: TrainRequest, data: _Data, begun: _Begun, device: "torch.device", precision: str
) -> dict[str, Any]:
    """What run.json says of a run at its start."""
    import torch

    from nordocr_cli.training.runlog import environment

    return {
        "environment": environment(),
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "parameters": sum(p.numel() for p in begun.model.parameters()),
        "train": [_facts_of(store) for store in data.train.stores],
        "val": [_facts_of(store) for store in data.val.stores],
        "padding_share": round(data.train.padding_share(), 4),
        "profile": profile_to_json(profile),
        "request": {
            "train": [str(path) for path in request.train],
            "val": [str(path) for path in request.val],
            "max_steps": request.max_steps,
            "max_minutes": request.max_minutes,
            "overfit": request.overfit,
        },
        **({"freezing": begun.freezing.to_json()} if begun.freezing else {}),
        **({"loaded": {"path": str(request.load), "sha256": begun.contract.parent_sha256}} if request.load else {}),
    }


def _files(folder: Path, save_fp16: bool) -> tuple[Path, ...]:
    """The weights that a run leaves, after writing those of half precision where asked for."""
    from nordocr_cli.models.weights import load_weights, save_weights
    from nordocr_cli.training.runlog import BEST, BEST_FP16, LAST

    if not save_fp16:
        return folder / BEST, folder / LAST
    weights, best = load_weights(folder / BEST)
    save_weights(folder / BEST_FP16, weights, replace(best, precision="fp16"))
    return folder / BEST, folder / LAST, folder / BEST_FP16


@contextmanager
def stop_on_signals(progress: Progress) -> Iterator[Callable[[], bool]]:
    """Yield a `stop` that turns true at the first Ctrl-C or SIGTERM; the second Ctrl-C interrupts at once."""
    asked = threading.Event()

    def ask(number: int, _frame: object) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])
        progress.note("stopping after this step; once more to stop now")

    before = {kind: signal.signal(kind, ask) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _open_store(path: Path, kind: "type[LineStore]") -> "LineStore":
    if not path.exists():
        raise UsageError(f"no line store {path}; make one with `nordocr prep` or `nordocr synth`")
    return kind(path)


def _facts_of(store: "LineStore") -> dict[str, Any]:
    return {"path": str(store.path), "lines": len(store), "content_sha256": store.header.content_sha256}


def _decided(geometry: Geometry, stores: "Sequence[LineStore]") -> Geometry:
    """The profile's geometry, with `over_width = "auto"` replaced by what prep decided for the first store."""
    return replace(geometry, over_width=stores[0].header.geometry.over_width) if geometry.over_width == "auto" else geometry


def _lines_a_batch(profile: Profile, device: "torch.device") -> int:
    if device.type == "cuda":
        import torch

        major, minor = torch.cuda.get_device_capability(device)
        return profile.train.batch_by_arch.get(f"sm{major}{minor}", profile.train.batch_size)
    return profile.train.batch_size


def _for_overfit(profile: Profile) -> Profile:
    """The profile without what keeps a network from learning lines by heart: averaging, decay, dropped paths, bare padding."""
    train = profile.train.model_copy(update={"ema_decay": 0.0, "weight_decay": 0.0, "mask_share": 1.0})
    drops = {"drop_path": 0.0} if hasattr(profile.model, "drop_path") else {}
    return profile.model_copy(update={"train": train, "model": profile.model.model_copy(update=drops)})


def _spread(lines: int, wanted: int) -> list[int]:
    """`wanted` line numbers spread evenly over `lines`."""
    return [index * lines // min(wanted, lines) for index in range(min(wanted, lines))]


def _verdict(lines: int, exact: float) -> str:
    if exact >= OVERFIT_EXACT:
        return f"ok: {exact:.1%} of {lines} lines learnt by heart"
    return f"failed: only {exact:.1%} of {lines} lines learnt by heart; give it more steps, or look at lr, labels and widths"


def malloc_tunables() -> dict[str, str]:
    """Environment that keeps glibc from handing every big block back to the kernel, which the loop does now and then instead;
    empty where it does not apply."""
    if not sys.platform.startswith("linux"):
        return {}
    return {
        "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1"
    }
