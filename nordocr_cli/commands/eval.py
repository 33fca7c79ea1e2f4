"""`nordocr eval`: score a recognizer, or a recorded result, on a line store."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nordocr_cli.core.eval.plan import EvalPlan
    from nordocr_cli.core.eval.result import EvalResult
    from nordocr_cli.metrics.gates import Gate


def eval_(
    model: Annotated[
        str,
        typer.Argument(
            help="Weights, run folder, .onnx, .engine, tesseract[:swe+nor], or recorded .jsonl."
        ),
    ],
    store: Annotated[
        Path | None,
        typer.Argument(
            help="Line store, or manifest with crops. Optional for recorded results."
        ),
    ] = None,
    output: options.OptionalOutput = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html", help="Write metrics and wrong lines as an HTML page."
        ),
    ] = None,
    crops: Annotated[
        int,
        typer.Option(min=0, help="Number of the worst lines with a picture in --report."),
    ] = 500,
    overlay: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write a picture of each page that has a wrong line."
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Another result to compare with, line by line."),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GATE", help="Exit 4 if the condition holds, e.g. 'cer>5%'. Repeatable."
        ),
    ] = None,
    expect: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Exit 4 if a metric is outside METRIC = [minimum, maximum].",
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            metavar="KEY", help="Row key to report by. Default: subset, else degradation."
        ),
    ] = "",
    worst: Annotated[
        int, typer.Option(min=0, help="Number of the worst lines to show.")
    ] = 5,
    resampler: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Resize a manifest's crops with this resampler."),
    ] = None,
    decoder: Annotated[
        str,
        typer.Option(
            metavar="NAME[,NAME]",
            help="auto (as the contract says), greedy, language, beam; PARSeq: ar, nar, ar+1.",
        ),
    ] = "auto",
    as_served: Annotated[
        bool,
        typer.Option(
            "--as-served",
            help="Read as the Rust pipeline does, and count the texts that differ from our own.",
        ),
    ] = False,
    check_batches: Annotated[
        bool,
        typer.Option(
            "--check-batches", help="Exit 4 if a line's text depends on its batch."
        ),
    ] = False,
    allow_leakage: Annotated[
        bool,
        typer.Option(
            "--allow-leakage", help="Do not warn when lines were trained on by this run."
        ),
    ] = False,
    metric_tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--metric-tokenizer",
            metavar="PATH",
            help="tokenizer.json, or its folder: adds token accuracy and precision.",
        ),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1, help="Maximum number of lines given to the recognizer at once."
        ),
    ] = 256,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Score a recognizer, or a recorded result, on a line store.

    Shows CER, exact lines, error classes, groups and confidence intervals.

    Example: nordocr eval runs/a val.lmdb -o runs/a/eval --report a.html --fail-if 'cer>2%'
    --against tesseract.jsonl
    """
    from nordocr_cli.core.eval.plan import EvalRequest, parse_resampler, plan
    from nordocr_cli.core.eval.run import run
    from nordocr_cli.errors import UsageError
    from nordocr_cli.metrics.gates import parse_gate, read_expectations
    from nordocr_cli.runtime.specs import AS_SERVED

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    if as_served:
        if decoder != "auto" or resampler:
            raise UsageError(
                "--as-served has its own decoder and resampler; leave those out"
            )
        decoder = f"{AS_SERVED},greedy"
    gates = [parse_gate(text) for text in fail_if or ()]
    if expect:
        gates += read_expectations(expect)
    planned = plan(
        EvalRequest(
            model=model,
            store=store,
            device=device,
            threads=threads,
            batch_size=batch_size,
            subset_key=by,
            against=against,
            output=output,
            page=report,
            overlay=overlay,
            crops=crops,
            resampler=parse_resampler(resampler) if resampler else None,
            decoder=decoder,
            check_batches=check_batches,
            gates=gates,
            allow_leakage=allow_leakage,
            metric_tokenizer=metric_tokenizer,
            command=sys.argv,
        )
    )
    if dry_run:
        options.show_plan(console, planned.to_json())
        return

    result = run(planned, console)
    if as_json:
        console.json(result.to_json())
    else:
        _show(console, result, worst)
    for file in result.files:
        console.note(f"wrote {file}")
    _require_gates(result, gates)
    _show_next(console, result, planned)


def _require_gates(result: "EvalResult", gates: "Sequence[Gate]") -> None:
    """Raise GateMissed naming what failed."""
    from nordocr_cli.errors import GateMissed

    if result.batches and result.batches.problem:
        raise GateMissed(result.batches.problem)
    comparison = result.against.comparison if result.against else None
    missed = [gate.missed(result.report, comparison, result.characters) for gate in gates]
    problems = [problem for problem in missed if problem]
    if problems:
        raise GateMissed("quality gate missed: " + "; ".join(problems))


