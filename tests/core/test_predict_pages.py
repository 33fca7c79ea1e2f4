"""Pages from the file to the result: turned ones, blank ones, folders of them, doubtful ones."""

import io
import json
import os
import stat
import subprocess
import sys
import weakref
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.core.predict.doubts import image_doubts, page_doubts
from nordocr_cli.core.predict.inputs import resolve_layout
from nordocr_cli.core.predict.run import Counts, Prediction, open_reader, predict
from nordocr_cli.data import documents
from nordocr_cli.errors import DataError, GateMissed, UsageError
from nordocr_cli.limits import Limits
from nordocr_cli.records import STDIN, Recognition
from nordocr_cli.writers.read_page import ReadPage
from nordocr_cli.writers.registry import FORMATS

TEXTS = ["Årsredovisning 2023", "Förvaltningsberättelse", "Styrelsens säte: Göteborg"]


def page(*texts, size=(900, 700)):
    """A gray page with one line of text for each of `texts`."""
    image = Image.new("L", size, 255)
    font = ImageFont.truetype("DejaVuSans.ttf", 34)
    for at, text in enumerate(texts):
        ImageDraw.Draw(image).text((80, 80 + 70 * at), text, font=font, fill=0)
    return image


@pytest.fixture(scope="module")
def reader():
    return open_reader(threads=1)


def texts_of(prediction):
    return [[line.reading.text for line in page.lines] for page in prediction]


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_boxes_are_in_the_pixels_of_the_page_as_it_lies(quarter_turns, reader, tmp_path):
    turned = np.rot90(np.asarray(page(*TEXTS)), -quarter_turns)
    Image.fromarray(turned).save(tmp_path / "a.png")
    (read,) = reader.read([tmp_path / "a.png"])
    assert [line.reading.text for line in read.lines] == TEXTS
    assert read.quarter_turns == quarter_turns
    for line in read.lines:
        box = line.box
        inside = turned[int(box.y) : int(box.bottom) + 1, int(box.x) : int(box.right) + 1]
        assert (inside < 128).sum() > 500
        assert 0 <= box.x < box.right <= read.size[1]
        assert 0 <= box.y < box.bottom <= read.size[0]


def test_text_at_the_edge_has_boxes_inside_the_page(reader, tmp_path):
    pixels = np.asarray(page(*TEXTS))[86:, 82:]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (read,) = reader.read([tmp_path / "a.png"])
    assert len(read.lines) == 3
    for line in read.lines:
        for x, y in line.shape.points:
            assert 0 <= x <= read.size[1]
            assert 0 <= y <= read.size[0]


@pytest.mark.parametrize(
    "kind", ["text", "json", "jsonl", "tsv", "alto", "page", "hocr", "pdf"]
)
def test_blank_pages_are_results(kind, reader, tmp_path):
    pages = [page(), page(*TEXTS), page()]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    prediction = reader.read([tmp_path / "a.tif"])
    saved = prediction.save(kind, tmp_path / "out")
    assert all(path.is_file() for path in saved)
    assert (prediction.counts.pages, prediction.counts.failed) == (3, 0)
    page().save(tmp_path / "b.png")
    alone = reader.read([tmp_path / "b.png"])
    assert alone.save(kind, tmp_path / "blank")[0].is_file()
    alone.counts.require_all()
    alone.counts.require_no_doubt()


def test_a_folder_of_page_scans_is_read_as_pages(reader, tmp_path):
    for name in ("1.png", "2.png"):
        page(*TEXTS).save(tmp_path / name)
    assert resolve_layout([tmp_path], "auto") == "page"
    assert texts_of(reader.read([tmp_path])) == [TEXTS, TEXTS]
    for at in range(3):
        page(size=(600, 40)).save(tmp_path / f"line{at}.png")
    assert resolve_layout([tmp_path], "auto") == "line"


def test_standard_input_is_read(reader, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    page(*TEXTS).save(buffer, "PNG")
    documents._standard_input.cache_clear()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(buffer.getvalue())))
    assert texts_of(reader.read([STDIN])) == [TEXTS]
    documents._standard_input.cache_clear()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(DataError, match="standard input is empty"):
        reader.read([STDIN])
    documents._standard_input.cache_clear()


