"""Training: from profile and line stores to a run folder."""

import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.artifact import Contract, contract_from_json, find_weights
from nordocr_cli.atomic import sha256_of
from nordocr_cli.charset import differences
from nordocr_cli.core.train_data import TrainData, fit_batch, open_data
from nordocr_cli.core.train_request import TrainRequest, asked, length, with_batch_size, with_stores
from nordocr_cli.errors import ArtifactError, NordocrError, UsageError
from nordocr_cli.profile import Profile, ResolvedProfile, Train, profile_from_json, profile_to_json
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    import torch

    from nordocr_cli.data.store import LineStore
    from nordocr_cli.models.head import HeadReport
    from nordocr_cli.training.freezing import Freezing
    from nordocr_cli.training.loop import Limits, Trainer

# An overfit check passes when nearly every line is read exactly: a network that cannot learn a few lines by heart is broken.
OVERFIT_EXACT = 0.95


@dataclass(frozen=True)
class TrainResult:
    """What a finished run has to show. Rates are 0…1; `lines` counts lines seen, an epoch's anew each time; `verdict` is that
    of an overfit check or of `--check`, which also has `samples`, a few (reference, hypothesis)."""

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
    samples: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {**asdict(self), "run_dir": str(self.run_dir), "files": [str(path) for path in self.files]}


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

    from nordocr_cli.models.guidance import build_guidance
    from nordocr_cli.runtime.torch_runner import choose_device
    from nordocr_cli.training.checkpoint import Position
    from nordocr_cli.training.loop import Limits, Trainer
    from nordocr_cli.training.room import require_room
    from nordocr_cli.training.runlog import RunLog, new_run_folder
    from nordocr_cli.training.team import join_team, lost_the_others
    from nordocr_cli.training.wandb_board import require_wandb

    team = join_team()
    progress = progress if team.first else SILENT
    wanted, request = request, _gone_on(request)
    resolved = None if wanted.batch_size and request is not wanted else resolved  # its batches were decided when it began
    profile, request = asked(resolved, request, progress)
    profile = _for_overfit(profile) if request.overfit else _for_check(profile) if request.check else profile
    request = with_stores(profile, request)
    device = choose_device(team.device(request.device))
    if request.wandb:
        require_wandb()
    if request.threads:
        torch.set_num_threads(request.threads)
    precision = _precision(profile, device, progress)
    if request.batch_size == "auto":
        fitting, how = fit_batch(profile, request, device, precision, team.size)
        lines = -int(team.most(-fitting))  # of all processes the least
        progress.note(how if lines == fitting else f"batch size {lines}: what fits the smallest of the GPUs")
        profile = with_batch_size(profile, lines)
    with ExitStack() as stack:
        stack.callback(team.leave)
        # Everything that can be refused is refused before a folder is made.
        data = open_data(profile, request, device, stack, (team.rank, team.size))
        begun = _begin(profile, request, data, progress)
        limits = Limits(**{"epochs": profile.train.epochs, **length(request, profile.train.epochs)})
        if begun.state and request.resume:
            _require_unfinished(begun.state, limits, len(data.train), request.resume)
        require_room(request.resume or request.run_dir or Path(), begun.model, averaged=profile.train.ema_decay > 0)
        folder = request.resume or team.firsts(new_run_folder(request.run_dir, profile.name) if team.first else Path())
        facts = {
            **_facts(profile, request, data, begun, device, precision),
            **({"origins": dict(resolved.origins)} if resolved else {}),
        }
        position = Position(**begun.state["position"]) if begun.state else Position()
        log = RunLog(folder, facts, position.step, request.wandb) if team.first else None
        if log:
            stack.callback(log.close)
        progress.note(
            f"{folder}: {profile.model.name} with {facts['parameters']:,} parameters on {facts['device']} ({precision}), "
            f"{len(data.train):,} lines, {facts['padding_share']:.1%} padding"
            + (f", going on after step {position.step:,}" if begun.state else "")
        )
        for line in begun.freezing.lines() if begun.freezing else ():
            progress.note(line)
        guidance = None
        if profile.train.guidance == "smtr":
            guidance = build_guidance(begun.model, data.charset.num_classes)
            progress.note(f"guided by context: {sum(p.numel() for p in guidance.parameters()):,} parameters more, never shipped")
        trainer = Trainer(
            model=begun.model,
            train=data.train,
            val=data.val,
            charset=data.charset,
            contract=begun.contract,
            settings=_with_global_lr(profile.train, data.identity["lines_a_batch"], team.size, progress),
            limits=limits,
            device=device,
            folder=folder,
            identity=data.identity,
            log=log,
            progress=progress,
            stop=stop,
            precision=precision,
            guidance=guidance,
            team=team,
        )
        if begun.state:
            trainer.restore(begun.state)
        try:
            position = trainer.run()
        except RuntimeError as error:
            if team.size > 1 and lost_the_others(error):
                raise NordocrError(f"process {team.rank} lost the others: {error}") from error
            raise
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
            files=_files(folder, request.save_fp16) if team.first else (),
            verdict=_verdict(request, trainer, len(data.val)) if team.first else "",
            samples=trainer.scores.samples if trainer.scores and request.check else (),
        )
        if log:
            log.update(result=result.to_json())
        return result


