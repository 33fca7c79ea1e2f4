"""`nordocr train`: train a recognizer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nordocr_cli import options
from nordocr_cli.commands import train_checks, train_processes
from nordocr_cli.console import Console
from nordocr_cli.errors import GateMissed, NordocrError, UsageError

if TYPE_CHECKING:
    from nordocr_cli.core.train.request import TrainRequest
    from nordocr_cli.profile import ResolvedProfile


def train(
    profile: options.OptionalProfile = None,
    train_stores: Annotated[
        list[Path] | None,
        typer.Option(
            "--train",
            metavar="STORE[=RATIO]",
            autocompletion=options.complete_store,
            help="Line store; with ratios stores are mixed. Repeatable.",
        ),
    ] = None,
    val_stores: Annotated[
        list[Path] | None,
        typer.Option(
            "--val",
            metavar="STORE",
            help="Line store. Repeatable.",
            autocompletion=options.complete_store,
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", help="Folder of the run. Default: runs/PROFILE-N."),
    ] = None,
    load: Annotated[
        Path | None, typer.Option("--load", help="Start a new run from these weights.")
    ] = None,
    move_head: Annotated[
        bool,
        typer.Option(
            "--move-head",
            help="Allow --load with weights of another charset: the head moves by character.",
        ),
    ] = False,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Resume a run exactly.")
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option("--max-steps", min=1, help="Steps of the run, instead of epochs."),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            "--max-minutes", "--minutes", min=0.01, help="Minutes, instead of epochs."
        ),
    ] = None,
    overfit: Annotated[
        int | None,
        typer.Option("--overfit", min=1, metavar="N", help="Check: memorize N lines."),
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            metavar="auto|N",
            help="Lines a batch; auto: as many as fit the memory.",
        ),
    ] = None,
    allow_leakage: Annotated[
        bool,
        typer.Option(
            "--allow-leakage", help="Do not warn when --val holds lines of --train."
        ),
    ] = False,
    max_train_samples: Annotated[
        int | None,
        typer.Option("--max-train-samples", min=1, help="Train on N lines only."),
    ] = None,
    check: Annotated[
        int | None,
        typer.Option(
            "--check",
            min=2,
            metavar="N",
            help="Train N steps (10, 300), show predictions, judge the trend.",
        ),
    ] = None,
    selftest_resume: Annotated[
        bool,
        typer.Option(
            "--selftest-resume",
            help="Show that a stopped and resumed run computes the same losses, then end.",
        ),
    ] = False,
    preview_batch: Annotated[
        Path | None,
        typer.Option(
            "--preview-batch",
            metavar="FILE.png",
            help="Draw the first batches with their labels, then end.",
        ),
    ] = None,
    lr_range: Annotated[
        Path | None,
        typer.Option(
            "--lr-range",
            metavar="FILE.png",
            help="Try rates from 1e-6 to 1, draw the losses, suggest train.lr, then end.",
        ),
    ] = None,
    save_fp16: Annotated[
        bool,
        typer.Option("--save-fp16", help="Also write best.fp16.safetensors, for shipping."),
    ] = False,
    wandb: Annotated[
        str, typer.Option("--wandb", metavar="PROJECT", help="Log to Weights & Biases too.")
    ] = "",
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus", min=1, help="Train on N GPUs of this machine, one process each."
        ),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    seed: options.Seed = None,
    sets: options.Set = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Train on line stores; the best checkpoint by CER on --val and the last one are kept.

    Ctrl-C once finishes the step, saves and ends with 130; --resume RUN continues from there. For
    lines of your own, `nordocr finetune` does all of it in one command.

    Example: nordocr train -p svtrv2-1024 --train train.lmdb --val val.lmdb
    """
    from nordocr_cli.core.train.environment import (
        PROFILE_VARIABLES,
        apply_environment,
    )
    from nordocr_cli.core.train.plan import plan_train
    from nordocr_cli.core.train.request import TrainRequest, parse_batch_size
    from nordocr_cli.profile import load_profile
    from nordocr_cli.training.launcher_env import is_main_process

    # Of several processes that torchrun started, only the main one prints.
    first = is_main_process()
    console = Console(quiet=quiet or not first, verbose=verbose, as_json=as_json)
    if profile:
        resolved = load_profile(
            profile, sets or (), {"train.seed": seed}, variables=PROFILE_VARIABLES
        )
    else:
        resolved = None
    if resolved is None and (sets or seed is not None):
        raise UsageError("--set and --seed change a profile; name it with --profile")
    request = TrainRequest(
        train=tuple(train_stores or ()),
        val=tuple(val_stores or ()),
        run_dir=run_dir,
        load=load,
        move_head=move_head,
        resume=resume,
        max_steps=max_steps,
        max_minutes=max_minutes,
        overfit=overfit,
        max_train_samples=max_train_samples,
        check=check,
        device=device,
        threads=threads,
        save_fp16=save_fp16,
        wandb=wandb,
        batch_size=parse_batch_size(batch_size),
        allow_leakage=allow_leakage,
    )
    request, used = apply_environment(request)
    used = _print_variables(console, resolved, used)
    if dry_run:
        plan_facts = plan_train(resolved, request, console).to_json()
        options.show_plan(console, {**plan_facts, "from_environment": used})
        return
    if preview_batch:
        train_checks.preview(console, resolved, request, preview_batch)
        return
    if lr_range:
        train_checks.try_rates(console, resolved, request, lr_range)
        return
    if gpus:
        plan_train(resolved, request, console)  # refuses before processes start
        train_processes.run_processes(
            console, gpus, device, resumable=bool(request.run_dir or request.resume)
        )
        return
    train_processes.restart_with_tuned_malloc(console, device)
    if selftest_resume:
        train_checks.selftest(console, resolved, request)
        return
    _train_and_report(console, resolved, request, is_main=first)


def _print_variables(
    console: Console, resolved: "ResolvedProfile | None", used: dict[str, str]
) -> dict[str, str]:
    """Print which environment variables stand in for options; return all of them."""
    from nordocr_cli.core.train.environment import profile_values_used

    if resolved:
        used = used | profile_values_used(resolved)
    for option, value in used.items():
        console.note(f"{option}: {value}")
    return used


def _train_and_report(
    console: Console,
    resolved: "ResolvedProfile | None",
    request: "TrainRequest",
    *,
    is_main: bool,
) -> None:
    """Train, and let the main process print the result."""
    from nordocr_cli.core.train.plan import plan_train
    from nordocr_cli.core.train.run import run_train
    from nordocr_cli.core.train.signals import stop_on_signals

    try:
        plan = plan_train(resolved, request, console)
        with stop_on_signals(console) as stop:
            result = run_train(plan, progress=console, stop=stop)
    except NordocrError as error:
        train_processes.end_if_launcher_reports(error)
        raise

    if not is_main:
        return
    if console.as_json:
        console.json(result.to_json())
    else:
        console.table(str(result.run_dir), ("what", "value"), result.rows())
    if result.verdict.startswith("failed"):
        raise GateMissed(f"check {result.verdict}")
    console.next("nordocr", "eval", result.run_dir, plan.request.val[0])
