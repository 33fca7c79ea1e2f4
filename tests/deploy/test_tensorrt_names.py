"""The builder against classic TensorRT's names. Proves names, not behaviour: classic TensorRT
cannot run here.

tensorrt_names.json was listed with dir() from NVIDIA's own binding wheels (10.3.0, 10.16.1.11,
11.4.0.106; add_* left out). The fake has exactly those names and raises AttributeError for any
other, read or written.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from nordocr_cli.errors import ArtifactError, MissingBackendError
from nordocr_cli.runtime.backends.tensorrt.builder import Settings, build, require_release
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import find_arch
from nordocr_cli.settings import Engine, ShapeRange

RECORDED = json.loads(
    (Path(__file__).parent / "tensorrt_names.json").read_text(encoding="utf-8")
)
PLAN = b"ftrt" + bytes(60)


class Strict:
    """An object that has only the recorded names of its class; what is behind a name is set by
    `_have`.
    """

    def __init__(self, names, **have):
        object.__setattr__(self, "_names", set(names))
        object.__setattr__(self, "_have", dict(have))

    def __getattr__(self, name):
        if name not in self._names or name not in self._have:
            raise AttributeError(
                f"TensorRT has no {name}"
                if name not in self._names
                else f"the fake does nothing for {name}"
            )
        return self._have[name]

    def __setattr__(self, name, value):
        if name not in self._names:
            raise AttributeError(f"TensorRT has no {name}")
        self._have[name] = value


def fake_tensorrt(release, *, gpu=True, refuse=None):
    """Return a module with the recorded names; it records the calls under `_call`."""
    recorded = RECORDED[release]
    names = {kind: text.split() for kind, text in recorded["names"].items()}
    call = SimpleNamespace(flags=None, shapes=None, name=None, monitor=None)
    levels = SimpleNamespace(**{level: level for level in names["ILogger.Severity"]})

    class Logger:
        Severity = levels

    class Monitor:
        def __init_subclass__(cls):
            assert set(names["IProgressMonitor"]) <= set(vars(cls))

    def tensor(name, shape, axes):
        return Strict(
            names["ITensor"],
            name=name,
            shape=shape,
            dtype="DataType.FLOAT",
            get_dimension_name=lambda axis: axes.get(axis, ""),
        )

    tensors = [
        tensor("input", (-1, 3, 32, -1), {0: "batch", 3: "width"}),
        tensor("output", (-1, -1, 126), {}),
    ]
    network = Strict(
        names["INetworkDefinition"],
        num_inputs=1,
        num_outputs=1,
        get_input=lambda _: tensors[0],
        get_output=lambda _: tensors[1],
    )

    def set_shape(name, *ends):
        call.name, call.shapes = name, ends

    shape_range = Strict(names["IOptimizationProfile"], set_shape=set_shape)
    # What these take and give is from NVIDIA's API reference; the names are recorded.
    cache = SimpleNamespace(serialize=lambda: b"timings")

    def set_timing_cache(given, ignore_mismatch):
        assert given.data in (b"", b"old")
        return refuse != "timings" or given.data == b""

    config = Strict(
        names["IBuilderConfig"],
        add_optimization_profile=lambda _: 0 if refuse != "shapes" else -1,
        set_memory_pool_limit=lambda pool, size: setattr(call, "pool", (pool, size)),
        set_flag=lambda flag: setattr(call, "flag", flag),
        create_timing_cache=lambda data: SimpleNamespace(data=data),
        set_timing_cache=set_timing_cache,
        get_timing_cache=lambda: cache,
    )

    def create_network(flags):
        call.flags = flags
        return network

    def builder(log):
        if not gpu:
            log.log("ERROR", "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

        def serialize(_network, given):
            call.monitor = given.progress_monitor
            assert call.monitor.step_complete("phase", 0) is True
            log.log("INFO", "Total Activation Memory: 4096 bytes")
            if refuse == "build":
                log.log("ERROR", "no implementation for node X")
                return None
            return memoryview(PLAN)

        return Strict(
            names["Builder"],
            create_network=create_network,
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: shape_range,
            build_serialized_network=serialize,
        )

    def parser(_network, log):
        error = Strict(names["ParserError"], desc=lambda: "no op Foo")
        return Strict(
            names["OnnxParser"],
            parse_from_file=lambda _: refuse != "parse",
            num_errors=1,
            get_error=lambda _: error,
        )

    module = Strict(
        ["__version__", *names["module"]],
        __version__=recorded["version"],
        ILogger=Logger,
        IProgressMonitor=Monitor,
        Builder=builder,
        OnnxParser=parser,
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        HardwareCompatibilityLevel=SimpleNamespace(
            AMPERE_PLUS="ampere", SAME_COMPUTE_CAPABILITY="same"
        ),
        BuilderFlag=SimpleNamespace(VERSION_COMPATIBLE="version"),
        NetworkDefinitionCreationFlag=Strict(recorded["flags"], **recorded["flags"]),
    )
    return module, call


@pytest.mark.parametrize("release", RECORDED)
def test_the_builder_uses_only_names_that_the_release_has(release):
    trt, call = fake_tensorrt(release)
    built = build(trt, Path("m.onnx"), Engine(), [find_arch("sm86")])
    assert built.plan == PLAN
    assert built.activation_bytes == 4096
    assert call.flags == 1 << RECORDED[release]["flags"]["STRONGLY_TYPED"]
    assert (call.name, call.shapes) == (
        "input",
        ((1, 3, 32, 32), (32, 3, 32, 768), (64, 3, 32, 1792)),
    )
    assert built.inputs[0].shape == ("batch", 3, 32, "width")


@pytest.mark.parametrize("release", RECORDED)
def test_settings_of_classic_tensorrt(release, tmp_path, heard):
    """Names are recorded; what the calls take is NVIDIA's API reference, unseen in action."""
    trt, call = fake_tensorrt(release, refuse="timings")
    (tmp_path / "timings").write_bytes(b"old")
    settings = Settings(tmp_path / "timings", "ampere+", True, 1.5)
    settings.require_classic("tensorrt")
    build(trt, Path("m.onnx"), Engine(), [find_arch("sm86")], heard, settings)
    config = trt.Builder(None).create_builder_config()
    assert call.pool == ("workspace", 3 * 2**29)
    assert (config.hardware_compatibility_level, call.flag) == ("ampere", "version")
    assert (tmp_path / "timings").read_bytes() == b"timings"
    assert "of another GPU or release" in heard.warnings[0]


