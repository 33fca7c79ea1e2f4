import numpy as np
import pytest
import torch


@pytest.fixture
def filled():
    """Give a network weights that any program can make again: NumPy's legacy stream is frozen."""

    def fill(network):
        random = np.random.RandomState(7)
        state = network.state_dict()
        for key in sorted(state):
            if not state[key].is_floating_point():
                continue
            values = random.standard_normal(tuple(state[key].shape)) * (
                0.05 if state[key].ndim > 1 else 0.1
            )
            if key.endswith("running_var") or (
                state[key].ndim == 1 and "norm" in key and key.endswith("weight")
            ):
                values = 1 + np.abs(values)
            state[key].copy_(torch.from_numpy(values))
        return network

    return fill


@pytest.fixture
def image():
    """An image (1, 3, 32, width) that any program can make again."""
    return lambda width: torch.from_numpy(
        np.random.RandomState(width).uniform(-1, 1, (1, 3, 32, width))
    ).float()


@pytest.fixture
def without_gradient():
    """The names of parameters that a loss of two lines does not reach with a finite gradient."""

    def names(network, widths, bf16):
        given = None if widths is None else torch.tensor(widths)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = network(torch.randn(2, 3, 32, 64), given)
        logits.float().log_softmax(2)[..., ::7].sum().backward()

        found = []
        for name, parameter in network.named_parameters():
            gradient = parameter.grad
            if gradient is None or not gradient.isfinite().all() or not gradient.any():
                found.append(name)
        return found

    return names
