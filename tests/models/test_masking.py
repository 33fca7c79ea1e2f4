"""With the widths given, what a line says must not depend on what it was batched with."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from nordocr_cli.charset import NORDIC
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.geometry import out_length
from nordocr_cli.models.masking import halve, valid_columns, valid_keys, zero_padding
from nordocr_cli.models.registry import build_model
from nordocr_cli.settings import SvtrV2Model, SvtrV2NanoModel

MODELS = {
    "nano": SvtrV2NanoModel(name="svtrv2-nano"),
    "tiny": SvtrV2Model(name="svtrv2", size="tiny"),
    "base": SvtrV2Model(name="svtrv2", size="base"),
}


def network_of(name):
    """A network all of whose biases and norms do something: fresh ones are zeros and ones and would
    hide a leak.
    """
    torch.manual_seed(3)
    network = build_model(MODELS[name], 126)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return network.eval()


NETWORKS = {name: network_of(name) for name in MODELS}


def assert_alone_equals_batched(network, widths, padding):
    generator = torch.Generator().manual_seed(sum(widths))
    images = torch.rand(len(widths), 3, 32, max(widths), generator=generator) * 2 - 1
    for i, width in enumerate(widths):
        images[i, :, :, width:] = padding
    lengths = np.array([out_length(width) for width in widths])
    with torch.no_grad():
        batched = network(images, torch.tensor(widths))
        texts = decode_greedy(batched.numpy(), lengths, NORDIC)
        for i, width in enumerate(widths):
            alone = network(images[i : i + 1, :, :, :width])
            assert torch.allclose(batched[i, : lengths[i]], alone[0], atol=1e-4)
            assert (
                texts[i].text
                == decode_greedy(alone.numpy(), lengths[i : i + 1], NORDIC)[0].text
            )


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    widths=st.lists(st.integers(1, 180), min_size=2, max_size=5),
    padding=st.sampled_from([1.0, 0.0, -1.0, 7.0]),
)
def test_nano_does_not_see_padding(widths, padding):
    assert_alone_equals_batched(NETWORKS["nano"], widths, padding)


@pytest.mark.parametrize("name", ["tiny", "base"])
@pytest.mark.parametrize("widths", [[4, 130, 320], [17, 1, 66, 131]])
def test_svtrv2_does_not_see_padding(name, widths):
    assert_alone_equals_batched(NETWORKS[name], widths, 1.0)


@pytest.mark.parametrize("name", MODELS)
def test_without_widths_padding_is_pixels(name):
    """So that the tests above could fail."""
    image = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    padded = torch.cat([image, torch.ones(1, 3, 32, 64)], dim=3)
    with torch.no_grad():
        alone, beside = NETWORKS[name](image), NETWORKS[name](padded)
    assert (alone - beside[:, :16]).abs().max() > 1e-3


class Recorder(TorchDispatchMode):
    """Collects the names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func._opname)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", MODELS)
def test_without_widths_no_mask_operation_runs(name):
    image, mask_operations = torch.zeros(1, 3, 32, 64), {"arange", "lt", "repeat"}
    with torch.no_grad(), Recorder() as free:
        NETWORKS[name](image)
    with torch.no_grad(), Recorder() as masked:
        NETWORKS[name](image, torch.tensor([40]))
    assert not mask_operations & free.names
    assert mask_operations <= masked.names
    assert any("scaled_dot_product" in operation for operation in free.names)


@pytest.mark.parametrize("name", ["nano", "tiny"])
@pytest.mark.parametrize("widths", [None, [64, 30]])
@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_reach_every_parameter(name, widths, bf16, without_gradient):
    network = build_model(MODELS[name].model_copy(update={"drop_path": 0.0}), 126)
    assert without_gradient(network, widths, bf16) == []


def test_masks_by_hand():
    valid = valid_columns(halve(torch.tensor([5, 2])), 3)
    assert valid.tolist() == [[True, True, True], [True, False, False]]
    assert valid_keys(valid, 2)[1, 0, 0].tolist() == [
        True,
        False,
        False,
        True,
        False,
        False,
    ]
    assert zero_padding(torch.ones(2, 1, 3, 1), valid)[:, 0, :, 0].tolist() == [
        [1, 1, 1],
        [1, 0, 0],
    ]
    assert valid_keys(None, 2) is None
