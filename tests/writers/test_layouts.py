"""ALTO, hOCR, PAGE-XML, JSON and PDF of sloping and turned lines, read back by our own readers and
by independent programs.
"""

import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pypdfium2
import pytest
from PIL import Image

from nordocr_cli.core.predict.counts import Counts
from nordocr_cli.core.predict.run import Prediction
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.errors import UsageError
from nordocr_cli.pages.outline import outline_of
from nordocr_cli.records import Recognition
from nordocr_cli.writers.overlay import draw_overlay, overlay_png
from nordocr_cli.writers.registry import FORMATS, format_of_file

TEXTS = ["Årsmöte 2024", "Första raden", "andra raden", "uppåt"]


def written(kind, *pages):
    return "".join(FORMATS[kind].write(iter(pages)))


@pytest.mark.parametrize("kind", ["alto", "hocr", "page", "json"])
def test_outlines_are_read_back(kind, sloping_page, tmp_path):
    (tmp_path / "layout").write_text(written(kind, sloping_page), encoding="utf-8")
    (page,) = read_layout(tmp_path / "layout").pages
    assert [region.text for region in page.regions] == TEXTS
    for region, line in zip(page.regions, sloping_page.lines, strict=True):
        outline = outline_of(region.box, region.polygon, region.baseline)
        np.testing.assert_allclose(outline.points, line.shape.points, atol=1.5)


def test_words_of_a_sloping_line_lie_along_it(sloping_page):
    first, second = sloping_page.lines[1].words()
    assert (first.text, second.text) == ("Första", "raden")
    assert first.box.y < second.box.y
    assert second.outline.points[1] == pytest.approx(
        sloping_page.lines[1].outline.points[1]
    )
    upwards = sloping_page.lines[3].words()[0]
    assert upwards.box.height == pytest.approx(200, abs=1)


def test_hocr_has_paragraphs_and_the_resolution(sloping_page):
    root = ElementTree.fromstring(written("hocr", sloping_page))
    classes = [element.get("class") for element in root.iter() if element.get("class")]
    assert classes.count("ocr_par") == 3
    assert classes.count("ocr_line") == 4
    page = next(element for element in root.iter() if element.get("class") == "ocr_page")
    assert "scan_res 200 100" in page.get("title")
    titles = [e.get("title") for e in root.iter() if e.get("class") == "ocr_line"]
    assert "baseline 0.0349" in titles[1]
    assert "textangle 90.00" in titles[3]


def test_alto_and_page_group_paragraphs(sloping_page):
    alto = ElementTree.fromstring(written("alto", sloping_page))
    assert sum(element.tag.endswith("}TextBlock") for element in alto.iter()) == 3
    assert sum(element.tag.endswith("}Polygon") for element in alto.iter()) == 3
    page = ElementTree.fromstring(written("page", sloping_page))
    regions = [e.get("id") for e in page.iter() if e.tag.endswith("}TextRegion")]
    order = [e.get("regionRef") for e in page.iter() if e.tag.endswith("}RegionRefIndexed")]
    assert regions == order
    assert len(order) == 3
    element = next(e for e in page.iter() if e.tag.endswith("}Page"))
    assert element.get("imageXResolution") == "200.00"


@pytest.mark.parametrize(
    "kind", ["text", "json", "jsonl", "tsv", "alto", "page", "hocr", "pdf"]
)
def test_a_page_without_text_is_a_valid_result(kind, sloping_page, tmp_path):
    blank = replace(sloping_page, lines=())
    prediction = Prediction(iter([blank]), Counts(), True)
    (path,) = prediction.save(kind, tmp_path / "out")
    content = path.read_bytes()
    if kind in ("alto", "page", "hocr"):
        ElementTree.fromstring(content)
    if kind == "json":
        assert json.loads(content)["pages"][0]["lines"] == []
    if kind == "pdf":
        assert len(pypdfium2.PdfDocument(content)) == 1


def test_a_pdf_page_has_its_true_size_and_its_text(sloping_page):
    content = b"".join(FORMATS["pdf"].write([sloping_page]))
    (sheet,) = pypdfium2.PdfDocument(io.BytesIO(content))
    assert sheet.get_size() == pytest.approx((800 / 200 * 72, 1200 / 100 * 72), abs=0.01)
    words = sheet.get_textpage().get_text_range().split()
    assert sorted(words) == sorted(" ".join(TEXTS).split())


def test_a_turned_page_is_shown_upright(sloping_page):
    turned = replace(sloping_page, quarter_turns=3)
    (sheet,) = pypdfium2.PdfDocument(io.BytesIO(b"".join(FORMATS["pdf"].write([turned]))))
    assert sheet.get_rotation() == 90


@pytest.mark.skipif(not shutil.which("gs"), reason="needs Ghostscript")
def test_the_text_survives_ghostscript(sloping_page, tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"".join(FORMATS["pdf"].write([sloping_page])))
    command = [
        "gs",
        "-q",
        "-dBATCH",
        "-dNOPAUSE",
        "-sDEVICE=pdfwrite",
        "-o",
        "b.pdf",
        "a.pdf",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    (sheet,) = pypdfium2.PdfDocument(tmp_path / "b.pdf")
    words = sheet.get_textpage().get_text_range().split()
    assert sorted(words) == sorted(" ".join(TEXTS).split())


@pytest.mark.parametrize("text", ["a\nb", "\r", "\x1b[2J", "\u202e", "x" * 1_000_000])
def test_an_overlay_draws_any_text(sloping_page, text):
    lines = tuple(
        replace(line, reading=Recognition(text, 0.5)) for line in sloping_page.lines
    )
    picture = draw_overlay(replace(sloping_page, lines=lines))
    assert picture.shape == draw_overlay(sloping_page).shape


def test_an_overlay_shows_the_page_and_the_text_next_to_it(sloping_page):
    picture = draw_overlay(sloping_page)
    assert picture.shape == (1200, 1600, 3)
    right = picture[:, 800:]
    for line in sloping_page.lines:
        box = line.box
        part = right[int(box.y) : int(box.bottom), int(box.x) : int(box.right)]
        assert (part.min(axis=2) < 200).any()
    shown = Image.open(io.BytesIO(overlay_png(sloping_page)))
    assert shown.info["dpi"] == pytest.approx((200, 100), abs=0.1)


def test_several_pages_of_a_file_a_page_become_several_files(sloping_page, tmp_path):
    pages = [replace(sloping_page, index=index) for index in range(2)]
    saved = Prediction(iter(pages), Counts(), True).save("page", tmp_path / "x.page.xml")
    assert [path.name for path in saved] == ["x-1.page.xml", "x-2.page.xml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "x-1.page.xml",
        "x-2.page.xml",
    ]
    with pytest.raises(UsageError, match="a file a page: give -o FILE"):
        list(Prediction(iter(pages), Counts(), True).write("page"))


def test_the_suffix_says_the_format():
    names = {
        "a.pdf": "pdf",
        "a.PDF": "pdf",
        "a.txt": "text",
        "a.xml": "alto",
        "a.page.xml": "page",
        "a.alto.xml": "alto",
        "a.hocr": "hocr",
        "a.html": "hocr",
        "a.png": "overlay",
        "a.jsonl": "jsonl",
        "a.tsv": "tsv",
    }
    assert {name: format_of_file(Path(name)).name for name in names} == names
    assert format_of_file(Path("a.out")) is None
