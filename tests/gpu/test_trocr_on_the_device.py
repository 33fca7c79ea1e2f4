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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU answers")
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_adapters_of_a_quantized_trocr_get_finite_gradients(tiny_trocr, bits):
    pytest.importorskip("bitsandbytes")
    sets = [f"model.pretrained={tiny_trocr}", f"model.load_in={bits}"]
    sets += ["model.max_target_length=32", "model.generation_max_length=16"]
    profile = load_profile("trocr-lora", sets).profile
    network = build_model(profile.model, NORDIC.num_classes, NORDIC).train().to("cuda")
    images = torch.rand(2, 3, profile.geometry.height, 256, device="cuda")
    widths = torch.tensor([256, 128], device="cuda")
    targets = torch.tensor([11, 12, 13, 14, 15], device="cuda")

    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = network.loss(images, widths, targets, torch.tensor([3, 2], device="cuda"))
    loss.backward()

    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert torch.isfinite(loss)
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
