import pytest
import torch

from nordocr_cli.training import usage
from nordocr_cli.training.disk_space import state_bytes, weights_bytes

GIB = 2**30


@pytest.mark.parametrize(
    ("peak", "batch"), [(8 * GIB, 320), (1 * GIB, 400), (30 * GIB, None), (40 * GIB, None)]
)
def test_a_larger_batch_fills_the_memory_but_grows_no_more_than_fourfold(peak, batch):
    assert usage.larger_batch(100, peak, 32 * GIB) == (min(batch, 400) if batch else None)


@pytest.mark.parametrize(
    ("busy", "peak", "expected"),
    [(0.3, 2, "GPU underused: 30% busy"), (0.9, 2, ""), (0.3, 30, ""), (None, 2, "")],
)
def test_an_idle_gpu_is_reported_where_more_would_fit(monkeypatch, busy, peak, expected):
    monkeypatch.setattr(usage, "gpu_busy", lambda device: busy)
    monkeypatch.setattr(usage, "gpu_memory", lambda device: (peak * GIB, 32 * GIB))
    warning = usage.idle_gpu(torch.device("cuda"), 64)
    assert warning.startswith(expected)
    assert bool(warning) == bool(expected)
    if expected:
        assert "try batch 256" in warning


def test_the_room_for_a_state_is_what_it_takes(tmp_path):
    model = torch.nn.Linear(1000, 100)
    model.bias.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    model(torch.ones(1, 1000)).sum().backward()
    optimizer.step()
    torch.save(
        {
            "model": model.state_dict(),
            "ema": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        },
        tmp_path / "s",
    )
    assert weights_bytes(model) == 4 * 100_100
    # The same tensors are stored once here, not twice as a network and its average are.
    written = (tmp_path / "s").stat().st_size + weights_bytes(model)
    assert written == pytest.approx(state_bytes(model, averaged=True), rel=0.02)
