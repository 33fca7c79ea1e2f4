"""`import nordocr`: documents and lines read from Python, with the command's own results."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import nordocr

ROOT = Path(__file__).parents[2]
TIFF, TRUTH = (
    ROOT / "samples" / "doc" / "dev_doc.tif",
    ROOT / "samples" / "doc" / "dev_doc.json",
)


@pytest.fixture(scope="module")
def recognizer():
    return nordocr.Recognizer("nordocr-default", threads=1)


@pytest.fixture(scope="module")
def line_files():
    folder = ROOT / "samples" / "lines"
    return sorted(path for path in folder.rglob("*.png"))[:4]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page image with its two regions: (image file, regions file)."""
    folder = tmp_path_factory.mktemp("page")
    pixels = np.full((200, 500, 3), 255, np.uint8)
    for row, text in enumerate(("Summa 123", "Moms 456")):
        at = (20, 60 + 80 * row)
        cv2.putText(
            pixels, text, at, cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 2, cv2.LINE_AA
        )
    cv2.imwrite(str(folder / "page.png"), pixels)
    lines = [
        {"bbox": {"x": 10, "y": 25 + 80 * row, "width": 300, "height": 45}, "text": ""}
        for row in range(2)
    ]
    regions = {"pages": [{"page_index": 0, "lines": lines}]}
    (folder / "page.json").write_text(json.dumps(regions), encoding="utf-8")
    return folder / "page.png", folder / "page.json"


def test_the_image_of_a_line_is_read_as_the_command_reads_it(line_files):
    document = nordocr.read(line_files[0], threads=1)
    command = [sys.executable, "-m", "nordocr_cli", "read", "-q", line_files[0]]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert document.text
    assert done.stdout.strip() == document.text


def test_importing_takes_no_library_that_is_slow():
    program = (
        "import sys, nordocr;"
        "print([m for m in ('numpy','cv2','onnxruntime','torch','PIL','typer','pydantic')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_page_has_lines_and_words_with_boxes_and_confidences(page):
    image, regions = page
    document = nordocr.read(image, regions=regions, threads=1)
    assert document.text == "Summa 123\nMoms 456"
    (first, _) = document.pages[0].lines
    assert (document.pages[0].height_px, document.pages[0].width_px) == (200, 500)
    assert first.box == nordocr.Box(10, 25, 300, 45)
    assert first.outline == ((10, 25), (310, 25), (310, 70), (10, 70))
    assert 0.5 < first.confidence <= 1
    assert [word.text for word in first.words] == ["Summa", "123"]
    summa, number = (word.box for word in first.words)
    assert (
        first.box.x <= summa.x < summa.right <= number.x < number.right <= first.box.right
    )


def test_paths_bytes_and_arrays_read_alike(page):
    image, regions = page
    reader = nordocr.Reader(threads=1)
    pixels = cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB)
    sources = [image, str(image), image.read_bytes(), pixels, pixels[:, :, 0]]
    texts = [reader.read(source, regions=regions).text for source in sources]
    assert texts == ["Summa 123\nMoms 456"] * len(sources)
    assert reader.read(pixels, regions=regions, name="scan 7").source == Path("scan 7")


def test_the_command_and_the_interface_write_the_same_files(page, tmp_path):
    image, regions = page
    document = nordocr.read(image, regions=regions, threads=1)
    for kind, suffix in (
        ("text", ".txt"),
        ("tsv", ".tsv"),
        ("alto", ".alto.xml"),
        ("json", ".json"),
    ):
        command = ["predict", str(image), "--regions", str(regions), "--threads", "1"]
        output = ["--format", kind, "-o", str(tmp_path / f"command{suffix}")]
        done = subprocess.run(
            [sys.executable, "-m", "nordocr_cli", *command, *output], capture_output=True
        )
        assert done.returncode == 0, done.stderr
        saved = document.save(tmp_path / f"interface{suffix}")
        assert saved.read_bytes() == (tmp_path / f"command{suffix}").read_bytes()


def test_a_searchable_pdf_holds_the_words(page, tmp_path):
    import pypdfium2

    image, regions = page
    saved = nordocr.read(image, regions=regions, threads=1).save(tmp_path / "page.pdf")
    document = pypdfium2.PdfDocument(saved)
    assert "Summa" in document[0].get_textpage().get_text_range()
    document.close()


def test_convert_writes_a_document_page_by_page(page, tmp_path):
    image, regions = page
    lines = nordocr.Reader(threads=1).convert(image, tmp_path / "page.txt", regions=regions)
    assert (lines, (tmp_path / "page.txt").read_text(encoding="utf-8")) == (
        2,
        "Summa 123\nMoms 456\n",
    )


def test_line_images_read_as_the_command_reads_them(recognizer, line_files):
    readings = recognizer.read(
        [line_files[0], line_files[1].read_bytes(), str(line_files[2])]
    )
    options = ("--jsonl", "-m", "nordocr-default", "--threads", "1")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "nordocr_cli",
            "predict",
            *map(str, line_files[:3]),
            *options,
        ],
        capture_output=True,
        text=True,
    )
    rows = [json.loads(row) for row in done.stdout.splitlines()]
    assert [reading.text for reading in readings] == [row["text"] for row in rows]
    expected = [row["confidence"] for row in rows]
    assert [reading.confidence for reading in readings] == pytest.approx(expected, abs=1e-5)
    assert len(readings[0].char_confidences) == len(readings[0].text)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (np.zeros((4, 4), np.float32), "float32"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (b"hello, world", "68 65 6c"),
        (b"", "missing"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(source, named):
    with pytest.raises(nordocr.DataError, match=named):
        nordocr.read(source, threads=1)


def test_unknown_options_and_endings_are_refused_with_the_nearest(page, tmp_path):
    with pytest.raises(nordocr.UsageError, match="did you mean 'device'"):
        nordocr.Reader(devise="cpu")
    image, regions = page
    document = nordocr.read(image, regions=regions, threads=1)
    with pytest.raises(nordocr.UsageError, match=r"\.docx"):
        document.save(tmp_path / "page.docx")


def test_every_option_of_the_command_exists_in_the_interface():
    from nordocr_cli.app import app
    from nordocr_cli.core.predict.plan import PredictOptions
    from nordocr_cli.help_text import build_command_tree

    options = {
        p.name
        for p in build_command_tree(app).commands["read"].params
        if p.name != "inputs"
    }
    # How results are shown and where they go: Document.save and plain Python do that.
    showing = {
        "kind",
        "output",
        "resume",
        "as_json",
        "as_jsonl",
        "dry_run",
        "quiet",
        "verbose",
    }
    showing |= {"fail_if_doubtful"}
    apart = {
        "char_lm",
        "lexicon",
        "lm_weight",
        "max_pixels",
        "max_pages",
        "regions",
        "bf16",
    }
    assert options - showing - apart <= set(PredictOptions.__dataclass_fields__)


def test_the_formats_are_those_of_the_writers():
    from nordocr_cli.writers.registry import FORMATS

    assert set(nordocr.FORMATS) == set(FORMATS)
