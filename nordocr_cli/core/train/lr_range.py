"""`nordocr train --lr-range`: which learning rate this network can take on these lines."""

import copy
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli import atomic
from nordocr_cli.core.train.request import (
    TrainRequest,
    resolve_request,
    store_and_ratio,
    train_stores,
)
from nordocr_cli.core.train.setup import (
    auxiliary_branch,
    lr_scale,
    new_network,
    precision_of,
    with_fitting_batch,
)
from nordocr_cli.core.train.stores import lines_per_batch, open_train
from nordocr_cli.errors import UsageError
from nordocr_cli.profile import Profile, ResolvedProfile
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    import torch

    from nordocr_cli.data.batches import Batch, LineBatches
    from nordocr_cli.training.lr_range import Sweep

LR_RANGE_STEPS = 100


@dataclass(frozen=True)
class LrRange:
    """What the test found: rates and losses (nats a character) of its steps, the losses of the
    weights of the start on the same lines, the rate at which the loss was the smallest share of the
    start's, and the `lr` for the profile, for its `lr_batch`; None, with the reason in `verdict`,
    where no rate changed the loss.
    """

    output: Path
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    start_losses: tuple[float, ...]
    least_at: float
    lr: float | None
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {**vars(self), "output": str(self.output)}


def lr_range(
    resolved: ResolvedProfile | None,
    request: TrainRequest,
    output: Path,
    *,
    progress: Progress = SILENT,
) -> LrRange:
    """Take 100 steps, or `request.max_steps`, at rates from 1e-6 to 1 with the network, data and
    settings of the run, draw the losses against those of the start and suggest a peak. Nothing but
    the picture is kept.

    Raises as `train` does, UsageError with --resume and where `output` is one of the stores,
    DataError when the very first step is not finite, and MissingBackendError without matplotlib.
    """
    from nordocr_cli.runtime.backends.torch.runner import choose_device
    from nordocr_cli.training.lr_range import draw_sweep, require_drawing

    if request.resume:
        raise UsageError(
            "--lr-range tries rates for a new run: give --profile and leave --resume out; its"
            " weights: --load"
        )
    require_drawing()
    profile, request = resolve_request(resolved, request, progress)
    request = replace(request, train=train_stores(profile, request))
    atomic.refuse_inputs(output, [store_and_ratio(path)[0] for path in request.train])
    device = choose_device(request.device)
    profile, found = _sweep(profile, request, device, progress)

    lines = lines_per_batch(profile, device)
    title = f"{profile.name}: {lines * profile.train.accumulate:,} lines a step"
    atomic.write_bytes(output, draw_sweep(found, title))
    lr, verdict = _advice(found, lr_scale(profile, lines), profile.train.lr)
    return LrRange(
        output,
        found.rates,
        found.losses,
        found.start_losses,
        found.least_at,
        lr,
        verdict,
    )


def _advice(found: "Sweep", scale: float, now: float) -> tuple[float | None, str]:
    """Return `lr` for the profile, whose steps have `scale` times that rate, and a verdict."""
    if found.suggested is None:
        return None, (
            "failed: no rate changed the loss by a tenth; give it more steps (--max-steps), or look"
            " at labels and widths"
        )
    lr = float(f"{found.suggested / scale:.1e}")
    if not found.helps:
        return lr, (
            "ok: no rate lowered the loss by a tenth, so these weights may know such lines already;"
            f" train.lr={lr:g} should do no harm ({now:g} now)"
        )
    return lr, (
        f"ok: at {found.least_at:.1e} the loss fell most, to {found.smoothed.min():.0%} of the"
        f" start's; with a margin for a complete run, try train.lr={lr:g} ({now:g} now)"
    )


def _sweep(
    profile: Profile, request: TrainRequest, device: "torch.device", progress: Progress
) -> "tuple[Profile, Sweep]":
    """Take the steps; return the profile with the batch size that they had, and the losses."""
    import torch

    from nordocr_cli.training.distributed import DistributedContext
    from nordocr_cli.training.freezing import freeze
    from nordocr_cli.training.lr_range import sweep
    from nordocr_cli.training.step import Stepper

    if request.threads:
        torch.set_num_threads(request.threads)
    precision = precision_of(profile, device, progress)
    alone = DistributedContext()
    profile = with_fitting_batch(profile, request, device, precision, alone, progress)
    charset, steps = profile.load_charset(), request.max_steps or LR_RANGE_STEPS
    # Compiled again for each sweep, a network would take longer than its steps.
    settings = profile.train.model_copy(update={"compile": False})
    with ExitStack() as stack:
        data = open_train(profile, request, device, stack)
        model = new_network(profile, request, charset, data.geometry, progress).model
        freeze(model, profile.train.trainable)
        branch = auxiliary_branch(profile, model, charset, progress)
        model = model.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        on_device = branch.to(device) if branch else None

        def new_stepper() -> Stepper:
            network, copied = copy.deepcopy((model, on_device))
            return Stepper(network, copied, data.geometry, settings, device, precision)

        batches = _endless(data, profile.train.accumulate)
        stack.callback(batches.close)
        progress.start("lr range", steps, "steps")
        stack.callback(progress.finish)
        found = sweep(
            new_stepper,
            batches,
            steps,
            lambda rate, loss: progress.advance(1, lr=f"{rate:.1e}", loss=f"{loss:.2f}"),
        )
    return profile, found


def _endless(data: "LineBatches", together: int) -> "Generator[list[Batch], None, None]":
    """The batches of each step, epoch after epoch."""
    for epoch in count():
        batches = data.epoch(epoch)
        try:
            while step := list(islice(batches, together)):
                yield step
        finally:
            batches.close()
