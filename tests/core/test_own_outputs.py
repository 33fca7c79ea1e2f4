"""What predict writes comes back: as hypotheses of eval, as texts of prep, as regions of predict."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nordocr_cli.core.eval.outputs import is_output, read_output
from nordocr_cli.core.eval.run import evaluate
from nordocr_cli.core.prep.run import prep
from nordocr_cli.data.formats import open_source
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.data.regions import read_regions
from nordocr_cli.data.resize import read_image
from nordocr_cli.errors import DataError
from nordocr_cli.profile import load_profile
from nordocr_cli.records import Box, Recognition
from nordocr_cli.writers.read_page import ReadLine, ReadPage
from nordocr_cli.writers.registry import FORMATS

SAMPLES = Path(__file__).parents[2] / "samples"
DOCUMENT = SAMPLES / "doc" / "dev_doc.tif"


def write(name: str, pages: list[ReadPage], path: Path) -> Path:
    path.write_text("".join(FORMATS[name].write(iter(pages))), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def truth():
    return read_layout(SAMPLES / "doc" / "dev_doc.json")


@pytest.fixture
def pages(truth) -> list[ReadPage]:
    """The true texts of a document, as predict has them before it writes them."""
    return [
        ReadPage(
            DOCUMENT,
            page.index,
            (3508, 2480),
            tuple(
                ReadLine(
                    region.box, Recognition(region.text, 0.9, (0.9,) * len(region.text))
                )
                for region in page.regions
            ),
        )
        for page in truth.pages
    ]


@pytest.mark.parametrize("name", ["json", "jsonl", "tsv", "alto", "page", "hocr"])
def test_a_read_document_comes_back(tmp_path: Path, pages, truth, name: str) -> None:
    shutil.copy(DOCUMENT, tmp_path)
    if FORMATS[name].is_one_file_a_page:
        pages = pages[:1]
    suffix = {"alto": "xml", "page": "xml"}.get(name, name)
    written = write(name, pages, tmp_path / f"dev_doc.{suffix}")
    count = len(pages)
    expected = [
        " ".join(region.text.split())
        for page in truth.pages[:count]
        for region in page.regions
    ]

    regions = read_regions(written, DOCUMENT)
    found = [region for page in regions.pages for region in page.regions]
    assert [" ".join(region.text.split()) for region in found] == expected

    entries = list(open_source(written).entries())
    assert [" ".join(entry.row.text.split()) for entry in entries] == expected

    assert is_output(written)
    hypotheses = read_output(written)
    assert [" ".join(line.result.hypothesis.split()) for line in hypotheses] == expected
    assert hypotheses[-1].result.id.startswith(f"dev_doc:p{count}:r")


@pytest.mark.parametrize("name", ["json", "jsonl", "tsv"])
def test_read_lines_are_hypotheses_of_an_evaluation(tmp_path: Path, name: str) -> None:
    listed = (SAMPLES / "lines" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in listed[:3]]
    for row in rows:
        (tmp_path / row["image"]).parent.mkdir(exist_ok=True)
        shutil.copy(SAMPLES / "lines" / row["image"], tmp_path / row["image"])
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    pages = []
    for row in rows:
        image = read_image(tmp_path / row["image"])
        line = ReadLine(
            Box(0, 0, image.shape[1], image.shape[0]), Recognition(row["text"].strip(), 0.9)
        )
        pages.append(ReadPage(tmp_path / row["image"], None, image.shape[:2], (line,)))
    result = evaluate(str(write(name, pages, tmp_path / f"read.{name}")), manifest)
    assert (result.report.total.lines, result.report.total.value("exact")) == (3, 1.0)


def test_a_result_with_another_name_than_its_page_comes_back(tmp_path: Path, pages) -> None:
    truth = shutil.copy(SAMPLES / "doc" / "dev_doc.json", tmp_path)
    shutil.copy(DOCUMENT, tmp_path)
    (tmp_path / "out").mkdir()
    read = write("json", pages, tmp_path / "out" / "read.json")

    result = evaluate(str(read), Path(truth))

    assert (result.report.total.lines, result.report.total.value("exact")) == (448, 1.0)
    # It does not name its page, so prep needs the image.
    store, profile = tmp_path / "o.lmdb", load_profile("svtrv2-nano").profile
    with pytest.raises(DataError, match=r"give the image: .*read\.json:IMAGE"):
        prep([read], store, profile)
    page = [replace(pages[0], lines=pages[0].lines[:3])]
    few = write("json", page, tmp_path / "out" / "few.json")
    assert prep([f"{few}:../dev_doc.tif"], store, profile, oov="skip").read == 3


def test_regions_of_another_document_are_refused(tmp_path: Path) -> None:
    line = [{"transcription": "x", "points": [[0, 0], [9, 0], [9, 9], [0, 9]]}]
    labels = "".join(f"{name}\t{json.dumps(line)}\n" for name in ("a.png", "b.png"))
    (tmp_path / "Label.txt").write_text(labels, encoding="utf-8")
    assert read_regions(tmp_path / "Label.txt", Path("b.png")).num_regions == 1
    with pytest.raises(
        DataError, match=r"no region of c\.png; it has those of a\.png, b\.png"
    ):
        read_regions(tmp_path / "Label.txt", Path("c.png"))
