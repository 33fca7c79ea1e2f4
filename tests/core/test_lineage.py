import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.sealing import write_sealed_json
from nordocr_cli.atomic import sha256_of, write_json
from nordocr_cli.core import lineage
from nordocr_cli.core.lineage import trace
from nordocr_cli.errors import ArtifactError, UsageError


@pytest.fixture
def chain(tiny_onnx, tiny_checkpoint, tmp_path):
    """Weights → ONNX and fp16 → engine → result → report, under names that say nothing."""
    for origin, name in (
        (tiny_checkpoint, "a.safetensors"),
        (tiny_onnx, "b.onnx"),
        (tiny_onnx.with_name("model.fp16.onnx"), "c.onnx"),
    ):
        shutil.copy2(origin, tmp_path / name)
    engine = tmp_path / "d.engine"
    engine.write_bytes(b"ftrt" + bytes(80))
    sidecar = {
        "schema": 2,
        "engine": {"name": engine.name, "sha256": sha256_of(engine)},
        "onnx": {"name": "x.onnx", "sha256": sha256_of(tmp_path / "c.onnx")},
        "contract": replace(
            read_contract(tmp_path / "c.onnx"), parent_sha256=sha256_of(tmp_path / "c.onnx")
        ).to_json(),
    }
    write_sealed_json(tmp_path / "d.engine.json", sidecar)
    write_json(tmp_path / "e.json", {"schema": "x", "model": {"sha256": sha256_of(engine)}})
    (tmp_path / "f.html").write_text(f"<p>made from {sha256_of(tmp_path / 'e.json')}</p>")
    return tmp_path


def command(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)


def arrows(lineage):
    return {f"{step.parent.path.name} → {step.child.path.name}" for step in lineage.steps}


def test_a_chain_is_followed_over_every_step(chain):
    found = trace([chain])
    assert arrows(found) == {
        "a.safetensors → b.onnx",
        "a.safetensors → c.onnx",
        "c.onnx → d.engine",
        "d.engine → e.json",
        "e.json → f.html",
    }
    assert (found.broken, found.missing) == ([], ())
    lines = found.lines()
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 2, 2, 4, 6, 8]


def test_renamed_and_moved_files_are_found_by_their_bytes(chain, tmp_path):
    away = tmp_path / "elsewhere"
    away.mkdir()
    (chain / "c.onnx").rename(away / "z.onnx")
    assert "z.onnx → d.engine" in arrows(trace([chain, away]))


def test_a_missing_parent_is_named(chain):
    (chain / "c.onnx").unlink()
    (message,) = trace([chain]).missing_lines()
    assert "d.engine: its parent" in message
    assert "is not among the given files" in message


@pytest.mark.parametrize("name", ["b.onnx", "d.engine", "a.safetensors"])
def test_a_changed_file_is_broken(name, chain):
    content = bytearray((chain / name).read_bytes())
    content[len(content) // 2] ^= 1
    (chain / name).write_bytes(content)
    found = trace([chain])
    assert [line for line in found.broken if name in line]
    result = CliRunner().invoke(app, ["lineage", str(chain)])
    assert isinstance(result.exception, ArtifactError)


def test_the_command_shows_the_tree_and_its_json(chain):
    runner = CliRunner()
    shown = runner.invoke(app, ["lineage", str(chain)])
    assert shown.exit_code == 0, shown.output
    assert "    " in shown.output
    value = json.loads(runner.invoke(app, ["lineage", str(chain), "--json", "-q"]).stdout)
    assert len(value["files"]) == 6
    assert {
        "parent": str(chain / "c.onnx"),
        "child": str(chain / "d.engine"),
        "role": "parent",
    } in (value["steps"])


def test_what_is_no_artifact_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no weights"):
        trace([tmp_path])
    (tmp_path / "a.txt").touch()
    with pytest.raises(UsageError, match="expected weights"):
        trace([tmp_path / "a.txt"])


def test_the_chain_of_real_commands_has_no_gap(tiny_onnx, tiny_checkpoint, tmp_path):
    """Weights in the folder of a run, export, bench, compare3way and its report."""
    run, document = tmp_path / "run", tmp_path / "page.png"
    run.mkdir()
    shutil.copy2(tiny_checkpoint, run / "best.safetensors")
    (run / "state.pt").write_bytes(b"nobody names this file")
    shutil.copy2(tiny_onnx, tmp_path / "model.onnx")
    Image.fromarray(np.full((80, 200, 3), 255, np.uint8)).save(document)
    box = {"x": 4, "y": 10, "width": 90, "height": 32}
    for name, text in (("truth.json", "7 811"), ("tess_result.json", "7 81l")):
        lines = [{"text": text, "confidence": 0.9, "bbox": box}]
        pages = [{"page_index": 0, "text": text, "lines": lines}]
        write_json(tmp_path / name, {"pages": pages})

    regions = ("--doc", document, "--regions", tmp_path / "truth.json")
    few = ("--rounds", 1, "--single-lines", 1, "--threads", 1)
    command("bench", tmp_path / "model.onnx", *regions, *few, "-o", tmp_path / "bench.json")
    sides = (
        "--svtrv2",
        tmp_path / "svtrv2_result.json",
        "--tess",
        tmp_path / "tess_result.json",
    )
    outputs = ("-o", tmp_path / "compare.json", "--report", tmp_path / "compare.html")
    command("compare3way", document, *sides, "--truth", tmp_path / "truth.json", *outputs)

    found = trace([tmp_path])
    assert arrows(found) == {
        "best.safetensors → model.onnx",
        "model.onnx → bench.json",
        "bench.json → svtrv2_result.json",
        "svtrv2_result.json → compare.json",
        "tess_result.json → compare.json",
        "truth.json → compare.json",
        "compare.json → compare.html",
    }
    assert (found.broken, found.missing) == ([], ())


def test_the_report_of_an_evaluation_names_its_result(tmp_path):
    lines = tmp_path / "lines.jsonl"
    row = {"id": "a", "reference": "Summa", "hypothesis": "Sumna"}
    lines.write_text(json.dumps(row) + "\n", encoding="utf-8")
    page = tmp_path / "page.html"
    command("eval", lines, "-o", tmp_path / "result.json", "--report", page)
    assert "result.json → page.html" in arrows(trace([tmp_path]))

    (tmp_path / "result.json").unlink()
    (message,) = trace([tmp_path]).missing_lines()
    assert "page.html: its result.sha256" in message


def test_a_folder_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lineage, "_MAX_FILES", 2)
    for number in range(3):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(UsageError, match="more than 2 files"):
        trace([tmp_path])
