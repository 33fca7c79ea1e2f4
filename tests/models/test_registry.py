import pytest
import torch

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.models.registry import build_model
from nordocr_cli.profile import load_profile, profile_names
from nordocr_cli.settings import SvtrV2NanoModel

# The TrOCR profiles start from a folder with a pretrained network: test_trocr.py.
BUILT_FROM_NOTHING = [name for name in profile_names() if not name.startswith("trocr-")]


@pytest.mark.parametrize("name", BUILT_FROM_NOTHING)
def test_every_shipped_profile_builds(name):
    profile = load_profile(name).profile
    network = build_model(profile.model, profile.load_charset().num_classes)
    contract = Contract(
        profile.load_charset(), profile.geometry, profile.model.model_dump()
    )
    assert network.training
    with torch.no_grad():
        shape = network.eval()(torch.zeros(1, 3, 32, 12)).shape
    assert shape == (1, contract.out_length(12), profile.load_charset().num_classes)


def test_same_seed_gives_the_same_weights():
    states = []
    for _ in range(2):
        torch.manual_seed(11)
        states.append(build_model(SvtrV2NanoModel(name="svtrv2-nano"), 126).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