def _gone_on(request: TrainRequest) -> TrainRequest:
    """The request, turned into a resume where torchrun started the processes anew and there is something to go on from."""
    from nordocr_cli.training.runlog import STATE
    from nordocr_cli.training.team import restarted

    if not restarted() or request.resume:
        return request
    if request.run_dir is None:
        raise UsageError("torchrun started the run again, but without --run-dir there is no telling where it was; give --run-dir")
    if not (request.run_dir / STATE).is_file():
        return request
    return replace(request, resume=request.run_dir, run_dir=None, load=None, move_head=False, batch_size=None)


def _with_global_lr(settings: Train, lines_a_batch: int, processes: int, progress: Progress) -> Train:
    """The settings with the learning rate for the lines of a whole step: times the root of their number over `lr_batch`."""
    here = lines_a_batch * settings.accumulate
    scale = math.sqrt(here * processes / (settings.lr_batch or here))
    if scale == 1.0:
        return settings
    lr = settings.lr * scale
    progress.note(f"learning rate {lr:.2e}: {settings.lr:g} times {scale:.2f}, for {here * processes:,} lines a step")
    return settings.model_copy(update={"lr": lr})


def _require_unfinished(state: dict[str, Any], limits: "Limits", lines: int, folder: Path) -> None:
    """Refuse another length for a run that has come to its end: its learning rate is nearly nothing, and would stay so."""
    from nordocr_cli.training.checkpoint import Position
    from nordocr_cli.training.loop import Limits

    before = Limits(**state["limits"]) if "limits" in state else limits
    if before != limits and before.progress(Position(**state["position"]), lines) >= 1.0:
        raise UsageError(
            f"--resume {folder}: this run is finished, its learning rate has come down to nothing. Start a longer one from its "
            f"weights: --load {folder}"
        )


def _precision(profile: Profile, device: "torch.device", progress: Progress) -> str:
    if profile.train.precision == "fp16" and device.type == "cpu":
        progress.warn("fp16 training needs a GPU; this run uses bf16 instead")
        return "bf16"
    return profile.train.precision


@dataclass(frozen=True)
class _Begun:
    """What training goes on from: the network, its contract, the saved `state` of a run that is resumed, and what a
    move of the head did."""

    model: "torch.nn.Module"
    contract: Contract
    freezing: "Freezing | None"
    state: dict[str, Any] | None
    head: "HeadReport | None" = None


def _begin(profile: Profile, request: TrainRequest, data: TrainData, progress: Progress) -> _Begun:
    """Build the network: fresh, with the weights of `--load`, or to be resumed. Raises what does not fit."""
    import torch

    from nordocr_cli.models.head import move_head
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
    seen, parent, head = list(data.train.width_range), None, None
    if request.load:
        weights, found = load_weights(request.load)
        if unlike := differences(found.charset, data.charset):
            if not request.move_head:
                raise ArtifactError(
                    f"{request.load}: charset mismatch: {len(unlike)} classes differ, the first: {unlike[0]}; --move-head moves "
                    "the rows of its head by character"
                )
            weights, head = move_head(weights, found.charset, data.charset)
            found = replace(found, charset=data.charset)
            progress.note(head.line())
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
    return _Begun(model, contract, freeze(model, profile.train.trainable), None, head)


def _facts(
    profile: Profile, request: TrainRequest, data: TrainData, begun: _Begun, device: "torch.device", precision: str
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
            "max_train_samples": request.max_train_samples,
        },
        **({"freezing": begun.freezing.to_json()} if begun.freezing else {}),
        **({"loaded": {"path": str(request.load), "sha256": begun.contract.parent_sha256}} if request.load else {}),
        **({"head": begun.head.to_json()} if begun.head else {}),
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


def _facts_of(store: "LineStore") -> dict[str, Any]:
    return {"path": str(store.path), "lines": len(store), "content_sha256": store.header.content_sha256}


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


def _for_overfit(profile: Profile) -> Profile:
    """The profile without what keeps a network from learning lines by heart: averaging, decay, dropped paths, bare padding."""
    train = profile.train.model_copy(update={"ema_decay": 0.0, "weight_decay": 0.0, "mask_share": 1.0})
    drops = {"drop_path": 0.0} if hasattr(profile.model, "drop_path") else {}
    return profile.model_copy(update={"train": train, "model": profile.model.model_copy(update=drops)})


def _for_check(profile: Profile) -> Profile:
    """The profile with every step in the log and no evaluation before the end."""
    return profile.model_copy(update={"train": profile.train.model_copy(update={"log_every": 1, "eval_every": 1_000_000})})


def _verdict(request: TrainRequest, trainer: "Trainer", lines: int) -> str:
    """Judge an overfit check or `--check`; "" for every other run."""
    from nordocr_cli.training.diagnosis import check_verdict

    scores, exact = trainer.scores, trainer.position.best_exact
    faults = scores.faults if scores else {}
    if request.check:
        return check_verdict(trainer.log.figures("loss") if trainer.log else [], scores.empty if scores else 0.0, faults)
    if not request.overfit:
        return ""
    if exact >= OVERFIT_EXACT:
        return f"ok: {exact:.1%} of {lines} lines learnt by heart"
    why = next(iter(faults.values()), "give it more steps, or look at lr, labels and widths")
    return f"failed: only {exact:.1%} of {lines} lines learnt by heart; {why}"


def malloc_tunables() -> dict[str, str]:
    """Environment that keeps glibc from handing every big block back to the kernel, which the loop does now and then instead;
    empty where it does not apply."""
    if not sys.platform.startswith("linux"):
        return {}
    return {
        "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1"
    }
