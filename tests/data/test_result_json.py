import json
from pathlib import Path

import pytest

from nordocr_cli.data.layouts.layout import Layout
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.data.layouts.result_json import write_result
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.records import Box, Page, Region

TRUTH = Path(__file__).parents[2] / "samples" / "doc" / "dev_doc.json"


def test_a_result_comes_back_as_it_was_written(tmp_path):
    pages = (
        Page(
            0,
            (
                Region(Box(1.5, 2, 30, 10), "Åre 7 811", 0.75, (0.5, 1.0)),
                Region(Box(1, 20, 30, 10), "", 0.0),
            ),
        ),
        Page(2, ()),
    )
    write_result(tmp_path / "a.json", pages)
    assert read_layout(tmp_path / "a.json") == Layout(pages)
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["pages"][0]
    assert written["text"] == "Åre 7 811\n"
    assert written["confidence"] == 0.375
    assert written["lines"][0] == {
        "text": "Åre 7 811",
        "confidence": 0.75,
        "bbox": {"x": 1.5, "y": 2.0, "width": 30.0, "height": 10.0},
        "words": None,
        "char_confidences": [0.5, 1.0],
    }
    assert "char_confidences" not in written["lines"][1]


def test_ground_truth_counts_its_pages_from_one():
    layout = read_layout(TRUTH)
    assert [page.index for page in layout.pages] == [0, 1, 2, 3, 4]
    assert (layout.num_regions, layout.language) == (448, "sv")
    outline = ((228.0, 213.3), (784.0, 218.1), (783.6, 272.1), (227.6, 267.3))
    assert layout.pages[0].regions[0] == Region(
        Box(227, 213, 558, 60), "Förvaltningsberättelse", polygon=outline
    )


def test_text_is_composed(tmp_path):
    (tmp_path / "nfd.json").write_text(
        json.dumps(
            {"pages": [{"page": 1, "regions": [{"bbox": [0, 0, 1, 1], "text": "a\u030a"}]}]}
        )
    )
    assert read_layout(tmp_path / "nfd.json").pages[0].regions[0].text == "å"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable JSON"),
        ("[]", 'expected {"pages"'),
        ('{"pages": [{"lines": []}]}', "page 1: needs page_index"),
        (
            '{"pages": [{"page_index": 0, "lines": []}, {"page_index": 0, "lines": []}]}',
            "two pages have the same index",
        ),
        (
            '{"pages": [{"page_index": 0, "lines": [{"bbox": [1, 2, 3]}]}]}',
            "page 1, line 1: bbox",
        ),
        ('{"pages": [{"page_index": 0, "lines": [{"bbox": [0, 0, 9, 0]}]}]}', "no area"),
        (
            (
                '{"pages": [{"page_index": 0, "lines": [{"bbox": {"x": 0, "y": 0, "width": NaN,'
                ' "height": 1}}]}]}'
            ),
            "no area",
        ),
        (
            '{"pages": [{"page_index": 0, "lines": [{"bbox": [0, 0, 9, 9], "text": 7}]}]}',
            "line 1: expected an object",
        ),
        (
            (
                '{"pages": [{"page_index": 0, "lines": [{"bbox": [0, 0, 9, 9], "confidence":'
                ' "high"}]}]}'
            ),
            "must be numbers",
        ),
    ],
)
def test_what_is_wrong_is_named(content, message, tmp_path):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(DataError, match=r"bad\.json") as caught:
        read_layout(tmp_path / "bad.json")
    assert message in str(caught.value)


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no result or region file"):
        read_layout(tmp_path / "none.json")
