import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nordocr_cli.data.store import LineStore

SAMPLES = Path(__file__).parents[2] / "samples" / "lines"


def nordocr(*args: object, cwd: Path | None = None) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "nordocr_cli", *map(str, args)]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", check=False, cwd=cwd
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """Five of the sample lines."""
    folder = tmp_path / "some"
    (folder / "images").mkdir(parents=True)
    rows = (SAMPLES / "manifest.jsonl").read_text(encoding="utf-8").splitlines()[:5]
    for row in rows:
        shutil.copy(SAMPLES / json.loads(row)["image"], folder / "images")
    (folder / "manifest.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_samples_become_a_store(tmp_path: Path) -> None:
    output = tmp_path / "lines.lmdb"
    code, out, err = nordocr("prep", SAMPLES, "-o", output, "-p", "svtrv2-1024", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["read"], result["kept"], result["left_out"]) == (303, 303, {})
    assert result["over_wide"] == 85
    with LineStore(output) as store:
        assert len(store) == 303
        assert max(store.widths) == 1024
        assert {store.row(index).language for index in range(303)} == {
            "sv",
            "no",
            "da",
            "is",
        }
    assert sorted(os.listdir(tmp_path)) == ["lines.lmdb"]
    code, out, _ = nordocr("data", "verify", output)
    assert (code, out) == (0, f"{output}: 303 lines, all intact\n")


def test_bad_rows_exit_3_and_the_rest_is_kept(some: Path, tmp_path: Path) -> None:
    with open(some / "manifest.jsonl", "a", encoding="utf-8") as file:
        file.write(
            '{"image": "images/gone.png", "text": "x"}\n{"image": "images/text.png", "text":'
            ' "Þá"}\n'
        )
    (some / "images" / "text.png").write_text("not an image")
    output = tmp_path / "lines.lmdb"
    code, out, err = nordocr("prep", some, "-o", output, "-p", "svtrv2-1024")
    assert code == 3
    assert "missing-image" in out
    for expected in (
        "holds 5 lines",
        "manifest.jsonl:6: no image",
        "manifest.jsonl:7",
        "U+00E1",
        "--oov skip",
        "--on-bad skip",
    ):
        assert expected in err
    with LineStore(output) as store:
        assert len(store) == 5
    reasons = [
        json.loads(row)["reason"]
        for row in (tmp_path / "lines.lmdb.quarantine.jsonl").open(encoding="utf-8")
    ]
    assert reasons == ["missing-image", "oov"]
    code, _, err = nordocr(
        "prep", some, "-o", output, "-p", "svtrv2-1024", "--oov", "skip", "--on-bad", "skip"
    )
    assert code == 0
    assert (
        err.strip().splitlines()[-1]
        == f"next: nordocr train --profile svtrv2-1024 --train {output} --val VAL.lmdb"
    )


def test_a_dry_run_counts_rows_and_writes_nothing(some: Path, tmp_path: Path) -> None:
    code, out, _ = nordocr(
        "prep", some, "-o", tmp_path / "lines.lmdb", "-p", "svtrv2-1024", "--dry-run"
    )
    assert code == 0
    assert "5 rows" in out
    assert os.listdir(tmp_path) == ["some"]


@pytest.mark.parametrize(
    ("source", "output", "code", "message"),
    [
        ("nowhere", "o.lmdb", 2, "no such file or folder"),
        ("some", "some", 2, "would replace the source"),
        ("some", "other", 2, "nothing was deleted"),
        ("other", "o.lmdb", 3, "other"),
        ("half.lmdb", "o.lmdb", 3, "truncated"),
    ],
)
def test_wrong_sources_and_outputs(
    some: Path, tmp_path: Path, source: str, output: str, code: int, message: str
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.md").write_text("mine")
    assert (
        nordocr("prep", some, "-o", "half.lmdb", "-p", "svtrv2-1024", cwd=tmp_path)[0] == 0
    )
    os.truncate(tmp_path / "half.lmdb" / "data.mdb", 3 * 4096)
    found, out, err = nordocr(
        "prep", source, "-o", output, "-p", "svtrv2-1024", cwd=tmp_path
    )
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "o.lmdb").exists()
    assert (tmp_path / "other" / "notes.md").read_text() == "mine"


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_stopped_run_leaves_the_old_store(
    some: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    """The process sends itself the signal after the third line, in the middle of writing."""
    output = tmp_path / "lines.lmdb"
    assert nordocr("prep", some, "-o", output, "-p", "svtrv2-1024")[0] == 0
    before = (output / "data.mdb").read_bytes()
    program = f"""
import os, signal, sys
# A shell starts background jobs with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
from nordocr_cli import app
from nordocr_cli.data.store import LineStoreWriter
add = LineStoreWriter.add_encoded
def add_and_stop(self, *args):
    add(self, *args)
    if len(self) == 3:
        os.kill(os.getpid(), {int(sent)})
LineStoreWriter.add_encoded = add_and_stop
sys.argv = ["nordocr", "prep", {str(SAMPLES)!r}, "-o", {str(output)!r}, "-p", "demo"]
app.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == code, done.stderr
    assert (output / "data.mdb").read_bytes() == before
    left = [name for name in os.listdir(tmp_path) if name.startswith(".lines.lmdb.")]
    assert len([name for name in left if not name.endswith(".lock")]) == 1
    if sent == signal.SIGINT:
        assert (
            "stopped after 2 of 303 rows; the same command with --resume continues from there"
            in done.stderr
        )
    assert nordocr("prep", some, "-o", output, "-p", "svtrv2-1024")[0] == 0
    # the next run clears away what is left of the stopped one
    assert sorted(os.listdir(tmp_path)) == ["lines.lmdb", "some"]
