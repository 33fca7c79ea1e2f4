import json
import shutil
from pathlib import Path

import pytest

from nordocr_cli.compare.sources import read_layout
from nordocr_cli.core.predict import predict
from nordocr_cli.errors import DataError, UsageError

SAMPLES = Path(__file__).parents[2] / "samples"
TIFF, TRUTH = SAMPLES / "doc" / "dev_doc.tif", SAMPLES / "doc" / "dev_doc.json"
IMAGES = sorted((SAMPLES / "lines" / "images").iterdir())[:3]


def test_images_and_folders_are_read_in_order(tiny_onnx, tmp_path):
    for image in IMAGES:
        shutil.copy(image, tmp_path)
    (tmp_path / "notes.txt").write_text("not an image")
    one_by_one = predict(IMAGES, str(tiny_onnx), threads=1)
    folder = predict([tmp_path], str(tiny_onnx), threads=1)
    assert [line.path for line in one_by_one.lines] == IMAGES
    assert [line.reading for line in folder.lines] == [line.reading for line in one_by_one.lines]
    assert set(folder.to_json()[0]) == {"image", "text", "confidence", "char_confidences"}


def test_pages_come_in_the_consumers_shape(tiny_onnx, tmp_path):
    truth = json.loads(TRUTH.read_text(encoding="utf-8"))
    truth["pages"] = [page | {"regions": page["regions"][:4]} for page in truth["pages"][:2]]
    (tmp_path / "few.json").write_text(json.dumps(truth))
    prediction = predict([TIFF], str(tiny_onnx), regions=tmp_path / "few.json", threads=1)
    (tmp_path / "out.json").write_text(json.dumps(prediction.to_json()))
    assert [len(page.regions) for page in read_layout(tmp_path / "out.json").pages] == [4, 4]
    assert [record["page_index"] for record in prediction.records()] == [0] * 4 + [1] * 4


def test_what_cannot_be_read_is_counted_and_the_rest_read(tiny_onnx, tmp_path, heard):
    (tmp_path / "bad.png").write_bytes(IMAGES[0].read_bytes()[:100])
    prediction = predict([IMAGES[0], tmp_path / "bad.png", IMAGES[1]], str(tiny_onnx), threads=1, progress=heard)
    assert [line.path for line in prediction.lines] == IMAGES[:2]
    assert [path.name for path, _ in prediction.failed] == ["bad.png"]
    assert "bad.png" in heard.warnings[0]
    with pytest.raises(DataError, match="not one of 1 images"):
        predict([tmp_path / "bad.png"], str(tiny_onnx))


def test_wrong_inputs(tiny_onnx, tmp_path):
    with pytest.raises(UsageError, match="no image or folder"):
        predict([tmp_path / "none.png"], str(tiny_onnx))
    with pytest.raises(UsageError, match="holds no images"):
        predict([tmp_path], str(tiny_onnx))
    with pytest.raises(UsageError, match="has 5 pages; say where their lines are"):
        predict([TIFF], str(tiny_onnx))
    with pytest.raises(UsageError, match="belongs to one document"):
        predict(IMAGES, str(tiny_onnx), regions=TRUTH)
