import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from nordocr_cli.charset import NORDIC
from nordocr_cli.core.export.plan import ExportOptions, plan_export
from nordocr_cli.core.export.run import export
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.deploy.golden import (
    INDEX,
    check_golden,
    golden_crops,
    golden_path,
    write_golden,
)
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import LineRow
from nordocr_cli.runtime.runners import open_runner

IMAGES = Path(__file__).parents[2] / "samples" / "lines" / "images"


def write(onnx, crops, folder):
    return write_golden(onnx, open_runner(onnx, device="cpu").run, crops, folder)


@pytest.fixture(scope="module")
def golden(tiny_onnx, tmp_path_factory):
    return write(
        tiny_onnx, golden_crops(8), tmp_path_factory.mktemp("golden") / "m.golden"
    ).folder


def load(folder):
    return json.loads((folder / INDEX).read_text(encoding="utf-8"))


def tensor(folder, entry):
    return np.fromfile(folder / entry["file"], dtype="<f4").reshape(entry["shape"])


def test_every_step_lies_there_for_a_host_that_knows_only_the_index(golden):
    """What a Rust host does, written with the index alone: normalize, frames, collapse."""
    index = load(golden)
    characters, scale = index["decode"]["characters"], index["normalize"]["scale"][0]
    assert len(index["cases"]) == 9
    assert any(line["text"] for case in index["cases"] for line in case["lines"])
    for case in index["cases"]:
        pixels, logits = tensor(golden, case["input"]), tensor(golden, case["logits"])
        assert pixels.shape[:3] == (len(case["lines"]), 3, 32)
        assert logits.shape == (len(case["lines"]), pixels.shape[3] // 4, 126)
        for line, image, scores in zip(case["lines"], pixels, logits, strict=True):
            assert (image[:, :, line["line_width"] :] == 1.0).all()  # white padding
            levels = image * scale + scale
            assert np.allclose(levels, levels.round(), atol=1e-3)
            best = scores[: line["line_width"] // 4].argmax(-1)
            classes = [
                c
                for before, c in zip([0, *best[:-1]], best, strict=True)
                if c not in (before, 0)
            ]
            assert "".join(characters[c - 1] for c in classes) == line["text"]
            assert len(line["spans"]) == len(line["char_confidences"]) == len(line["text"])


def test_drawn_crops_try_every_rule_of_the_geometry(golden):
    lines = [case["lines"][0] for case in load(golden)["cases"][:-1]]
    assert (lines[0]["crop_width"], lines[0]["line_width"]) == (3, 4)
    assert lines[1]["line_width"] == 1792
    assert lines[1]["crop_width"] * 32 / lines[1]["crop_height"] > 1792
    assert {line["crop_height"] < 32 for line in lines} == {True, False}
    batch = load(golden)["cases"][-1]
    assert len({line["line_width"] for line in batch["lines"]}) == 4


def test_lines_of_a_store_and_of_a_folder(tiny_onnx, tmp_path):
    geometry = Geometry(max_width=1792)
    with LineStoreWriter(tmp_path / "s.lmdb", geometry, NORDIC) as writer:
        for number, width in enumerate((64, 8, 32)):
            writer.add(
                np.full((32, width, 3), 200, np.uint8), LineRow(f"l{number}", "", "a")
            )
    assert [
        (name, crop.shape[1]) for name, crop in golden_crops(2, tmp_path / "s.lmdb")
    ] == [
        ("l1", 8),
        ("l0", 64),
    ]
    names = [name for name, _ in golden_crops(3, IMAGES)]
    assert len(set(names)) == 3
    folder = write(tiny_onnx, golden_crops(2, IMAGES), tmp_path / "g").folder
    assert [case["lines"][0]["id"] for case in load(folder)["cases"][:-1]] == [
        name for name, _ in golden_crops(2, IMAGES)
    ]
    for wrong, said in (
        (tmp_path / "none", "no line store and no folder"),
        (tmp_path / "s.lmdb" / "..", "holds no images"),
    ):
        with pytest.raises(UsageError, match=said):
            golden_crops(2, wrong)


def test_a_changed_byte_is_found_in_its_step(golden, tiny_onnx, tmp_path):
    for file, said in (
        ("002.png", "preprocessing the crops"),
        ("003.input.bin", "preprocessing the crops"),
        ("003.logits.bin", "does not give the logits"),
    ):
        folder = tmp_path / file
        shutil.copytree(golden, folder)
        source = "004.png" if file.endswith("png") else None
        content = bytearray((folder / (source or file)).read_bytes())
        if source is None:
            content[2] ^= 0x40
        (folder / file).write_bytes(bytes(content))
        with pytest.raises(ArtifactError, match=rf"case {file[:3]}: .*{said}"):
            check_golden(folder, tiny_onnx)
    (folder / "001.png").unlink()
    with pytest.raises(ArtifactError, match=r"is damaged .*001\.png"):
        check_golden(folder, tiny_onnx)
    with pytest.raises(ArtifactError, match="another sha256"):
        check_golden(golden, tiny_onnx.with_name("model.fp16.onnx"))


def test_a_text_that_was_not_read_is_found(golden, tiny_onnx, tmp_path):
    folder = tmp_path / "g"
    shutil.copytree(golden, folder)
    index = load(folder)
    index["cases"][-1]["lines"][1]["text"] += "x"
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ArtifactError, match="case batch: decoding the logits"):
        check_golden(folder, tiny_onnx)


def test_export_writes_them_beside_the_model(tiny_checkpoint, tmp_path):
    plan = plan_export(
        tiny_checkpoint,
        tmp_path / "m.onnx",
        ExportOptions(precision="fp16", max_width=128, golden=3, golden_lines=IMAGES),
    )
    result = export(plan)
    assert result.golden.folder == golden_path(tmp_path / "m.onnx") == tmp_path / "m.golden"
    assert result.to_json()["golden"]["lines"] == 3
    assert (
        check_golden(tmp_path / "m.golden", tmp_path / "m.onnx") == result.golden.characters
    )
    with pytest.raises(UsageError, match="--golden N requests them"):
        plan_export(tiny_checkpoint, options=ExportOptions(golden_lines=IMAGES))


def test_another_folder_of_that_name_is_left_alone(tiny_onnx, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not a folder of golden lines"):
        write(tiny_onnx, golden_crops(1), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()
