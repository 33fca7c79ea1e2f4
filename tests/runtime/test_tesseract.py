import json
from pathlib import Path

import numpy as np
import pytest

from nordocr_cli.data.resize import read_image
from nordocr_cli.errors import DataError, MissingBackendError, UsageError
from nordocr_cli.records import Box
from nordocr_cli.runtime.backends.tesseract.engine import find_tesseract
from nordocr_cli.runtime.backends.tesseract.recognizer import (
    TesseractRecognizer,
    parse_lines,
    parse_tsv,
)
from nordocr_cli.runtime.recognizers import batch_invariance, open_recognizer

SAMPLES = Path(__file__).parents[2] / "samples" / "lines"
HEADER = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n"


def sample_lines(count):
    """`count` short clean lines of each language, as (crop, language, text)."""
    rows = [
        json.loads(line)
        for line in (SAMPLES / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    chosen = [
        r
        for code in ("sv", "no", "da", "is")
        for r in [
            r
            for r in rows
            if r["language"] == code and r["subset"] == "clean" and len(r["text"]) < 40
        ][:count]
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
    first, empty, quoted = parse_tsv([HEADER + "\n".join(rows) + "\n"], 3)
    assert first.text == "År 2024"
    assert first.confidence == pytest.approx((2 * 0.9 + 4 * 0.6) / 6)
    assert (empty.text, empty.confidence) == ("", 0.0)
    assert quoted.text == '"5'
    with pytest.raises(DataError, match="3 of 4 crops"):
        parse_tsv([HEADER + "\n".join(rows)], 4)


def test_without_the_program_the_install_line_is_given(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TESSDATA_PREFIX", raising=False)
    with pytest.raises(
        MissingBackendError, match="apt-get install tesseract-ocr tesseract-ocr-swe"
    ):
        open_recognizer("tesseract")


@pytest.mark.tesseract
def test_clean_lines_are_read_in_their_language():
    crops, languages, texts = zip(*sample_lines(2), strict=True)
    readings = TesseractRecognizer().recognize(crops, languages)
    right = sum(reading.text == text for reading, text in zip(readings, texts, strict=True))
    assert right >= len(texts) // 2
    assert all(0 < reading.confidence <= 1 for reading in readings)


@pytest.fixture(params=["library", "program"])
def installed(request):
    """Tesseract, run by its library and by its program."""
    if request.param == "library":
        pytest.importorskip("tesserocr", reason="tesserocr is not installed")
    found = find_tesseract(library=request.param == "library")
    assert found.has_library == (request.param == "library")
    return found


@pytest.mark.tesseract
def test_a_crop_reads_alone_as_among_others(installed):
    crops = [crop for crop, _, _ in sample_lines(1)]
    recognizer = TesseractRecognizer("swe", 3, installed)
    assert batch_invariance(recognizer, crops) == {
        "together": [],
        "widest": [],
        "random": [],
    }
    about = recognizer.about()
    assert ("tesserocr" in about["version"]) == installed.has_library
    assert list(about["traineddata_sha256"]) == ["swe"]


@pytest.mark.tesseract
def test_the_library_reads_as_the_program_does():
    pytest.importorskip("tesserocr", reason="tesserocr is not installed")
    crops, languages, _ = zip(*sample_lines(3), strict=True)
    by_library, by_program = (
        TesseractRecognizer(installed=find_tesseract(library)).recognize(crops, languages)
        for library in (True, False)
    )
    # Two versions of Tesseract: of dev's 448 lines they read 418 alike.
    assert sum(
        a.text == b.text for a, b in zip(by_library, by_program, strict=True)
    ) >= 0.8 * len(crops)
    alike = [
        (a.confidence, b.confidence)
        for a, b in zip(by_library, by_program, strict=True)
        if a.text == b.text
    ]
    assert all(abs(a - b) < 0.1 for a, b in alike)


@pytest.mark.tesseract
def test_the_library_needs_no_program_where_its_data_is_named(monkeypatch, tmp_path):
    pytest.importorskip("tesserocr", reason="tesserocr is not installed")
    data = find_tesseract().data
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TESSDATA_PREFIX", str(data))
    crop, _, text = sample_lines(1)[0]
    assert open_recognizer("tesseract:swe").recognize([crop])[0].text == text
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    with pytest.raises(MissingBackendError, match="no language swe"):
        open_recognizer("tesseract:swe")


@pytest.mark.tesseract
def test_a_crop_that_cannot_be_read_is_told(installed):
    recognizer = TesseractRecognizer("swe", 1, installed)
    with pytest.raises(DataError, match="tesseract"):
        recognizer.recognize([np.full((40, 33_000, 3), 255, np.uint8)])
    crop, _, text = sample_lines(1)[0]
    assert [
        reading.text
        for reading in recognizer.recognize([np.zeros((1, 1, 3), np.uint8), crop])
    ][1] == text


@pytest.mark.tesseract
def test_languages_that_are_not_there_are_named():
    with pytest.raises(
        MissingBackendError,
        match=r"no language xyz; Debian: apt-get install tesseract-ocr-xyz",
    ):
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
