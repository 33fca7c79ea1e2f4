import json
import struct
from pathlib import Path

import pytest

from nordocr_cli.errors import ArtifactError
from nordocr_cli.profile import load_profile
from nordocr_cli.runtime.backends.tensorrt.engine_file import (
    check_header,
    default_engine_path,
    parse_header,
    read_sidecar,
    sidecar_path,
)
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import find_arch

SM86, SM120 = find_arch("sm86"), find_arch("sm120")


def rtx_engine(size=128, mask=4 | 16, layout=2):
    header = struct.pack("<4s4xQQ4B4xI", b"vtrt", layout, size, 1, 7, 1, 116, mask)
    return header.ljust(size, b"\0")


@pytest.fixture
def engine(tmp_path):
    def write(content):
        path = tmp_path / "m.engine"
        path.write_bytes(content)
        return path

    return write


def test_rtx_header(engine):
    header = parse_header(rtx_engine(), "m.engine")
    assert (header.version, header.size_bytes, header.arches) == (
        "1.7.1.116",
        128,
        ("sm86", "sm120"),
    )
    check_header(engine(rtx_engine()), "m.engine", "tensorrt-rtx", "1.7.1.116", SM120)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (rtx_engine()[:-1], "cut or padded: 127 bytes, 128 by its header"),
        (rtx_engine() + b"\0", "cut or padded"),
        (rtx_engine(mask=4), "built for sm86, not for sm120"),
        (rtx_engine().replace(b"vtrt", b"ftrt"), "is of tensorrt 1.7.1.116"),
        (rtx_engine()[:40], "not a TensorRT engine"),
        (b"", "not a TensorRT engine"),
        (b"\x08\x07" + bytes(100), "not a TensorRT engine"),
    ],
)
def test_a_wrong_engine_is_refused(engine, content, said):
    with pytest.raises(ArtifactError, match=said):
        check_header(engine(content), "m.engine", "tensorrt-rtx", "1.7.1.116", SM120)


def test_another_release_is_refused(engine):
    with pytest.raises(ArtifactError, match=r"not of tensorrt-rtx 1\.8\.0\.1"):
        check_header(engine(rtx_engine()), "m.engine", "tensorrt-rtx", "1.8.0.1", SM86)


def test_an_unknown_layout_is_not_guessed_at(engine):
    header = check_header(
        engine(rtx_engine(layout=3) + b"more"),
        "m.engine",
        "tensorrt-rtx",
        "1.7.1.116",
        SM86,
    )
    assert (header.size_bytes, header.arches) == (None, None)


def test_classic_header_tells_only_the_version():
    header = parse_header(
        b"ftrt" + bytes(20) + bytes([10, 16, 1, 11]) + bytes(36), "m.engine"
    )
    assert (header.backend, header.version, header.size_bytes) == (
        "tensorrt",
        "10.16.1.11",
        None,
    )


@pytest.mark.parametrize(
    ("onnx", "backend", "expected"),
    [
        ("a/recognize_svtrv2_1024.onnx", "tensorrt", "a/recognize_svtrv2_1024_sm86.engine"),
        ("a/model.fp16.onnx", "tensorrt-rtx", "a/model_sm86.rtx.engine"),
        (
            "models/svtrv2-1024/recognize_svtrv2.onnx",
            "tensorrt",
            "models/recognize_svtrv2_1024_sm86.engine",
        ),
    ],
)
def test_names(onnx, backend, expected):
    profile = load_profile("svtrv2-1024").profile
    assert default_engine_path(Path(onnx), profile, SM86.name, backend) == Path(expected)


def test_a_sidecar_belongs_to_its_bytes(engine):
    path = engine(rtx_engine())
    with pytest.raises(ArtifactError, match=r"no sidecar m\.engine\.json"):
        read_sidecar(path)
    sidecar_path(path).write_text(json.dumps({"schema": 1, "engine": {"sha256": "0" * 64}}))
    with pytest.raises(ArtifactError, match="another sha256"):
        read_sidecar(path)
    sidecar_path(path).write_text(json.dumps({"schema": 9, "engine": {"sha256": "0" * 64}}))
    with pytest.raises(ArtifactError, match="schema 9"):
        read_sidecar(path)
