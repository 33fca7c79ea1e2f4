"""adapt as a user calls it, with the engines that are installed."""

import json
import shlex
import shutil

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.core.adapt.lines import FoundLine, write_lines
from nordocr_cli.errors import DataError, Interrupted, UsageError
from nordocr_cli.progress import SILENT

pytest.importorskip("rapidocr")
pytestmark = pytest.mark.tesseract


@pytest.fixture
def adapt(tmp_path, monkeypatch, tiny_checkpoint):
    """A function that adapts an untrained network to scans, and returns what typer returns."""
    monkeypatch.setattr("nordocr_cli.core.finetune.run._GUARD_LINES", 8)
    monkeypatch.setattr("nordocr_cli.core.finetune.run._ORDINARY_LINES", 8)
    # A step may well make an untrained network worse; that is judged in tests of finetune.
    monkeypatch.setattr(
        "nordocr_cli.core.finetune.run.replacement_problem", lambda sets, certain: ""
    )
    monkeypatch.chdir(tmp_path)

    def run(*scans, output="run", steps=1):
        words = [*map(str, scans), "-m", str(tiny_checkpoint), "-o", output]
        words += ["--max-steps", str(steps), "--rendered", "0", "--threads", "1"]
        return CliRunner().invoke(app, ["adapt", *words])

    return run


def write_images(folder, images):
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


def test_scans_without_text_are_refused(tmp_path, adapt):
    page = tmp_path / "blank.png"
    cv2.imwrite(str(page), np.full((600, 500), 255, np.uint8))
    error = adapt(page).exception
    assert isinstance(error, DataError)
    assert "no line of text was found in " in str(error)


def test_ten_lines_are_refused_before_an_engine_reads_them(tmp_path, adapt):
    images = [np.full((32, 120), 255, np.uint8) for _ in range(10)]
    write_images(tmp_path / "scans", images)
    error = adapt(tmp_path / "scans").exception
    assert isinstance(error, DataError)
    assert "hold 10 lines" in str(error)
    assert not (tmp_path / "run" / "readings").exists()


def test_engines_that_disagree_everywhere_end_it_before_training(tmp_path, adapt):
    noise = np.random.default_rng(1)
    for name in ("one", "two"):
        images = [noise.integers(0, 255, (32, 120), np.uint8) for _ in range(12)]
        write_images(tmp_path / "scans" / name, images)
    error = adapt(tmp_path / "scans").exception
    assert isinstance(error, DataError)
    assert "label some lines by hand" in str(error).lower()
    assert not list((tmp_path / "run").glob("round-*"))


def test_of_a_single_document_the_pages_are_told_apart(tmp_path):
    pages = []
    for number in range(2):
        page = np.full((400, 700), 255, np.uint8)
        for row in range(3):
            place = (40, 100 + 90 * row)
            text = f"Rad {number}{row} av texten"
            cv2.putText(page, text, place, cv2.FONT_HERSHEY_SIMPLEX, 1.4, 0, 3)
        pages.append(page)
    scan = tmp_path / "scan.tif"
    assert cv2.imwritemulti(str(scan), pages)
    found = write_lines([scan], tmp_path / "lines", 1, SILENT)
    assert {line.document for line in found} == {"scan:1", "scan:2"}


def test_one_document_cannot_be_judged(tmp_path, adapt):
    write_images(tmp_path / "scans", [digits(number) for number in range(100, 126)])
    error = adapt(tmp_path / "scans").exception
    assert isinstance(error, DataError)
    assert "come from one document" in str(error)


def test_lines_on_which_two_engines_agree_become_labels(tmp_path, adapt):
    for name, first in (("one", 100), ("two", 120)):
        images = [digits(number) for number in range(first, first + 20)]
        write_images(tmp_path / "scans" / name, images)
    done = adapt(tmp_path / "scans")
    assert done.exit_code == 0, done.exception
    labels = [
        json.loads(line)
        for line in (tmp_path / "run" / "labels.jsonl").read_text().splitlines()
    ]
    assert 20 <= len(labels) <= 40
    assert {label["source"] for label in labels} == {"one", "two"}
    assert all(label["text"].isdigit() for label in labels)
    assert (tmp_path / "run" / "round-1" / "model.onnx").is_file()
    saved = json.loads((tmp_path / "run" / "adapt.json").read_text())
    assert len(saved["estimated_cer"]) == 1
    last = done.stderr.strip().splitlines()[-1]
    words = shlex.split(last.removeprefix("next: nordocr "))
    following = CliRunner().invoke(app, words)
    assert following.exit_code == 0, (words, following.output)

    # The folder is of these scans: others would be mixed with them.
    shutil.copytree(tmp_path / "scans" / "one", tmp_path / "others" / "three")
    error = adapt(tmp_path / "others").exception
    assert isinstance(error, UsageError)
    assert "holds an adaptation with other scans" in str(error)


def test_an_interrupted_reading_continues_where_it_was(
    tmp_path, tiny_checkpoint, monkeypatch
):
    from nordocr_cli.core.adapt import run as core
    from nordocr_cli.core.adapt.plan import AdaptPlan, AdaptRequest
    from nordocr_cli.records import Recognition

    class Counting:
        def recognize(self, crops, languages=()):
            read.extend(crops)
            return [Recognition(f"å {len(read)}", 0.5)] * len(crops)

    read = []
    monkeypatch.setattr(core, "_AT_ONCE", 2)
    monkeypatch.setattr(core, "open_labelling_engine", lambda *options: Counting())
    folder = write_images(
        tmp_path / "run" / "lines" / "images", [digits(n) for n in range(6)]
    )
    lines = [FoundLine(f"line-{n}", f"images/{n}.png", "doc") for n in range(6)]
    assert folder.is_dir()
    plan = AdaptPlan(AdaptRequest((), tmp_path / "run"), tiny_checkpoint, ("ppocr",))
    path = tmp_path / "run" / "readings" / "ppocr.jsonl"
    answers = iter([False, False, True])
    with pytest.raises(Interrupted, match="The same command continues"):
        core._read_with(
            plan, "ppocr", tiny_checkpoint, lines, path, SILENT, lambda: next(answers)
        )
    assert not path.exists()
    part = path.with_suffix(".part")
    part.write_bytes(part.read_bytes() + '{"id": "line-4", "text": "å'.encode()[:-1])
    core._read_with(plan, "ppocr", tiny_checkpoint, lines, path, SILENT, lambda: False)
    assert len(read) == 6
    assert sorted(core._read_file(path, lines)) == [line.id for line in lines]


def digits(number):
    image = np.full((48, 120), 255, np.uint8)
    cv2.putText(image, str(number), (12, 38), cv2.FONT_HERSHEY_SIMPLEX, 1.3, 0, 3)
    return image
