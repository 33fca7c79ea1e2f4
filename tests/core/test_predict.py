import io
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nordocr_cli.core.predict import inputs as predict_inputs
from nordocr_cli.core.predict import journal as journal_module
from nordocr_cli.core.predict import run as core
from nordocr_cli.core.predict.inputs import find_images, resolve_layout
from nordocr_cli.core.predict.journal import PredictJournal
from nordocr_cli.core.predict.run import FORMATS, plan_predict, predict
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.errors import DataError, Interrupted, UsageError
from nordocr_cli.records import Box
from nordocr_cli.runtime.backends.tesseract import recognizer as tesseract

SAMPLES = Path(__file__).parents[2] / "samples"
TIFF, TRUTH = SAMPLES / "doc" / "dev_doc.tif", SAMPLES / "doc" / "dev_doc.json"
IMAGES = sorted((SAMPLES / "lines" / "images").iterdir())[:3]


@pytest.fixture
def few(tmp_path):
    """Four regions on each of the first two pages."""
    truth = json.loads(TRUTH.read_text(encoding="utf-8"))
    truth["pages"] = [
        page | {"regions": page["regions"][:4]} for page in truth["pages"][:2]
    ]
    (tmp_path / "few.json").write_text(json.dumps(truth))
    return tmp_path / "few.json"


def written(kind, *args, **options):
    return "".join(predict(*args, threads=1, **options).write(kind))


def test_images_and_folders_are_read_in_order(tiny_onnx, tmp_path):
    for image in IMAGES[::-1]:
        shutil.copy(image, tmp_path)
    (tmp_path / "notes.txt").write_text("not an image")
    one_by_one = json.loads(written("json", IMAGES, str(tiny_onnx)))
    folder = json.loads(written("json", [tmp_path], str(tiny_onnx)))
    assert [record["image"] for record in one_by_one] == [str(path) for path in IMAGES]
    assert [record["text"] for record in folder] == [
        record["text"] for record in one_by_one
    ]
    for record, path in zip(one_by_one, IMAGES, strict=True):
        width = Image.open(path).width
        assert (
            len(record["char_edges_px"])
            == len(record["char_confidences"])
            == len(record["text"])
        )
        assert all(0 <= left < right <= width for left, right in record["char_edges_px"])


def test_pages_come_in_the_consumers_shape(tiny_onnx, few, tmp_path):
    (tmp_path / "out.json").write_text(written("json", [TIFF], str(tiny_onnx), regions=few))
    assert [len(page.regions) for page in read_layout(tmp_path / "out.json").pages] == [
        4,
        4,
    ]
    records = [
        json.loads(line)
        for line in written("jsonl", [TIFF], str(tiny_onnx), regions=few).splitlines()
    ]
    assert [record["page_index"] for record in records] == [0] * 4 + [1] * 4


@pytest.mark.parametrize("kind", ["alto", "hocr", "tsv"])
def test_what_predict_writes_it_reads_as_regions(kind, tiny_onnx, few, tmp_path):
    (tmp_path / "layout").write_text(
        written(kind, [TIFF], str(tiny_onnx), regions=few, crop="box"), encoding="utf-8"
    )
    again = written("text", [TIFF], str(tiny_onnx), regions=tmp_path / "layout", crop="box")
    assert again == written("text", [TIFF], str(tiny_onnx), regions=few, crop="box")


def test_what_cannot_be_read_is_counted_and_the_rest_read(tiny_onnx, tmp_path, heard):
    (tmp_path / "bad.png").write_bytes(IMAGES[0].read_bytes()[:100])
    shutil.copy(TIFF, tmp_path / "pages.tif")
    for image in IMAGES[:2]:
        shutil.copy(image, tmp_path)
    prediction = predict([tmp_path], str(tiny_onnx), threads=1, progress=heard)
    assert "".join(prediction.write("text")).count("\n") == 2
    assert (prediction.counts.read, prediction.counts.failed) == (2, 2)
    assert "bad.png" in heard.warnings[0]
    assert "pages.tif has 5 pages" in heard.warnings[1]
    with pytest.raises(DataError, match=r"2 of 4 could not be read; the first: .*bad\.png"):
        prediction.counts.require_all()
    records = [
        json.loads(line)
        for line in written("jsonl", [tmp_path], str(tiny_onnx)).splitlines()
    ]
    assert [Path(record["image"]).name for record in records if "error" in record] == [
        "bad.png",
        "pages.tif",
    ]
    assert sum("text" in record for record in records) == 2
    nothing = predict([tmp_path / "bad.png"], str(tiny_onnx), threads=1)
    assert "".join(nothing.write("text")) == ""
    with pytest.raises(DataError, match="not one line of 1 could be read"):
        nothing.counts.require_all()


