"""`nordocr eval`: score a recognizer, or a recording of one, on a line store."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

if TYPE_CHECKING:
    from nordocr_cli.core.eval.run import EvalResult


def eval_(
    model: Annotated[
        str,
        typer.Argument(
            help="Weights, run folder, .onnx, .engine, tesseract[:swe+nor], or recorded .jsonl."
        ),
    ],
    store: Annotated[
        Path | None,
        typer.Argument(help="Line store, or manifest with crops. A recording can go without."),
    ] = None,
    output: options.OptionalOutput = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write figures and wrong lines as a page."),
    ] = None,
    crops: Annotated[
        int, typer.Option(min=0, help="How many of the worst lines have their picture in --report.")
    ] = 500,
    against: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Another result to compare with, line by line."),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(metavar="GATE", help="Exit 4 if so, e.g. 'cer>5%'. Repeatable."),
    ] = None,
    expect: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Exit 4 outside METRIC = [least, greatest]."),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            metavar="KEY", help="Row key to report by. Default: subset, else degradation."
        ),
    ] = "",
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst lines to show.")] = 5,
    resampler: Annotated[
        str | None, typer.Option(metavar="NAME", help="Resize a manifest's crops otherwise.")
    ] = None,
    decoder: Annotated[
        str, typer.Option(metavar="NAME[,NAME]", help="greedy, beam; of PARSeq ar, nar, ar+1, …")
    ] = "greedy",
    as_served: Annotated[
        bool,
        typer.Option(
            "--as-served",
            help="Read as the Rust pipeline does, and count the texts that change against our own.",
        ),
    ] = False,
    check_batches: Annotated[
        bool, typer.Option("--check-batches", help="Exit 4 if a line's text depends on its batch.")
    ] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Most lines handed to the recognizer at once.")
    ] = 256,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Score a recognizer, or a recording of one, on a line store: CER, exact matches, error
    classes, where and how sure.

    Example: nordocr eval runs/a val.lmdb -o runs/a/eval --report a.html --fail-if 'cer>2%'
    --against tesseract.jsonl
    """
    from nordocr_cli.core.eval.run import evaluate, parse_resampler, plan_eval
    from nordocr_cli.errors import GateMissed, UsageError
    from nordocr_cli.metrics.gates import parse_gate, read_expectations
    from nordocr_cli.runtime.specs import AS_SERVED

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    if as_served:
        if decoder != "greedy" or resampler:
            raise UsageError("--as-served has its own decoder and resampler; leave those out")
        decoder = f"{AS_SERVED},greedy"
    gates = [parse_gate(text) for text in fail_if or ()] + (
        read_expectations(expect) if expect else []
    )
    if dry_run:
        options.show_plan(console, plan_eval(model, store, output, against, report))
        return
    result = evaluate(
        model,
        store,
        device=device,
        threads=threads,
        batch_size=batch_size,
        subset_key=by,
        against=against,
        output=output,
        page=report,
        crops=crops,
        resampler=parse_resampler(resampler) if resampler else None,
        decoder=decoder,
        check_batches=check_batches,
        gates=gates,
        command=sys.argv,
        progress=console,
    )
    if as_json:
        console.json(result.to_json())
    else:
        _show(console, result, worst)
    for file in result.files:
        console.note(f"wrote {file}")
    comparison = result.against.comparison if result.against else None
    if result.batches and result.batches.problem:
        raise GateMissed(result.batches.problem)
    if missed := [problem for gate in gates if (problem := gate.missed(result.report, comparison))]:
        raise GateMissed("quality gate missed: " + "; ".join(missed))
    if result.model["kind"] == "model" and not model.endswith(".engine"):
        console.next(
            "nordocr",
            *(("build-engine", "--arch", "sm120") if model.endswith(".onnx") else ("export",)),
            model,
        )
    elif result.model["kind"] == "recorded" or output:
        recorded = result.files[0] if output else model
        console.next("nordocr", "eval", "MODEL", store or "LINES.lmdb", "--against", recorded)
    else:
        console.next("nordocr", "eval", model, store, "-o", f"{model.partition(':')[0]}.json")


def _show(console: Console, result: "EvalResult", worst: int) -> None:
    from nordocr_cli.metrics import tables
    from nordocr_cli.metrics.score import worst as worst_of
    from nordocr_cli.metrics.taxonomy import FAILURES, VERSION

    report, where = result.report, result.store["path"] if result.store else result.model["path"]
    console.table(
        f"{result.model['name']} on {where}",
        ("", "count", "rate", "95 %"),
        tables.headline(report),
        right=(1, 2, 3),
    )
    console.note(tables.interval_note(report))
    if result.batches and not result.batches.problem:
        console.note(
            f"{result.batches.lines} lines read alone, together, beside the widest and in random"
            " batches: the same texts"
        )
    if result.matching:
        console.note(
            ", ".join(
                f"{name.replace('_', ' ')} {count}" for name, count in result.matching.items()
            )
        )
    meaning = ("class", "lines", "of failures", "actionable", "means")
    console.table(
        f"errors (taxonomy {VERSION}, docs/taxonomy.md)",
        meaning,
        tables.classes(report),
        right=(1, 2),
    )
    console.note(f"flags: {tables.flags(report)}")
    groups = tables.class_groups(report, result.subset_key)
    for title, _, by_name in (("language", "", report.by_language), *groups):
        if by_name:
            console.table(
                f"by {title}",
                (title, *tables.GROUP_HEADS),
                tables.groups(by_name),
                right=range(1, 9),
            )
    for title, _, by_name in groups:
        heads = (title, "lines", *(c.value for c in FAILURES))
        console.table(f"errors by {title}", heads, tables.classes_by(by_name), right=range(1, 8))
    kinds = tables.characters(result.characters.kinds)
    console.table(
        "by kind of character",
        ("characters", "stand there", "precision", "recall", "F1"),
        kinds,
        right=range(1, 5),
    )
    if result.calibration:
        ece = tables.percent(result.calibration.ece, 1)
        console.note(
            f"Confidence: expected calibration error {ece}."
            f" {tables.coverage_note(result.calibration)}"
        )
    for title, pairs in (
        ("most frequent", report.confusions),
        ("Nordic letters'", report.nordic_pairs),
    ):
        if pairs:
            console.table(
                f"{title} confusions",
                ("wanted", "read", "times"),
                tables.confusions(pairs[:10]),
                right=(2,),
            )
    if worst and (lines := worst_of(result.scores, worst)):
        console.table(
            "worst lines (⟦wanted→read⟧)",
            ("id", "class", "edits", "text"),
            tables.worst_lines(lines),
            right=(2,),
        )
    if result.ablations:
        others = [(a.decoder, a.total, a.comparison, a.differing) for a in result.ablations]
        rows = tables.ablations(result.model.get("decoder", "as recorded"), report.total, others)
        console.table(
            "the same lines by other decoders", tables.ABLATION_HEADS, rows, right=range(1, 8)
        )
    if result.against:
        figures = ("", "other", "this", "difference", "verdict")
        console.table(
            f"against {result.against.other}", figures, tables.comparison(result.against.comparison)
        )
        console.note(tables.smallest_note(result.against.comparison))
