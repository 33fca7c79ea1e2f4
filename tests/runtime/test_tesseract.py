import json
import shutil
from pathlib import Path

import pytest

from nordocr_cli.data.resize import read_image
from nordocr_cli.errors import DataError, MissingBackendError, UsageError
from nordocr_cli.records import Box
from nordocr_cli.runtime.recognizers import batch_invariance, open_recognizer
from nordocr_cli.runtime.tesseract import TesseractRecognizer, installed_languages, parse_lines, parse_tsv

SAMPLES = Path(__file__).parents[2] / "samples" / "lines"
HEADER = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n"


def missing_tesseract():
    if shutil.which("tesseract") is None:
        return "tesseract is not on PATH"
    lacking = {"swe", "nor", "dan", "isl"} - installed_languages()
    return f"tesseract has no {lacking}" if lacking else ""


needs_tesseract = pytest.mark.skipif(bool(missing_tesseract()), reason=missing_tesseract() or "it is here")


def sample_lines(count):
    """`count` clean lines of each language, as (crop, language, text)."""
    rows = [json.loads(line) for line in (SAMPLES / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = [
        r
        for code in ("sv", "no", "da", "is")
        for r in [r for r in rows if r["language"] == code and r["subset"] == "clean"][:count]
    ]
    return [(read_image(SAMPLES / r["image"]), r["language"], r["text"]) for r in chosen]


def test_tsv_becomes_one_reading_an_image():
    rows = [
        "1\t1\t0\t0\t0\t0\t0\t0\t9\t9\t-1\t",
        "5\t1\t1\t1\t1\t1\t0\t0\t9\t9\t90.0\tÅr",
        "5\t1\t1\t1\t1\t2\t0\t0\t9\t9\t60.0\t2024",
        "1\t2\t0\t0\t0\t0\t0\t0\t9\t9\t-1\t",
        "5\t2\t1\t1\t1\t1\t0\t0\t9\t9\t95.0\t ",
        "1\t3\t0\t0\t0\t0\t0\t0\t9\t9\t-1\t",
        '5\t3\t1\t1\t1\t1\t0\t0\t9\t9\t50.0\t"5',
    ]
    first, empty, quoted = parse_tsv(HEADER + "\n".join(rows) + "\n", 3)
    assert first.text == "År 2024"
    assert first.confidence == pytest.approx((2 * 0.9 + 4 * 0.6) / 6)
    assert (empty.text, empty.confidence) == ("", 0.0)
    assert quoted.text == '"5'
    with pytest.raises(DataError, match="3 of 4 crops"):
        parse_tsv(HEADER + "\n".join(rows), 4)


def test_without_the_program_the_install_line_is_given(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingBackendError, match="apt-get install tesseract-ocr tesseract-ocr-swe"):
        open_recognizer("tesseract")


@pytest.mark.tesseract
@needs_tesseract
def test_clean_lines_are_read_in_their_language():
    crops, languages, texts = zip(*sample_lines(2), strict=True)
    readings = TesseractRecognizer().recognize(crops, languages)
    right = sum(reading.text == text for reading, text in zip(readings, texts, strict=True))
    assert right >= len(texts) // 2
    assert all(0 < reading.confidence <= 1 for reading in readings)


@pytest.mark.tesseract
@needs_tesseract
def test_a_crop_reads_alone_as_among_others():
    crops = [crop for crop, _, _ in sample_lines(2)]
    assert batch_invariance(open_recognizer("tesseract:swe"), crops) == {"together": [], "widest": [], "random": []}


@pytest.mark.tesseract
@needs_tesseract
def test_languages_that_are_not_there_are_named():
    with pytest.raises(MissingBackendError, match=r"no language xyz; Debian: apt-get install tesseract-ocr-xyz"):
        open_recognizer("tesseract:swe+xyz")
    crop = sample_lines(1)[0][0]
    with pytest.raises(UsageError, match="'klingon'"):
        TesseractRecognizer().recognize([crop], ["klingon"])
    assert TesseractRecognizer().recognize([]) == []


def test_lines_of_a_page():
    tsv = (
        "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n"
        "1\t1\t0\t0\t0\t0\t0\t0\t900\t900\t-1\t\n"
        "4\t1\t1\t1\t1\t0\t50\t40\t300\t30\t-1\t\n5\t1\t1\t1\t1\t1\t50\t40\t90\t30\t93\tOrd\n"
        "4\t1\t2\t1\t1\t0\t50\t90\t800\t4\t-1\t\n5\t1\t2\t1\t1\t1\t50\t90\t800\t4\t95\t \n"
    )
    assert parse_lines(tsv) == [Box(47, 37, 306, 36)]
