import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from nordocr_cli.core.prep.stats import LeftOut, PrepStats
from nordocr_cli.data.entry import Place
from nordocr_cli.data.formats import SourceSpec, open_source, parse_source
from nordocr_cli.data.manifest import iterate_manifest
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.pages.outline import Outline

SAMPLES = Path(__file__).parents[2] / "samples"


def rows(path: Path) -> list[tuple[str, str]]:
    return [
        (e.row.image, e.row.text) if e.row else (e.where.rpartition(":")[2], e.problem)
        for e in iterate_manifest(path)
    ]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def png(path: Path, height: int, width: int) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(height).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    cv2.imwrite(str(path), image[:, :, ::-1])
    return image


def test_csv_by_header_by_position_and_with_semicolons(tmp_path: Path) -> None:
    csv = tmp_path / "labels.csv"
    write(csv, "filename,words,language", 'a.png,"1,5 ""m""",sv', "b.png, x ,")
    assert rows(csv) == [("a.png", '1,5 "m"'), ("b.png", " x ")]
    assert [e.row.language for e in iterate_manifest(csv)] == ["sv", ""]
    assert rows(write(csv, "text;id;image", "1 234,50;k1;a.png")) == [("a.png", "1 234,50")]
    assert rows(write(csv, "a.png;Hej, du", "b.png;")) == [
        ("a.png", "Hej, du"),
        ("b.png", ""),
    ]


def test_csv_names_the_line_that_is_wrong(tmp_path: Path) -> None:
    csv = write(
        tmp_path / "x.csv",
        "image,text",
        'a.png,"on two',
        'lines"',
        "b.png,x,y",
        "c.png,good",
    )
    found = rows(csv)
    assert [where for where, _ in found] == ["2", "4", "c.png"]
    assert "2 lines of text" in found[0][1]
    assert "3 columns instead of 2" in found[1][1]
    assert "no header" in rows(write(csv, "a,b,c"))[0][1]


def test_paddle_labels_of_lines(tmp_path: Path) -> None:
    file = write(
        tmp_path / "rec_gt.txt",
        "a.png\tHej [x]",
        '["b.png", "c d.png"]\tå\t{}',
        '["e.png]\tx',
    )
    found = rows(file)
    assert found[:3] == [("a.png", "Hej [x]"), ("b.png", "å\t{}"), ("c d.png", "å\t{}")]
    assert "JSON list" in found[3][1]
    assert open_source(tmp_path).path == file


def test_paddle_labels_of_pages(tmp_path: Path) -> None:
    png(tmp_path / "p" / "1.png", 100, 200)
    regions = [
        {
            "transcription": "Räkning",
            "points": [[10, 20], [110, 22], [110, 50], [10, 48]],
            "difficult": False,
        },
        {
            "transcription": "###",
            "points": [[0, 0], [5, 0], [5, 5], [0, 5]],
            "difficult": True,
        },
        {"transcription": "no area", "points": [[0, 0], [5, 0]]},
        {"transcription": "no number", "points": [[0, 0], [10**400, 0], [5, 5]]},
    ]
    write(
        tmp_path / "Label.txt",
        "p/1.png\t" + json.dumps(regions),
        "p/2.png\t[]",
        "p/1.png\tplain",
    )
    source = open_source(tmp_path)
    good, illegible, flat, huge, broken = source.entries()
    assert (source.kind, good.row.text, good.row.source) == (
        "paddle",
        "Räkning",
        "p/1.png:r1",
    )
    assert good.place == Place(
        0, Outline.of_quad([(10, 20), (110, 22), (110, 50), (10, 48)])
    )
    assert source.crop(good).shape[:2] == source.crop_size(good) == (28, 100)
    assert illegible.illegible
    assert (illegible.row, flat.row, huge.row, broken.row) == (None, None, None, None)
    assert "region 3: no area" in flat.problem


