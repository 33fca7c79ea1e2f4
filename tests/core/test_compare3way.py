import json
import re
from pathlib import Path

import pytest

from nordocr_cli.compare.answers import AnswerFile, question
from nordocr_cli.compare.reply import Reply
from nordocr_cli.core.compare3way import run as core
from nordocr_cli.core.compare3way.files import Outputs
from nordocr_cli.core.compare3way.plan import CompareRequest, ReferenceSource, plan
from nordocr_cli.core.compare3way.readings import (
    ReadingSource,
    network_source,
    parse_reading_source,
)
from nordocr_cli.data.documents import crop_box, read_pages
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.data.layouts.result_json import write_result
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.records import Box, Page, Region

DOC = Path(__file__).parents[2] / "samples" / "doc"
TIFF, TRUTH = DOC / "dev_doc.tif", DOC / "dev_doc.json"


def altered(path, change, pages=None):
    """Write the ground truth as a result, each region (numbered from 0) through `change`; None
    drops it.
    """
    number, written = 0, []
    for page in pages or read_layout(TRUTH).pages:
        regions = []
        for region in page.regions:
            regions.append(change(number, region))
            number += 1
        written.append(Page(page.index, tuple(r for r in regions if r is not None)))
    write_result(path, written)
    return path


def compare3way(document, first, second, referee, **options):
    return core.compare3way(
        document,
        ReadingSource(result=first),
        ReadingSource(result=second),
        referee,
        **options,
    )


def record(path, texts, model="reader-7b"):
    """Record the VLM's answer to each line of ground truth, in order; None: it never answered."""
    answers, pages = AnswerFile(path, model), read_pages(TIFF)
    given = iter(texts)
    for page in read_layout(TRUTH).pages:
        image = pages[page.index]
        for region in page.regions:
            if (text := next(given, None)) is not None:
                answers.add(
                    question(crop_box(image, region.box), page.index, region.box),
                    Reply(text),
                )
    return path


@pytest.fixture(scope="module")
def truth_texts():
    return [region.text for page in read_layout(TRUTH).pages for region in page.regions]


@pytest.fixture
def results(tmp_path):
    """SVTRv2 cuts every tenth line short; Tesseract loses the spaces of every fifth and misses the
    first line.
    """
    first = altered(
        tmp_path / "a.json", lambda n, r: Region(r.box, r.text[:-3]) if n % 10 == 0 else r
    )
    second = altered(
        tmp_path / "b.json",
        lambda n, r: (
            None if n == 0 else Region(r.box, r.text.replace(" ", "")) if n % 5 == 0 else r
        ),
    )
    return first, second


def test_against_ground_truth(results, tmp_path):
    comparison = compare3way(
        TIFF, *results, ReferenceSource(truth=TRUTH), outputs=Outputs(tmp_path / "out.json")
    )
    verdict = comparison.verdict
    assert verdict.reference == "accuracy against ground truth (dev_doc.json)"
    assert len(verdict.lines) == 448
    assert verdict.uneven == {"1:0:1": 1}
    a, b = verdict.scores
    assert a.lines - a.exact == 45
    assert b.unseen_lines == 1
    assert b.classes["major"] == 1
    assert (
        a.classes["right_truncation"] > 25
    )  # short numbers lose too much to count as truncated
    assert comparison.written == (tmp_path / "out.json",)
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(comparison.to_json()))
    assert set(written["inputs"]) == {"document", "first", "second", "truth"}


def test_a_reading_where_truth_has_nothing_is_left_out(tmp_path):
    ghost = Region(Box(2200, 3300, 100, 40), "ghost")
    pages = [
        Page(p.index, (*p.regions, ghost) if p.index == 0 else p.regions)
        for p in read_layout(TRUTH).pages
    ]
    result = altered(tmp_path / "a.json", lambda n, r: r, pages)
    verdict = compare3way(TIFF, result, result, ReferenceSource(truth=TRUTH)).verdict
    assert verdict.excluded == {"not in ground truth": 1}
    assert verdict.scores[0].exact == verdict.scores[0].lines == 448


def test_lines_that_no_engine_was_given_are_left_out(tmp_path):
    few = altered(tmp_path / "few.json", lambda n, r: r if n < 50 else None)
    verdict = compare3way(TIFF, few, few, ReferenceSource(truth=TRUTH)).verdict
    assert verdict.scores[0].lines == 50
    assert verdict.excluded == {"given to neither engine": 398}
    assert verdict.uneven == {}


