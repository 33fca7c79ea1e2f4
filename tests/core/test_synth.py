import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from nordocr_cli.charset import NORDIC
from nordocr_cli.core.synth.preview import preview
from nordocr_cli.core.synth.run import RESAMPLERS, Job, prepare_job, read_style, synthesize
from nordocr_cli.data.store import LineStore
from nordocr_cli.data.synth.damage import RECIPES, strength_ranges
from nordocr_cli.data.synth.render import Style
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.geometry import Geometry

FONT_LIST = Path(__file__).parents[2] / "samples" / "train" / "fonts.tsv"
GEOMETRY = Geometry(max_width=512)


@pytest.fixture(scope="module")
def job() -> Job:
    try:
        return prepare_job(
            GEOMETRY, NORDIC, seed=11, fonts=FONT_LIST, resamplers=RESAMPLERS
        )[0]
    except DataError:
        pytest.skip(
            "neither DejaVu nor Liberation is installed (apt-get install fonts-dejavu"
            " fonts-liberation)"
        )


def test_a_store_is_the_same_whatever_the_number_of_workers(
    job: Job, tmp_path: Path
) -> None:
    count = 200  # more than one chunk
    results = [
        synthesize(tmp_path / f"{workers}.lmdb", job, count, workers=workers)
        for workers in (1, 2)
    ]
    with LineStore(results[0].output) as one, LineStore(results[1].output) as two:
        assert one.header.content_sha256 == two.header.content_sha256
        assert len(one) == count
        assert one.header.geometry == GEOMETRY
        assert len({one.row(i).id for i in range(count)}) == count
        assert all(not NORDIC.missing(one.row(i).text) for i in range(count))
        assert {one.row(i).extra["resampler"] for i in range(count)} == set(RESAMPLERS)
        # A line is the same alone, too.
        encoded, row = job.stored_line(150)
        assert row.text == one.row(150).text
        assert (
            cv2.imdecode(np.frombuffer(encoded.png, np.uint8), cv2.IMREAD_GRAYSCALE)
            == one.image(150)[..., 0]
        ).all()
    assert sum(results[0].languages.values()) == count
    assert results[0].to_json()["widths"]["max"] <= 512


def test_another_seed_gives_other_lines(job: Job) -> None:
    other = Job(12, job.geometry, job.charset, job.faces)
    assert [job.line(i)[1].text for i in range(5)] != [
        other.line(i)[1].text for i in range(5)
    ]


