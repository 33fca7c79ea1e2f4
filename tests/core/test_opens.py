"""Each job opens its inputs once, decodes a page once and parses a contract once."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.artifact import contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.charset import NORDIC
from nordocr_cli.data.documents import Document
from nordocr_cli.data.layouts import readers
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.records import LineRow

PAGES, LINES = 3, 2


class OpenedFiles:
    """Counts the files that this process opens while `counting` is true, by path."""

    def __init__(self):
        self.counting = False
        self.times = Counter()
        self._of_io = None
        # Python cannot remove an audit hook, so this one is switched off instead.
        sys.addaudithook(self._on_event)

    def _on_event(self, event, arguments):
        if not self.counting or event != "open":
            return
        path, mode, _ = arguments
        if not isinstance(path, str | Path):
            return
        # `open(path, opener=…)` causes two events: its own, then that of `os.open`.
        is_second_event = mode is None and path == self._of_io
        self._of_io = path if mode is not None else None
        if not is_second_event:
            self.times[Path(path).absolute()] += 1

    def of(self, *paths):
        return {path.name: self.times[path.absolute()] for path in paths}


@pytest.fixture(scope="module")
def files_opened():
    return OpenedFiles()


@pytest.fixture
def opened(files_opened):
    files_opened.times.clear()
    files_opened.counting = True
    yield files_opened
    files_opened.counting = False


@pytest.fixture
def calls(monkeypatch):
    """How often each page was decoded (by its index) and a contract was parsed."""
    counted = Counter()
    decode, parse = Document.page, contract._contract

    def counting_decode(document, index, *rest):
        counted["page", index] += 1
        return decode(document, index, *rest)

    def counting_parse(value):
        counted["contract"] += 1
        return parse(value)

    monkeypatch.setattr(Document, "page", counting_decode)
    monkeypatch.setattr(contract, "_contract", counting_parse)
    return counted


def page_image(lines=LINES):
    image = Image.new("L", (400, 500), 255)
    for number in range(lines):
        ImageDraw.Draw(image).text((45, 50 + 60 * number), "Summa 1 250,00", fill=0)
    return image


@pytest.fixture
def document(tmp_path):
    """A TIFF of several pages with lines of text."""
    images = [page_image() for _ in range(PAGES)]
    path = tmp_path / "pages.tif"
    images[0].save(path, save_all=True, append_images=images[1:])
    return path


def boxes():
    return [[40, 40 + 60 * number, 240, 70 + 60 * number] for number in range(LINES)]


def as_layout(folder):
    regions = [{"bbox": box, "text": ""} for box in boxes()]
    pages = [{"page": index + 1, "regions": regions} for index in range(PAGES)]
    path = folder / "regions.json"
    path.write_text(json.dumps({"pages": pages}))
    return path


def as_json_lines(folder):
    """As `predict --jsonl` writes them."""
    path = folder / "lines.jsonl"
    rows = [
        {"image": "pages.tif", "page_index": index, "bbox": box, "text": "a"}
        for index in range(PAGES)
        for box in boxes()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(command):
    done = CliRunner().invoke(app, [*map(str, command), "--threads", "1"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("write_regions", [as_layout, as_json_lines])
def test_a_document_and_its_regions_are_opened_once(
    write_regions, document, tiny_onnx, tmp_path, opened, calls
):
    regions = write_regions(tmp_path)
    opened.times.clear()
    output = tmp_path / "out.json"

    run(["predict", document, "--regions", regions, "--model", tiny_onnx, "-o", output])

    result = json.loads(output.read_text())
    assert [len(page["lines"]) for page in result["pages"]] == [LINES] * PAGES
    inputs = (document, regions, Path(tiny_onnx))
    assert opened.of(*inputs) == {path.name: 1 for path in inputs}
    assert calls == {("page", index): 1 for index in range(PAGES)} | {"contract": 1}


def test_a_document_whose_lines_are_found_is_opened_once(
    document, tiny_onnx, tmp_path, opened, calls
):
    output = tmp_path / "out.json"

    run(["predict", document, "--model", tiny_onnx, "-o", output])

    assert opened.of(document, Path(tiny_onnx)) == {document.name: 1, "model.onnx": 1}
    assert calls == {("page", index): 1 for index in range(PAGES)} | {"contract": 1}


def test_images_of_lines_are_opened_once(tiny_onnx, tmp_path, opened):
    images = [tmp_path / f"{number}.tif" for number in range(4)]
    for path in images:
        page_image(lines=1).crop((0, 40, 400, 80)).save(path)
    opened.times.clear()

    run(["predict", *images, "--model", tiny_onnx, "-o", tmp_path / "out.jsonl"])

    assert opened.of(*images) == {path.name: 1 for path in images}


def test_compare3way_reads_each_result_once(document, tmp_path, monkeypatch):
    read = Counter()
    parse = readers.parse_layout

    def counting_parse(content, path, bad_lines=None):
        read[path.name] += 1
        return parse(content, path, bad_lines)

    monkeypatch.setattr(readers, "parse_layout", counting_parse)
    truth = as_layout(tmp_path)
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text(truth.read_text())

    sides = ("--first", tmp_path / "one.json", "--second", tmp_path / "two.json")
    run(["compare3way", document, *sides, "--names", "a,b", "--truth", truth])

    assert read == {"one.json": 1, "two.json": 1, "regions.json": 1}


@pytest.fixture
def store(tmp_path, tiny_onnx):
    """A line store of two lines."""
    path = tmp_path / "lines.lmdb"
    image = np.full((32, 64, 3), 255, np.uint8)
    with LineStoreWriter(path, read_contract(tiny_onnx).geometry, NORDIC) as writer:
        for number in range(2):
            writer.add(image, LineRow(str(number), f"{number}.png", "10"))
    return path


@pytest.mark.parametrize("kind", ["tiny_onnx", "tiny_checkpoint"])
def test_eval_parses_the_contract_once(kind, store, request, tmp_path, calls):
    model = request.getfixturevalue(kind)
    calls.clear()

    run(["eval", model, store, "-o", tmp_path / "out"])

    assert calls["contract"] == 1


@pytest.mark.parametrize("kind", ["tiny_onnx", "tiny_checkpoint"])
def test_bench_parses_the_contract_once(kind, store, request, calls):
    model = request.getfixturevalue(kind)
    calls.clear()

    run(["bench", model, "--lines", store, "--rounds", 1, "--single-lines", 1])

    assert calls["contract"] == 1


def test_bench_opens_a_document_and_its_regions_once(
    document, tiny_onnx, tmp_path, opened, calls
):
    regions = as_layout(tmp_path)
    opened.times.clear()

    few = ("--rounds", 1, "--single-lines", 1)
    run(["bench", tiny_onnx, "--doc", document, "--regions", regions, *few])

    assert opened.of(document, regions) == {document.name: 1, regions.name: 1}
    assert calls == {("page", index): 1 for index in range(PAGES)} | {"contract": 1}
