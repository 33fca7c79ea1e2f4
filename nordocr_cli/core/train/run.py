"""Running a training plan: from profile and line stores to a run folder."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.core.train.plan import TrainPlan, plan_train
from nordocr_cli.core.train.request import TrainRequest, with_stores
from nordocr_cli.core.train.result import TrainResult
from nordocr_cli.core.train.setup import (
    TrainStart,
    auxiliary_branch,
    facts_at_start,
    lr_scale,
    precision_of,
    require_unfinished,
    start_training,
    with_fitting_batch,
)
from nordocr_cli.core.train.stores import TrainData, open_data
from nordocr_cli.errors import NordocrError
from nordocr_cli.profile import Profile, ResolvedProfile
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.settings import Train

if TYPE_CHECKING:
    import torch

    from nordocr_cli.models.base import LineNetwork
    from nordocr_cli.training.distributed import DistributedContext
    from nordocr_cli.training.loop import Trainer

# An overfit check passes when nearly every line is read exactly: a network that cannot memorize a
# few lines is broken.
OVERFIT_EXACT = 0.95


def train(
    resolved: ResolvedProfile | None,
    request: TrainRequest,
    *,
    progress: Progress = SILENT,
    stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Plan and run a training in one call; see `plan_train` and `run_train`."""
    return run_train(plan_train(resolved, request, progress), progress=progress, stop=stop)


