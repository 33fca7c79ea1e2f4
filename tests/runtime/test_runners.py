import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from nordocr_cli.artifact.contract import METADATA_KEY
from nordocr_cli.artifact.sealing import write_sealed_json
from nordocr_cli.atomic import sha256_of
from nordocr_cli.core.export.plan import ExportOptions, plan_export
from nordocr_cli.core.export.run import export
from nordocr_cli.decode.beam import decode_beam
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.errors import ArtifactError, MissingBackendError, UsageError
from nordocr_cli.runtime.backends.tensorrt.engine_file import SIDECAR_SCHEMA
from nordocr_cli.runtime.backends.tensorrt.runner import verify_engine
from nordocr_cli.runtime.runners import open_runner


def batch(*line_widths):
    rng = np.random.default_rng(5)
    images = rng.integers(
        0, 256, (len(line_widths), 3, 32, max(line_widths)), dtype=np.uint8
    )
    for image, width in zip(images, line_widths, strict=True):
        image[:, :, width:] = 255
    return images, np.array(line_widths, dtype=np.int64)


@pytest.fixture
def rewritten(unsealed):
    """A function that changes an ONNX file and writes it as an older nordocr would."""

    def write(path, target, change):
        model = unsealed(path)
        change(model)
        onnx.save(model, target)
        return target

    return write


def test_both_backends_give_the_same_logits(tiny_checkpoint, tiny_onnx):
    images, widths = batch(96, 96)
    torch, ort = open_runner(tiny_checkpoint, threads=1), open_runner(tiny_onnx, threads=1)
    expected = torch.run(images, widths)
    assert expected.shape == (2, 24, 126)
    assert expected.dtype == np.float32
    assert np.abs(ort.run(images, widths) - expected).max() < 1e-4
    assert torch.contract.charset.sha256 == ort.contract.charset.sha256
    assert torch.uses_widths
    assert not ort.uses_widths


def test_torch_masks_the_padding(tiny_checkpoint):
    runner = open_runner(tiny_checkpoint, threads=1)
    images, widths = batch(40, 200)
    alone = runner.run(images[:1, :, :, :40].copy(), widths[:1])
    assert np.abs(runner.run(images, widths)[:1, :10] - alone).max() < 1e-4


def test_bf16_is_near_and_an_option_of_torch_only(tiny_checkpoint, tiny_onnx):
    images, widths = batch(64)
    exact = open_runner(tiny_checkpoint, threads=1).run(images, widths)
    near = open_runner(tiny_checkpoint, threads=1, precision="bf16").run(images, widths)
    assert 0 < np.abs(near - exact).max() < 0.1 * np.abs(exact).max()
    with pytest.raises(UsageError, match="option of torch"):
        open_runner(tiny_onnx, precision="bf16")


@pytest.mark.parametrize("kind", ["tiny_checkpoint", "tiny_onnx"])
def test_a_batch_that_breaks_the_geometry_is_refused(kind, request):
    runner = open_runner(request.getfixturevalue(kind), threads=1)
    images, widths = batch(40, 64)
    with pytest.raises(ValueError, match="width 62 is not a multiple of 4"):
        runner.run(images[..., :62], np.array([40, 62]))
    with pytest.raises(ValueError, match=r"uint8 \(N, 3, 32, W\)"):
        runner.run(images.astype(np.float32), widths)
    with pytest.raises(ValueError, match=r"uint8 \(N, 3, 32, W\)"):
        runner.run(images[:, :, :16], widths)
    with pytest.raises(ValueError, match="do not fit"):
        runner.run(images, np.array([40, 68]))