def test_fax_pages_are_read_in_their_shape(reader, tmp_path):
    tall = page(*TEXTS, size=(900, 1000))
    tall.resize((900, 500)).save(tmp_path / "fax.tif", dpi=(204, 102))
    (read,) = reader.read([tmp_path / "fax.tif"])
    assert [line.reading.text for line in read.lines] == TEXTS
    assert read.size == (500, 900)
    assert all(line.box.bottom <= 500 for line in read.lines)
    first = read.lines[0].box
    assert first.y == pytest.approx(42, abs=8)
    assert first.width == pytest.approx(345, abs=40)


def test_lines_without_text_are_empty(reader, tmp_path):
    pixels = {name: np.full((40, 600), 255, dtype=np.uint8) for name in "abcde"}
    pixels["b"][20:22] = 0  # a rule
    pixels["c"][28:30, ::8] = 0  # dots
    noise = np.random.default_rng(4)
    pixels["d"][noise.random((40, 600)) < 0.01] = 0  # specks
    pixels["e"][:, 100:102] = pixels["e"][:, 300:302] = pixels["e"][2:4] = pixels["e"][
        36:38
    ] = 0
    for name, values in pixels.items():
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    read = texts_of(reader.read([tmp_path]))
    assert read == [[""]] * 5


def test_a_page_read_as_a_line_is_doubtful(reader, tmp_path, heard):
    page(*TEXTS).save(tmp_path / "a.png")
    lines = open_reader(layout="line", threads=1).read([tmp_path / "a.png"], progress=heard)
    (read,) = lines
    assert "looks like a page" in read.doubts[0]
    assert "looks like a page, but was read as one line" in heard.warnings[0]
    with pytest.raises(GateMissed, match="1 doubtful; the first: .*looks like a page"):
        lines.counts.require_no_doubt()


def test_doubts_say_why(tmp_path):
    sure, unsure, empty = Recognition("a", 0.9), Recognition("b", 0.3), Recognition("")
    assert page_doubts([sure, sure, unsure]) == ()
    assert page_doubts([]) == ()
    assert page_doubts([sure, unsure, empty]) == (
        "2 of 3 lines are empty or have a confidence below 0.6",
    )
    assert page_doubts([sure], 0.4) == ("40% of the ink lies in no line",)
    blank, strip = (
        np.full((1000, 700, 3), 255, np.uint8),
        np.asarray(page(*TEXTS).convert("RGB")),
    )
    assert "looks like a page" in image_doubts(blank, sure)[0]
    assert not image_doubts(blank[:40], sure)
    assert "3 lines of text were read as one" in image_doubts(strip[60:290], unsure)[0]

    half_fax = np.full((392, 860, 3), 255, np.uint8)
    image = Image.fromarray(half_fax)
    small = ImageFont.truetype("DejaVuSans.ttf", 9)
    for y in range(20, 370, 14):
        ImageDraw.Draw(image).text((40, y), " ".join(TEXTS), font=small, fill=0)
    assert "lines of text were read as one" in image_doubts(np.asarray(image), empty)[0]


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_strip_of_several_lines_is_read_as_a_page(rows, scale, tmp_path):
    """Whatever its height: a page is not only what is 400 px high."""
    text = "Årets resultat enligt fastställd balansräkning uppgår till 1 234 567,89 kr"
    strip = page(*[text] * rows, size=(1500, 100 + 70 * rows))
    size = round(strip.width * scale), round(strip.height * scale)
    strip.resize(size, Image.Resampling.LANCZOS).save(tmp_path / "a.png")
    assert resolve_layout([tmp_path / "a.png"], "auto") == ("line" if rows == 1 else "page")


