"""Sealing: an older model gets its digests, and nothing else changes."""

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from nordocr_cli.artifact.contract import METADATA_KEY
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.sealing import JSON_DIGEST, WEIGHTS_DIGEST
from nordocr_cli.artifact.shipped import SHIPPED
from nordocr_cli.atomic import sha256_of
from nordocr_cli.core.contract import compare_contracts
from nordocr_cli.core.seal import seal
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.models.weights import load_weights
from nordocr_cli.runtime.runners import open_runner


def make_older(weights):
    """Rewrite weights as a nordocr of contract schema 1 wrote them."""
    with safe_open(weights, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    contract = json.loads(metadata[METADATA_KEY]) | {"schema": 1}
    del contract[JSON_DIGEST], metadata[WEIGHTS_DIGEST]
    save_file(tensors, weights, metadata={METADATA_KEY: json.dumps(contract)})


@pytest.fixture
def older(tiny_checkpoint, tiny_onnx, unsealed, tmp_path):
    """Weights and the ONNX that was exported from them, both of contract schema 1."""
    weights, model = tmp_path / "a.safetensors", tmp_path / "a.onnx"
    shutil.copy(tiny_checkpoint, weights)
    make_older(weights)
    graph = unsealed(tiny_onnx)
    for entry in graph.metadata_props:
        if entry.key == METADATA_KEY:
            contract = json.loads(entry.value) | {"parent_sha256": sha256_of(weights)}
            entry.value = json.dumps(contract)
    onnx.save(graph, model)
    return weights, model


def test_values_stay_and_parents_are_recognized(older, tiny_onnx):
    weights, model = older
    state, contract = load_weights(weights)
    images = np.full((1, 3, 32, 64), 200, np.uint8)
    before = open_runner(model, threads=1).run(images, np.array([64]))

    sealed = seal([model, weights])

    assert [file.path for file in sealed] == [weights, model]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new_state, new_contract = load_weights(weights)
        after = open_runner(model, threads=1).run(images, np.array([64]))
    assert all(torch.equal(state[key], new_state[key]) for key in state)
    assert replace(new_contract, parent_sha256=None) == replace(
        contract, parent_sha256=None
    )
    assert np.array_equal(before, after)
    assert compare_contracts(weights, model).lineage == "a.onnx was made from a.safetensors"


def test_a_damaged_file_is_not_sealed(tiny_checkpoint, tmp_path):
    path = tmp_path / "a.safetensors"
    content = bytearray(tiny_checkpoint.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="is damaged"):
        seal([path])
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_only_models_are_sealed(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(UsageError, match="files are sealed"):
        seal([tmp_path / "a.txt"])


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.glob("*.[so]*")))
def test_the_recognizers_that_ship_are_sealed(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_contract(SHIPPED / name)