def test_a_document_and_its_layout_whichever_is_named(tmp_path: Path) -> None:
    image, layout = SAMPLES / "doc" / "dev_doc.tif", SAMPLES / "doc" / "dev_doc.json"
    elsewhere = shutil.copy(layout, tmp_path / "regions.json")
    specs = [str(SAMPLES / "doc"), str(image), str(layout), f"{elsewhere}:{image}"]
    sources = [open_source(parse_source(spec)) for spec in specs]
    entries = [list(source.entries()) for source in sources]
    assert [len(found) for found in entries] == [448] * 4
    last = entries[3][-1]
    assert last.row.source == f"regions:p5:r{last.row.id.rpartition('r')[2]}"
    crops = [source.crop(found[-1]) for source, found in zip(sources, entries, strict=True)]
    assert crops[0].shape[:2] == sources[0].crop_size(last)
    for crop in crops[1:]:
        np.testing.assert_array_equal(crop, crops[0])


def test_paddle_labels_name_images_from_the_folder_above(tmp_path: Path) -> None:
    page = png(tmp_path / "train" / "1.png", 100, 200)
    regions = json.dumps(
        [{"transcription": "Räkning", "points": [[10, 20], [110, 20], [110, 50], [10, 50]]}]
    )
    label = write(
        tmp_path / "train" / "Label.txt",
        f"train/1.png\t{regions}",
        f"train/gone.png\t{regions}",
    )
    for spec in (label.parent, label, f"{label}:{tmp_path}", f"{label}:{label.parent}"):
        source = open_source(parse_source(str(spec)))
        here, gone = source.entries()
        np.testing.assert_array_equal(source.crop(here), page[20:50, 10:110])
        with pytest.raises(FileNotFoundError):
            source.crop(gone)


PAGE = """<PcGts><Page imageFilename="{image}" imageHeight="100" imageWidth="200"><TextRegion><TextLine>
<Coords points="10,20 110,50"/><TextEquiv><Unicode>{text}</Unicode></TextEquiv></TextLine></TextRegion></Page></PcGts>"""


def test_page_xml_beside_images_and_in_its_own_folder(tmp_path: Path) -> None:
    page = png(tmp_path / "scan 1.png", 100, 200)
    png(tmp_path / "small.png", 50, 100)
    (tmp_path / "page").mkdir()
    for name, image in {
        "a": "scan 1.png",
        "b": "C:\\scans\\scan 1.png",
        "c": "gone.png",
        "d": "small.png",
        "scan 1": "",
    }.items():
        write(
            tmp_path / "page" / f"{name}.xml", PAGE.format(image=image, text=f"Rad {name}")
        )
    write(tmp_path / "page" / "e.xml", "<PcGts>")
    source = open_source(tmp_path)
    found = {
        (entry.row.text if entry.row else "broken"): entry for entry in source.entries()
    }
    for name in ("Rad a", "Rad b", "Rad scan 1"):
        np.testing.assert_array_equal(source.crop(found[name]), page[20:50, 10:110])
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        source.crop(found["Rad c"])
    with pytest.raises(
        DataError, match=r"50 x 100 px, but its layout was made for 100 x 200"
    ):
        source.crop(found["Rad d"])
    assert found["broken"].where.endswith("e.xml")
    assert found["broken"].problem.startswith("is not readable XML")


