import json
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from nordocr_cli.artifact.contract import METADATA_KEY, Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.sealing import JSON_DIGEST
from nordocr_cli.charset import ALPHANUMERIC, NORDIC
from nordocr_cli.errors import ArtifactError, DataError, OldArtifactWarning, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.models.registry import build_model
from nordocr_cli.models.weights import load_model, load_weights, save_weights
from nordocr_cli.settings import SvtrV2NanoModel

MODEL = SvtrV2NanoModel(name="svtrv2-nano")
CONTRACT = Contract(
    NORDIC, Geometry(), MODEL.model_dump(mode="json"), trained_widths=(8, 640)
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(4)
    return build_model(MODEL, 126).eval()


@pytest.fixture
def state(network):
    return dict(network.state_dict())


def test_round_trip_is_exact(network, state, tmp_path):
    save_weights(tmp_path / "a.safetensors", state, CONTRACT)
    loaded, contract = load_model(tmp_path / "a.safetensors")
    assert contract == CONTRACT == read_contract(tmp_path / "a.safetensors")
    assert not loaded.training
    assert all(
        torch.equal(loaded.state_dict()[key], tensor) for key, tensor in state.items()
    )
    assert all(p.requires_grad for p in loaded.parameters())


def test_half_precision_file_is_small_and_loads_as_fp32(network, state, tmp_path):
    save_weights(tmp_path / "a.safetensors", state, replace(CONTRACT, precision="fp16"))
    assert (tmp_path / "a.safetensors").stat().st_size < 6_000_000
    loaded, contract = load_model(tmp_path / "a.safetensors")
    assert contract.precision == "fp16"
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.norm.weight, state["norm.weight"])
    image = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.allclose(loaded(image), network(image), atol=2e-3)


def test_a_run_folder_means_its_best(state, tmp_path):
    save_weights(tmp_path / "run" / "best.safetensors", state, CONTRACT)
    assert load_weights(tmp_path / "run")[1] == CONTRACT


def test_loading_draws_no_random_numbers(state, tmp_path):
    save_weights(tmp_path / "a.safetensors", state, CONTRACT)
    before = torch.get_rng_state()
    load_model(tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_channels_last_tensors_are_stored(state, tmp_path):
    state["stem1.0.weight"] = state["stem1.0.weight"].contiguous(
        memory_format=torch.channels_last
    )
    save_weights(tmp_path / "a.safetensors", state, CONTRACT)
    assert torch.equal(
        load_weights(tmp_path / "a.safetensors")[0]["stem1.0.weight"],
        state["stem1.0.weight"],
    )


def spoil(state, key, value):
    state[key] = state[key].clone()
    state[key].view(-1)[0] = value


@pytest.mark.parametrize(
    ("value", "precision"), [(float("nan"), "fp32"), (float("inf"), "fp32"), (1e6, "fp16")]
)
def test_weights_that_are_not_finite_are_not_written(state, tmp_path, value, precision):
    spoil(state, "classifier.weight", value)
    with pytest.raises(ArtifactError, match=r"classifier\.weight"):
        save_weights(
            tmp_path / "a.safetensors", state, replace(CONTRACT, precision=precision)
        )
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_are_not_loaded(state, tmp_path):
    spoil(state, "norm.bias", float("nan"))
    save_file(
        {k: t.contiguous() for k, t in state.items()},
        tmp_path / "a.safetensors",
        metadata=older_metadata(),
    )
    with pytest.raises(ArtifactError, match=r"norm\.bias holds NaN"):
        load_weights(tmp_path / "a.safetensors")


def test_other_keys_are_named(state, tmp_path):
    tensor = state.pop("norm.weight")
    save_weights(
        tmp_path / "a.safetensors", {**state, "encoder.norm.weight": tensor}, CONTRACT
    )
    with pytest.raises(
        ArtifactError, match=r"1 missing: norm\.weight; 1 unknown: encoder\.norm\.weight"
    ):
        load_model(tmp_path / "a.safetensors")


def test_another_charset_is_named(state, tmp_path):
    save_weights(tmp_path / "a.safetensors", state, replace(CONTRACT, charset=ALPHANUMERIC))
    with pytest.raises(
        ArtifactError,
        match=r"another charset: classifier\.weight \(126, 192\), not \(63, 192\)",
    ):
        load_model(tmp_path / "a.safetensors")


def test_other_dims_are_named(state, tmp_path):
    save_weights(
        tmp_path / "a.safetensors",
        state,
        replace(CONTRACT, model={**CONTRACT.model, "dims": [48, 96, 224]}),
    )
    with pytest.raises(ArtifactError, match="other model options"):
        load_model(tmp_path / "a.safetensors")


def test_a_small_file_that_names_a_very_large_network_is_refused_before_it_is_built(
    state, tmp_path, monkeypatch
):
    model = {**CONTRACT.model, "dims": [8184, 8184, 8192], "depths": [100, 100, 100]}
    save_weights(tmp_path / "a.safetensors", state, replace(CONTRACT, model=model))
    largest = 0

    def filled(tensor, *_, **__):
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    for name in ("kaiming_uniform_", "trunc_normal_", "uniform_", "ones_", "zeros_"):
        monkeypatch.setattr(torch.nn.init, name, filled)
    with pytest.raises(ArtifactError, match="numbers, but names a network of more than"):
        load_model(tmp_path / "a.safetensors")
    assert largest < 20_000_000


@pytest.mark.parametrize(
    "model", [{"name": "svtrv9"}, {"name": "svtrv2-nano", "dims": [1, 2, 3]}, {}]
)
def test_a_model_from_another_time_is_named(state, tmp_path, model):
    save_weights(tmp_path / "a.safetensors", state, replace(CONTRACT, model=model))
    with pytest.raises(ArtifactError, match="cannot build its model"):
        load_model(tmp_path / "a.safetensors")


def test_a_foreign_file_has_no_contract(state, tmp_path):
    save_file({k: t.contiguous() for k, t in state.items()}, tmp_path / "a.safetensors")
    with pytest.raises(ArtifactError, match="carries no nordocr contract"):
        load_weights(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ({"__metadata__": {METADATA_KEY: 1979}}, "metadata that is no text"),
        ({"__metadata__": ["x"]}, "not a readable weights file"),
        (
            {
                f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
                for number in range(60_000)
            },
            "more than 50,000 tensors",
        ),
    ],
)
def test_a_header_that_no_writer_makes_is_refused(tmp_path, header, problem):
    path = tmp_path / "a.safetensors"
    content = json.dumps(header).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content)
    for read in (load_weights, read_contract):
        with pytest.raises(ArtifactError, match=problem):
            read(path)


