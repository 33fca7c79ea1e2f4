"""prep looks at pictures and texts: what cannot be right is left out by its name."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nordocr_cli.core.prep.run import prep
from nordocr_cli.data.split import Split, document_of_row
from nordocr_cli.data.store import LineStore
from nordocr_cli.errors import DataError
from nordocr_cli.profile import load_profile

PROFILE = load_profile("svtrv2-nano").profile


def picture(text: str = "Summa", height: int = 40, width: int = 300) -> np.ndarray:
    pixels = np.full((height, width), 255, np.uint8)
    scale = height / 40
    cv2.putText(pixels, text, (4, int(30 * scale)), cv2.FONT_HERSHEY_SIMPLEX, scale, 0, 2)
    return pixels


def folder_of(folder: Path, rows: list[tuple[np.ndarray | Image.Image, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (pixels, text) in enumerate(rows):
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        name = f"{number}.tif" if image.mode.startswith(("I", "F")) else f"{number}.png"
        image.save(folder / name)
        lines.append(json.dumps({"image": name, "text": text}))
    (folder / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def texts(store: Path) -> list[str]:
    with LineStore(store) as lines:
        return [lines.row(index).text for index in range(len(lines))]


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((40, 300), 255, np.uint8), "no-ink"),
        (np.zeros((40, 300), np.uint8), "no-ink"),
        ((picture() // 16).astype(np.uint8), "no-ink"),
        (np.ascontiguousarray(picture().T), "taller-than-wide"),
        (picture()[:5], "too-small"),
        (picture()[:1, :1], "too-small"),
    ],
    ids=["white", "black", "nearly-black", "turned", "flat", "one-pixel"],
)
def test_pictures_that_cannot_be_read_are_left_out_by_name(
    tmp_path: Path, pixels, reason
) -> None:
    source = folder_of(
        tmp_path / "in", [(picture(), "Summa"), (pixels, "Summa eget kapital")]
    )
    result = prep([source], tmp_path / "o.lmdb", PROFILE)
    assert (result.kept, result.left_out) == (1, {reason: 1})
    assert f"1 {reason}" in result.problem
    height, width = pixels.shape
    assert f"{height} x {width} px" in result.problem
    assert prep([source], tmp_path / "o.lmdb", PROFILE, on_bad="skip").problem is None


def test_specks_on_paper_are_no_ink_and_a_full_stop_is(tmp_path: Path) -> None:
    specks = np.full((40, 900), 240, np.uint8)
    specks[::13, ::97] = 0
    stop = np.full((40, 900), 240, np.uint8)
    stop[28:33, 10:15] = 0
    source = folder_of(tmp_path / "in", [(specks, "Summa"), (stop, ".")])
    result = prep([source], tmp_path / "o.lmdb", PROFILE, on_bad="skip")
    assert (texts(tmp_path / "o.lmdb"), result.left_out) == (["."], {"no-ink": 1})


def test_narrow_letters_are_not_taken_for_a_turned_line(tmp_path: Path) -> None:
    narrow = picture("1", 40, 30)
    source = folder_of(tmp_path / "in", [(narrow, "1"), (narrow[:, :20], "il")])
    assert prep([source], tmp_path / "o.lmdb", PROFILE).kept == 2


@pytest.mark.parametrize(
    "kind", ["float", "twelve-bits", "32-bits", "white-on-transparent"]
)
def test_pictures_of_other_kinds_are_seen(tmp_path: Path, kind: str) -> None:
    pixels = picture()
    made = {
        "float": lambda: Image.fromarray((pixels / 255).astype(np.float32)),
        "twelve-bits": lambda: Image.fromarray(pixels.astype(np.uint16) * 16),
        "32-bits": lambda: Image.fromarray(pixels.astype(np.int32) * 257),
        "white-on-transparent": lambda: Image.merge(
            "RGBA", [Image.new("L", (300, 40), 255)] * 3 + [Image.fromarray(255 - pixels)]
        ),
    }[kind]()
    source = folder_of(tmp_path / "in", [(made, "Summa")])
    assert prep([source], tmp_path / "o.lmdb", PROFILE).kept == 1
    with LineStore(tmp_path / "o.lmdb") as store:
        assert np.ptp(store.image(0).astype(int)) > 200


def test_spaces_at_the_ends_are_removed_and_counted(tmp_path: Path, heard) -> None:
    rows = [
        (picture(), "  Summa"),
        (picture("Kr"), "1 234 kr \u00a0"),
        (picture("Ja"), "a  b"),
    ]
    result = prep(
        [folder_of(tmp_path / "in", rows)], tmp_path / "o.lmdb", PROFILE, progress=heard
    )
    assert texts(tmp_path / "o.lmdb") == ["Summa", "1 234 kr", "a  b"]
    assert result.trimmed == 2
    assert "2 texts had spaces at their ends" in " ".join(heard.notes)


def test_characters_that_nobody_sees_have_a_default_mapping(tmp_path: Path, heard) -> None:
    labels = {
        "1\u00a0234\u202f567 kr": "1 234 567 kr",
        "Års\u00adredo\u200bvisning": "Årsredovisning",
        "\ufeffSum\u200dma\u200e": "Summa",
        "org\u2011nr": "org-nr",
        "Summa\t123": "Summa 123",
    }
    rows = [(picture(str(number)), label) for number, label in enumerate(labels)]
    rows.append((picture("Ja"), "Ja"))
    source = folder_of(tmp_path / "in", rows)
    result = prep([source], tmp_path / "o.lmdb", PROFILE, progress=heard)
    assert texts(tmp_path / "o.lmdb") == [*labels.values(), "Ja"]
    assert result.mapped["\u00ad"] == 1
    assert "U+00A0" in " ".join(heard.notes)
    off = prep(
        [source], tmp_path / "o.lmdb", PROFILE, default_map=False, oov="skip", on_bad="skip"
    )
    assert off.left_out == {"oov": 5}


def test_a_no_break_space_can_be_mapped_by_a_file(tmp_path: Path) -> None:
    mapping = tmp_path / "map.tsv"
    mapping.write_text("\u00a0\t_\n\u2212\t-\n".replace("_", "."), encoding="utf-8")
    source = folder_of(tmp_path / "in", [(picture(), "1\u00a0234 \u22125")])
    prep([source], tmp_path / "o.lmdb", PROFILE, oov="map", oov_map=mapping)
    assert texts(tmp_path / "o.lmdb") == ["1.234 -5"]


def test_the_charset_that_has_the_missing_letters_is_named(tmp_path: Path, heard) -> None:
    nordic = load_profile("svtrv2-nano", ["charset=nordic"]).profile
    source = folder_of(tmp_path / "in", [(picture(), "Já, ó"), (picture("b"), "b")])
    result = prep([source], tmp_path / "o.lmdb", nordic)
    assert "--set charset=nordic-ext (as in profile default" in result.problem
    prep([source], tmp_path / "o.lmdb", nordic, oov="skip", progress=heard)
    assert "nordic-ext" in " ".join(heard.warnings)


def test_what_the_geometry_cannot_hold_stays_known_to_the_store(tmp_path: Path) -> None:
    rows = [(picture(), "Summa"), (picture("x"), "x" * 200), (picture("y"), "y 丁")]
    source = folder_of(tmp_path / "in", rows)
    result = prep([source], tmp_path / "o.lmdb", PROFILE, on_bad="skip", oov="skip")
    assert result.left_out == {"ctc-infeasible": 1, "oov": 1}
    with LineStore(tmp_path / "o.lmdb") as store:
        assert [row.text for row in store.left_out] == ["x" * 200, "y 丁"]
    assert (
        "1 ctc-infeasible"
        in prep([source], tmp_path / "o.lmdb", PROFILE, oov="skip").problem
    )


PAGE = (
    '<PcGts><Page imageFilename="0001.png"><TextRegion><TextLine><Coords points="0,0 300,0 300,40'
    ' 0,40"/><TextEquiv><Unicode>Rad {}</Unicode></TextEquiv></TextLine></TextRegion></Page></PcGts>'
)


def books(root: Path, places: list[str]) -> list[Path]:
    for number, place in enumerate(places):
        folder = root / place
        (folder / "page").mkdir(parents=True)
        Image.fromarray(picture(f"Rad {number}")).save(folder / "0001.png")
        (folder / "page" / "0001.xml").write_text(PAGE.format(number), encoding="utf-8")
    return [root / place / "page" for place in places]


@pytest.mark.parametrize(
    "places", [["bok1", "bok2", "bok3"], ["a/scan", "b/scan", "c/scan"]]
)
def test_pages_of_one_name_are_of_as_many_documents(
    tmp_path: Path, places: list[str]
) -> None:
    sources = books(tmp_path, places)
    result = prep(sources, tmp_path / "o.lmdb", PROFILE, split=Split(0.3))
    assert sorted(result.stores.values()) == [1, 2]
    prep([tmp_path], tmp_path / "tree.lmdb", PROFILE, split=Split(0.3))
    with LineStore(tmp_path / "tree.lmdb") as store:
        documents = {document_of_row(store.row(index)) for index in range(len(store))}
    assert len(documents) == 2


def test_a_sources_name_stands_for_its_folder(tmp_path: Path) -> None:
    one, two, _ = books(tmp_path, ["bok1", "bok2", "bok3"])
    prep([f"x={one}", f"y={two}"], tmp_path / "o.lmdb", PROFILE)
    with LineStore(tmp_path / "o.lmdb") as store:
        assert [document_of_row(store.row(index)) for index in range(2)] == [
            "x/0001",
            "y/0001",
        ]


def test_a_validation_store_holds_each_language_that_has_two_documents(
    tmp_path: Path, heard
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rows = []
    for number in range(40):
        Image.fromarray(picture(f"{number}")).save(folder / f"{number}.png")
        language = {0: "is", 1: "da"}.get(number % 20, "sv")
        document = "only" if language == "is" else f"d{number // 2}"
        row = {"image": f"{number}.png", "text": str(number), "language": language}
        rows.append(json.dumps({**row, "source": document}))
    (folder / "manifest.jsonl").write_text("\n".join(rows), encoding="utf-8")
    prep([folder], tmp_path / "o.lmdb", PROFILE, split=Split(0.5), progress=heard)
    with LineStore(tmp_path / "o_val.lmdb") as store:
        languages = {store.row(index).language for index in range(len(store))}
    assert languages == {"sv", "da"}
    assert "no document of is is in the validation store" in " ".join(heard.warnings)


def test_missing_images_are_told_where_they_are(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", [(picture(), "Summa"), (picture("b"), "b")])
    (folder / "some" / "crops").mkdir(parents=True)
    for number in range(2):
        (folder / f"{number}.png").rename(folder / "some" / "crops" / f"{number}.png")
    Image.fromarray(picture("c")).save(folder / "c.png")
    with (folder / "manifest.jsonl").open("a") as file:
        file.write('\n{"image": "c.png", "text": "c"}')
    result = prep([folder], tmp_path / "o.lmdb", PROFILE)
    assert f"2 of the missing images lie in {folder / 'some' / 'crops'}" in result.problem
    assert f":{folder / 'some' / 'crops'}" in result.problem


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_where_all_missing_images_are_is_said_too(tmp_path: Path, on_bad: str) -> None:
    folder = folder_of(tmp_path / "in", [(picture(), "Summa")])
    (folder / "crops").mkdir()
    (folder / "0.png").rename(folder / "crops" / "0.png")
    labels, store = folder / "manifest.jsonl", tmp_path / "o.lmdb"

    with pytest.raises(DataError, match=rf"1 of the missing images lie .*:{folder}/crops"):
        prep([labels], store, PROFILE, on_bad=on_bad)

    # The folder may be given as it is seen from the label file.
    assert prep([f"{labels}:crops"], store, PROFILE).kept == 1


def test_rows_that_are_skipped_are_named(tmp_path: Path, heard) -> None:
    rows = [(picture(), "Summa"), (picture("b"), ""), (picture("c"), "c")]
    folder = folder_of(tmp_path / "in", rows)
    (folder / "2.png").write_bytes(b"")

    prep([folder], tmp_path / "o.lmdb", PROFILE, on_bad="skip", progress=heard)

    warnings = " ".join(heard.warnings)
    assert "1 rows have no text: " in warnings
    assert "1 rows have an image that cannot be read: " in warnings
    assert "2.png: the file is empty" in warnings


# What a row may be, and what becomes of it: `kept` or a reason.
KINDS = {
    "good": "kept",
    "spaces": "kept",
    "empty": "empty-text",
    "foreign": "oov",
    "gone": "missing-image",
    "damaged": "unreadable-image",
    "blank": "no-ink",
    "long": "ctc-infeasible",
    "turned": "taller-than-wide",
}
LABELS = {"spaces": "  Summa ", "empty": "", "foreign": "丁", "long": "x" * 300}


def row_of(folder: Path, number: int, kind: str) -> tuple[str, str]:
    """Write the image of a row of that kind; returns its name and text."""
    name, text = f"{number}.png", LABELS.get(kind, f"Rad {number}")
    pixels = {"blank": np.full((40, 300), 255, np.uint8), "turned": picture().T}.get(kind)
    if kind == "damaged":
        (folder / name).write_bytes(b"\x89PNG")
    elif kind != "gone":
        image = picture(f"Rad {number}") if pixels is None else np.ascontiguousarray(pixels)
        Image.fromarray(image).save(folder / name)
    return name, "Summa eget kapital" if kind == "turned" else text


def as_form(folder: Path, form: str, rows: list[tuple[str, str]]) -> None:
    values = [{"image": name, "text": text} for name, text in rows]
    if form == "pairs":
        for name, text in rows:
            (folder / name.replace(".png", ".gt.txt")).write_text(text, encoding="utf-8")
        return
    file, content = {
        "jsonl": ("manifest.jsonl", "\n".join(map(json.dumps, values))),
        "array": ("labels.json", json.dumps(values)),
        "map": ("labels.json", json.dumps(dict(rows))),
        "tsv": ("labels.tsv", "\n".join(f"{name}\t{text}" for name, text in rows)),
        "csv": ("labels.csv", "image,text\n" + "\n".join(f'{n},"{t}"' for n, t in rows)),
    }[form]
    (folder / file).write_text(content, encoding="utf-8")


@pytest.mark.parametrize("form", ["jsonl", "array", "map", "tsv", "csv", "pairs"])
@given(kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=12))
@settings(max_examples=6, deadline=None)
def test_every_row_is_kept_or_counted_in_every_form(
    tmp_path_factory: pytest.TempPathFactory, form: str, kinds: list[str]
) -> None:
    folder = tmp_path_factory.mktemp(form)
    kinds = ["good", *kinds]
    as_form(
        folder, form, [row_of(folder, number, kind) for number, kind in enumerate(kinds)]
    )
    result = prep([folder], folder / "o.lmdb", PROFILE, oov="skip", on_bad="skip")
    expected = Counter(KINDS[kind] for kind in kinds)
    assert result.kept == expected.pop("kept")
    assert Counter(result.left_out) == expected
    assert result.read == result.kept + sum(result.left_out.values()) == len(kinds)


def test_rows_of_a_named_source_can_be_grouped_by_it(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", [(picture(), "Summa")])
    prep([f"legal={one}"], tmp_path / "o.lmdb", PROFILE)
    with LineStore(tmp_path / "o.lmdb") as store:
        assert store.row(0).to_json()["corpus"] == "legal"
