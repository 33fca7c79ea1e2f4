"""Each form of training data that people have, built as its own tools write it, and read."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.formats import open_source, parse_source
from nordocr_cli.data.labels.label_file import Columns
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import LineRow

TEXTS = ("Summa eget kapital", "1 234 567,89 kr", "Årsredovisning")
PAGE = """<PcGts><Page imageFilename="{image}"><TextRegion><TextLine><Coords points="{points}"/>
<TextEquiv><Unicode>{text}</Unicode></TextEquiv></TextLine></TextRegion></Page></PcGts>"""


def picture(number: int, height: int = 20, width: int = 60) -> bytes:
    pixels = np.random.default_rng(number).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    return cv2.imencode(".png", pixels)[1].tobytes()


def put(path: Path, content: bytes | str | dict | list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict | list):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def images(folder: Path, name: str = "{}.png") -> list[str]:
    """Three pictures in `folder`; returns their names."""
    names = [name.format(number) for number in range(3)]
    for number, each in enumerate(names):
        put(folder / each, picture(number))
    return names


def lines(names: list[str], separator: str = "\t", prefix: str = "") -> str:
    pairs = zip(names, TEXTS, strict=True)
    return "".join(f"{prefix}{name}{separator}{text}\n" for name, text in pairs)


# Label files of line images: what is built, and what `prep` is given.


def tesstrain(folder: Path) -> None:
    for name, text in zip(images(folder), TEXTS, strict=True):
        put(folder / name.replace(".png", ".gt.txt"), text + "\n")


def ocropus_tree(folder: Path) -> None:
    for number, text in enumerate(TEXTS):
        for suffix in (".bin.png", ".nrm.png"):
            put(folder / "book" / f"000{number}" / f"010001{suffix}", picture(number))
        put(folder / "book" / f"000{number}" / "010001.gt.txt", text)


def text_beside_image(folder: Path) -> None:
    for name, text in zip(images(folder, "{}.JPG"), TEXTS, strict=True):
        put(folder / name.replace(".JPG", ".txt"), text)


def backslashes(folder: Path) -> None:
    put(folder / "gt.txt", lines(images(folder / "train"), prefix="train\\"))


def absolute_paths(folder: Path) -> None:
    put(folder / "gt.txt", lines(images(folder / "train"), prefix=f"{folder}/train/"))


def paths_of_another_machine(folder: Path) -> None:
    put(folder / "gt.txt", lines(images(folder / "train"), prefix="C:\\data\\set\\train\\"))


def named_from_the_folder_above(folder: Path) -> None:
    names = images(folder)
    put(folder / "rec_gt.txt", lines(names, prefix=f"{folder.name}/"))


def images_above(folder: Path) -> None:
    put(folder / "labels" / "labels.txt", lines(images(folder / "images"), " "))


def up_and_into_images(folder: Path) -> None:
    put(
        folder / "labels" / "labels.txt",
        lines(images(folder / "images"), prefix="../images/"),
    )


def symlinked_folder(folder: Path) -> None:
    names = images(folder.parent / "elsewhere")
    folder.mkdir(exist_ok=True)
    (folder / "img").symlink_to(folder.parent / "elsewhere")
    put(folder / "labels.csv", "image;text\n" + lines(names, ";", "img/"))


def other_letter_case(folder: Path) -> None:
    images(folder, "Sida_{}.PNG")
    put(folder / "labels.tsv", lines([f"sida_{number}.png" for number in range(3)]))


def decomposed_names(folder: Path) -> None:
    images(folder, "a\u030a{}.png")
    put(folder / "labels.tsv", lines([f"\u00e5{number}.png" for number in range(3)]))


def header_of_another_tool(folder: Path) -> None:
    put(folder / "labels.tsv", "filename\twords\n" + lines(images(folder)))


def more_columns(folder: Path) -> None:
    rows = zip(images(folder), TEXTS, strict=True)
    table = "".join(f"{n}|{name}|sv|{text}\n" for n, (name, text) in enumerate(rows))
    put(folder / "labels.csv", "nr|path|lang|transcription\n" + table)


def bars(folder: Path) -> None:
    put(folder / "labels.txt", lines(images(folder), "|"))


def icdar_words(folder: Path) -> None:
    rows = zip(images(folder, "word_{}.png"), TEXTS, strict=True)
    put(
        folder / "gt.txt",
        "\ufeff" + "\r\n".join(f'{name}, "{text}"' for name, text in rows),
    )


def names_with_spaces(folder: Path) -> None:
    put(folder / "labels.txt", lines(images(folder, "rad {}.png"), " "))


def imagefolder(folder: Path) -> None:
    put(
        folder / "metadata.csv",
        "file_name,text\r\n"
        + lines(images(folder / "train"), ',"', "train/").replace("\n", '"\r\n'),
    )


def imagefolder_splits(folder: Path) -> None:
    names = images(folder / "train")
    rows = [
        {"file_name": name, "text": text} for name, text in zip(names, TEXTS, strict=True)
    ]
    for split, chosen in {"train": rows[:2], "test": rows[2:]}.items():
        put(folder / split / "metadata.jsonl", "\n".join(map(json.dumps, chosen)))
    (folder / "train" / names[2]).rename(folder / "test" / names[2])


def doctr(folder: Path) -> None:
    put(folder / "labels.json", dict(zip(images(folder / "images"), TEXTS, strict=True)))


def json_array(folder: Path) -> None:
    rows = zip(images(folder), TEXTS, strict=True)
    put(folder / "labels.json", [{"image": name, "text": text} for name, text in rows])


def map_of_objects(folder: Path) -> None:
    rows = zip(images(folder), TEXTS, strict=True)
    put(folder / "labels.json", {name: {"text": text, "lang": "sv"} for name, text in rows})


def mmocr(folder: Path) -> None:
    rows = zip(images(folder / "imgs"), TEXTS, strict=True)
    items = [
        {"img_path": f"imgs/{name}", "instances": [{"text": text}]} for name, text in rows
    ]
    put(
        folder / "textrecog_train.json",
        {"metainfo": {"task_name": "textrecog"}, "data_list": items},
    )


def iam(folder: Path) -> None:
    form = "a01-000u"
    for number in range(3):
        put(folder / "lines" / "a01" / form / f"{form}-0{number}.png", picture(number))
    rows = [
        f"{form}-0{number} ok 154 19 408 746 1661 89 {text.replace(' ', '|')}"
        for number, text in enumerate(TEXTS)
    ]
    put(folder / "lines.txt", "#--- lines.txt ---#\n# a comment\n" + "\n".join(rows))


def webdataset(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "shard-000000.tar", "w") as file:
        for number, text in enumerate(TEXTS):
            for suffix, content in {
                "png": picture(number),
                "json": json.dumps({"text": text, "lang": "sv"}).encode(),
            }.items():
                info = tarfile.TarInfo(f"{number:06d}.{suffix}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))


def zipped(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "set.zip", "w") as file:
        for number, text in enumerate(TEXTS):
            file.writestr(f"set/{number}.png", picture(number))
            file.writestr(f"set/{number}.gt.txt", text)


def own_jsonl(folder: Path) -> None:
    rows = [
        {
            "image": str(folder / name),
            "text": text,
            "confidence": 0.9,
            "char_confidences": [],
        }
        for name, text in zip(images(folder), TEXTS, strict=True)
    ]
    put(folder / "read.jsonl", "\n".join(map(json.dumps, rows)))


def own_json(folder: Path) -> None:
    rows = zip(images(folder), TEXTS, strict=True)
    put(
        folder / "read.json",
        [{"image": str(folder / name), "text": text} for name, text in rows],
    )


def own_tsv(folder: Path) -> None:
    rows = zip(images(folder), TEXTS, strict=True)
    header = "image\tpage\tleft\ttop\twidth\theight\tconfidence\ttext\n"
    body = "".join(f"{name}\t\t0\t0\t60\t20\t0.9\t{text}\n" for name, text in rows)
    put(folder / "read.tsv", header + body)


def csv_of_a_spreadsheet(folder: Path) -> None:
    rows = zip(images(folder), TEXTS, strict=True)
    cells = (f'{name};"first\r\nsecond; line";"{text}"\r\n' for name, text in rows)
    put(folder / "labels.csv", "\ufeffimage;comment;text\r\n" + "".join(cells))


def tsv_in_quotes(folder: Path) -> None:
    rows = zip(images(folder), TEXTS, strict=True)
    cells = "".join(f'"{name}"\t"{text}"\n' for name, text in rows)
    put(folder / "labels.tsv", "image\ttext\n" + cells)


def names_as_addresses(folder: Path) -> None:
    images(folder, "rad {}.png")
    put(folder / "labels.tsv", lines([f"rad%20{number}.png" for number in range(3)]))


def upper_case_names(folder: Path) -> None:
    for name, text in zip(images(folder, "{}.TIF"), TEXTS, strict=True):
        put(folder / name.replace(".TIF", ".GT.TXT"), text)


def copied_from_macos(folder: Path) -> None:
    tesstrain(folder)
    for number in range(3):
        for suffix in (".png", ".gt.txt"):
            put(folder / f"._{number}{suffix}", b"\0\5\x16\7Mac OS X")


def donut(folder: Path) -> None:
    rows = [
        {
            "file_name": name,
            "ground_truth": json.dumps({"gt_parse": {"text_sequence": text}}),
        }
        for name, text in zip(images(folder / "train"), TEXTS, strict=True)
    ]
    put(folder / "train" / "metadata.jsonl", "\n".join(map(json.dumps, rows)))


def zip_of_zips(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "all.zip", "w") as outer:
        for number, text in enumerate(TEXTS):
            part = io.BytesIO()
            with zipfile.ZipFile(part, "w") as inner:
                inner.writestr(f"p{number}/{number}.png", picture(number))
                inner.writestr(f"p{number}/{number}.gt.txt", text)
            outer.writestr(f"part{number}.zip", part.getvalue())


def tar_with_long_names(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "SET.TAR", "w", format=tarfile.GNU_FORMAT) as file:
        for number, text in enumerate(TEXTS):
            for suffix, content in {
                "png": picture(number),
                "gt.txt": text.encode(),
            }.items():
                info = tarfile.TarInfo(f"{'a' * 90}/{'b' * 90}/a\u030a{number}.{suffix}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))


LINE_FORMS = [
    csv_of_a_spreadsheet, tsv_in_quotes, names_as_addresses, upper_case_names,
    copied_from_macos, donut, zip_of_zips, tar_with_long_names,
    tesstrain, ocropus_tree, text_beside_image, backslashes, absolute_paths,
    paths_of_another_machine, named_from_the_folder_above, images_above, up_and_into_images,
    symlinked_folder, other_letter_case, decomposed_names, header_of_another_tool, more_columns,
    bars, icdar_words, names_with_spaces, imagefolder, imagefolder_splits, doctr, json_array,
    map_of_objects, mmocr, iam, webdataset, zipped, own_jsonl, own_json, own_tsv,
]  # fmt: skip


@pytest.mark.parametrize("build", LINE_FORMS, ids=lambda build: build.__name__)
def test_line_images_are_found_with_their_texts(tmp_path: Path, build) -> None:
    folder = tmp_path / "set"
    build(folder)
    source = open_source(folder)
    try:
        entries = list(source.entries())
        assert [entry.problem for entry in entries] == [""] * 3
        read = {entry.row.text: source.crop(entry) for entry in entries}
        assert sorted(read) == sorted(TEXTS)
        for number, text in enumerate(TEXTS):
            expected = cv2.imdecode(
                np.frombuffer(picture(number), np.uint8), cv2.IMREAD_COLOR_RGB
            )
            np.testing.assert_array_equal(read[text], expected)
            size = source.crop_size(next(e for e in entries if e.row.text == text))
            assert size == expected.shape[:2]
        assert len({entry.row.id for entry in entries}) == 3
    finally:
        source.close()


# Pages: the line is the same rectangle of the same page in all of them.

BOX = (10, 20, 110, 50)  # x0, y0, x1, y1
POINTS = "10,20 110,20 110,50 10,50"
CORNERS = [[10, 20], [110, 20], [110, 50], [10, 50]]


def scan(folder: Path, name: str = "0001.png") -> None:
    put(folder / name, picture(7, 100, 200))


def transkribus(folder: Path) -> None:
    scan(folder)
    put(
        folder / "page" / "0001.xml",
        PAGE.format(image="0001.png", points=POINTS, text="Rad"),
    )
    put(
        folder / "mets.xml",
        '<?xml version="1.0"?><ns3:mets xmlns:ns3="http://www.loc.gov/METS/"/>',
    )
    put(folder / "metadata.xml", "<trpDocMetadata/>")


def escriptorium_zip(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "export.zip", "w") as file:
        file.writestr("METS.xml", '<mets xmlns="http://www.loc.gov/METS/"/>')
        file.writestr("0001.png", picture(7, 100, 200))
        file.writestr("0001.xml", PAGE.format(image="0001.png", points=POINTS, text="Rad"))


def htr_united(folder: Path) -> None:
    scan(folder / "data" / "bok")
    put(folder / "htr-united.yml", "title: x")
    page = PAGE.format(image="0001.png", points=POINTS, text="Rad")
    put(folder / "data" / "bok" / "0001.xml", page)


def paddle_pages(folder: Path) -> None:
    scan(folder)
    regions = [{"transcription": "Rad", "points": CORNERS, "difficult": False}]
    put(folder / "Label.txt", "0001.png\t" + json.dumps(regions) + "\n")


def coco_text(folder: Path) -> None:
    scan(folder / "images")
    annotation = {"id": 5, "image_id": 1, "bbox": [10, 20, 100, 30], "utf8_string": "Rad"}
    illegible = {**annotation, "id": 6, "utf8_string": "", "legibility": "illegible"}
    put(
        folder / "cocotext.json",
        {
            "imgs": {"1": {"id": 1, "file_name": "0001.png"}},
            "anns": {"5": annotation, "6": illegible},
        },
    )


def coco_lists(folder: Path) -> None:
    scan(folder)
    annotation = {
        "id": 5,
        "image_id": 1,
        "segmentation": [[number for corner in CORNERS for number in corner]],
        "bbox": [10, 20, 100, 30],
    }
    put(
        folder / "instances.json",
        {
            "images": [{"id": 1, "file_name": "0001.png"}],
            "annotations": [{**annotation, "attributes": {"transcription": "Rad"}}],
        },
    )


def coco_folders(folder: Path) -> None:
    scan(folder / "train2017")
    annotation = {"id": 5, "image_id": 1, "bbox": [10, 20, 100, 30], "text": "Rad"}
    content = {
        "images": [{"id": 1, "file_name": "0001.png"}],
        "annotations": [annotation],
    }
    put(folder / "annotations" / "instances_train2017.json", content)


def cvat(folder: Path) -> None:
    scan(folder)
    annotation = {"id": 5, "image_id": 1, "bbox": [10, 20, 100, 30], "segmentation": []}
    attributes = {"text": "Rad", "rotation": 360.0}
    content = {
        "images": [{"id": 1, "file_name": "0001.png"}],
        "annotations": [{**annotation, "attributes": attributes}],
    }
    put(folder / "instances_default.json", content)


def ocropus_hocr(folder: Path) -> None:
    scan(folder)
    put(
        folder / "book.html",
        "<!DOCTYPE html><html><body><div class='ocr_page' title='file 0001.png'>"
        "<SPAN CLASS='ocr_line' TITLE='bbox 10 20 110 50'>Rad</SPAN><br/></div></body></html>",
    )


def page_2010(folder: Path) -> None:
    scan(folder)
    corners = "".join(f'<Point x="{x}" y="{y}"/>' for x, y in CORNERS)
    namespace = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2010-03-19"
    layout = PAGE.format(image="0001.png", points=POINTS, text="Rad")
    layout = layout.replace(f'<Coords points="{POINTS}"/>', f"<Coords>{corners}</Coords>")
    put(folder / "0001.xml", layout.replace("<PcGts>", f'<PcGts xmlns="{namespace}">'))


def ocr_d_workspace(folder: Path) -> None:
    scan(folder / "OCR-D-IMG", "FILE_0001.png")
    put(folder / "mets.xml", '<mets:mets xmlns:mets="http://www.loc.gov/METS/"/>')
    layout = PAGE.format(image="OCR-D-IMG/FILE_0001.png", points=POINTS, text="Rad")
    put(folder / "OCR-D-GT-SEG-LINE" / "FILE_0001.xml", layout)


def icdar_2015(folder: Path) -> None:
    scan(folder / "images", "img_1.png")
    numbers = ",".join(str(number) for corner in CORNERS for number in corner)
    put(folder / "gt" / "gt_img_1.txt", f"\ufeff{numbers},Rad\r\n{numbers},###\r\n")


def sroie(folder: Path) -> None:
    scan(folder / "img", "X001.png")
    numbers = ",".join(str(number) for corner in CORNERS for number in corner)
    put(folder / "box" / "X001.txt", f"{numbers},Rad\n")


def funsd(folder: Path) -> None:
    scan(folder / "images")
    word = {"box": list(BOX), "text": "Rad"}
    put(
        folder / "annotations" / "0001.json",
        {"form": [{**word, "words": [word], "label": "other"}]},
    )


def label_studio(folder: Path) -> None:
    scan(folder / "images", "0001.png")
    shape = {"x": 5, "y": 20, "width": 50, "height": 30, "rotation": 0}
    sizes = {"original_width": 200, "original_height": 100}
    result = [
        {"id": "a", "type": "rectangle", "value": shape, **sizes},
        {"id": "a", "type": "textarea", "value": {**shape, "text": ["Rad"]}, **sizes},
    ]
    address = "/data/upload/1/0123abcd-0001.png"
    put(
        folder / "export.json",
        [{"data": {"ocr": address}, "annotations": [{"result": result}]}],
    )


def label_studio_minimal(folder: Path) -> None:
    scan(folder)
    shape = {"x": 5, "y": 20, "width": 50, "height": 30, "original_width": 200}
    task = {
        "ocr": "/data/local-files/?d=0001.png",
        "bbox": [{**shape, "original_height": 100}],
    }
    put(folder / "export.json", [{**task, "transcription": "Rad"}])


def mmocr_spotting(folder: Path) -> None:
    scan(folder)
    item = {"img_path": "0001.png", "instances": [{"bbox": list(BOX), "text": "Rad"}]}
    put(folder / "train.json", {"metainfo": {}, "data_list": [item]})


def own_pages_jsonl(folder: Path) -> None:
    scan(folder)
    row = {"image": "0001.png", "page_index": 0, "text": "Rad"}
    put(
        folder / "read.jsonl",
        json.dumps({**row, "bbox": {"x": 10, "y": 20, "width": 100, "height": 30}}),
    )


def own_pages_tsv(folder: Path) -> None:
    scan(folder)
    header = "image\tpage\tleft\ttop\twidth\theight\tconfidence\ttext\n"
    put(folder / "read.tsv", f"{header}0001.png\t1\t10\t20\t100\t30\t0.9\tRad\n")


PAGE_FORMS = [
    coco_folders, cvat, ocropus_hocr, page_2010, ocr_d_workspace,
    transkribus, escriptorium_zip, htr_united, paddle_pages, coco_text, coco_lists, icdar_2015,
    sroie, funsd, label_studio, label_studio_minimal, mmocr_spotting, own_pages_jsonl,
    own_pages_tsv,
]  # fmt: skip


@pytest.mark.parametrize("build", PAGE_FORMS, ids=lambda build: build.__name__)
def test_lines_of_pages_are_cut_with_their_texts(tmp_path: Path, build) -> None:
    folder = tmp_path / "set"
    build(folder)
    source = open_source(folder)
    try:
        entry, *others = source.entries()
        assert (entry.problem, entry.row.text) == ("", "Rad")
        assert all(other.illegible for other in others)
        page = cv2.imdecode(
            np.frombuffer(picture(7, 100, 200), np.uint8), cv2.IMREAD_COLOR_RGB
        )
        np.testing.assert_array_equal(source.crop(entry), page[20:50, 10:110])
        assert source.crop_size(entry) == (30, 100)
    finally:
        source.close()


def test_columns_can_be_named(tmp_path: Path) -> None:
    rows = [
        {"bild": name, "rad": text, "text": "other"}
        for name, text in zip(images(tmp_path), TEXTS, strict=True)
    ]
    file = put(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows)))
    entries = list(open_source(parse_source(str(file), Columns("bild", "rad"))).entries())
    assert [entry.row.text for entry in entries] == list(TEXTS)
    table = put(
        tmp_path / "rows.csv",
        "bild,rad\n" + lines(images(tmp_path), ";").replace(";", ',"').replace("\n", '"\n'),
    )
    entries = list(open_source(parse_source(str(table), Columns("bild", "rad"))).entries())
    assert [entry.row.text for entry in entries] == list(TEXTS)
    wrong = list(open_source(parse_source(str(file), Columns("bild", "nowhere"))).entries())
    assert "no 'nowhere'; the row has bild, rad, text" in wrong[0].problem


def test_tables_of_hugging_face(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    struct = [{"bytes": picture(number), "path": f"{number}.png"} for number in range(3)]
    table = arrow.table({"image": struct, "text": list(TEXTS), "lang": ["swe"] * 3})
    (tmp_path / "data").mkdir()
    pyarrow.parquet.write_table(table, tmp_path / "data" / "train-00000-of-00001.parquet")
    stream = tmp_path / "data-00000-of-00001.arrow"
    with (
        arrow.OSFile(str(stream), "wb") as file,
        arrow.ipc.new_stream(file, table.schema) as out,
    ):
        out.write_table(table)
    for path in (tmp_path / "data", tmp_path / "data-00000-of-00001.arrow"):
        source = open_source(path)
        entries = list(source.entries())
        assert [entry.row.text for entry in entries] == list(TEXTS)
        assert entries[0].row.language == "sv"
        for number in (2, 0, 1):
            assert source.crop(entries[number]).shape == (20, 60, 3)


def test_page_images_with_layouts_in_a_table(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    page = PAGE.format(image="x.png", points=POINTS, text="Rad")
    columns = {"image": [{"bytes": picture(7, 100, 200), "path": "x.png"}], "page": [page]}
    pyarrow.parquet.write_table(arrow.table(columns), tmp_path / "pages.parquet")
    source = open_source(tmp_path / "pages.parquet")
    (entry,) = source.entries()
    assert (entry.row.text, source.crop(entry).shape) == ("Rad", (30, 100, 3))


def test_a_table_names_images_next_to_it(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    names = images(tmp_path)
    table = pa.table({"file_name": names, "text": list(TEXTS)})
    pq.write_table(table, tmp_path / "metadata.parquet")
    source = open_source(tmp_path)
    entries = list(source.entries())
    assert [entry.row.text for entry in entries] == list(TEXTS)
    assert source.crop(entries[2]).shape == (20, 60, 3)
    outside = pa.table({"file_name": ["../secret.png"], "text": ["a"]})
    pq.write_table(outside, tmp_path / "metadata.parquet")
    source = open_source(tmp_path)
    with pytest.raises(DataError, match="leaves"):
        source.crop(next(iter(source.entries())))


def test_data_sets_compiled_by_kraken(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    rows = [{"text": text, "im": picture(number)} for number, text in enumerate(TEXTS)]
    table = pa.table({"lines": pa.array(rows)})
    file = tmp_path / "dataset.arrow"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    source = open_source(tmp_path)
    entries = list(source.entries())
    assert [entry.row.text for entry in entries] == list(TEXTS)
    assert source.crop(entries[1]).shape == (20, 60, 3)


def test_keys_within_keys_can_be_named(tmp_path: Path) -> None:
    rows = [
        {"image": {"path": name}, "text": {"value": text}}
        for name, text in zip(images(tmp_path), TEXTS, strict=True)
    ]
    file = put(tmp_path / "data.jsonl", "\n".join(map(json.dumps, rows)))
    entry = next(iter(open_source(file).entries()))
    assert "--text-key text.value" in entry.problem
    named = open_source(parse_source(str(file), Columns("", "text.value")))
    assert [entry.row.text for entry in named.entries()] == list(TEXTS)


def test_turned_boxes_are_cut_along_their_turn(tmp_path: Path) -> None:
    scan(tmp_path)
    annotation = {"id": 5, "image_id": 1, "bbox": [60, 35, 80, 20], "text": "Rad"}
    content = {"images": [{"id": 1, "file_name": "0001.png"}], "annotations": [annotation]}
    annotation["attributes"] = {"rotation": 180}
    file = put(tmp_path / "labels.json", content)
    source = open_source(file)
    (entry,) = source.entries()
    page = cv2.imdecode(np.frombuffer(picture(7, 100, 200), np.uint8), cv2.IMREAD_COLOR_RGB)
    upside_down = page[35:55, 60:140][::-1, ::-1].astype(int)
    difference = np.abs(source.crop(entry).astype(int) - upside_down)
    assert difference.mean() < 2

    annotation["bbox"] = [60, 35, 80, 20, 0.5]
    (entry,) = open_source(put(tmp_path / "labels.json", content)).entries()
    assert "5 numbers" in entry.problem


@pytest.mark.parametrize(
    "content", [{"shapes": [{"points": []}]}, {"_via_img_metadata": {}}, {"unknown": [1]}]
)
def test_json_that_is_not_read_is_named(tmp_path: Path, content) -> None:
    put(tmp_path / "0001.json", content)
    with pytest.raises(DataError, match=r"0001\.json is (a labelme|a project|in no form)"):
        open_source(tmp_path)


def test_an_open_quote_spoils_one_row_of_a_csv(tmp_path: Path) -> None:
    names = images(tmp_path)
    file = put(tmp_path / "labels.csv", f'image,text\n{names[0]},"open\n{names[1]},b\n')
    first, second = open_source(file).entries()
    assert "closes" in first.problem
    assert second.row.text == "b"


def test_a_mixed_folder_names_what_it_left_aside(tmp_path: Path, heard) -> None:
    transkribus(tmp_path)
    for number in range(4):
        put(tmp_path / f"line{number}.png", picture(number))
        put(tmp_path / f"line{number}.gt.txt", "x")
    assert open_source(tmp_path, heard).kind == "pages"
    assert "1 page is read; ignored: 4 pairs (line0.gt.txt, …)" in heard.warnings[0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("data.h5", b"\x89HDF\r\n\x1a\n", "is HDF5"),
        ("data.xlsx", b"PK", "is a spreadsheet, which is not read; save it as CSV"),
        ("data.rar", b"Rar!", "is an archive, which is not read; unpack it"),
        ("data.pkl", b"\x80", "could run code"),
        ("a.xml", b'<document xmlns="http://www.abbyy.com/FineReader_xml/"/>', "ABBYY"),
    ],
)
def test_foreign_files_are_refused_by_their_format(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    put(tmp_path / "set" / name, content)
    for path in (tmp_path / "set", tmp_path / "set" / name):
        with pytest.raises(DataError) as caught:
            problems = [entry.problem for entry in open_source(path).entries()]
            raise DataError(str(problems))
        assert said in str(caught.value) or "no label file" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png"])
def test_an_archive_cannot_write_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(name, b"x")
    with pytest.raises(DataError, match="outside of its folder"):
        open_source(tmp_path / "x.zip")
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, name
        file.addfile(link)
    with pytest.raises(DataError, match="link, a device or"):
        open_source(tmp_path / "x.tar")


def test_two_images_are_never_taken_for_one(tmp_path: Path) -> None:
    """`a/0.png` and `b/0.png` are two pictures: where only one folder is there, one is missing."""
    images(tmp_path / "a")
    put(tmp_path / "labels.tsv", "b/0.png\tx\na/1.png\ty\n")
    source = open_source(tmp_path)
    missing, there = source.entries()
    assert source.crop(there).shape == (20, 60, 3)
    with pytest.raises(FileNotFoundError):
        source.crop(missing)


def test_several_texts_of_one_line_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "a.png", picture(1))
    put(tmp_path / "a.gt.txt", "one\ntwo\n")
    (entry,) = open_source(tmp_path).entries()
    assert "2 lines of text" in entry.problem
    with pytest.raises(UsageError, match="no such file"):
        parse_source(str(tmp_path / "b"))


def test_folders_of_lmdbs_are_read_as_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with LineStoreWriter(tmp_path / name / "lines.lmdb", Geometry(), NORDIC) as writer:
            image = np.random.default_rng(1).integers(0, 256, (32, 80, 3), dtype=np.uint8)
            writer.add(image, LineRow("a", "a.png", f"Rad {name}"))
    source = open_source(tmp_path)
    entries = list(source.entries())
    assert [entry.row.id for entry in entries] == ["one/lines.lmdb/a", "two/lines.lmdb/a"]
    assert [source.crop(entry).shape for entry in entries] == [(32, 80, 3)] * 2
    source.close()
