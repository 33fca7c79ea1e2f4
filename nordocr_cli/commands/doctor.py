"""`nordocr doctor`: what this machine has, and what is missing for which job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

if TYPE_CHECKING:
    from nordocr_cli.core.gpu_proof.plan import ProofPlan


def doctor(
    gpu_proof: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Run and measure everything that a GPU runs, with the stores of this folder.",
        ),
    ] = None,
    output: options.OptionalOutput = None,
    device: options.Device = "auto",
    minutes: Annotated[
        float, typer.Option(min=0.1, help="Time for --gpu-proof, all steps together.")
    ] = 14.0,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Scale --gpu-proof down, to try it on a CPU.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Check the installation: libraries, programs, GPU, PATH, disk.

    With --gpu-proof it runs the steps of scripts/on_gpu.py; `scripts/on_gpu.py pack FOLDER` makes
    the folder. The result is written after every step.

    Example: nordocr doctor
    """
    from nordocr_cli.core.doctor import diagnose
    from nordocr_cli.core.gpu_proof.plan import plan_proof

    console = Console(as_json=as_json)
    if gpu_proof is not None:
        plan = plan_proof(
            gpu_proof, output or Path("gpu-proof.json"), device=device, minutes=minutes, tiny=tiny
        )
        _prove(console, plan, as_json=as_json)
        return
    findings = diagnose()
    if as_json:
        console.json([finding.to_json() for finding in findings])
        return
    rows = [(finding.mark, finding.what, finding.found, finding.advice) for finding in findings]
    console.table("nordocr doctor", ("", "what", "found", "advice"), rows)
    console.next(
        "make demo"
        if all(finding.ok for finding in findings if finding.needed)
        else "mend the rows marked ✗ first"
    )


def _prove(console: Console, plan: "ProofPlan", *, as_json: bool) -> None:
    from nordocr_cli.core.gpu_proof.run import run_proof
    from nordocr_cli.errors import GateMissed

    result = run_proof(plan, console)
    if as_json:
        console.json(result.to_json())
    else:
        rows = [
            (step["name"], step["status"], f"{step['seconds']:.0f}", step.get("reason", ""))
            for step in result.value["steps"]
        ]
        console.table(str(plan.output), ("step", "status", "s", "reason"), rows, right=(2,))
    if result.failed:
        raise GateMissed(f"{plan.output}: failed: {', '.join(result.failed)}")