@pytest.mark.parametrize(
    ("size", "dot", "quarter_turns"),
    [(24, ".", 0), (34, " .", 0), (48, ".", 0), (34, ".", 1), (34, ".", 2)],
)
def test_leaders_of_dots_lead_to_the_number(size, dot, quarter_turns, reader, tmp_path):
    rows = [("Resultaträkning", "12"), ("Balansräkning", "147"), ("Noter", "21")]
    image = Image.new("L", (34 * size, 12 * size), 255)
    font = ImageFont.truetype("DejaVuSans.ttf", size)
    draw = ImageDraw.Draw(image)
    for at, (title, number) in enumerate(rows):
        top, left = (2 + 2 * at) * size, 2 * size
        start = left + draw.textlength(f"{title} ", font=font)
        count = int((28 * size - start) / draw.textlength(dot, font=font))
        draw.text((left, top), title, font=font, fill=0)
        draw.text((start, top), dot * count, font=font, fill=0)
        draw.text((29 * size, top), number, font=font, fill=0)
    turned = image.rotate(-90 * quarter_turns, expand=True)
    turned.convert("1").save(tmp_path / "a.png")

    (read,) = reader.read([tmp_path / "a.png"])

    assert [line.reading.text for line in read.lines] == [" ".join(row) for row in rows]
    assert read.doubts == ()


def test_doubts_are_in_the_result(tiny_onnx, tmp_path, heard):
    """An untrained network reads without confidence."""
    page(*TEXTS).save(tmp_path / "a.png")
    prediction = predict([tmp_path / "a.png"], str(tiny_onnx), threads=1, progress=heard)
    result = json.loads("".join(prediction.write("json")))
    assert "have a confidence below 0.6" in result["pages"][0]["doubts"][0]
    assert result["doubtful_pages"] == 1
    assert "a.png, page 1: 3 of 3 lines" in heard.warnings[0]


def test_limits_reach_the_reader(tmp_path):
    page(*TEXTS).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="above the limit of 1,000 for a page"):
        prediction = predict(
            [tmp_path / "a.png"], threads=1, limits=Limits(max_pixels=1000)
        )
        list(prediction)
        prediction.counts.require_all()


@pytest.fixture
def unreadable(tmp_path):
    """A TIFF that was cut off before its first page."""
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    return tmp_path / "a.tif"


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_results_with_a_place_for_errors_name_what_could_not_be_read(
    kind, reader, unreadable, tmp_path
):
    prediction = reader.read([unreadable])
    (path,) = prediction.save(kind, tmp_path / "out")

    content = json.loads(path.read_bytes())
    (record,) = content["pages"] if kind == "json" else [content]
    assert "cut off" in record["error"]
    with pytest.raises(DataError, match="not one line of 1 could be read"):
        prediction.counts.require_all()


@pytest.mark.parametrize("kind", ["text", "tsv", "alto", "page", "hocr", "pdf", "overlay"])
def test_where_nothing_could_be_read_no_empty_result_is_written(
    kind, reader, unreadable, tmp_path
):
    output = tmp_path / "out"
    output.write_text("the result of yesterday")

    with pytest.raises(DataError, match="not one line of 1 could be read"):
        reader.read([unreadable]).save(kind, output)

    assert output.read_text() == "the result of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "out"]


def test_one_page_that_can_be_read_is_a_result(reader, unreadable, tmp_path):
    page(*TEXTS).save(tmp_path / "b.png")
    prediction = reader.read([unreadable, tmp_path / "b.png"])
    prediction.save("pdf", tmp_path / "out.pdf")

    assert len(documents.read_pages(tmp_path / "out.pdf")) == 1
    with pytest.raises(DataError, match="1 of 4 could not be read"):
        prediction.counts.require_all()


def test_what_goes_to_stdout_is_well_formed_where_nothing_could_be_read(reader, unreadable):
    written = "".join(reader.read([unreadable]).write("hocr"))
    assert ElementTree.fromstring(written).tag.endswith("html")