def test_against_recorded_answers(results, tmp_path, heard, truth_texts):
    """The recorded model answers the first page with the truth, says that it cannot, and never
    answered the rest.
    """
    on_page = len(read_layout(TRUTH).pages[0].regions)
    path = record(
        tmp_path / "answers.jsonl",
        [
            None,
            "I'm sorry, I can't read that.",
            "```\n" + truth_texts[2] + "\n```",
            *truth_texts[3:on_page],
        ],
    )
    comparison = compare3way(TIFF, *results, ReferenceSource(answers=path), progress=heard)
    verdict = comparison.verdict
    assert verdict.reference == "agreement with the VLM reader-7b, not accuracy"
    assert verdict.scores[0].lines == on_page - 2
    assert verdict.excluded == {"unanswered": 448 - on_page + 1, "invalid": 1}
    assert "1 invalid" in heard.warnings[0]
    value = comparison.to_json()
    assert value["vlm_answers"] == {
        "status": {"unanswered": 448 - on_page + 1, "invalid": 1, "ok": on_page - 2},
        "rules": {"code fence": 1},
    }
    assert value["vlm"]["prompt"]
    assert value["agreement"]["patterns"]["canonical"]["missing"] == 448 - on_page + 2


def test_truth_and_a_vlm(results, tmp_path, truth_texts):
    """With ground truth the VLM is a third reader, judged as the others are; it cannot read a
    dash.
    """
    path = record(
        tmp_path / "answers.jsonl", [text.replace("–", "-") for text in truth_texts]
    )
    verdict = compare3way(
        TIFF, *results, ReferenceSource(truth=TRUTH, answers=path)
    ).verdict
    wrong = sum("–" in text for text in truth_texts)
    assert wrong
    same = record(tmp_path / "same.jsonl", truth_texts, model="Tesseract")
    assert (
        compare3way(
            TIFF, *results, ReferenceSource(truth=TRUTH, answers=same)
        ).verdict.third
        == "Tesseract (VLM)"
    )
    assert verdict.third_score.exact == 448 - wrong
    assert verdict.scores[0].lines == 448


def test_the_consensus_as_reference(results, tmp_path, truth_texts):
    path = record(tmp_path / "answers.jsonl", truth_texts)
    verdict = compare3way(
        TIFF, *results, ReferenceSource(truth=TRUTH, answers=path, kind="consensus")
    ).verdict
    assert "not accuracy: SVTRv2 and Tesseract took part in it" in verdict.reference
    # Where both engines are wrong no two read the same: every tenth line, but those in which no
    # space was lost.
    counts = verdict.agreement.patterns["canonical"]
    # and the line that Tesseract missed
    assert verdict.excluded == {"no two read the same": counts["ABC"] + 1}
    assert (
        counts["AAA"] + counts["ABA"] + counts["BAA"] + counts["ABC"] + counts["missing"]
        == 448
    )


def test_without_a_reference_the_engines_are_held_against_each_other(results):
    verdict = compare3way(TIFF, *results, ReferenceSource()).verdict
    assert verdict.reference == "agreement of SVTRv2 and Tesseract, without a reference"
    assert verdict.agreement.patterns["canonical"]["missing"] == 1
    assert verdict.scored == ()
    assert verdict.comparison is None


def test_offline_names_what_is_missing(results, tmp_path, truth_texts):
    path = record(tmp_path / "answers.jsonl", truth_texts[:-2])
    with pytest.raises(
        DataError, match=r"lacks the answers for 2 lines: page 5 at x .*; page 5 at x"
    ):
        compare3way(TIFF, *results, ReferenceSource(answers=path, offline=True))
    record(path, truth_texts[-2:], "another")
    with pytest.raises(UsageError, match="choose one with --vlm-model"):
        compare3way(TIFF, *results, ReferenceSource(answers=path, offline=True))


def test_a_replay_is_the_same_whatever_the_order_of_the_answers(
    results, tmp_path, truth_texts
):
    path, outputs = record(tmp_path / "answers.jsonl", truth_texts), []
    for _ in range(2):
        compare3way(
            TIFF,
            *results,
            ReferenceSource(answers=path, offline=True),
            outputs=Outputs(tmp_path / "out.json"),
        )
        outputs.append((tmp_path / "out.json").read_bytes())
        path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    assert outputs[0] == outputs[1]


