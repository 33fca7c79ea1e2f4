"""Training: from profile and line stores to a run folder."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.core.train.plan import TrainRequest, asked, length, with_stores
from nordocr_cli.core.train.setup import (
    begin,
    facts_at_start,
    guidance_of,
    lr_scale,
    precision_of,
    require_unfinished,
    with_fitting_batch,
)
from nordocr_cli.core.train.stores import open_data
from nordocr_cli.errors import NordocrError, UsageError
from nordocr_cli.profile import Profile, ResolvedProfile
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.settings import Train

if TYPE_CHECKING:
    from nordocr_cli.training.loop import Trainer

# An overfit check passes when nearly every line is read exactly: a network that cannot learn a few
# lines by heart is broken.
OVERFIT_EXACT = 0.95


@dataclass(frozen=True)
class TrainResult:
    """What a finished run has to show. Rates are 0…1; `lines` counts lines seen, an epoch's anew
    each time; `verdict` is that of an overfit check or of `--check`, which also has `samples`, a
    few (reference, hypothesis).
    """

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
        return {
            **asdict(self),
            "run_dir": str(self.run_dir),
            "files": [str(path) for path in self.files],
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return the result as (what, value) pairs to be read."""
        return [
            ("steps", f"{self.steps:,}" + (f" ({self.skipped} skipped)" if self.skipped else "")),
            (
                "lines seen",
                f"{self.lines:,} in {self.minutes:.1f} min, {self.lines_per_s:,.0f} lines/s",
            ),
            (
                "best",
                f"CER {self.best_cer:.2%}, exact {self.best_exact:.1%} at step {self.best_step:,}",
            ),
            *(("file", str(path)) for path in self.files),
            *(("reads", f"{reading!r} for {text!r}") for text, reading in self.samples),
            *([("verdict", self.verdict)] if self.verdict else []),
        ]


