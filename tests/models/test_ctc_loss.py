import math

import torch

from nordocr_cli.geometry import Geometry
from nordocr_cli.models.base import ctc_loss, frames_of


def test_frames_are_those_of_the_geometry():
    geometry = Geometry()
    widths = torch.arange(1, 1025)
    assert frames_of(widths).tolist() == [geometry.out_length(w) for w in widths.tolist()]


def test_nats_a_character_by_hand():
    """One frame, uniform over four classes: -log(1/4). Two frames, one character: three paths of
    1/16 each.
    """
    logits = torch.zeros(2, 2, 4)
    loss = ctc_loss(
        logits, torch.tensor([1, 2]), torch.tensor([1, 2]), torch.tensor([1, 1])
    )
    assert math.isclose(loss.item(), (math.log(4) + math.log(16 / 3)) / 2, rel_tol=1e-6)


def test_frames_after_a_line_s_own_count_for_nothing():
    torch.manual_seed(0)
    logits = torch.randn(2, 12, 6, requires_grad=True)
    frames, targets, lengths = (
        torch.tensor([12, 7]),
        torch.tensor([1, 2, 3, 4, 5]),
        torch.tensor([3, 2]),
    )
    loss = ctc_loss(logits, frames, targets, lengths)
    loss.backward()
    assert logits.grad[1, 7:].abs().max() == 0
    assert logits.grad[1, :7].abs().max() > 0
    changed = logits.detach().clone()
    changed[1, 7:] = 50.0
    assert torch.equal(ctc_loss(changed, frames, targets, lengths), loss.detach())


def test_the_sum_over_a_batch_is_the_sum_of_its_lines():
    torch.manual_seed(0)
    logits, frames = torch.randn(2, 9, 6), torch.tensor([9, 5])
    together = (
        ctc_loss(logits, frames, torch.tensor([1, 2, 3, 4]), torch.tensor([3, 1])) * 4
    )
    first = ctc_loss(logits[:1], frames[:1], torch.tensor([1, 2, 3]), torch.tensor([3])) * 3
    second = ctc_loss(logits[1:, :5], frames[1:], torch.tensor([4]), torch.tensor([1]))
    assert torch.allclose(together, first + second, atol=1e-5)


def test_an_impossible_target_is_not_hidden():
    assert ctc_loss(
        torch.zeros(1, 2, 4), torch.tensor([2]), torch.tensor([1, 2, 3]), torch.tensor([3])
    ).isinf()
