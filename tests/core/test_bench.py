import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nordocr_cli import app, atomic
from nordocr_cli.charset import NORDIC, NORDIC_EXT
from nordocr_cli.core.bench.models import open_models
from nordocr_cli.core.bench.network import Operations
from nordocr_cli.core.bench.plan import models_and_document, parse_grid
from nordocr_cli.core.bench.result import read_bench
from nordocr_cli.core.bench.run import bench
from nordocr_cli.data.documents import read_pages
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.data.resize import read_image, resize_line
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.errors import (
    ArtifactError,
    DataError,
    GateMissed,
    MissingBackendError,
    UsageError,
)
from nordocr_cli.geometry import Geometry
from nordocr_cli.progress import SILENT
from nordocr_cli.records import LineRow
from nordocr_cli.runtime.runners import open_runner

SAMPLES = Path(__file__).parents[2] / "samples"
TIFF, TRUTH = SAMPLES / "doc" / "dev_doc.tif", SAMPLES / "doc" / "dev_doc.json"


@pytest.fixture
def store(tiny_checkpoint, tmp_path):
    from nordocr_cli.artifact.probing import read_contract

    contract = read_contract(tiny_checkpoint)
    rows = [
        json.loads(line)
        for line in (
            (SAMPLES / "lines" / "manifest.jsonl")
            .read_text(encoding="utf-8")
            .splitlines()[:12]
        )
    ]
    with LineStoreWriter(
        tmp_path / "lines.lmdb", contract.geometry, contract.charset
    ) as writer:
        for number, row in enumerate(rows):
            line = resize_line(
                read_image(SAMPLES / "lines" / row["image"]), contract.geometry
            )
            writer.add(
                line, LineRow(str(number), row["image"], row["text"], row["language"])
            )
    return tmp_path / "lines.lmdb"


def test_a_store_is_timed_on_both_backends(store, tiny_checkpoint, tiny_onnx, tmp_path):
    models = [str(tiny_checkpoint), str(tiny_onnx)]
    result = bench(
        models,
        lines=store,
        output=tmp_path / "bench.json",
        rounds=2,
        single_lines=4,
        threads=1,
    )
    assert [(row.backend, row.device, row.precision) for row in result.rows] == [
        ("torch", "cpu", "fp32"),
        ("onnxruntime", "cpu", "fp32"),
    ]
    for row in result.rows:
        assert (row.lines, row.same_text, row.exact) == (12, 12, 0)
        assert len(row.runs_s) == 2
        assert 0 < row.latency_p50_ms <= row.latency_p95_ms
        assert len(row.single_runs_ms) == 2
        assert row.latency_p50_ms <= row.latency_p90_ms
        assert row.latency_p99_ms is None  # of 8 calls it would say nothing
        assert (
            min(
                row.stages_s.resize,
                row.stages_s.network,
                row.stages_s.decode,
                row.stages_s.read,
            )
            > 0
        )
        assert row.flops > 1e6
        assert row.roofline_share > 0
        assert min(row.runs_s) <= row.lines / row.lines_per_s <= max(row.runs_s)
    # torch masks padding and shares batches; ONNX Runtime sees it, and pads nothing.
    assert result.rows[0].padding_waste > result.rows[1].padding_waste == 0
    assert result.reference == tiny_checkpoint.name
    assert result.peak_gflops > 0
    written = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert read_bench(tmp_path / "bench.json") == result
    assert written["schema"] == "nordocr.bench/1"
    assert written["environment"]["versions"]["onnxruntime"]
    assert [path.name for path in tmp_path.glob("*_result.json")] == []


def test_a_document_leaves_results_in_the_consumers_shape(
    tiny_onnx, tiny_checkpoint, tmp_path
):
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
    assert [Path(path).name for path in result.written] == [
        "svtrv2_result.json",
        "best.safetensors_result.json",
    ]
    first, second = (read_layout(Path(path)) for path in result.written)
    assert first.num_regions == 20
    assert [page.index for page in first.pages] == [0, 1, 2, 3, 4]
    assert [[r.box for r in page.regions] for page in first.pages] == [
        [r.box for r in page.regions] for page in second.pages
    ]
    truth = {
        (page.index, region.box)
        for page in read_layout(TRUTH).pages
        for region in page.regions
    }
    assert {
        (page.index, region.box) for page in first.pages for region in page.regions
    } <= truth