def test_a_person_decides(results, tmp_path, heard, truth_texts):
    """The VLM misreads one line and cannot read another; both come out in the table, and go in
    again with the truth.
    """
    path = record(
        tmp_path / "answers.jsonl", ["Fel", *truth_texts[1:4], "\ufffd", *truth_texts[5:]]
    )
    table = tmp_path / "open.tsv"
    first = compare3way(
        TIFF, *results, ReferenceSource(answers=path), outputs=Outputs(open_lines=table)
    )
    assert first.written == (table,)
    header, *rows = table.read_text(encoding="utf-8-sig").split("\n")[:-1]
    assert header.split("\t")[5:] == [
        "read by SVTRv2",
        "read by Tesseract",
        "read by reader-7b",
        "reference",
        "text",
    ]
    assert len(rows) == sum(not line.settled for line in first.verdict.lines)
    assert {0, 4} <= {
        number for number, line in enumerate(first.verdict.lines) if not line.settled
    }
    rows[0] += truth_texts[0]
    rows[1] += truth_texts[4]
    assert first.verdict.lines[4].excluded == "unreadable"
    rows.append("9\t1\t1\t5\t5\t\t\t\t\tof no line here")
    table.write_text("\n".join([header, *rows]), encoding="utf-8")
    second = compare3way(
        TIFF, *results, ReferenceSource(answers=path, decided=table), progress=heard
    )
    decided = second.decided
    assert (decided.lines, decided.changed, decided.new, decided.stray) == (2, 1, 1, 1)
    assert decided.open == len(rows) - 3
    assert second.verdict.reference.endswith("; 2 lines decided by hand (1 changed)")
    assert second.verdict.lines[0].reference == truth_texts[0]
    assert second.verdict.lines[0].before == "Fel"
    assert any(
        "1 decisions match no unique line here, the first at page 9" in warning
        for warning in heard.warnings
    )


def test_decisions_alone_are_a_reference(results, tmp_path):
    table = tmp_path / "t.tsv"
    compare3way(TIFF, *results, ReferenceSource(), outputs=Outputs(open_lines=table))
    header, row, *_ = table.read_text(encoding="utf-8-sig").split("\n")
    table.write_text(f"{header}\n{row}Resultat\n", encoding="utf-8")
    verdict = compare3way(TIFF, *results, ReferenceSource(decided=table)).verdict
    assert len(verdict.scored) == 1
    assert (
        verdict.reference
        == "agreement of SVTRv2 and Tesseract, without a reference; 1 lines decided by hand (0"
        " changed)"
    )


def test_the_report(results, tmp_path, truth_texts):
    path = record(tmp_path / "answers.jsonl", truth_texts)
    report = tmp_path / "report.html"
    comparison = compare3way(
        TIFF,
        *results,
        ReferenceSource(answers=path),
        outputs=Outputs(report=report),
        crops=3,
    )
    text = report.read_text(encoding="utf-8")
    assert "agreement with the VLM reader-7b, not accuracy" in text
    rows = json.loads(
        re.search(
            r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL
        )[1]
    )
    assert len(rows) == sum(not line.settled for line in comparison.verdict.lines)
    assert [bool(row["png"]) for row in rows[:5]] == [True] * 3 + [False] * 2
    assert [reading["name"] for reading in rows[-1]["readings"]] == [
        "SVTRv2",
        "Tesseract",
        "reader-7b",
    ]
    assert {"page", "bbox", "corrected_from"} == set(rows[0]["manifest"])


def test_missing_readings_are_made_on_the_spot(results, tmp_path, tiny_onnx, heard):
    first, _ = results
    outputs = Outputs(tmp_path / "out.json")
    comparison = core.compare3way(
        TIFF,
        ReadingSource(result=first),
        ReadingSource(model=str(tiny_onnx)),
        ReferenceSource(),
        outputs=outputs,
        progress=heard,
    )
    made = tmp_path / "out.tess.json"
    assert comparison.written == (made, outputs.result)
    assert comparison.inputs["second"] == {"read_with": str(tiny_onnx)}
    boxes = [[region.box for region in page.regions] for page in read_layout(made).pages]
    assert boxes == [
        [region.box for region in page.regions] for page in read_layout(first).pages
    ]
    again = compare3way(TIFF, first, made, ReferenceSource())
    assert again.verdict.lines == comparison.verdict.lines


def test_what_a_source_may_be(tmp_path):
    assert parse_reading_source("tesseract:swe+nor") == ReadingSource(
        model="tesseract:swe+nor"
    )
    assert parse_reading_source(str(tmp_path)) == ReadingSource(model=str(tmp_path))
    assert parse_reading_source("best.onnx").model == "best.onnx"
    assert parse_reading_source("tess_result.json") == ReadingSource(
        result=Path("tess_result.json")
    )
    assert parse_reading_source("nordocr-default").model == "nordocr-default"
    assert network_source(None).model.startswith("nordocr-default")


