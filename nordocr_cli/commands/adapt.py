"""`nordocr adapt`: scans without labels → a better recognizer."""

from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.commands.train_processes import restart_with_tuned_malloc
from nordocr_cli.console import Console
from nordocr_cli.errors import GateMissed


def adapt(
    scans: Annotated[
        list[Path],
        typer.Argument(
            help="Pages (TIFF, PDF, images), folders of them, or of line images."
        ),
    ],
    run_dir: Annotated[
        Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.")
    ],
    model: options.StartModel = "nordocr-default",
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            metavar="ppocr|tesseract",
            help="Other recognizer to compare with. Default: all installed. Repeatable.",
        ),
    ] = None,
    languages: Annotated[
        str | None,
        typer.Option("--languages", metavar="swe+nor", help="Languages of Tesseract."),
    ] = None,
    labelled: Annotated[
        list[str] | None,
        typer.Option(
            "--labelled",
            metavar="DATA",
            help="A small labelled sample to measure accuracy on.",
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option("--answers", metavar="TSV", help="ask.tsv with the texts filled in."),
    ] = None,
    ask: Annotated[
        int, typer.Option("--ask", min=0, help="Lines to write out for a person to read.")
    ] = 50,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, max=5, help="Rounds of reading and training.")
    ] = 1,
    rendered: Annotated[
        float, typer.Option("--rendered", min=0, max=0.95, help="Share of rendered lines.")
    ] = 0.5,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--max-minutes",
            "--minutes",
            min=0.05,
            help="Maximum training time of each round.",
        ),
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, help="Steps of each round.")
    ] = None,
    vlm_url: Annotated[
        str | None,
        typer.Option(
            "--vlm-url",
            metavar="URL",
            help="OpenAI-compatible server of a vision-language model, as one more engine.",
        ),
    ] = None,
    vlm_model: Annotated[
        str | None,
        typer.Option("--vlm-model", metavar="NAME", help="The model's name there."),
    ] = None,
    vlm_key_env: Annotated[
        str | None,
        typer.Option(
            "--vlm-key-env",
            metavar="NAME",
            help="Environment variable that holds the server's key.",
        ),
    ] = None,
    vlm_allow_remote: Annotated[
        bool,
        typer.Option(
            "--vlm-allow-remote", help="Allow sending line crops to another machine."
        ),
    ] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Adapt a recognizer to scans without labels.

    Finds the lines, reads them with our recognizer, PP-OCR and Tesseract, takes as labels what two
    of them agree on, and fine-tunes on these. --vlm-url adds a vision-language model to the
    engines; without it nothing leaves this machine. The guard set must not get worse (exit code
    4). The lines that no two engines agree on are written to RUN/ask.tsv for a person. The same
    command continues after an interruption.

    Example: nordocr adapt scans/ -o runs/adapted --minutes 20
    """
    from nordocr_cli.core.adapt.plan import AdaptRequest, plan_adapt
    from nordocr_cli.core.adapt.run import run_adapt
    from nordocr_cli.core.finetune.result import COMPARISON_COLUMNS
    from nordocr_cli.core.train.signals import stop_on_signals

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    server = None
    if vlm_url:
        from nordocr_cli.compare.endpoint import endpoint

        server = endpoint(vlm_url, vlm_model, vlm_key_env, allow_remote=vlm_allow_remote)
    request = AdaptRequest(
        scans=tuple(scans),
        run_dir=run_dir,
        model=model,
        engines=tuple(engine or ()),
        languages=languages,
        labelled=tuple(labelled or ()),
        answers=answers,
        ask=ask,
        rounds=rounds,
        rendered_share=rendered,
        minutes=minutes,
        max_steps=max_steps,
        seed=seed if seed is not None else 1,
        device=device,
        threads=threads,
        vlm=server,
    )
    plan = plan_adapt(request)
    if dry_run:
        options.show_plan(console, plan.to_json())
        return
    restart_with_tuned_malloc(console, device)
    with stop_on_signals(console) as stop:
        result = run_adapt(plan, progress=console, stop=stop)
    finetuned = result.finetuned
    if as_json:
        console.json(result.to_json())
    else:
        console.table(str(result.run_dir), ("what", "value"), result.rows())
        console.table(
            f"{finetuned.steps:,} steps in {finetuned.minutes:.1f} min",
            COMPARISON_COLUMNS,
            [one.row() for one in finetuned.sets],
            right=(1, 2, 3, 4, 5),
        )
        for path in finetuned.files:
            console.line(str(path))
    if finetuned.problem:
        raise GateMissed(finetuned.problem)
    lines = result.run_dir / "lines" / "images"
    console.next("nordocr", "predict", lines, "-m", finetuned.files[-1], "--layout", "line")