def older_metadata():
    """The metadata of a file of contract schema 1, which had no digest over the contract."""
    contract = {**CONTRACT.to_json(), "schema": 1}
    del contract[JSON_DIGEST]
    return {METADATA_KEY: json.dumps(contract)}


def test_flipped_bytes_are_refused_and_older_files_load(state, tmp_path):
    path = tmp_path / "a.safetensors"
    save_weights(path, state, CONTRACT)
    content = bytearray(path.read_bytes())
    save_weights(path, state, CONTRACT)
    assert path.read_bytes() == content  # the same weights, the same bytes
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.safetensors is damaged"):
        load_weights(path)
    tensors = {k: t.contiguous() for k, t in state.items()}
    save_file(tensors, path, metadata=CONTRACT.metadata_props())
    with pytest.raises(ArtifactError, match="has lost its digest"):
        load_weights(path)
    save_file(tensors, path, metadata=older_metadata())
    with pytest.warns(OldArtifactWarning, match="contract seal"):
        loaded, _ = load_weights(path)
    assert torch.equal(loaded["norm.weight"], state["norm.weight"])


def test_a_contract_of_other_weights_is_refused(state, tmp_path):
    """Its own digest is right, but not that of the file."""
    path = tmp_path / "a.safetensors"
    save_weights(path, state, CONTRACT)
    other = replace(CONTRACT, geometry=Geometry(max_width=640))
    with safe_open(path, framework="pt") as file:
        metadata = {**file.metadata(), **other.metadata_props()}
    save_file({k: t.contiguous() for k, t in state.items()}, path, metadata=metadata)
    with pytest.raises(ArtifactError, match="its tensors or its contract are not those"):
        load_weights(path)


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits on Windows")
def test_a_full_disk_is_an_error_that_keeps_the_old_file(state, tmp_path, small_files):
    path = tmp_path / "a.safetensors"
    save_weights(path, {"w": torch.zeros(1)}, CONTRACT)
    with small_files(), pytest.raises(DataError, match=r"cannot write .*a\.safetensors"):
        save_weights(path, state, CONTRACT)
    assert load_weights(path)[0].keys() == {"w"}
    assert list(tmp_path.iterdir()) == [path]


def test_damage_and_absence(state, tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(UsageError, match=r"a\.safetensors"):
        load_weights(path)
    save_weights(path, state, CONTRACT)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="not a readable weights file"):
        load_weights(path)
    path.write_bytes(b"PK\x03\x04 not weights")
    with pytest.raises(ArtifactError, match="not a readable weights file"):
        load_weights(path)
    with pytest.raises(ArtifactError, match="bf16"):
        save_weights(path, state, replace(CONTRACT, precision="bf16"))