def test_a_99th_percentile_is_told_from_enough_calls_on(store, tiny_onnx, monkeypatch):
    from nordocr_cli.core.bench import run as core

    assert core.MANY_CALLS == 1000
    monkeypatch.setattr(core, "MANY_CALLS", 6)
    (row,) = bench(
        [str(tiny_onnx)], lines=store, limit=3, rounds=2, single_lines=3, threads=1
    ).rows
    assert row.latency_p99_ms >= row.latency_p90_ms


def test_two_files_of_one_name_are_told_apart(store, tiny_checkpoint, tiny_onnx, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(tiny_checkpoint, tmp_path / name)
    models = [str(tmp_path / name / tiny_checkpoint.name) for name in "ab"] + [
        str(tiny_onnx)
    ] * 2
    opened, skipped = open_models(models, "cpu", 1, "fp32", SILENT)
    names = [model.name for model in opened]
    assert names[:2] == ["a/best.safetensors", "b/best.safetensors"]
    assert len(set(names)) == 4
    # copies, and the models that were exported from them
    assert len({model.weights for model in opened}) == 1
    assert skipped == {}


def test_attention_is_counted(tiny_onnx):
    count = Operations(open_runner(tiny_onnx, device="cpu")).of
    narrow, middle, wide = (count(1, width) for width in (128, 256, 384))
    # it grows with the square of the width, all else with the width
    assert wide - middle > middle - narrow > 0
    assert count(3, 128) == 3 * narrow


@pytest.mark.tesseract
def test_lines_that_nobody_named_are_found(tiny_onnx, tmp_path, heard):
    page = tmp_path / "page.tif"
    Image.fromarray(read_pages(TIFF).page(0)[150:500]).save(page)
    result = bench(
        [str(tiny_onnx)],
        document=page,
        rounds=1,
        single_lines=1,
        threads=1,
        output=tmp_path / "b.json",
        progress=heard,
    )
    assert "the text detector finds them" in heard.notes[0]
    found = read_layout(Path(result.written[0])).pages[0].regions
    assert len(found) == result.rows[0].lines
    # the heading
    assert any(
        abs(region.box.x - 227) < 15 and abs(region.box.y - (213 - 150)) < 15
        for region in found
    )


def test_other_weights_may_read_otherwise_unless_a_share_is_requested(
    store, tiny_onnx, tmp_path, monkeypatch
):
    from nordocr_cli.core.bench import run as core

    other_model = shutil.copy(tiny_onnx, tmp_path / "other.onnx")
    found = bench(
        [str(tiny_onnx)], lines=store, limit=2, rounds=1, single_lines=1, threads=1
    )
    other = found.rows[0].model_copy(
        update={"name": "other.onnx", "same_text": 0, "same_weights": False}
    )
    monkeypatch.setattr(
        core,
        "run",
        lambda *args, **kwargs: found.model_copy(update={"rows": (*found.rows, other)}),
    )
    command = ["bench", str(tiny_onnx), str(other_model), "--lines", str(store), "-q"]
    assert CliRunner().invoke(app.app, command).exit_code == 0
    missed = CliRunner().invoke(app.app, [*command, "--min-same", "0.5"]).exception
    assert isinstance(missed, GateMissed)
    assert "other.onnx (onnxruntime) agrees on 0 of 2 lines" in str(missed)


@pytest.mark.parametrize("missed", ["slower", "other texts"])
def test_a_missed_gate_ends_with_4(missed, store, tiny_onnx, tmp_path, monkeypatch, capsys):
    from nordocr_cli.core.bench import run as core

    arguments = {"lines": store, "limit": 2, "rounds": 5, "single_lines": 1, "threads": 1}
    found = bench([str(tiny_onnx)], **arguments)
    row = found.rows[0]
    fast = tuple(
        run / 100 * (1 + place / 1000) for place, run in enumerate([min(row.runs_s)] * 5)
    )
    if missed == "slower":
        old = found.model_copy(update={"rows": (row.model_copy(update={"runs_s": fast}),)})
        atomic.write_json(tmp_path / "old.json", old.to_json())
    else:
        wrong = found.model_copy(
            update={"rows": (row.model_copy(update={"same_text": 1}),)}
        )
        monkeypatch.setattr(core, "run", lambda *args, **kwargs: wrong)
    command = [
        "nordocr",
        "bench",
        str(tiny_onnx),
        "--lines",
        str(store),
        "--limit",
        "2",
        "--rounds",
        "5",
    ]
    command += ["--single-lines", "1", "--threads", "1"]
    command += ["--baseline", str(tmp_path / "old.json")] if missed == "slower" else []
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 4
    assert (
        "slower than" if missed == "slower" else "agrees on 1 of 2 lines"
    ) in capsys.readouterr().err


def test_networks_alone_at_every_shape_and_a_picture(
    store, tiny_checkpoint, tiny_onnx, tmp_path
):
    models = [str(tiny_checkpoint), str(tiny_onnx)]
    arguments = {"lines": store, "limit": 2, "single_lines": 1, "threads": 1}
    result = bench(
        models, rounds=2, grid=([1, 2], [32, 64]), plot=tmp_path / "b.png", **arguments
    )
    shapes = [(cell.backend, cell.batch, cell.width_px) for cell in result.grid]
    assert len(set(shapes)) == len(shapes) == 8
    assert {cell.backend for cell in result.grid} == {"torch", "onnxruntime"}
    assert all(len(cell.runs_ms) == 2 and cell.roofline_share > 0 for cell in result.grid)
    one = result.grid[0]
    assert one.lines_per_s == pytest.approx(1000 * one.batch / one.median_ms)
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="multiples of 4 up to"):
        bench(models, rounds=1, grid=([1], [33]), **arguments)
    assert parse_grid("1,8x128,320") == ([1, 8], [128, 320])
    for wrong in ("1,8", "x", "ax128", "0x128"):
        with pytest.raises(UsageError, match="grid"):
            parse_grid(wrong)


