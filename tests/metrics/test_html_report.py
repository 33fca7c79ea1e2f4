import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.metrics.calibration import calibrate
from nordocr_cli.metrics.html_report import (
    Chart,
    Figure,
    GalleryRow,
    ReportPage,
    ReportTable,
    evaluation_page,
    gallery_rows,
    render_page,
)
from nordocr_cli.metrics.report import report_of
from nordocr_cli.metrics.score import score_line
from nordocr_cli.records import LineResult

HOSTILE = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<!--<script>",
    "{{ 7 * 7 }}{% raw %}",
    "abc\u202ecba\u2066\x00\x1b\ud800",
    "' onload='alert(1)",
    "&lt;b&gt;&amp;",
    "]]>\u2028",
]


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.contents, self.last = [], [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.last = (tag, dict(attrs).get("id"))

    def handle_data(self, data):
        self.contents.setdefault(self.last, []).append(data)


def page(text="x", **fields):
    row = GalleryRow(
        text,
        text,
        {text: text + "y"},
        {"class": [text], text: [text]},
        text,
        b"png",
        {"id": text, text: text},
    )
    table = ReportTable(
        text, (text, "n"), [(text, text)], right=(1,), bars=(0.5,), facet="class", note=text
    )
    chart = Chart(text, text, text, [(0.5, 0.5, 1.0, text)], diagonal=True, note=text)
    return ReportPage(
        **{"title": text, "subtitle": text} | fields,
        sections=[table, chart],
        gallery=[row],
        figures=[Figure(text, text)],
    )


def data_of(html):
    return json.loads("".join(Elements(html).contents["script", "data"]))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_label_adds_no_element_and_stays_what_it_is(hostile):
    text = render_page(page(hostile, note=hostile, gallery_note=hostile, footer=hostile))
    assert (
        Elements(text).tags
        == Elements(render_page(page(note="x", gallery_note="x", footer="x"))).tags
    )
    text.encode("utf-8")
    assert data_of(text)[0]["readings"][0]["text"] == hostile + "y"
    assert data_of(text)[0]["manifest"]["corrected_from"] == hostile
    assert not {
        name
        for name, _ in Elements(text).attributes
        if name.startswith("on") or name in ("src", "style")
    }


@given(st.text(max_size=30))
@settings(max_examples=40, deadline=None)
def test_no_text_at_all_adds_an_element_or_a_character_that_cannot_be_seen(label):
    text = render_page(page("a" + label))
    assert Elements(text).tags == Elements(render_page(page("a"))).tags
    assert all(c.isprintable() or c == "\n" for c in text)


def test_the_page_asks_nobody_and_runs_nothing_but_its_own():
    text = render_page(page())
    policy = dict(re.findall(r"([a-z-]+-src|base-uri|form-action) ([^;]*)", _policy(text)))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    for tag, key in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[key] == f"'sha256-{digest}'"
    assert not re.search(r"https?://|@import|url\(", text)


def _policy(text):
    attributes = Elements(text).attributes
    return attributes[attributes.index(("http-equiv", "Content-Security-Policy")) + 1][1]


LINES = [
    LineResult("a", "Summa kr 1 234", "Summa kr 1234", 0.9, "sv", "clean", "d1:p1", 300),
    LineResult("b", "Øre", "Ore", 0.4, "da", "faded", "d2:p1", 900),
    LineResult("c", "Lön", "Lön", 0.8, "sv", "clean", "d2:p1", 40),
    LineResult(
        "d",
        "Summa kortfristiga skulder",
        "Summa kortfristiga sk",
        None,
        "sv",
        "clean",
        "d1:p1",
        320,
    ),
]


def evaluation(**fields):
    scores = [score_line(line) for line in LINES]
    rows = gallery_rows(scores, **fields)
    calibration = calibrate((score.result.confidence, score.exact) for score in scores)
    return evaluation_page(
        report_of(scores),
        rows,
        title="t",
        subtitle="s",
        subset_key="damage",
        calibration=calibration,
    )


def test_the_gallery_holds_the_wrong_lines_worst_first_with_the_pictures_of_the_worst():
    decoded = []
    found = evaluation(
        crop_png=lambda i: decoded.append(i) or b"png",
        manifest=lambda i: {"id": LINES[i].id, "text": "?"},
        crops=2,
    )
    assert [row.id for row in found.gallery] == ["d", "b", "a"]
    assert decoded == [3, 1]
    assert found.gallery[1].facets == {
        "class": ["minor"],
        "subset": ["faded"],
        "language": ["da"],
        "width": ["<=1024"],
        "squash": [],
        "flag": ["diacritic_only"],
    }
    assert found.gallery[1].detail == "1 edit · 900 px · confidence 0.40"
    assert (
        found.gallery_note
        == "3 of 4 lines are not exact, the worst first. Pictures: the worst 2."
    )
    rows = data_of(render_page(found))
    assert [bool(row["png"]) for row in rows] == [True, True, False]
    assert rows[0]["readings"][0]["pieces"] == [["Summa kortfristiga sk"], ["ulder", ""]]
    assert rows[2]["readings"][0]["pieces"] == [["Summa kr 1"], ["␣", ""], ["234"]]
    assert rows[1]["manifest"] == {"id": "b", "corrected_from": "Øre"}


def test_the_page_shows_every_part():
    text = render_page(evaluation())
    for part in (
        "25.0 %",
        "95 %: ",
        "By damage",
        "By language",
        "Error classes by width",
        "Nordic letters",
        "Calibration",
    ):
        assert part in text
    assert '<a href="#class=space_only">space only</a>' in text
    assert '<option value="&lt;=320">&lt;=320 (2)</option>' in text
    assert text.index("&lt;=320 (2)") < text.index("&lt;=1024 (1)")
    assert "1 lines have no confidence" in text


def test_nothing_read_and_everything_right_are_pages_too():
    for lines in ([], [LINES[2]]):
        scores = [score_line(line) for line in lines]
        found = evaluation_page(
            report_of(scores), gallery_rows(scores), title="t", subtitle="s"
        )
        assert data_of(render_page(found)) == []


def test_several_readers_of_one_line():
    row = GalleryRow("a", "Øre", {"SVTRv2": "Ore", "Tesseract": "Øre"})
    readings = data_of(render_page(ReportPage("t", "s", gallery=[row])))[0]["readings"]
    assert [(r["name"], r["pieces"]) for r in readings] == [
        ("SVTRv2", [["Ø", "O"], ["re"]]),
        ("Tesseract", [["Øre"]]),
    ]


def test_a_comparison_marks_what_was_lost():
    rows = gallery_rows([score_line(line) for line in LINES], lost=["b"])
    assert [row.facets["against"] for row in rows] == [
        ["wrong before too"],
        ["lost"],
        ["wrong before too"],
    ]