def run_train(
    plan: TrainPlan,
    *,
    progress: Progress = SILENT,
    stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train, or resume a run (`plan.request.resume`), and return the result.

    `stop` is called after each step; when it returns true, everything is saved and Interrupted
    raised. Raises UsageError for a missing store or run and for a resume that is not the same run,
    DataError for data that does not fit, and MissingBackendError for a device that is not here.
    """
    from nordocr_cli.training.distributed import init_distributed
    from nordocr_cli.training.malloc import limit_primitive_cache

    limit_primitive_cache()
    context = init_distributed()
    progress = progress if context.is_main else SILENT
    plan = replace(plan, request=with_stores(plan.profile, plan.request))
    with ExitStack() as stack:
        stack.callback(context.close)
        return _run(plan, context, stack, progress, stop)


def _run(
    plan: TrainPlan,
    context: "DistributedContext",
    stack: ExitStack,
    progress: Progress,
    stop: Callable[[], bool],
) -> TrainResult:
    """Everything that can be refused is refused before the run's folder is made."""
    from nordocr_cli.training.disk_space import require_disk_space
    from nordocr_cli.training.loop import Trainer, TrainJob
    from nordocr_cli.training.runlog import RunLog
    from nordocr_cli.training.state import TrainState

    device = _prepare_device(plan.request, context)
    precision = precision_of(plan.profile, device, progress)
    profile = with_fitting_batch(
        plan.profile, plan.request, device, precision, context, progress
    )
    plan = replace(plan, profile=profile)
    request = plan.request

    data = open_data(profile, request, device, stack, (context.rank, context.world_size))
    is_judged_on_others = not (request.overfit or request.resume or request.allow_leakage)
    if context.is_main and is_judged_on_others:
        _warn_of_leakage(data, progress)
    start = start_training(profile, request, data, progress)
    if start.state and request.resume:
        require_unfinished(start.state, plan.limits, len(data.train), request.resume)
    target = request.resume or request.run_dir or Path()
    require_disk_space(target, start.model, averaged=profile.train.ema_decay > 0)

    folder = _run_folder(plan, context)
    if start.state:
        state = TrainState.from_saved(start.state["position"])
    else:
        state = TrainState()
    facts = facts_at_start(plan, data, start, device, precision)
    if context.is_main:
        log = RunLog(folder, facts, state.step, request.wandb)
    else:
        log = None
    if log:
        stack.callback(log.close)
    _report_start(folder, facts, data, start, state.step, progress)

    lines = data.identity["lines_a_batch"]
    job = TrainJob(
        model=start.model,
        branch=auxiliary_branch(profile, start.model, data.charset, progress),
        train=data.train,
        val=data.val,
        charset=data.charset,
        contract=start.contract,
        settings=_with_scaled_lr(profile, lines, context.world_size, progress),
        limits=plan.limits,
        device=device,
        precision=precision,
        folder=folder,
        identity=data.identity,
    )
    trainer = Trainer(job, log=log, progress=progress, stop=stop, context=context)
    _train(trainer, start)
    result = _result(plan, trainer)
    if log:
        log.update(result=result.to_json())
    return result


def _prepare_device(request: TrainRequest, context: "DistributedContext") -> "torch.device":
    """Return the device of this process, and set its threads: no more than it has cores."""
    import torch

    from nordocr_cli.cores import usable_cores
    from nordocr_cli.runtime.backends.torch.runner import choose_device
    from nordocr_cli.training.wandb_board import require_wandb

    device = choose_device(context.device(request.device))
    if request.wandb:
        require_wandb()
    if request.threads:
        torch.set_num_threads(request.threads)
    elif device.type == "cpu":
        cores = max(1, usable_cores() // context.world_size)
        torch.set_num_threads(min(torch.get_num_threads(), cores))
    return device


def _run_folder(plan: TrainPlan, context: "DistributedContext") -> Path:
    """Return the folder of the run, which the main process makes for a new run."""
    from nordocr_cli.training.runlog import new_run_folder

    request = plan.request
    if request.resume:
        return request.resume
    own = Path()
    if context.is_main:
        own = new_run_folder(request.run_dir, plan.profile.run_name)
    return context.broadcast(own)


def _report_start(
    folder: Path,
    facts: dict[str, Any],
    data: TrainData,
    start: TrainStart,
    step: int,
    progress: Progress,
) -> None:
    resumed = f", resuming after step {step:,}" if start.state else ""
    progress.note(
        f"{folder}: {start.model.options.name} with {facts['parameters']:,} parameters on"
        f" {facts['device']} ({facts['precision']}), {len(data.train):,} lines,"
        f" {facts['padding_share']:.1%} padding{resumed}"
    )
    for line in start.freezing.lines() if start.freezing else ():
        progress.note(line)


def _train(trainer: "Trainer", start: TrainStart) -> None:
    from nordocr_cli.training.distributed import is_lost_connection

    if start.state:
        trainer.restore(start.state)
    context = trainer.context
    try:
        trainer.run()
    except RuntimeError as error:
        if context.world_size > 1 and is_lost_connection(error):
            raise NordocrError(
                f"process {context.rank} lost the others: {error}"
            ) from error
        raise


def _result(plan: TrainPlan, trainer: "Trainer") -> TrainResult:
    state = trainer.state
    folder = trainer.job.folder
    request = plan.request
    elapsed_s = max(state.elapsed_s, 1e-9)
    files: tuple[Path, ...] = ()
    verdict = ""
    if trainer.context.is_main:
        files = _files(folder, trainer.job.model, request.save_fp16)
        verdict = _verdict(request, trainer)
    return TrainResult(
        run_dir=folder,
        steps=state.step,
        lines=state.lines,
        minutes=state.elapsed_s / 60,
        lines_per_s=state.lines / elapsed_s,
        batches_per_s=state.batches_per_s,
        memory_gb=trainer.reporter.measure_memory(),
        skipped=state.skipped,
        best_step=state.best_step,
        best_cer=state.best_cer,
        best_exact=state.best_exact,
        files=files,
        verdict=verdict,
        samples=trainer.scores.samples if trainer.scores and request.check else (),
    )


def _warn_of_leakage(data: TrainData, progress: Progress) -> None:
    """Warn when lines of --val are in --train too, as they are or nearly so."""
    train = set(data.identity["train_content_sha256"])
    if train & set(data.identity["val_content_sha256"]):
        progress.warn(
            "--val holds a store of --train: its CER means nothing for lines that were not"
            " trained on"
        )
        return
    from nordocr_cli.data.leakage import find_leakage

    found = find_leakage(data.train.stores, data.val.stores)
    if found.is_found:
        progress.warn(
            f"{found.describe('--val', '--train')}: the CER on such lines means nothing for new"
            " ones"
        )


def _with_scaled_lr(
    profile: Profile, lines_per_batch: int, processes: int, progress: Progress
) -> Train:
    """Return the settings with the learning rate for the lines of a complete step."""
    settings = profile.train
    scale = lr_scale(profile, lines_per_batch, processes)
    if scale == 1.0:
        return settings
    lr = settings.lr * scale
    lines = lines_per_batch * settings.accumulate * processes
    progress.note(
        f"learning rate {lr:.2e}: {settings.lr:g} times {scale:.2f}, for {lines:,} lines a step"
    )
    return settings.model_copy(update={"lr": lr})


def _files(folder: Path, model: "LineNetwork", save_fp16: bool) -> tuple[Path, ...]:
    """Write what a run leaves in addition to its weights, and return all files: half precision
    where requested, and what the network itself adds.
    """
    from nordocr_cli.models.weights import load_weights, save_weights
    from nordocr_cli.training.runlog import BEST, BEST_FP16, LAST

    files = [folder / BEST, folder / LAST]
    weights, best = load_weights(folder / BEST)
    if save_fp16:
        save_weights(folder / BEST_FP16, weights, replace(best, precision="fp16"))
        files.append(folder / BEST_FP16)
    files += model.save_extras(folder, weights, best)
    return tuple(files)


def _verdict(request: TrainRequest, trainer: "Trainer") -> str:
    """Judge an overfit check or `--check`; "" for every other run."""
    from nordocr_cli.training.diagnosis import check_verdict, loss_trend, rate_advice

    scores = trainer.scores
    lr = trainer.job.settings.lr
    faults = scores.faults if scores else {}
    losses = trainer.log.figures("loss") if trainer.log else []
    if request.check:
        return check_verdict(losses, scores.empty if scores else 0.0, faults, lr)
    if not request.overfit:
        return ""
    exact = trainer.state.best_exact
    lines = len(trainer.job.val)
    if exact >= OVERFIT_EXACT:
        return f"ok: {exact:.1%} of {lines} lines memorized"
    first, last = loss_trend(losses)
    reason = next(iter(faults.values()), rate_advice(losses, lr))
    return (
        f"failed: only {exact:.1%} of {lines} lines memorized, loss {first:.2f} → {last:.2f} in"
        f" {trainer.state.step:,} steps; {reason}"
    )
