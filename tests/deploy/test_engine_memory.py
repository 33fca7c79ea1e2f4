import pytest

from nordocr_cli.deploy.onnx_file import fp16_sibling
from nordocr_cli.errors import UsageError
from nordocr_cli.runtime.backends.tensorrt.memory import MemoryModel
from nordocr_cli.settings import Engine, ShapeRange


@pytest.fixture(scope="module")
def models(tiny_onnx):
    return MemoryModel(tiny_onnx), MemoryModel(fp16_sibling(tiny_onnx))


def test_attention_costs_memory_in_fp32_only(models):
    full, half = models
    assert full.at(1, 1792).activation_bytes > 5 * half.at(1, 1792).activation_bytes
    for batch, width in ((8, 512), (64, 1792)):
        assert half.at(2 * batch, width).activation_bytes == pytest.approx(
            2 * half.at(batch, width).activation_bytes, rel=1e-4
        )
    assert full.at(8, 1024).activation_bytes > 3 * full.at(8, 512).activation_bytes
    assert half.at(1, 512).weights_bytes < full.at(1, 512).weights_bytes
    assert half.at(2, 512).io_bytes == 2 * 3 * 32 * 512 * 4 + 2 * 128 * 126 * 4


def test_prediction_beside_a_real_engine(tiny_onnx, models):
    trt = pytest.importorskip("tensorrt_rtx")
    from nordocr_cli.runtime.backends.tensorrt.builder import build
    from nordocr_cli.runtime.backends.tensorrt.gpu_arch import find_arch

    bands = (
        ShapeRange(opt_batch=64, max_batch=256, opt_width=128, max_width=128),
        ShapeRange(min_width=132, opt_batch=8, max_batch=8, opt_width=512, max_width=512),
    )
    built = build(
        trt,
        fp16_sibling(tiny_onnx),
        Engine(bands=bands),
        [find_arch("sm86"), find_arch("sm120")],
    )
    predicted = models[1].maximum(bands)
    # of the narrow band, not for the last one
    assert (predicted.batch, predicted.width) == (256, 128)
    assert 0.6 < predicted.activation_bytes / built.activation_bytes < 1.6


def test_the_largest_shape_that_fits_is_named(models):
    full, half = models
    ranges = [ShapeRange(max_batch=64, max_width=1792)]
    assert half.require_fit(ranges, "A", 48).batch == 64
    with pytest.raises(
        UsageError, match=r"does not fit RTX A6000 with 1 GB: .* --max (\d+)x1792 is"
    ) as caught:
        full.require_fit(ranges, "RTX A6000", 1)
    batch = int(str(caught.value).split("--max ")[1].split("x")[0])
    assert full.at(batch, 1792).total_bytes <= 1e9 < full.at(batch + 1, 1792).total_bytes
    with pytest.raises(UsageError, match=r"one line fits up to (\d+) px"):
        full.require_fit(ranges, "A", 0.51)
    with pytest.raises(UsageError, match="nothing fits"):
        half.require_fit(ranges, "A", 0.5)


def test_the_assumption_and_what_it_costs_without_are_named(models):
    full, half = models
    fused, counted = half.at(64, 1792), full.at(64, 1792)
    assert fused.unfused_bytes > 2 * fused.activation_bytes
    assert "64x1792 px in fp16" in str(fused)
    assert "assuming that TensorRT fuses attention; without, the largest" in str(fused)
    assert counted.unfused_bytes == counted.activation_bytes
    assert "attention counted as not fused" in str(counted)
    assert counted.scores_bytes == 2 * fused.scores_bytes  # 4 bytes a score instead of 2
    assert fused.unfused_bytes > 2 * fused.scores_bytes  # scores and their softmax
    # the scores alone, of the widest attention: batch, heads, tokens squared, 2 bytes
    assert half.at(64, 896).unfused_bytes < fused.unfused_bytes / 2
