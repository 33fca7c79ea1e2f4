"""The boundary around every command: how the process ends."""

import os
import shlex
import signal
import subprocess
import sys
import time
import warnings

import pytest

from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.console import Console
from nordocr_cli.errors import ArtifactError, DamagedImageWarning

NORDOCR = [sys.executable, "-m", "nordocr_cli"]
# A command that waits, so that a signal finds it at work; Ctrl-C works even where a shell had it
# ignored.
WAITING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from nordocr_cli import app
import nordocr_cli.core.doctor
def wait():
    print("at work", flush=True)
    time.sleep(60)
nordocr_cli.core.doctor.diagnose = wait
sys.argv = ["nordocr", "doctor"]
app.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_so_and_ends_with_130(sent):
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "at work\n"
    time.sleep(0.1)
    process.send_signal(sent)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, "interrupted" in err, "Traceback" in err) == (
        130,
        True,
        False,
    )


def test_ctrl_c_while_the_program_loads_is_quiet():
    loading = """
import sys
class CtrlC:
    def find_spec(self, name, *_):
        if name == "nordocr_cli.app":
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
from nordocr_cli.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", loading], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
@pytest.mark.parametrize(
    "command",
    [["charset", "emit", "nordic"], ["profiles", "list", "--json"], ["profiles", "list"]],
)
def test_a_reader_that_went_away_is_no_error(command):
    process = subprocess.Popen(
        [*NORDOCR, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), b"Traceback" in err) == (0, False)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize(
    "command",
    [
        ["charset", "emit", "nordic"],
        ["profiles", "list", "--json"],
        ["profiles", "list"],
        ["-h"],
    ],
)
def test_a_full_disk_behind_stdout_is_said_in_one_line(command):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*NORDOCR, *command], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 3
    said = (
        "error: cannot write the result to stdout: No space left on device; free some disk"
        " space and run this again\n"
    )
    assert done.stderr == said


def test_the_next_command_can_be_pasted_into_a_shell(capsys):
    Console().next("nordocr", "eval", "my runs/[a]", "it's.lmdb")
    Console().next("make demo")
    first, second = capsys.readouterr().err.splitlines()
    assert shlex.split(first) == ["next:", "nordocr", "eval", "my runs/[a]", "it's.lmdb"]
    assert second == "next: make demo"


@pytest.mark.parametrize(("user_filter", "shown"), [("ignore", 0), ("default", 1), ("", 2)])
def test_filters_of_the_user_come_before_those_of_the_console(user_filter, shown, capsys):
    """Without one, a warning of Pillow is shown for each file, not once."""
    seen_before = {}
    with warnings.catch_warnings():
        warnings.resetwarnings()
        if user_filter:
            warnings.simplefilter(user_filter)
        Console().show_warnings()
        for _ in range(2):
            warnings.warn_explicit(
                "bad EXIF", DamagedImageWarning, "Image.py", 1, "PIL.Image", seen_before
            )
    assert capsys.readouterr().err.count("warning: bad EXIF") == shown


def test_a_label_cannot_talk_to_the_terminal(capsys):
    Console().table("a\x1b", ("\u202eb",), [("[red]\x1b[2J\nnext",)])
    Console().warn("c\x1b[31m")
    captured = capsys.readouterr()
    assert all(
        part in captured.out
        for part in ("a<U+001B>", "<U+202E>b", "[red]<U+001B>[2J", "next")
    )
    assert captured.err == "warning: c<U+001B>[31m\n"
    assert "\x1b" not in captured.out


def test_damaged_onnx_metadata_is_named(tiny_onnx, tmp_path):
    data = tiny_onnx.read_bytes()
    at = data.index("åäö".encode())
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    with pytest.raises(ArtifactError, match=r"broken\.onnx is damaged"):
        read_contract(broken)


@pytest.mark.parametrize(
    ("option", "here"),
    [("--model-id", "model.pretrained"), ("--lora-rank", "model.lora_rank")],
)
def test_an_option_of_another_program_names_its_counterpart(option, here):
    done = subprocess.run([*NORDOCR, "train", option, "8"], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{option} is another program's option; here it is --set {here}=" in done.stderr
