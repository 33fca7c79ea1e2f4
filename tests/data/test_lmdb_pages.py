"""A damaged LMDB is refused by name or read; it never ends the process."""

import random
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from nordocr_cli.data.lmdb_file import LmdbReader
from nordocr_cli.data.lmdb_pages import check_lmdb_tree
from nordocr_cli.errors import DataError

# In a process of its own, as what is tested here is that it lives: every damaged file is opened and
# all that it holds is read.
PROGRAM = """
import random, sys
from pathlib import Path
from nordocr_cli.data.lmdb_file import LmdbReader
from nordocr_cli.errors import DataError

folder, keys = Path(sys.argv[1]), int(sys.argv[2])
whole, rng, refused = (folder / "data.mdb").read_bytes(), random.Random(1), 0
for number in range(200):
    content = bytearray(whole)
    # Most bytes are values, so half of the damage goes to the first bytes of a page, where the tree
    # is.
    at = rng.randrange(len(content))
    if number % 2 == 0:
        at = at // 4096 * 4096 + rng.randrange(64)
    if number % 20 == 0:
        del content[at : at + rng.randrange(1, 60)]
        content += bytes(len(whole) - len(content))
    else:
        content[at] ^= 1 << rng.randrange(8)
    other = folder.parent / f"damaged{number}"
    other.mkdir()
    (other / "data.mdb").write_bytes(content)
    try:
        with LmdbReader(other) as reader:
            for key in range(keys):
                reader.get(f"small-{key:04d}")
                reader.get(f"large-{key:04d}")
    except DataError:
        refused += 1
print(refused)
"""
KEYS = 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LMDB of three levels, with small values in its leaves and large ones on pages of their
    own.
    """
    path = tmp_path_factory.mktemp("lmdb") / "whole"
    rng = random.Random(0)
    with (
        lmdb.open(str(path), map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key in range(KEYS):
            transaction.put(b"small-%04d" % key, rng.randbytes(rng.randrange(300)))
            if key % 10 == 0:
                transaction.put(
                    b"large-%04d" % key, rng.randbytes(rng.randrange(2_100, 9_000))
                )
    return path


def test_damage_ends_no_process(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder, str(KEYS)],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert int(done.stdout) > 20


def test_a_value_beyond_the_end_is_found(folder: Path, tmp_path: Path) -> None:
    content = bytearray((folder / "data.mdb").read_bytes())
    check_lmdb_tree(folder / "data.mdb")
    # its flag and the size of the key stand between size and key
    node = content.index(b"\x01\0\x0a\0large-0070") - 4
    content[node + 2] = 0xFF
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(DataError, match="a value lies beyond the file's end"):
        LmdbReader(tmp_path)
