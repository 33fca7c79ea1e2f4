"""The report in a real browser: what its script makes of the page, read back as the browser's own
document.
"""

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from urllib.parse import urlencode

import numpy as np
import pytest

from nordocr_cli.data.line_record import encode_line
from nordocr_cli.metrics.html_report import evaluation_page, gallery_rows, render_page
from nordocr_cli.metrics.report import report_of
from nordocr_cli.metrics.score import score_line
from nordocr_cli.records import LineResult

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="chromium is not installed (Debian: apt-get install chromium)",
    ),
]

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
LINES = [
    LineResult("a", "Summa kr 1 234", "Summa kr 1234", 0.9, "sv", "clean", width=300),
    LineResult("b", "Øre", "Ore", 0.4, "da", "faded", width=900),
    LineResult(
        "c",
        "Summa kortfristiga skulder",
        "Summa kortfristiga sk",
        0.3,
        "sv",
        "clean",
        width=320,
    ),
    LineResult(f"d{EVIL}", f"Lön{EVIL}", f"Lon{EVIL}", 0.2, EVIL, "a\u202eb", width=1800),
    LineResult("e", "Ja", "Ja", 0.99, "sv", "clean", width=40),
]


class Gallery(HTMLParser):
    """Counts elements, and collects the texts of each card of the gallery."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cards, self.scripts, self.title = [], [], 0, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "article":
            self.cards.append([])

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "title" and not self.title:
            self.title = data
        if self.cards:
            self.cards[-1].append(data)

    def ids(self):
        return [card[1].split(" · ")[-1] for card in self.cards]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    scores = [score_line(line) for line in LINES]
    crop = encode_line(np.full((32, 64, 3), 200, np.uint8)).png
    rows = gallery_rows(
        scores,
        reader=EVIL,
        crop_png=lambda i: crop,
        manifest=lambda i: {"id": LINES[i].id, "image": "x.png"},
        crops=9,
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(
        render_page(
            evaluation_page(report_of(scores), rows, title="The title", subtitle=EVIL)
        ),
        encoding="utf-8",
    )
    return path


@pytest.fixture
def opened(report, tmp_path):
    def open_(**state):
        """Return the document after its script ran, with `state` in the address."""
        arguments = [
            *(
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-sync",
            ),
            *(
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-dev-shm-usage",
            ),
            *(
                "--virtual-time-budget=5000",
                f"--user-data-dir={tmp_path / 'browser'}",
                "--dump-dom",
            ),
        ]
        done = subprocess.run(
            [CHROMIUM, *arguments, f"{report.as_uri()}#{urlencode(state)}"],
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=True,
            env=os.environ | {"HOME": str(tmp_path)},
        )
        return done.stdout

    return open_


def test_every_wrong_line_is_shown_and_no_label_becomes_an_element(opened):
    gallery = Gallery(opened())
    assert gallery.title == "The title"
    assert sorted(gallery.ids()) == ["a", "b", "c", f"d{EVIL}"]
    # two of data and the code; a crop for each line
    assert (gallery.tags.count("script"), gallery.tags.count("img")) == (3, 4)
    evil = next(card for card in gallery.cards if "onerror" in card[1])
    assert "a<U+202E>b" in evil[1]
    assert evil[2:11] == [
        "reference",
        "L",
        "ö",
        f"n{EVIL}",
        EVIL,
        "L",
        "o",
        f"n{EVIL}",
        "Accept reading",
    ]


def test_the_address_filters(opened):
    text = opened(**{"class": "minor", "language": "da"})
    assert Gallery(text).ids() == ["b"]
    assert "1 of 4 lines" in text
    assert Gallery(opened(q="KORTFRISTIGA")).ids() == ["c"]
    assert Gallery(opened(q="1 234")).ids() == ["a"]
    assert sorted(Gallery(opened(width=">1792", language=EVIL)).ids()) == [f"d{EVIL}"]


def test_accepted_readings_come_out_as_manifest_rows(opened):
    order = Gallery(opened()).ids()
    text = opened(accept=f"{order.index('b')}:0,{order.index('c')}:0,99:0,1:7")
    area = re.search(r'<textarea id="jsonl".*?>(.*?)</textarea>', text, re.DOTALL)[1]
    rows = {row["id"]: row for row in map(json.loads, area.splitlines())}
    assert rows["b"] == {
        "id": "b",
        "image": "x.png",
        "corrected_from": "Øre",
        "text": "Ore",
    }
    assert rows["c"]["text"] == "Summa kortfristiga sk"
    assert text.count("Accepted ✓") == 2 + 1  # the third is the word in the script
