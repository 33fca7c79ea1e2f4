"""Every format is read back: the layouts by the project's own reader, the rest by what everybody
reads them with.
"""

import csv
import io
import json
from pathlib import Path

import pytest

from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.records import Box, Recognition
from nordocr_cli.writers.read_page import ReadLine, ReadPage
from nordocr_cli.writers.registry import FORMATS

TEXT = 'Å "7" <811> & \x07Co'
EDGES = tuple((100.0 + 10 * i, 110.0 + 10 * i) for i in range(len(TEXT)))
LINE = ReadLine(
    Box(100, 20, 200, 40),
    Recognition(TEXT, 0.5, (0.5,) * len(TEXT), tuple((i, i + 1) for i in range(len(TEXT)))),
    EDGES,
)
PLAIN = ReadLine(Box(10.25, 80, 50, 30), Recognition("no places", None))
PAGES = [
    ReadPage(Path("scan.tif"), 0, (3508, 2481), (LINE, PLAIN)),
    ReadPage(Path("scan.tif"), 2, (3508, 2481), ()),
]
IMAGES = [
    ReadPage(
        Path(f"dir/{name}.png"),
        None,
        (40, 200),
        (ReadLine(Box(0, 0, 200, 40), Recognition(name, 0.25)),),
    )
    for name in "ab"
]


def written(kind, pages, **options):
    return "".join(FORMATS[kind].write(iter(pages), **options))


def test_a_word_has_the_place_of_its_letters():
    assert [(word.text, word.box.x, word.box.width) for word in LINE.words()] == [
        ("Å", 100, 10),
        ('"7"', 120, 30),
        ("<811>", 160, 50),
        ("&", 220, 10),
        ("\x07Co", 240, 30),
    ]
    assert [word.confidence for word in LINE.words()] == pytest.approx([0.5] * 5)
    (word,) = PLAIN.words()
    assert (word.text, word.box, word.confidence) == ("no places", PLAIN.box, None)
    assert ReadLine(PLAIN.box, Recognition(" ", None)).words() == []


@pytest.mark.parametrize("kind", ["alto", "hocr"])
def test_markup_reads_back(kind, tmp_path):
    (tmp_path / "layout").write_text(written(kind, PAGES), encoding="utf-8")
    found = read_layout(tmp_path / "layout")
    assert [page.index for page in found.pages] == [0, 1]  # both count pages by their order
    first, second = found.pages[0].regions
    assert first.text == TEXT.replace("\x07", "")  # XML has no such character
    assert first.box == LINE.box
    assert first.confidence == pytest.approx(0.5)
    assert second.text == "no places"
    assert found.images == ("scan.tif",) * 2
    assert found.sizes == ((3508, 2481),) * 2


def test_tsv_reads_back(tmp_path):
    (tmp_path / "layout").write_text(written("tsv", PAGES), encoding="utf-8")
    (page,) = read_layout(tmp_path / "layout").pages
    assert [(region.text, region.box, region.confidence) for region in page.regions] == [
        (TEXT.replace("\x07", "<U+0007>"), LINE.box, 0.5),
        ("no places", Box(10.25, 80, 50, 30), None),
    ]
    rows = list(
        csv.DictReader(
            io.StringIO(written("tsv", IMAGES)), delimiter="\t", quoting=csv.QUOTE_NONE
        )
    )
    assert [(row["image"], row["page"], row["text"]) for row in rows] == [
        ("dir/a.png", "", "a"),
        ("dir/b.png", "", "b"),
    ]


def test_json_of_pages_is_the_pipelines_shape(tmp_path):
    (tmp_path / "layout").write_text(written("json", PAGES), encoding="utf-8")
    found = read_layout(tmp_path / "layout")
    assert [page.index for page in found.pages] == [0, 2]
    assert found.pages[0].regions[0].text == TEXT
    assert set(json.loads(written("json", PAGES))["pages"][0]["lines"][1]) == {
        "text",
        "confidence",
        "bbox",
        "words",
    }


def test_json_of_images():
    records = json.loads(written("json", IMAGES))
    assert records == [json.loads(line) for line in written("jsonl", IMAGES).splitlines()]
    assert records[1] == {
        "image": "dir/b.png",
        "text": "b",
        "confidence": 0.25,
        "char_confidences": [],
        "char_edges_px": [],
    }
    assert json.loads(written("json", [])) == []
    first = json.loads(written("jsonl", PAGES).splitlines()[0])
    assert (first["page_index"], first["bbox"]["x"], first["char_edges_px"][1]) == (
        0,
        100.0,
        [110.0, 120.0],
    )


def test_text():
    assert written("text", IMAGES, named=True) == "dir/a.png\ta\ndir/b.png\tb\n"
    assert written("text", IMAGES[:1], named=False) == "a\n"
    shown = TEXT.replace("\x07", "<U+0007>")
    assert written("text", PAGES, named=True) == f"{shown}\nno places\n"


@pytest.mark.parametrize("kind", [name for name in FORMATS if not FORMATS[name].is_binary])
def test_a_page_is_written_before_the_next_is_read(kind):
    read = []

    def pages():
        for page in IMAGES * 50:
            read.append(page)
            yield page

    writer = FORMATS[kind].write(pages(), **({"named": True} if kind == "text" else {}))
    pieces = [next(writer) for _ in range(8)]
    assert "".join(pieces)
    assert len(read) <= 8


def test_a_file_name_cannot_end_a_row():
    page = ReadPage(
        Path("a\tb\nc.png"),
        None,
        (40, 200),
        (ReadLine(Box(0, 0, 200, 40), Recognition("x", 0.25)),),
    )
    assert written("text", [page], named=True) == "a b c.png\tx\n"
    assert len(written("tsv", [page]).splitlines()) == 2
