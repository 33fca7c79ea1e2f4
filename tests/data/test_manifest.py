import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.data.images import resolve_image
from nordocr_cli.data.labels.label_file import LabelFile
from nordocr_cli.data.manifest import iterate_manifest
from nordocr_cli.errors import DataError
from nordocr_cli.records import LineRow


def rows_of(file: Path) -> list[LineRow | None]:
    return [entry.row for entry in iterate_manifest(file)]


def test_jsonl_keeps_every_key(tmp_path: Path) -> None:
    file = tmp_path / "manifest.jsonl"
    rows = [
        {
            "image": "a.png",
            "text": "Å",
            "language": "sv",
            "dpi": 300,
            "params": {"angle": 1.5},
        },
        {
            "image": "b.png",
            "text": "x",
            "id": "b",
            "subset": "scan",
            "split": "val",
            "source": "d1",
            "language": None,
        },
    ]
    file.write_text(
        "\ufeff" + "\r\n\r\n".join(json.dumps(r, ensure_ascii=False) for r in rows),
        encoding="utf-8",
    )
    assert rows_of(file) == [
        LineRow("a.png", "a.png", "Å", "sv", extra={"dpi": 300, "params": {"angle": 1.5}}),
        LineRow("b", "b.png", "x", "", "scan", "val", "d1"),
    ]


def test_a_field_that_is_null_does_not_hide_the_label(tmp_path: Path) -> None:
    file = tmp_path / "manifest.jsonl"
    file.write_text(
        '{"image": null, "path": "a.png", "text": null, "words": "hej", "label": "kept"}\n',
        encoding="utf-8",
    )
    (row,) = rows_of(file)
    assert row == LineRow("a.png", "a.png", "hej", extra={"label": "kept"})
    assert row.to_json() == {
        "id": "a.png",
        "image": "a.png",
        "text": "hej",
        "label": "kept",
    }
    meddling = LineRow(
        "a",
        "a.png",
        "hej",
        extra={"text": None, "image": "b.png", "language": "sv", "dpi": 300},
    )
    assert meddling.to_json() == {"id": "a", "image": "a.png", "text": "hej", "dpi": 300}


# Texts that quote, brace and tab as they like, but end no line and fill it.
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(
    str.strip
)


@given(
    text=TEXTS,
    tail=st.sampled_from(["", "\t", '\t"quoted"', "\t{x: [1]}", "\\n", "\u2028y", "'"]),
)
@settings(max_examples=60, deadline=None)
def test_tsv_text_is_opaque(
    tmp_path_factory: pytest.TempPathFactory, text: str, tail: str
) -> None:
    from nordocr_cli.charset import to_nfc

    file = tmp_path_factory.mktemp("tsv") / "labels.tsv"
    file.write_bytes(f"a b.png\t{text}{tail}\n".encode())
    (entry,) = iterate_manifest(file)
    assert entry.row == LineRow("a b.png", "a b.png", to_nfc(text + tail))
    assert entry.renormalized == (to_nfc(text + tail) != text + tail)


