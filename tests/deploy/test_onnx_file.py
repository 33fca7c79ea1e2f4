import json

import numpy as np
import onnx
import pytest

from nordocr_cli.artifact.contract import METADATA_KEY
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.deploy.onnx_file import default_onnx_path, fp16_sibling, inspect_onnx
from nordocr_cli.errors import ArtifactError
from nordocr_cli.profile import load_profile
from nordocr_cli.runtime.runners import open_runner


def test_a_sound_file(tiny_onnx):
    file = inspect_onnx(tiny_onnx)
    assert (file.opset, file.precision, file.contract.charset.name) == (
        17,
        "fp32",
        "nordic",
    )
    assert inspect_onnx(fp16_sibling(tiny_onnx)).precision == "fp16"
    assert not list(tiny_onnx.parent.glob("*.data"))


def test_default_path_is_the_guides():
    assert (
        str(default_onnx_path(load_profile("svtrv2-1024").profile))
        == "models/svtrv2-1024/recognize_svtrv2.onnx"
    )


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(64), b"not a model at all"]
)
def test_not_onnx(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.onnx is not a"):
        inspect_onnx(path)


def test_truncated(tmp_path, tiny_onnx):
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_onnx.read_bytes()[:-5000])
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        inspect_onnx(path)


def _nan(model):
    tensor = next(
        t
        for t in model.graph.initializer
        if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1
    )
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] = np.nan
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def _input_dim(axis, **value):
    def change(model):
        dimension = model.graph.input[0].type.tensor_type.shape.dim[axis]
        dimension.Clear()
        for key, size in value.items():
            setattr(dimension, key, size)

    return change


def _without_contract(model):
    del model.metadata_props[:]


def _contract_of_fp16(model):
    prop = next(p for p in model.metadata_props if p.key == METADATA_KEY)
    prop.value = json.dumps({**json.loads(prop.value), "precision": "fp16"})


def _renamed(model):
    model.graph.input[0].name = "image"


def _opset(model):
    model.opset_import[0].version = 99


def _half_input(model):
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16


def _broken_edge(model):
    model.graph.node[-1].input[0] = "nowhere"


def _loop(model):
    model.graph.node.append(onnx.helper.make_node("If", ["condition"], ["unused"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_nan, "NaN"),
        (_input_dim(0, dim_value=1), r"\[1 x 3 x 32 x width\]"),
        (_input_dim(3, dim_value=1024), r"\[batch x 3 x 32 x 1024\]"),
        (_input_dim(1, dim_value=1), r"\[batch x 1 x 32 x width\]"),
        (_input_dim(2, dim_value=48), r"it must be \[batch x 3 x 32 x width\]"),
        (_input_dim(3, dim_param="batch"), "batch x 3 x 32 x batch"),
        (_renamed, "inputs .'image'."),
        (_opset, "opset 99"),
        (_half_input, "input is FLOAT16, in its contract float32"),
        (_loop, "has If nodes"),
        (_without_contract, "no nordocr contract"),
        (_broken_edge, "fails ONNX's check"),
        (_contract_of_fp16, "the precision in its contract is fp16, its weights are fp32"),
    ],
)
def test_what_tensorrt_would_not_notice(tmp_path, tiny_onnx, unsealed, change, said):
    model = unsealed(tiny_onnx)
    change(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=said):
        inspect_onnx(path)


@pytest.mark.parametrize("where", [0.01, 0.5, 0.99])
def test_a_changed_byte_is_refused(tmp_path, tiny_onnx, where):
    """Wherever it is: in a weight it would only be read worse."""
    path = tmp_path / "model.onnx"
    content = bytearray(tiny_onnx.read_bytes())
    content[int(where * len(content))] ^= 1
    path.write_bytes(content)
    for opened in (inspect_onnx, read_contract, open_runner):
        with pytest.raises(
            ArtifactError,
            match=r"model\.onnx is damaged: its bytes are not those that export wrote",
        ):
            opened(path)


def test_external_data(tmp_path, tiny_onnx, unsealed):
    path = tmp_path / "model.onnx"
    onnx.save(
        unsealed(tiny_onnx),
        path,
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    assert inspect_onnx(path).precision == "fp32"
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(ArtifactError, match="external data is missing"):
        inspect_onnx(path)