def test_a_baseline_of_another_machine_is_not_compared(store, tiny_onnx, tmp_path):
    arguments = {"lines": store, "limit": 2, "rounds": 1, "single_lines": 1}
    old = tmp_path / "old.json"
    bench([str(tiny_onnx)], output=old, threads=1, **arguments)
    again = bench([str(tiny_onnx)], baseline=old, threads=1, **arguments)
    assert [(v.verdict, v.p) for v in again.verdicts] == [("inconclusive", None)] * 2
    with pytest.raises(
        UsageError, match="not comparable: .* was measured with threads 1, this with 2"
    ):
        bench([str(tiny_onnx)], baseline=old, threads=2, **arguments)
    old.write_text('{"schema": "nordocr.bench/1"}')
    with pytest.raises(DataError, match="is not a result of `nordocr bench -o`"):
        bench([str(tiny_onnx)], baseline=old, **arguments)


def test_what_cannot_go_well_is_said_before_anything_is_timed(
    store, tiny_onnx, tmp_path, monkeypatch
):
    arguments = {"lines": store, "limit": 2, "rounds": 1, "single_lines": 1, "threads": 1}
    old = tmp_path / "old.json"
    bench([str(tiny_onnx)], output=old, **arguments)
    # known at the end alone: what was timed is kept
    with pytest.raises(UsageError, match="not comparable: .* has .*, this "):
        bench(["tesseract"], baseline=old, output=tmp_path / "new.json", **arguments)
    assert read_bench(tmp_path / "new.json").verdicts == ()

    def never(*_, **__):
        raise AssertionError("timed")

    monkeypatch.setattr("nordocr_cli.runtime.stopwatch.time_side_by_side", never)
    with pytest.raises(UsageError, match="with threads 1, this with 2"):
        bench([str(tiny_onnx)], baseline=old, **arguments | {"threads": 2})
    with pytest.raises(UsageError, match="multiples of 4"):
        bench([str(tiny_onnx)], grid=([1], [33]), **arguments)
    with pytest.raises(UsageError, match="--grid times networks alone"):
        bench(["tesseract"], grid=([1], [32]), **arguments)
    pages = {"document": TIFF, "regions": TRUTH}
    with pytest.raises(MissingBackendError, match="no-such-program does not start"):
        bench([str(tiny_onnx)], external="no-such-program {page}", **pages)


# Stands in for the Rust program: knows where the first line of each page is, reads it as "x", and
# says so as the consumer does.
STAND_IN = """
import json, sys
box = {"x": 10, "y": 20, "width": 300, "height": 30}
page = {"page_index": 0, "lines": [{"bbox": box, "text": "x", "confidence": 0.5}]}
assert open(sys.argv[1], "rb").read(4) == b"\\x89PNG" and sys.argv[2:] == ["--format", "json"]
print(json.dumps({"pages": [page]}))
"""


