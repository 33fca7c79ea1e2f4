"""A TrOCR reads the same on the device as on the CPU; the GPU's case runs where there is one."""

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from nordocr_cli.artifact.contract import Contract  # noqa: E402
from nordocr_cli.charset import NORDIC  # noqa: E402
from nordocr_cli.deploy.golden import golden_crops  # noqa: E402
from nordocr_cli.models.registry import build_model  # noqa: E402
from nordocr_cli.models.weights import save_weights  # noqa: E402
from nordocr_cli.profile import load_profile, profile_to_json  # noqa: E402
from nordocr_cli.runtime.recognizers import open_recognizer  # noqa: E402

ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU answers"),
]
LINES = 6


@pytest.fixture
def weights(tiny_trocr, tmp_path):
    """Untrained adapters of a tiny TrOCR, with their contract."""
    sets = [
        f"model.pretrained={tiny_trocr}",
        "model.max_target_length=32",
        "model.generation_max_length=16",
    ]
    profile = load_profile("trocr-lora", sets).profile
    table = json.loads(json.dumps(profile_to_json(profile)))
    torch.manual_seed(3)
    network = build_model(profile.model, NORDIC.num_classes, NORDIC)
    path = tmp_path / "trocr.safetensors"
    contract = Contract(
        NORDIC, profile.geometry, table["model"], table, trained_widths=(8, 1792)
    )
    save_weights(path, network.state_dict(), contract)
    return path


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_GPU)])
def test_trocr_reads_the_same_alone_and_together_on_the_device(weights, device):
    crops = [crop for _, crop in golden_crops(LINES)]
    on_cpu = open_recognizer(weights, device="cpu", threads=1)
    alone = [on_cpu.recognize([crop])[0].text for crop in crops]

    readings = open_recognizer(weights, device=device).recognize(crops)

    assert [reading.text for reading in readings] == alone
