"""Run by test_distributed.py with torchrun: what two processes do together, against what one does
alone.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from nordocr_cli.charset import NORDIC
from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.core.train.run import train
from nordocr_cli.data.batch_options import BatchOptions
from nordocr_cli.data.batches import LineBatches
from nordocr_cli.data.store import LineStore
from nordocr_cli.models.registry import build_model
from nordocr_cli.profile import load_profile
from nordocr_cli.training.distributed import init_distributed
from nordocr_cli.training.launcher_env import restarts
from nordocr_cli.training.step import Stepper


def gradients(profile, path):
    """The gradients of a step of two batches, and of one where the second process has none left,
    are those of one process.
    """
    context = init_distributed()
    assert context.world_size == 2

    def stepper(context=None):
        torch.manual_seed(1)
        model = build_model(profile.model, NORDIC.num_classes)
        made = Stepper(
            model,
            None,
            profile.geometry,
            profile.train,
            torch.device("cpu"),
            "fp32",
            context,
        )
        model.eval()  # BatchNorm would see the lines of its own process only; on GPUs it sees all
        return made

    with LineStore(path) as store:
        options = BatchOptions(
            budget_px=400, seed=3, shuffle=True, augment=profile.augment, workers=0
        )
        shares = []
        for rank in (0, 1):
            own = replace(options, share=(rank, 2))
            shares.append(
                list(LineBatches([store], NORDIC, profile.geometry, own).epoch(0))
            )
    filled = [number for number, batch in enumerate(shares[1]) if not batch.counted]
    assert len(filled) == 1
    together, alone = stepper(context), stepper()
    for number in (0, *filled):
        losses = context.all_gather(
            float(together.backward([shares[context.rank][number]]))
        )
        whole = [share[number] for share in shares if share[number].counted]
        for batch in whole:  # to one process, only its own characters are there
            object.__setattr__(batch, "shared_characters", int(batch.target_lengths.sum()))
        assert abs(sum(losses) - float(alone.backward(whole))) < 1e-4
        largest = max(float(p.grad.abs().max()) for p in alone.parameters)
        for mine, theirs in zip(together.parameters, alone.parameters, strict=True):
            assert torch.allclose(mine.grad, theirs.grad, atol=1e-5 * largest), (
                number,
                (mine.grad - theirs.grad).abs().max(),
            )
        for one in (together, alone):
            one.optimizer.zero_grad()
    assert context.all_reduce_max(float(context.rank)) == 1.0
    assert context.broadcast(f"from {context.rank}") == "from 0"
    sys.stdout.write(f"process {context.rank}: equal\n")
    context.close()


def run(resolved, path, folder, dies):
    """Train six steps; with `dies` the second process ends suddenly before the fourth, once."""
    steps_done = iter(range(1000))

    def stop():
        if dies and not restarts() and os.environ["RANK"] == "1" and next(steps_done) == 3:
            os._exit(1)
        return False

    request = TrainRequest(
        train=(path,), val=(path,), run_dir=folder, max_steps=6, device="cpu"
    )
    result = train(resolved, request, stop=stop)
    sys.stdout.write(
        f"process {os.environ['RANK']}: {result.steps} steps, {len(result.files)} files\n"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    store, folder, *sets = sys.argv[1:]
    if not restarts():
        gradients(
            load_profile("svtrv2-nano", [*sets, "model.drop_path=0"]).profile, Path(store)
        )
        run(
            load_profile("svtrv2-nano", sets),
            Path(store),
            Path(folder) / "whole",
            dies=False,
        )
    run(load_profile("svtrv2-nano", sets), Path(store), Path(folder) / "died", dies=True)
