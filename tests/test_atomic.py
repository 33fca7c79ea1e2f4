"""Files are written whole or not at all."""

import errno
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nordocr_cli.atomic import (
    OutputLock,
    make_folder,
    refuse_inputs,
    replacing,
    replacing_all,
    sha256_of,
    write_json,
    write_text,
)
from nordocr_cli.errors import DataError, UsageError


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (target.read_text(), names(tmp_path)) == ("old", ["a.txt"])


def test_a_folder_replaces_a_folder(tmp_path):
    for content in ("one", "two"):
        with replacing(tmp_path / "store") as temporary:
            temporary.mkdir()
            (temporary / "data").write_text(content)
    assert (tmp_path / "store" / "data").read_text() == "two"
    assert names(tmp_path) == ["store"]


def test_an_old_folder_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path, monkeypatch
):
    target = tmp_path / "store"
    target.mkdir()
    (target / "data").write_text("old")
    rename = os.replace

    def failing(source, to):
        if ".tmp" in str(source):
            raise OSError(errno.EACCES, "Access is denied")
        rename(source, to)

    monkeypatch.setattr(os, "replace", failing)
    with (
        pytest.raises(DataError, match="the previous folder is untouched"),
        replacing(target) as temporary,
    ):
        temporary.mkdir()
    assert ((target / "data").read_text(), names(tmp_path)) == ("old", ["store"])


@pytest.mark.parametrize("failing", ["one", "two"])
def test_folders_that_belong_together_are_replaced_together(tmp_path, monkeypatch, failing):
    targets = [tmp_path / "one", tmp_path / "two"]
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "data").write_text("old")

    def write(content):
        with replacing_all(targets) as temporaries:
            for temporary in temporaries:
                temporary.mkdir()
                (temporary / "data").write_text(content)

    rename = os.replace
    with monkeypatch.context() as patched:

        def refusing(source, to):
            if ".tmp" in str(source) and failing in to.parts:
                raise OSError(errno.EACCES, "Access is denied")
            rename(source, to)

        patched.setattr(os, "replace", refusing)
        with pytest.raises(DataError, match="one, .*two: Access is denied"):
            write("new")
    assert ((tmp_path / "two" / "data").read_text(), names(tmp_path)) == ("old", ["two"])
    write("new")
    assert [(target / "data").read_text() for target in targets] == ["new", "new"]
    assert names(tmp_path) == ["one", "two"]


def test_a_kill_between_the_two_renames_of_a_folder_loses_nothing(tmp_path):
    (tmp_path / ".store.old").mkdir()
    (tmp_path / ".store.old" / "data").write_text("old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "store"):
        raise RuntimeError
    assert (tmp_path / "store" / "data").read_text() == "old"


def test_the_bodys_own_errors_stay_its_own(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        (tmp_path / "another").read_bytes()


FULL = Path("/dev/full")


def fill_the_disk():
    FULL.write_bytes(b"x" * 100_000)


def test_a_full_disk_is_said(tmp_path):
    new, old = tmp_path / "new.txt", tmp_path / "old.txt"
    old.write_text("old")
    with (
        pytest.raises(DataError, match="No space left.* nothing was written: free space"),
        replacing(new),
    ):
        fill_the_disk()
    with (
        pytest.raises(DataError, match="No space left.* previous file is untouched: free"),
        replacing(old),
    ):
        fill_the_disk()
    assert (old.read_text(), names(tmp_path)) == ("old", ["old.txt"])


def test_nothing_is_said_of_a_previous_file_of_a_device_or_pipe(tmp_path):
    with pytest.raises(
        DataError, match=r"/dev/full: No space left.*; it may have got a part"
    ):
        write_text(FULL, "x" * 100_000)
    assert FULL.is_char_device()

    # The result is collected in the folder for temporary files, whose disk may be full too.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (
        pytest.raises(DataError, match="No space left on device in .*; set TMPDIR"),
        replacing(pipe),
    ):
        fill_the_disk()
    assert names(tmp_path) == ["pipe"]


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"cer": float("nan")})
    assert names(tmp_path) == []


def test_an_unwritable_place_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_text(tmp_path / "file" / "below.txt", "x")


