"""`nordocr build-engine`: ONNX → TensorRT engines."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

if TYPE_CHECKING:
    from nordocr_cli.core.engine.run import EngineResult


def _complete_arch(incomplete: str) -> list[str]:
    from nordocr_cli.runtime.backends.tensorrt.gpu_arch import ARCHES

    return [arch.name for arch in ARCHES if arch.name.startswith(incomplete)]


def _said(sidecar: Mapping[str, Any]) -> str:
    origin = sidecar["onnx"]["name"]
    if sidecar["executed"]:
        return f"built from {origin}; its results equal those of ONNX Runtime"
    return f"built from {origin}, not executed"


def _pipeline_note(result: "EngineResult") -> str:
    settings = result.consumer_config()
    if settings is not None:
        return f"{_said(result.side)}; for the pipeline's --config: {json.dumps(settings)}"
    conflicts = "; ".join(result.pipeline_conflicts())
    return f"{_said(result.side)}; the Rust pipeline would misread it: {conflicts}"


def build_engine(
    arch: Annotated[
        list[str],
        typer.Option(
            metavar="sm86|sm120|…",
            help="GPU, also as 8.6 or a6000. Repeatable.",
            autocompletion=_complete_arch,
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL.onnx", help="Default: where `export` puts it."),
    ] = None,
    profile: options.OptionalProfile = None,
    sets: options.Set = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Folder, or with one --arch an .engine. Default: next to the model.",
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            metavar="auto|rtx|tensorrt",
            help="rtx needs no GPU; tensorrt needs the GPU of --arch.",
        ),
    ] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(metavar="fp32|fp16|bf16", help="Default: the profile's, fp16."),
    ] = None,
    minimum: Annotated[
        str | None, typer.Option("--min", metavar="BxW", help="Minimum batch and width.")
    ] = None,
    usual: Annotated[
        str | None,
        typer.Option("--opt", metavar="BxW", help="Batch and width to tune for."),
    ] = None,
    maximum: Annotated[
        str | None, typer.Option("--max", metavar="BxW", help="Maximum batch and width.")
    ] = None,
    band: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[OPT:]MAX",
            help="One range of widths, each BxW, narrow ones first. Repeatable; see `advise`.",
        ),
    ] = None,
    one_engine: Annotated[
        bool,
        typer.Option("--one-engine", help="Put all --arch into one engine (TensorRT-RTX)."),
    ] = False,
    vram: Annotated[
        float | None,
        typer.Option(metavar="GB", min=0.5, help="Memory of the card. Default: --arch's."),
    ] = None,
    allow_wider: Annotated[
        bool,
        typer.Option(
            "--allow-wider",
            help="Allow widths above the model's when its trained width is not known.",
        ),
    ] = False,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Cache folder of engines; an identical engine is reused.",
        ),
    ] = None,
    no_cache: Annotated[
        bool,
        typer.Option("--no-cache", help="Build even if the same engine is there already."),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Compare the engine with ONNX Runtime; needs its GPU."
        ),
    ] = False,
    timing_cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Read and write tactic timings here (classic TensorRT)."
        ),
    ] = None,
    hardware_compat: Annotated[
        str,
        typer.Option(
            metavar="none|ampere+|same-cc",
            help="Other GPUs that the engine runs on (classic TensorRT).",
        ),
    ] = "none",
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible",
            help="Let it run under later releases too (classic TensorRT).",
        ),
    ] = False,
    memory_limit: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            min=0.001,
            help="Maximum workspace of a layer.",
        ),
    ] = None,
    print_trtexec: Annotated[
        bool,
        typer.Option("--print-trtexec", help="Print the trtexec command; build nothing."),
    ] = False,
    trt_version: Annotated[
        str, typer.Option(metavar="10|11", help="TensorRT for which trtexec is printed.")
    ] = "10",
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Build one engine per GPU from an ONNX model, with the profile's range of batch sizes and
    widths.

    Example: nordocr build-engine --arch sm86,sm120 recognize_svtrv2_1024.onnx
    """
    from nordocr_cli.core.engine.plan import EngineRequest, plan_engines, trt_version_of
    from nordocr_cli.core.engine.run import build_engine as run
    from nordocr_cli.runtime.backends.tensorrt.builder import Settings

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    request = EngineRequest(
        arch,
        model,
        profile=profile,
        sets=sets or (),
        output=output,
        backend="tensorrt" if print_trtexec else backend,
        precision=precision,
        shapes={"min": minimum, "opt": usual, "max": maximum},
        bands=band or (),
        one_engine=one_engine,
        vram_gb=vram,
        settings=Settings(timing_cache, hardware_compat, version_compatible, memory_limit),
        cache=cache_dir,
        reuse=not no_cache,
        verify=verify,
        allow_wider=allow_wider,
    )
    plans = plan_engines(request, console)
    if print_trtexec:
        commands = {
            plan.arch_names: plan.trtexec(trt_version_of(trt_version)) for plan in plans
        }
        if as_json:
            console.json(commands)
        else:
            console.line("\n\n".join(commands.values()))
        if trt_version == "10":
            console.note(
                "TensorRT 11 has no --fp16: print the command for it with --trt-version 11"
            )
        return
    if dry_run:
        options.show_plan(console, {plan.arch_names: plan.to_json() for plan in plans})
        return
    results = [run(plan, console) for plan in plans]
    if as_json:
        console.json([result.to_json() for result in results])
        return
    rows = [result.row() for result in results]
    console.table(
        "engines",
        ("engine", "GPU", "MB", "precision", "batch x width (min, opt, max)", "memory"),
        rows,
        right=(2, 5),
    )
    _print_next_steps(console, results)


def _print_next_steps(console: Console, results: Sequence["EngineResult"]) -> None:
    """Say where the engines run, and name the commands that come next."""
    from nordocr_cli.core.engine.run import CLASSIC_NOTE

    rtx = next(
        (result for result in results if result.plan.backend == "tensorrt-rtx"), None
    )
    if rtx is None:
        for result in results:
            console.note(_pipeline_note(result))
        console.next(
            "run the Rust pipeline with it: nordocr process page.png --format json --config"
            " config.json"
        )
        return
    console.note(
        f"{_said(rtx.side)}: these engines run under TensorRT-RTX {rtx.version} on the GPU named,"
        " nowhere else"
    )
    console.note(f"{CLASSIC_NOTE}:")
    for result in results:
        there = result.classic_tensorrt()
        if there:
            console.next(there["command"])
