"""Training data written by other projects' own programs, and read. Projects without a package that
writes their layout (docTR, Calamari, Label Studio, HTR-United, Transkribus) are imitated in
test_source_forms.py.
"""

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nordocr_cli.data.formats import open_source

SAMPLES = Path(__file__).parents[2] / "samples" / "lines"
LINE = next(iter(sorted((SAMPLES / "images").glob("*.png"))))
TEXTS = ("Summa eget kapital", "1 234 567,89 kr", "Årsredovisning")


def picture(number: int) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 256, (20, 60, 3), np.uint8)
    return Image.fromarray(noise)


def png(number: int) -> bytes:
    file = io.BytesIO()
    picture(number).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def hugging_face(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="datasets writes the tables")
    columns = {"image": [picture(number) for number in range(3)], "text": list(TEXTS)}
    features = datasets.Features(
        {"image": datasets.Image(), "text": datasets.Value("string")}
    )
    return datasets, datasets.Dataset.from_dict(columns, features=features)


def written_as_parquet(data, datasets, folder: Path) -> None:
    data.to_parquet(folder / "train-00000-of-00001.parquet")


def saved_to_disk(data, datasets, folder: Path) -> None:
    data.save_to_disk(folder / "saved")


def saved_with_splits(data, datasets, folder: Path) -> None:
    splits = {"train": data.select([0, 1]), "test": data.select([2])}
    datasets.DatasetDict(splits).save_to_disk(folder / "splits")


@pytest.mark.parametrize("write", [written_as_parquet, saved_to_disk, saved_with_splits])
def test_tables_written_by_datasets(write, hugging_face, tmp_path):
    datasets, data = hugging_face
    write(data, datasets, tmp_path)

    source = open_source(tmp_path)
    entries = list(source.entries())

    assert sorted(entry.row.text for entry in entries) == sorted(TEXTS)
    for entry in entries:
        number = TEXTS.index(entry.row.text)
        assert np.array_equal(source.crop(entry), np.asarray(picture(number)))


def test_shards_written_by_webdataset(tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="webdataset writes the shards")
    shards_of_two = webdataset.ShardWriter(f"{tmp_path}/s-%04d.tar", maxcount=2, verbose=0)
    with shards_of_two as shards:
        for number, text in enumerate(TEXTS):
            sample = {"__key__": f"{number:06d}", "png": png(number), "txt": text}
            shards.write(sample)

    source = open_source(tmp_path)
    entries = list(source.entries())

    assert [entry.row.text for entry in entries] == list(TEXTS)
    assert np.array_equal(source.crop(entries[2]), np.asarray(picture(2)))
    source.close()


@pytest.fixture(scope="module")
def read_by_tesseract(tmp_path_factory):
    """One line as Tesseract writes it: line.txt, line.hocr, line.xml (ALTO), line.tsv."""
    folder = tmp_path_factory.mktemp("tesseract")
    image = folder / "line.png"
    Image.open(LINE).convert("RGB").resize((900, 60)).save(image)
    command = ["tesseract", str(image), str(folder / "line"), "--psm", "7"]
    subprocess.run(
        [*command, "txt", "hocr", "alto", "tsv"], check=True, capture_output=True
    )
    return folder


@pytest.mark.parametrize("suffix", ["hocr", "xml", "tsv"])
def test_layouts_written_by_tesseract(suffix, read_by_tesseract, tmp_path):
    for name in ("line.png", f"line.{suffix}"):
        (tmp_path / name).write_bytes((read_by_tesseract / name).read_bytes())
    text = (read_by_tesseract / "line.txt").read_text(encoding="utf-8").strip()

    (entry,) = open_source(tmp_path).entries()

    assert entry.row.text == text
    assert len(text) > 3