def test_a_bad_page_and_a_bad_region_are_left_out(tiny_onnx, few, tmp_path, heard):
    truth = json.loads(few.read_text(encoding="utf-8"))
    truth["pages"][0]["regions"][1] = {"bbox": [90000, 10, 90100, 40]}
    truth["pages"].append({"page": 9, "regions": truth["pages"][1]["regions"]})
    few.write_text(json.dumps(truth))
    prediction = predict([TIFF], str(tiny_onnx), regions=few, threads=1, progress=heard)
    (tmp_path / "out.json").write_text("".join(prediction.write("json")))
    assert [len(page.regions) for page in read_layout(tmp_path / "out.json").pages] == [
        3,
        4,
        0,
    ]
    assert (
        "page_index 8, but"
        in json.loads((tmp_path / "out.json").read_text())["pages"][2]["error"]
    )
    assert "page 1: a box at x 90000" in heard.warnings[0]
    assert "page_index 8, but" in heard.warnings[-1]
    assert prediction.counts.failed == 2


def test_regions_of_another_scan_are_refused(tiny_onnx, few, tmp_path):
    (tmp_path / "layout").write_text(
        written("alto", [TIFF], str(tiny_onnx), regions=few), encoding="utf-8"
    )
    Image.fromarray(np.full((1000, 700), 255, np.uint8)).save(tmp_path / "small.png")
    prediction = predict(
        [tmp_path / "small.png"], str(tiny_onnx), regions=tmp_path / "layout", threads=1
    )
    assert "".join(prediction.write("text")) == ""
    with pytest.raises(
        DataError, match=r"is 1000 x 700 px .* found on \d+ x \d+ px: another scan"
    ):
        prediction.counts.require_all()


def test_a_large_folder_is_no_list_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(predict_inputs, "_SORTED_UP_TO", 3)
    for number in range(6):
        (tmp_path / f"{number}.png").touch()
    listed = []
    original = predict_inputs._images_in
    monkeypatch.setattr(
        predict_inputs,
        "_images_in",
        lambda folder: (listed.append(path) or path for path in original(folder)),
    )
    files = find_images([tmp_path])
    listed.clear()
    next(files)
    assert len(listed) == 4
    assert sorted(path.name for path in files) != []
    assert len(set(listed)) == 6


def test_decoders_and_wide_lines(tiny_onnx, tmp_path):
    wide = np.concatenate(
        [np.asarray(Image.open(path).convert("RGB").resize((1200, 40))) for path in IMAGES],
        axis=1,
    )
    Image.fromarray(wide).save(tmp_path / "wide.png")
    split, squashed, beam = (
        json.loads(written("jsonl", [tmp_path / "wide.png"], str(tiny_onnx), **options))
        for options in ({}, {"wide": "squash"}, {"decoder": "beam", "beam_width": 3})
    )
    assert len({json.dumps(record) for record in (split, squashed, beam)}) == 3
    assert all(
        0 <= left < right <= 3600
        for record in (split, squashed, beam)
        for left, right in record["char_edges_px"]
    )
    for options, said in (
        ({"decoder": "bean"}, "did you mean 'beam'"),
        ({"decoder": "beam", "beam_width": 0}, "reads nothing"),
        ({"wide": "cut"}, "--wide 'cut'"),
    ):
        with pytest.raises(UsageError, match=said):
            predict(IMAGES, str(tiny_onnx), **options)


