"""A run of prep that was stopped is resumed: nothing is read twice, and the result is that of
a run in one go.
"""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from nordocr_cli.core.prep.run import PrepResult, prep
from nordocr_cli.data import resize
from nordocr_cli.data.split import Split
from nordocr_cli.errors import Interrupted
from nordocr_cli.profile import load_profile
from nordocr_cli.progress import Silent

PROFILE = load_profile("svtrv2-1024").profile
ROWS, STOP_AT = 300, 260


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """300 rows of ten documents that share pictures; some are damaged, missing, outside the charset
    or mapped, too wide.
    """
    folder = tmp_path / "in"
    folder.mkdir()
    rows = []
    for index in range(ROWS):
        picture = np.random.default_rng(index % 187).integers(
            0, 256, (32, 1100 if index % 50 == 1 else 120, 3), dtype=np.uint8
        )
        cv2.imwrite(str(folder / f"{index}.png"), picture)
        text = (
            "a丁b" if index % 23 == 5 else "Já" if index % 7 == 3 else f"Rad {index % 187}"
        )
        rows.append(
            {"image": f"{index}.png", "text": text, "source": f"d{index % 10}:r{index}"}
        )
        if index % 31 == 2:
            (folder / f"{index}.png").write_bytes(b"damaged")
        if index % 37 == 2:
            (folder / f"{index}.png").unlink()
    (folder / "manifest.jsonl").write_text(
        "\n".join(map(json.dumps, rows)) + "\nno json\n", encoding="utf-8"
    )
    (tmp_path / "map.tsv").write_text("á\ta\n", encoding="utf-8")
    return folder


class Stopping(Silent):
    """Stops the run at a row."""

    def __init__(self, how: str) -> None:
        self.how, self.rows = how, 0

    def advance(self, units: int = 1, **fields: str) -> None:
        self.rows += units
        if self.rows == STOP_AT and self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.rows == STOP_AT:
            raise KeyboardInterrupt


def run(source: Path, output: Path, **options: object) -> PrepResult:
    mapping = source.parent / "map.tsv"
    return prep(
        [source],
        output,
        PROFILE,
        split=Split(0.3),
        oov="map",
        oov_map=mapping,
        threads=2,
        **options,
    )


def stop(source: Path, output: Path, how: str, **options: object) -> None:
    """A run that is stopped before its last rows."""
    if how == "interrupted":
        with pytest.raises(
            Interrupted, match=rf"after {STOP_AT} of {ROWS + 1} rows; .*--resume"
        ):
            run(source, output, progress=Stopping(how), **options)
        return
    child = os.fork()
    if child == 0:
        run(source, output, progress=Stopping(how), **options)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are decoded."""
    names: list[str] = []
    decode = resize.decode_image

    def counting(data: bytes, what: str, **options: object) -> object:
        names.append(what)
        return decode(data, what, **options)

    monkeypatch.setattr(resize, "decode_image", counting)
    return names


@pytest.mark.skipif(os.name == "nt", reason="fork and SIGKILL")
@pytest.mark.parametrize(
    ("how", "drop_duplicates"), [("killed", False), ("interrupted", True)]
)
def test_a_stopped_run_goes_on(
    tmp_path: Path, source: Path, decoded: list[str], heard, how: str, drop_duplicates: bool
) -> None:
    output = tmp_path / "out" / "o.lmdb"
    whole = run(source, tmp_path / "whole" / "o.lmdb", drop_duplicates=drop_duplicates)
    listed = Path(whole.quarantine).read_text(encoding="utf-8")
    assert (
        min(
            whole.left_out[reason]
            for reason in (
                "oov",
                "missing-image",
                "unreadable-image",
                "in-other-store",
                "bad-row",
            )
        )
        > 0
    )
    stop(source, output, how, drop_duplicates=drop_duplicates)
    assert not output.exists()
    for left in output.parent.iterdir():
        os.utime(left, (0, 0))  # as old as what is swept away
    decoded.clear()
    resumed = run(
        source, output, resume=True, drop_duplicates=drop_duplicates, progress=heard
    )
    assert resumed.resumed >= 100
    assert len(decoded) <= ROWS - resumed.resumed
    assert (
        heard.notes[0]
        == f"{resumed.resumed} of {ROWS + 1} rows were done by the run that was stopped"
    )
    assert Path(resumed.quarantine).read_text(encoding="utf-8") == listed
    assert list(resumed.stores.values()) == list(whole.stores.values())
    there = {
        "stores": whole.stores,
        "quarantine": whole.quarantine,
        "problem": whole.problem,
        "seconds": 0.0,
        "resumed": 0,
    }
    assert replace(resumed, **there) == replace(whole, seconds=0.0)
    assert sorted(os.listdir(output.parent)) == [
        "o.lmdb",
        "o.lmdb.quarantine.jsonl",
        "o_val.lmdb",
    ]


def test_a_stopped_run_is_found_whatever_its_name_and_left_alone_by_others(
    tmp_path: Path, source: Path, heard
) -> None:
    output = tmp_path / "out" / "o[1].lmdb"
    stop(source, output, "interrupted")
    run(source, output.with_name("o[1]"))  # of which `.o[1].lmdb.….tmp` is no temporary
    assert run(source, output, resume=True, progress=heard).resumed >= 100


def test_what_was_begun_otherwise_is_not_gone_on_from(
    tmp_path: Path, source: Path, heard
) -> None:
    output = tmp_path / "out" / "o.lmdb"
    stop(source, output, "interrupted")
    result = run(source, output, resume=True, drop_duplicates=True, progress=heard)
    assert (result.resumed, len(heard.warnings)) == (0, 2)
    assert "other sources or settings; starting over" in heard.warnings[0]
    assert not [name for name in os.listdir(output.parent) if name.startswith(".")]
    stop(source, output, "interrupted")
    assert run(source, output, progress=heard).resumed == 0
    assert any("use --resume to continue it" in note for note in heard.notes)
    run(source, output, resume=True, progress=heard)
    assert "there is no interrupted run" in heard.warnings[-2]


def test_what_of_a_stopped_run_is_damaged_is_read_again(
    tmp_path: Path, source: Path
) -> None:
    output = tmp_path / "out" / "o.lmdb"
    whole = run(source, tmp_path / "whole" / "o.lmdb")
    stop(source, output, "interrupted")
    (journal,) = output.parent.glob(".o.lmdb.*/journal.jsonl")
    lines = journal.read_text(encoding="utf-8").splitlines()
    kept = [number for number, line in enumerate(lines) if line.startswith("[0")][20]
    lines[kept] = "[0, 1]"  # another checksum than the pixels'
    journal.write_text("\n".join(lines), encoding="utf-8")
    resumed = run(source, output, resume=True)
    assert resumed.resumed == kept - 1
    assert resumed.content_sha256 == whole.content_sha256
