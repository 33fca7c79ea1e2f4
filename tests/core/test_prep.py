import json
import os
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from nordocr_cli.core.data import export_store
from nordocr_cli.core.prep import engines as prep_engines
from nordocr_cli.core.prep import run as prep_module
from nordocr_cli.core.prep.lines import Selection
from nordocr_cli.core.prep.run import plan_prep, prep
from nordocr_cli.data.batches import BatchOptions, LineBatches
from nordocr_cli.data.entry import Entry
from nordocr_cli.data.formats import SourceSpec
from nordocr_cli.data.resize import resize_line
from nordocr_cli.data.split import Split
from nordocr_cli.data.store import LineStore
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.profile import load_profile
from nordocr_cli.records import LineRow

PROFILE = load_profile("svtrv2-1024").profile
SAMPLES = Path(__file__).parents[2] / "samples"


def corpus(folder: Path, rows: list[dict], pictures: int = 10_000) -> Path:
    """A folder of pictures with their manifest; row i shows picture i modulo `pictures`, unless it
    names another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, row in enumerate(rows):
        picture = row.pop("picture", index % pictures)
        image = np.random.default_rng(picture).integers(
            0, 256, (32, 200, 3), dtype=np.uint8
        )
        cv2.imwrite(str(folder / f"{index}.png"), image)
        lines.append(json.dumps({"image": f"{index}.png", "text": f"Rad {index}", **row}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def speckled(height: int, width: int) -> np.ndarray:
    """A picture with something to see all over it."""
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def store_rows(path: Path | str) -> list:
    with LineStore(Path(path)) as store:
        return [store.row(index) for index in range(len(store))]


def test_rows_without_text_are_kept_on_request_and_can_be_trained_on(
    tmp_path: Path,
) -> None:
    source = corpus(tmp_path / "in", [{"text": ""}, {"text": "Å 1"}, {"text": "  "}])
    selection = Selection(empty=True)
    result = prep(
        [str(source)], tmp_path / "x.lmdb", PROFILE, select=selection, on_bad="skip"
    )
    assert result.kept == 2
    assert [row.text for row in store_rows(tmp_path / "x.lmdb")] == ["", "Å 1"]
    with LineStore(tmp_path / "x.lmdb") as store:
        charset, geometry = PROFILE.load_charset(), PROFILE.geometry
        options = BatchOptions(budget_px=100_000, workers=0)
        batches = LineBatches([store], charset, geometry, options)
        batch = next(batches.epoch(0))
    assert sorted(batch.target_lengths.tolist()) == [0, 3]


def test_every_row_is_kept_or_named(tmp_path: Path) -> None:
    rows = [
        {"text": "Å 1 234,50"},
        {"text": "  "},
        {"text": "ﬁn"},
        {"text": "x" * 60},
        {"image": "gone.png"},
        {"image": "../out.png"},
        {"text": 7},
        {"text": "a\u030a"},
    ]
    source = corpus(tmp_path / "in", rows)
    (source / "0.png").write_bytes((source / "0.png").read_bytes())
    result = prep([source], tmp_path / "o.lmdb", PROFILE, oov="skip", on_bad="skip")
    assert (result.read, result.kept, result.renormalized) == (8, 2, 1)
    assert result.left_out == {
        "empty-text": 1,
        "oov": 1,
        "ctc-infeasible": 1,
        "missing-image": 1,
        "unreadable-image": 1,
        "bad-row": 1,
    }
    assert result.oov == {"ﬁ": 1}
    assert result.problem is None
    listed = [
        json.loads(line)
        for line in Path(result.quarantine).read_text(encoding="utf-8").splitlines()
    ]
    assert Counter(item["reason"] for item in listed) == result.left_out
    assert "gone.png" in next(
        item["problem"] for item in listed if item["reason"] == "missing-image"
    )
    strict = prep([source], tmp_path / "o.lmdb", PROFILE)
    assert strict.kept == 2
    assert "ﬁ" in strict.problem
    assert "--on-bad skip" in strict.problem


def test_labels_of_a_network_that_writes_tokens_need_no_frames(
    tmp_path: Path, heard
) -> None:
    source = corpus(
        tmp_path / "in", [{"text": "x"}, {"text": "x" * 60}, {"text": "x" * 61}]
    )
    assert prep([source], tmp_path / "frames.lmdb", PROFILE).left_out == {
        "ctc-infeasible": 2
    }
    result = prep(
        [source],
        tmp_path / "o.lmdb",
        load_profile("parseq-32x128", ["model.max_label_length=60"]).profile,
        progress=heard,
    )
    assert (result.kept, result.left_out) == (2, {"too-long": 1})
    assert "61 characters; model.max_label_length is 60" in result.problem


def test_named_sources_give_subsets_and_ids(tmp_path: Path) -> None:
    a = corpus(tmp_path / "a", [{}, {"subset": "own"}])
    b = corpus(tmp_path / "b", [{}])
    result = prep([f"legal={a}", b], tmp_path / "o.lmdb", PROFILE)
    found = [(row.id, row.subset) for row in store_rows(tmp_path / "o.lmdb")]
    assert found == [("legal:0.png", "legal"), ("legal:1.png", "own"), ("2:0.png", "")]
    assert result.duplicates == 1
    with LineStore(tmp_path / "o.lmdb") as store:
        assert [source.get("name") for source in store.header.made["sources"]] == [
            "legal",
            None,
        ]
    prep([f"legal={a}"], tmp_path / "p.lmdb", PROFILE)
    assert [row.id for row in store_rows(tmp_path / "p.lmdb")] == ["0.png", "1.png"]


def test_filters_are_counted_reasons(tmp_path: Path) -> None:
    rows = [
        {"language": "sv", "subset": "a"},
        {"language": "da", "subset": "a"},
        {"language": "sv", "subset": "b"},
        {},
    ]
    source = corpus(tmp_path / "in", rows)
    selection = Selection(("sv", "da"), ("a",))
    result = prep([source], tmp_path / "o.lmdb", PROFILE, select=selection)
    assert (result.kept, result.left_out, result.quarantine) == (
        2,
        {"other-subset": 1, "other-language": 1},
        None,
    )
    with pytest.raises(
        UsageError, match="--include-language 'sw' fits no row; did you mean 'sv'"
    ):
        prep([source], tmp_path / "o.lmdb", PROFILE, select=Selection(("sw",)))
    with pytest.raises(DataError, match="3 other-language, 1 other-subset"):
        prep([source], tmp_path / "p.lmdb", PROFILE, select=Selection(("da",), ("b",)))


def test_characters_are_mapped_when_asked(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", [{"text": "Já…"}, {"text": "áŋ"}])
    mapping = tmp_path / "map.tsv"
    mapping.write_text("á\ta\n…\t...\n", encoding="utf-8")
    result = prep([source], tmp_path / "o.lmdb", PROFILE, oov="map", oov_map=mapping)
    (row,) = store_rows(tmp_path / "o.lmdb")
    assert (row.text, row.extra["text_as_read"]) == ("Ja...", "Já…")
    assert (result.mapped, result.oov) == ({"á": 1, "…": 1}, {"ŋ": 1})
    assert "not in charset 'nordic' nor mapped: 'ŋ'" in result.problem
    for oov, file in (("map", None), ("skip", mapping)):
        with pytest.raises(UsageError, match="belong together"):
            prep([source], tmp_path / "o.lmdb", PROFILE, oov=oov, oov_map=file)


def test_duplicates_are_counted_and_dropped_when_asked(tmp_path: Path, heard) -> None:
    rows = [
        {"text": "a"},
        {"text": "b"},
        {"text": "a", "picture": 0},
        {"text": "other", "picture": 1},
    ]
    source = corpus(tmp_path / "in", rows)
    result = prep([source], tmp_path / "o.lmdb", PROFILE, progress=heard)
    assert (result.kept, result.duplicates, result.contradicting) == (4, 1, 1)
    assert any(
        "says 'b'" in warning and "manifest.jsonl:4" in warning
        for warning in heard.warnings
    )
    result = prep([source], tmp_path / "o.lmdb", PROFILE, drop_duplicates=True)
    assert (result.kept, result.left_out, result.duplicates) == (3, {"duplicate": 1}, 0)


@pytest.mark.parametrize("split", [Split(0.3), Split(folds=3)])
def test_no_document_and_no_picture_on_two_sides(tmp_path: Path, split: Split) -> None:
    # Every document shares pictures with the others.
    rows = [{"source": f"d{index % 6}:p1:r{index}"} for index in range(60)]
    result = prep(
        [corpus(tmp_path / "in", rows, pictures=47)],
        tmp_path / "o.lmdb",
        PROFILE,
        split=split,
    )
    assert len(result.stores) == (3 if split.folds else 2)
    assert result.kept + result.left_out["in-other-store"] == result.read == 60
    sides = []
    for path in result.stores:
        with LineStore(Path(path)) as store:
            pictures = {store.image(index).tobytes() for index in range(len(store))}
            sides.append(({row.source.split(":")[0] for row in store_rows(path)}, pictures))
            assert store.header.made["seed"] == 1
    for index, (documents, pictures) in enumerate(sides):
        for other_documents, other_pictures in sides[index + 1 :]:
            assert not documents & other_documents
            assert not pictures & other_pictures


def test_lines_without_a_document_follow_their_picture(tmp_path: Path) -> None:
    # the same 20 pictures twice
    sources = [corpus(tmp_path / name, [{} for _ in range(20)]) for name in ("a", "b")]
    result = prep(sources, tmp_path / "o.lmdb", PROFILE, split=Split(0.3))
    assert result.kept == 40
    train, val = (store_rows(path) for path in result.stores)
    assert len(val) > 4
    assert not {row.image for row in train} & {row.image for row in val}


def test_pages_become_lines(tmp_path: Path) -> None:
    doc = shutil.copytree(SAMPLES / "doc", tmp_path / "doc")
    result = prep([f"annual={doc}"], tmp_path / "o.lmdb", PROFILE)
    assert (result.read, result.kept) == (448, 448)
    row = store_rows(tmp_path / "o.lmdb")[0]
    assert (row.id, row.text, row.language, row.subset) == (
        "dev_doc:p1:r1",
        "Förvaltningsberättelse",
        "sv",
        "annual",
    )
    (doc / "dev_doc.tif").unlink()
    with pytest.raises(DataError, match="448 missing-image"):
        prep([doc], tmp_path / "p.lmdb", PROFILE)


def test_what_is_in_the_way_of_the_list_is_said_before_the_work(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", [{}])
    (tmp_path / "o.lmdb.quarantine.jsonl").mkdir()
    with pytest.raises(UsageError, match=r"quarantine\.jsonl is a folder"):
        prep([source], tmp_path / "o.lmdb", PROFILE)
    with pytest.raises(UsageError, match="fits no row; there are none"):
        prep([source], tmp_path / "p.lmdb", PROFILE, select=Selection(languages=("sv",)))
    assert not (tmp_path / "o.lmdb").exists()


def test_the_plan_writes_nothing(tmp_path: Path) -> None:
    plan = plan_prep(
        [SAMPLES / "lines", SAMPLES / "doc"],
        tmp_path / "o.lmdb",
        PROFILE,
        split=Split(folds=2),
    )
    assert [text.split(",")[0] for text in plan["sources"].values()] == ["jsonl", "pages"]
    assert [Path(path).name for path in plan["stores"]] == ["o_fold1.lmdb", "o_fold2.lmdb"]
    assert not list(tmp_path.iterdir())
    for wrong in (Split(1.0), Split(0.1, 3), Split(folds=1)):
        with pytest.raises(UsageError):
            plan_prep([SAMPLES / "lines"], tmp_path / "o.lmdb", PROFILE, split=wrong)
    with pytest.raises(UsageError, match="would replace the source"):
        plan_prep([SAMPLES / "lines"], SAMPLES / "lines", PROFILE)


def test_a_foreign_lmdb_is_read(tmp_path: Path) -> None:
    """As PARSeq's and OpenOCR's tools write it: original images under three keys, one label
    missing, one image gone.
    """
    source = tmp_path / "foreign.lmdb"
    environment = lmdb.open(str(source), map_size=1 << 24)
    crop = np.random.default_rng(1).integers(0, 256, (64, 300, 3), dtype=np.uint8)
    with environment.begin(write=True) as transaction:
        transaction.put(b"num-samples", b"4")
        for number, suffix in ((1, ".png"), (2, ".jpg"), (3, ".png")):
            transaction.put(
                b"image-%09d" % number, cv2.imencode(suffix, crop[:, :, ::-1])[1].tobytes()
            )
        for number in (1, 2, 4):
            transaction.put(b"label-%09d" % number, f"Tårta {number}".encode())
    environment.close()
    result = prep([source], tmp_path / "o.lmdb", PROFILE, on_bad="skip")
    assert (result.read, result.kept, result.left_out) == (
        4,
        2,
        {"bad-row": 1, "missing-image": 1},
    )
    with LineStore(tmp_path / "o.lmdb") as store:
        assert [store.row(index).text for index in range(2)] == ["Tårta 1", "Tårta 2"]
        assert store.image(0).shape == (32, 148, 3)
        np.testing.assert_array_equal(store.image(0), resize_line(crop, PROFILE.geometry))


def test_a_store_of_ours_comes_through_unchanged(tmp_path: Path) -> None:
    source = corpus(
        tmp_path / "in",
        [{"language": "sv", "source": "d1"}, {"language": "da", "place": "p1"}],
    )
    first = prep([source], tmp_path / "a.lmdb", PROFILE)
    again = prep([tmp_path / "a.lmdb"], tmp_path / "b.lmdb", PROFILE)
    assert (again.kept, again.content_sha256) == (2, first.content_sha256)
    data = bytearray((tmp_path / "a.lmdb" / "data.mdb").read_bytes())
    with LineStore(tmp_path / "a.lmdb") as store:
        pixels = store.image(1).tobytes()
    data[data.index(pixels) + 50] ^= 1
    (tmp_path / "a.lmdb" / "data.mdb").write_bytes(data)
    damaged = prep([tmp_path / "a.lmdb"], tmp_path / "b.lmdb", PROFILE)
    assert damaged.left_out == {"unreadable-image": 1}
    assert "image-000000002 is damaged" in damaged.problem
    with LineStore(tmp_path / "a.lmdb") as store:
        row = json.dumps(
            store.row(0).to_json(), ensure_ascii=False, sort_keys=True
        ).encode()
    data[data.index(row) + row.index(b'"text": "') + 9] ^= 1  # a text of other letters
    (tmp_path / "a.lmdb" / "data.mdb").write_bytes(data)
    with pytest.raises(DataError, match="nordocr-row-000000001 is damaged"):
        prep([tmp_path / "a.lmdb"], tmp_path / "b.lmdb", PROFILE)


@pytest.mark.parametrize(
    ("width", "decision"), [(100, "squash"), (220, "squash"), (600, "center-crop")]
)
def test_auto_over_width_goes_by_the_crops(
    tmp_path: Path, width: int, decision: str
) -> None:
    source = corpus(tmp_path / "in", [{}, {}])
    for index in range(2):
        cv2.imwrite(str(source / f"{index}.png"), speckled(32, width))
    profile = load_profile(
        "svtrv2-1024", ["geometry.max_width=128", "geometry.over_width=auto"]
    ).profile
    result = prep([source], tmp_path / "o.lmdb", profile)
    with LineStore(tmp_path / "o.lmdb") as store:
        assert store.header.geometry.over_width == result.over_width == decision
        assert "auto" in store.header.made["over_width"]
        ratio = store.row(0).extra.get("squash_ratio", 1.0)
    assert ratio == pytest.approx(max(1.0, width / 128), abs=0.01)
    assert result.over_wide == (2 if width > 128 else 0)


@pytest.mark.parametrize(
    "own",
    [
        {"mapped": True},
        {"mapped": {"á": "2"}, "text_as_read": "á"},
        {"text_as_read": "x"},
        {"squash_ratio": "wide", "over_width": "squash"},
        {"squash_ratio": 3.0},
        {"squash_ratio": 0.5, "over_width": "squash"},
        {"over_width": True},
    ],
)
def test_a_users_key_is_not_read_as_preps(tmp_path: Path, own: dict) -> None:
    source = corpus(tmp_path / "in", [own, {}])
    result = prep([source], tmp_path / "o.lmdb", PROFILE)
    assert (result.kept, result.left_out, result.mapped, result.over_wide) == (
        1,
        {"bad-row": 1},
        {},
        0,
    )
    assert "give your key another name" in result.problem


def test_what_prep_noted_comes_through_stores_and_exports(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", [{"text": "Já"}, {}])
    cv2.imwrite(str(source / "0.png"), speckled(32, 250))
    mapping = tmp_path / "map.tsv"
    mapping.write_text("á\ta\n", encoding="utf-8")
    narrow = load_profile("svtrv2-1024", ["geometry.max_width=200"]).profile
    first = prep([source], tmp_path / "a.lmdb", narrow, oov="map", oov_map=mapping)
    noted, _ = store_rows(tmp_path / "a.lmdb")
    assert noted.extra == {
        "mapped": {"á": 1},
        "text_as_read": "Já",
        "squash_ratio": 1.24,
        "over_width": "squash",
    }
    export_store(tmp_path / "a.lmdb", tmp_path / "exported")
    for again in ("a.lmdb", "exported"):
        second = prep([tmp_path / again], tmp_path / "b.lmdb", narrow)
        assert (second.over_wide, second.worst_squash_ratio, second.mapped) == (
            1,
            1.24,
            {"á": 1},
        )
        assert (first.over_wide, first.worst_squash_ratio, first.mapped) == (
            1,
            1.24,
            {"á": 1},
        )
    narrower = load_profile(
        "svtrv2-1024", ["geometry.max_width=100", "geometry.over_width=center-crop"]
    ).profile
    third = prep([tmp_path / "a.lmdb"], tmp_path / "c.lmdb", narrower)
    assert (third.over_wide, third.worst_squash_ratio) == (2, 2.48)


def test_numbers_of_sources_make_room_for_names(tmp_path: Path) -> None:
    a, b, c = (corpus(tmp_path / name, [{}]) for name in "abc")
    prep([f"2={a}", b, f"5={c}"], tmp_path / "o.lmdb", PROFILE)
    assert [row.id for row in store_rows(tmp_path / "o.lmdb")] == [
        "2:0.png",
        "8:0.png",
        "5:0.png",
    ]


@pytest.mark.parametrize("failing", ["o.lmdb", "o_val.lmdb"])
def test_stores_get_their_names_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    rows = [{"source": f"d{index}"} for index in range(4)] + [{"text": "丁"}]
    old = prep(
        [corpus(tmp_path / "old", rows)], tmp_path / "o.lmdb", PROFILE, split=Split(0.5)
    )
    before = {path: (path / "data.mdb").read_bytes() for path in map(Path, old.stores)}
    listed = Path(old.quarantine).read_text(encoding="utf-8")
    rename = os.replace

    def refuse(source: Path, target: Path) -> None:
        if ".tmp" in str(source) and failing in Path(target).parts:
            raise PermissionError(13, "sharing violation")
        rename(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DataError, match="the previous folder is untouched"):
        prep(
            [corpus(tmp_path / "new", rows[:4])],
            tmp_path / "o.lmdb",
            PROFILE,
            split=Split(0.5, seed=2),
        )
    assert {path: (path / "data.mdb").read_bytes() for path in before} == before
    assert Path(old.quarantine).read_text(encoding="utf-8") == listed
    assert len(list(tmp_path.iterdir())) == 5


def test_a_run_without_a_line_leaves_the_old_list(tmp_path: Path) -> None:
    old = prep(
        [corpus(tmp_path / "old", [{}, {"text": "丁"}])], tmp_path / "o.lmdb", PROFILE
    )
    before = Path(old.quarantine).read_bytes()
    with pytest.raises(DataError, match="nothing was written") as caught:
        prep(
            [corpus(tmp_path / "new", [{"text": "丁"}, {"text": "丁"}])],
            tmp_path / "o.lmdb",
            PROFILE,
        )
    assert "quarantine" not in str(caught.value)
    assert Path(old.quarantine).read_bytes() == before


def test_the_auto_decision_reads_a_few_crops_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows there are: only so many wait in memory."""
    monkeypatch.setattr(prep_engines, "_AHEAD", 3)
    monkeypatch.setattr(prep_engines, "_TOGETHER", 1)
    read, ahead = [], []

    class Lines:
        path = tmp_path

        def entries(self):
            for index in range(50):
                ahead.append(index - len(read))
                yield Entry(str(index), str(index), LineRow(str(index), "x.png", "x"))

        def crop_size(self, entry: Entry) -> tuple[int, int]:
            read.append(entry.key)
            return 32, 2000

    with ThreadPoolExecutor(1) as pool:
        geometry = replace(PROFILE.geometry, over_width="auto")
        decided, why = prep_module._decide_over_width(
            [(SourceSpec(tmp_path), Lines())], Selection(), geometry, pool
        )
    assert decided.over_width == "squash"
    assert "50 of 50 crops" in why
    assert max(ahead) <= 4
