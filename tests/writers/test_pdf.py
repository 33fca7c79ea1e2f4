import io
from pathlib import Path

import numpy as np
import pytest

from nordocr_cli.records import Box, Recognition
from nordocr_cli.writers.pdf import write_pdf
from nordocr_cli.writers.read_page import ReadLine, ReadPage

pdfium = pytest.importorskip("pypdfium2", reason="pypdfium2 reads the PDF that was written")


def page(pixels, text="", box=Box(40, 30, 200, 24)):
    height, width = pixels.shape[:2]
    step = box.width / max(1, len(text))
    edges = tuple((box.x + i * step, box.x + (i + 1) * step) for i in range(len(text)))
    line = ReadLine(box, Recognition(text, 0.9, (0.9,) * len(text)), edges)
    return ReadPage(Path("scan.tif"), 0, (height, width), (line,), pixels)


def opened(*pages):
    return pdfium.PdfDocument(io.BytesIO(b"".join(write_pdf(pages))))


def bilevel():
    pixels = np.full((150, 301, 3), 255, np.uint8)
    pixels[30:54, 40:240] = 0
    return pixels


def test_the_text_is_found_at_its_place():
    text = "Å (å) Æ\\ð € 1 234,50"
    document = opened(page(bilevel(), text))
    (sheet,) = document
    assert sheet.get_size() == pytest.approx((301 * 0.24, 150 * 0.24), abs=0.01)
    words = sheet.get_textpage()
    assert words.get_text_range().split() == text.split()
    assert words.count_rects() > 0
    left, bottom, right, top = words.get_rect(0)
    assert left == pytest.approx(40 * 0.24, abs=1)
    assert (150 - 54) * 0.24 - 1 <= bottom < top <= (150 - 30) * 0.24 + 3
    assert right <= 240 * 0.24 + 3


def test_the_picture_is_the_page_and_the_text_invisible():
    gray = (
        np.random.default_rng(1)
        .integers(100, 156, (150, 301), dtype=np.uint8)[..., None]
        .repeat(3, 2)
    )
    colored = gray.copy()
    colored[..., 0] = 20
    for pixels in (bilevel(), gray, colored):
        (sheet,) = opened(page(pixels, "Text"))
        drawn = sheet.render(scale=300 / 72).to_numpy()[:150, :301, 2::-1].astype(int)
        assert np.abs(drawn - pixels).mean() < 8


def test_pages_without_text_and_characters_of_any_script():
    # more than the codes of one font
    many = "".join(chr(code) for code in range(0x4E00, 0x4E00 + 300))
    texts = ["", "aŁΩб\u4e2d\U0001d538b", many]
    sheets = list(opened(*(page(bilevel(), text) for text in texts)))
    assert [sheet.get_textpage().get_text_range().strip() for sheet in sheets] == texts


def test_a_page_without_pixels_is_a_bug():
    with pytest.raises(ValueError, match="needs the page's pixels"):
        list(write_pdf([ReadPage(Path("a.tif"), 0, (5, 5), ())]))
