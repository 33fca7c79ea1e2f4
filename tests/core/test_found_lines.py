"""Every command that finds lines cuts them as `read` does: without the dots of leaders, and in their
shape where the dots of the page are not square.
"""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from nordocr_cli.core.adapt.lines import write_lines
from nordocr_cli.core.bench.lines import collect_lines
from nordocr_cli.core.bench.plan import BenchRequest
from nordocr_cli.core.predict.run import open_reader
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.data.pages import LayoutSource
from nordocr_cli.data.resize import read_image
from nordocr_cli.progress import SILENT


@pytest.fixture
def contents(tmp_path):
    """A table of contents whose titles and numbers are far apart, with dots between them."""
    image = Image.new("L", (1200, 400), 255)
    pen = ImageDraw.Draw(image)
    font = ImageFont.truetype("DejaVuSans.ttf", 34)
    for row, (title, number) in enumerate(
        [("Balansräkning", "12"), ("Resultaträkning", "14")]
    ):
        top = 100 + 100 * row
        pen.text((60, top), title, font=font, fill=0)
        pen.text((370, top), "." * 60, font=font, fill=0)
        pen.text((1050, top), number, font=font, fill=0)
    image.save(tmp_path / "contents.png")
    return tmp_path / "contents.png"


def lines_of_adapt(page, folder):
    found = write_lines([page], folder, 1, SILENT)
    return [read_image(folder / line.image) for line in found]


def lines_of_bench(page, folder):
    request = BenchRequest(models=(), document=page)
    lines = collect_lines(request, regions=None, contracts={}, progress=SILENT)
    return lines.crops


@pytest.mark.parametrize("lines_of", [lines_of_adapt, lines_of_bench])
def test_lines_that_are_found_hold_no_leaders(lines_of, contents, tmp_path):
    lines = lines_of(contents, tmp_path / "lines")

    assert len(lines) == 2
    for line in lines:
        assert line.shape[1] > 900  # from the title to the number
        assert np.asarray(line)[:, 330:930].min() > 200


@pytest.fixture
def fax(tmp_path):
    """A page of 204 dots an inch across and 102 down, so that its letters are half as high."""
    image = Image.new("L", (900, 400), 255)
    pen = ImageDraw.Draw(image)
    font = ImageFont.truetype("DejaVuSans.ttf", 34)
    pen.text((60, 60), "Förvaltningsberättelse", font=font, fill=0)
    pen.text((60, 160), "Styrelsens säte: Göteborg", font=font, fill=0)
    image.resize((900, 200)).save(tmp_path / "fax.tif", dpi=(204, 102))
    return tmp_path / "fax.tif"


@pytest.mark.parametrize("lines_of", [lines_of_adapt, lines_of_bench])
def test_lines_of_fax_pages_have_their_shape(lines_of, fax, tmp_path):
    lines = lines_of(fax, tmp_path / "lines")

    assert len(lines) == 2
    for line in lines:
        assert line.shape[0] > 30  # half as high on the page


def test_bench_places_the_lines_of_fax_pages_on_the_page(fax):
    request = BenchRequest(models=(), document=fax)
    lines = collect_lines(request, regions=None, contracts={}, progress=SILENT)

    (page,) = lines.pages
    first, second = (region.box for region in page.regions)
    assert first.y == pytest.approx(32, abs=6)
    assert second.bottom == pytest.approx(100, abs=8)
    assert first.height < 25


@pytest.fixture
def fax_regions(fax):
    """The lines of the fax in pixels of its page."""
    texts = {
        "Förvaltningsberättelse": (55, 32, 520, 52),
        "Styrelsens säte: Göteborg": (55, 82, 560, 102),
    }
    regions = [{"text": text, "bbox": box} for text, box in texts.items()]
    page = {"page": 1, "width": 900, "height": 200, "regions": regions}
    path = fax.with_suffix(".json")
    path.write_text(json.dumps({"pages": [page]}))
    return path


def test_given_lines_of_fax_pages_have_their_shape_in_every_command(fax, fax_regions):
    layout = read_layout(fax_regions)
    request = BenchRequest(models=(), document=fax, regions=fax_regions)
    of_bench = collect_lines(request, regions=layout, contracts={}, progress=SILENT).crops
    source = LayoutSource(fax_regions, [fax_regions], root=fax)
    of_prep = [source.crop(entry) for entry in source.entries()]

    assert [line.shape for line in of_bench] == [line.shape for line in of_prep]
    assert [line.shape[0] for line in of_prep] == [40, 40]  # 20 on the page


def test_given_lines_of_fax_pages_are_read_in_their_shape(fax, fax_regions):
    reader = open_reader(threads=1)

    (page,) = reader.read([fax], regions=fax_regions)

    first, second = page.lines
    assert first.reading.text == "Förvaltningsberättelse"
    assert second.reading.text == "Styrelsens säte: Göteborg"
    assert (first.box.y, first.box.height) == (pytest.approx(32), pytest.approx(20))
    assert (second.box.x, second.box.width) == (55, 505)
