import io
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zlib import crc32 as zlib_crc32

import cv2
import lmdb
import numpy as np
import pytest
from PIL import Image

from nordocr_cli.charset import ALPHANUMERIC, NORDIC
from nordocr_cli.core.data import merge_stores, verify_store
from nordocr_cli.data import store as store_module
from nordocr_cli.data.line_record import encode_png
from nordocr_cli.data.store import LineStore, LineStoreWriter
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import LineRow

GEOMETRY = Geometry()
# Says what is wrong with each of several stores. Run in a process of its own: a signal would end
# the test run.
VERIFY = """
import pathlib, sys
from nordocr_cli.core.data import verify_store
from nordocr_cli.errors import DataError
for broken in sorted(pathlib.Path(sys.argv[1]).glob(sys.argv[2])):
    try:
        print((*verify_store(broken).damaged, "nothing")[0].replace("\\n", " "))
    except DataError as error:
        print(str(error).replace("\\n", " "))
"""


def line(index: int) -> np.ndarray:
    generator = np.random.default_rng(index)
    image = generator.integers(0, 256, (32, 4 * (1 + index % 40), 3), dtype=np.uint8)
    return image if index % 2 else np.repeat(image[:, :, :1], 3, axis=2)


def row(index: int) -> LineRow:
    return LineRow(
        f"id{index}",
        f"images/{index}.png",
        f"Tårta nr {index} – “å”",
        "sv",
        source=f"d{index % 3}",
        extra={"dpi": 300},
    )


def write(path: Path, lines: int = 30) -> Path:
    with LineStoreWriter(path, GEOMETRY, NORDIC, made={"profile": "test"}) as writer:
        for index in range(lines):
            writer.add(line(index), row(index))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "lines.lmdb")


def test_round_trip(path: Path) -> None:
    with LineStore(path) as store:
        assert len(store) == 30
        assert store.header.geometry == GEOMETRY
        assert (store.header.charset_name, store.header.charset_sha256) == (
            "nordic",
            NORDIC.sha256,
        )
        assert store.header.counts == {"read": 30, "kept": 30}
        assert store.header.made == {"profile": "test"}
        assert store.widths.dtype == np.int32
        for index in range(30):
            np.testing.assert_array_equal(store.image(index), line(index))
            assert store.row(index) == row(index)
            assert store.widths[index] == line(index).shape[1]
        with pytest.raises(IndexError):
            store.image(30)
    assert [child.name for child in path.iterdir()] == ["data.mdb"]


def test_a_foreign_reader_reads_it(path: Path) -> None:
    """What PARSeq's and OpenOCR's data sets do: lmdb, three keys, decode with Pillow or OpenCV."""
    environment = lmdb.open(
        str(path), max_readers=1, readonly=True, lock=False, readahead=False, meminit=False
    )
    with environment.begin() as transaction:
        lines = int(transaction.get(b"num-samples"))
        for number in range(1, lines + 1):
            label = transaction.get(f"label-{number:09d}".encode()).decode()
            record = transaction.get(f"image-{number:09d}".encode())
            data = np.frombuffer(record, dtype=np.uint8)
            assert label == row(number - 1).text
            # PARSeq's way
            np.testing.assert_array_equal(
                Image.open(io.BytesIO(record)).convert("RGB"), line(number - 1)
            )
            np.testing.assert_array_equal(
                cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1], line(number - 1)
            )
        gray = cv2.imdecode(
            np.frombuffer(transaction.get(b"image-000000001"), dtype=np.uint8),
            cv2.IMREAD_UNCHANGED,
        )
        assert gray.ndim == 2
    environment.close()
    assert lines == 30


def test_many_lines_at_once(path: Path) -> None:
    with LineStore(path) as store:
        gray = [index for index in range(30) if index % 2 == 0]
        for indices in (gray, list(range(30)), [7, 3, 7], [29], []):
            images = store.images(indices, width=160 if indices == gray else None)
            assert images.shape[3] == (1 if set(indices) <= set(gray) else 3)
            assert images.shape[2] == (
                160
                if indices == gray
                else max((int(store.widths[i]) for i in indices), default=0)
            )
            for image, index in zip(images, indices, strict=True):
                width = int(store.widths[index])
                np.testing.assert_array_equal(
                    np.broadcast_to(image[:, :width], (32, width, 3)), store.image(index)
                )
                assert (image[:, width:] == 255).all()
        for wrong in ([30], [-1]):
            with pytest.raises(IndexError):
                store.images(wrong)
        with pytest.raises(ValueError, match="do not fit"):
            store.images([29], width=4)
    with pytest.raises(ValueError, match="closed"):
        store.images([1])