def test_a_program_of_another_kind_reads_whole_pages(tiny_onnx, tmp_path):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    command = f"{sys.executable} {script} {{page}} --format json"
    arguments = {
        "document": TIFF,
        "regions": TRUTH,
        "limit": 2,
        "rounds": 1,
        "single_lines": 1,
        "threads": 1,
    }
    result = bench(
        [str(tiny_onnx)], external=command, output=tmp_path / "b.json", **arguments
    )
    row = result.rows[-1]
    assert (row.backend, row.lines, row.exact, row.same_text, row.latency_p50_ms) == (
        "external",
        5,
        0,
        None,
        None,
    )
    assert row.pages_per_s == pytest.approx(5 / row.runs_s[0])
    written = read_layout(Path(result.written[-1]))
    assert [page.index for page in written.pages] == [0, 1, 2, 3, 4]
    assert written.pages[3].regions[0].text == "x"
    for wrong, error, said in (
        ("program --all", UsageError, "contains no {page}"),
        ("no-such-program {page}", MissingBackendError, "does not start"),
        (f"{sys.executable} {script} {{page}}", DataError, "ended with 1 .AssertionError"),
        (
            f"{sys.executable} -c print() {{page}}",
            DataError,
            "printed no result for page 1: its output is not readable JSON",
        ),
    ):
        with pytest.raises(error, match=said):
            bench([str(tiny_onnx)], external=wrong, **arguments)
    with pytest.raises(UsageError, match="--external reads pages"):
        bench([str(tiny_onnx)], external=command, lines=tmp_path)


def test_a_document_may_stand_among_the_models():
    assert models_and_document(["a.onnx", str(TIFF)], None, None) == (
        ["a.onnx"],
        TIFF,
        TRUTH,
    )
    assert models_and_document([str(TIFF)], None, None)[0] == [
        "nordocr-default",
        "tesseract",
    ]
    with pytest.raises(UsageError, match="one document at a time"):
        models_and_document([str(TIFF), "b.pdf"], None, None)
    with pytest.raises(UsageError, match="name a model"):
        models_and_document([], None, None)


def test_an_older_result_is_read():
    old = read_bench(
        Path(__file__).parents[2] / "benchmarks" / "results" / "document-two-cores.json"
    )
    assert old.rows[0].lines_per_s > 0
    assert (old.rows[0].stages_s, old.grid) == (None, ())


def test_a_missing_backend_is_skipped_and_said(
    store, tiny_onnx, monkeypatch, tmp_path, heard
):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = bench(
        [str(tiny_onnx), "tesseract"],
        lines=store,
        rounds=1,
        single_lines=1,
        limit=3,
        threads=1,
        progress=heard,
    )
    assert [row.backend for row in result.rows] == ["onnxruntime"]
    assert result.rows[0].lines == 3
    assert "apt-get install" in result.skipped["tesseract"]
    assert "tesseract is skipped" in heard.warnings[0]
    with pytest.raises(MissingBackendError, match="apt-get"):
        bench(["tesseract"], lines=store)


def test_a_store_that_was_not_made_for_the_model_is_refused(
    tiny_onnx, tiny_checkpoint, tmp_path
):
    for number, (geometry, charset, said) in enumerate(
        [
            (Geometry(height=48), NORDIC, "height: 48 / 32"),
            (Geometry(), NORDIC_EXT, "writes charset 'nordic'"),
        ]
    ):
        path = tmp_path / f"{number}.lmdb"
        with LineStoreWriter(path, geometry, charset) as writer:
            writer.add(
                np.full((geometry.height, 64, 3), 255, np.uint8), LineRow("1", "1.png", "x")
            )
        for model in (tiny_onnx, tiny_checkpoint):
            with pytest.raises(ArtifactError, match=said):
                bench(["tesseract", str(model)], lines=path)


def test_wrong_combinations(store, tiny_onnx, tmp_path):
    for wrong in (
        {},
        {"lines": store, "document": TIFF},
        {"lines": store, "regions": TRUTH},
    ):
        with pytest.raises(
            UsageError, match="--lines STORE, --widths TABLE, or a document"
        ):
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
        bench(
            [str(tiny_onnx)], document=TIFF, regions=regions, output=tmp_path / "bench.json"
        )
