"""`nordocr watch`: documents that appear in a folder are read once, completely."""

import json
import os
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

import nordocr
from nordocr.watching import Watcher


class CountingReader:
    """Stands for a Reader: counts documents, and fails for those whose name says so."""

    def __init__(self):
        self.read_names = []

    def read(self, path, **_):
        self.read_names.append(path.name)
        if "bad" in path.name:
            raise nordocr.DataError(f"{path}: damaged")
        return nordocr.Document(path, (nordocr.Page(None, 1, 1, ()),), (), path)


@pytest.fixture
def folders(tmp_path):
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    return tmp_path / "in", tmp_path / "out"


@pytest.fixture
def reader():
    return CountingReader()


def names(outcomes):
    return [outcome.source.name for outcome in outcomes]


def test_a_file_is_read_when_it_no_longer_grows(folders, reader):
    source, target = folders
    watcher = Watcher(reader, source, target)
    (source / "a.pdf").write_bytes(b"1")
    assert names(watcher.pass_over()) == []
    (source / "a.pdf").write_bytes(b"12")
    assert names(watcher.pass_over()) == []
    assert names(watcher.pass_over()) == ["a.pdf"]
    assert names(watcher.pass_over()) == []
    assert (target / "a.pdf.txt").is_file()


def test_a_new_watcher_reads_only_what_is_newer_than_its_results(folders, reader):
    source, target = folders
    (source / "sub").mkdir()
    for name in ("a.pdf", "sub/b.tif"):
        (source / name).write_bytes(b"1")
    first = Watcher(reader, source, target, ["text", "json"]).pass_over(settled=False)
    assert names(first) == ["a.pdf", "b.tif"]
    assert (target / "sub" / "b.tif.json").is_file()
    assert names(Watcher(reader, source, target).pass_over(settled=False)) == []
    later = time.time() + 10
    os.utime(source / "a.pdf", (later, later))
    assert names(Watcher(reader, source, target).pass_over(settled=False)) == ["a.pdf"]


def test_a_document_that_fails_leaves_a_note_and_is_tried_again_when_it_changes(
    folders, reader
):
    source, target = folders
    (source / "bad.pdf").write_bytes(b"1")
    (source / "good.pdf").write_bytes(b"1")
    outcomes = list(Watcher(reader, source, target).pass_over(settled=False))
    assert [(o.source.name, bool(o.error)) for o in outcomes] == [
        ("bad.pdf", True),
        ("good.pdf", False),
    ]
    assert "damaged" in (target / "bad.pdf.error.txt").read_text(encoding="utf-8")
    assert names(Watcher(reader, source, target).pass_over(settled=False)) == []
    later = time.time() + 10
    os.utime(source / "bad.pdf", (later, later))
    assert names(Watcher(reader, source, target).pass_over(settled=False)) == ["bad.pdf"]


def test_hidden_files_other_kinds_and_the_results_themselves_are_left_alone(
    folders, reader
):
    source, _ = folders
    target = source / "results"
    for name in (".scan.pdf", "notes.docx", "a.pdf"):
        (source / name).write_bytes(b"1")
    watcher = Watcher(reader, source, target, ["pdf"])
    (target).mkdir()
    (target / "old.pdf.pdf").write_bytes(b"1")
    list(watcher.pass_over(settled=False))
    assert reader.read_names == ["a.pdf"]


def test_the_folder_of_results_is_another_one(folders, reader):
    source, _ = folders
    with pytest.raises(nordocr.UsageError, match="another one"):
        Watcher(reader, source, source)
    with pytest.raises(nordocr.UsageError, match="no folder"):
        Watcher(reader, source / "missing", source)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names and links")
def test_no_name_or_link_keeps_the_other_documents_from_being_read(folders, reader):
    source, target = folders
    (source / "loop.png").symlink_to(source / "loop.png")
    os.mkfifo(source / "pipe.png")
    (source / "zero.png").symlink_to("/dev/zero")
    unwritable = [source / os.fsdecode(b"h\xe5r.png"), source / ("n" * 240 + ".png")]
    for path in (*unwritable, source / "z.png"):
        path.write_bytes(b"1")
    watcher = Watcher(reader, source, target)
    outcomes = list(watcher.pass_over(settled=False))
    assert names(outcomes) == [*(path.name for path in unwritable), "z.png"]
    assert "not UTF-8; rename it" in outcomes[0].error
    assert "File name too long" in outcomes[1].error
    assert [path.name for path in target.iterdir()] == ["z.png.txt"]

    assert list(watcher.pass_over(settled=False)) == []  # what has no note is reported once
    (source / ("n" * 240 + ".png")).write_bytes(b"12")
    assert names(watcher.pass_over(settled=False)) == [unwritable[1].name]


def test_a_target_that_leads_nowhere_is_refused(folders, reader):
    source, target = folders
    loop = target / "loop"
    loop.symlink_to(loop)
    with pytest.raises(nordocr.NordocrError, match="link leads nowhere"):
        Watcher(reader, source, loop)


def test_the_command_reads_what_is_there_and_tells_what_failed(folders):
    source, target = folders
    page = np.full((1200, 900, 3), 255, np.uint8)
    for row in range(8):
        at = (60, 150 + 90 * row)
        cv2.putText(
            page, "Summa 123 kronor", at, cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 2
        )
    cv2.imwrite(str(source / "scan.png"), page)
    (source / "bad.png").write_bytes(b"no picture")
    command = [
        sys.executable,
        "-m",
        "nordocr_cli",
        "watch",
        str(source),
        str(target),
        "--once",
    ]
    done = subprocess.run(
        [*command, "--json", "--threads", "1"], capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)
    assert (result["read"], result["failed"]) == (1, 1)
    assert "123" in (target / "scan.png.txt").read_text(encoding="utf-8")
    assert (target / "bad.png.error.txt").is_file()
