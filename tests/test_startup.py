"""What the user waits for: help and plans import nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[1] / "samples" / "doc"
TIFF, TRUTH = str(DOCUMENT / "dev_doc.tif"), str(DOCUMENT / "dev_doc.json")
START = "nordocr-default"
HEAVY = (
    "torch",
    "cv2",
    "onnx",
    "onnxruntime",
    "onnxsim",
    "lmdb",
    "tensorrt_rtx",
    "matplotlib",
    "PIL",
)
PROBE = """
import sys, json
sys.argv = ["nordocr"] + json.loads(sys.argv[1])
from nordocr_cli.app import main
try:
    main()
except SystemExit as end:
    code = end.code
print("HEAVY", code, [m for m in {heavy!r} if m in sys.modules], file=sys.stderr)
"""


def run(*args):
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=HEAVY), json.dumps(args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout, done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("train", "--help"),
        ("profiles", "list"),
        ("charset", "show"),
        ("train", "--profile", "svtrv2-1024", "--dry-run"),
        (
            "charset",
            "move",
            START,
            "--to",
            "nordic-ext",
            "-o",
            "x.safetensors",
            "--dry-run",
        ),
        ("build-engine", "--arch", "sm120", "--dry-run"),
        ("prep", ".", "-o", "x.lmdb", "--help"),
        ("bench", "tesseract", "--doc", TIFF, "--regions", TRUTH, "--dry-run"),
        ("predict", TIFF, "-m", "tesseract:swe", "--regions", TRUTH, "--dry-run"),
        (
            "compare3way",
            TIFF,
            "--svtrv2",
            TRUTH,
            "--tess",
            TRUTH,
            "--truth",
            TRUTH,
            "--dry-run",
        ),
    ],
)
def test_nothing_heavy_is_imported(args):
    out, last = run(*args)
    assert last == "HEAVY 0 []"
    assert out.strip()


def test_help_imports_neither_commands_nor_rich():
    probe = """
import sys
sys.argv = ["nordocr", "--help"]
from nordocr_cli.app import main
try:
    main()
except SystemExit:
    pass
print([m for m in sys.modules if m.startswith(("nordocr_cli.commands.", "rich."))], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=60
    )
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_results_on_stdout_are_json_alone():
    out, _ = run("train", "--profile", "svtrv2-1024", "--dry-run", "--json")
    assert json.loads(out)["profile"]
