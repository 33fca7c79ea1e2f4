"""Nothing leaves the machine: the commands that run networks open no internet socket, and no
library leaves a telemetry file behind.
"""

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nordocr_cli import extras

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


DRAW = (
    "from nordocr_cli.data.plot import plot_png; plot_png({100: 3}, 200, {'a': 5});"
    "import os; assert os.environ.get('MPLCONFIGDIR') == CHOSEN;"
    "assert 'MATPLOTLIBRC' not in os.environ;"
)


def draw(home, temporary, *, start="", then="", **variables):
    """Draw a picture in a process with these folders of its own, between `start` and `then`; return
    what it prints.
    """
    pytest.importorskip("matplotlib")
    own = ("MPLCONFIGDIR", "MATPLOTLIBRC", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in own}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary)} | variables
    code = f"{start}\nCHOSEN = {variables.get('MPLCONFIGDIR')!r}\n{DRAW}{then}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        cwd=home,
    )
    assert done.stderr == ""
    return done.stdout


def test_drawing_leaves_no_list_of_fonts_below_the_home_folder(tmp_path):
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    draw(home, temporary)
    assert [*home.rglob("*"), *temporary.rglob("*")] == []


def test_drawing_needs_neither_a_home_nor_a_temporary_folder(tmp_path):
    no_temporary_folder = (
        "import tempfile\n"
        "def fail(*arguments): raise FileNotFoundError(2, 'no temporary folder')\n"
        "tempfile._get_default_tempdir = fail\n"
    )
    draw(tmp_path, "/dev/null/none", HOME="/dev/null/none", start=no_temporary_folder)


def test_settings_and_list_of_fonts_of_the_user_are_read_and_not_changed(tmp_path):
    pytest.importorskip("matplotlib")
    extras.load_matplotlib("a test")
    from matplotlib import font_manager

    settings = tmp_path / ".config" / "matplotlib" / "matplotlibrc"
    fonts = tmp_path / ".cache" / "matplotlib"
    settings.parent.mkdir(parents=True)
    settings.write_text("lines.linewidth: 7.5\n")
    fonts.mkdir(parents=True)
    longer = copy.copy(font_manager.fontManager)
    longer.ttflist = longer.ttflist + 3 * longer.ttflist[-1:]
    version = font_manager.FontManager.__version__
    font_manager.json_dump(longer, fonts / f"fontlist-v{version}.json")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    show = (
        "import matplotlib.font_manager as fonts;"
        "print(len(fonts.fontManager.ttflist), fonts.mpl.rcParams['lines.linewidth'])"
    )
    assert draw(tmp_path, tmp_path, then=show) == f"{len(longer.ttflist)} 7.5\n"
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_no_list_of_fonts_is_written_while_matplotlib_is_imported(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    extras.load_matplotlib("a test")
    from matplotlib import font_manager

    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    path = tmp_path / "fontlist.json"
    path.write_text("damaged")
    with extras._nothing_written_by_matplotlib():
        font_manager.json_dump({}, path)
    assert path.read_text() == "damaged"
    font_manager.json_dump({}, path)
    assert path.read_text() == "{}"


def test_a_folder_named_for_matplotlib_gets_its_list_of_fonts(tmp_path):
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    draw(tmp_path, tmp_path, MPLCONFIGDIR=str(chosen))
    assert [path.name for path in chosen.glob("fontlist-*.json")] != []


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