def test_wrong_inputs(tiny_onnx, tmp_path):
    with pytest.raises(UsageError, match="no image or folder"):
        predict([IMAGES[0], tmp_path / "none.png"], str(tiny_onnx))
    with pytest.raises(UsageError, match="holds no images"):
        predict([tmp_path], str(tiny_onnx))
    with pytest.raises(UsageError, match="has 5 pages; say where the lines are"):
        predict([TIFF], str(tiny_onnx), layout="line")
    with pytest.raises(
        UsageError, match=r"dev_doc.tif looks like a page, .*png like a line"
    ):
        predict([TIFF, IMAGES[0]], str(tiny_onnx))
    with pytest.raises(UsageError, match="--layout 'pages': .*'page'"):
        predict([TIFF], str(tiny_onnx), layout="pages")
    with pytest.raises(UsageError, match="give one of them"):
        predict([TIFF], str(tiny_onnx), regions=TRUTH, layout="page")
    with pytest.raises(UsageError, match="belongs to one document"):
        predict(IMAGES, str(tiny_onnx), regions=TRUTH)
    with pytest.raises(UsageError, match="--format 'xml'"):
        list(predict(IMAGES, str(tiny_onnx), threads=1).write("xml"))
    assert {"text", "json", "jsonl", "tsv", "alto", "page", "hocr", "pdf"} < set(FORMATS)


def test_the_output_is_none_of_the_inputs(tiny_onnx, few):
    for output in (TIFF, few, tiny_onnx):
        with pytest.raises(UsageError, match="would overwrite the input"):
            plan_predict([TIFF], str(tiny_onnx), regions=few, output=output)


def test_a_large_folder_is_read_as_it_is_listed(tiny_onnx, tmp_path, monkeypatch):
    """A thousand names of one small image: while the first are read, the others are not yet
    opened.
    """
    (tmp_path / "lines").mkdir()
    Image.new("L", (8, 32), 255).save(tmp_path / "line.png")
    for number in range(1000):
        (tmp_path / "lines" / f"{number:04}.png").hardlink_to(tmp_path / "line.png")
    opened = []
    monkeypatch.setattr(core, "require_one_page", lambda path, *rest: opened.append(path))
    prediction = predict([tmp_path / "lines"], str(tiny_onnx), threads=1)
    next(prediction.pages)
    assert len(opened) <= 64 + 256
    assert sum(1 for _ in prediction.pages) == 999


def test_a_stopped_run_goes_on(tiny_onnx, tmp_path, monkeypatch):
    for image in IMAGES:
        shutil.copy(image, tmp_path)
    (tmp_path / "bad.png").write_bytes(b"")
    output = tmp_path / "out.jsonl"
    plan = plan_predict([tmp_path], str(tiny_onnx)).to_json()
    whole = written("jsonl", [tmp_path], str(tiny_onnx)).splitlines(keepends=True)
    assert len(whole) == 4

    stopped = PredictJournal(output, plan, resume=False)
    with pytest.raises(
        Interrupted,
        match=r"\.out\.jsonl\.part holds what was read, the same command with --resume",
    ):
        stopped.write(stop_after(whole[:3], whole[3][:20]))
    assert not output.exists()
    with pytest.raises(UsageError, match="add --resume"):
        PredictJournal(output, plan, resume=False)
    with pytest.raises(UsageError, match="begun with decoder 'auto', now it is 'beam'"):
        PredictJournal(output, plan | {"decoder": "beam"}, resume=True)

    with (
        monkeypatch.context() as patch,
        pytest.raises(
            UsageError, match="begun with model_sha256 '[0-9a-f]+', now it is 'other'"
        ),
    ):
        patch.setattr(journal_module, "sha256_of", lambda path: "other")
        PredictJournal(output, plan, resume=True)

    journal = PredictJournal(output, plan, resume=True)
    assert journal.read == 2
    assert [
        path.name
        for path in [tmp_path / "bad.png", *sorted(tmp_path.glob("*.png"))]
        if path not in journal
    ] == [
        "bad.png",
        "bad.png",
        IMAGES[2].name,
    ]
    journal.write(
        predict([tmp_path], str(tiny_onnx), threads=1, done=journal).write("jsonl")
    )
    assert sorted(output.read_text(encoding="utf-8").splitlines(keepends=True)) == sorted(
        whole
    )
    assert not list(tmp_path.glob(".out*"))


def stop_after(lines, torn):
    yield from lines
    yield torn
    raise KeyboardInterrupt


