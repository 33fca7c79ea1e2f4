"""`nordocr doctor`: what this machine has, and what is missing for which job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nordocr_cli import options
from nordocr_cli.console import Console

if TYPE_CHECKING:
    from nordocr_cli.core.doctor import Finding, TimedTraining
    from nordocr_cli.core.gpu_proof.plan import ProofPlan

Job = Literal["read", "train", "export", "build-engine", "bench"]


def doctor(
    job: Annotated[
        Job | None,
        typer.Option(
            "--require", help="Exit 5 with what is missing if this is not possible here."
        ),
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Also time a few training steps, and advise.")
    ] = False,
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            "-p",
            metavar="NAME|PATH",
            help="Network that --train times.",
            autocompletion=options.complete_profile,
        ),
    ] = "svtrv2-nano",
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
    ] = 9.5,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Scale --gpu-proof down, to try it on a CPU.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Keep the steps of --gpu-proof that ended well in --output."
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Check the installation: libraries, programs, GPU, PATH, variables, disk.

    With --gpu-proof it runs the steps of scripts/on_gpu.py; `scripts/on_gpu.py pack FOLDER` makes
    the folder. The result is written after every step.

    Example: nordocr doctor --require train
    """
    from nordocr_cli.core.doctor import diagnose, require, time_training
    from nordocr_cli.core.gpu_proof.plan import plan_proof

    console = Console(as_json=as_json)
    if gpu_proof is not None:
        plan = plan_proof(
            gpu_proof,
            output or Path("gpu-proof.json"),
            device=device,
            minutes=minutes,
            tiny=tiny,
            resume=resume,
        )
        _prove(console, plan, as_json=as_json)
        return

    findings = diagnose()
    if job is not None:
        require(job, findings)
    timed = time_training(profile, device, console) if train else None
    if as_json:
        value = {"findings": [finding.to_json() for finding in findings]}
        console.json(value | ({"train": timed.to_json()} if timed else {}))
        return
    _show(console, findings)
    if timed is not None:
        _show_training(console, profile, timed)
    if all(finding.ok for finding in findings if finding.needed):
        console.next("nordocr", "read", "SCAN.pdf")
    else:
        console.next("fix the rows marked ✗ first")


def _show(console: Console, findings: "list[Finding]") -> None:
    rows = [
        (finding.mark, finding.what, finding.found, finding.advice) for finding in findings
    ]
    console.table("nordocr doctor", ("", "what", "found", "advice"), rows)


def _show_training(console: Console, profile: str, timed: "TimedTraining") -> None:
    figures = [
        ("device", timed.device),
        ("precision", timed.precision),
        ("one step", f"{timed.step_s * 1e3:,.0f} ms for {timed.batch_size:.0f} lines"),
        ("speed", f"{timed.batches_per_s:.2f} batches/s, {timed.lines_per_s:,.1f} lines/s"),
        ("waiting for data", f"{timed.data_wait:.1%}"),
        *(("advice", line) for line in timed.advice),
    ]
    console.table(f"training {profile}", ("what", "value"), figures)


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
