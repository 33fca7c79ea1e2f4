"""PP-OCR and Tesseract's best models as recognizers of eval, bench and compare3way."""

import json
import shutil
from pathlib import Path

import pytest

from nordocr_cli.core.compare3way.plan import ReferenceSource
from nordocr_cli.core.compare3way.readings import parse_reading_source
from nordocr_cli.core.compare3way.run import compare3way
from nordocr_cli.core.eval.run import evaluate
from nordocr_cli.errors import MissingBackendError, UsageError
from nordocr_cli.runtime.backends.tesseract.engine import find_tesseract
from nordocr_cli.runtime.recognizers import open_recognizer
from nordocr_cli.runtime.specs import parse_spec, require_options

SAMPLES = Path(__file__).parents[2] / "samples"
DOC = SAMPLES / "doc"


@pytest.fixture(scope="module")
def few_lines(tmp_path_factory):
    """A manifest of five sample lines."""
    rows = (
        (SAMPLES / "lines" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()[:5]
    )
    folder = tmp_path_factory.mktemp("few")
    values = [json.loads(row) for row in rows]
    for value in values:
        name = Path(value["image"]).name
        shutil.copy(SAMPLES / "lines" / value["image"], folder / name)
        value["image"] = name
    path = folder / "few.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def test_rapidocr_is_evaluated_as_any_recognizer(few_lines):
    pytest.importorskip("rapidocr")
    result = evaluate("rapidocr", few_lines, threads=1)
    assert result.model["kind"] == "rapidocr"
    assert result.model["model"].startswith("PP-OCR")
    assert len(result.model["model_sha256"]) == 64
    assert result.report.cer < 0.3


@pytest.mark.tesseract
def test_the_best_models_of_tesseract_are_those_of_a_folder(
    few_lines, monkeypatch, tmp_path
):
    pytest.importorskip("tesserocr")
    monkeypatch.delenv("NORDOCR_TESSDATA_BEST", raising=False)
    with pytest.raises(MissingBackendError, match="set NORDOCR_TESSDATA_BEST"):
        open_recognizer("tesseract-best")
    monkeypatch.setenv("NORDOCR_TESSDATA_BEST", str(tmp_path))
    with pytest.raises(MissingBackendError, match="no .traineddata files there"):
        open_recognizer("tesseract-best")
    # The installed models stand for the best ones: only the folder tells them apart.
    monkeypatch.setenv("NORDOCR_TESSDATA_BEST", str(find_tesseract().data))
    result = evaluate("tesseract-best:swe", few_lines, threads=1)
    assert result.model["name"] == "tesseract-best:swe"
    assert result.model["version"].endswith("tessdata_best")


def test_names_of_programs():
    assert parse_spec("rapidocr").backend == "rapidocr"
    assert parse_spec("tesseract-best:swe").best
    with pytest.raises(UsageError, match="one model for all languages"):
        parse_spec("rapidocr:swe")
    with pytest.raises(UsageError, match="no language given"):
        parse_spec("tesseract-best:")
    with pytest.raises(UsageError, match="has its own decoding"):
        require_options(parse_spec("rapidocr"), decoder="beam")


def test_three_engines_make_a_consensus_without_a_server(tmp_path):
    truth = DOC / "dev_doc.json"
    source = parse_reading_source(str(truth))
    result = compare3way(
        DOC / "dev_doc.tif", source, source, ReferenceSource(third=source, kind="consensus")
    )
    assert result.verdict.reference.startswith("agreement with what two of")
    assert result.verdict.third == "dev_doc"
    assert result.verdict.agreement.patterns["canonical"]["AAA"] == 448
    with pytest.raises(UsageError, match="both a third reader"):
        ReferenceSource(third=source, answers=tmp_path / "a.jsonl")