def test_a_damaged_page_costs_no_other_page(tiny_onnx, tmp_path, monkeypatch):
    class OneLine:
        def __init__(self, language):
            pass

        def find(self, image):
            return [Box(0, 0, image.shape[1], image.shape[0])]

    monkeypatch.setattr(tesseract, "TesseractLineFinder", OneLine)
    path, pages = tmp_path / "doc.tif", [Image.new("L", (80, 32), 255) for _ in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_deflate")
    with Image.open(path) as image:
        image.seek(1)
        # where the strips are, and how long
        (start, *_), (size, *_) = image.tag_v2[273], image.tag_v2[279]
    content = bytearray(path.read_bytes())
    content[start : start + size] = bytes(size)
    path.write_bytes(content)
    prediction = predict([path], str(tiny_onnx), layout="tesseract", threads=1)
    assert [(page.index, bool(page.error)) for page in prediction.pages] == [
        (0, False),
        (1, True),
        (2, False),
    ]
    assert (prediction.counts.pages, prediction.counts.failed) == (2, 1)


def test_two_processes_do_not_mix_their_lines(tiny_onnx, tmp_path):
    shutil.copy(IMAGES[0], tmp_path)
    output = tmp_path / "out.jsonl"
    plan = plan_predict([tmp_path], str(tiny_onnx)).to_json()
    first = PredictJournal(output, plan, resume=False)
    with pytest.raises(UsageError, match=r"another process is writing .*out\.jsonl"):
        PredictJournal(output, plan, resume=True)
    first.write(["{}\n"])
    assert output.read_text() == "{}\n"
    assert not list(tmp_path.glob(".out*"))


def test_a_damaged_journal_is_named(tmp_path):
    plan = {"inputs": []}
    stopped = PredictJournal(tmp_path / "out.jsonl", plan, resume=False)
    stopped.release()
    stopped.part.write_text("not json\n")
    with pytest.raises(
        DataError, match=r"out\.jsonl\.part:1: not a line that predict wrote"
    ):
        PredictJournal(tmp_path / "out.jsonl", plan, resume=True)
    stopped.discard()
    assert not list(tmp_path.iterdir())


def test_what_looks_like_a_page(tmp_path):
    for name, size in (
        ("line.png", (900, 60)),
        ("page.png", (700, 1000)),
        ("banner.png", (2000, 450)),
    ):
        Image.new("L", size, 255).save(tmp_path / name)
    (tmp_path / "damaged.png").write_bytes(b"PNG")
    found = {
        name: resolve_layout([tmp_path / name], "auto")
        for name in ("line.png", "page.png", "banner.png", "damaged.png")
    }
    assert found == {
        "line.png": "line",
        "page.png": "page",
        "banner.png": "line",
        "damaged.png": "line",
    }
    slow = io.BytesIO()
    Image.new("L", (64, 64)).save(slow, "JPEG")
    scans = b"\xff\xda\0\2" * 300
    (tmp_path / "damaged.jpg").write_bytes(slow.getvalue()[:-2] + scans)
    assert resolve_layout([tmp_path / "damaged.jpg"], "auto") == "line"
    assert resolve_layout([TIFF], "auto") == "page"
    assert resolve_layout([tmp_path], "auto") == "line"
    assert resolve_layout([tmp_path], "page") == "page"


@pytest.fixture
def page_png(tmp_path):
    """The upper part of the sample document's first page."""
    page = np.asarray(Image.open(TIFF).convert("L"))[:700, :1400]
    Image.fromarray(page).save(tmp_path / "page.png", dpi=(300, 300))
    return tmp_path / "page.png"


@pytest.mark.parametrize(
    "layout", ["page", pytest.param("tesseract", marks=pytest.mark.tesseract)]
)
def test_pages_without_regions(layout, page_png, tmp_path):
    prediction = predict([page_png], layout=layout, threads=1)
    prediction.save("json", tmp_path / "out.json")
    (found,) = read_layout(tmp_path / "out.json").pages
    truth = json.loads(TRUTH.read_text(encoding="utf-8"))["pages"][0]["regions"]
    inside = [region["text"] for region in truth if region["bbox"][3] < 690]
    texts = [region.text for region in found.regions]
    words = Counter(word for text in texts for word in text.split())
    expected = Counter(word for text in inside for word in text.split() if len(word) > 4)
    assert (words & expected).total() >= 0.6 * expected.total()  # some lines are cut off
    assert all(
        20 < region.box.height < 150 and region.box.width > 20 for region in found.regions
    )


def test_a_link_to_nothing_is_an_image_that_cannot_be_read(tmp_path):
    shutil.copy(IMAGES[0], tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "none.png")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_images([tmp_path])] == ["a.png", "b.png"]
