"""`nordocr compare3way`: two engines on a document, against ground truth, a VLM, or each other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

if TYPE_CHECKING:
    from nordocr_cli.core.compare3way.run import Comparison

Text = typer.Option


def compare3way(
    document: Annotated[
        Path,
        typer.Argument(
            metavar="DOCUMENT", help="The pages: a TIFF (also of many pages) or an image."
        ),
    ],
    svtrv2: Annotated[
        str | None,
        Text(
            "--svtrv2",
            "--first",
            metavar="RESULT|MODEL",
            help="First engine. Default: the shipped model reads now.",
        ),
    ] = None,
    tess: Annotated[
        str | None,
        Text(
            "--tess",
            "--second",
            metavar="RESULT|MODEL",
            help="Second engine. Default: Tesseract reads now.",
        ),
    ] = None,
    names: Annotated[
        str, Text("--names", metavar="A,B", help="What the engines are called.")
    ] = "SVTRv2,Tesseract",
    regions: Annotated[
        Path | None,
        Text(
            "--regions", metavar="FILE", help="Where the lines are, for an engine that reads now."
        ),
    ] = None,
    language: Annotated[
        str, Text("--language", help="Language of the lines, for Tesseract: sv, no, da, is.")
    ] = "",
    truth: Annotated[
        Path | None, Text("--truth", metavar="FILE", help="Ground truth with regions.")
    ] = None,
    reference: Annotated[
        str | None,
        Text(
            "--reference",
            metavar="truth|vlm|consensus|none",
            help="What the readings are held against.",
        ),
    ] = None,
    vlm_cache: Annotated[
        Path | None, Text("--vlm-cache", metavar="JSONL", help="Recorded answers of a VLM.")
    ] = None,
    vlm_url: Annotated[
        str | None, Text("--vlm-url", metavar="URL", help="OpenAI-compatible server, up to /v1.")
    ] = None,
    vlm_model: Annotated[
        str | None, Text("--vlm-model", metavar="NAME", help="The model's name there.")
    ] = None,
    vlm_key_env: Annotated[
        str | None,
        Text(
            "--vlm-key-env",
            metavar="NAME",
            help="Environment variable that holds the server's key.",
        ),
    ] = None,
    vlm_allow_remote: Annotated[
        bool, Text("--vlm-allow-remote", help="Let line crops be sent to another machine.")
    ] = False,
    vlm_timeout: Annotated[
        float, Text("--vlm-timeout", min=0.1, metavar="SECONDS", help="For one answer.")
    ] = 30.0,
    vlm_rps: Annotated[
        float | None, Text("--vlm-rps", min=0.001, help="Requests a second at most.")
    ] = None,
    vlm_max_requests: Annotated[
        int | None, Text("--vlm-max-requests", min=0, help="Requests at most, in this run.")
    ] = None,
    vlm_price: Annotated[
        str | None, Text("--vlm-price", metavar="IN,OUT", help="Price of 1,000 tokens.")
    ] = None,
    offline: Annotated[
        bool,
        Text("--offline", help="Every answer must be in --vlm-cache; exit 3 names those missing."),
    ] = False,
    workers: Annotated[
        int, Text("--workers", min=1, max=64, help="Questions asked at a time.")
    ] = 8,
    adjudicate: Annotated[
        Path | None,
        Text("--adjudicate", metavar="TSV", help="Write the lines that a person should decide."),
    ] = None,
    decided: Annotated[
        Path | None,
        Text(
            "--decided",
            metavar="TSV|JSONL",
            help="That table filled in, or the report's corrected.jsonl.",
        ),
    ] = None,
    report: Annotated[
        Path | None, Text("--report", metavar="HTML", help="Write a report with the crops.")
    ] = None,
    crops: Annotated[int, Text("--crops", min=0, help="Pictures in the report at most.")] = 1000,
    output: options.OptionalOutput = None,
    threads: options.Threads = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Compare two engines on a document, line by line, against ground truth or a vision-language
    model's answers.

    An engine's readings come from a result file, or a model makes them now, on the lines of
    --regions, --truth or the other result. Without --vlm-url nothing leaves this machine. Answers
    are kept in --vlm-cache; a run that was stopped asks only the rest.

    Example: nordocr compare3way doc.tif --svtrv2 svtrv2_result.json --tess tess_result.json --truth
    doc.json -o out.json
    """
    from nordocr_cli.compare.vlm import endpoint
    from nordocr_cli.core.compare3way import readings as sources
    from nordocr_cli.core.compare3way import run as core
    from nordocr_cli.core.compare3way.files import Outputs

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    first, second = sources.network_source(svtrv2), sources.tesseract_source(tess)
    bounds: dict[str, Any] = {
        "workers": workers,
        "timeout_s": vlm_timeout,
        "requests_per_s": vlm_rps,
        "price": vlm_price,
    }
    bounds |= {"max_requests": vlm_max_requests, "allow_remote": vlm_allow_remote}
    server = endpoint(vlm_url, vlm_model, vlm_key_env, **bounds) if vlm_url else None
    if server and vlm_cache is None:
        vlm_cache = (output.parent if output else Path()) / f"{document.stem}.vlm.jsonl"
    referee = core.Referee(truth, vlm_cache, vlm_model, server, offline, reference, decided)
    outputs, engines = Outputs(output, report, adjudicate), sources.parse_names(names)
    if dry_run:
        options.show_plan(
            console, core.plan_compare3way(document, first, second, referee, outputs, regions)
        )
        return
    comparison = core.compare3way(
        document,
        first,
        second,
        referee,
        engines=engines,
        regions=regions,
        language=language,
        threads=threads,
        outputs=outputs,
        crops=crops,
        progress=console,
    )
    for path in comparison.written:
        console.note(f"wrote {path}")
    if as_json:
        console.json(comparison.to_json())
        return
    _show(console, document, comparison)
    console.next(
        *(("open", report) if report else ("the same with --report out.html shows the lines",))
    )


def _show(console: Console, document: Path, comparison: "Comparison") -> None:
    from nordocr_cli.compare.page import result_tables

    verdict = comparison.verdict
    console.line(f"{document.name}: {len(verdict.lines)} lines")
    for table in result_tables(verdict):
        console.table(table.title, table.columns, table.rows, right=tuple(table.right))
        if table.note:
            console.line(table.note)
    for remark in comparison.remarks():
        console.line(remark)
    read = (
        (line.page_index + 1, line.reference, *line.readings[:2]) for line in verdict.examples()
    )
    if shown := [tuple("∅" if text is None else text for text in row) for row in read]:
        console.table("examples", ("page", "reference", *verdict.engines), shown)
