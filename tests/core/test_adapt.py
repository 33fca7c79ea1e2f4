"""adapt: labels from agreement, lines for a person, and scans that cannot do."""

import pytest

from nordocr_cli.core.adapt.agreement import LineReadings, choose_labels, class_shares
from nordocr_cli.core.adapt.plan import AdaptRequest, plan_adapt
from nordocr_cli.core.adapt.questions import read_answers, write_questions
from nordocr_cli.core.adapt.run import estimated_cer
from nordocr_cli.errors import DataError, MissingBackendError, UsageError


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
    assert [(label.text, label.votes) for label in choice.labels] == [
        ("Summa 1 234", ("nordocr", "ppocr")),
        ("Lager", ("ppocr", "tesseract")),
    ]
    assert [one.id for one in choice.open_lines] == ["line-1", "line-3"]


def test_a_class_that_engines_do_not_agree_on_keeps_its_share():
    plain = [line(n, f"rad {n}x", f"rad {n}x", "annat") for n in range(80)]
    nordic = [
        line(100 + n, "åäö rad", "aao rad", "åäö rad" if n < 8 else "?") for n in range(20)
    ]
    choice = choose_labels(plain + nordic, "nordocr")
    expected, found = choice.shares["å ä ö"]
    before = class_shares([one.texts["nordocr"] for one in plain + nordic[:8]])["å ä ö"]
    assert before < 0.8 * expected  # without balancing
    assert found > before
    assert choice.dropped > 0
    assert len(choice.labels) >= 44  # no more than half is given up
    assert choose_labels(plain + nordic, "nordocr") == choice


def test_a_class_that_is_lost_is_named():
    lines = [line(n, "år", "ar", "ar") for n in range(40)]
    assert choose_labels(lines, "nordocr").drifting == ("å ä ö",)


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
    lines = [line(0, "abcdefghij", "abcdefghij", "abcdefghiX")]
    assert estimated_cer(lines) == pytest.approx(1 / 40)
    assert estimated_cer([]) is None


def test_what_is_not_there_is_named(tmp_path, monkeypatch, tiny_checkpoint):
    with pytest.raises(UsageError, match="no scan or folder"):
        plan_adapt(AdaptRequest((tmp_path / "none",), tmp_path / "run"))
    monkeypatch.setattr("nordocr_cli.core.adapt.engines.find_spec", lambda name: None)
    monkeypatch.setattr("nordocr_cli.core.adapt.engines._has_tesseract", lambda: False)
    with pytest.raises(MissingBackendError, match="a second engine is not installed"):
        plan_adapt(AdaptRequest((tmp_path,), tmp_path / "run", str(tiny_checkpoint)))
