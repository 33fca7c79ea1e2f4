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
from nordocr_cli.errors import MissingBackendError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import Profile, ResolvedProfile, profile_from_json, profile_to_json
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    import torch

    from nordocr_cli.data.store import LineStore

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


def plan(resolved: ResolvedProfile | None, request: TrainRequest) -> dict[str, Any]:
    """Return what `train` would do, without torch: network, geometry, batches by GPU, data, length, files."""
    profile, request = _asked(resolved, request)
    settings, geometry, charset = profile.train, profile.geometry, profile.load_charset()
    widths = [w for w in _PLAN_WIDTHS if w < geometry.max_width] + [geometry.max_width]
    batches = {
        arch: {f"{width} px": max(1, lines * settings.batch_width_px // width) for width in widths}
        for arch, lines in {"any": settings.batch_size, **settings.batch_by_arch}.items()
    }
    length: dict[str, Any] = {"epochs": settings.epochs}
    if request.max_steps or request.max_minutes or request.overfit:
        limits = {"max_steps": request.max_steps, "max_minutes": request.max_minutes}
        length = {key: value for key, value in limits.items() if value} or {"max_steps": OVERFIT_STEPS}
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
            "length": length,
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


def _asked(resolved: ResolvedProfile | None, request: TrainRequest) -> tuple[Profile, TrainRequest]:
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
    facts = read_run(require_run_folder(request.resume))
    saved = facts["request"]
    whole = replace(
        request,
        train=request.train or tuple(Path(p) for p in saved["train"]),
        val=request.val or tuple(Path(p) for p in saved["val"]),
        max_steps=request.max_steps or saved["max_steps"],
        max_minutes=request.max_minutes or saved["max_minutes"],
        overfit=request.overfit or saved["overfit"],
    )
    return resolved.profile if resolved else profile_from_json(facts["profile"], str(request.resume / RUN)), whole


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

    from nordocr_cli.data.batches import LineBatches
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.models.registry import build_model, load_pretrained
    from nordocr_cli.models.weights import load_weights, require_fit, save_weights
    from nordocr_cli.training import checkpoint
    from nordocr_cli.training.freezing import freeze
    from nordocr_cli.training.loop import Limits, Trainer
    from nordocr_cli.training.runlog import BEST, BEST_FP16, LAST, RunLog, environment, new_run_folder

    profile, request = _asked(resolved, request)
    profile = _for_overfit(profile) if request.overfit else profile
    settings, charset = profile.train, profile.load_charset()
    train_paths = request.train or tuple(Path(p) for p in profile.data.train)
    val_paths = (request.val or tuple(Path(p) for p in profile.data.val)) if not request.overfit else train_paths
    if not train_paths or not val_paths:
        missing = "--train STORE" if not train_paths else "--val STORE (the best checkpoint is chosen on it)"
        raise UsageError(f"no data: give {missing}; `nordocr prep` and `nordocr synth` make line stores")

    device = open_device(request.device)
    if request.threads:
        torch.set_num_threads(request.threads)
    precision = settings.precision
    if precision == "fp16" and device.type == "cpu":
        progress.warn("fp16 training needs a GPU; this run uses bf16 instead")
        precision = "bf16"
    lines_a_batch = _lines_a_batch(profile, device)

    with ExitStack() as stack:
        train_stores = [stack.enter_context(_open_store(path, LineStore)) for path in train_paths]
        val_stores = [stack.enter_context(_open_store(path, LineStore)) for path in val_paths]
        geometry = _decided(profile.geometry, train_stores)
        only = _spread(sum(map(len, train_stores)), request.overfit) if request.overfit else None
        common: dict[str, Any] = {
            "budget_px": lines_a_batch * settings.batch_width_px,
            "workers": profile.data.num_workers,
            "pin": device.type == "cuda",
            "only": only,
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
        val_batches = LineBatches(val_stores, charset, geometry, **common)
        identity: dict[str, Any] = {
            "profile": profile_to_json(profile),
            "charset_sha256": charset.sha256,
            "geometry": geometry.to_json(),
            "train_content_sha256": [store.header.content_sha256 for store in train_stores],
            "val_content_sha256": [store.header.content_sha256 for store in val_stores],
            "lines_a_batch": lines_a_batch,
            "overfit": request.overfit,
        }
        # Everything that can be refused is refused before a folder is made.
        torch.manual_seed(settings.seed)
        model = build_model(profile.model, charset.num_classes)
        parent = state = None
        widths_before: tuple[int, ...] = ()
        if request.load:
            weights, found = load_weights(request.load)
            found.require_readable_by(Contract(charset, geometry, {}), str(request.load))
            require_fit(model, weights, str(request.load))
            model.load_state_dict(weights)
            parent = sha256_of(find_weights(request.load))
            widths_before = found.trained_widths or ()
        if request.resume:
            state = checkpoint.load_state(request.resume)
            # Read again by this version, so that a key which the run's version did not have counts as its default.
            then = profile_to_json(profile_from_json(state["identity"]["profile"], str(request.resume)))
            checkpoint.require_same_run({**state["identity"], "profile": then}, identity, request.resume)
        if not (request.load or request.resume):
            load_pretrained(model, progress)
        freezing = freeze(model, settings.trainable)
        folder = request.resume or new_run_folder(request.run_dir, profile.name)

        limits = Limits(settings.epochs, request.max_steps, request.max_minutes)
        if request.overfit and not (request.max_steps or request.max_minutes):
            limits = Limits(settings.epochs, OVERFIT_STEPS)
        if state:
            contract = contract_from_json(state["contract"], str(folder))
        else:
            used = train_batches.widths[train_batches.members]
            seen = (int(used.min()), int(used.max()), *widths_before)
            contract = Contract(
                charset=charset,
                geometry=geometry,
                model=profile.model.model_dump(mode="json"),
                profile=profile_to_json(profile),
                # What a network learnt before it was loaded it still reads.
                trained_widths=(min(seen), max(seen)),
                parent_sha256=parent,
            )
        parameters = sum(p.numel() for p in model.parameters())
        facts: dict[str, Any] = {
            "environment": environment(),
            "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
            "threads": torch.get_num_threads(),
            "precision": precision,
            "parameters": parameters,
            "train": [_facts_of(store) for store in train_stores],
            "val": [_facts_of(store) for store in val_stores],
            "padding_share": round(train_batches.padding_share(), 4),
            "profile": profile_to_json(profile),
            **({"origins": dict(resolved.origins)} if resolved else {}),
            "request": {
                "train": [str(path) for path in train_paths],
                "val": [str(path) for path in val_paths],
                "max_steps": request.max_steps,
                "max_minutes": request.max_minutes,
                "overfit": request.overfit,
            },
            **({"freezing": freezing.to_json()} if freezing else {}),
            **({"loaded": {"path": str(request.load), "sha256": parent}} if request.load else {}),
        }
        position = checkpoint.Position(**state["position"]) if state else checkpoint.Position()
        log = RunLog(folder, facts, position.step)
        stack.callback(log.close)
        progress.note(
            f"{folder}: {profile.model.name} with {parameters:,} parameters on {facts['device']} ({precision}), "
            f"{len(train_batches):,} lines, {facts['padding_share']:.1%} padding"
            + (f", going on after step {position.step:,}" if state else "")
        )
        for line in freezing.lines() if freezing else ():
            progress.note(line)
        trainer = Trainer(
            model=model,
            train=train_batches,
            val=val_batches,
            charset=charset,
            contract=contract,
            settings=settings,
            limits=limits,
            device=device,
            folder=folder,
            identity=identity,
            log=log,
            progress=progress,
            stop=stop,
            precision=precision,
        )
        if state:
            trainer.restore(state)
        position = trainer.run()
        files = [folder / BEST, folder / LAST]
        if request.save_fp16:
            weights, best = load_weights(folder / BEST)
            save_weights(folder / BEST_FP16, weights, replace(best, precision="fp16"))
            files.append(folder / BEST_FP16)
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
            files=tuple(files),
            verdict=_verdict(request.overfit, position.best_exact) if request.overfit else "",
        )
        log.update(result=result.to_json())
        return result


def open_device(name: str) -> "torch.device":
    """Return the device that `auto`, `cpu` or `cuda[:N]` means. Raises UsageError for another name, MissingBackendError for
    a GPU that is not here."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UsageError(f"--device {name!r}: expected auto, cpu, cuda or cuda:N")
    if kind == "cuda" and (not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count()):
        raise MissingBackendError(
            f"--device {name}: this torch ({torch.__version__}) sees {torch.cuda.device_count()} GPU(s); use --device cpu, or "
            "install the CUDA build: pip install --index-url https://download.pytorch.org/whl/cu128 torch"
        )
    return torch.device(name)


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
    """The profile without what keeps a network from learning lines by heart: no averaging, no decay, padding masked."""
    without = {"ema_decay": 0.0, "weight_decay": 0.0, "mask_share": 1.0}
    return profile.model_copy(update={"train": profile.train.model_copy(update=without)})


def _spread(lines: int, wanted: int) -> list[int]:
    """`wanted` line numbers spread evenly over `lines`."""
    return [index * lines // min(wanted, lines) for index in range(min(wanted, lines))]


def _verdict(lines: int, exact: float) -> str:
    if exact >= OVERFIT_EXACT:
        return f"ok: {exact:.1%} of {lines} lines learnt by heart"
    return f"failed: only {exact:.1%} of {lines} lines learnt by heart; give it more steps, or look at lr, labels and widths"


def malloc_tunables() -> dict[str, str]:
    """Environment that keeps glibc from handing every big block back to the kernel; empty where it does not apply."""
    if not sys.platform.startswith("linux"):
        return {}
    return {
        "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1"
    }
