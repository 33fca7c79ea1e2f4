"""Recognizers by name: what ships, and what `models get` adds from files and parts."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.artifact.shipped import SHIPPED, find_weights
from nordocr_cli.core.model_files import add_model, find_model, named_models
from nordocr_cli.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NORDOCR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def test_what_ships_is_listed_with_its_forms():
    model = find_model("nordocr-default")
    assert model.ships
    assert {path.suffix for path in model.files} == {".safetensors", ".onnx"}
    done = CliRunner().invoke(app, ["models", "show", "nordocr-default", "--json"])
    facts = json.loads(done.stdout)
    weights = SHIPPED / "nordocr-default.safetensors"
    assert facts["sha256"][weights.name] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert facts["classes"] == 126


def test_a_file_is_added_and_found_by_name(tmp_path, cache, monkeypatch):
    shutil.copy(SHIPPED / "nordocr-default.safetensors", tmp_path / "ours-2.safetensors")
    assert add_model([tmp_path / "ours-2.safetensors"]) == [cache / "ours-2.safetensors"]
    monkeypatch.chdir(tmp_path / "cache")
    assert find_weights(Path("ours-2")).parent == cache
    assert [model.name for model in named_models() if not model.ships] == ["ours-2"]


def parts(folder, content, name="big.onnx"):
    folder.mkdir()
    for number, start in enumerate(range(0, len(content), 100)):
        (folder / f"{name}.part-{number:02d}").write_bytes(content[start : start + 100])
    digest = hashlib.sha256(content).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  {name}\n", encoding="utf-8")
    return folder


def test_the_parts_of_a_release_are_joined_and_checked(tmp_path, cache):
    content = bytes(range(256)) * 2
    (added,) = add_model([parts(tmp_path / "release", content)])
    assert added.read_bytes() == content


def test_a_missing_part_or_checksum_is_named_and_nothing_is_left(tmp_path, cache):
    folder = parts(tmp_path / "release", bytes(range(256)) * 2)
    (folder / "big.onnx.part-01").unlink()
    with pytest.raises(DataError, match="missing or damaged"):
        add_model([folder])
    assert not list(cache.glob("*.onnx"))
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(DataError, match="need a checksum"):
        add_model([folder])


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="no model file"):
        add_model([tmp_path])
    with pytest.raises(UsageError, match="did you mean 'nordocr-default'"):
        find_model("nordocr-defalt")
