"""The self-test of `nordocr train`: a run that is stopped and resumed computes the very losses of
one that is not.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.core.train.run import train
from nordocr_cli.errors import Interrupted, UsageError
from nordocr_cli.profile import ResolvedProfile
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.training.runlog import read_metrics, read_run

SELFTEST_STEPS = 12
_VAL_LINES = 64  # the evaluation at the end is not what is tested
# A GPU adds up a CTC loss's gradients in no fixed order; a CPU thread does.
_TOLERANCE = {"cpu": 0.0, "cuda": 0.02}


@dataclass(frozen=True)
class ResumeTest:
    """The losses of each step (nats a character) of a run that was never stopped, and of one that
    was stopped after `cut` steps and resumed; `difference` is the largest between them, relative
    to the loss.
    """

    cut: int
    whole: tuple[float, ...]
    resumed: tuple[float, ...]
    difference: float
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Return the test as plain JSON values."""
        return asdict(self)


def selftest_resume(
    resolved: ResolvedProfile | None,
    request: TrainRequest,
    *,
    steps: int = SELFTEST_STEPS,
    progress: Progress = SILENT,
) -> ResumeTest:
    """Train `steps` steps twice with this profile, data and machine, in a folder that is removed:
    once without a stop, once stopped in the middle and resumed. On a CPU one thread computes,
    unless `request.threads` says otherwise.

    Raises UsageError without a profile or with --resume, and what `train` raises.
    """
    if resolved is None or request.resume:
        raise UsageError(
            "the self-test makes runs of its own: give --profile, --train and --val, and leave"
            " --resume out"
        )
    settings = resolved.profile.train.model_copy(
        update={"log_every": 1, "eval_every": steps + 1, "save_every": steps + 1}
    )
    logged = replace(
        resolved, profile=resolved.profile.model_copy(update={"train": settings})
    )
    short = replace(
        request,
        max_steps=steps,
        max_minutes=None,
        max_val_samples=_VAL_LINES,
        threads=request.threads or 1,
    )
    cut = steps // 2
    with TemporaryDirectory(prefix="nordocr-selftest-") as name, _threads_kept():
        whole = Path(name) / "whole"
        stopped = Path(name) / "stopped"
        train(logged, replace(short, run_dir=whole), progress=progress)
        try:
            train(
                logged, replace(short, run_dir=stopped), progress=progress, stop=_after(cut)
            )
        except Interrupted:
            progress.note(f"stopped after step {cut}, as planned; resuming")
        train(
            None,
            TrainRequest(
                resume=stopped,
                device=request.device,
                threads=short.threads,
                max_val_samples=_VAL_LINES,
            ),
            progress=progress,
        )
        losses = _losses(whole)
        again = _losses(stopped)
        device = "cpu" if read_run(whole)["device"] == "cpu" else "cuda"
    return _compared(steps, cut, losses, again, _TOLERANCE[device])


def _compared(
    steps: int,
    cut: int,
    losses: tuple[float, ...],
    again: tuple[float, ...],
    tolerance: float,
) -> ResumeTest:
    pairs = zip(losses, again, strict=False)
    differences = [abs(a - b) / max(abs(a), 1e-9) for a, b in pairs]
    difference = max(differences, default=0.0)
    same = len(losses) == len(again) == steps and difference <= tolerance
    if same:
        if difference == 0:
            how = "the same, bit for bit"
        else:
            how = f"the same to {difference:.1e}"
        verdict = (
            f"ok: the losses of {steps} steps, stopped after {cut} and resumed, are {how}"
        )
    else:
        verdict = (
            f"failed: {len(again)} of {steps} steps, losses differ by up to {difference:.1e}; with"
            " --threads above 1 sums may come in another order, otherwise this is a bug to report"
        )
    return ResumeTest(cut, losses, again, difference, verdict)


@contextmanager
def _threads_kept() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _after(steps: int) -> Callable[[], bool]:
    """Return a `stop` that returns true from its `steps + 1`-th call on."""
    calls = iter(range(steps))
    return lambda: next(calls, None) is None


def _losses(folder: Path) -> tuple[float, ...]:
    rows = read_metrics(folder)
    return tuple(
        float("nan") if row["loss"] is None else row["loss"]
        for row in rows
        if row["kind"] == "train"
    )
