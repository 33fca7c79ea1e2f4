import numpy as np
import pytest
import torch

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.batch_options import BatchOptions
from nordocr_cli.data.batches import LineBatches
from nordocr_cli.data.store import LineStore, LineStoreWriter
from nordocr_cli.models.registry import build_model
from nordocr_cli.profile import load_profile
from nordocr_cli.records import LineRow
from nordocr_cli.training.step import Stepper

PROFILE = load_profile(
    "svtrv2-nano",
    [
        "model.dims=[24, 48, 64]",
        "model.depths=[1, 2, 1]",
        "geometry.max_width=160",
        "model.drop_path=0.3",
    ],
).profile


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    path, rng = tmp_path_factory.mktemp("store") / "a.lmdb", np.random.default_rng(0)
    with LineStoreWriter(path, PROFILE.geometry, NORDIC) as writer:
        for number in range(7):
            image = rng.integers(0, 255, (32, 40 + 12 * number, 3), dtype=np.uint8)
            writer.add(image, LineRow(f"{number}", "", "åäö 1"[: number % 3 + 2]))
    with LineStore(path) as store:
        return list(
            LineBatches(
                [store], NORDIC, PROFILE.geometry, BatchOptions(budget_px=300, workers=0)
            ).epoch(0)
        )


def stepper(training=True, **settings):
    torch.manual_seed(1)
    model = build_model(PROFILE.model, NORDIC.num_classes).train(training)
    train_settings = PROFILE.train.model_copy(update=settings)
    return Stepper(
        model, None, PROFILE.geometry, train_settings, torch.device("cpu"), "fp32"
    )


def gradients(made):
    found = [p.grad.clone() for p in made.parameters]
    made.optimizer.zero_grad()
    return found


def test_batches_of_a_step_weigh_by_their_characters(batches):
    longest = sorted(batches, key=lambda batch: batch.shared_characters)
    made, few = stepper(training=False), [longest[0], longest[-1]]
    together = float(made.backward(few))
    whole = gradients(made)
    parts, losses = [], []
    for batch in few:
        losses.append(float(made.backward([batch])))
        parts.append(gradients(made))
    shares = [int(batch.target_lengths.sum()) for batch in few]
    shares = [share / sum(shares) for share in shares]
    assert shares[0] != shares[1]
    assert together == pytest.approx(
        sum(s * loss for s, loss in zip(shares, losses, strict=True)), rel=1e-5
    )
    for got, one, other in zip(whole, *parts, strict=True):
        assert torch.allclose(
            got,
            shares[0] * one + shares[1] * other,
            atol=1e-4 * float(got.abs().max() + 1e-6),
        )


def test_checkpointing_computes_the_same_and_keeps_less(batches):
    """Also with dropped paths: what was drawn going forward is drawn again."""
    kept = []
    for checkpointing in (False, True):
        made, bytes_kept = stepper(checkpointing=checkpointing), [0]

        def count(tensor, bytes_kept=bytes_kept):
            bytes_kept[0] += tensor.nbytes
            return tensor

        torch.manual_seed(5)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = float(made.backward(batches[:1]))
        kept.append((loss, gradients(made), bytes_kept[0]))
        assert not any("forward" in name for name in made.model.state_dict())
    (loss, plain, all_bytes), (again, less, few_bytes) = kept
    assert again == loss
    assert all(torch.equal(a, b) for a, b in zip(plain, less, strict=True))
    assert few_bytes < 0.7 * all_bytes