def _show_next(console: Console, result: "EvalResult", planned: "EvalPlan") -> None:
    request = planned.request
    kind = planned.kind
    model = request.model
    contract = result.model.get("contract") or {}
    if contract.get("precision") == "int8":
        # For ONNX Runtime on a CPU: no engine is built from it.
        console.next("nordocr", "bench", model, "--lines", request.store)
    elif kind == "model" and model.endswith(".onnx"):
        console.next("nordocr", "build-engine", "--arch", "sm120", model)
    elif kind == "model" and not model.endswith(".engine"):
        console.next("nordocr", "export", model)
    elif kind == "recorded" or request.output:
        recorded = result.files[0] if request.output else model
        lines = request.store or "LINES.lmdb"
        console.next("nordocr", "eval", "MODEL", lines, "--against", recorded)
    else:
        output = f"{model.partition(':')[0]}.json"
        console.next("nordocr", "eval", model, request.store, "-o", output)


def _show(console: Console, result: "EvalResult", worst: int) -> None:
    from nordocr_cli.metrics import tables
    from nordocr_cli.metrics.taxonomy import TAXONOMY_VERSION

    report = result.report
    where = result.store["path"] if result.store else result.model["path"]
    console.table(
        f"{result.model['name']} on {where}",
        ("", "count", "rate", "95 %"),
        tables.headline(report),
        right=(1, 2, 3),
    )
    console.note(tables.interval_note(report))
    if result.batches and not result.batches.problem:
        console.note(
            f"{result.batches.lines} lines read alone, together, next to the widest and in random"
            " batches: the same texts"
        )
    if result.matching:
        counts = (f"{name.replace('_', ' ')} {n}" for name, n in result.matching.items())
        console.note(", ".join(counts))

    console.table(
        f"errors (taxonomy {TAXONOMY_VERSION}, docs/taxonomy.md)",
        ("class", "lines", "of failures", "actionable", "means"),
        tables.classes(report),
        right=(1, 2),
    )
    console.note(f"flags: {tables.flags(report)}")
    _show_groups(console, result)
    _show_characters(console, result)
    _show_worst(console, result, worst)
    _show_comparisons(console, result)


def _show_groups(console: Console, result: "EvalResult") -> None:
    from nordocr_cli.metrics import tables
    from nordocr_cli.metrics.taxonomy import FAILURES

    report = result.report
    by_class = tables.class_groups(report, result.subset_key)
    for title, _, by_name in (("language", "", report.by_language), *by_class):
        if by_name:
            heads = (title, *tables.GROUP_HEADS)
            console.table(f"by {title}", heads, tables.groups(by_name), right=range(1, 9))
    for title, _, by_name in by_class:
        columns = (title, "lines", *(c.value for c in FAILURES))
        console.table(
            f"errors by {title}", columns, tables.classes_by(by_name), right=range(1, 8)
        )


def _show_characters(console: Console, result: "EvalResult") -> None:
    from nordocr_cli.decode.probabilities import second_softmax_note
    from nordocr_cli.metrics import tables

    console.table(
        "by kind of character",
        ("characters", "occurrences", "precision", "recall", "F1"),
        tables.characters(result.characters.kinds),
        right=range(1, 5),
    )
    if result.calibration:
        ece = tables.percent(result.calibration.ece, 1)
        coverage = tables.coverage_note(result.calibration)
        console.note(f"Confidence: expected calibration error {ece}. {coverage}")
        softmax = second_softmax_note(score.result.confidence for score in result.scores)
        if softmax:
            console.warn(softmax)
    if result.tokens:
        console.table(
            f"tokens of {result.tokens.tokenizer}",
            ("", *tables.TOKEN_HEADS),
            tables.tokens(result.tokens),
            right=range(1, 7),
        )
    report = result.report
    for title, pairs in (
        ("most frequent", report.confusions),
        ("Nordic letters'", report.nordic_pairs),
    ):
        if pairs:
            heads = ("reference", "hypothesis", "times")
            rows = tables.confusion_rows(pairs[:10])
            console.table(f"{title} confusions", heads, rows, right=(2,))


def _show_worst(console: Console, result: "EvalResult", count: int) -> None:
    from nordocr_cli.metrics import tables
    from nordocr_cli.metrics.score import worst

    lines = worst(result.scores, count)
    if lines:
        console.table(
            "worst lines (⟦reference→hypothesis⟧)",
            ("id", "class", "edits", "text"),
            tables.worst_lines(lines),
            right=(2,),
        )


def _show_comparisons(console: Console, result: "EvalResult") -> None:
    from nordocr_cli.metrics import tables

    if result.ablations:
        others = [(a.decoder, a.total, a.comparison, a.differing) for a in result.ablations]
        first = result.model.get("decoder", "as recorded")
        rows = tables.ablations(first, result.report.total, others)
        title = "the same lines with other decoders"
        console.table(title, tables.ABLATION_HEADS, rows, right=range(1, 8))
    if result.against:
        comparison = result.against.comparison
        console.table(
            f"against {result.against.other}",
            ("", "other", "this", "difference", "verdict"),
            tables.comparison(comparison),
        )
        console.note(tables.verdict_note(comparison))
        console.note(tables.smallest_note(comparison))