def test_a_page_of_photographs_is_a_result(reader, tmp_path):
    noise = np.random.default_rng(5).integers(0, 255, (30, 24), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((960, 1200), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "a.png")
    prediction = reader.read([tmp_path / "a.png"])
    list(prediction)
    assert (prediction.counts.pages, prediction.counts.failed) == (1, 0)


def test_given_lines_are_cut_along_their_outline(reader, tmp_path):
    angle = 3
    straight = page(*TEXTS)
    straight.rotate(-angle, Image.Resampling.BICUBIC, fillcolor=255).save(
        tmp_path / "a.png"
    )
    regions = [
        {"bbox": [80, 76 + 70 * at, 620, 128 + 70 * at], "text": ""}
        for at in range(len(TEXTS))
    ]
    centre, turn = np.array([450, 350]), np.radians(angle)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    for region in regions:
        left, top, right, bottom = region["bbox"]
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        moved = (corners - centre) @ matrix + centre
        region["polygon"] = moved.tolist()
        region["bbox"] = [*moved.min(axis=0).tolist(), *moved.max(axis=0).tolist()]
    layout = tmp_path / "a.json"
    layout.write_text(json.dumps({"pages": [{"page": 1, "regions": regions}]}))
    assert texts_of(reader.read([tmp_path / "a.png"], regions=layout)) == [TEXTS]
    as_boxes = open_reader(threads=1, crop="box").read([tmp_path / "a.png"], regions=layout)
    (read,) = as_boxes
    assert all(line.outline is None for line in read.lines)


def test_a_page_that_was_written_is_not_held_while_the_next_is_decoded():
    earlier = []

    def pages():
        for index in range(3):
            assert not [pixels for pixels in earlier if pixels() is not None]
            pixels = np.zeros((8, 8), dtype=np.uint8)
            earlier.append(weakref.ref(pixels))
            read = ReadPage(Path("a.tif"), index, (8, 8), (), pixels)
            del pixels
            yield read
            del read

    list(Prediction(pages(), Counts(), single=True).write("tsv"))
    assert len(earlier) == 3


def make_device(path):
    """A device of the test's own: root can replace /dev/null."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        path.write_bytes(b"x")
    except OSError:
        pytest.skip("this user may not make a device")


@pytest.mark.parametrize("form", FORMATS)
def test_a_device_is_written_to_and_never_replaced(form, tmp_path):
    device = tmp_path / "null"
    make_device(device)
    document = page(TEXTS[0], size=(700, 200))
    document.save(tmp_path / "a.tif", save_all=True, append_images=[document])
    words = ["read", str(tmp_path / "a.tif"), "--layout", "page", "--format", form]
    done = CliRunner().invoke(app, [*words, "-o", str(device)])
    refused = isinstance(done.exception, UsageError)  # a device has no second file
    assert refused == FORMATS[form].is_one_file_a_page, done.exception
    assert device.is_char_device()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "null"]


def test_json_lines_go_through_a_pipe_and_to_the_target_of_a_link(tmp_path):
    page("Rad 12", size=(400, 60)).crop((60, 0, 400, 60)).save(tmp_path / "a.png")
    (tmp_path / "real.jsonl").write_text("old")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    os.mkfifo(tmp_path / "pipe")
    make_device(tmp_path / "null")
    words = ["read", str(tmp_path / "a.png"), "--layout", "line", "--jsonl", "-o"]
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        for name in ("pipe", "null", "link.jsonl"):
            assert CliRunner().invoke(app, [*words, str(tmp_path / name)]).exit_code == 0
        through = reader.communicate(timeout=60)[0]
    assert json.loads(through)["image"] == str(tmp_path / "a.png")
    assert (tmp_path / "null").is_char_device()
    assert (tmp_path / "link.jsonl").is_symlink()
    assert json.loads((tmp_path / "real.jsonl").read_text()) == json.loads(through)
    refused = CliRunner().invoke(app, [*words, str(tmp_path / "pipe"), "--resume"])
    assert "is a device or a pipe" in str(refused.exception)


def test_every_line_of_the_sample_document_is_found(reader):
    samples = Path(__file__).resolve().parents[2] / "samples" / "doc"
    pages = reader.read([samples / "dev_doc.tif"])
    assert sum(len(page.lines) for page in pages) == 448