def test_named_sources(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.jsonl", '{"image": "a.png", "text": "x"}')
    odd = write(tmp_path / "a=b:c.tsv", "a.png\tx")
    images = tmp_path / "images"
    image = png(images / "a.png", 20, 40)
    assert parse_source(f"legal={manifest}:{images}") == SourceSpec(
        manifest, images, "legal"
    )
    assert parse_source(f"{manifest}:{images}") == SourceSpec(manifest, images)
    assert parse_source(f"legal={manifest}") == SourceSpec(manifest, None, "legal")
    assert parse_source(str(odd)) == SourceSpec(odd)
    source = open_source(parse_source(f"legal={manifest}:{images}"))
    np.testing.assert_array_equal(source.crop(next(iter(source.entries()))), image)
    for wrong in (
        f"{manifest}:{tmp_path}/nowhere",
        f"x={tmp_path}/nowhere.jsonl",
        "nowhere",
    ):
        with pytest.raises(UsageError, match="nowhere"):
            parse_source(wrong)


def test_what_is_no_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty"):
        open_source(tmp_path)
    png(tmp_path / "page.png", 20, 40)
    with pytest.raises(DataError, match="holds no label file"):
        open_source(tmp_path)
    with pytest.raises(UsageError, match="image without a layout"):
        open_source(tmp_path / "page.png")
    for name in ("a.tsv", "b.csv"):
        write(tmp_path / name, "a.png\tx")
    with pytest.raises(UsageError, match="several label files"):
        open_source(tmp_path)


def test_manifests_passed_over_are_named(tmp_path: Path, heard) -> None:
    for name in (
        "labels.tsv",
        "manifest.jsonl",
        "train.jsonl",
        "fonts.tsv",
        "lines.lmdb.quarantine.jsonl",
    ):
        write(tmp_path / name, "")
    assert open_source(tmp_path, heard).path.name == "manifest.jsonl"
    said = (
        "manifest.jsonl is read; ignored: labels.tsv, train.jsonl. Name these as sources of their"
        " own to read them"
    )
    assert heard.warnings == [f"{tmp_path}: {said}"]


def test_hocr_beside_its_page_is_read_and_its_bad_line_named(tmp_path: Path) -> None:
    line = (
        "<span class='ocr_line' title='bbox 10 10 200 40'>hej</span><span class='ocr_line'"
        " title='x'>borta</span>"
    )
    (tmp_path / "a.hocr").write_text(
        f"<html><div class='ocr_page' title='bbox 0 0 400 200'>{line}</div></html>"
    )
    cv2.imwrite(str(tmp_path / "a.tif"), np.full((200, 400), 255, np.uint8))
    read, bad = open_source(tmp_path / "a.hocr").entries()
    assert (read.row.text, bad.row) == ("hej", None)
    assert "page 1, line 2: no bbox" in bad.problem


def test_a_bad_line_of_a_layout_is_named_and_the_rest_read(tmp_path: Path) -> None:
    lines = [
        {"bbox": [0, 10 * k, 90, 10 * k + (k != 1) * 9], "text": f"Rad {k}"}
        for k in range(3)
    ]
    lines += [
        {"bbox": [0, 0, 10**400, 9], "text": "x"},
        {"bbox": [0, 0, 90, 9], "text": "\ud800"},
    ]
    (tmp_path / "a.json").write_text(
        json.dumps({"pages": [{"page": 1, "regions": lines}]}), encoding="utf-8"
    )
    (tmp_path / "b.json").write_text('{"pages": [', encoding="utf-8")
    (tmp_path / "prices.json").write_text("[1, 2]", encoding="utf-8")
    entries = list(open_source(tmp_path).entries())
    assert [entry.row.id for entry in entries if entry.row] == ["a:p1:r1", "a:p1:r3"]
    problems = [
        (Path(entry.where).name, entry.problem) for entry in entries if not entry.row
    ]
    assert [where for where, _ in problems] == ["a.json", "a.json", "a.json", "b.json"]
    no_character, no_area, no_number, no_json = (problem for _, problem in problems)
    assert no_character.startswith("page 1, line 5: text '\\ud800'")
    assert no_area.startswith("page 1, line 2: bbox")
    assert no_number.startswith("page 1, line 4: bbox")
    assert no_json.startswith("is not readable JSON")


def test_a_page_whose_name_is_not_utf8_is_named(tmp_path: Path) -> None:
    name = os.fsdecode(b"h\xe5r.json")
    page = {"page": 1, "regions": [{"bbox": [0, 0, 90, 9], "text": "x"}]}
    (tmp_path / name).write_text(json.dumps({"pages": [page]}), encoding="utf-8")
    (entry,) = open_source(tmp_path).entries()
    assert "not UTF-8" in entry.problem
    tally = PrepStats()
    tally.leave_out(LeftOut("bad-row", entry.problem), entry)
    listed = tally.write_list(tmp_path / "list.jsonl")
    assert json.loads(listed.read_bytes())["where"] == str(tmp_path / name)
    with pytest.raises(UsageError, match="not UTF-8; rename it"):
        parse_source(str(tmp_path / name))


def test_coordinates_whose_sums_are_infinite_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "page.png"), np.full((50, 40), 255, np.uint8))
    for box in ([1e308] * 4, [1, 1, 1e300, 5]):
        annotation = {"id": 1, "image_id": 1, "bbox": box, "text": "x"}
        images = [{"id": 1, "file_name": "page.png", "width": 40, "height": 50}]
        value = {"images": images, "annotations": [annotation]}
        (tmp_path / "coco.json").write_text(json.dumps(value))
        (entry,) = open_source(parse_source(str(tmp_path / "coco.json"))).entries()
        assert "no area" in entry.problem
