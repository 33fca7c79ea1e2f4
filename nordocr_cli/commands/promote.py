"""`nordocr promote`: replace the promoted weights by a run's best ones, if they are good enough."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

if TYPE_CHECKING:
    from nordocr_cli.core.promote import Promotion


def promote(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="Folder of a run; with --verify a FILE.promotion.json."
        ),
    ],
    expect: Annotated[
        Path | None,
        typer.Option(
            "--expect", metavar="FILE.toml", help="Gates: METRIC = [minimum, maximum]."
        ),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            metavar="CONDITION",
            help="Condition that must hold, e.g. 'subset:fax.cer<=champion+0.3pp'. Repeatable.",
        ),
    ] = None,
    champion: Annotated[
        Path | None,
        typer.Option(
            "--champion",
            metavar="PATH",
            help="Weights or result to beat. Default: the weights at -o.",
        ),
    ] = None,
    no_champion: Annotated[
        bool,
        typer.Option("--no-champion", help="Replace the weights at -o without comparison."),
    ] = False,
    output: options.OptionalOutput = None,
    on: Annotated[
        list[Path] | None,
        typer.Option(
            "--on",
            metavar="STORE",
            help="Store to evaluate on. Repeatable.",
            autocompletion=options.complete_store,
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", metavar="PATH", help="Another result, for gates on against.cer."
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace other weights of that name.")
    ] = False,
    allow_leakage: Annotated[
        bool,
        typer.Option(
            "--allow-leakage",
            help="Promote even if the stores hold lines that were trained on.",
        ),
    ] = False,
    sign_key_env: Annotated[
        str | None,
        typer.Option(
            "--sign-key-env",
            metavar="NAME",
            help="Environment variable with the key that signs the record.",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the signature and weights of a record.")
    ] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Copy the best weights of a run to promoted/RUN.safetensors (or -o) when every gate holds.

    Missed gates are named (exit code 4). The weights that would be replaced are the champion: both
    models read the same lines, and the new one must not be worse, compared by document.
    FILE.promotion.json keeps the gates, the evaluations and the run's run.json.

    Example: nordocr promote runs/a --expect targets.toml -o models/recognize.safetensors
    """
    from nordocr_cli.core import promote as core

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    if verify:
        _verify(console, run, sign_key_env)
        return
    planned = core.plan(
        core.PromotionRequest(
            run=run,
            expect=expect,
            output=output,
            stores=on or (),
            champion=champion,
            no_champion=no_champion,
            gates=gate or (),
            against=against,
            replace=replace,
            allow_leakage=allow_leakage,
            sign_key_env=sign_key_env,
            device=device,
            threads=threads,
            command=sys.argv,
        )
    )
    if dry_run:
        options.show_plan(console, planned.to_json())
        return

    done = core.run(planned, console)
    if as_json:
        console.json(done.to_json())
    else:
        _show(console, done)
    console.next("nordocr", "export", done.weights)


def _verify(console: Console, record: Path, sign_key_env: str | None) -> None:
    from nordocr_cli.core.signature import read_key, verify_promotion
    from nordocr_cli.errors import UsageError

    if sign_key_env is None:
        raise UsageError("--verify needs --sign-key-env NAME, the variable with the key")
    found = verify_promotion(record, read_key(sign_key_env))
    if console.as_json:
        console.json({"record": str(record), "sha256": found["sha256"], "verified": True})
        return
    console.line(
        f"{record}: the signature holds, and the weights are {found['sha256'][:12]}…"
    )


def _show(console: Console, done: "Promotion") -> None:
    from nordocr_cli.core.champion import champion_rows
    from nordocr_cli.metrics.tables import metric_value

    rows: list[tuple[object, object]] = []
    for result in done.results:
        total = result.report.total
        figures = f"CER {metric_value(total, 'cer')}, exact {metric_value(total, 'exact')}"
        rows.append((f"on {(result.store or {}).get('path', '')}", figures))
    rows += [("gate", gate) for gate in done.gates]
    rows += [("weights", done.weights), ("record", done.record)]
    console.table(f"{done.run} promoted", ("what", "value"), rows)
    for comparison in done.champion:
        console.table(
            f"against the champion {comparison.champion} on {comparison.store}",
            ("", "champion", "new", "new is"),
            champion_rows(comparison),
            right=(1, 2),
        )
