import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.charset import NORDIC, NORDIC_EXT
from nordocr_cli.core.data import (
    export_store,
    merge_stores,
    plot,
    stats,
    verify_store,
    view,
)
from nordocr_cli.core.prep.run import prep
from nordocr_cli.data.store import LineStore, LineStoreWriter
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import load_profile
from nordocr_cli.records import LineRow

GEOMETRY = load_profile("svtrv2-1024").profile.geometry


def write(
    path: Path,
    lines: list[tuple[int, str, str]],
    geometry: Geometry = GEOMETRY,
    charset=NORDIC,
    prefix="",
) -> Path:
    """A store of noise lines, each (width, text, language); every other one gray."""
    with LineStoreWriter(path, geometry, charset) as writer:
        for index, (width, text, language) in enumerate(lines):
            image = np.random.default_rng(index).integers(
                0, 256, (32, min(width, 1024), 3), dtype=np.uint8
            )
            if index % 2:
                image = np.repeat(image[:, :, :1], 3, axis=2)
            extra = (
                {"squash_ratio": width / 1024, "over_width": "squash"}
                if width > 1024
                else {}
            )
            writer.add(
                image,
                LineRow(
                    f"{prefix}{index}",
                    f"in/{index}.png",
                    text,
                    language,
                    source="d1",
                    extra=extra,
                ),
            )
    return path


HOSTILE_LABELS = ["a\nb", "\r", "\x1b[2J\x9b", "a\u202eb", "x" * 1_000_000]
LINES = [
    (40, "abba", "sv"),
    (400, "x" * 30, "sv"),
    (1536, "Å" * 100, "da"),
    (128, "1 234,50", ""),
]


def test_stats_say_what_other_widths_would_do(tmp_path: Path) -> None:
    found = stats(write(tmp_path / "a.lmdb", LINES))
    assert found.natural_widths == {40: 1, 128: 1, 400: 1, 1536: 1}
    fits = {
        fit.max_width: (fit.squashed, fit.worst_squash_ratio, fit.infeasible)
        for fit in found.fits
    }
    # At 128 px 32 frames: too few for 30 x's with blanks between (59), and for the 100 Å's (199),
    # as are the 80 of 320 px.
    assert fits[128] == (2, 12.0, 2)
    assert fits[320] == (2, 4.8, 1)
    assert fits[768] == (1, 2.0, 1)
    assert fits[1024] == (1, 1.5, 0)
    assert fits[1792] == (0, 1.0, 0)
    assert found.px_per_character["min"] == 10
    assert found.px_per_character["max"] == 16
    assert found.characters_by_language["da"] == {"Å": 100}
    assert found.characters["x"] == 30
    assert (found.ranges.engine_min, found.ranges.engine_max) == (40, 1024)
    assert found.ranges.buckets == (64, 128, 416, 1024)
    assert all(width % 32 == 0 for width in found.ranges.buckets)
    assert (
        "at 768 px",
        "1 squashed (worst 2.00 times), 1 infeasible (CTC)",
    ) in found.rows()
    assert json.loads(json.dumps(found.to_json()))["fits"][0]["infeasible"] == 2


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    store = write(tmp_path / "a.lmdb", LINES)
    plot(stats(store), tmp_path / "a.png", store)
    image = cv2.imread(str(tmp_path / "a.png"))
    assert image.shape == (800, 1400, 3)
    assert len(np.unique(image)) > 50


def test_merged_lines_are_the_lines(tmp_path: Path) -> None:
    a = write(tmp_path / "a.lmdb", LINES, prefix="a")
    b = write(tmp_path / "b.lmdb", LINES[:2], Geometry(max_width=1792), prefix="b")
    result = merge_stores([a, b], tmp_path / "c.lmdb")
    assert (result.lines, result.renamed) == (6, False)
    assert verify_store(tmp_path / "c.lmdb").damaged == ()
    with (
        LineStore(tmp_path / "c.lmdb") as merged,
        LineStore(a) as first,
        LineStore(b) as second,
    ):
        assert merged.header.geometry.max_width == 1792
        assert merged.header.content_sha256 == result.content_sha256
        for index, (store, local) in enumerate(
            [(first, i) for i in range(4)] + [(second, i) for i in range(2)]
        ):
            np.testing.assert_array_equal(merged.image(index), store.image(local))
            assert merged.row(index) == store.row(local)
    assert merge_stores([a, tmp_path / "c.lmdb"], tmp_path / "d.lmdb").renamed
    assert [line.id for line in view(tmp_path / "d.lmdb", limit=5)] == [
        "a:a0",
        "a:a1",
        "a:a2",
        "a:a3",
        "c:a0",
    ]


def test_what_cannot_be_merged_is_named(tmp_path: Path) -> None:
    a = write(tmp_path / "a.lmdb", LINES)
    other = {"charset": write(tmp_path / "b.lmdb", LINES, charset=NORDIC_EXT)}
    other["resampler"] = write(tmp_path / "c.lmdb", LINES, Geometry(resampler="area"))
    for message, path in other.items():
        with pytest.raises(DataError, match=message):
            merge_stores([a, path], tmp_path / "d.lmdb")
    with pytest.raises(UsageError, match="one of the stores"):
        merge_stores([a, other["charset"]], a)
    assert not (tmp_path / "d.lmdb").exists()


