import pytest
import torch
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from nordocr_cli.geometry import out_length
from nordocr_cli.models.registry import build_model
from nordocr_cli.settings import SvtrV2NanoModel


def build(**options):
    return build_model(SvtrV2NanoModel(name="svtrv2-nano", **options), 126)


@pytest.mark.parametrize("rows", [1, 2])
def test_stays_lean(rows):
    network = build(attention_rows=rows).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 32, 320))
    assert counter.get_total_flops() <= 1.2e9
    assert 2.0e6 <= sum(p.numel() for p in network.parameters()) <= 2.8e6


@pytest.mark.parametrize("rows", [1, 2])
def test_frames_at_any_width(rows):
    network = build(attention_rows=rows).eval()
    with torch.no_grad():
        for width in [*range(1, 20), 127, 1022]:
            assert network(torch.zeros(2, 3, 32, width)).shape == (
                2,
                out_length(width),
                126,
            )


def test_learns_at_the_rate_of_its_profile():
    """At 1e-3, without the long blank plateau on which post-norm blocks sit: eight lines memorized
    in 80 steps.
    """
    torch.manual_seed(1)
    network = build()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    images = torch.randn(8, 3, 32, 64)
    targets = torch.randint(1, 126, (8, 4))
    for step in range(80):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 10)
        loss = torch.nn.functional.ctc_loss(
            network(images).log_softmax(2).transpose(0, 1),
            targets,
            torch.full((8,), 16),
            torch.full((8,), 4),
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
    assert (
        loss < 1
    )  # a character: 4.8 is chance among all classes, 3.4 among those that occur


def test_every_row_counts_where_attention_runs_on_one():
    network = build(attention_rows=1).eval()
    seen = torch.zeros(1, 4, 5, 96, requires_grad=True)
    network.down2.norm = torch.nn.Identity()
    network.down2(seen, None).sum().backward()
    assert (seen.grad.abs().sum(dim=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {"dims": (50, 96, 192)},
        {"dims": (48, 96, 200)},
        {"dims": (0, 96, 192)},
        {"depths": (1, -1, 1)},
    ],
)
def test_impossible_sizes_are_refused(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        SvtrV2NanoModel(name="svtrv2-nano", **options)
