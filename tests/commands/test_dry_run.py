"""A plan that cannot be carried out is no plan: a dry run ends as the run itself would."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.errors import UsageError

DOC = Path(__file__).parents[2] / "samples" / "doc"
TIFF, TRUTH = DOC / "dev_doc.tif", DOC / "dev_doc.json"
LICENCE = DOC.parents[1] / "LICENSE"  # a text without regions
BENCH, PREDICT = ("bench", "tesseract"), ("predict", TIFF, "-m", "tesseract")
COMPARE = ("compare3way", TIFF, "--svtrv2", TRUTH, "--tess", TRUTH)
MISSING = "missing"


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (BENCH, 2, "give --lines STORE, --widths TABLE, or a document"),
        ((*BENCH, "--lines", MISSING), 2, "no line store missing"),
        ((*BENCH, "--doc", MISSING, "--regions", TRUTH), 2, "no document missing"),
        ((*BENCH, "--doc", TIFF, "--regions", LICENCE), 3, "no row says where on a page"),
        (
            (*BENCH, MISSING, "--doc", TIFF, "--regions", TRUTH),
            2,
            "no file or run folder missing",
        ),
        (
            (*BENCH, "--doc", TIFF, "--regions", TRUTH, "--device", "banana"),
            2,
            "unknown device 'banana'",
        ),
        ((*PREDICT, "--regions", MISSING), 2, "no result or region file"),
        ((*PREDICT, "--bf16"), 2, "option of torch"),
        ((*PREDICT, "--decoder", "beam"), 2, "tesseract has its own decoding"),
        ((*PREDICT, "--beam-width", "5"), 2, "requires --decoder beam"),
        ((*PREDICT, "--lm-weight", "0.5"), 2, "requires --char-lm or --lexicon"),
        ((*PREDICT, MISSING), 2, "no image or folder missing"),
        ((*PREDICT, TIFF, "--regions", TRUTH), 2, "belongs to one document"),
        ((*PREDICT, "--format", "pdf"), 2, "give -o FILE"),
        (
            (*PREDICT, "--jsonl", "-o", "o.jsonl", "--resume"),
            2,
            "--resume continues line images",
        ),
        ((*PREDICT, TIFF, "--json"), 2, "describes one document"),
        ((*PREDICT, "--layout", "pages"), 2, "--layout 'pages'"),
        (("predict", TIFF, "-m", TRUTH), 2, "expected a run folder or a file in"),
        ((*COMPARE, "--reference", "vlm"), 2, "needs a VLM"),
        ((*COMPARE, "--truth", MISSING), 2, "no result or region file"),
        ((*COMPARE, "--truth", TIFF), 3, "not readable"),
        ((*COMPARE, "--vlm-cache", MISSING), 2, "no recorded answers missing"),
        (
            ("compare3way", MISSING, *COMPARE[2:], "--truth", TRUTH),
            2,
            "no document missing",
        ),
    ],
)
def test_what_cannot_be_done_is_not_planned(args, code, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = CliRunner().invoke(app, [*map(str, args), "--dry-run"]).exception
    assert said in str(error)
    assert getattr(error, "exit_code", None) == code


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--threads", "64"), "--threads 64: there are"),
        (("--language", "sv"), "--language sv has no effect"),
        (("--threads", "1"), ""),
    ],
)
def test_what_does_not_help_is_said(options, said):
    image = next((DOC.parent / "lines" / "images").iterdir())
    planned = CliRunner().invoke(
        app, ["predict", str(image), "--layout", "line", *options, "--dry-run"]
    )
    assert planned.exit_code == 0
    assert planned.stderr.startswith(f"warning: {said}") if said else not planned.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("predict", TIFF, "--threads", "100000"), "--threads 100000: there are"),
        (("synth", "-o", "x.lmdb", "--workers", "100000"), "--workers 100000: there are"),
    ],
)
def test_more_threads_or_processes_than_a_machine_bears_are_refused(command, message):
    error = CliRunner().invoke(app, [*map(str, command), "--dry-run"]).exception
    assert isinstance(error, UsageError)
    assert message in str(error)
    assert "give at most" in str(error)


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        ((*BENCH, "--doc", TIFF, "--regions", TRUTH), ("lines_given", 448)),
        ((*PREDICT, "--regions", TRUTH), ("lines", 448)),
        (
            (*COMPARE, "--truth", TRUTH),
            ("lines", {"svtrv2": 448, "tess": 448, "truth": 448}),
        ),
    ],
)
def test_a_plan_counts_the_lines(args, lines, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*map(str, args), "--dry-run", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)[lines[0]] == lines[1]
    assert not list(tmp_path.iterdir())


def test_a_plan_is_text_for_people(tmp_path):
    """Lists, yes and no and nothing are not shown as Python writes them."""
    runner = CliRunner()
    fetch = ["data", "fetch", "ehri-typescripts", "-o", str(tmp_path / "d"), "--dry-run"]
    adapt = ["adapt", str(TIFF), "-o", str(tmp_path / "run"), "--dry-run"]
    shown = [runner.invoke(app, args).output for args in (fetch, adapt)]
    assert "sends_token: no\n" in shown[0]
    assert "sha256: none\n" in shown[0]
    assert "stages: lines, readings, labels, finetune\n" in shown[1]
    assert "labelled: none\n" in shown[1]
    for text in shown:
        assert not any(python in text for python in ("None", "False", "['", "{'"))
