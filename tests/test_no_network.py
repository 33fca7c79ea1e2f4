"""Nothing leaves the machine: the commands that run networks open no internet socket, and no
library leaves a telemetry file behind.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINE = sorted((ROOT / "samples").rglob("*.png"))[0]

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


def traced(home, *arguments):
    """Run a command under strace with a home folder of its own; return (network calls, its
    output).
    """
    log = home / "strace.log"
    strace = ["strace", "-f", "-qq", "-e", "trace=network", "-o", str(log)]
    own = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    environment = {key: value for key, value in os.environ.items() if key not in own}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    done = subprocess.run(
        [*strace, sys.executable, "-m", "nordocr_cli", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        cwd=home,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    calls = [
        line for line in log.read_text().splitlines() if re.search(r"\bAF_INET6?\b", line)
    ]
    return calls, done


def test_the_tracer_sees_an_internet_socket(tmp_path):
    log = tmp_path / "log"
    code = "import socket; socket.socket(socket.AF_INET).close()"
    subprocess.run(
        [
            "strace",
            "-f",
            "-qq",
            "-e",
            "trace=network",
            "-o",
            log,
            sys.executable,
            "-c",
            code,
        ],
        check=True,
    )
    assert "AF_INET" in log.read_text()


@pytest.mark.parametrize("command", ["predict", "eval", "export", "int8", "bench"])
def test_no_command_opens_an_internet_socket(command, tmp_path, tiny_run, tiny_checkpoint):
    store = tiny_run.parent / "digits.lmdb"
    home = tmp_path / "home"
    home.mkdir()
    arguments = {
        "predict": ("predict", LINE, "--layout", "line"),
        "eval": ("eval", "nordocr-default.int8.onnx", store),
        "export": ("export", tiny_checkpoint, "--precision", "fp32", "-o", home / "m.onnx"),
        "int8": (
            *("export", tiny_checkpoint, "--int8", "--threads", "1"),
            *("--max-cer-loss", "1", "-o", home / "m.onnx"),
        ),
        "bench": ("bench", "nordocr-default.int8.onnx", "--lines", store, "--rounds", "1"),
    }[command]
    calls, _ = traced(home, *arguments)
    assert calls == []
    cached = [path for path in (home / ".cache").rglob("*") if path.is_file()]
    assert [path for path in cached if "onnxruntime" in str(path).lower()] == []
    assert [
        path for path in cached if re.search(r"(?i)telemetry|device.?id", path.name)
    ] == []


def test_the_switches_are_set_before_the_library_is_imported():
    code = (
        "import sys, nordocr_cli, os; assert 'onnxruntime' not in sys.modules;"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    environment = {
        key: value for key, value in os.environ.items() if "TELEMETRY" not in key
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stdout == "1\n"


def test_drawing_leaves_no_list_of_fonts_below_the_home_folder(tmp_path):
    pytest.importorskip("matplotlib")
    code = (
        "from nordocr_cli.data.plot import plot_png; plot_png({100: 3}, 200, {'a': 5});"
        "import os; assert 'MPLCONFIGDIR' not in os.environ"
    )
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    own = ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in own}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert [*home.rglob("*"), *temporary.rglob("*")] == []


def test_rapidocr_is_imported_without_an_internet_socket(tmp_path):
    pytest.importorskip("rapidocr")
    log = tmp_path / "strace.log"
    code = (
        "from nordocr_cli.runtime.backends.rapidocr.recognizer import load_rapidocr;"
        "load_rapidocr('a test')"
    )
    strace = ["strace", "-f", "-qq", "-e", "trace=network", "-o", str(log)]
    subprocess.run([*strace, sys.executable, "-c", code], check=True)
    assert "AF_INET" not in log.read_text()
