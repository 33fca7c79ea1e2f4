"""Provenance: a contract survives its artifact, and a mismatch is refused by name."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nordocr_cli.artifact.contract import (
    Contract,
    contract_from_json,
    contract_from_metadata,
)
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.sealing import (
    JSON_DIGEST,
    read_sealed_json,
    sealed_json,
    write_sealed_json,
)
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.charset import NORDIC, NORDIC_EXT
from nordocr_cli.errors import ArtifactError, OldArtifactWarning, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.runtime.runners import open_runner

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
        ArtifactError,
        match=r"charset mismatch: class 126: nordic-ext has 'Á'.* and 42 more",
    ):
        replace(CONTRACT, charset=NORDIC_EXT).require_readable_by(CONTRACT, "m")
    with pytest.raises(ArtifactError, match=r"geometry\.pad_value: 0 / 255"):
        replace(CONTRACT, geometry=Geometry(pad_value=0)).require_readable_by(CONTRACT, "m")


def test_another_max_width_is_no_mismatch():
    replace(CONTRACT, geometry=Geometry(max_width=768)).require_readable_by(CONTRACT, "m")


def leaves(value, path=()):
    """Yield the path of each value in nested JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list) and item:
            yield from leaves(item, (*path, key))
        else:
            yield (*path, key)


def changed(value, path):
    """A copy of nested JSON with another value at `path`."""
    copy = json.loads(json.dumps(value))
    *parents, last = path
    place = copy
    for key in parents:
        place = place[key]
    old = place[last]
    place[last] = old + 1 if isinstance(old, int | float) else f"{old}x"
    return copy


def test_every_changed_value_is_refused():
    value = CONTRACT.to_json()
    paths = list(leaves(value))
    assert len(paths) > 20
    for path in paths:
        with pytest.raises(ArtifactError):
            contract_from_json(changed(value, path), "m")


def test_a_contract_of_the_current_schema_needs_its_digest():
    value = CONTRACT.to_json()
    del value[JSON_DIGEST]
    with pytest.raises(ArtifactError, match="has lost its digest"):
        contract_from_json(value, "m")
    with pytest.warns(OldArtifactWarning, match="m was written by an older nordocr"):
        assert contract_from_json({**value, "schema": 1}, "m") == CONTRACT


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda v: v.update(schema=99), "schema 99"),
        (lambda v: v.update(schema=True), "schema True"),
        (lambda v: v["charset"].update(characters=NORDIC.characters[::-1]), "own hash"),
        (lambda v: v.pop("geometry"), "damaged contract"),
        (lambda v: v["geometry"].update(height=-1), "damaged contract"),
        (lambda v: v["geometry"].update(height=32.5), "damaged contract"),
        (lambda v: v["geometry"].update(height=10**9), "damaged contract"),
        (lambda v: v["geometry"].update(colour="red"), "damaged contract"),
        (lambda v: v.update(output_activation="tanh"), "tanh"),
        (lambda v: v.update(trained_widths=[1]), "damaged contract"),
        (lambda v: v.update(trained_widths=[9, 8]), "damaged contract"),
        (lambda v: v.update(model={"name": "parseq"}), "damaged contract"),
        (lambda v: v.update(parent_sha256=7), "damaged contract"),
        (lambda v: v.update(temperature=0), "temperature"),
    ],
)
def test_values_that_make_no_sense_are_refused_whatever_the_digest_says(damage, words):
    value = json.loads(json.dumps(CONTRACT.to_json()))
    damage(value)
    with pytest.raises(ArtifactError, match=words):
        contract_from_json(sealed_json(value), "m")


def test_one_flipped_bit_in_a_sidecar_is_refused(tmp_path):
    path = tmp_path / "m.engine.json"
    write_sealed_json(
        path, {"schema": 2, "ranges": {"max": 64}, "contract": CONTRACT.to_json()}
    )
    original = path.read_bytes()
    value = json.loads(original)
    changed_bytes = bytearray(original)
    for position in range(0, len(original), 7):
        changed_bytes[:] = original
        changed_bytes[position] ^= 1
        path.write_bytes(changed_bytes)
        try:
            found = read_sealed_json(path, "sidecar", 2)
        except ArtifactError:
            continue
        assert found == value  # white space, or an escape of the same character


def test_an_empty_onnx_file_is_called_empty(tmp_path):
    empty = tmp_path / "empty.onnx"
    empty.touch()

    with pytest.raises(ArtifactError, match="empty file"):
        open_runner(empty)


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
    with pytest.raises(
        UsageError, match=r"nordocr-default-xyz.*nordocr-default\.safetensors"
    ):
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
