import json
import sys
from pathlib import Path

import pytest

from nordocr_cli import app
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.data.layouts.result_json import write_result

DOC = Path(__file__).parents[2] / "samples" / "doc"
TIFF, TRUTH = str(DOC / "dev_doc.tif"), str(DOC / "dev_doc.json")


@pytest.fixture
def run(monkeypatch, capsys):
    def nordocr(*args):
        monkeypatch.setattr(sys, "argv", ["nordocr", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            app.main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return nordocr


@pytest.fixture
def result(tmp_path):
    write_result(tmp_path / "same.json", read_layout(Path(TRUTH)).pages)
    return tmp_path / "same.json"


def test_the_table_names_its_reference_and_the_next_step(run, result, tmp_path):
    out_json = tmp_path / "out.json"
    code, out, err = run(
        "compare3way",
        TIFF,
        "--svtrv2",
        result,
        "--tess",
        result,
        "--truth",
        TRUTH,
        "-o",
        out_json,
    )
    assert code == 0
    assert "accuracy against ground truth (dev_doc.json)" in out
    for row in (
        "exact ",
        "448 (100.0 %)",
        "CER macro",
        "CER micro",
        "right truncation",
        "both right 448",
    ):
        assert row in out
    assert f"wrote {out_json}" in err
    assert err.strip().splitlines()[-1].startswith("next: add --report out.html")
    assert json.loads(out_json.read_text(encoding="utf-8"))["outcomes"]["both right"] == 448


def test_without_any_reference_and_with_other_names(run, result):
    code, out, _ = run(
        "compare3way", TIFF, "--first", result, "--second", result, "--names", "v1,v2"
    )
    assert code == 0
    assert "agreement of v1 and v2, without a reference" in out
    assert "CER micro" not in out


def test_a_missing_result_needs_lines(run, result):
    code, out, _ = run("compare3way", TIFF, "--tess", result, "--dry-run")
    assert code == 0
    assert "svtrv2: read with nordocr-default" in out
    code, _, err = run("compare3way", TIFF, "--dry-run")
    assert (code, "where are the lines? Give --regions FILE" in err) == (2, True)
    code, out, _ = run("compare3way", TIFF, "--svtrv2", result, "--dry-run")
    assert code == 0
    assert "tess: read with tesseract" in out
    assert "lines.tess: 448" in out


def test_json_is_all_of_stdout(run, result):
    code, out, _ = run(
        "compare3way",
        TIFF,
        "--svtrv2",
        result,
        "--tess",
        result,
        "--truth",
        TRUTH,
        "--json",
    )
    assert code == 0
    assert json.loads(out)["engines"][0]["metrics"]["exact"]["value"] == 1.0


def test_a_dry_run_touches_nothing(run, result, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    common = ("compare3way", TIFF, "--svtrv2", result, "--tess", result, "--dry-run")
    code, out, _ = run(*common, "--vlm-url", "http://127.0.0.1:9/v1", "--vlm-model", "m")
    assert code == 0
    assert "asks: m at http://127.0.0.1:9/v1" in out
    assert "answers: dev_doc.vlm.jsonl" in out
    assert "crops_about: 448" in out
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--reference", "truth"), 2, "--reference truth needs --truth"),
        (("--names", "one"), 2, "expected two names"),
        (
            ("--vlm-url", "http://10.0.0.1/v1", "--vlm-model", "m"),
            2,
            "--vlm-allow-remote allows it",
        ),
        (("--decided", "nowhere.tsv"), 2, "no decisions nowhere.tsv"),
        (("--vlm-url", "http://127.0.0.1:9/v1"), 2, "--vlm-model"),
        (
            ("--vlm-url", "http://127.0.0.1:9/v1", "--vlm-model", "m"),
            5,
            "no server answers",
        ),
        (("--truth", "nowhere.json"), 2, "no result or region file nowhere.json"),
        (("--truth", TIFF), 3, "not readable JSON"),
    ],
)
def test_exit_codes(run, result, tmp_path, monkeypatch, options, code, message):
    monkeypatch.chdir(tmp_path)
    ended, _, err = run("compare3way", TIFF, "--svtrv2", result, "--tess", result, *options)
    assert ended == code
    assert message in err
