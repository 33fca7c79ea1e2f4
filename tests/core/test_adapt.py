"""adapt: labels from agreement, lines for a person, and scans that cannot do."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from nordocr_cli.compare.endpoint import endpoint
from nordocr_cli.core.adapt import run
from nordocr_cli.core.adapt.agreement import LineReadings, choose_labels, class_shares
from nordocr_cli.core.adapt.engines import VlmRecognizer
from nordocr_cli.core.adapt.lines import FoundLine, read_found_lines
from nordocr_cli.core.adapt.plan import AdaptPlan, AdaptRequest, plan_adapt
from nordocr_cli.core.adapt.questions import read_answers, write_questions
from nordocr_cli.core.adapt.run import estimated_cer
from nordocr_cli.core.adapt.voting import vote
from nordocr_cli.core.finetune.result import FinetuneResult
from nordocr_cli.errors import ArtifactError, DataError, MissingBackendError, UsageError


def line(number, own, ppocr, tesseract, confidence=0.9):
    texts = {"nordocr": own, "ppocr": ppocr, "tesseract": tesseract}
    return LineReadings(
        f"line-{number}", f"{number}.png", f"doc{number % 2}", texts, confidence
    )


def test_two_engines_make_a_label_with_our_spaces():
    lines = [
        line(0, "Summa  1 234", "Summa1234", "Summa 1 284"),
        line(1, "Anm", "Ann", "Am"),
        line(2, "lager", "Lager", "Lager"),
        line(3, "", "", ""),
    ]
    choice = choose_labels(lines, "nordocr")
    assert [(label.text, label.complete) for label in choice.labels] == [
        ("Summa 1 234", True),
        ("Lager", True),
    ]
    assert [one.id for one in choice.open_lines] == ["line-1", "line-3"]


@pytest.mark.parametrize(
    ("own", "ppocr", "tesseract", "text"),
    [
        ("Orna av den 3 maj", "Om av den 3 maj", "Orna av den 8 maj", "Orna av den 3 maj"),
        ("der 4. Kontror", "den 4.Kontor", "den 4. Kontonr", "den 4. Kontor"),
        ("den 4. Kontor", "den 4.Kontor", "xxxxxxxxxxxxxxx", "den 4. Kontor"),
        ("Tal 13", "Tal 18", "Tal 15", None),  # nobody confirms a last digit
        ("ab cde fgh", "abXcde fgh", "abXcde fgh", "abXcde fgh"),
        ("abcd efgh", "abcdX efgh", "abcdY efgh", None),  # both say that one is missing
        ("1", "1", "1", None),  # short readings agree by chance
    ],
)
def test_each_character_of_a_label_is_confirmed_by_another_engine(
    own, ppocr, tesseract, text
):
    texts = {"nordocr": own, "ppocr": ppocr, "tesseract": tesseract}
    assert vote(texts, "nordocr").text == text


def test_spaces_are_voted_on_by_all_engines():
    texts = {"nordocr": "enrad här", "ppocr": "en rad här", "tesseract": "en rad här"}
    assert vote(texts, "nordocr").text == "en rad här"
    texts = {"nordocr": "en rad här", "ppocr": "enradhär", "tesseract": ""}
    assert vote(texts, "nordocr").text == "en rad här"


def test_two_engines_alone_must_read_the_same():
    assert vote({"nordocr": "en rad", "ppocr": "enrad"}, "nordocr").text == "en rad"
    assert vote({"nordocr": "en rad", "ppocr": "enrod"}, "nordocr").text is None


def test_a_class_that_engines_agree_on_less_keeps_its_share():
    plain = [line(n, f"rad {n}x", f"rad {n}x", "annat") for n in range(80)]
    # Each å ä ö is confirmed, but of few lines everything is.
    nordic = [
        line(100 + n, "åäö rad", "åäö rod", "åäö rad" if n < 8 else "åäö rid")
        for n in range(20)
    ]
    choice = choose_labels(plain + nordic, "nordocr")
    expected, found = choice.shares["å ä ö"]
    before = class_shares([one.texts["nordocr"] for one in plain + nordic[:8]])["å ä ö"]
    assert before < 0.8 * expected  # without balancing
    assert found > before
    assert choice.dropped > 0
    assert len(choice.labels) >= 44  # no more than half is given up
    assert choose_labels(plain + nordic, "nordocr") == choice


def test_a_class_that_engines_agree_on_more_keeps_its_share():
    words = [
        line(
            n,
            f"ordx {chr(97 + n % 26)}",
            "ordy",
            "ordz" if n % 2 else "ordx " + chr(97 + n % 26),
        )
        for n in range(60)
    ]
    numbers = [line(100 + n, f"{1000 + n}", f"{1000 + n}", "") for n in range(20)]
    choice = choose_labels(words + numbers, "nordocr")
    expected, found = choice.shares["digits"]
    unbalanced = [one.texts["nordocr"] for one in words[::2] + numbers]
    assert class_shares(unbalanced)["digits"] > 1.25 * expected
    assert found < class_shares(unbalanced)["digits"]
    assert choice.dropped > 0


def test_a_class_that_no_other_engine_reads_is_named_and_costs_no_label():
    lines = [line(n, f"år {n}", f"ar {n}", f"ar {n}") for n in range(10, 50)]
    choice = choose_labels(lines, "nordocr")
    assert choice.unconfirmed == ("å ä ö",)
    assert choice.dropped == 0


def test_the_lines_for_a_person_come_back(tmp_path):
    lines = [line(n, f"={n}", "b\tc", "d", confidence=n / 10) for n in range(5)]
    path = tmp_path / "ask.tsv"
    assert write_questions(path, lines, 3) == 3
    rows = path.read_text(encoding="utf-8-sig").splitlines()
    assert rows[0].split("\t") == ["id", "image", "nordocr", "ppocr", "tesseract", "text"]
    assert [row.split("\t")[0] for row in rows[1:]] == ["line-0", "line-1", "line-2"]
    assert rows[1].split("\t")[2] == "'=0"  # a spreadsheet must not compute it
    rows[2] += "Åre  1"
    path.write_text("\n".join(rows), encoding="utf-8")
    assert read_answers(path) == {"line-1": "Åre  1"}
    path.write_text("id;text\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"ask\.tsv:1: the columns id and text"):
        read_answers(path)
    with pytest.raises(UsageError, match="no such file"):
        read_answers(tmp_path / "none.tsv")


def test_disagreement_estimates_the_error_rate():
    # Our recognizer has one error of ten, PP-OCR none, Tesseract two elsewhere.
    lines = [line(0, "abcdefghiX", "abcdefghij", "XXcdefghij")]
    assert estimated_cer(lines) == pytest.approx(0.1)
    two = [LineReadings("a", "a.png", "doc", {"nordocr": "abcdX", "ppocr": "abcde"}, 1.0)]
    assert estimated_cer(two) == pytest.approx(0.1)
    assert estimated_cer([]) is None


def test_what_is_not_there_is_named(tmp_path, monkeypatch, tiny_checkpoint):
    with pytest.raises(UsageError, match="no scan or folder"):
        plan_adapt(AdaptRequest((tmp_path / "none",), tmp_path / "run"))
    unknown = AdaptRequest(
        (tmp_path,), tmp_path / "run", str(tiny_checkpoint), engines=("foo",)
    )
    with pytest.raises(UsageError, match="foo: the engines besides our own are ppocr"):
        plan_adapt(unknown)
    monkeypatch.setattr("nordocr_cli.core.adapt.engines.find_spec", lambda name: None)
    monkeypatch.setattr("nordocr_cli.core.adapt.engines._has_tesseract", lambda: False)
    with pytest.raises(MissingBackendError, match="a second engine is not installed"):
        plan_adapt(AdaptRequest((tmp_path,), tmp_path / "run", str(tiny_checkpoint)))


def test_a_later_round_that_is_worse_leaves_the_recognizer_of_the_round_before(
    tmp_path, monkeypatch, heard
):
    def finished(problem):
        files = () if problem else (tmp_path / "model.safetensors",)
        return FinetuneResult(tmp_path, (), 1, 0.1, None, files, problem)

    lines = [line(n, f"rad {n}", f"rad {n}", "") for n in range(10, 40)]
    results = iter([finished(""), finished("reads held-out worse")])
    monkeypatch.setattr(run, "_find_lines", lambda *given: lines)
    monkeypatch.setattr(run, "_read_all", lambda *given: lines)
    monkeypatch.setattr(run, "_finetune", lambda *given: next(results))
    request = AdaptRequest((), tmp_path / "run", rounds=2)
    plan = AdaptPlan(request, tmp_path / "start", ("nordocr", "ppocr", "tesseract"))
    result = run.run_adapt(plan, progress=heard)
    assert result.finetuned.accepted
    assert (
        "round 2 is left out, and the recognizer of round 1 is kept" in heard.warnings[-1]
    )


class Vlm(BaseHTTPRequestHandler):
    """A server that reads every line as the same text, and counts the requests."""

    requests = 0

    def do_POST(self):
        type(self).requests += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        choice = {"message": {"content": "Summa 12,50"}, "finish_reason": "stop"}
        answer = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


def test_a_vision_language_model_is_one_more_engine(tmp_path, monkeypatch, tiny_checkpoint):
    monkeypatch.setattr("nordocr_cli.core.adapt.engines.find_spec", lambda name: None)
    monkeypatch.setattr("nordocr_cli.core.adapt.engines._has_tesseract", lambda: False)
    crops = [np.full((32, 80 + 8 * n, 3), 255, np.uint8) for n in range(3)]

    with ThreadingHTTPServer(("127.0.0.1", 0), Vlm) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        vlm = endpoint(f"http://127.0.0.1:{server.server_port}/v1", "reader")
        request = AdaptRequest((tmp_path,), tmp_path / "run", str(tiny_checkpoint), vlm=vlm)
        plan = plan_adapt(request)
        read = [
            VlmRecognizer(vlm, tmp_path / "answers.jsonl").recognize(crops)
            for _ in range(2)
        ]
        server.shutdown()

    assert plan.engines == ("nordocr", "vlm")
    assert plan.to_json()["lines_are_sent_to"] == vlm.url
    assert [line.text for line in read[0]] == ["Summa 12,50"] * 3
    assert read[1] == read[0]
    assert Vlm.requests == 3  # the second time from the recorded answers


def claim(folder, scans=("a.png",)):
    run._claim_folder(AdaptPlan(AdaptRequest(scans, folder), folder / "w", ("nordocr",)))


def test_a_run_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("x")
    for name in ("loop", "file", "file/run"):
        with pytest.raises(DataError, match="cannot make the folder"):
            claim(tmp_path / name)


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", '{"scans": ', "null"])
def test_a_damaged_request_is_refused(tmp_path, content):
    (tmp_path / "request.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"request\.json"):
        claim(tmp_path)


@pytest.mark.parametrize(
    "row", ["[" * 100_000, "[]", "{}", '{"id": "line-0"}', '{"id": []']
)
def test_damaged_lists_of_lines_and_readings_are_refused(tmp_path, row):
    (tmp_path / "lines.jsonl").write_text(row + "\n")
    with pytest.raises(DataError, match=r"lines\.jsonl"):
        read_found_lines(tmp_path)
    (tmp_path / "ppocr.jsonl").write_text(row + "\n")
    with pytest.raises(DataError, match=r"ppocr\.jsonl"):
        run._read_file(tmp_path / "ppocr.jsonl", [])


def test_a_reading_that_is_missing_is_named(tmp_path):
    row = {"id": "line-0", "text": "å", "confidence": None}
    (tmp_path / "ppocr.jsonl").write_text(json.dumps(row) + "\n")
    lines = [FoundLine(f"line-{n}", "", "") for n in range(2)]
    assert run._read_file(tmp_path / "ppocr.jsonl", lines[:1]) == {"line-0": ("å", 0.0)}
    with pytest.raises(DataError, match=r"no line 'line-1'.*delete it and run"):
        run._read_file(tmp_path / "ppocr.jsonl", lines)


@pytest.mark.parametrize("content", ['id\ttext\na\t"b\n', "x" * 200_000])
def test_damaged_answers_are_refused(tmp_path, content):
    (tmp_path / "ask.tsv").write_text(content)
    with pytest.raises(DataError, match=r"ask\.tsv:\d"):
        read_answers(tmp_path / "ask.tsv")


def test_questions_show_control_characters_and_compute_nothing(tmp_path):
    write_questions(tmp_path / "ask.tsv", [line(0, "=1+1", "\x1b[2J", "a\u202eb\x9b")], 1)
    cells = (tmp_path / "ask.tsv").read_text("utf-8-sig").splitlines()[1].split("\t")
    assert cells[2:5] == ["'=1+1", "<U+001B>[2J", "a<U+202E>b<U+009B>"]


def test_a_text_that_begins_with_a_quotation_mark_is_refused_with_its_row_and_the_way_to_write_it(
    tmp_path,
):
    path = tmp_path / "ask.tsv"
    path.write_text('id\ttext\nline-1\tRad\nline-2\t"Hej" sa han\n', encoding="utf-8")
    with pytest.raises(DataError, match=r'ask\.tsv:3: .*write a text .* """Hej"" sa han"'):
        read_answers(path)
    path.write_text('id\ttext\nline-2\t"""Hej"" sa han"\n', encoding="utf-8")
    assert read_answers(path) == {"line-2": '"Hej" sa han'}
