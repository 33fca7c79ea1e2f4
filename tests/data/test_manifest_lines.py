import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nordocr_cli.data.manifest_lines import ManifestLines
from nordocr_cli.errors import DataError
from nordocr_cli.geometry import Geometry


@pytest.fixture
def manifest(tmp_path):
    Image.fromarray(np.full((64, 1000, 3), 7, np.uint8)).save(tmp_path / "wide.png")
    Image.fromarray(np.full((32, 40), 9, np.uint8)).save(tmp_path / "gray.png")
    rows = [
        {"image": "wide.png", "text": "Øre", "kind": "x"},
        {"image": "gray.png", "text": "1 234"},
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_with_a_geometry_the_crops_come_as_a_store_would_give_them(manifest):
    with ManifestLines(manifest, Geometry(max_width=400)) as lines:
        assert (len(lines), lines.widths.tolist()) == (2, [400, 40])
        assert [lines.image(i).shape for i in range(2)] == [(32, 400, 3), (32, 40, 3)]
        assert [dict(lines.row(i).extra) for i in range(2)] == [
            {"kind": "x", "squash_ratio": 1.25},
            {},
        ]
        assert lines.identity()["geometry"]["max_width"] == 400


def test_without_one_they_are_what_they_are(manifest):
    lines = ManifestLines(manifest)
    assert [lines.image(i).shape for i in range(2)] == [(64, 1000, 3), (32, 40, 3)]
    assert lines.widths.tolist() == [500, 40]
    assert lines.identity()["geometry"] is None


def test_a_row_or_an_image_that_cannot_be_used_is_named(manifest):
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("gray.png", "../gray.png"), encoding="utf-8")
    with pytest.raises(DataError, match=r"'\.\./gray\.png' leaves the manifest's folder"):
        ManifestLines(manifest)
    manifest.write_text(text.replace("gray.png", "none.png"), encoding="utf-8")
    with pytest.raises(DataError, match=r"none\.png: no such image file"):
        ManifestLines(manifest)
    manifest.write_text(text + "{}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"m\.jsonl:3: no 'image'"):
        ManifestLines(manifest)


def test_a_named_source_is_a_corpus(tmp_path):
    Image.fromarray(np.zeros((20, 60), np.uint8)).save(tmp_path / "a.png")
    row = {"image": "a.png", "text": "x", "lang": "swe", "customer": "A"}
    (tmp_path / "labels.jsonl").write_text(json.dumps(row), encoding="utf-8")

    labels = tmp_path / "labels.jsonl"

    for given in (f"own={labels}", f"own={labels}:{tmp_path}"):
        with ManifestLines(Path(given)) as lines:
            found = lines.row(0)

        assert (found.subset, found.language) == ("own", "sv")
        assert found.extra == {"corpus": "own", "customer": "A"}