def test_killed_writers_never_tear_a_file(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "0" * 200_000)
    code = (
        "import sys, pathlib, itertools\nfrom nordocr_cli.atomic import write_text\n"
        "for i in itertools.count(1): write_text(pathlib.Path(sys.argv[1]), str(i % 10) * 200_000)"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", code, str(target)])
        time.sleep(0.6)
        writer.kill()
        writer.wait()
        text = target.read_text()
        assert (len(text), len(set(text))) == (200_000, 1)


def test_stale_temporaries_are_swept_and_young_ones_kept(tmp_path):
    stale, young = tmp_path / ".a[1].aaaaaaa1.tmp", tmp_path / ".a[1].aaaaaaa2.tmp"
    of_another = tmp_path / ".a[1].txt.aaaaaaa1.tmp"
    for path in (stale, young, of_another):
        path.write_text("")
    for path in (stale, of_another):
        os.utime(path, (0, 0))
    write_text(tmp_path / "a[1]", "x")
    assert names(tmp_path) == sorted([young.name, of_another.name, "a[1]"])


KILLED = """
import sys, time
from pathlib import Path
from nordocr_cli.atomic import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.mkdir()
    (temporary / "data").write_text("half")
    print("written", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_writer_left_goes_with_the_next_writer_and_not_before(tmp_path):
    target = tmp_path / "store"
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED, target], stdout=subprocess.PIPE
    )
    writer.stdout.readline()
    with replacing(target) as temporary:
        temporary.mkdir()
    assert len([name for name in names(tmp_path) if name.endswith(".tmp")]) == 1  # at work
    writer.kill()
    writer.communicate()
    with replacing(target) as temporary:
        temporary.mkdir()
    assert names(tmp_path) == ["store"]


def test_one_process_writes_an_output_at_a_time(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom nordocr_cli.atomic import OutputLock\n"
        "lock = OutputLock(Path(sys.argv[1]))\nprint('locked', flush=True)\ntime.sleep(60)"
    )
    target = tmp_path / "out.jsonl"
    owner = subprocess.Popen([sys.executable, "-c", code, target], stdout=subprocess.PIPE)
    owner.stdout.readline()
    with pytest.raises(UsageError, match=r"another process is writing .*out\.jsonl"):
        OutputLock(target)
    owner.kill()
    owner.communicate()
    lock = OutputLock(target)
    lock.release()
    assert names(tmp_path) == []


def test_a_pipe_and_a_device_are_written_to_and_stay_what_they_are(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    write_text(pipe, "through")
    assert reader.communicate()[0] == b"through"
    assert pipe.is_fifo()
    write_text(Path("/dev/null"), "gone")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(DataError, match="cannot write /dev/full"):
        write_text(Path("/dev/full"), "x")
    assert names(tmp_path) == ["pipe"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "real.txt").write_text("old")
    link, dangling, loop = (
        tmp_path / "link.txt",
        tmp_path / "new.txt",
        tmp_path / "loop.txt",
    )
    link.symlink_to(folder / "real.txt")
    dangling.symlink_to(folder / "made.txt")
    loop.symlink_to(loop)
    write_text(link, "new")
    write_text(dangling, "made")
    assert (link.is_symlink(), (folder / "real.txt").read_text()) == (True, "new")
    assert (dangling.is_symlink(), (folder / "made.txt").read_text()) == (True, "made")
    with pytest.raises(DataError, match=r"loop\.txt"):
        write_text(loop, "x")
    with pytest.raises(UsageError, match="its link leads nowhere"):
        refuse_inputs(loop, [])


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a.sock")
        with pytest.raises(UsageError, match="a.sock is a socket"):
            write_text(Path("a.sock"), "x")


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not UTF-8; rename it"):
        write_text(tmp_path / os.fsdecode(b"h\xe5r.txt"), "x")


def test_a_text_with_a_name_that_is_not_utf8_is_refused(tmp_path):
    name = os.fsdecode(b"h\xe5r.png")
    with pytest.raises(UsageError, match=r"not UTF-8 .*h\\xe5….*rename it"):
        write_json(tmp_path / "a.json", {"scans": [name]})
    assert not list(tmp_path.iterdir())


def test_an_output_folder_is_made_or_the_reason_is_said(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("file", "loop", "file/run", "n" * 300, "a\0b"):
        with pytest.raises(DataError, match="cannot make the folder .* give another path"):
            make_folder(tmp_path / name)
    with pytest.raises(UsageError, match="not UTF-8"):
        make_folder(tmp_path / os.fsdecode(b"\xff"))


def test_sha256(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of(tmp_path / "empty").startswith("e3b0c442")
    with pytest.raises(DataError, match="cannot read"):
        sha256_of(tmp_path / "absent")


def test_an_output_that_is_an_input_is_refused(tmp_path):
    file, store, run = tmp_path / "a.json", tmp_path / "a.lmdb", tmp_path / "run"
    for path in (file, store / "data.mdb", run / "best.safetensors"):
        write_text(path, "x")
    (tmp_path / "link.json").symlink_to(file)
    refused = (
        file,
        tmp_path / "link.json",
        store,
        store / "data.mdb",
        store / "eval.json",
        run / "best.safetensors",
    )
    for output in refused:
        with pytest.raises(UsageError, match="would overwrite the input"):
            refuse_inputs(output, [file, store, run])
    for output in (run / "eval" / "eval.json", run / "eval.json", tmp_path / "b.json"):
        refuse_inputs(output, [file, store, run, Path("tesseract")])
