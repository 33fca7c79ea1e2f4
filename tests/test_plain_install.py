"""The plain install: pages are read without any library of an extra, and what needs one says which."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from nordocr_cli.extras import EXTRA_OF

# Runs the command line as if the libraries of every extra were not installed.
WITHOUT_EXTRAS = """
import sys
blocked = set({blocked!r})
class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
sys.argv = ["nordocr", *sys.argv[1:]]
from nordocr_cli.app import main
main()
"""


def nordocr(*arguments):
    program = WITHOUT_EXTRAS.format(blocked=sorted(EXTRA_OF))
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    pixels = np.full((1200, 900, 3), 255, np.uint8)
    for row in range(8):
        at = (60, 150 + 90 * row)
        cv2.putText(
            pixels, "Summa 123 kronor", at, cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 2
        )
    path = tmp_path_factory.mktemp("plain") / "scan.png"
    cv2.imwrite(str(path), pixels)
    return path


def test_a_page_becomes_a_searchable_pdf(page):
    import pypdfium2

    done = nordocr("read", page, "-o", page.with_suffix(".pdf"), "--threads", "1")
    assert done.returncode == 0, done.stderr
    document = pypdfium2.PdfDocument(page.with_suffix(".pdf"))
    assert "123" in document[0].get_textpage().get_text_range()
    document.close()


@pytest.mark.parametrize(
    ("command", "library", "extra"),
    [
        (("export", "nordocr-default"), "torch", "train"),
        (("serve",), "fastapi", "serve"),
    ],
)
def test_what_needs_an_extra_names_it_and_ends_with_5(command, library, extra):
    done = nordocr(*command)
    assert done.returncode == 5
    assert library in done.stderr
    assert f"[{extra}]" in done.stderr
    assert "Traceback" not in done.stderr