def test_an_export_is_a_source_of_the_same_lines(tmp_path: Path) -> None:
    a = write(tmp_path / "a.lmdb", [line for line in LINES if line[0] <= 1024])
    result = export_store(a, tmp_path / "out")
    assert result.lines == 3
    again = prep(
        [tmp_path / "out"], tmp_path / "b.lmdb", load_profile("svtrv2-1024").profile
    )
    assert again.kept == 3
    with LineStore(a) as store, LineStore(tmp_path / "b.lmdb") as other:
        for index in range(3):
            np.testing.assert_array_equal(store.image(index), other.image(index))
            old, new = store.row(index), other.row(index)
            assert (new.id, new.text, new.language, new.source) == (
                old.id,
                old.text,
                old.language,
                old.source,
            )
            assert (new.image, new.extra["stored_image"]) == (
                f"images/{index + 1:09d}.png",
                old.image,
            )
    with pytest.raises(UsageError, match="there already"):
        export_store(a, tmp_path / "out")


def test_nothing_is_written_into_the_store(tmp_path: Path) -> None:
    store = write(tmp_path / "a.lmdb", LINES)
    found, inside = stats(store), store / "data.mdb"
    for call in (
        lambda: view(store, sheet=inside),
        lambda: export_store(store, store / "lines"),
        lambda: pytest.importorskip("matplotlib") and plot(found, inside, store),
    ):
        with pytest.raises(UsageError, match="would overwrite the input"):
            call()
    assert verify_store(store).damaged == ()


def test_a_store_that_cannot_be_opened_is_a_result_too(tmp_path: Path) -> None:
    store = write(tmp_path / "a.lmdb", LINES)
    (store / "data.mdb").write_bytes(b"not an LMDB" * 1000)
    found = verify_store(store)
    assert (found.lines, len(found.damaged)) == (0, 1)
    assert "not an LMDB file" in found.damaged[0]
    for call in (verify_store, stats, view):
        with pytest.raises(UsageError, match="no line store"):
            call(tmp_path / "nowhere.lmdb")


def test_the_next_command_names_the_profile_of_the_store(tmp_path: Path) -> None:
    samples = Path(__file__).parents[2] / "samples" / "lines"
    prep([samples], tmp_path / "nano.lmdb", load_profile("svtrv2-nano").profile)
    bare = write(tmp_path / "bare.lmdb", LINES)  # does not say for which it was made
    for args, said in (
        (["verify", tmp_path / "nano.lmdb"], "--profile svtrv2-nano --train"),
        (
            ["export", tmp_path / "nano.lmdb", "-o", tmp_path / "out"],
            "--profile svtrv2-nano",
        ),
        (["verify", bare], "--profile PROFILE --train"),
    ):
        done = CliRunner().invoke(app, ["data", *map(str, args)])
        assert said in done.stderr.splitlines()[-1]


def test_lines_of_any_source_can_be_viewed(tmp_path: Path) -> None:
    samples = Path(__file__).parents[2] / "samples" / "lines"
    first, second = view(samples, limit=2, sheet=tmp_path / "sheet.png")
    assert (first.index, second.id) == (0, "images/d00001.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_a_picture_of_lines_with_hostile_labels_is_drawn(tmp_path: Path) -> None:
    rows = [LineRow(f"i\nd\r{n}", "x.png", text) for n, text in enumerate(HOSTILE_LABELS)]
    image = np.zeros((32, 200), np.uint8)
    with LineStoreWriter(tmp_path / "a.lmdb", Geometry(), NORDIC) as writer:
        for row in rows:
            writer.add(image, row)
    view(tmp_path / "a.lmdb", sheet=tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width < 5000


def test_a_picture_of_too_many_lines_is_refused(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "a.lmdb", LINES)
    monkeypatch.setattr("nordocr_cli.core.data.MAX_PAGE_PIXELS", 100)
    with pytest.raises(UsageError, match="million pixels; show fewer with -n"):
        view(tmp_path / "a.lmdb", sheet=tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_merged_stores_keep_the_rows_that_are_in_none(tmp_path: Path) -> None:
    one, two = (write(tmp_path / f"{name}.lmdb", LINES) for name in "ab")
    with LineStore(one) as store:
        assert store.left_out == ()
    rows = [LineRow("long", "x.png", "x" * 300)]
    with (
        LineStore(two) as store,
        LineStoreWriter(tmp_path / "c.lmdb", store.header.geometry, NORDIC) as writer,
    ):
        writer.add_encoded(store.encoded(0), store.row(0))
        writer.leave_out(rows[0])
    merge_stores([one, tmp_path / "c.lmdb"], tmp_path / "d.lmdb")
    with LineStore(tmp_path / "d.lmdb") as store:
        assert [row.text for row in store.left_out] == ["x" * 300]