def test_a_folder_has_images_labels_and_a_manifest_that_agree(
    job: Job, tmp_path: Path
) -> None:
    folder = tmp_path / "lines"
    synthesize(folder, job, 12)
    rows = [
        json.loads(line)
        for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    labels = [
        line.split("\t")
        for line in (folder / "labels.tsv").read_text(encoding="utf-8").splitlines()
    ]
    assert [[row["image"], row["text"]] for row in rows] == labels
    assert len({row["source"] for row in rows}) == 12, "a split goes by source"
    for row, (drawn, _) in zip(rows, map(job.line, range(12)), strict=True):
        picture = cv2.imread(str(folder / row["image"]), cv2.IMREAD_UNCHANGED)
        assert picture is not None
        assert picture.ndim == 2, "gray, one channel"
        assert (picture == drawn.crop[..., 0]).all()
    synthesize(folder, job, 3)  # a folder of rendered lines may be replaced
    assert len(list((folder / "images").iterdir())) == 3


def test_what_is_not_ours_is_not_replaced(job: Job, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="nothing was deleted"):
        synthesize(tmp_path, job, 1)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_folder_of_labelled_lines_is_not_replaced(job: Job, tmp_path: Path) -> None:
    """labels.tsv, images and manifest.jsonl are what anybody's lines lie in."""
    folder = tmp_path / "lines"
    (folder / "images").mkdir(parents=True)
    (folder / "labels.tsv").write_text("images/a.png\tmine\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(UsageError, match="nothing was deleted"):
            synthesize(folder, job, 1)
        (folder / "manifest.jsonl").write_text(
            '{"id": "a", "image": "images/a.png", "text": "mine"}\n', encoding="utf-8"
        )
    assert (folder / "labels.tsv").read_text(encoding="utf-8") == "images/a.png\tmine\n"
    synthesize(tmp_path / "ours", job, 1)
    (tmp_path / "ours" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="nothing was deleted"):
        synthesize(tmp_path / "ours", job, 1)


def test_nothing_is_left_when_rendering_fails(job: Job, tmp_path: Path) -> None:
    poor = Job(
        1, job.geometry, job.charset, (replace(job.faces[0], characters=frozenset("q")),)
    )
    with pytest.raises(DataError, match="--fonts"):
        synthesize(tmp_path / "x.lmdb", poor, 5)
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--texts"):
        prepare_job(GEOMETRY, NORDIC, seed=1, texts=tmp_path / "nowhere")


def test_a_preview_shows_every_line_at_the_height_of_the_geometry(job: Job) -> None:
    sheet = cv2.imdecode(np.frombuffer(preview(job, 6), np.uint8), cv2.IMREAD_COLOR)
    assert sheet is not None
    longer = cv2.imdecode(np.frombuffer(preview(job, 9), np.uint8), cv2.IMREAD_COLOR)
    assert longer.shape[0] - sheet.shape[0] == 3 * (32 + 25)
    assert sheet.shape[0] > (len(strength_ranges()) + len(RECIPES)) * (32 + 25)
    assert sheet.shape[1] > 1200


def test_a_row_and_the_header_are_enough_to_draw_the_line_again(
    job: Job, tmp_path: Path
) -> None:
    with LineStore(synthesize(tmp_path / "o.lmdb", job, 12).output) as store:
        made, row = store.header.made, store.row(7)
        seed, index = (int(number) for number in row.id.split("-")[1:])
        style = Style(**made["style"])
        again, _ = prepare_job(
            store.header.geometry,
            NORDIC,
            seed=seed,
            fonts=FONT_LIST,
            style=style,
            resamplers=made["resamplers"],
        )
        assert again.to_json() == {key: made[key] for key in again.to_json()}
        line, same = again.stored_line(index)
        assert same == row
        assert line.crc32 == store.encoded(7).crc32


def test_one_damage_can_be_had_more_often_or_never() -> None:
    style = read_style(1.0, ["fax=2", "clean"], ["blur=0", "rules=2", "neighbours=9"])
    assert (style.recipes, style.often) == ({"fax": 2.0, "clean": 1.0}, {"blur": 0.0})
    assert (style.rules, style.neighbours, style.pen) == (
        2 * Style().rules,
        1.0,
        Style().pen,
    )
    for wrong, said in {
        "blurr=1": "blur",
        "blur": "NAME=FACTOR",
        "blur=x": "NAME=FACTOR",
        "pen=-1": "zero or more",
    }.items():
        with pytest.raises(UsageError, match=f"--often {wrong}.*{said}"):
            read_style(1.0, [], [wrong])


def test_a_damage_that_is_never_done_is_not_done(job: Job) -> None:
    never = replace(
        job, style=read_style(1.0, ["bilevel"], ["g4_speckle=0", "screen=0", "inverse=0"])
    )
    one_bit = replace(
        job,
        style=read_style(
            1.0, ["jpeg"], ["jpeg=0", "blur=0", "grain=0", "sharpen=0", "inverse=0"]
        ),
    )
    # What is not thresholded and not damaged keeps its gray edges and nothing else: its paper has
    # one value.
    crop = one_bit.line(3)[0].crop
    assert (crop == np.bincount(crop.reshape(-1)).argmax()).mean() > 0.4
    assert set(np.unique(never.line(3)[0].crop)) == {0, 255}


def test_lines_can_be_coloured_turned_and_long(job: Job) -> None:
    style = Style(coloured=1.0, max_skew_deg=5.0)
    changed = replace(job, style=style, min_characters=12)
    lines = [changed.line(index) for index in range(12)]
    for drawn, row in lines:
        assert drawn.crop.shape[2] == 3
        assert len(row.text) >= 12
    channels = [drawn.crop.astype(int) for drawn, _ in lines]
    coloured = [np.abs(crop[..., 0] - crop[..., 2]).max() > 10 for crop in channels]
    assert sum(coloured) >= 10
    # What is light stays light, and the ink stays darker than its paper.
    assert all(np.ptp(crop.mean(axis=2)) > 30 for crop in channels)
    heights = [drawn.crop.shape[0] / drawn.crop.shape[1] for drawn, _ in lines]
    straight = replace(job, style=Style(max_skew_deg=0.0), min_characters=12)
    upright = [straight.line(index)[0].crop.shape for index in range(12)]
    assert np.mean(heights) > 1.2 * np.mean(
        [height / width for height, width, _ in upright]
    )
    with pytest.raises(UsageError, match="--min-characters 500"):
        replace(job, min_characters=500).line(0)
