"""`nordocr compare3way`: two engines on a document, compared with ground truth, a VLM, a consensus
or each other.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

if TYPE_CHECKING:
    from nordocr_cli.core.compare3way.result import Compare3wayResult

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
        str, Text("--names", metavar="A,B", help="Names of the engines.")
    ] = "SVTRv2,Tesseract",
    regions: Annotated[
        Path | None,
        Text(
            "--regions",
            metavar="FILE",
            help="Positions of the lines, for a model that reads now.",
        ),
    ] = None,
    language: Annotated[
        str,
        Text(
            "--language",
            metavar="LANG",
            help="Language of the lines, for Tesseract: sv, no, da, is.",
        ),
    ] = "",
    truth: Annotated[
        Path | None, Text("--truth", metavar="FILE", help="Ground truth with regions.")
    ] = None,
    third: Annotated[
        str | None,
        Text(
            "--third",
            metavar="RESULT|MODEL",
            help="A third engine for a consensus, e.g. rapidocr or tesseract-best.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        Text(
            "--reference",
            metavar="truth|vlm|consensus|none",
            help="What the readings are compared with.",
        ),
    ] = None,
    vlm_cache: Annotated[
        Path | None, Text("--vlm-cache", metavar="JSONL", help="Recorded answers of a VLM.")
    ] = None,
    vlm_url: Annotated[
        str | None,
        Text(
            "--vlm-url",
            metavar="URL",
            help="OpenAI-compatible server, with or without /v1.",
        ),
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
        bool,
        Text("--vlm-allow-remote", help="Allow sending line crops to another machine."),
    ] = False,
    vlm_timeout: Annotated[
        float,
        Text(
            "--vlm-timeout", min=0.1, metavar="SECONDS", help="Maximum time for one answer."
        ),
    ] = 30.0,
    vlm_rps: Annotated[
        float | None,
        Text("--vlm-rps", min=0.001, help="Maximum number of requests per second."),
    ] = None,
    vlm_max_requests: Annotated[
        int | None, Text("--vlm-max-requests", min=0, help="Maximum number of requests.")
    ] = None,
    vlm_price: Annotated[
        str | None, Text("--vlm-price", metavar="IN,OUT", help="Price of 1,000 tokens.")
    ] = None,
    vlm_param: Annotated[
        list[str] | None,
        Text(
            "--vlm-param",
            metavar="KEY=VALUE|none",
            help="Change a request parameter, e.g. seed=none. Repeatable.",
        ),
    ] = None,
    offline: Annotated[
        bool,
        Text(
            "--offline",
            help="Every answer must be in --vlm-cache; exit 3 names missing ones.",
        ),
    ] = False,
    workers: Annotated[
        int, Text("--workers", min=1, max=64, help="Number of requests at the same time.")
    ] = 8,
    adjudicate: Annotated[
        Path | None,
        Text(
            "--adjudicate",
            metavar="TSV",
            help="Write the lines that a person should decide.",
        ),
    ] = None,
    decided: Annotated[
        Path | None,
        Text(
            "--decided",
            metavar="TSV|JSONL",
            help="The completed table, or the report's corrected.jsonl.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        Text("--report", metavar="FILE.html", help="Write a report with the crops."),
    ] = None,
    crops: Annotated[
        int, Text("--crops", min=0, help="Maximum number of pictures in the report.")
    ] = 1000,
    output: options.OptionalOutput = None,
    threads: options.Threads = None,
    as_served: Annotated[
        bool,
        typer.Option(
            "--as-served", help="Read with the first model as the Rust pipeline does."
        ),
    ] = False,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Compare two engines on a document, line by line, with a reference.

    The reference is ground truth, a vision-language model, or the consensus of three readers. An
    engine's readings come from a result file, or a model makes them now, on the lines of --regions,
    --truth or another result. Without --vlm-url nothing leaves this machine. Answers are kept in
    --vlm-cache, so an interrupted run asks only for the rest.

    Example: nordocr compare3way doc.tif --svtrv2 svtrv2_result.json --tess tess_result.json --truth
    doc.json -o out.json
    """
    from nordocr_cli.compare.endpoint import endpoint
    from nordocr_cli.core.compare3way import readings as sources
    from nordocr_cli.core.compare3way.files import Outputs
    from nordocr_cli.core.compare3way.plan import CompareRequest, ReferenceSource, plan
    from nordocr_cli.core.compare3way.run import run

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    server = None
    if vlm_url:
        server = endpoint(
            vlm_url,
            vlm_model,
            vlm_key_env,
            allow_remote=vlm_allow_remote,
            workers=workers,
            timeout_s=vlm_timeout,
            requests_per_s=vlm_rps,
            max_requests=vlm_max_requests,
            price=vlm_price,
            params=vlm_param or (),
        )
        if vlm_cache is None:
            folder = output.parent if output else Path()
            vlm_cache = folder / f"{document.stem}.vlm.jsonl"
    planned = plan(
        CompareRequest(
            document=document,
            first=sources.network_source(svtrv2, as_served=as_served),
            second=sources.tesseract_source(tess),
            reference=ReferenceSource(
                truth=truth,
                answers=vlm_cache,
                model=vlm_model,
                server=server,
                offline=offline,
                kind=reference,
                decided=decided,
                third=sources.parse_reading_source(third) if third else None,
            ),
            engines=sources.parse_names(names),
            regions=regions,
            language=language,
            threads=threads,
            outputs=Outputs(output, report, adjudicate),
            crops=crops,
            command=tuple(sys.argv),
        )
    )
    if dry_run:
        options.show_plan(console, planned.to_json())
        return

    comparison = run(planned, console)
    for path in comparison.written:
        console.note(f"wrote {path}")
    if as_json:
        console.json(comparison.to_json())
        return
    _show(console, document, comparison, report)


def _show(
    console: Console,
    document: Path,
    comparison: "Compare3wayResult",
    report: Path | None,
) -> None:
    """Print the tables, the remarks, some lines and the next step."""
    from nordocr_cli.compare.page import result_tables

    verdict = comparison.verdict
    console.line(f"{document.name}: {len(verdict.lines)} lines")
    for table in result_tables(verdict):
        console.table(table.title, table.columns, table.rows, right=tuple(table.right))
        if table.note:
            console.line(table.note)
    for remark in comparison.remarks():
        console.line(remark)
    shown = []
    for line in verdict.examples():
        texts = (line.reference, *line.readings[:2])
        shown_texts = ["∅" if text is None else text for text in texts]
        shown.append((line.page_index + 1, *shown_texts))
    if shown:
        console.table("examples", ("page", "reference", *verdict.engines), shown)
    if report:
        console.next("open", report)
        return
    console.next("add --report out.html to see the lines")
