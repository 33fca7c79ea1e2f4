import json
from pathlib import Path

import numpy as np
import pytest

from nordocr_cli.charset import NORDIC, NORDIC_EXT
from nordocr_cli.core.bench import bench
from nordocr_cli.data.layouts import read_layout
from nordocr_cli.data.resize import read_image, resize_line
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.errors import ArtifactError, DataError, MissingBackendError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import LineRow

SAMPLES = Path(__file__).parents[2] / "samples"
TIFF, TRUTH = SAMPLES / "doc" / "dev_doc.tif", SAMPLES / "doc" / "dev_doc.json"


@pytest.fixture
def store(tiny_checkpoint, tmp_path):
    from nordocr_cli.artifact import read_contract

    contract = read_contract(tiny_checkpoint)
    rows = [json.loads(line) for line in (SAMPLES / "lines" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()[:12]]
    with LineStoreWriter(tmp_path / "lines.lmdb", contract.geometry, contract.charset) as writer:
        for number, row in enumerate(rows):
            line = resize_line(read_image(SAMPLES / "lines" / row["image"]), contract.geometry)
            writer.add(line, LineRow(str(number), row["image"], row["text"], row["language"]))
    return tmp_path / "lines.lmdb"


def test_a_store_is_timed_on_both_backends(store, tiny_checkpoint, tiny_onnx, tmp_path):
    models = [str(tiny_checkpoint), str(tiny_onnx)]
    result = bench(models, lines=store, output=tmp_path / "bench.json", rounds=2, single_lines=4, threads=1)
    assert [(row.backend, row.device, row.precision) for row in result.rows] == [
        ("torch", "cpu", "fp32"),
        ("onnxruntime", "cpu", "fp32"),
    ]
    for row in result.rows:
        assert (row.lines, row.same_text, row.exact) == (12, 12, 0)
        assert len(row.runs_s) == 2
        assert 0 < row.latency_p50_ms <= row.latency_p95_ms
        assert min(row.runs_s) <= row.lines / row.lines_per_s <= max(row.runs_s)
    written = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert written["schema"] == "nordocr.bench/1"
    assert written["environment"]["versions"]["onnxruntime"]
    assert [path.name for path in tmp_path.glob("*_result.json")] == []


def test_a_document_leaves_results_in_the_consumers_shape(tiny_onnx, tiny_checkpoint, tmp_path):
    result = bench(
        [str(tiny_onnx), str(tiny_checkpoint)],
        document=TIFF,
        regions=TRUTH,
        limit=20,
        output=tmp_path / "bench.json",
        rounds=1,
        single_lines=1,
        threads=1,
    )
    assert [path.name for path in result.written] == ["svtrv2_result.json", "best.safetensors_result.json"]
    first, second = (read_layout(path) for path in result.written)
    assert first.num_regions == 20
    assert [page.index for page in first.pages] == [0, 1, 2, 3, 4]
    assert [[r.box for r in page.regions] for page in first.pages] == [[r.box for r in page.regions] for page in second.pages]
    truth = {(page.index, region.box) for page in read_layout(TRUTH).pages for region in page.regions}
    assert {(page.index, region.box) for page in first.pages for region in page.regions} <= truth


def test_a_missing_backend_is_skipped_and_said(store, tiny_onnx, monkeypatch, tmp_path, heard):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = bench([str(tiny_onnx), "tesseract"], lines=store, rounds=1, single_lines=1, limit=3, threads=1, progress=heard)
    assert [row.backend for row in result.rows] == ["onnxruntime"]
    assert result.rows[0].lines == 3
    assert "apt-get install" in result.skipped["tesseract"]
    assert "tesseract is left out" in heard.warnings[0]
    with pytest.raises(MissingBackendError, match="apt-get"):
        bench(["tesseract"], lines=store)


def test_a_store_that_was_not_made_for_the_model_is_refused(tiny_onnx, tiny_checkpoint, tmp_path):
    for number, (geometry, charset, said) in enumerate(
        [(Geometry(height=48), NORDIC, "height: 48 / 32"), (Geometry(), NORDIC_EXT, "writes charset 'nordic'")]
    ):
        path = tmp_path / f"{number}.lmdb"
        with LineStoreWriter(path, geometry, charset) as writer:
            writer.add(np.full((geometry.height, 64, 3), 255, np.uint8), LineRow("1", "1.png", "x"))
        for model in (tiny_onnx, tiny_checkpoint):
            with pytest.raises(ArtifactError, match=said):
                bench(["tesseract", str(model)], lines=path)


def test_wrong_combinations(store, tiny_onnx, tmp_path):
    for wrong in ({}, {"lines": store, "document": TIFF}, {"document": TIFF}, {"lines": store, "regions": TRUTH}):
        with pytest.raises(UsageError, match="--lines STORE, or --doc"):
            bench([str(tiny_onnx)], **wrong)
    (tmp_path / "empty.json").write_text('{"pages": []}')
    with pytest.raises(DataError, match="has no lines"):
        bench([str(tiny_onnx)], document=TIFF, regions=tmp_path / "empty.json")


def test_the_output_is_none_of_the_inputs(store, tiny_onnx, tmp_path):
    for output in (tiny_onnx, store, store / "bench.json"):
        with pytest.raises(UsageError, match="would overwrite the input"):
            bench([str(tiny_onnx)], lines=store, output=output)
    regions = tmp_path / "svtrv2_result.json"
    regions.write_bytes(TRUTH.read_bytes())
    with pytest.raises(UsageError, match="would overwrite the input"):
        bench([str(tiny_onnx)], document=TIFF, regions=regions, output=tmp_path / "bench.json")
