"""Provenance: a contract survives its artifact, and a mismatch is refused by name."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nordocr_cli.artifact.contract import (
    Contract,
    contract_from_json,
    contract_from_metadata,
    find_weights,
    read_contract,
)
from nordocr_cli.charset import NORDIC, NORDIC_EXT
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.geometry import Geometry

CONTRACT = Contract(
    NORDIC,
    Geometry(),
    {"name": "svtrv2", "size": "base"},
    {"name": "x"},
    trained_widths=(8, 1024),
    parent_sha256="ab",
)


def test_round_trip_through_metadata():
    assert contract_from_metadata(CONTRACT.metadata_props(), "m.onnx") == CONTRACT


def test_another_charset_or_geometry_is_refused_by_name():
    with pytest.raises(
        ArtifactError, match=r"charset mismatch: class 126: nordic-ext has 'Á'.* and 42 more"
    ):
        replace(CONTRACT, charset=NORDIC_EXT).require_readable_by(CONTRACT, "m")
    with pytest.raises(ArtifactError, match=r"geometry\.pad_value: 0 / 255"):
        replace(CONTRACT, geometry=Geometry(pad_value=0)).require_readable_by(CONTRACT, "m")


def test_another_max_width_is_no_mismatch():
    replace(CONTRACT, geometry=Geometry(max_width=768)).require_readable_by(CONTRACT, "m")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda v: v.update(schema=99), "schema 99"),
        (lambda v: v["charset"].update(characters=NORDIC.characters[::-1]), "own hash"),
        (lambda v: v.pop("geometry"), "damaged contract"),
        (lambda v: v["geometry"].update(height=-1), "damaged contract"),
        (lambda v: v["geometry"].update(colour="red"), "damaged contract"),
        (lambda v: v.update(output_activation="tanh"), "tanh"),
        (lambda v: v.update(trained_widths=[1]), "damaged contract"),
    ],
)
def test_damage_is_refused(damage, words):
    value = json.loads(json.dumps(CONTRACT.to_json()))
    damage(value)
    with pytest.raises(ArtifactError, match=words):
        contract_from_json(value, "m")


def test_files_without_a_contract(tmp_path):
    with pytest.raises(ArtifactError, match="carries no nordocr contract"):
        contract_from_metadata({}, "m.onnx")
    for name, content in (
        ("a.safetensors", b"\xff" * 40),
        ("a.onnx", b"\xff\xff\xff"),
        ("a.engine", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ArtifactError):
            read_contract(tmp_path / name)
    for content in ("[]", "7", '{"contract": []}', "{"):
        (tmp_path / "a.engine.json").write_text(content)
        with pytest.raises(ArtifactError, match=r"a\.engine"):
            read_contract(tmp_path / "a.engine")
    with pytest.raises(UsageError, match="expected weights"):
        read_contract(tmp_path / "a.pth")


def test_a_wrong_checkpoint_path_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no file or run folder"):
        find_weights(tmp_path / "absent")
    with pytest.raises(UsageError, match=r"no best\.safetensors"):
        find_weights(tmp_path)


@pytest.mark.parametrize("name", ["nordocr-default", "nordocr-default.safetensors"])
def test_a_recognizer_that_ships_is_found_by_its_name(name):
    assert read_contract(find_weights(Path(name))).charset.name == "nordic"


def test_an_unknown_recognizer_names_those_that_ship():
    with pytest.raises(UsageError, match=r"nordocr-default-xyz.*nordocr-default\.safetensors"):
        find_weights(Path("nordocr-default-xyz"))


def test_a_folder_at_hand_goes_before_a_recognizer_that_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nordocr-default").mkdir()
    Path("nordocr-default/best.safetensors").touch()
    assert find_weights(Path("nordocr-default")) == Path("nordocr-default/best.safetensors")


def test_a_misspelt_recognizer_is_told_the_nearest():
    with pytest.raises(
        UsageError, match=r"nordocr-defualt, .*ships; did you mean 'nordocr-default'"
    ):
        find_weights(Path("nordocr-defualt"))