def test_kinds_are_told_by_looking(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    for content in ('{"image": "a.png", "text": "b c"}', "a.png\tb c", "a.png b c"):
        file.write_text(content + "\n", encoding="utf-8")
        assert rows_of(file) == [LineRow("a.png", "a.png", "b c")]
    file.write_text("[\n{}]", encoding="utf-8")
    with pytest.raises(DataError, match="JSON Lines"):
        rows_of(file)
    tsv = tmp_path / "x.tsv"
    tsv.write_text("image\ttext\na.png\tb\n", encoding="utf-8")
    assert [r.text for r in rows_of(tsv)] == ["b"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"image": "a.png", "text": "x"', "not JSON"),
        (b'["a.png", "x"]', "not list"),
        (b'{"text": "x"}', "no 'image'; the row has text"),
        (b'{"image": "a.png"}', "no 'text'"),
        (b'{"image": "a.png", "text": 7}', "'text' must be a string, not int 7"),
        (b'{"image": "", "text": "x"}', "'image' is empty"),
        (b'{"image": "a.png", "text": "\\ud800"}', "surrogate"),
        (
            b'{"image": "a.png", "text": "x", "page": {"name": "\\ud800"}}',
            "'page' holds half a surrogate",
        ),
        (b'{"image": "a.png", "text": "x", "w": NaN}', "NaN is not JSON"),
        ("{'image': 'å'}".encode("latin-1"), "not UTF-8"),
        (b"[" * 5000, "nested too deeply|not JSON"),
        (b'{"image": "a.png", "text": "\0"}', "a NUL byte at column 29"),
        (b"x" * (5 << 20), "over 1 MiB long"),
        (b'{"image": "good.png", "text": "again"}', "already that of line 1"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_read(
    tmp_path: Path, line: bytes, problem: str
) -> None:
    file = tmp_path / "manifest.jsonl"
    good = b'{"image": "good.png", "text": "x"}\n'
    file.write_bytes(good + line + b"\n" + good.replace(b"good", b"last"))
    entries = list(iterate_manifest(file))
    assert [entry.row is not None for entry in entries] == [True, False, True]
    assert entries[1].where == f"{file}:2"
    assert re.search(problem, entries[1].problem)


def test_a_list_of_images_that_is_nested_without_end_is_a_bad_row(tmp_path: Path) -> None:
    file = tmp_path / "manifest.tsv"
    file.write_text('["a.png",' + "[" * 100_000 + "\tx\nb.png\ty\n", encoding="utf-8")
    bad, good = iterate_manifest(file)
    assert "nested too deeply" in bad.problem
    assert good.row is not None


@pytest.mark.parametrize("name", ["manifest.tsv", "labels.txt", "Label.txt"])
def test_the_kind_is_told_though_the_first_line_is_damaged(
    tmp_path: Path, name: str
) -> None:
    regions = '[{"transcription": "x", "points": [[0, 0], [9, 0], [9, 9]]}]'
    good = {
        "manifest.tsv": "{}.png\tx",
        "labels.txt": "{}.png x",
        "Label.txt": "{}.png\t" + regions,
    }[name]
    file = tmp_path / name
    file.write_text(
        "\n".join(['{"a\t[{', *(good.replace("{}", str(index)) for index in range(3))]),
        encoding="utf-8",
    )
    entries = list(iterate_manifest(file))
    assert [entry.row is not None for entry in entries][1:] == [True] * 3
    # `{"a`, a tab, `[{` is a row like any other
    assert (entries[0].row is None) is (name != "manifest.tsv")


def test_files_that_are_no_manifests(tmp_path: Path) -> None:
    for name, content in {
        "utf-16": "a\tb".encode("utf-16"),
        "nul": b"a\0b\tc\n",
        "empty": b"\n\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            rows_of(tmp_path / name)
    with pytest.raises(DataError, match="cannot read"):
        rows_of(tmp_path / "nowhere.jsonl")


def test_paths_stay_inside_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"x")
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "in.png").symlink_to(root / "images")
    (root / "away").symlink_to(tmp_path)
    hostile = [
        "",
        "../secret.png",
        "images/../../secret.png",
        "/etc/passwd",
        "a\0b",
        "C:\\x.png",
        "C:x.png",
        "\\\\host\\share\\x.png",
    ]
    hostile += [
        "..\\secret.png",
        "\\x.png",
        "out.png",
        "images/NUL",
        "con.png",
        "aux /x.png",
        str(tmp_path / "secret.png"),
    ]
    for image in hostile:
        with pytest.raises(DataError):
            resolve_image(root, image)
    inside = ["images/a.png", "in.png", "./images/å b.png", "images/.hidden", "a..b.png"]
    for image in (*inside, "away/linked folder.png"):
        assert Path(resolve_image(root, image)) == root / image


def test_an_endless_line_or_endless_blank_lines_end(tmp_path):
    sparse = tmp_path / "sparse.json"
    with sparse.open("wb") as file:
        file.truncate(60 << 30)
    with pytest.raises(DataError, match=r"sparse\.json:1: the line is over 1 GiB long"):
        LabelFile(sparse, tmp_path).sample  # noqa: B018 - reading it is what is tested
    blank = tmp_path / "blank.txt"
    blank.write_bytes(b"\n" * 300_000 + b"a.png\tRad 1\n")
    assert LabelFile(blank, tmp_path).sample == ()
