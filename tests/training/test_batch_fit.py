"""How many lines a batch may have."""

import pytest
import torch

from nordocr_cli.errors import UsageError
from nordocr_cli.training import batch_fit


@pytest.mark.parametrize("limit", [1, 7, 60, 500])
def test_a_gpu_is_filled_to_nine_tenths_of_what_it_took(limit):
    taken = []

    def step(lines):
        taken.append(lines)
        if lines > limit:
            raise torch.cuda.OutOfMemoryError("too many")

    found, how = batch_fit._tried(step, 400)
    if limit == 500:
        assert found == 400
        assert max(taken) == 400
    else:
        assert 1 <= found <= limit
        assert found >= 0.7 * limit
        assert "did not" in how


def test_a_network_that_fits_with_no_line_is_refused():
    def step(lines):
        raise torch.cuda.OutOfMemoryError("too many")

    with pytest.raises(UsageError, match="not one line"):
        batch_fit._tried(step, 400)


def test_a_cpu_gets_what_its_free_memory_divided_by_a_line_is(monkeypatch):
    peaks = iter([500_000_000, 660_000_000])  # of 8 lines and of 16: 20 MB a line
    monkeypatch.setattr(batch_fit, "_peak", lambda work: next(peaks))
    monkeypatch.setattr(batch_fit, "free_memory", lambda: 4_000_000_000)
    monkeypatch.setattr(batch_fit.sys, "platform", "linux")
    lines, how = batch_fit._measured(lambda lines: None, 1000)
    assert lines == 120
    assert "20 MB a line" in how
