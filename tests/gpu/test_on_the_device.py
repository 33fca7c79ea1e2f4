"""What only a GPU can show; `scripts/on_gpu.py` runs these there. Elsewhere they are skipped."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nordocr_cli.artifact.shipped import DEFAULT_MODEL, SHIPPED  # noqa: E402
from nordocr_cli.deploy.golden import golden_crops  # noqa: E402
from nordocr_cli.runtime.recognizers import open_recognizer  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU answers"),
]
WEIGHTS = SHIPPED / f"{DEFAULT_MODEL}.safetensors"


@pytest.fixture(scope="module")
def crops():
    return [crop for _, crop in golden_crops(24)]


def texts(spec: Path | str, crops, **options):
    recognizer = open_recognizer(spec, **options)
    return [reading.text for reading in recognizer.recognize(crops)]


def test_torch_reads_the_same_on_the_gpu_as_on_the_cpu(crops):
    assert texts(WEIGHTS, crops, device="cuda") == texts(WEIGHTS, crops, device="cpu")


def test_onnx_runtime_reads_the_same_on_the_gpu_as_on_the_cpu(crops):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA")
    onnx = WEIGHTS.with_suffix(".onnx")
    assert texts(onnx, crops, device="cuda") == texts(onnx, crops, device="cpu")


def test_the_compiled_network_reads_the_same(crops):
    eager = texts(WEIGHTS, crops, device="cuda")
    assert texts(WEIGHTS, crops, device="cuda", compiled=True) == eager


def test_bf16_reads_nearly_the_same(crops):
    full, half = (
        texts(WEIGHTS, crops, device="cuda", precision=p) for p in ("fp32", "bf16")
    )
    same = np.mean([a == b for a, b in zip(full, half, strict=True)])
    assert same >= 0.9


def test_a_missing_gpu_is_named():
    from nordocr_cli.errors import MissingBackendError
    from nordocr_cli.runtime.backends.torch.runner import choose_device

    with pytest.raises(MissingBackendError, match="no GPU cuda:99"):
        choose_device("cuda:99")
