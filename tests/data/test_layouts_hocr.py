"""hOCR and TSV; the other formats are in test_layouts.py."""

from pathlib import Path

import pytest

from nordocr_cli.data.layouts.layout import Layout
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.errors import DataError
from nordocr_cli.records import Box, Page, Region

# As Tesseract writes it: a document type, entities, words; and as other programs do: HTML, lines of
# plain text.
HOCR = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xml:lang="en" lang="en"><head><meta name="ocr-system"><title>A &lt; B</title></head><body>
<div class='ocr_page' id='page_1' title='image "scan 1.tif"; bbox 0 0 2481 3508; ppageno 0; scan_res 300 300'>
 <p class='ocr_par' lang='swe'>
  <span class='ocr_line' id='l1' title="bbox 10 20 310 60; baseline 0 -9">
   <span class='ocrx_word' title='bbox 10 20 90 60; x_wconf 90'><strong>A&#778;re</strong></span>
   <span class='ocrx_word' title='bbox 99 20 310 60; x_wconf 50'>&amp;&nbsp;Co</span></span>
  <span class='ocr_header' title='bbox 10 70 60 100.5'>två<br>rader  text</span>
 </p>
</div>
<div class="ocr_page other" title="bbox 0 0 100 200"></div>
</body></html>"""
TESSERACT_TSV = (
    "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n"
    "1\t1\t0\t0\t0\t0\t0\t0\t2481\t3508\t-1\t\n"
    "4\t1\t1\t1\t1\t0\t10\t20\t300\t40\t-1\t\n"
    "5\t1\t1\t1\t1\t1\t10\t20\t80\t40\t90.5\tÅre\n"
    "5\t1\t1\t1\t1\t2\t99\t20\t211\t40\t49.5\t7\n"
    "4\t3\t1\t1\t1\t0\t1\t2\t3\t4\t-1\t\n"
)
OURS = (
    "image\tpage\tleft\ttop\twidth\theight\tconfidence\ttext\na.tif\t2\t10\t20\t300\t40\t0.7\tÅre"
    " 7\na.tif\t2\t1\t2\t3\t4\t\t\n"
)


def read(tmp_path: Path, content: str, name: str = "layout") -> Layout:
    (tmp_path / name).write_text(content, encoding="utf-8")
    return read_layout(tmp_path / name)


def test_hocr(tmp_path: Path) -> None:
    found = read(tmp_path, HOCR)
    lines = (
        Region(Box(10, 20, 300, 40), "Åre & Co", pytest.approx(0.7)),
        Region(Box(10, 70, 50, 30.5), "två rader text"),
    )
    assert found.pages == (Page(0, lines), Page(1, ()))
    assert (found.language, found.images, found.sizes) == (
        "sv",
        ("scan 1.tif", ""),
        ((3508, 2481), (200, 100)),
    )


def test_tsv(tmp_path: Path) -> None:
    line = Region(Box(10, 20, 300, 40), "Åre 7", pytest.approx(0.7))
    assert read(tmp_path, TESSERACT_TSV).pages == (
        Page(0, (line,)),
        Page(2, (Region(Box(1, 2, 3, 4)),)),
    )
    assert read(tmp_path, OURS).pages == (Page(1, (line, Region(Box(1, 2, 3, 4)))),)
    assert read(tmp_path, OURS.replace("\n", "\r\n")).pages == read(tmp_path, OURS).pages


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html><body>hello</body></html>", "no ocr_page"),
        ('<!DOCTYPE html [<!ENTITY a "b">]>' + HOCR[40:], "DTD declares something"),
        (HOCR.replace("bbox 10 20 310 60;", ""), "page 1, line 'l1': no bbox"),
        (HOCR.replace("bbox 10 20 310 60;", "bbox 10 20 10 60;"), "no area"),
        (TESSERACT_TSV.replace("300\t40", "300\tx"), "layout:3: expected numbers"),
        (
            TESSERACT_TSV.replace("4\t1\t1\t1\t1\t0", "3\t1\t1\t1\t1\t0"),
            "lines before words",
        ),
        (TESSERACT_TSV.split("\n", 1)[0], "no line of a page"),
        (OURS + "b.tif\t2\t10\t20\t300\t40\t0.7\tx\n", "several images"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match="layout") as caught:
        read(tmp_path, content)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "bad", "said"),
    [
        (HOCR.replace("bbox 10 20 310 60; baseline", "baseline"), [(0, 1)], "no bbox"),
        (
            HOCR.replace("bbox 10 20 310 60; baseline", "bbox 10 20 1.2.3 60; baseline"),
            [(0, 1)],
            "1.2.3",
        ),
        (
            HOCR.replace("bbox 10 70 60 100.5", "bbox 10 70 10 100.5"),
            [(0, 2)],
            "layout: page 1, line 2",
        ),
        (
            TESSERACT_TSV.replace("300\t40", "300\tx"),
            [(0, 1)],
            "layout:3: expected numbers",
        ),
        (TESSERACT_TSV.replace("90.5", "sure"), [(0, 1)], "layout:4: expected numbers"),
        (TESSERACT_TSV.replace("300\t40", "0\t40"), [(0, 1)], "layout:3: "),
        (
            TESSERACT_TSV.replace("4\t1\t1\t1\t1\t0", "four\t1\t1\t1\t1\t0"),
            [(0, 1)],
            "layout:3: expected numbers",
        ),
        (OURS.replace("1\t2\t3\t4", "1\t2"), [(1, 2)], "layout:3: expected numbers"),
        (OURS + "a.tif\n", [(1, 3)], "layout:4: expected numbers"),
    ],
)
def test_a_bad_line_is_left_out_and_told(
    tmp_path: Path, content: str, bad: list[tuple[int, int]], said: str
) -> None:
    whole = read(
        tmp_path,
        HOCR
        if content.startswith("<")
        else OURS
        if content.startswith("image")
        else TESSERACT_TSV,
    )
    (tmp_path / "layout").write_text(content, encoding="utf-8")
    found: dict[tuple[int, int], str] = {}
    layout = read_layout(tmp_path / "layout", found)
    assert list(found) == bad
    assert said in found[bad[0]]
    expected = {page.index: list(page.regions) for page in whole.pages}
    for index, number in bad:
        del expected[index][number - 1 : number]
    assert {page.index: list(page.regions) for page in layout.pages} == expected
