"""The report of compare3way in a real browser: hostile readings stay text, filters and decisions
work.
"""

import json
import os
import re
import shutil
import subprocess
from urllib.parse import urlencode

import numpy as np
import pytest

from nordocr_cli.compare.adjudication import Decision, read_decisions
from nordocr_cli.compare.answers import question
from nordocr_cli.compare.page import comparison_page
from nordocr_cli.compare.verdict import ComparedLine, Verdict
from nordocr_cli.metrics.html_report import render_page
from nordocr_cli.records import Box

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="chromium is not installed (Debian: apt-get install chromium)",
    ),
]

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
BOX = Box(1, 2, 300, 40)
LINES = (
    ComparedLine(0, BOX, "Summa 1 234", ("Summa 1234", "Summa 1 234", "Summa 1 234")),
    ComparedLine(0, BOX, "Årets", ("Årets", "Arets", "Årets")),
    ComparedLine(1, BOX, "lika", ("lika", "lika", "lika")),
    ComparedLine(1, BOX, f"x{EVIL}", (f"y{EVIL}", None, f"x{EVIL}")),
    ComparedLine(
        2, BOX, None, ("a", "b", None), excluded="timeout", vlm=("timeout", EVIL, ())
    ),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    verdict = Verdict(("A", EVIL), f"agreement with the VLM {EVIL}", LINES, third="V")
    png = question(np.full((40, 300, 3), 200, np.uint8), 0, BOX).png
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(
        render_page(comparison_page(verdict, EVIL, lambda line: png, 2)), encoding="utf-8"
    )
    return path


@pytest.fixture
def opened(report, tmp_path):
    def open_(**state):
        arguments = [
            *(
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
            ),
            *(
                "--disable-component-update",
                "--disable-dev-shm-usage",
                "--virtual-time-budget=5000",
                "--dump-dom",
            ),
        ]
        return subprocess.run(
            [
                CHROMIUM,
                *arguments,
                f"--user-data-dir={tmp_path / 'browser'}",
                f"{report.as_uri()}#{urlencode(state)}",
            ],
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=True,
            env=os.environ | {"HOME": str(tmp_path)},
        ).stdout

    return open_


def test_the_lines_on_which_not_all_agree(opened):
    text = opened()
    assert "owned" not in re.search(r"<title>(.*?)</title>", text)[1].replace(
        EVIL.replace("<", "&lt;").replace(">", "&gt;"), ""
    )
    assert text.count("<article") == 4
    assert text.count("<script") == 3
    assert text.count("<img") == 2  # two pictures were asked for
    titles = re.findall(r'<div class="top"><strong>(.*?)</strong>', text)
    assert titles[0].startswith("only &lt;/script")
    assert titles[1:] == ["both wrong", "timeout", "only A"]


def test_a_filter_and_a_decision(opened, tmp_path):
    text = opened(agreement="ABA", accept="3:1")
    assert "1 of 4 lines" in text
    rows = re.search(r'<textarea id="jsonl".*?>(.*?)</textarea>', text, re.DOTALL)[1]
    assert json.loads(rows)["corrected_from"] == "Årets"
    (tmp_path / "corrected.jsonl").write_text(rows, encoding="utf-8")
    assert read_decisions(tmp_path / "corrected.jsonl") == ([Decision(0, BOX, "Arets")], 0)