def train(
    resolved: ResolvedProfile | None,
    request: TrainRequest,
    *,
    progress: Progress = SILENT,
    stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train, or go on with a run (`request.resume`, where the profile may be left out), and return
    what came of it.

    `stop` is asked after each step; when it says so, everything is saved and Interrupted raised.
    Raises UsageError for a missing profile, store or run and for a resume that is not the same run,
    DataError for data that does not fit, and MissingBackendError for a device that is not here.
    """
    import torch

    from nordocr_cli.runtime.backends.torch.runner import choose_device
    from nordocr_cli.training.disk_space import require_room
    from nordocr_cli.training.distributed import join_team, lost_the_others
    from nordocr_cli.training.loop import Trainer
    from nordocr_cli.training.runlog import RunLog, new_run_folder
    from nordocr_cli.training.state import Limits, Position
    from nordocr_cli.training.wandb_board import require_wandb

    team = join_team()
    progress = progress if team.first else SILENT
    wanted, request = request, _gone_on(request)
    # its batches were decided when it began
    resolved = None if wanted.batch_size and request is not wanted else resolved
    profile, request = asked(resolved, request, progress)
    profile = (
        _for_overfit(profile)
        if request.overfit
        else _for_check(profile)
        if request.check
        else profile
    )
    request = with_stores(profile, request)
    device = choose_device(team.device(request.device))
    if request.wandb:
        require_wandb()
    if request.threads:
        torch.set_num_threads(request.threads)
    precision = precision_of(profile, device, progress)
    profile = with_fitting_batch(profile, request, device, precision, team, progress)
    with ExitStack() as stack:
        stack.callback(team.leave)
        # Everything that can be refused is refused before a folder is made.
        data = open_data(profile, request, device, stack, (team.rank, team.size))
        one_store = set(data.identity["train_content_sha256"]) & set(
            data.identity["val_content_sha256"]
        )
        if one_store and not request.overfit and not request.resume:
            progress.warn(
                "--val holds a store of --train: its CER says nothing of lines that were not"
                " trained on"
            )
        begun = begin(profile, request, data, progress)
        limits = Limits(**{"epochs": profile.train.epochs, **length(request, profile.train.epochs)})
        if begun.state and request.resume:
            require_unfinished(begun.state, limits, len(data.train), request.resume)
        require_room(
            request.resume or request.run_dir or Path(),
            begun.model,
            averaged=profile.train.ema_decay > 0,
        )
        folder = request.resume or team.firsts(
            new_run_folder(request.run_dir, profile.name) if team.first else Path()
        )
        facts = {
            **facts_at_start(profile, request, data, begun, device, precision),
            **({"origins": dict(resolved.origins)} if resolved else {}),
        }
        position = Position(**begun.state["position"]) if begun.state else Position()
        log = RunLog(folder, facts, position.step, request.wandb) if team.first else None
        if log:
            stack.callback(log.close)
        progress.note(
            f"{folder}: {profile.model.name} with {facts['parameters']:,} parameters on"
            f" {facts['device']} ({precision}), {len(data.train):,} lines,"
            f" {facts['padding_share']:.1%} padding"
            + (f", going on after step {position.step:,}" if begun.state else "")
        )
        for line in begun.freezing.lines() if begun.freezing else ():
            progress.note(line)
        guidance = guidance_of(profile, begun.model, data.charset, progress)
        trainer = Trainer(
            model=begun.model,
            train=data.train,
            val=data.val,
            charset=data.charset,
            contract=begun.contract,
            settings=_with_global_lr(profile, data.identity["lines_a_batch"], team.size, progress),
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
    """The request, turned into a resume where torchrun started the processes anew and there is
    something to go on from.
    """
    from nordocr_cli.training.distributed import restarted
    from nordocr_cli.training.runlog import STATE

    if not restarted() or request.resume:
        return request
    if request.run_dir is None:
        raise UsageError(
            "torchrun started the run again, but without --run-dir there is no telling where it"
            " was; give --run-dir"
        )
    if not (request.run_dir / STATE).is_file():
        return request
    return replace(
        request, resume=request.run_dir, run_dir=None, load=None, move_head=False, batch_size=None
    )


def _with_global_lr(
    profile: Profile, lines_a_batch: int, processes: int, progress: Progress
) -> Train:
    """The settings with the learning rate for the lines of a whole step."""
    settings, scale = profile.train, lr_scale(profile, lines_a_batch, processes)
    if scale == 1.0:
        return settings
    lr, lines = settings.lr * scale, lines_a_batch * settings.accumulate * processes
    progress.note(
        f"learning rate {lr:.2e}: {settings.lr:g} times {scale:.2f}, for {lines:,} lines a step"
    )
    return settings.model_copy(update={"lr": lr})


def _files(folder: Path, save_fp16: bool) -> tuple[Path, ...]:
    """What a run leaves: its weights, those of half precision where asked for, and TrOCR's adapters
    as peft reads them.
    """
    from nordocr_cli.models.trocr.adapter import ADAPTER, save_adapter
    from nordocr_cli.models.weights import load_weights, save_weights
    from nordocr_cli.training.runlog import BEST, BEST_FP16, LAST

    files = [folder / BEST, folder / LAST]
    weights, best = load_weights(folder / BEST)
    if save_fp16:
        save_weights(folder / BEST_FP16, weights, replace(best, precision="fp16"))
        files.append(folder / BEST_FP16)
    if save_adapter(folder / ADAPTER, weights, best):
        files.append(folder / ADAPTER)
    return tuple(files)


@contextmanager
def stop_on_signals(progress: Progress) -> Iterator[Callable[[], bool]]:
    """Yield a `stop` that turns true at the first Ctrl-C or SIGTERM; the second Ctrl-C interrupts
    at once.
    """
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
    """The profile without what keeps a network from learning lines by heart: averaging, decay,
    dropped paths, bare padding.
    """
    train = profile.train.model_copy(
        update={"ema_decay": 0.0, "weight_decay": 0.0, "mask_share": 1.0}
    )
    drops = {"drop_path": 0.0} if hasattr(profile.model, "drop_path") else {}
    return profile.model_copy(
        update={"train": train, "model": profile.model.model_copy(update=drops)}
    )


def _for_check(profile: Profile) -> Profile:
    """The profile with every step in the log and no evaluation before the end."""
    return profile.model_copy(
        update={"train": profile.train.model_copy(update={"log_every": 1, "eval_every": 1_000_000})}
    )


def _verdict(request: TrainRequest, trainer: "Trainer", lines: int) -> str:
    """Judge an overfit check or `--check`; "" for every other run."""
    from nordocr_cli.training.diagnosis import check_verdict

    scores, exact = trainer.scores, trainer.position.best_exact
    faults = scores.faults if scores else {}
    if request.check:
        return check_verdict(
            trainer.log.figures("loss") if trainer.log else [],
            scores.empty if scores else 0.0,
            faults,
        )
    if not request.overfit:
        return ""
    if exact >= OVERFIT_EXACT:
        return f"ok: {exact:.1%} of {lines} lines learnt by heart"
    why = next(iter(faults.values()), "give it more steps, or look at lr, labels and widths")
    return f"failed: only {exact:.1%} of {lines} lines learnt by heart; {why}"


def malloc_tunables() -> dict[str, str]:
    """Environment that keeps glibc from handing every big block back to the kernel, which the loop
    does now and then instead; empty where it does not apply.
    """
    if not sys.platform.startswith("linux"):
        return {}
    return {
        "GLIBC_TUNABLES": (
            "glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1"
        )
    }