def test_what_cannot_be_compared_is_refused(results, tmp_path):
    first, second = results
    for options, message in (
        ({"kind": "vlms"}, "did you mean 'vlm'"),
        ({"kind": "truth"}, "needs --truth"),
        ({"kind": "consensus"}, "needs a third reader"),
        ({"offline": True}, "--offline takes every answer from --vlm-cache"),
    ):
        with pytest.raises(UsageError, match=message):
            ReferenceSource(**options)
    with pytest.raises(
        UsageError, match=r"no recorded answers .*none\.jsonl, and no --vlm-url"
    ):
        compare3way(TIFF, first, second, ReferenceSource(answers=tmp_path / "none.jsonl"))
    (tmp_path / "none.jsonl").touch()
    with pytest.raises(
        DataError, match="not one of 448 lines has a reference \\(448 unanswered\\)"
    ):
        compare3way(TIFF, first, second, ReferenceSource(answers=tmp_path / "none.jsonl"))
    other = altered(
        tmp_path / "other.json", lambda n, r: r, [Page(7, (Region(Box(0, 0, 9, 9)),))]
    )
    with pytest.raises(DataError, match=r"other\.json: page_index 7, but .* has 5 pages"):
        compare3way(TIFF, first, other, ReferenceSource(truth=TRUTH))
    with pytest.raises(UsageError, match="no document"):
        compare3way(tmp_path / "none.tif", first, second, ReferenceSource(truth=TRUTH))
    (tmp_path / "text.tif").write_text("no image")
    with pytest.raises(DataError, match=r"text\.tif"):
        compare3way(tmp_path / "text.tif", *results, ReferenceSource())


def test_the_output_is_none_of_the_inputs(results, tmp_path):
    answers = tmp_path / "answers.jsonl"
    answers.touch()
    sources = [ReadingSource(result=result) for result in results]
    for taken in (TIFF, *results):
        for outputs in (Outputs(taken), Outputs(report=taken), Outputs(open_lines=taken)):
            with pytest.raises(UsageError, match="would overwrite the input"):
                plan(
                    CompareRequest(
                        TIFF, *sources, ReferenceSource(truth=TRUTH), outputs=outputs
                    )
                )
    with pytest.raises(UsageError, match="would overwrite the input"):
        compare3way(
            TIFF, *results, ReferenceSource(answers=answers), outputs=Outputs(answers)
        )
    with pytest.raises(UsageError, match="name the same file"):
        outputs = Outputs(tmp_path / "x", tmp_path / "x")
        plan(CompareRequest(TIFF, *sources, ReferenceSource(truth=TRUTH), outputs=outputs))
    # Where readings made now would be kept.
    made = results[1].rename(tmp_path / "out.svtrv2.json")
    with pytest.raises(UsageError, match=r"out\.svtrv2\.json would overwrite the input"):
        engines = ReadingSource(model="tesseract"), ReadingSource(made)
        reference, outputs = ReferenceSource(truth=TRUTH), Outputs(tmp_path / "out.json")
        plan(CompareRequest(TIFF, *engines, reference, outputs=outputs))


def test_recorded_confidences_of_a_second_softmax_are_said(results, tmp_path, heard):
    low = altered(tmp_path / "low.json", lambda n, r: Region(r.box, r.text, 0.02))
    compare3way(TIFF, low, results[1], ReferenceSource(truth=TRUTH), progress=heard)
    (warning,) = heard.warnings
    assert "low.json: no confidence exceeds 0.0200" in warning


def test_pages_that_a_result_lacks_are_said(tmp_path, heard):
    pages = read_layout(TRUTH).pages
    whole = altered(tmp_path / "a.json", lambda n, r: r)
    two = altered(tmp_path / "b.json", lambda n, r: r, pages[:2])
    lines = sum(len(page.regions) for page in pages[2:])
    written = compare3way(
        TIFF, whole, two, ReferenceSource(truth=TRUTH), progress=heard
    ).to_json()
    assert [(engine["pages"], engine["lines"]) for engine in written["missing"]] == [
        ([], 0),
        ([2, 3, 4], lines),
    ]
    assert heard.warnings == [
        f"{two}: 3 of 5 pages are not in it; {lines} lines there are not read by Tesseract"
    ]
    write_result(tmp_path / "none.json", [])
    comparison = compare3way(
        TIFF, tmp_path / "none.json", whole, ReferenceSource(truth=TRUTH)
    )
    assert comparison.missing[0].lines == len(comparison.verdict.lines)