def test_several_ranges_of_classic_tensorrt():
    trt, call = fake_tensorrt("11.4")
    bands = (
        ShapeRange(max_width=768),
        ShapeRange(min_width=772, opt_width=1024, opt_batch=4, max_batch=16),
    )
    build(trt, Path("m.onnx"), Engine(bands=bands), [find_arch("sm86")])
    assert call.shapes == ((1, 3, 32, 772), (4, 3, 32, 1024), (16, 3, 32, 1792))


REFUSALS = [
    ("parse", "no op Foo"),
    ("shapes", "rejects the shapes"),
    ("build", "no implementation"),
]


@pytest.mark.parametrize(("refuse", "said"), REFUSALS)
def test_what_tensorrt_refuses_is_said(refuse, said):
    trt, _ = fake_tensorrt("11.4", refuse=refuse)
    with pytest.raises(ArtifactError, match=said):
        build(trt, Path("m.onnx"), Engine(), [find_arch("sm86")])


def test_no_gpu_is_said_as_such():
    trt, _ = fake_tensorrt("10.16", gpu=False)
    with pytest.raises(
        MissingBackendError,
        match=r"TensorRT 10\.16\.1\.11 finds no usable NVIDIA GPU: CUDA initialization",
    ):
        build(trt, Path("m.onnx"), Engine(), [find_arch("sm86")])


def test_the_fake_is_strict():
    """Names that TensorRT 11 took away are not there: a builder that used them would fail these
    tests.
    """
    trt, _ = fake_tensorrt("11.4")
    with pytest.raises(AttributeError, match="TensorRT has no EXPLICIT_BATCH"):
        _ = trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH
    config = trt.Builder(None).create_builder_config()
    with pytest.raises(AttributeError, match="TensorRT has no int8_calibrator"):
        config.int8_calibrator = None
    assert not hasattr(config, "set_compute_capability")


def test_sm120_needs_a_recent_release():
    trt, _ = fake_tensorrt("10.3")
    require_release(trt, "tensorrt", find_arch("sm86"))
    with pytest.raises(
        MissingBackendError, match=r"does not support sm120 .*10\.8 or newer"
    ):
        require_release(trt, "tensorrt", find_arch("sm120"))