def test_a_store_of_pngs_is_still_read(tmp_path: Path) -> None:
    """Schema 1 had PNG records; merging makes a new one of it."""
    old = write(tmp_path / "old.lmdb", 4)
    environment = lmdb.open(str(old))
    with environment.begin(write=True) as transaction:
        header = json.loads(transaction.get(b"nordocr-header")) | {"schema": 1}
        del header["sha256"]
        transaction.put(b"nordocr-header", json.dumps(header).encode())
        crcs = np.frombuffer(transaction.get(b"nordocr-crc32"), "<u4").reshape(-1, 2).copy()
        for index in range(4):
            image = line(index) if index % 2 else line(index)[:, :, 0]
            png = encode_png(image)
            crcs[index, 0] = zlib.crc32(png)
            transaction.put(b"image-%09d" % (index + 1), png)
        transaction.put(b"nordocr-crc32", crcs.tobytes())
    environment.close()
    with LineStore(old) as store:
        for index in range(4):
            np.testing.assert_array_equal(store.image(index), line(index))
        np.testing.assert_array_equal(store.images([3])[0], line(3))
    merge_stores([old], tmp_path / "new.lmdb")
    with LineStore(tmp_path / "new.lmdb") as store:
        np.testing.assert_array_equal(store.images([3])[0], line(3))


def altered(path: Path, key: bytes, change: Callable[[bytes], bytes]) -> Path:
    """Change one value of a store and leave everything else as it is."""
    environment = lmdb.open(str(path))
    with environment.begin(write=True) as transaction:
        transaction.put(key, change(transaction.get(key)))
    environment.close()
    return path


@pytest.mark.parametrize(
    ("key", "change"),
    [
        (b"image-000000003", lambda record: record[:-50] + bytes(50)),
        (b"image-000000003", lambda record: record[:-1] + bytes([record[-1] ^ 1])),
        (b"image-000000003", lambda record: record.replace(b"\n255\n", b"\n254\n", 1)),
        (b"nordocr-widths", lambda widths: widths[:8] + b"\x04\0\0\0" + widths[12:]),
        (b"nordocr-crc32", lambda crcs: crcs[:16] + b"\0" + crcs[17:]),
    ],
)
def test_damaged_pixels_are_named_when_many_lines_are_read(
    tmp_path: Path, key: bytes, change: Callable[[bytes], bytes]
) -> None:
    path = altered(write(tmp_path / "a.lmdb", 5), key, change)
    with LineStore(path) as store:
        assert len(store.images([0, 1, 3, 4])) == 4
        with pytest.raises(DataError, match="image-000000003 is damaged"):
            store.images([0, 2])


def test_a_line_is_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    monkeypatch.setattr(
        store_module.zlib,
        "crc32",
        lambda record: checked.append(len(record)) or zlib_crc32(record),
    )
    with LineStore(write(tmp_path / "a.lmdb", 3)) as store:
        checked.clear()
        for _ in range(3):
            store.images([0, 1, 2])
    assert len(checked) == 3


@pytest.mark.parametrize("value", [("pad_value", 254), ("height", 33), ("max_width", 1020)])
def test_a_changed_header_is_refused(tmp_path: Path, value: tuple[str, int]) -> None:
    def change(header: bytes) -> bytes:
        loaded = json.loads(header)
        loaded["geometry"][value[0]] = value[1]
        return json.dumps(loaded).encode()

    path = altered(write(tmp_path / "a.lmdb", 3), b"nordocr-header", change)
    with pytest.raises(DataError, match="do not match their digest"):
        LineStore(path)


def test_content_hash_is_of_the_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def content(path: Path) -> str:
        with LineStore(path) as store:
            return store.header.content_sha256

    first = content(write(tmp_path / "a.lmdb"))
    monkeypatch.setattr(store_module, "_LINES_PER_TRANSACTION", 7)  # another page layout
    assert content(write(tmp_path / "b.lmdb")) == first
    assert content(write(tmp_path / "c.lmdb", lines=29)) != first


def test_the_map_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_FIRST_MAP_BYTES", 64 << 10)
    monkeypatch.setattr(store_module, "_LINES_PER_TRANSACTION", 10)
    path = write(tmp_path / "a.lmdb", lines=60)
    assert (path / "data.mdb").stat().st_size > 128 << 10
    assert verify_store(path).damaged == ()


def test_a_failed_or_repeated_write(path: Path, tmp_path: Path) -> None:
    before = (path / "data.mdb").read_bytes()
    with (
        pytest.raises(KeyboardInterrupt),
        LineStoreWriter(path, GEOMETRY, NORDIC) as writer,
    ):
        writer.add(line(0), row(0))
        raise KeyboardInterrupt
    assert (path / "data.mdb").read_bytes() == before
    assert os.listdir(tmp_path) == ["lines.lmdb"]
    write(path, lines=3)
    with LineStore(path) as store:
        assert len(store) == 3
    with LineStoreWriter(path, GEOMETRY, NORDIC) as writer:
        writer.add(line(0), row(0))
        with pytest.raises(ValueError, match="already"):
            writer.add(line(1), row(0))
        with pytest.raises(ValueError, match="height"):
            writer.add(line(1)[:31], row(1))
        with pytest.raises(ValueError, match="multiple"):
            writer.add(np.zeros((32, 6, 3), np.uint8), row(1))


