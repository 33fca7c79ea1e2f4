import json
from pathlib import Path

import pytest

from nordocr_cli.compare.vlm import AnswerFile, Question
from nordocr_cli.core.compare3way import Referee, compare3way, plan_compare3way
from nordocr_cli.data.documents import crop_box, read_pages
from nordocr_cli.data.layouts import read_layout
from nordocr_cli.data.result_json import write_result
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.records import Box, Page, Region

DOC = Path(__file__).parents[2] / "samples" / "doc"
TIFF, TRUTH = DOC / "dev_doc.tif", DOC / "dev_doc.json"


def altered(path, change, pages=None):
    """Write the ground truth as a result, each region (numbered from 0) through `change`; None drops it."""
    number, written = 0, []
    for page in pages or read_layout(TRUTH).pages:
        regions = []
        for region in page.regions:
            regions.append(change(number, region))
            number += 1
        written.append(Page(page.index, tuple(r for r in regions if r is not None)))
    write_result(path, written)
    return path


@pytest.fixture
def results(tmp_path):
    """SVTRv2 cuts every tenth line short; Tesseract loses the spaces of every fifth and misses the first line."""
    first = altered(tmp_path / "a.json", lambda n, r: Region(r.box, r.text[:-3]) if n % 10 == 0 else r)
    second = altered(
        tmp_path / "b.json", lambda n, r: None if n == 0 else Region(r.box, r.text.replace(" ", "")) if n % 5 == 0 else r
    )
    return first, second


def test_against_ground_truth(results, tmp_path):
    comparison = compare3way(TIFF, *results, Referee(truth=TRUTH), output=tmp_path / "out.json")
    verdict = comparison.verdict
    assert verdict.reference == "accuracy against ground truth (dev_doc.json)"
    assert len(verdict.lines) == 448
    assert verdict.uneven == {"1:0:1": 1}
    a, b = verdict.scores
    assert a.lines - a.exact == 45
    assert b.unseen == 1
    assert b.errors["major"] == 1
    assert a.errors["right_truncation"] > 25  # short numbers lose too much to count as truncated
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(comparison.to_json()))
    assert set(written["inputs"]) == {"document", "first", "second", "truth"}


def test_a_reading_where_truth_has_nothing_is_left_out(tmp_path):
    ghost = Region(Box(2200, 3300, 100, 40), "ghost")
    pages = [Page(p.index, (*p.regions, ghost) if p.index == 0 else p.regions) for p in read_layout(TRUTH).pages]
    result = altered(tmp_path / "a.json", lambda n, r: r, pages)
    verdict = compare3way(TIFF, result, result, Referee(truth=TRUTH)).verdict
    assert verdict.excluded == {"not in ground truth": 1}
    assert verdict.scores[0].exact == verdict.scores[0].lines == 448


def test_lines_that_no_engine_was_given_are_left_out(tmp_path):
    few = altered(tmp_path / "few.json", lambda n, r: r if n < 50 else None)
    verdict = compare3way(TIFF, few, few, Referee(truth=TRUTH)).verdict
    assert verdict.scores[0].lines == 50
    assert verdict.excluded == {"given to neither engine": 398}
    assert verdict.uneven == {}


def test_against_recorded_answers(results, tmp_path, heard):
    """The recorded model answers the first page with the truth, and never answered the rest."""
    page, path = read_layout(TRUTH).pages[0], tmp_path / "answers.jsonl"
    answers, image = AnswerFile(path, "reader-7b"), read_pages(TIFF)[0]
    for region in page.regions[1:]:
        answers.add(Question(crop_box(image, region.box), 0, region.box), region.text)
    comparison = compare3way(TIFF, *results, Referee(answers=path), progress=heard)
    assert comparison.verdict.reference == "agreement with the VLM reader-7b, not accuracy"
    assert comparison.verdict.scores[0].lines == len(page.regions) - 1
    assert comparison.verdict.excluded == {"unanswered": 448 - len(page.regions) + 1}
    assert "355 unanswered" in heard.warnings[0]
    assert comparison.prompt
    assert set(comparison.inputs) == {"document", "first", "second", "answers"}


def test_what_cannot_be_compared_is_refused(results, tmp_path):
    first, second = results
    with pytest.raises(UsageError, match="name one reference"):
        Referee()
    with pytest.raises(UsageError, match="name one reference"):
        Referee(truth=TRUTH, answers=tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match=r"no recorded answers .*none\.jsonl, and no --vlm-url"):
        compare3way(TIFF, first, second, Referee(answers=tmp_path / "none.jsonl"))
    (tmp_path / "none.jsonl").touch()
    with pytest.raises(DataError, match="not one of 448 lines has a reference \\(448 unanswered\\)"):
        compare3way(TIFF, first, second, Referee(answers=tmp_path / "none.jsonl"))
    other = altered(tmp_path / "other.json", lambda n, r: r, [Page(7, (Region(Box(0, 0, 9, 9)),))])
    with pytest.raises(DataError, match=r"other\.json: page_index 7, but .* has 5 pages"):
        compare3way(TIFF, first, other, Referee(truth=TRUTH))
    with pytest.raises(UsageError, match="no document"):
        compare3way(tmp_path / "none.tif", first, second, Referee(truth=TRUTH))


def test_the_output_is_none_of_the_inputs(results, tmp_path):
    answers = tmp_path / "answers.jsonl"
    answers.touch()
    for output in (TIFF, *results):
        with pytest.raises(UsageError, match="would overwrite the input"):
            plan_compare3way(TIFF, *results, Referee(truth=TRUTH), output)
    with pytest.raises(UsageError, match="would overwrite the input"):
        compare3way(TIFF, *results, Referee(answers=answers), output=answers)


def test_pages_that_a_result_lacks_are_said(tmp_path, heard):
    pages = read_layout(TRUTH).pages
    whole = altered(tmp_path / "a.json", lambda n, r: r)
    two = altered(tmp_path / "b.json", lambda n, r: r, pages[:2])
    lines = sum(len(page.regions) for page in pages[2:])
    written = compare3way(TIFF, whole, two, Referee(truth=TRUTH), progress=heard).to_json()
    assert [(engine["pages"], engine["lines"]) for engine in written["missing"]] == [((), 0), ((2, 3, 4), lines)]
    assert heard.warnings == [f"{two}: 3 of 5 pages are not in it; {lines} lines there are not read by Tesseract"]
    write_result(tmp_path / "none.json", [])
    comparison = compare3way(TIFF, tmp_path / "none.json", whole, Referee(truth=TRUTH))
    assert comparison.missing[0].lines == len(comparison.verdict.lines)
