"""`nordocr finetune`: one's own labelled lines → a better recognizer."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.commands.train_processes import restart_with_tuned_malloc
from nordocr_cli.console import Console
from nordocr_cli.errors import GateMissed, UsageError


def finetune(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATA]...", help="Labelled lines: anything that `nordocr prep` reads."
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="RUN", help="Folder of the run."),
    ] = None,
    model: options.StartModel = "nordocr-default",
    val: Annotated[
        list[str] | None,
        typer.Option(
            "--val",
            metavar="DATA",
            help="Held-out lines. Default: a fifth of the documents.",
        ),
    ] = None,
    guard: Annotated[
        list[str] | None,
        typer.Option(
            "--guard",
            metavar="DATA",
            help="More labelled lines that must not be read worse, next to rendered ones.",
        ),
    ] = None,
    rendered: Annotated[
        float,
        typer.Option(
            "--rendered",
            min=0,
            max=0.95,
            help="Share of rendered lines in training; they keep other documents readable.",
        ),
    ] = 0.5,
    fonts: Annotated[
        Path | None,
        typer.Option(
            "--fonts", help="Fonts of the rendered lines, as for synth. Default: system."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--max-minutes", "--minutes", min=0.05, help="Maximum training time."),
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option("--max-steps", min=1, help="Steps, instead of the chosen number."),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", min=1e-7, help="Learning rate, instead of the chosen one."),
    ] = None,
    trust_labels: Annotated[
        bool,
        typer.Option(
            "--trust-labels",
            help="Train even if the recognizer agrees with hardly any label.",
        ),
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", metavar="RUN", help="Continue an interrupted fine-tuning."
        ),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Fine-tune a recognizer on your own labelled lines, and compare it with the one before.

    Chooses the charset that covers the labels, splits by document, mixes in rendered lines, trains,
    evaluates before and after, calibrates, and exports ONNX and int8. A recognizer that reads the
    held-out lines or the guard set worse gets no final name (exit code 4).

    Example: nordocr finetune lines/ -o runs/mine --minutes 20
    """
    from nordocr_cli.core.finetune.plan import FinetuneRequest, plan_finetune
    from nordocr_cli.core.finetune.result import COMPARISON_COLUMNS
    from nordocr_cli.core.finetune.run import resumed_request, run_finetune
    from nordocr_cli.core.train.signals import stop_on_signals

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    if resume:
        if data or run_dir:
            raise UsageError(
                "--resume RUN continues with the data of its run; leave DATA and -o"
            )
        request = resumed_request(resume)
    else:
        if not data or not run_dir:
            raise UsageError(
                "name labelled lines and a folder: nordocr finetune DATA -o RUN"
            )
        request = FinetuneRequest(
            data=tuple(data),
            run_dir=run_dir,
            model=model,
            val=tuple(val or ()),
            judged_by=tuple(guard or ()),
            rendered_share=rendered,
            minutes=minutes,
            max_steps=max_steps,
            lr=lr,
            seed=seed if seed is not None else 1,
            device=device,
            threads=threads,
            trust_labels=trust_labels,
            fonts=str(fonts) if fonts else None,
        )
    plan = plan_finetune(request, console)
    if dry_run:
        options.show_plan(console, plan.to_json())
        return
    restart_with_tuned_malloc(console, request.device)
    with stop_on_signals(console) as stop:
        result = run_finetune(plan, progress=console, stop=stop)
    if as_json:
        console.json(result.to_json())
    else:
        console.table(
            f"{result.run_dir}: {result.steps:,} steps in {result.minutes:.1f} min,"
            f" {result.share:.0%} of their change kept",
            COMPARISON_COLUMNS,
            [one.row() for one in result.sets],
            right=(1, 2, 3, 4, 5),
        )
        for path in result.files:
            console.line(str(path))
    if result.problem:
        raise GateMissed(result.problem)
    held_out = result.run_dir / "data" / "own_val.lmdb"
    before = result.run_dir / "eval" / "before-held-out.json"
    console.next("nordocr", "eval", result.files[-1], held_out, "--against", before)