def test_only_stores_of_ours_are_replaced(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "one.png").write_bytes(b"x")
    foreign = tmp_path / "foreign.lmdb"
    lmdb.open(str(foreign)).close()
    for target in (photos, foreign):
        with pytest.raises(UsageError, match="nothing was deleted"):
            LineStoreWriter(target, GEOMETRY, NORDIC)
    assert (photos / "one.png").exists()


def test_a_truncated_store_is_an_error_not_a_crash(path: Path, tmp_path: Path) -> None:
    size = (path / "data.mdb").stat().st_size
    lengths = (0, 100, 4096, 8192, size // 2, size - 4096, size - 1)
    for kept in lengths:
        broken = shutil.copytree(path, tmp_path / f"cut{kept:08d}.lmdb")
        os.truncate(broken / "data.mdb", kept)
    done = subprocess.run(
        [sys.executable, "-c", VERIFY, tmp_path, "cut*.lmdb"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    problems = done.stdout.splitlines()
    assert len(problems) == len(lengths)
    for kept, problem in zip(lengths, problems, strict=True):
        assert f"cut{kept:08d}.lmdb" in problem
        assert re.search("truncated|not an LMDB", problem)


def test_changed_records_are_named(path: Path) -> None:
    data = bytearray((path / "data.mdb").read_bytes())
    pixels = line(3).tobytes()
    data[data.index(pixels) + len(pixels) // 2] ^= 4
    (path / "data.mdb").write_bytes(data)
    with LineStore(path) as store:
        np.testing.assert_array_equal(store.image(2), line(2))
        with pytest.raises(DataError, match="image-000000004 is damaged"):
            store.image(3)
    assert len(verify_store(path).damaged) == 1


def test_random_damage_never_passes_unseen(path: Path, tmp_path: Path) -> None:
    original = (path / "data.mdb").read_bytes()
    generator = random.Random(5)
    for trial in range(15):
        broken = tmp_path / f"flip{trial:02d}.lmdb"
        broken.mkdir()
        data = bytearray(original)
        for _ in range(200):
            data[generator.randrange(3 * 4096, len(data))] ^= 1 << generator.randrange(8)
        (broken / "data.mdb").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", VERIFY, tmp_path, "flip*.lmdb"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    problems = done.stdout.splitlines()
    assert len(problems) == 15
    for trial, problem in enumerate(problems):
        assert f"flip{trial:02d}.lmdb" in problem


def test_header_says_what_does_not_fit(path: Path) -> None:
    with LineStore(path) as store:
        store.header.require_charset(NORDIC, "lines")
        store.header.require_geometry(Geometry(max_width=1792), "lines")
        with pytest.raises(DataError, match="charset 'nordic'.*'alphanumeric'"):
            store.header.require_charset(ALPHANUMERIC, "lines")
        with pytest.raises(DataError, match="max_width: 1024 / 128"):
            store.header.require_geometry(Geometry(max_width=128), "lines")
        with pytest.raises(DataError, match="resampler"):
            store.header.require_geometry(Geometry(resampler="area"), "lines")
        assert json.loads(json.dumps(store.header.to_json()))["lines"] == 30


def test_a_foreign_or_missing_lmdb_is_named(tmp_path: Path) -> None:
    environment = lmdb.open(str(tmp_path / "foreign.lmdb"))
    with environment.begin(write=True) as transaction:
        transaction.put(b"num-samples", b"0")
    environment.close()
    with pytest.raises(DataError, match=r"not a line store.*nordocr prep"):
        LineStore(tmp_path / "foreign.lmdb")
    with pytest.raises(UsageError, match=r"no line store .*nowhere\.lmdb"):
        LineStore(tmp_path / "nowhere.lmdb")
    with pytest.raises(DataError, match=r"no data\.mdb"):
        LineStore(tmp_path)


def test_threads_second_openings_pickles_and_forks(path: Path) -> None:
    with LineStore(path) as store, ThreadPoolExecutor(4) as pool:
        for index, image in enumerate(pool.map(store.image, list(range(30)) * 3)):
            np.testing.assert_array_equal(image, line(index % 30))
        again = LineStore(path)  # LMDB itself refuses this
        again.close()
        again.close()
        with pickle.loads(pickle.dumps(store)) as copy:
            assert copy.row(4) == row(4)
        child = os.fork()
        if child == 0:
            os._exit(
                0
                if store.row(7) == row(7) and np.array_equal(store.image(7), line(7))
                else 1
            )
        assert os.waitpid(child, 0)[1] == 0
        np.testing.assert_array_equal(store.image(1), line(1))
    with pytest.raises(ValueError, match="closed"):
        store.image(0)