def test_damaged_and_foreign_onnx_files_are_named(tiny_onnx, rewritten, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(tiny_onnx.read_bytes()[:5000])
    with pytest.raises(
        ArtifactError, match=r"cut\.onnx is not a readable ONNX model .it is cut off"
    ):
        open_runner(tmp_path / "cut.onnx")
    foreign = rewritten(
        tiny_onnx, tmp_path / "foreign.onnx", lambda m: m.ClearField("metadata_props")
    )
    with pytest.raises(ArtifactError, match="carries no nordocr contract"):
        open_runner(foreign)

    def other_charset(model):
        for entry in model.metadata_props:
            if entry.key == METADATA_KEY:
                value = json.loads(entry.value)
                value["geometry"]["height"] = 48
                entry.value = json.dumps(value)

    with pytest.raises(ArtifactError, match="does not match its contract"):
        open_runner(rewritten(tiny_onnx, tmp_path / "height.onnx", other_charset))


def test_fixed_axes_are_named(tiny_onnx, rewritten, tmp_path):
    def fix(model):
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    runner = open_runner(rewritten(tiny_onnx, tmp_path / "fixed.onnx", fix))
    with pytest.raises(ArtifactError, match="fixed batch of 1, requested: 2"):
        runner.run(*batch(64, 64))


@pytest.mark.parametrize("kind", ["uint8", "argmax", "io16"])
def test_other_forms_of_a_file_read_the_same(kind, tiny_checkpoint, tmp_path):
    flags = {
        "uint8": {"input_type": "uint8"},
        "argmax": {"output_activation": "argmax+confidence"},
        "io16": {"io": "fp16"},
    }
    plan = plan_export(
        tiny_checkpoint,
        tmp_path / "m.onnx",
        ExportOptions(precision="fp32", max_width=128, simplify=False, **flags[kind]),
    )
    export(replace(plan, shapes=((1, 32), (2, 128))))
    images, widths = batch(96, 96)
    torch, runner = (
        open_runner(tiny_checkpoint, threads=1),
        open_runner(tmp_path / "m.onnx", threads=1),
    )
    frames, charset = np.array([24, 24]), runner.contract.charset
    expected = decode_greedy(torch.run(images, widths), frames, charset)
    got = decode_greedy(
        runner.run(images, widths), frames, charset, runner.contract.output_activation
    )
    assert [r.text for r in got] == [r.text for r in expected] != ["", ""]
    assert np.allclose(
        [r.confidence for r in got],
        [r.confidence for r in expected],
        atol=1e-2 if kind == "io16" else 1e-4,
    )
    if kind == "argmax":
        assert runner.run(images, widths).shape == (2, 24, 2)
        with pytest.raises(UsageError, match="a beam needs all"):
            decode_beam(
                runner.run(images, widths),
                frames,
                charset,
                runner.contract.output_activation,
            )
        with pytest.raises(ArtifactError, match=r"holds class -1\.0 at line 0, frame 0"):
            decode_greedy(np.full((1, 24, 2), -1), frames[:1], charset, "argmax+confidence")


def test_an_int8_model_reads_a_line_the_same_in_any_batch(tiny_checkpoint, tmp_path):
    export(
        replace(
            plan_export(
                tiny_checkpoint,
                tmp_path / "m.onnx",
                ExportOptions(precision="fp32", int8=True),
            ),
            shapes=((1, 32), (2, 128)),
        )
    )
    runner = open_runner(tmp_path / "m.int8.onnx", threads=1)
    images, widths = batch(96, 96, 96)
    images[2] //= 8  # of another range
    together = runner.run(images, widths)
    for line in range(3):
        assert np.array_equal(
            together[line], runner.run(images[line : line + 1], widths[line : line + 1])[0]
        )


def test_wrong_backends_and_devices(tiny_checkpoint, tiny_onnx):
    with pytest.raises(UsageError, match="did you mean 'onnxruntime'"):
        open_runner(tiny_onnx, backend="onnxruntim")
    with pytest.raises(UsageError, match="runs on torch"):
        open_runner(tiny_checkpoint, backend="onnxruntime")
    for name in ("gpu", "cuda:x", "cuda:", "cpu:1", ""):
        for path in (tiny_checkpoint, tiny_onnx):
            with pytest.raises(UsageError, match=f"unknown device '{name}'"):
                open_runner(path, device=name)
    for path in (tiny_checkpoint, tiny_onnx):
        with pytest.raises(MissingBackendError, match="cpu"):
            open_runner(path, device="cuda:99")


class FakeSessions:
    """ONNX Runtime with CUDA on a machine with `gpus` of them, as far as a session's opening goes;
    the rest is the real one.
    """

    def __init__(self, monkeypatch, gpus):
        self.gpus, self.asked, real = gpus, [], onnxruntime.InferenceSession

        def session(path, options, providers, enable_fallback, disabled_optimizers=()):
            assert not enable_fallback
            # What holds on a CPU is not tried on a GPU.
            assert bool(disabled_optimizers) == (providers == ["CPUExecutionProvider"])
            self.asked.append(providers)
            gpu = next(
                (p[1]["device_id"] for p in providers if p[0] == "CUDAExecutionProvider"),
                None,
            )
            if gpu is not None and self.gpus is not None and int(gpu) >= self.gpus:
                raise RuntimeError("CUDA failure 101: invalid device ordinal\nstack")
            opened = real(path, options, providers=["CPUExecutionProvider"])
            if gpu is not None and self.gpus is not None:
                opened.get_providers = lambda: [
                    "CUDAExecutionProvider",
                    "CPUExecutionProvider",
                ]
                opened.get_provider_options = lambda: {
                    "CUDAExecutionProvider": {"device_id": gpu}
                }
            return opened

        monkeypatch.setattr(onnxruntime, "InferenceSession", session)
        monkeypatch.setattr(
            onnxruntime,
            "get_available_providers",
            lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        )


def test_onnx_runtime_gets_the_gpu_that_was_asked_for(tiny_onnx, monkeypatch):
    sessions = FakeSessions(monkeypatch, gpus=4)
    assert [
        open_runner(tiny_onnx, device=name).device
        for name in ("cuda:3", "cuda", "auto", "cpu")
    ] == [
        "cuda:3",
        "cuda:0",
        "cuda:0",
        "cpu",
    ]
    assert sessions.asked[0] == [
        ("CUDAExecutionProvider", {"device_id": "3"}),
        "CPUExecutionProvider",
    ]
    with pytest.raises(
        MissingBackendError, match=r"no GPU cuda:9.*invalid device ordinal; .*\[gpu\]"
    ):
        open_runner(tiny_onnx, device="cuda:9")


@pytest.mark.parametrize(
    ("gpus", "said"),
    [(0, "invalid device ordinal"), (None, "CUDA libraries cannot be loaded")],
)
def test_onnx_runtime_without_a_gpu_that_works_does_not_take_the_cpu_instead(
    gpus, said, tiny_onnx, monkeypatch
):
    FakeSessions(monkeypatch, gpus)
    with pytest.raises(MissingBackendError, match=said):
        open_runner(tiny_onnx, device="cuda")
    assert open_runner(tiny_onnx, device="auto").device == "cpu"


def test_the_tensorrt_provider_is_told_the_shapes_and_where_its_engines_go(
    tiny_onnx, monkeypatch
):
    """Recorded: the names of its options are those of ONNX Runtime's documentation; no such
    provider runs here.
    """
    with pytest.raises(MissingBackendError, match=r"has no TensorRT provider; .*\[gpu\]"):
        open_runner(tiny_onnx, device="tensorrt")
    providers, real, asked = (
        ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
        onnxruntime.InferenceSession,
        [],
    )

    def session(path, options, providers, enable_fallback):
        asked.append(providers)
        opened = real(path, options, providers=["CPUExecutionProvider"])
        if loads:
            opened.get_providers = lambda: [
                name if isinstance(name, str) else name[0] for name in providers
            ]
            opened.get_provider_options = lambda: dict(providers[:2])
        return opened

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    loads = True
    assert open_runner(tiny_onnx, device="tensorrt:1").device == "tensorrt:1"
    (name, told), cuda, cpu = asked[0]
    assert (name, cuda, cpu) == (
        providers[0],
        (providers[1], {"device_id": "1"}),
        "CPUExecutionProvider",
    )
    assert told == {
        "device_id": "1",
        "trt_profile_min_shapes": "input:1x3x32x32",
        "trt_profile_opt_shapes": "input:32x3x32x768",
        "trt_profile_max_shapes": "input:64x3x32x1792",
        "trt_fp16_enable": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(tiny_onnx.with_suffix(".tensorrt")),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(tiny_onnx.with_suffix(".tensorrt")),
    }
    loads = False
    with pytest.raises(
        MissingBackendError, match="TensorRT provider cannot be loaded on tensorrt:0"
    ):
        open_runner(tiny_onnx, device="tensorrt")


def test_a_compiled_network_sees_few_shapes_and_says_the_same(
    tiny_checkpoint, tiny_onnx, monkeypatch
):
    shapes = []

    def compile_(model, mode, dynamic):
        assert (mode, dynamic) == ("default", False)
        return lambda pixels, widths: (
            shapes.append(tuple(pixels.shape)) or model(pixels, widths)
        )

    monkeypatch.setattr(torch, "compile", compile_)
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 132), dtype=np.uint8)
    widths = np.array([132, 100, 60])
    plain, compiled = (
        open_runner(tiny_checkpoint, device="cpu", compiled=choice)
        for choice in (False, True)
    )
    found, wanted = compiled.run(images, widths), plain.run(images, widths)
    assert shapes == [(4, 3, 32, 256)]
    assert found.shape == wanted.shape
    for line, width in enumerate(widths):
        assert found[line, : width // 4] == pytest.approx(
            wanted[line, : width // 4], abs=1e-4
        )
    with pytest.raises(UsageError, match="--compile is an option of torch"):
        open_runner(tiny_onnx, compiled=True)


@pytest.fixture
def engine(tiny_onnx, tmp_path):
    """An engine's file and sidecar; its bytes are never looked into, so any will do."""
    path = tmp_path / "model_sm120.rtx.engine"
    shutil.copy(tiny_onnx, path)
    contract = next(
        json.loads(p.value)
        for p in onnx.load(tiny_onnx).metadata_props
        if p.key == METADATA_KEY
    )
    sidecar = {
        "schema": SIDECAR_SCHEMA,
        "engine": {"sha256": sha256_of(path)},
        "backend": "tensorrt-rtx",
        "version": "1.7.1.116",
    }
    sidecar |= {"arch": "sm120", "contract": contract}
    write_sealed_json(path.with_name(path.name + ".json"), sidecar)
    return path


def test_an_engine_is_verified_and_not_run(engine, monkeypatch):
    assert verify_engine(engine).arch == "sm120"
    with pytest.raises(MissingBackendError, match="sm120"):
        open_runner(engine)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingBackendError, match=r"pip install -e '\.\[rtx\]'"):
        open_runner(engine)


def test_an_altered_engine_is_refused(engine):
    content = bytearray(engine.read_bytes())
    content[1000] ^= 1
    engine.write_bytes(content)
    with pytest.raises(ArtifactError, match="sha256"):
        open_runner(engine)
    engine.with_name(engine.name + ".json").unlink()
    with pytest.raises(ArtifactError, match="sidecar"):
        open_runner(engine)
